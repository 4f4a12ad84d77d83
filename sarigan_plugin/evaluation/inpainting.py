"""How well networks and classical methods fill holes, on images that nothing was trained on: Table 5."""

import contextlib
import dataclasses
import functools
import os

import numpy as np
import torch

from sarigan_plugin.datasets import check as dataset_check, listing, masks, splits
from sarigan_plugin.errors import UserError, first_line
from sarigan_plugin.evaluation import classical, fidelity, quality
from sarigan_plugin.features import detectors
from sarigan_plugin.model.inpainting import join_condition
from sarigan_plugin.steering import completion
from sarigan_plugin.support import files, pictures, tables
from sarigan_plugin.support.bars import progressbar

from training.dataset import ImageFolderDataset

BATCH       = 16    # Images that a network completes at once.
DRAWN       = 8     # Images in comparison.png.
TILE        = 96    # Pixels of each of them there, at least.
# And the Fréchet distance, see FrechetDistance.
MEASURES    = {'mae': 'MAE', 'hole_mae': 'MAE, hole', 'psnr_db': 'PSNR, dB', 'ssim': 'SSIM'}
DIGITS      = dict(mae=4, hole_mae=4, psnr_db=2, ssim=3, frechet=2)

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Task:
    """What has to be completed."""
    truth:  np.ndarray  # uint8 [N, R, R, C].
    holes:  np.ndarray  # bool [N, R, R].

#----------------------------------------------------------------------------
# Methods and images.

def make_methods(networks, baselines, seeds, trunc):
    """{name: [a function for each seed, which completes images [N, H, W, C] with holes [N, H, W]]}."""
    methods = dict()
    for method in baselines:
        try:
            classical.check(method)
        except classical.MissingPackage as error:
            raise UserError(f'--baselines: {error}') from None
        methods[method] = [lambda images, holes, method=method: [classical.fill(method, *pair)
            for pair in zip(images, holes)]]
    for name, G in networks.items():
        methods[name] = [lambda images, holes, G=G, seed=seed: _complete(G, images, holes, seed, trunc)
            for seed in seeds]
    return methods

def conditions(images, holes, device):
    """Labels [N, c_dim], see join_condition(), of images [N, R, R, C] in uint8 with holes, bool [N, R, R]."""
    known = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1 # [NCRR]
    return join_condition(known, torch.from_numpy(holes).to(device)[:, None])

def _complete(G, images, holes, seed, trunc):
    try:
        made = completion.synthesize(G, conditions(images, holes, next(G.parameters()).device), seed, trunc)
    except ValueError as error:
        raise UserError(f'PKL: {error}') from None
    return np.where(holes[..., None], pictures.to_uint8(made)[..., :images.shape[3]], images)

def read_task(data, split, mask_source, max_images=None, skip_bad_images=False):
    """The Task of a data set. split: one of splits.SPLITS. skip_bad_images: leave out images that can't be read, or of
    another shape. Raises UserError."""
    try:
        summary = dataset_check.check(data, skip_bad_images)
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
    listing.serve_upstream({data: summary.left_out})
    with contextlib.closing(ImageFolderDataset(data)) as dataset:
        try:
            images = [dataset[index][0].transpose(1, 2, 0) for index in indices]
        except Exception as error: # Decoders raise whatever they like on bad bytes.
            problem = f'{data} has an image that cannot be read ({first_line(error)}){dataset_check.mending(data)}'
            raise UserError(f'--data: {dataset_check.ended(problem)}') from None
    return Task(np.stack(images), np.stack([source.of_index(index) for index in indices]))

def check_shape(name, G, task):
    """Raise UserError unless the network completes such images."""
    shapes = {'PKL': (G.img_resolution, G.img_resolution, G.img_channels), '--data': task.truth.shape[1:]}
    if len(set(shapes.values())) > 1:
        said = {where: f'{width}x{height} with {channels} channel{"s" if channels > 1 else ""}'
            for where, (height, width, channels) in shapes.items()}
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

def write(outdir, methods, task, settings, device):
    """Measure methods, see make_methods(), and write the table and a picture into a folder that exists.

    settings: what was chosen, for the notes and table.json; its detector, a name or None, measures the distance.
    Returns (the table as text, paths of the files). Raises OSError.
    """
    distance = FrechetDistance(settings['detector'], task, device) if settings['detector'] is not None else None
    figures, drawn = _measure(methods, task, distance)
    if distance is not None:
        settings = dict(settings, frechet_floor=distance.floor)
    table = _markdown(figures, settings)
    paths = [os.path.join(outdir, name) for name in ['table.md', 'table.json', 'comparison.png']]
    files.write_text(paths[0], table)
    files.write_json(paths[1], dict(settings, methods=figures))
    pictures.save(_draw(task, drawn, _caption(settings)), paths[2])
    return table, paths

def _measure(methods, task, distance=None):
    """({method: {measure: mean over seeds, measure_std: over seeds}}, {method: the first images,
    completed with the first seed})."""
    figures, drawn = dict(), dict()
    count = sum(map(len, methods.values())) * len(task.truth)
    with progressbar(length=count * (1 if distance is None else 2),
            label='Completing' if distance is None else 'Completing and looking') as bar:
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
            figures[name] = {**{key: float(np.mean(value)) for key, value in values.items()},
                **{f'{key}_std': float(np.std(value)) for key, value in values.items() if len(value) > 1}}
    return figures, drawn

def measure(images, task, distance=None):
    """The MEASURES of completed images, uint8 [N, R, R, C].

    Pixels of all images count alike, except in SSIM, which is a mean of images.

    distance: a FrechetDistance to measure `frechet` as well.
    """
    found = dict(mae=fidelity.mean_absolute_error(images, task.truth).mean(),
        hole_mae=np.average(fidelity.mean_absolute_error(images, task.truth, task.holes),
            weights=task.holes.mean(axis=(1, 2))),
        psnr_db=fidelity.psnr(fidelity.mean_squared_error(images, task.truth).mean()),
        ssim=fidelity.ssim(images, task.truth).mean())
    return found if distance is None else dict(found, frechet=distance(images))

def _markdown(figures, settings):
    columns = dict(MEASURES)
    notes = [f'{settings["images"]} images; {_caption(settings)}']
    if settings['detector'] is not None:
        columns['frechet'] = detectors.title(settings['detector'])
        notes.append(f'{columns["frechet"]}: Fréchet distance to the true images, 0 for these themselves; '
            f'two sets of so many true images are {settings["frechet_floor"]:.{DIGITS["frechet"]}f} apart')
    rows = [['Method', *columns.values()]]
    for name, of_method in figures.items():
        rows.append([name, *(f'{of_method[key]:.{DIGITS[key]}f}' + (f' ± {of_method[f"{key}_std"]:.{DIGITS[key]}f}'
            if f'{key}_std' in of_method else '') for key in columns)])
    return '\n'.join([tables.markdown(rows), '', *notes, ''])

def _caption(settings):
    return (f'{splits.SPLITS[settings["split"]]} of {os.path.basename(os.path.normpath(settings["data"]))}, holes: '
        f'{settings["masks"]}')

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
