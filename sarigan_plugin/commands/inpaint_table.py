"""`sarigan inpaint-table`: Table 5 for networks of one's own, beside classical methods."""

import os

import click

from sarigan_plugin.commands.options import PATH, Choices, Number, NumberRange, device_option, skip_option, trust_option
from sarigan_plugin.commands.sections import SectionedCommand
from sarigan_plugin.datasets import masks, splits
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.evaluation import classical, inpainting, quality
from sarigan_plugin.features import detectors
from sarigan_plugin.steering import completion
from sarigan_plugin.support import tables

#----------------------------------------------------------------------------

@click.command('inpaint-table', cls=SectionedCommand)
@click.argument('networks', type=PATH, metavar='[PKL]...', nargs=-1)
@click.option('--data',         help='Data set, a zip or a folder', required=True, type=PATH, metavar='ZIP')
@click.option('--split',        help='Which of its images to complete; held-out = the last tenth',
    type=click.Choice(list(splits.SPLITS)), default='held-out', show_default=True)
@click.option('--outdir',       help='Where to save the table', required=True, type=PATH, metavar='DIR')
@click.option('--masks', 'mask_source', help=f'Kind of holes, {", ".join(masks.KINDS)} (an image gets the same hole '
    'every time), or a folder of masks', default='mixed', show_default=True, type=PATH, metavar='KIND|DIR')
@click.option('--seeds',        help='Random seeds of the networks; figures are means over them', type=NumberRange(),
    default='0-3', show_default=True)
@click.option('--trunc',        help='Truncation psi of the networks', type=Number(), default=1, show_default=True)
@click.option('--baselines',    help=f'Classical methods to compare with: {", ".join(classical.METHODS)}, or none'
    '  [default: all that are installed]', type=Choices(classical.METHODS, 'a classical method', or_none=True),
    metavar='NAME,...')
@click.option('--detector',     help='Network whose features the Fréchet distance is measured in: '
    f'{", ".join(detectors.NAMES)}, a TorchScript file, or none  [default: lite0 if it is installed]', type=PATH,
    metavar='NAME|PATH')
@click.option('--max-images',   help='Use only the first so many images', type=click.IntRange(min=1))
@skip_option
@trust_option
@device_option
def inpaint_table_command(networks, data, split, outdir, mask_source, seeds, trunc, baselines, detector, max_images,
        skip_bad_images, trust, device):
    """Measure how well networks fill holes, beside classical methods (Table 5).

    Use images that the networks were not trained on.

    \b
    sarigan inpaint-table sarigan.pkl stylegan2.pkl --data=photos.zip --outdir=out/table

    \b
    MAE        mean absolute error of levels in [0, 1], over whole images (Table 5) and over the holes
    PSNR       of the mean squared error of all images
    SSIM       with the Gaussian window of 11 pixels of Wang et al.
    FD         Frechet distance between completed and true images; FID with --detector=inception

    \b
    Writes into DIR:
      table.md, table.json   the figures; +- is the standard deviation over seeds
      comparison.png         the first eight images: hole, what each method made of it, truth
    """
    paths = tables.short_names(networks)
    loaded, trained_on = dict(), dict()
    for name, path in paths.items():
        loaded[name], trained_on[name] = completion.load_with_data_set(path, 'PKL', device, trust)
    if baselines is None:
        baselines = _installed_baselines()
    methods = inpainting.make_methods(loaded, baselines, seeds, trunc)
    task = inpainting.read_task(data, split, mask_source, max_images, skip_bad_images)
    detector = _choose_detector(detector, len(task.truth))
    for name, G in loaded.items():
        inpainting.check_shape(name, G, task)
    for name, path in paths.items():
        _warn_of_training(path, trained_on[name], data, split)
    if not methods:
        raise UserError('PKL: give one network at least, or --baselines.')

    settings = dict(data=data, split=split, images=len(task.truth), masks=mask_source, seeds=seeds, trunc=trunc,
        networks=paths, detector=detector)
    with writing('--outdir', outdir):
        os.makedirs(outdir, exist_ok=True)
        table, written = inpainting.write(outdir, methods, task, settings, device)
    click.echo(f'\n{table}')
    for path in written:
        click.echo(click.format_filename(path))

#----------------------------------------------------------------------------

def _installed_baselines():
    installed = []
    for method in classical.METHODS:
        try:
            classical.check(method)
            installed.append(method)
        except classical.MissingPackage as error:
            click.echo(f'Warning: {error}', err=True)
    return installed

def _choose_detector(choice, num_images):
    """The detector that was asked for, or lite0 where that is here; None for none. Raises UserError."""
    if choice == 'none':
        return None
    problem = None
    if num_images < quality.MIN_COUNT:
        problem = f'it needs {quality.MIN_COUNT} images at least, and there are {num_images}.'
    if choice is not None and problem is not None:
        raise UserError(f'--detector: the Fréchet distance is not measured: {problem}')
    try:
        quality.require_detector(choice or 'lite0')
    except UserError as error:
        if choice is not None:
            raise
        problem = error.message.removeprefix('--detector: ')
    if problem is not None:
        click.echo(f'Warning: the Fréchet distance is not measured: {problem}', err=True)
        return None
    return choice or 'lite0'

def _warn_of_training(path, trained_on, data, split):
    """Say so where a network has seen the images in training. trained_on: its training_set_kwargs."""
    if (trained_on.get('split'), split) == ('train', 'held-out'):
        return
    where = trained_on.get('path')
    if where is not None and os.path.exists(where) and os.path.samefile(where, data):
        click.echo(f'Warning: {path} was trained on images of {data}, perhaps on those that are completed.', err=True)

#----------------------------------------------------------------------------
