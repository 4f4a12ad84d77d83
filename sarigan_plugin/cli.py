"""The `sarigan` command: a group whose subcommands are imported only when they run."""

import importlib

import click

from sarigan_plugin import __version__
from sarigan_plugin.errors import UserError
from sarigan_plugin.support import places
from sarigan_plugin.support import streams

#----------------------------------------------------------------------------

# name -> (module:attribute of a click command, help that needs no import).
COMMANDS = {
    'demo':            ('sarigan_plugin.commands.demo:demo',                               'Train a small SariGAN on real images and draw its groups.'),
    'data':            ('sarigan_plugin.datasets.packaged:data',                           'Make a dataset zip from your pictures, or from openly available ones.'),
    'train':           ('sarigan_plugin.commands.train:main',                              "Train a network; the same command as upstream's train.py."),
    'ablate':          ('sarigan_plugin.commands.ablate:ablate',                           "Train the rows of a table and compare them: the paper's ablations."),
    'generate':        ('sarigan_plugin.steering.sampling:generate',                       'Generate images with a network pickle.'),
    'groups':          ('sarigan_plugin.steering.attention:groups',                        'Draw what each group of channels attends to.'),
    'explore':         ('sarigan_plugin.commands.explore:explore',                         'Steer groups on a page in the browser.'),
    'name':            ('sarigan_plugin.steering.names:name_command',                      'Give names to groups, for all commands that take a group.'),
    'edit':            ('sarigan_plugin.commands.edit:edit_command',                       'Turn up, down or exchange what single groups draw.'),
    'directions':      ('sarigan_plugin.commands.directions:directions_command',           'Rank the groups by what they change, and where.'),
    'disentanglement': ('sarigan_plugin.commands.disentanglement:disentanglement_command', 'Measure how well groups separate what is in images.'),
    'mix':             ('sarigan_plugin.steering.mixing:mix_command',                      'Give groups of some images the codes of other images.'),
    'project':         ('sarigan_plugin.commands.project:project_command',                 'Find the codes of a photo, for edits of it.'),
    'inpaint':         ('sarigan_plugin.commands.inpaint:inpaint_command',                 'Fill holes in images, in several ways each.'),
    'inpaint-table':   ('sarigan_plugin.evaluation.inpainting:inpaint_table',              'Measure how well networks fill holes, beside classical methods.'),
    'metrics':         ('sarigan_plugin.commands.metrics:metrics_command',                 'Measure how near generated images are to real ones.'),
    'export':          ('sarigan_plugin.commands.export:export_command',                   'Write networks as safetensors, or for rosinality\'s tools.'),
    'import':          ('sarigan_plugin.commands.export:import_command',                   'Make a network pickle of what export wrote.'),
    'upstream':        ('sarigan_plugin.upstream.tree:upstream_command',                   'Fetch, verify and patch the stylegan2-ada-pytorch tree.'),
    'doctor':          ('sarigan_plugin.commands.doctor:doctor',                           'Check the installation, one line for each part.'),
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
            raise UserError(f'`sarigan {cmd_name}` needs the Python module {err.name}, which is not installed: run {places.install_command(err.name)}.') from err

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
