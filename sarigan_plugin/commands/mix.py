"""`sarigan mix`: style mixing by channel group, as a grid.

Each image is one seed's, with codes taken from another's.
"""

import dataclasses
import os

import click
import numpy as np
import PIL.Image

from sarigan_plugin.commands.edit import FLAGS, flags_named, place_of
from sarigan_plugin.commands.options import (
    PATH,
    Number,
    NumberRange,
    class_options,
    device_option,
    linked_option,
    trust_option,
)
from sarigan_plugin.errors import writing
from sarigan_plugin.steering import groupings, names
from sarigan_plugin.steering.edits import Edit
from sarigan_plugin.steering.mixing import CODES, mixing_edits
from sarigan_plugin.steering.recipe import EditRecipe
from sarigan_plugin.support import pictures

TILE = 128 # Least width of an image in the grid, pixels; at most it is twice as wide.

#----------------------------------------------------------------------------

@click.command('mix')
@click.argument('network', type=PATH, metavar='PKL')
@click.option('--outdir',   help='Where to save the images', required=True, type=PATH, metavar='DIR')
@click.option('--rows',     help='Random seeds of the images that are changed, e.g. 0-3', type=NumberRange(),
                            required=True, metavar='SEEDS')
@click.option('--cols',     help='Random seeds of the images whose codes they get', type=NumberRange(), required=True,
                            metavar='SEEDS')
@click.option('--layer', 'layers', help='Layer, or several: b8.conv1,b16.conv0  [default: all that are grouped]',
    metavar='NAME,...')
@click.option('--group',    help='Which channel group of the layers, or its name  [default: all]', metavar='INDEX|NAME')
@click.option('--code',     help='Which of the two codes', type=click.Choice(list(CODES)), default='both',
                            show_default=True)
@click.option('--trunc',    help='Truncation psi', type=Number(), default=0.7, show_default=True)
@class_options(default=0)
@linked_option
@trust_option
@device_option
def mix_command(network, outdir, rows, cols, layers, group, code, trunc, class_idx, linked, trust, device):
    """Give groups of some images the codes that they have in other images.

    \b
    sarigan mix network.pkl --outdir=out/mix --rows=0-3 --cols=10-15 --group=glasses
    sarigan mix network.pkl --outdir=out/mix --rows=0-3 --cols=10-15 --layer=b16.conv0,b16.conv1 --code=inter

    DIR gets grid.png, with the images of --rows on the left and those of --cols on top,
    and in cells/ each of the others by
    itself: 2-11.png is seed 2 with codes of seed 11. The first layer and ToRGB have no groups and stay as they are.
    """
    G = groupings.load(network, 'PKL', device, trust, groups=linked)
    known = names.load(network, G)
    layers, index = names.locate(known, None if layers is None else layers.split(','), group)
    with flags_named(dict(FLAGS, seeds='--rows')):
        first = EditRecipe(mixing_edits(G, cols[0], layers, index, code), rows, trunc, class_idx)
        first.check(G)
    with flags_named(dict(FLAGS, seeds='--cols')):
        above = dataclasses.replace(first.part(0), seeds=cols)
    mixed = [dataclasses.replace(first, edits=mixing_edits(G, col, layers, index, code)) for col in cols]
    title = f'{CODES[code][1]} of {_places(layers, index, known)} from the seeds above'
    path = os.path.join(outdir, 'grid.png')
    with writing('--outdir', outdir):
        os.makedirs(os.path.join(outdir, 'cells'), exist_ok=True)
        pictures.save(_draw_grid(*_render_all(G, outdir, above, first.part(0), mixed), title, rows, cols), path)
    click.echo(click.format_filename(path))

def _places(layers, index, known):
    """What is mixed, for the caption."""
    where = 'all layers' if layers is None else ', '.join(layers)
    if index is None:
        return f'all groups of {where}'
    return f'group {index} of {where}' if layers is None else place_of(Edit(layers, index), known)

def _render_all(G, outdir, above, left, mixed):
    """Write the cells; above, left, mixed: Recipes.

    Returns the images as tiles for the grid: above, left, and a list of columns.
    """
    tiles = []
    with click.progressbar([above, left, *mixed], label='Mixing') as recipes:
        for index, recipe in enumerate(recipes, start=-2):
            images = recipe.render(G)
            tiles.append(pictures.shrink(pictures.enlarge(images, TILE), 2 * TILE))
            for row, image in zip(left.seeds, images) if index >= 0 else []:
                pictures.save(PIL.Image.fromarray(image),
                    os.path.join(outdir, 'cells', f'{row}-{above.seeds[index]}.png'))
    return tiles[0], tiles[1], tiles[2:]

def _draw_grid(above, left, columns, title, rows, cols):
    corner = np.full_like(above[0], 255)
    # [1 + rows, 1 + cols, H, W, 3]
    cells = np.stack([np.stack([top, *column]) for top, column in zip([corner, *above], [left, *columns])], axis=1)
    pitch = cells.shape[3] + 2
    row_labels, column_labels = (['', *[f'seed {seed}' for seed in seeds]] for seeds in [rows, cols])
    return pictures.caption(pictures.sheet(cells.reshape(-1, *cells.shape[2:]), len(columns) + 1), title, row_labels,
        pitch, column_labels, pitch)

#----------------------------------------------------------------------------
