"""The flags of `sarigan train`, made from trainer.options, and its help of two lengths."""

import dataclasses
from typing import Literal, Union, get_args, get_origin

import click

from sarigan_plugin.commands.options import PATH, CommaSeparatedList, CPUPrecision, LastingCommand
from sarigan_plugin.errors import UserError
from sarigan_plugin.model.networks import RETIRED
from sarigan_plugin.support import toml
from sarigan_plugin.trainer import options as knobs

_ALL = f'{__name__}.all' # In the context of a command that shows all of its help.

#----------------------------------------------------------------------------
# Types.

class ChoiceOfSome(click.Choice):
    """Of all choices of an option, those that have little use outside of research are for configs alone."""
    def __init__(self, name, choices, of_configs):
        super().__init__(choices)
        self.option = name
        self.of_configs = of_configs

    def convert(self, value, param, ctx):
        if value in self.of_configs:
            self.fail(f'{value!r} is for configs: {_in_a_config(self.option, value)}', param, ctx)
        return super().convert(value, param, ctx)

def _in_a_config(name, value='...'):
    value = f'"{value}"' if value != '...' else value
    return (f'give --cfg=FILE.toml, a file with base = "sarigan" in its first line and {name} = {value} '
        'in the table [method] below')

#----------------------------------------------------------------------------
# The command.

class Knob(click.Option):
    """An option of a section of the help."""
    def __init__(self, *args, section=knobs.MORE, **kwargs):
        super().__init__(*args, **kwargs)
        self.section = section

class TrainCommand(LastingCommand):
    """Has a help of two lengths, and a sentence for flags that have become keys of configs."""

    def section_of(self, param):
        known = super().section_of(param)
        if '--help' in param.opts or known in self.sections:
            return known
        return getattr(param, 'section', knobs.MORE)

    def in_sections(self, ctx):
        params = [param for param in self.get_params(ctx) if param.param_type_name == 'option']
        order = [knobs.UPSTREAM, *self.sections, knobs.SARIGAN, knobs.INPAINTING, knobs.MORE]
        return {title: [param for param in params if self.section_of(param) == title] for title in order}

    def parse_args(self, ctx, args):
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = error.option_name.lstrip('-').replace('-', '_')
            if name in RETIRED:
                raise UserError(f'{error.option_name} is no longer an option: it made nothing better.') from None
            if name in knobs.FIELDS:
                raise UserError(f'{error.option_name} is for configs: {_in_a_config(name)}.') from None
            raise

    def format_options(self, ctx, formatter):
        for title, params in self.in_sections(ctx).items():
            if title != knobs.MORE or _ALL in ctx.meta:
                with formatter.section(title):
                    formatter.write_dl([param.get_help_record(ctx) for param in params])
        if _ALL in ctx.meta:
            with formatter.section('Keys of the table [method] of a config, without a flag'):
                formatter.write_dl(list(_keys_without_a_flag()))

def show_all(ctx, _param, value):
    """The callback of --help-all."""
    if value and not ctx.resilient_parsing:
        ctx.meta[_ALL] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()

def _keys_without_a_flag():
    """(name, help) of each, and those choices of an option that its flag doesn't take."""
    for field in dataclasses.fields(knobs.Method):
        choices, typed = get_args(field.type), field.metadata['typed_choices']
        if field.metadata['section'] is None:
            yield field.name, field.metadata['help']
        elif typed is not None:
            yield field.name, 'Also ' + ', '.join(choice for choice in choices if choice not in typed)

#----------------------------------------------------------------------------
# From fields to flags.

def _click_type(field):
    """(click's type, what stands for a value in the help)."""
    kind = field.type
    if get_origin(kind) is Union:
        kind, _none = get_args(kind)
    known = {toml.Path: (PATH, None), knobs.NumGroups: (click.STRING, None), knobs.CPUBF16: (CPUPrecision(), None),
        knobs.Metrics: (CommaSeparatedList(), None), knobs.Names: (CommaSeparatedList(), None)}
    if kind in known:
        return known[kind]
    if get_origin(kind) is Literal:
        choices, typed = get_args(kind), field.metadata['typed_choices'] or get_args(kind)
        return ChoiceOfSome(field.name, typed, [choice for choice in choices if choice not in typed]), None
    plain = get_args(kind)[0] # Annotated.
    return plain, {int: 'INT', bool: 'BOOL', float: 'FLOAT'}[plain]

def flags_of(cls):
    """Gives a command a flag for each option of a class of trainer.options that has one."""
    def decorate(command):
        for field in reversed(dataclasses.fields(cls)):
            about = field.metadata
            if about['section'] is None:
                continue
            kind, metavar = _click_type(field)
            settings = dict(type=kind, metavar=about['metavar'] or metavar)
            if field.default is False:
                settings = dict(is_flag=True)
            command = click.option(knobs.flag(field.name), cls=Knob, section=about['section'], help=about['help'],
                required=field.default is dataclasses.MISSING, **settings)(command)
        return command
    return decorate

#----------------------------------------------------------------------------
