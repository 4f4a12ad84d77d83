"""What options of several commands share: types of paths and lists, and the precision of CPUs."""

import click

from sarigan_plugin.acceleration import cpu_formats
from sarigan_plugin.support.paths import expanded

#----------------------------------------------------------------------------

class PathName(click.ParamType):
    """Of every option and argument that may be a path, also where it may be a URL, a word or FILE.py:FUNCTION."""
    name = 'path'

    def convert(self, value, param, ctx):
        try:
            return expanded(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

PATH = PathName()

class CommaSeparatedList(click.ParamType):
    """'a,b' -> ['a', 'b']; 'none' or '' -> []."""
    name = 'list'

    def convert(self, value, param, ctx):
        if isinstance(value, list):
            return value
        return [] if value.lower() in ['none', ''] else value.split(',')

class CPUPrecision(click.Choice):
    """'auto', '1' or '0', as other flags that take a value also true or false."""
    def __init__(self):
        super().__init__(cpu_formats.CHOICES)

    def convert(self, value, param, ctx):
        words = {'true': '1', 'yes': '1', 'on': '1', 'false': '0', 'no': '0', 'off': '0'}
        return super().convert(words.get(str(value).lower(), value), param, ctx)

def _compute_in(ctx, _param, choice):
    ctx.with_resource(cpu_formats.using(choice))

cpu_bf16_option = click.option('--cpu-bf16', type=CPUPrecision(), default='auto', show_default=True,
    help='On a CPU, compute high resolutions in bf16; auto does where that is faster', expose_value=False,
    callback=_compute_in) # Until the command ends.

#----------------------------------------------------------------------------
