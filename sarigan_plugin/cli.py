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
    'demo':            'Train a small SariGAN in five minutes and draw its groups.',
    'data':            'Make a dataset zip from your pictures, download a small open one, or draw one.',
    'train':           "Train a network; the same command as upstream's train.py.",
    'ablate':          'Train several variants alike and compare them in a table.',
    'list':            'List the trained networks that come with sarigan.',
    'generate':        'Generate images with a network.',
    'regroup':         'Find groups that change the same things, in any StyleGAN2.',
    'groups':          'See what each group of channels attends to.',
    'explore':         'Steer groups with sliders on a page in your browser.',
    'publish':         'Make a page that runs a network in any browser.',
    'name':            'Name groups, so that every command knows them by name.',
    'edit':            "Turn groups up, down or off, or give them another image's code.",
    'directions':      'Rank groups by what they change, and where.',
    'disentanglement': 'Measure whether groups separate attributes.',
    'mix':             'Mix images group by group.',
    'project':         "Find a photo's codes, so that you can edit it.",
    'inpaint':         'Fill holes in images, in several ways each.',
    'inpaint-table':   'Measure how well networks fill holes, beside classical methods.',
    'metrics':         'Measure how near generated images are to real ones.',
    'export':          "Write a network without code, as ONNX, or for rosinality's tools.",
    'import':          "Make a network pickle from an export or from rosinality's checkpoints.",
    'pack':            'Write a network as a folder with a model card, for others to use.',
    'upstream':        'Fetch, verify and patch the stylegan2-ada-pytorch tree.',
    'doctor':          'Check what works on this machine.',
}

# What the help lists together.
SECTIONS = {
    'Train':          ['demo', 'data', 'train', 'ablate'],
    'Look and steer': ['list', 'explore', 'generate', 'groups', 'directions', 'regroup', 'name', 'edit', 'mix',
        'project', 'inpaint'],
    'Measure':        ['metrics', 'disentanglement', 'inpaint-table'],
    'Files':          ['publish', 'pack', 'export', 'import', 'upstream', 'doctor'],
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
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f'{name:<{max(map(len, COMMANDS))}}', COMMANDS[name]) for name in names])

#----------------------------------------------------------------------------

@click.group(cls=Commands, context_settings=dict(max_content_width=100))
@click.version_option(__version__, prog_name='sarigan')
def main():
    """Turn parts of generated images up, down or off: StyleGAN2-ADA with groups of channels (SariGAN, NeurIPS 2020).

    \b
    sarigan demo                        # five minutes of training, then pictures of what groups do
    sarigan explore out/demo/network.pkl
    sarigan COMMAND --help              # what a command does, with an example
    """

#----------------------------------------------------------------------------

if __name__ == '__main__':
    main(prog_name='sarigan')

#----------------------------------------------------------------------------
