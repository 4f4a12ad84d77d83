"""`sarigan generate`: images from a network pickle, with the options of upstream's generate.py."""

import os

import click
import PIL.Image

from sarigan_plugin.commands.options import (
    PATH,
    Number,
    NumberRange,
    class_options,
    device_option,
    require_class,
    trust_option,
)
from sarigan_plugin.commands.sections import SectionedCommand
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering.projection import Projection, noise_put_in
from sarigan_plugin.steering.sampling import render, sample_ws
from sarigan_plugin.support import pictures

#----------------------------------------------------------------------------

@click.command('generate', cls=SectionedCommand)
@click.option('--network',      help='Network pickle, file or URL, or exported folder', required=True,
                                type=PATH, metavar='PATH')
@click.option('--seeds',        help='Random seeds, e.g. 0-35 or 1,5,7', type=NumberRange())
@click.option('--trunc',        help='Truncation psi', type=Number(), default=1, show_default=True)
@class_options()
@click.option('--noise-mode',   help='Noise mode', type=click.Choice(['const', 'random', 'none']), default='const',
    show_default=True)
@click.option('--projected-w',  help='Codes from `sarigan project` or projector.py, instead of seeds', type=PATH,
    metavar='NPZ')
@trust_option
@device_option
@click.option('--outdir',       help='Where to save the images', required=True, type=PATH, metavar='DIR')
def generate_command(network, seeds, trunc, class_idx, noise_mode, projected_w, trust, device, outdir):
    """Generate images with a SariGAN or StyleGAN2-ADA network, one PNG per seed.

    \b
    sarigan generate --network=out/demo/network.pkl --seeds=0-35 --outdir=out/images
    """
    G = reading.load(network, '--network', device, trust)
    if projected_w is None and seeds is None:
        raise UserError('--seeds is required where there is no --projected-w.')

    if projected_w is None:
        require_class(G, class_idx)
        names = [f'seed{seed:04d}.png' for seed in seeds]
        ws, noise = (sample_ws(G, [seed], trunc, class_idx) for seed in seeds), {} # One by one: there may be many.
    else:
        found = _read_projection(G, projected_w)
        ws, noise = found.ws.split(1), found.noise
        names = [f'proj{index:02d}.png' for index in range(len(ws))]

    with writing('--outdir', outdir):
        os.makedirs(outdir, exist_ok=True)
        with click.progressbar(zip(names, ws), length=len(names), label='Generating') as jobs, noise_put_in(G, noise):
            for name, w in jobs:
                pictures.save(PIL.Image.fromarray(render(G, w, noise_mode)), os.path.join(outdir, name))

def _read_projection(G, path):
    try:
        return Projection.read(path, G)
    except ValueError as error:
        raise UserError(f'--projected-w: {error}') from None

#----------------------------------------------------------------------------
