"""The `sarigan` command: a group whose subcommands are imported only when they run."""

import contextlib
import errno
import importlib

import click

from . import __version__
from . import streams

#----------------------------------------------------------------------------

class UserError(click.ClickException):
    """A mistake that the user can mend: one sentence on stderr and exit code 2, never a traceback.

    For a mistake in one option's value, click.BadParameter names the option as well.
    """
    exit_code = 2

@contextlib.contextmanager
def writing(option, path):
    """Inside the `with`, what can't be written there is a mistake in the option that named the place: OSError becomes UserError."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE or streams.is_lost(): # Of standard output.
            raise
        raise UserError(f'{option}: {path} cannot be written to: {error.strerror}.') from None

#----------------------------------------------------------------------------

# name -> (module:attribute of a click command, help that needs no import).
COMMANDS = {
    'demo':     ('sarigan_plugin.demo:demo',                  'Train a small SariGAN on real images and draw its groups.'),
    'data':     ('sarigan_plugin.data:data',                  'Make a dataset zip from your pictures, or from openly available ones.'),
    'train':    ('sarigan_plugin.train:main',                 "Train a network; the same command as upstream's train.py."),
    'ablate':   ('sarigan_plugin.ablate:ablate',              "Train the rows of a table and compare them: the paper's ablations."),
    'generate': ('sarigan_plugin.generate:generate',          'Generate images with a network pickle.'),
    'groups':   ('sarigan_plugin.groups:groups',              'Draw what each group of channels attends to.'),
    'explore':  ('sarigan_plugin.explore:explore',            'Steer groups on a page in the browser.'),
    'name':     ('sarigan_plugin.names:name_command',         'Give names to groups, for all commands that take a group.'),
    'edit':     ('sarigan_plugin.edit_command:edit_command',  'Turn up, down or exchange what single groups draw.'),
    'directions': ('sarigan_plugin.directions_command:directions_command', 'Rank the groups by what they change, and where.'),
    'disentanglement': ('sarigan_plugin.disentanglement_command:disentanglement_command', 'Measure how well groups separate what is in images.'),
    'mix':      ('sarigan_plugin.mix:mix_command',            'Give groups of some images the codes of other images.'),
    'project':  ('sarigan_plugin.project_command:project_command', 'Find the codes of a photo, for edits of it.'),
    'inpaint':  ('sarigan_plugin.inpaint_command:inpaint_command', 'Fill holes in images, in several ways each.'),
    'inpaint-table': ('sarigan_plugin.inpaint_table:inpaint_table', 'Measure how well networks fill holes, beside classical methods.'),
    'metrics':  ('sarigan_plugin.metrics_command:metrics_command', 'Measure how near generated images are to real ones.'),
    'export':   ('sarigan_plugin.export:export_command',      'Write networks as safetensors, or for rosinality\'s tools.'),
    'import':   ('sarigan_plugin.export:import_command',      'Make a network pickle of what export wrote.'),
    'upstream': ('sarigan_plugin.upstream:upstream_command',  'Fetch, verify and patch the stylegan2-ada-pytorch tree.'),
    'doctor':   ('sarigan_plugin.doctor:doctor',              'Check the installation, one line for each part.'),
}

class LazyGroup(streams.Program):
    def list_commands(self, ctx):
        return list(COMMANDS)

    def get_command(self, ctx, cmd_name):
        if cmd_name not in COMMANDS:
            return None
        module_name, attribute = COMMANDS[cmd_name][0].split(':')
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except ModuleNotFoundError as err:
            raise UserError(f'`sarigan {cmd_name}` needs the Python module {err.name}, which is not installed: run ./install.sh.') from err

    def resolve_command(self, ctx, args):
        if args and args[0] not in COMMANDS:
            raise UserError(f'There is no command {args[0]!r}; the commands are {", ".join(COMMANDS)}.')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx, formatter):
        with formatter.section('Commands'):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

#----------------------------------------------------------------------------

@click.group(cls=LazyGroup, context_settings=dict(max_content_width=100))
@click.version_option(__version__, prog_name='sarigan')
def main():
    """SariGAN (NeurIPS 2020): image synthesis with semantic groups of channels.

    `sarigan COMMAND --help` explains a command.
    """

#----------------------------------------------------------------------------

if __name__ == '__main__':
    main(prog_name='sarigan') # pylint: disable=no-value-for-parameter

#----------------------------------------------------------------------------
