"""Helps: what a command does for you in the first line, examples that work, options in sections."""

import click
import pytest

import command_lines
from sarigan_plugin import cli
from sarigan_plugin.commands.sections import SHARED, SectionedCommand

def leaves(name, command):
    """(name, command) of all commands below one."""
    if not isinstance(command, click.Group):
        return [(name, command)]
    return [leaf for child in command.list_commands(None)
        for leaf in leaves(f'{name} {child}', command.get_command(None, child))]

ALL = [leaf for name in cli.COMMANDS for leaf in leaves(name, cli.main.get_command(None, name))]

def help_of(name, command):
    context = click.Context(command, info_name=f'sarigan {name}', max_content_width=120, terminal_width=120)
    return command.get_help(context)

every_command = pytest.mark.parametrize('name, command', ALL, ids=lambda value: value if isinstance(value, str) else '')

@every_command
def test_the_first_line_says_in_a_sentence_what_the_command_does(name, command):
    usage, _, first, after, *_ = help_of(name, command).splitlines()
    assert usage.startswith(f'Usage: sarigan {name} ')
    assert first.endswith('.') and after == '' and len(first) <= 100, first

@every_command
def test_examples_are_there_and_are_taken(name, command):
    examples = command_lines.of_help(help_of(name, command))
    assert any(words[:len(name.split())] == name.split() for words in examples), 'no example of the command itself'
    for words in examples:
        command_lines.take(words)

@every_command
def test_many_options_are_in_sections(name, command):
    if len(command.params) > 12:
        assert isinstance(command, SectionedCommand)
        sections = command.in_sections(click.Context(command))
        assert len(sections) >= 2 and max(len(params) for params in sections.values()) <= 12

@every_command
def test_sections_have_every_option_once_and_no_other(name, command):
    if isinstance(command, SectionedCommand):
        context = click.Context(command)
        params = [param for params in command.in_sections(context).values() for param in params]
        options = [param for param in command.get_params(context) if isinstance(param, click.Option)]
        assert sorted(param.name for param in params) == sorted(param.name for param in options)
        flags = {flag for param in options for flag in param.opts}
        assert [flag for title, named in command.sections.items() for flag in named.split() if flag not in flags] == []
        assert list(command.in_sections(context)).count(SHARED) <= 1

def test_the_list_of_commands_has_each_in_one_section():
    listed = [name for names in cli.SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(cli.COMMANDS)
    text = cli.main.get_help(click.Context(cli.main, info_name='sarigan'))
    assert [line[:-1] for line in text.splitlines() if line.endswith(':') and line[0] != ' '] == ['Options',
        *cli.SECTIONS]
    for words in command_lines.of_help(text):
        if words[0] != 'COMMAND':
            command_lines.take(words)

#----------------------------------------------------------------------------
