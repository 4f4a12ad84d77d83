"""`sarigan list`: the networks that come with the plugin."""

import click

from sarigan_plugin.snapshots import box
from sarigan_plugin.support.tables import markdown

#----------------------------------------------------------------------------

@click.command('list')
def list_command():
    """List the networks in the box: each is taken by its name wherever a command takes a network.

    \b
    sarigan explore                                     # the first of them
    sarigan generate --network=drawn32 --seeds=0-35 --outdir=out/images
    """
    rows = [['Name', 'Pixels', 'Trained on', 'Licence', 'kimg', 'Size', 'Groups with names']]
    for boxed in box.entries():
        facts = boxed.facts
        rows.append([boxed.name, f'{facts["resolution"]}x{facts["resolution"]}', facts.get('data', '?'),
            facts['licence'], f'{facts["kimg"]:g}' if 'kimg' in facts else '?', f'{boxed.size / 2 ** 20:.1f} MB',
            ', '.join(boxed.groups) or 'none yet'])
    click.echo(markdown(rows) if len(rows) > 1 else 'The box is empty.')
    for boxed in box.entries():
        click.echo(f'\n{boxed.name}: {click.format_filename(boxed.folder)}')

#----------------------------------------------------------------------------
