"""What options of several commands share: types of values, and options that are the same everywhere."""

import functools
import re

import click
import torch

from sarigan_plugin.acceleration import cpu_formats
from sarigan_plugin.commands.sections import SectionedCommand
from sarigan_plugin.errors import UserError
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering.sampling import MAX_NUMBER, MAX_SEED, check_class, label_vector
from sarigan_plugin.support import streams
from sarigan_plugin.support.paths import expanded
from sarigan_plugin.upstream import host

MAX_NUMBERS = 10 ** 6       # Of one option: a slip of the finger must not fill the memory.
MAX_LABEL   = 2 ** 20       # Bytes of a file that holds one.

#----------------------------------------------------------------------------
# Types of values.

class PathName(click.ParamType):
    """Of every option and argument that may be a path, also where it may be a URL, a word or FILE.py:FUNCTION."""
    name = 'path'

    def convert(self, value, param, ctx):
        try:
            return expanded(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

PATH = PathName()

class Number(click.ParamType):
    """A finite number of a size that networks bear. click's own floats include nan."""
    name = 'number'

    def convert(self, value, param, ctx):
        try:
            number = float(value)
        except ValueError:
            number = float('nan')
        if not abs(number) <= MAX_NUMBER:
            self.fail(f'{value!r} is not a number from {-MAX_NUMBER:.0f} to {MAX_NUMBER:.0f}', param, ctx)
        return number

class NumberRange(click.ParamType):
    """'1,5,7' or '0-3' or both, '0-3,9' -> a list of seeds."""
    name = 'numbers'

    def convert(self, value, param, ctx):
        if isinstance(value, list):
            return value
        numbers = []
        for part in value.split(','):
            match = re.fullmatch(r'(\d{1,10})(?:-(\d{1,10}))?', part.strip())
            if match is None:
                self.fail(f'{value!r} is neither numbers, as in 1,5,7, nor a range, as in 0-3', param, ctx)
            first, last = int(match[1]), int(match[2] or match[1])
            if not first <= last <= MAX_SEED:
                self.fail(f'{part!r} is no range of numbers from 0 to {MAX_SEED}', param, ctx)
            if len(numbers) + last - first >= MAX_NUMBERS:
                self.fail(f'{value!r} is more than {MAX_NUMBERS} numbers', param, ctx)
            numbers += range(first, last + 1)
        return numbers

class CommaSeparatedList(click.ParamType):
    """'a,b' -> ['a', 'b']; 'none' or '' -> []."""
    name = 'list'

    def convert(self, value, param, ctx):
        if isinstance(value, list):
            return value
        return [] if value.lower() in ['none', ''] else value.split(',')

class NameList(click.ParamType):
    """'a,b' -> ['a', 'b'], each once."""
    name = 'names'

    def convert(self, value, param, ctx):
        return value if isinstance(value, list) else list(dict.fromkeys(part.strip() for part in value.split(',')))

class Choices(click.ParamType):
    """'a,b' -> a list of them, each a known one and there once; 'none' -> [] where that will do."""
    name = 'names'

    def __init__(self, known, what, or_none=False):
        """what: what each is, as 'a measure'."""
        self.known = known
        self.what = what
        self.or_none = or_none

    def convert(self, value, param, ctx):
        if isinstance(value, list):
            return value
        wanted = [] if self.or_none and value == 'none' else list(dict.fromkeys(value.split(',')))
        for name in wanted:
            if name not in self.known:
                others = ', or none' if self.or_none else ''
                self.fail(f'{name!r} is not {self.what}; they are {", ".join(self.known)}{others}', param, ctx)
        return wanted

class Label(click.ParamType):
    """'1' -> 1, a class; '0.2,0.8' -> (0.2, 0.8), a label vector."""
    name = 'label'

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        if re.fullmatch(r'[+-]?\d{1,10}', value.strip()):
            return int(value)
        try:
            return label_vector(value)
        except ValueError:
            self.fail(f'{value!r:.60} is neither a class, as in 1, nor a label vector, as in 0.2,0.8', param, ctx)

class LabelFile(PathName):
    """A file of numbers, as JSON or plain text -> the label vector in it."""
    name = 'file'

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        try:
            with open(super().convert(value, param, ctx), encoding='utf-8') as f:
                return label_vector(f.read(MAX_LABEL))
        except OSError as error:
            self.fail(f'{value!r} cannot be read ({error.strerror})', param, ctx)
        except UnicodeDecodeError:
            self.fail(f'{value!r} is no text: it must hold a list of numbers, as in 0.2,0.8', param, ctx)
        except ValueError as error:
            self.fail(f'{value!r}: {error}', param, ctx)

class CPUPrecision(click.Choice):
    """'auto', '1' or '0', as other flags that take a value also true or false."""
    def __init__(self):
        super().__init__(cpu_formats.CHOICES)

    def convert(self, value, param, ctx):
        words = {'true': '1', 'yes': '1', 'on': '1', 'false': '0', 'no': '0', 'off': '0'}
        return super().convert(words.get(str(value).lower(), value), param, ctx)

#----------------------------------------------------------------------------
# Options.

skip_option = click.option('--skip-bad-images', help='Leave out images of --data that can\'t be read, or of another '
    'size or colours than the rest', is_flag=True)
trust_option = click.option('--trust-pickle', 'trust',
    help='Run the code inside the pickle, as other StyleGAN tools do; only for pickles you trust', is_flag=True)

linked_option = click.option('--groups', 'linked', help='File of linked groups, see `sarigan regroup`; none = without '
    ' [default: the one beside the network]', type=PATH, metavar='FILE')

def _compute_in(ctx, _param, choice):
    ctx.with_resource(cpu_formats.using(choice)) # Until the command ends.

cpu_bf16_option = click.option('--cpu-bf16',
    help='Compute high resolutions in bf16 on a CPU; auto: where that is faster',
    type=CPUPrecision(), default='auto', show_default=True, expose_value=False, callback=_compute_in)

def _resolve_device(_ctx, _param, value):
    try:
        return torch.device(host.resolve_device(value))
    except ValueError as error:
        raise UserError(f'--device: {error}.') from None

_device_alone = click.option('--device', help='Where to generate', type=click.Choice(host.DEVICES), default='auto',
    show_default=True, callback=_resolve_device)

def device_option(command):
    """--device, and what a CPU computes in."""
    return _device_alone(cpu_bf16_option(command))

def class_options(default=None, shown=None):
    """--class and --label, for a command that takes a class_idx: a class or a label vector.

    default: the class_idx where neither is given. shown: what the help says that it is.
    """
    text = 'Class of a conditional network, or label vector as in 0.2,0.8'
    shown = default if shown is None else shown
    text += f'  [default: {shown}]' if shown is not None else ''
    def decorate(command):
        @click.option('--class', 'class_idx', help=text, type=Label(), metavar='INDEX|NUMBERS')
        @click.option('--label', help='File with a label vector, in place of --class', type=LabelFile(), metavar='FILE')
        @functools.wraps(command)
        def with_class(*args, class_idx, label, **kwargs):
            if class_idx is not None and label is not None:
                raise UserError('--label takes the place of --class; give one of the two.')
            given = label if class_idx is None else class_idx
            return command(*args, class_idx=default if given is None else given, **kwargs)
        return with_class
    return decorate

def class_flag():
    """By which of the two the class or label of the running command was given."""
    context = click.get_current_context(silent=True)
    return '--label' if context is not None and context.params.get('label') is not None else '--class'

def require_class(G, class_idx):
    """As check_class(), of what class_options() gave: raises UserError, also for networks that only complete images."""
    reading.refuse_inpainting(G)
    try:
        check_class(G, class_idx)
    except ValueError as error:
        raise UserError(f'{class_flag()}: {error}') from None

#----------------------------------------------------------------------------
# Commands.

class LastingCommand(SectionedCommand):
    """A command whose work is worth finishing with nobody looking on."""
    def invoke(self, ctx):
        with streams.unbreakable():
            return super().invoke(ctx)

#----------------------------------------------------------------------------
