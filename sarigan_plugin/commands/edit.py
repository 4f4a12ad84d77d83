"""`sarigan edit`: edits of channel groups as pictures, videos and recipes (Fig. 4-5)."""

import contextlib
import dataclasses
import os

import click
import numpy as np
import torch

from sarigan_plugin.commands.options import (
    PATH,
    NumberRange,
    class_flag,
    class_options,
    device_option,
    linked_option,
    trust_option,
)
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.steering import attention, groupings, names
from sarigan_plugin.steering.edits import Edit, WrongField
from sarigan_plugin.steering.projection import noise_put_in
from sarigan_plugin.steering.recipe import EditRecipe
from sarigan_plugin.support import pictures

STEPS   = 6     # Columns of the strip, from no edit to the full one.
FRAMES  = 48    # Of the video on its way there; it comes back the same way.
FPS     = 24    # Frames per second.

# What the fields of Edit and EditRecipe are called on the command line.
FLAGS = dict(layers='--layer', group='--group', inter_scale='--inter', inter_shift='--inter-shift',
    intra_seed='--intra', intra_mix='--intra-mix', inter_seed='--inter-from', inter_mix='--inter-mix',
    intra_component='--component', intra_amount='--amount',
    seeds='--seed', trunc='--trunc', projected_w='--projected-w')

#----------------------------------------------------------------------------

class Scales(click.ParamType):
    """'-2,0,1.5' -> a list of numbers."""
    name = 'scales'

    def convert(self, value, param, ctx):
        try:
            return [float(part) for part in value.split(',')]
        except ValueError:
            self.fail(f'{value!r} is not a list of numbers, as in -2,0,1.5', param, ctx)

@click.command('edit')
@click.argument('network', type=PATH, metavar='PKL')
@click.option('--outdir',           help='Where to save the pictures', required=True, type=PATH, metavar='DIR')
@click.option('--seed', '--seeds', 'seeds', help='Random seeds of the images, e.g. '
    '3 or 0-5  [default: 0-5, or the recipe\'s]', type=NumberRange())
@click.option('--projected-w',      help='What `sarigan project` or upstream\'s projector.py found, in place of seeds',
                                    type=PATH, metavar='NPZ')
@click.option('--layer', 'layers',  help='Layer that has the group, or several: b8.conv1,b16.conv0', metavar='NAME,...')
@click.option('--group',            help='Which channel group of the layer; `sarigan groups` draws them. '
                                    'A name, see `sarigan name`, needs no --layer', metavar='INDEX|NAME')
@click.option('--inter', 'inter_scale', help='Multiply the group\'s inter-group code: '
    '0 = off, 1 = as it is, 2 = twice as much', type=float, metavar='SCALE')
@click.option('--inter-shift',      help='Add to the group\'s inter-group code', type=float, metavar='NUMBER')
@click.option('--inter-from', 'inter_seed',
    help='Take the group\'s inter-group code from another seed, then multiply and add', type=int, metavar='SEED')
@click.option('--inter-mix',        help='How much of it, from 0 to 1  [default: 1]', type=float, metavar='NUMBER')
@click.option('--intra', 'intra_seed', help='Take the group\'s intra-group code from another seed',
    type=int, metavar='SEED')
@click.option('--intra-mix',        help='How much of it, from 0 to 1  [default: 1]', type=float, metavar='NUMBER')
@click.option('--component', 'intra_component', help='Move the group\'s intra-group code along one of the directions '
    'that change its styles most, 0 the first, in closed form as in SeFa', type=int, metavar='INDEX')
@click.option('--amount', 'intra_amount', help='How far, in lengths of the code', type=float, metavar='NUMBER')
@click.option('--recipe',           help='Begin with the edits, seeds, truncation and class of an edit.json',
                                    type=PATH, metavar='JSON')
@click.option('--scales',           help='Columns of the strip: the last edit\'s --inter takes each of these values, '
                                    'in place of steps from no edit to the full one', type=Scales(),
                                    metavar='NUMBER,...')
@click.option('--video',            help='Save a video as well: there and back', is_flag=True)
@click.option('--trunc',            help='Truncation psi  [default: 0.7, or the recipe\'s]', type=float)
@class_options(shown='0, or the recipe\'s')
@linked_option
@trust_option
@device_option
def edit_command(network, outdir, recipe, scales, video, linked, trust, device, **fields):
    """Turn up, turn down or exchange what single channel groups of a SariGAN draw.

    \b
    Twice as much of one group (Fig. 5), and then another one as in the image of seed 7 (Fig. 4):
      sarigan edit network.pkl --outdir=out/a --layer=b16.conv0 --group=3 --inter=2
      sarigan edit network.pkl --outdir=out/b --recipe=out/a/edit.json --layer=b8.conv1 --group=0 --intra=7

    \b
    DIR gets, with one row per seed:
      before.png, after.png  the images at their own size
      strip.png              from no edit to the full one, left to right
      difference.png         where pixels changed, beside what the edited groups attend to
      edit.json              the recipe: all edits, for --recipe and for people
      video.mp4, video.png   with --video; an animated PNG where imageio-ffmpeg is not installed
    """
    G = groupings.load(network, 'PKL', device, trust, groups=linked)
    known = names.load(network, G)
    earlier = _read_recipe(recipe, G) if recipe is not None else None
    with flags_named():
        wanted = _combine(G, earlier, known, {name: value for name, value in fields.items() if value is not None})
    with flags_named(dict(inter_scale='--scales')):
        columns = _strip_columns(wanted, scales)

    target = os.path.join(outdir, 'edit.json')
    if recipe is not None and wanted != earlier and os.path.exists(target) and os.path.samefile(recipe, target):
        raise UserError(f'--outdir: {target} is the recipe to begin with, which would be overwritten by another one; '
            'choose another folder.')
    with writing('--outdir', outdir):
        os.makedirs(outdir, exist_ok=True)
        for path in _draw_all(G, outdir, wanted, known, columns, scales, FRAMES if video else 0):
            click.echo(path)
        wanted.write(target)
        click.echo(target)

#----------------------------------------------------------------------------
# From options to a recipe.

@contextlib.contextmanager
def flags_named(flags=None):
    """What is wrong with a field gets the name that the user called it."""
    try:
        yield
    except WrongField as error:
        flag = class_flag() if error.field == 'class_idx' else (flags or FLAGS)[error.field]
        raise UserError(f'{flag}: {error.sentence}') from None

def _read_recipe(path, G):
    try:
        recipe = EditRecipe.read(path)
        recipe.check(G)
        return recipe
    except ValueError as error:
        raise UserError(f'--recipe: {path!r}: {error}') from None

def _combine(G, earlier, known, given):
    """The recipe of a file, or None, with what was given on the command line: an edit more, other seeds, ..."""
    overrides = {name: given.pop(name) for name in ['seeds', 'projected_w', 'trunc', 'class_idx'] if name in given}
    if 'seeds' in overrides and 'projected_w' in overrides:
        raise UserError('--projected-w takes the place of --seed; give one of the two.')
    edits = earlier.edits if earlier is not None else ()
    if given or not edits:
        edits = (*edits, _new_edit(G, known, given))
    if 'seeds' in overrides:
        overrides.update(seeds=tuple(overrides['seeds']), projected_w=None)
    recipe = dataclasses.replace(earlier, edits=edits, **overrides) if earlier is not None else EditRecipe(edits,
        **overrides)
    recipe.check(G)
    return recipe

def _new_edit(G, known, given):
    layers, group = names.locate(known, given['layers'].split(',') if 'layers' in given else None, given.get('group'))
    if layers is None and list(groupings.of(G)) == [groupings.LINKED]:
        layers = [groupings.LINKED]
    if layers is None:
        raise UserError(f'--layer is required for an edit; the layers are {", ".join(groupings.of(G))}.')
    if group is None:
        raise UserError('--group is required with --layer; `sarigan groups` draws what there is.')
    for field, needed, why in [('intra_mix', 'intra_seed', 'the seed to take the code from'),
            ('inter_mix', 'inter_seed', 'the seed to take the code from'),
            ('intra_amount', 'intra_component', 'the direction to go'),
            ('intra_component', 'intra_amount', 'how far to go')]:
        if field in given and needed not in given:
            raise UserError(f'{FLAGS[field]} needs {FLAGS[needed]}, {why}.')
    if not {'inter_scale', 'inter_shift', 'intra_seed', 'inter_seed', 'intra_component'} & set(given):
        raise UserError('--inter, --inter-shift, --inter-from, --intra or --component is required: '
            'what is to change in the group.')
    edit = Edit(**dict(given, layers=layers, group=group))
    edit.check(G)
    return edit

def _strip_columns(recipe, scales):
    """One recipe per column of the strip."""
    if scales is None:
        return [recipe.part(amount) for amount in np.linspace(0, 1, STEPS)]
    *others, last = recipe.edits
    return [dataclasses.replace(recipe, edits=[*others, dataclasses.replace(last, inter_scale=scale)])
        for scale in scales]

#----------------------------------------------------------------------------
# From a recipe to pictures.

def _draw_all(G, outdir, recipe, known, columns, scales, num_frames):
    """Write all pictures into an existing folder. Returns their paths."""
    # Starts and stops softly.
    moments = [recipe.part((1 - np.cos(np.pi * x)) / 2) for x in np.linspace(0, 1, num_frames)]
    with click.progressbar([recipe.part(0), recipe, *columns, *moments], label='Editing') as jobs:
        before, after, *rest = [job.render(G) for job in jobs]
    strip, moments = rest[:len(columns)], rest[len(columns):]

    row_labels = [f'seed {seed}' for seed in recipe.seeds] if recipe.projected_w is None else [f'proj {index}'
        for index in range(len(before))]
    drawn = {
        'before.png':       _plain_sheet(before),
        'after.png':        _plain_sheet(after),
        'strip.png':        pictures.strip(strip, _strip_title(recipe, known, scales), row_labels),
        'difference.png':   _draw_difference(G, recipe, known, before, after, row_labels),
    }
    paths = []
    for name, picture in drawn.items():
        paths.append(os.path.join(outdir, name))
        pictures.save(picture, paths[-1])
    if moments:
        frames = [_plain_sheet(pictures.enlarge(images, 128)) for images in moments]
        paths.append(pictures.save_video(os.path.join(outdir, 'video'), [*frames, *frames[::-1]], FPS))
    return paths

def _strip_title(recipe, known, scales):
    titles = [f'{place_of(edit, known)}: {edit.changes}' for edit in recipe.edits]
    if scales is None:
        return '; '.join(titles) + ' | ' + ', '.join(f'{amount:.0%}' for amount in np.linspace(0, 1, STEPS))
    titles[-1] = (f'{place_of(recipe.edits[-1], known)}: '
        f'inter-group code times {", ".join(f"{scale:g}" for scale in scales)}')
    return '; '.join(titles)

def place_of(edit, known):
    """The layers and the group of an edit, for captions; a group for each layer where one of them has a name."""
    if len({known.of(layer, edit.group) for layer in edit.layers}) > 1:
        return ', '.join(f'{layer} {known.label(layer, edit.group)}' for layer in edit.layers)
    return f'{", ".join(edit.layers)}, {known.label(edit.layers[0], edit.group)}'

def _plain_sheet(images):
    """About as many rows as columns, and nothing between; a single image stays as it is."""
    return pictures.sheet(images, columns=int(np.ceil(np.sqrt(len(images)))), gap=0)

def _draw_difference(G, recipe, known, before, after, row_labels):
    """What was projected, where that is known, before, after, where pixels changed, and the attention map of each group
    that was edited. Returns an image."""
    found = recipe.projection(G)
    with noise_put_in(G, found.noise):
        maps = [attention.attention_maps(G, w)[1] for w in found.ws.split(1)] # Of the images before.
    edited = dict.fromkeys((name, edit.group) for edit in recipe.edits for name in edit.layers)
    change = torch.from_numpy(np.abs(after.astype(np.float32) - before).mean(axis=3)) # [NHW]
    columns = [before, after, pictures.heat_overlay(before, change)]
    columns += [pictures.heat_overlay(before, torch.cat([of_image[name][:, group] for of_image in maps]))
        for name, group in edited]
    names = ['before', 'after', 'changed pixels',
        *[f'attention of {name}, {known.label(name, group)}' for name, group in edited]]
    if found.target is not None:
        columns, names = [np.stack([found.target] * len(before)), *columns], ['target', *names]
    return pictures.strip(columns, ' | '.join(names), row_labels)

#----------------------------------------------------------------------------
