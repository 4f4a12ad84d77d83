"""`sarigan groups`: what each channel group attends to, as pictures, as a page and as figures."""

import os

import click

from sarigan_plugin.commands.options import (
    PATH,
    Number,
    NumberRange,
    class_options,
    device_option,
    linked_option,
    require_class,
    trust_option,
)
from sarigan_plugin.errors import writing
from sarigan_plugin.steering import attention, groupings, names

#----------------------------------------------------------------------------

@click.command('groups')
@click.argument('network', type=PATH, metavar='PKL')
@click.option('--outdir', help='Where to save the page and the pictures', required=True, type=PATH, metavar='DIR')
@click.option('--seeds',  help='Random seeds of the images', type=NumberRange(), default='0-5', show_default=True)
@click.option('--trunc',  help='Truncation psi', type=Number(), default=0.7, show_default=True)
@class_options(default=0)
@linked_option
@trust_option
@device_option
def groups_command(network, outdir, seeds, trunc, class_idx, linked, trust, device):
    """Draw what every channel group of a SariGAN attends to (Fig. 3), and print how good the groups are.

    \b
    DIR gets
      index.html   for a browser: every group of every layer, with its pictures in groups/ and its figures
      groups.json  the figures
      groups.png   all groups on one sheet
      strip.png    what the group does that moves one part of the image most
    """
    G = groupings.load(network, 'PKL', device, trust, groups=linked)
    known = names.load(network, G)
    require_class(G, class_idx)
    with writing('--outdir', outdir):
        os.makedirs(outdir, exist_ok=True)
        paths, surveyed = attention.draw_all(G, network, outdir, seeds, trunc, class_idx, known)
    for path in paths:
        click.echo(click.format_filename(path))
    _print_quality(surveyed.quality)

def _print_quality(quality):
    click.echo('\nHow alike two channels are   kernels (cosine)      responses (correlation)   Coherence of maps')
    click.echo('in one group | in two:       within   between      within   between          groups    random')
    for name, row in quality.items():
        click.echo(f'  {name:<24}{row["kernel_within"]:9.3f}{row["kernel_between"]:10.3f}'
            f'{row["response_within"]:12.3f}{row["response_between"]:10.3f}'
            f'{row["coherence"]:16.3f}{row["coherence_random"]:10.3f}'.replace('nan', '  –'))

#----------------------------------------------------------------------------
