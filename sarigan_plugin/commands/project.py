"""`sarigan project`: a photo into the generator's codes, the pictures and figures of it."""

import os

import click
import numpy as np
import PIL.Image
import torch

from sarigan_plugin.commands.options import PATH, class_options, device_option, require_class, trust_option
from sarigan_plugin.commands.sections import SectionedCommand
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.evaluation import fidelity
from sarigan_plugin.features import perceptual
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import projector
from sarigan_plugin.steering.sampling import MAX_SEED, labels
from sarigan_plugin.support import files, pictures

NAMES   = {'w': 'W', 'w+': 'W+', 'noise': '+ noise'} # Of projector.stages().
TILE    = 192   # Pixels of each picture in projection.png, at least.
GAIN    = 4     # Of the difference, which is hard to see otherwise.
FRAMES  = 120   # Of the video, about.
FPS     = 24    # Frames per second.

#----------------------------------------------------------------------------

@click.command('project', cls=SectionedCommand, sections={
    'How to look': '--space --num-steps --features --noise --seed'})
@click.argument('network', type=PATH, metavar='PKL')
@click.option('--target',           help='The image to project, of any size. Its centre is cropped to a square; '
                                    'transparent parts become white', required=True, type=PATH, metavar='FILE')
@click.option('--outdir',           help='Where to save the projection', required=True, type=PATH, metavar='DIR')
@click.option('--space',            help='Find one code for all layers, or go on from it to one per layer',
                                    type=click.Choice(projector.SPACES), default='w+', show_default=True)
@click.option('--num-steps',        help='Optimisation steps for the codes of each space, and for the noise',
                                    type=click.IntRange(min=1), default=projector.NUM_STEPS, show_default=True)
@click.option('--features', 'choice', help='What images are compared by, beside pixels: '
                                    'vgg, NVIDIA\'s VGG16 (downloads 550 MB); lite0, EfficientNet-Lite0; '
    'a TorchScript file; none; auto: vgg if it is on this machine, else lite0', default='auto',
    show_default=True, type=PATH, metavar='auto|vgg|lite0|none|PATH')
@click.option('--noise/--no-noise', 'fit_noise',
    help='Also fit the noise maps, or keep the network\'s', default=True, show_default=True)
@class_options()
@click.option('--seed',             help='Random seed', type=click.IntRange(0, MAX_SEED), default=0, show_default=True)
@click.option('--video',            help='Also save a video of the optimisation', is_flag=True)
@trust_option
@device_option
def project_command(network, target, outdir, choice, class_idx, video, trust, device, **settings):
    """Find a photo's codes in a SariGAN or StyleGAN2-ADA network, so that you can edit it.

    \b
    sarigan project network.pkl --target=photo.jpg --outdir=out/p
    sarigan edit network.pkl --projected-w=out/p/projected_w.npz --layer=b16.conv0 --group=3 --inter=2 --outdir=out/a

    \b
    Writes into DIR:
      projection.png         look here first: the photo beside what the network makes of it, with figures
      projected_w.npz        codes and noise maps, for --projected-w. Upstream's generate.py reads the codes alone.
      target.png, proj.png   the photo and its projection, at the network's size
      project.json           settings and figures
      video.mp4, video.png   with --video; an animated PNG unless imageio-ffmpeg is installed
    """
    G = reading.load(network, 'PKL', device, trust)
    require_class(G, class_idx)
    try:
        picture = projector.read_target(target, G.img_resolution, G.img_channels)
    except ValueError as error:
        raise UserError(f'--target: {error}') from None
    try:
        features = perceptual.load(choice, device)
    except ValueError as error:
        raise UserError(f'--features: {error}') from None
    if features is None and choice == 'auto':
        click.echo('Warning: pixels alone are compared, as neither vgg nor lite0 is on this machine; '
            'see --features.', err=True)

    with writing('--outdir', outdir):
        os.makedirs(outdir, exist_ok=True)
        last, frames = _optimise(G, picture, features, device, FRAMES if video else 0,
            labels(G, 1, class_idx if G.c_dim > 0 else None), settings)
        images = {stage: pictures.to_uint8(step.projection.synthesize(G))[0] for stage, step in last.items()}
        figures = {stage: dict(compare(image, picture, features, device), seconds=round(last[stage].seconds, 1))
            for stage, image in images.items()}
        named = dict(network=network, target=target, features='none' if features is None else features.name,
            class_idx=class_idx)
        *_others, final = last.values()
        for path in _write_all(outdir, picture, final.projection, images,
                dict(named, **settings, stages=figures), frames):
            click.echo(click.format_filename(path))
    _print_table(figures)

#----------------------------------------------------------------------------

def compare(image, target, features=None, device='cpu'):
    """How far two images are apart, uint8 [H, W, 3]: a dict of the mean squared difference in levels of 256, PSNR in dB
    (None for equal images), and perceptual distance (None without features, which are on `device`)."""
    mse = float(fidelity.mean_squared_error(image[np.newaxis], target[np.newaxis])[0])
    distance = None
    if features is not None:
        with torch.no_grad():
            distance = float(perceptual.distance(*(features(_to_tensor(x, device)) for x in [image, target])))
    return dict(mse=mse * 255 ** 2, psnr_db=float(fidelity.psnr(mse)) if mse > 0 else None,
        perceptual_distance=distance)

def _to_tensor(image, device):
    """uint8 [H, W, C] -> [1, C, H, W] in [-1, 1]."""
    return torch.from_numpy(image).to(device).permute(2, 0, 1)[None].to(torch.float32) / 127.5 - 1

def _optimise(G, picture, features, device, num_frames, c, settings):
    """Run project.steps() with a progress bar. Returns ({stage: its last Step}, frames of the video)."""
    target = _to_tensor(picture, device)[:, : G.img_channels]
    num_steps = settings['num_steps'] * len(projector.stages(G, settings['space'], settings['fit_noise']))
    last, frames = dict(), []
    with click.progressbar(projector.steps(G, target, features, c=c, **settings), length=num_steps, label='Projecting',
            item_show_func=lambda step: f'{NAMES[step.stage]} loss {step.loss:.4f}' if step is not None
            else '') as steps:
        for number, step in enumerate(steps):
            if not np.isfinite(step.loss):
                raise UserError('PKL: its images are not finite.')
            last[step.stage] = step
            if num_frames and (number % max(num_steps // num_frames, 1) == 0 or number == num_steps - 1):
                image = pictures.to_uint8(step.projection.synthesize(G))[0]
                frames.append(pictures.sheet(pictures.enlarge(np.stack([picture, image]), 256), columns=2, gap=0))
    return last, frames

#----------------------------------------------------------------------------

def _write_all(outdir, picture, projection, images, description, frames):
    """Write all files into an existing folder. Returns their paths."""
    path = lambda name: os.path.join(outdir, name)
    *_others, final = images.values()
    projection.write(path('projected_w.npz'))
    drawn = {
        'target.png':       PIL.Image.fromarray(picture),
        'proj.png':         PIL.Image.fromarray(final),
        'projection.png':   _draw(picture, images, description),
    }
    for name, image in drawn.items():
        pictures.save(image, path(name))
    files.write_json(path('project.json'), description)
    paths = list(map(path, ['projected_w.npz', *drawn, 'project.json']))
    if frames:
        paths.append(pictures.save_video(path('video'), frames, FPS))
    return paths

def _draw(picture, images, description):
    """The target, what each stage came to, and how the last differs, beside each other."""
    *_others, final = images.values()
    difference = np.minimum(np.abs(final.astype(int) - picture) * GAIN, 255).astype(np.uint8)
    captions = []
    for stage in images:
        psnr, distance, _seconds = _texts(description['stages'][stage])
        captions.append(f'{NAMES[stage]}: {psnr}' + (f', distance {distance}' if distance != '-' else ''))
    tiles = pictures.enlarge(np.stack([picture, *images.values(), difference]), TILE)
    names = ['target', *captions, f'difference x {GAIN}']
    return pictures.mosaic([pictures.caption(PIL.Image.fromarray(tile), name) for tile, name in zip(tiles, names)],
        columns=len(tiles))

def _texts(figures):
    """PSNR, perceptual distance and seconds, for people."""
    psnr, distance = figures['psnr_db'], figures['perceptual_distance']
    return ('exact' if psnr is None else f'{psnr:.1f} dB', '-' if distance is None else f'{distance:.4f}',
        f'{figures["seconds"]:.0f}')

def _print_table(figures):
    click.echo('\nStage        PSNR  Perceptual distance  Seconds')
    for stage, row in figures.items():
        psnr, distance, seconds = _texts(row)
        click.echo(f'{NAMES[stage]:<8}{psnr:>9}{distance:>21}{seconds:>9}')

#----------------------------------------------------------------------------
