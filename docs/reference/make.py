"""Makes options.md and configs.md, beside this file, from the code. Run: python docs/reference/make.py

A test compares the two with what this would write.
"""

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Literal, Union, get_args, get_origin

import click

from sarigan_plugin import cli
from sarigan_plugin.support import places, toml
from sarigan_plugin.trainer import options, recipes

HERE = Path(__file__).parent
NOTE = '<!-- Made by `python docs/reference/make.py`. Change the code instead. -->'

def row(*cells):
    return '| ' + ' | '.join(str(cell).replace('|', '\\|') for cell in cells) + ' |'

def table(head, rows):
    return '\n'.join([row(*head), '|' + '---|' * len(head), *(row(*cells) for cells in rows)])

#----------------------------------------------------------------------------
# Options.

def leaves(name, command, parent):
    """(name, command, context) of all commands below one."""
    context = click.Context(command, info_name=name.rpartition(' ')[2], parent=parent)
    if not isinstance(command, click.Group):
        return [(name, command, context)]
    return [leaf for child in command.list_commands(context)
        for leaf in leaves(f'{name} {child}', command.get_command(context, child), context)]

def sections(command, context):
    """{title: options}, also of a command that has no sections."""
    if hasattr(command, 'in_sections'):
        return command.in_sections(context)
    return {'Options': [param for param in command.get_params(context) if isinstance(param, click.Option)]}

def of_command(name, command, context):
    paragraphs = command.help.replace('\b\n', '').split('\n\n')
    usage = ' '.join(['sarigan', name, *command.collect_usage_pieces(context)])
    parts = [f'### sarigan {name}', ' '.join(paragraphs[0].split()), f'    {usage}']
    titled = sections(command, context)
    for title, params in titled.items():
        records = [param.get_help_record(context) for param in params if '--help' not in param.opts]
        rows = [(f'`{names}`', re.sub(' {2,}', ' ', text)) for names, text in records]
        if rows:
            parts.append(table([title, ''], rows))
    return '\n\n'.join(parts)

def options_page():
    root = click.Context(cli.main, info_name='sarigan')
    parts = ['# Options of all commands', NOTE,
        '`sarigan COMMAND --help` prints the same, with examples and with what a command writes.\n'
        '[configs.md](configs.md) has the keys of configs.']
    for title, names in cli.SECTIONS.items():
        parts.append(f'## {title}')
        for name in names:
            parts += [of_command(*leaf) for leaf in leaves(name, cli.main.get_command(root, name), root)]
    return '\n\n'.join(parts) + '\n'

#----------------------------------------------------------------------------
# Configs.

WORDS = {
    toml.Count: 'integer, at least 1', toml.Whole: 'integer, at least 0', toml.Number: 'number, at least 0',
    toml.Flag: '`true` or `false`', toml.Path: 'text', options.CPUBF16: '`"auto"`, `true` or `false`',
    options.Threshold: '`"auto"`, `"learned"` or a number in [-1, 1]', options.Grid: '`[columns, rows]`',
    options.Names: '`"all"`, or `[name, ...]`', options.Metrics: '`[name, ...]`, or `[]` for none',
    options.NumGroups: 'integer, `"auto"`, or `{ RESOLUTION or LAYER = integer, ... }`',
}

def type_in_words(kind):
    if get_origin(kind) is Union:
        kind, _none = get_args(kind)
    if get_origin(kind) is Literal:
        return ', '.join(f'`"{choice}"`' for choice in get_args(kind))
    return WORDS[kind]

def written(value):
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f'{value}'

def default_in_words(field):
    if field.default is dataclasses.MISSING:
        return 'required'
    return "upstream's" if field.default is None else f'`{written(field.default)}`'

def comments(text):
    """{name: comment} of the lines of a config, or of the fields of a dataclass."""
    found = (re.match(r' *(\w+)(?: +=|: ).*?# (.*)', line) for line in text.splitlines())
    return {match[1]: match[2] for match in found if match}

def meaning(cls, field):
    """What a key does: its help, or the comment beside it."""
    return field.metadata.get('meaning') or comments(inspect.getsource(cls))[field.name].rstrip('.')

TITLES = dict(method='`[method]`: what makes it SariGAN', inpainting='`[inpainting]`: what makes it fill holes',
    networks='`[networks]`: size of the networks', training='`[training]`: course of the training')

def configs_page():
    read = {name: recipes.read_recipe(path) for name, path in recipes.our_configs().items()}
    why = comments((places.configs() / 'sarigan.toml').read_text(encoding='utf-8'))
    parts = ['# Keys of configs', NOTE,
        'A config is a TOML file with these four tables. `--cfg=NAME` takes one of [configs/](../../configs), or '
        "one of\nupstream's; `--cfg=FILE.toml` takes yours. With `base = \"sarigan\"` in its first line yours "
        'inherits what it leaves out.\nFlags of `sarigan train` overrule a config. '
        '[paper-to-code.md](../paper-to-code.md) goes through the equations.',
        '```toml\nbase = "sarigan"\nsummary = "As in the paper, with responses grouped instead of kernels."\n\n'
        '[method]\nsimilarity = "responses"\n```',
        table(['`--cfg`', 'What it is'], [(f'`{name}`', recipe.summary) for name, recipe in read.items()])]
    for name, cls in recipes.TABLES.items():
        found = dataclasses.fields(cls)
        parts += [f'## {TITLES[name]}', table(['Key', 'Flag', 'Type', 'Default', 'Paper', 'What it does'], [
            (f'`{field.name}`', flag_of(name, field), type_in_words(field.type), default_in_words(field),
                field.metadata.get('symbol') or '', meaning(cls, field)) for field in found])]
        if any(field.name in why for field in found):
            parts += ['`sarigan.toml` says of them:', table(['Key', 'Value', 'Source'], [
                (f'`{field.name}`', f'`{written(getattr(getattr(read["sarigan"], name), field.name))}`',
                    why[field.name]) for field in found if field.name in why])]
        if differing := values(name, found, read):
            parts += ['Values of each config, of keys in which they differ:', differing]
    return '\n\n'.join(parts) + '\n'

TRAINING_FLAGS = dict(r1_gamma='gamma') # Keys of other names than their flags.

def flag_of(table_name, field):
    if table_name == 'networks':
        return ''
    known = options.FIELDS.get(TRAINING_FLAGS.get(field.name, field.name))
    if known is None or known.metadata['section'] is None:
        return ''
    return f'`--{known.name.replace("_", "-")}`'

def values(name, fields, read):
    """A table of what each config has, or '' where all have the same."""
    tables = {cfg: getattr(recipe, name) for cfg, recipe in read.items() if getattr(recipe, name) is not None}
    rows = []
    for field in fields:
        found = [getattr(of_config, field.name) for of_config in tables.values()]
        if any(value != found[0] for value in found):
            rows.append((f'`{field.name}`', *('' if value is None else written(value) for value in found)))
    return table(['', *(f'`{cfg}`' for cfg in tables)], rows) if rows else ''

#----------------------------------------------------------------------------

PAGES = {'options.md': options_page, 'configs.md': configs_page}

if __name__ == '__main__':
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding='utf-8')
        print(HERE / name)

#----------------------------------------------------------------------------
