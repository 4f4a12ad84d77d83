"""`sarigan inpaint-table`: Table 5 for networks of one's own, beside classical methods, on images that nothing was trained on."""

import contextlib
import dataclasses
import functools
import os

import click
import numpy as np
import torch
from training.dataset import ImageFolderDataset

from sarigan_plugin.commands.options import PATH
from sarigan_plugin.datasets import check as dataset_check
from sarigan_plugin.datasets import listing
from sarigan_plugin.datasets import masks
from sarigan_plugin.datasets import splits
from sarigan_plugin.errors import first_line, UserError, writing
from sarigan_plugin.evaluation import classical
from sarigan_plugin.evaluation import fidelity
from sarigan_plugin.evaluation import quality
from sarigan_plugin.features import detectors
from sarigan_plugin.model.inpainting import join_condition
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import completion
from sarigan_plugin.steering.sampling import Choices, Number, NumberRange, device_option
from sarigan_plugin.support import files
from sarigan_plugin.support import pictures
from sarigan_plugin.support import tables

BATCH       = 16    # Images that a network completes at once.
DRAWN       = 8     # Images in comparison.png.
TILE        = 96    # Pixels of each of them there, at least.
MEASURES    = {'mae': 'MAE', 'hole_mae': 'MAE, hole', 'psnr_db': 'PSNR, dB', 'ssim': 'SSIM'} # And the Fréchet distance, see FrechetDistance.
DIGITS      = dict(mae=4, hole_mae=4, psnr_db=2, ssim=3, frechet=2)

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Task:
    """What has to be completed."""
    truth:  np.ndarray  # uint8 [N, R, R, C].
    holes:  np.ndarray  # bool [N, R, R].

@click.command('inpaint-table')
@click.argument('networks', type=PATH, metavar='[PKL]...', nargs=-1)
@click.option('--data',         help='Data set, a zip or a folder', required=True, type=PATH, metavar='ZIP')
@click.option('--split',        help='Which of its images are completed; held-out = the last tenth', type=click.Choice(list(splits.SPLITS)), default='held-out', show_default=True)
@click.option('--outdir',       help='Where to save the table', required=True, type=PATH, metavar='DIR')
@click.option('--masks', 'mask_source', help=f'Kind of holes, {", ".join(masks.KINDS)}, the same ones for the same images every time, or a folder of masks', default='mixed', show_default=True, type=PATH, metavar='KIND|DIR')
@click.option('--seeds',        help='Random seeds of the networks: figures are means over them', type=NumberRange(), default='0-3', show_default=True)
@click.option('--trunc',        help='Truncation psi of the networks', type=Number(), default=1, show_default=True)
@click.option('--baselines',    help=f'Classical methods to compare with, {",".join(classical.METHODS)}, or none  [default: all that are installed]', type=Choices(classical.METHODS, 'a classical method', or_none=True), metavar='NAME,...')
@click.option('--detector',     help=f'Network in whose features the Fréchet distance to the true images is, {", ".join(detectors.NAMES)}, a TorchScript file, or none  [default: lite0 where it is installed]', type=PATH, metavar='NAME|PATH')
@click.option('--max-images',   help='Measure the first so many of them alone', type=click.IntRange(min=1))
@reading.trust_option
@device_option
def inpaint_table(networks, data, split, outdir, mask_source, seeds, trunc, baselines, detector, max_images, trust, device):
    """Measure how near completed images come to the true ones, for networks and for classical methods.

    The images should be none of those that the networks were trained on.

    \b
    sarigan inpaint-table sarigan.pkl stylegan2.pkl --data=photos.zip --outdir=out/table

    \b
    MAE        mean absolute error of levels in [0, 1], over whole images (Table 5) and over the holes
    PSNR       of the mean squared error of all images
    SSIM       with the Gaussian window of 11 pixels of Wang et al.
    FD         Frechet distance of completed images to the true ones, 0 for the true ones themselves; FID with Inception

    \b
    DIR gets:
      table.md, table.json   the figures; +- is the standard deviation over seeds
      comparison.png         holes, what each method makes of them, and the truth, for the first eight images
    """
    paths = tables.short_names(networks)
    loaded, trained_on = dict(), dict()
    for name, path in paths.items():
        loaded[name], trained_on[name] = completion.load_with_data_set(path, 'PKL', device, trust)
    if baselines is None:
        baselines = _installed_baselines()
    methods = _methods(loaded, baselines, seeds, trunc)
    task = read_task(data, split, mask_source, max_images)
    detector = _choose_detector(detector, len(task.truth))
    for name, G in loaded.items():
        _check_shape(name, G, task)
    for name, path in paths.items():
        _warn_of_training(path, trained_on[name], data, split)
    if not methods:
        raise UserError('PKL: give one network at least, or --baselines.')

    with writing('--outdir', outdir):
        os.makedirs(outdir, exist_ok=True)
        distance = FrechetDistance(detector, task, device) if detector is not None else None
        figures, drawn = _measure(methods, task, distance)
        settings = dict(data=data, split=split, images=len(task.truth), masks=mask_source, seeds=seeds, trunc=trunc, networks=paths, detector=detector)
        if distance is not None:
            settings.update(frechet_floor=distance.floor)
        table = _markdown(figures, settings)
        pictures.save(_draw(task, drawn, _caption(settings)), os.path.join(outdir, 'comparison.png'))
        files.write_text(os.path.join(outdir, 'table.md'), table)
        files.write_json(os.path.join(outdir, 'table.json'), dict(settings, methods=figures))
    click.echo(f'\n{table}')
    for name in ['table.md', 'table.json', 'comparison.png']:
        click.echo(click.format_filename(os.path.join(outdir, name)))

#----------------------------------------------------------------------------
# From options to methods and images.

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
    problem = f'it needs {quality.MIN_COUNT} images at least, and there are {num_images}.' if num_images < quality.MIN_COUNT else None
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

def _methods(networks, baselines, seeds, trunc):
    """{name: [a function for each seed, which completes images [N, H, W, C] with holes [N, H, W]]}."""
    methods = dict()
    for method in baselines:
        try:
            classical.check(method)
        except classical.MissingPackage as error:
            raise UserError(f'--baselines: {error}') from None
        methods[method] = [lambda images, holes, method=method: [classical.fill(method, *pair) for pair in zip(images, holes)]]
    for name, G in networks.items():
        methods[name] = [lambda images, holes, G=G, seed=seed: _complete(G, images, holes, seed, trunc) for seed in seeds]
    return methods

def _complete(G, images, holes, seed, trunc):
    device = next(G.parameters()).device
    known = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1 # [NCRR]
    try:
        made = completion.synthesize(G, join_condition(known, torch.from_numpy(holes).to(device)[:, None]), seed, trunc)
    except ValueError as error:
        raise UserError(f'PKL: {error}') from None
    return np.where(holes[..., None], pictures.to_uint8(made)[..., :images.shape[3]], images)

def read_task(data, split, mask_source, max_images=None):
    """The Task of a data set. split: one of splits.SPLITS. Raises UserError."""
    try:
        summary = dataset_check.check(data)
    except ValueError as error:
        raise UserError(f'--data: {dataset_check.ended(error)}') from None
    try:
        indices = splits.indices(summary.count, split)[:max_images]
    except ValueError as error:
        raise UserError(f'--split={split}: {error}.') from None
    try:
        source = masks.Source(mask_source, summary.resolution)
    except ValueError as error:
        raise UserError(f'--masks: {error} It may be a folder, or one of {", ".join(masks.KINDS)}.') from None
    listing.serve_upstream()
    with contextlib.closing(ImageFolderDataset(data)) as dataset:
        try:
            images = [dataset[index][0].transpose(1, 2, 0) for index in indices]
        except Exception as error: # pylint: disable=broad-except # Decoders raise whatever they like on bad bytes.
            problem = f'{data} has an image that cannot be read ({first_line(error)}){dataset_check.mending(data)}'
            raise UserError(f'--data: {dataset_check.ended(problem)}') from None
    return Task(np.stack(images), np.stack([source.of_index(index) for index in indices]))

def _warn_of_training(path, trained_on, data, split):
    """Say so where a network has seen the images in training. trained_on: its training_set_kwargs."""
    if (trained_on.get('split'), split) == ('train', 'held-out'):
        return
    where = trained_on.get('path')
    if where is not None and os.path.exists(where) and os.path.samefile(where, data):
        click.echo(f'Warning: {path} was trained on images of {data}, perhaps on those that are completed.', err=True)

def _check_shape(name, G, task):
    """Raise UserError unless the network completes such images."""
    shapes = {'PKL': (G.img_resolution, G.img_resolution, G.img_channels), '--data': task.truth.shape[1:]}
    if len(set(shapes.values())) > 1:
        said = {where: f'{width}x{height} with {channels} channel{"s" if channels > 1 else ""}' for where, (height, width, channels) in shapes.items()}
        raise UserError(f'PKL: {name} completes {said["PKL"]}, but --data has {said["--data"]}.')

#----------------------------------------------------------------------------
# From images to figures.

class FrechetDistance:
    """Of completed images to the true ones of a task, in the features of a detector."""
    def __init__(self, detector, task, device):
        self.detector = detectors.load(detector, device)
        self.device = device
        self.truth = self._features(task.truth)
        self.floor = quality.frechet_floor(self.truth, device)

    def __call__(self, images, done=lambda count: None):
        """uint8 [N, R, R, C] -> float. done: is told how many images were looked at."""
        return quality.frechet_distance(self.truth, self._features(images, done), self.device)

    def _features(self, images, *done):
        return detectors.features_of(self.detector, images, self.device, *done)

def _measure(methods, task, distance=None):
    """({method: {measure: mean over seeds, measure_std: over seeds}}, {method: the first images, completed with the first seed})."""
    figures, drawn = dict(), dict()
    count = sum(map(len, methods.values())) * len(task.truth)
    with click.progressbar(length=count * (1 if distance is None else 2), label='Completing' if distance is None else 'Completing and looking') as bar:
        looking = distance and functools.partial(distance, done=bar.update)
        for name, completers in methods.items():
            of_seeds = []
            for complete in completers:
                images = np.empty_like(task.truth)
                for first in range(0, len(images), BATCH):
                    batch = slice(first, first + BATCH)
                    images[batch] = complete(task.truth[batch], task.holes[batch])
                    bar.update(len(images[batch]))
                of_seeds.append(measure(images, task, looking))
                drawn.setdefault(name, images[:DRAWN])
            values = {key: [of_seed[key] for of_seed in of_seeds] for key in of_seeds[0]}
            figures[name] = {**{key: float(np.mean(value)) for key, value in values.items()}, **{f'{key}_std': float(np.std(value)) for key, value in values.items() if len(value) > 1}}
    return figures, drawn

def measure(images, task, distance=None):
    """The MEASURES of completed images, uint8 [N, R, R, C]. Pixels of all images count alike, except in SSIM, which is a mean of images.

    distance: a FrechetDistance to measure `frechet` as well.
    """
    found = dict(mae=fidelity.mean_absolute_error(images, task.truth).mean(),
        hole_mae=np.average(fidelity.mean_absolute_error(images, task.truth, task.holes), weights=task.holes.mean(axis=(1, 2))),
        psnr_db=fidelity.psnr(fidelity.mean_squared_error(images, task.truth).mean()), ssim=fidelity.ssim(images, task.truth).mean())
    return found if distance is None else dict(found, frechet=distance(images))

def _markdown(figures, settings):
    columns = dict(MEASURES)
    notes = [f'{settings["images"]} images; {_caption(settings)}']
    if settings['detector'] is not None:
        columns['frechet'] = detectors.title(settings['detector'])
        notes.append(f'{columns["frechet"]}: Fréchet distance to the true images, 0 for these themselves; two sets of so many true images are {settings["frechet_floor"]:.{DIGITS["frechet"]}f} apart')
    rows = [['Method', *columns.values()]]
    for name, of_method in figures.items():
        rows.append([name, *(f'{of_method[key]:.{DIGITS[key]}f}' + (f' ± {of_method[f"{key}_std"]:.{DIGITS[key]}f}' if f'{key}_std' in of_method else '') for key in columns)])
    return '\n'.join([tables.markdown(rows), '', *notes, ''])

def _caption(settings):
    return f'{splits.SPLITS[settings["split"]]} of {os.path.basename(os.path.normpath(settings["data"]))}, holes: {settings["masks"]}'

def _draw(task, drawn, title):
    """Holes, what each method made of them, and the truth, a row for each image. Returns an image.

    drawn: {method: uint8 [N, R, R, C]}. Pickles are numbered: their paths are as wide as several columns.
    """
    truth, holes = task.truth[:DRAWN], task.holes[:DRAWN]
    squares = (np.indices(truth.shape[1:3]) // max(truth.shape[1] // 16, 1)).sum(axis=0)
    board = np.where(squares % 2, 204, 255).astype(np.uint8)[None, ..., None] # As pictures show what is transparent.
    columns = {'holes': np.where(holes[..., None], board, truth), **drawn, 'truth': truth}
    tiles = np.stack([images.repeat(3 // images.shape[3], axis=3) for images in columns.values()], axis=1)
    tiles = pictures.enlarge(tiles.reshape(-1, *tiles.shape[2:]), TILE)
    width = tiles.shape[1] + 2
    networks = [name for name in drawn if name not in classical.METHODS]
    labels = [f'network {networks.index(name) + 1}' if name in networks else name for name in columns]
    return pictures.caption(pictures.sheet(tiles, len(columns)), title, column_labels=labels, column_width=width)

#----------------------------------------------------------------------------
