"""`sarigan upstream`: the StyleGAN2-ADA tree, fetched, verified and patched."""

import click

from sarigan_plugin.errors import UserError
from sarigan_plugin.support import places
from sarigan_plugin.upstream import tree

#----------------------------------------------------------------------------

@click.command()
@click.option('--upstream', 'kind', help='Where to take the tree from; '
    'auto = GitHub if it can be reached, else Python packages',
    type=click.Choice(tree.KINDS), default='auto', show_default=True)
def upstream_command(kind):
    """Fetch, verify and patch the stylegan2-ada-pytorch tree.

    Does nothing if the tree is there and right.

    \b
    sarigan upstream
    """
    folder = tree.upstream_tree()
    origin = tree.fill(kind)
    if not origin.ok:
        raise UserError(f'{folder} is not what it should be ({origin.detail}): remove the folder and run again.')
    tree.apply_patches(folder)
    source = dict(submodule='git submodule', pypi='assembled from Python packages')[origin.kind]
    patches = ', '.join(tree.patch_status(folder))
    name = tree.FOLDER if folder == tree.root() / tree.FOLDER and places.is_checkout() else folder
    click.echo(f'{name}: {source}, commit {origin.commit[:7]}, patches {patches} applied')

#----------------------------------------------------------------------------
