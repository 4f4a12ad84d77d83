"""Command lines as documents and helps show them, and whether our commands would take them. Nothing runs."""

import contextlib
import os
import re
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import click

from sarigan_plugin.cli import main

TREE = 'stylegan2-ada-pytorch'

class Line(NamedTuple):
    """A command line as a shell would start it."""
    words: list             # A leading ~ is HOME.
    folder: str = '.'       # Where it runs, from the project's folder: '.' or TREE.
    block: bool = True      # Whether it stands in a block of its own, not in a sentence.

    @property
    def text(self):
        return ' '.join(self.words)

    @property
    def ours(self):
        """What follows `sarigan`; upstream's train.py is our train. [] = another program's."""
        if 'train.py' in self.words:
            return ['train', *self.words[self.words.index('train.py') + 1:]]
        return self.words[1:] if self.words[0] == 'sarigan' else []

    @property
    def names_options_alone(self):
        """Whether a sentence only names a command and options of it: `sarigan edit --recipe`."""
        if self.block or not self.ours:
            return False
        if '...' in self.words:
            return True
        try:
            take(self.ours)
        except (click.MissingParameter, click.BadOptionUsage):
            return True
        return False

# Code in a sentence that begins like this is a command line, or names a command and options of it.
_IN_SENTENCES = re.compile(
    r'(sarigan (data )?[\w-]+|\./install\.sh|python -m|pip|ssh|hf|git|torchrun) \S|python \S+\.py\b')
_CODE = re.compile(r'^```(\w*)\n(.*?)^```|`([^`]+)`', flags=re.DOTALL | re.MULTILINE)

def of_page(text):
    """All command lines of a page, in their order: those of ```bash blocks, of sentences, and of pods."""
    pieces = []
    for found in _CODE.finditer(text):
        language, block, code = found.groups()
        if language == 'bash':
            pieces.append((block, True))
        elif language == 'yaml' and (pod := re.search(r' command:\n((?: +- .*\n)+)', block)):
            pieces.append((' '.join(re.findall('- (.*)', pod[1])), True))
        elif code and _IN_SENTENCES.match(code := ' '.join(code.split())):
            pieces.append((code, False))
    return traced(pieces)

# No program is found, so bash has the handler note what it would have started: with variables, braces and ~ expanded,
# in the folder that `cd` has led to; in one write, since both ends of a pipe are noted at once: bash writes at each \n.
# Every piece begins in the project's folder, which is HOME.
_NOTING = """
PATH=/nowhere
command_not_found_handle() { printf '%s\\037' "$block" "$PWD" "$@" $'\\036' >&3; }
source() { command_not_found_handle source "$@"; }
./install.sh() { command_not_found_handle ./install.sh "$@"; }
.venv/bin/sarigan() { command_not_found_handle sarigan "$@"; }
"""
# As SLURM sets them.
_VARIABLES = dict(SLURM_JOB_NODELIST='node[1-2]', SLURM_NNODES='2', SLURM_JOB_ID='1')

def traced(pieces):
    """What a shell would start for pieces of its language, each (text, whether it is a block), as Lines."""
    script = _NOTING + ''.join(f'\ncd ~; block={int(block)}\n{text}\nwait\n' for text, block in pieces)
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryFile() as notes:
        home = os.path.realpath(home)
        Path(home, TREE).mkdir()
        done = subprocess.run(['bash', '-c', f'exec 3>&{notes.fileno()}\n{script}'], check=False, text=True,
            pass_fds=[notes.fileno()], env=dict(HOME=home, **_VARIABLES), capture_output=True)
        assert done.returncode == 0 and done.stderr == '', (done.stderr, script)
        notes.seek(0)
        records = notes.read().decode().replace(home, '~').split('\37\36\37')[:-1]
    return [Line(words, os.path.relpath(folder, '~'), block == '1')
        for block, folder, *words in (record.split('\37') for record in records)]

def of_help(text):
    """Our commands of a help, as words. Theirs is no shell's language: they have `...` and `[...]`."""
    found = []
    for line in text.splitlines():
        if re.match(r'\s*(cd \S+ && )?(sarigan|python train\.py|torchrun .*train\.py) (?=\S)', line):
            words = shlex.split(line, comments=True)
            found.append(Line(words[words.index('&&') + 1:] if '&&' in words else words).ours)
    return found

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
