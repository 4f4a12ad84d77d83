"""Command lines as documents and helps show them, and whether our commands would take them. Nothing runs."""

import contextlib
import re
import shlex

import click

from sarigan_plugin.cli import main

_OURS = re.compile(r'\s*(cd \S+ && )?((\.venv/bin/)?sarigan|python train\.py|torchrun .*train\.py) (?=\S)')

def of_page(text):
    """Those of the ```bash blocks of a page, with the variables that a block sets, as lists of words."""
    found = []
    for block in re.findall(r'```bash\n(.*?)```', text, flags=re.DOTALL):
        known = {}
        for line in block.replace('\\\n', ' ').splitlines():
            for name, value in known.items():
                line = line.replace(f'${name}', value)
            if assigned := re.fullmatch(r'(\w+)="(.*)"', line.strip()):
                known[assigned[1]] = assigned[2]
            elif words := ours(line):
                found.append(words)
    return found

def of_help(text):
    """Those of a help."""
    return [words for line in text.splitlines() if (words := ours(line))]

def ours(line):
    """What follows `sarigan` in a line of shell, as words; upstream's train.py is our train. [] = another program's."""
    if not _OURS.match(line):
        return []
    words = shlex.split(line, comments=True)
    words = words[words.index('&&') + 1:] if '&&' in words else words
    if 'train.py' in words:
        return ['train', *words[words.index('train.py') + 1:]]
    return words[1:] if words[0].rpartition('/')[2] == 'sarigan' else []

def take(words):
    """Have the command take its options, as it does before it starts. Raises click.ClickException where it refuses."""
    command, name, words = main, 'sarigan', list(words)
    while isinstance(command, click.Group):
        if not words or words[0].startswith('-'):
            break
        name = words.pop(0)
        found = command.get_command(click.Context(command), name)
        if found is None:
            raise click.UsageError(f'There is no command {name}.')
        command = found
    with contextlib.suppress(click.exceptions.Exit): # --help and the like.
        command.make_context(name, words).close()
