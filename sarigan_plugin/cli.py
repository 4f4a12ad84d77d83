"""The `sarigan` command: a group whose subcommands are imported only when they run."""

import importlib
import sys

import click

from sarigan_plugin import __version__
from sarigan_plugin.errors import UserError
from sarigan_plugin.support import places, streams

#----------------------------------------------------------------------------

# name -> help that needs no import.
COMMANDS = {
    'demo':            'Train a small SariGAN on real images and draw its groups.',
    'data':            'Make a dataset zip from your pictures, from open ones, or from drawn ones.',
    'train':           "Train a network; the same command as upstream's train.py.",
    'ablate':          "Train the rows of a table and compare them: the paper's ablations.",
    'list':            'List the networks that come with the plugin.',
    'generate':        'Generate images with a network pickle.',
    'regroup':         'Find groups that change the same things, in any StyleGAN2.',
    'groups':          'Draw what each group of channels attends to.',
    'explore':         'Steer groups on a page in the browser.',
    'name':            'Give names to groups, for all commands that take a group.',
    'edit':            'Turn up, down or exchange what single groups draw.',
    'directions':      'Rank the groups by what they change, and where.',
    'disentanglement': 'Measure how well groups separate what is in images.',
    'mix':             'Give groups of some images the codes of other images.',
    'project':         'Find the codes of a photo, for edits of it.',
    'inpaint':         'Fill holes in images, in several ways each.',
    'inpaint-table':   'Measure how well networks fill holes, beside classical methods.',
    'metrics':         'Measure how near generated images are to real ones.',
    'export':          "Write networks as safetensors, or for rosinality's tools.",
    'import':          'Make a network pickle of what export wrote.',
    'pack':            'Write a network as a folder with a model card.',
    'upstream':        'Fetch, verify and patch the stylegan2-ada-pytorch tree.',
    'doctor':          'Check the installation, one line for each part.',
}

# `sarigan edit` is edit_command in commands/edit.py; of the others: (module, click command in it).
_ELSEWHERE = {'train': ('train', 'main'), 'import': ('export', 'import_command')}

def _place(name):
    module = name.replace('-', '_')
    return _ELSEWHERE.get(name, (module, f'{module}_command'))

class Commands(click.Group):
    """All commands. They end quietly where their output has no reader, and say so where it can't be written."""

    def main(self, *args, **kwargs):
        with streams.watched(streams.Watched):
            try:
                return super().main(*args, **kwargs)
            except OSError as error: # click itself minds closed pipes.
                if not streams.is_lost():
                    raise
                print(f'Error: standard output cannot be written to: {error.strerror}.',
                    file=streams.Unbreakable(sys.stderr))
                sys.exit(1)

    def list_commands(self, ctx):
        return list(COMMANDS)

    def get_command(self, ctx, cmd_name):
        if cmd_name not in COMMANDS:
            return None
        module, attribute = _place(cmd_name)
        try:
            return getattr(importlib.import_module(f'sarigan_plugin.commands.{module}'), attribute)
        except ModuleNotFoundError as err:
            raise UserError(f'`sarigan {cmd_name}` needs the Python module {err.name}, which is not installed: '
                f'run {places.install_command(err.name)}.') from err

    def resolve_command(self, ctx, args):
        if args and args[0] not in COMMANDS:
            raise UserError(f'There is no command {args[0]!r}; the commands are {", ".join(COMMANDS)}.')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx, formatter):
        with formatter.section('Commands'):
            formatter.write_dl(list(COMMANDS.items()))

#----------------------------------------------------------------------------

@click.group(cls=Commands, context_settings=dict(max_content_width=100))
@click.version_option(__version__, prog_name='sarigan')
def main():
    """SariGAN (NeurIPS 2020): image synthesis with semantic groups of channels.

    `sarigan COMMAND --help` explains a command.
    """

#----------------------------------------------------------------------------

if __name__ == '__main__':
    main(prog_name='sarigan')

#----------------------------------------------------------------------------
