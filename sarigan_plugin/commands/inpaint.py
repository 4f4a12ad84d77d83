"""`sarigan inpaint`: a folder of images with holes, completed (Section 4.3)."""

import os

import click

from sarigan_plugin.commands.options import PATH, Number, NumberRange, device_option, linked_option, trust_option
from sarigan_plugin.commands.sections import SectionedCommand
from sarigan_plugin.datasets import masks
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.steering import completion
from sarigan_plugin.support import pictures

#----------------------------------------------------------------------------

@click.command('inpaint', cls=SectionedCommand)
@click.argument('network', type=PATH, metavar='PKL')
@click.option('--images', 'source', help='Images with holes: a folder, or one file', required=True, type=PATH,
    metavar='DIR|FILE')
@click.option('--masks', 'mask_source', help='Where the holes are: '
    'a folder of masks named as the images, white = hole; one mask for all; or made-up holes, '
    f'{", ".join(masks.KINDS)}  [default: where images are transparent]', type=PATH, metavar='DIR|FILE|KIND')
@click.option('--outdir',       help='Where to save the results', required=True, type=PATH, metavar='DIR')
@click.option('--seeds',        help='Random seeds, e.g. 0-3: '
                                'each fills the holes in another way  [default: 0, or the recipe\'s]',
                                type=NumberRange())
@click.option('--trunc',        help='Truncation psi: '
                                'lower is nearer to the average  [default: 1, or the recipe\'s]', type=Number())
@click.option('--recipe',       help='Edit channel groups of what fills the holes: '
                                'a recipe as `sarigan explore` saves it, or as below', type=PATH, metavar='JSON')
@linked_option
@trust_option
@device_option
@click.pass_context
def inpaint_command(ctx, network, source, mask_source, outdir, seeds, trunc, recipe, linked, trust, device):
    """Fill holes in images, in as many ways as you give seeds.

    PKL is a network from `sarigan train --cfg=sarigan-inpaint` or `--cfg=tiny-inpaint`.

    \b
    sarigan inpaint network.pkl --images=photos --masks=masks --outdir=out/a --seeds=0-3
    sarigan inpaint network.pkl --images=cut-out.png --outdir=out/b --recipe=edit.json

    Writes a PNG of the image's size for each image and seed, as photo-seed0003.png. Known pixels stay as they are;
    16-bit ones keep their upper 8 bits. The network sees the whole image at its own size, and only the filled hole
    comes back: in images much larger than the network it is softer than what is around it.

    \b
    A recipe that doubles one group; it may also have "seeds" and "trunc":
      {"version": 2, "edits": [{"layers": ["b16.conv0"], "group": 3, "inter_scale": 2}]}

    Images that fail are skipped and listed at the end, with the reason. The exit code is then 1, or 2 if all failed.
    """
    G = completion.load(network, 'PKL', device, trust, linked)
    edits, *otherwise = _read_recipe(recipe, G) if recipe is not None else ((), completion.SEEDS, completion.TRUNC)
    seeds, trunc = (default if given is None else given for given, default in zip([seeds, trunc], otherwise))
    paths = _image_paths(source)
    total = len(paths)
    find_hole = _hole_finder(mask_source, G.img_resolution)
    if os.path.isdir(source) and os.path.exists(outdir) and os.path.samefile(source, outdir):
        raise UserError('--outdir: it is the folder of --images, '
            'where results would be taken for images the next time; choose another one.')

    paths, failures = _different_names(paths)
    with writing('--outdir', outdir):
        os.makedirs(outdir, exist_ok=True)
        with click.progressbar(length=len(paths) * len(seeds), label='Inpainting') as bar:
            for index, path in enumerate(paths):
                try:
                    for seed, done in _completions(G, index, path, find_hole, seeds, trunc, edits):
                        pictures.save(done, os.path.join(outdir, f'{_stem(path)}-seed{seed:04d}.png'))
                        bar.update(1)
                except ValueError as error:
                    failures.append(str(error))
                    bar.update((index + 1) * len(seeds) - bar.pos)

    click.echo(f'{total - len(failures)} of {total} images, {len(seeds)} of each, in {click.format_filename(outdir)}')
    if failures:
        click.echo('\n'.join([f'Left out, {len(failures)}:', *(f'  {reason}' for reason in failures)]), err=True)
        ctx.exit(2 if len(failures) == total else 1)

#----------------------------------------------------------------------------
# From options to images and holes.

def _read_recipe(path, G):
    """Its edits, seeds and truncation."""
    try:
        recipe = completion.read_recipe(path, G)
        return recipe.edits, recipe.seeds, recipe.trunc
    except ValueError as error:
        raise UserError(f'--recipe: {path!r}: {error}') from None

def _image_paths(source):
    if os.path.isfile(source):
        return [source]
    try:
        return pictures.files_in(source)
    except ValueError as error:
        raise UserError(f'--images: {error}') from None

def _stem(path):
    return os.path.splitext(os.path.basename(path))[0]

def _different_names(paths):
    """The images whose results have names of their own, and for each other one a sentence."""
    first = dict()
    for path in paths:
        first.setdefault(_stem(path), path)
    return list(first.values()), [f'{path!r} would have results of the same names as {first[_stem(path)]!r}.'
        for path in paths if first[_stem(path)] != path]

def _hole_finder(source, resolution):
    """A function of the index and the path of an image, and of the image itself,
    that returns its hole or raises ValueError."""
    if source is None:
        return lambda _index, path, photo: masks.check(completion.transparent(photo), f'{path!r} without a mask')
    if source in masks.KINDS:
        return lambda index, path, photo: masks.check(masks.resized(masks.of_index(source, resolution, index),
            photo.height, photo.width), f'{path!r} with a mask of the kind {source}')
    try:
        if os.path.isdir(source):
            files = {_stem(path): path for path in pictures.files_in(source)}
            return lambda _index, path, photo: _read_hole(files.get(_stem(path)), source, path, photo)
        masks.read(source)
    except ValueError as error:
        raise UserError(f'--masks: {error} It may be a folder, a file, or one of {", ".join(masks.KINDS)}.') from None
    return lambda _index, path, photo: _read_hole(source, source, path, photo)

def _read_hole(mask_path, source, path, photo):
    if mask_path is None:
        raise ValueError(f'{path!r} has no mask of its name in {source!r}.')
    hole = masks.read(mask_path)
    if hole.shape != (photo.height, photo.width):
        raise ValueError(f'{path!r} is {photo.width}x{photo.height}, '
            f'but its mask {mask_path!r} is {hole.shape[1]}x{hole.shape[0]}.')
    return hole

#----------------------------------------------------------------------------

def _completions(G, index, path, find_hole, seeds, trunc, edits):
    """Each seed with the completed image. Raises ValueError with a sentence that names the image."""
    photo = completion.read_photo(path)
    hole = find_hole(index, path, photo)
    for seed in seeds:
        try:
            yield seed, completion.complete(G, photo, hole, seed, trunc, edits)
        except ValueError as error:
            raise ValueError(f'{path!r}: {error}') from None

#----------------------------------------------------------------------------
