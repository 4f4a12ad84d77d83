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
from sarigan_plugin.commands.sections import SectionedCommand
from sarigan_plugin.errors import writing
from sarigan_plugin.steering import attention, groupings, names

#----------------------------------------------------------------------------

@click.command('groups', cls=SectionedCommand)
@click.argument('network', type=PATH, metavar='PKL')
@click.option('--outdir', help='Where to save the page and the pictures', required=True, type=PATH, metavar='DIR')
@click.option('--seeds',  help='Random seeds of the images', type=NumberRange(), default='0-5', show_default=True)
@click.option('--trunc',  help='Truncation psi', type=Number(), default=0.7, show_default=True)
@class_options(default=0)
@linked_option
@trust_option
@device_option
def groups_command(network, outdir, seeds, trunc, class_idx, linked, trust, device):
    """See what each channel group attends to (Fig. 3), and how good the groups are.

    \b
    sarigan groups out/demo/network.pkl --outdir=out/groups --seeds=6-11

    \b
    Writes into DIR:
      index.html      open it in a browser: every group of every layer, its pictures (in groups/) and its figures
      attention.json  the figures
      groups.png      all groups on one sheet
      strip.png       the group that changes one part of the image most, turned down and up
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
