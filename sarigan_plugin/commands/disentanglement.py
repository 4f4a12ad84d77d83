"""`sarigan disentanglement`: how well the groups of networks separate what is in their images.

They stand beside layers and channels of a StyleGAN2.
"""

import dataclasses
import os

import click

from sarigan_plugin.commands.options import (
    PATH,
    Choices,
    Number,
    class_options,
    device_option,
    linked_option,
    require_class,
    trust_option,
)
from sarigan_plugin.commands.sections import SectionedCommand
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.evaluation import disentanglement_report, disentanglement_study
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import groupings
from sarigan_plugin.steering.sampling import MAX_SEED
from sarigan_plugin.support import tables

MEASURES    = disentanglement_study.MEASURES

#----------------------------------------------------------------------------

@click.command('disentanglement', cls=SectionedCommand)
@click.argument('networks', type=PATH, metavar='PKL...', nargs=-1, required=True)
@click.option('--data', help='Dataset zip with attributes.json, for attributes and exchanges', type=PATH, metavar='ZIP')
@click.option('--outdir', help='Where to save the tables', required=True, type=PATH, metavar='DIR')
@click.option('--measures', help='What to measure', type=Choices(MEASURES, 'a measure'), default=','.join(MEASURES),
    show_default=True, metavar='NAME,...')
@click.option('--num-images', help='Images per network', type=click.IntRange(100, 1000000),
    default=4096, show_default=True)
@click.option('--num-turned', help='Turn every unit down and up in the first so many of them',
    type=click.IntRange(min=2), default=128, show_default=True)
@click.option('--strength', help='How far to turn, in standard deviations of the unit', type=Number(), default=2,
    show_default=True)
@click.option('--seed', help='Random seed', type=click.IntRange(0, MAX_SEED), default=0, show_default=True)
@click.option('--trunc', help='Truncation psi', type=Number(), default=1, show_default=True)
@class_options(default=0)
@linked_option
@trust_option
@device_option
def disentanglement_command(networks, data, outdir, measures, linked, trust, device, **settings):
    """Measure whether groups separate attributes better than layers or single channels do.

    Compares several SariGAN or StyleGAN2 networks by the same attributes, numbers of images and strength of edits.

    \b
    sarigan disentanglement sarigan.pkl stylegan2.pkl --data=punks.zip --outdir=out/d

    \b
    attributes  is a unit about one attribute of the data set and no other, both as images vary and when you turn it?
                With `sarigan data drawn`: exactly, and for each factor.
    exchanges   if an image gets a linked group of another one, which attributes change?
    locality    where do pixels change when you turn a unit, and how many?
    codes       how much of the image does each of the two codes decide, and how much of them can Q read back?
    path        perceptual path length in W

    \b
    Writes into DIR:
      table.md, table.json   the figures with 95% intervals; table.json has every unit and its attribute
      chart.png              the same as bars
      units.png              the most selective units of each kind, turned down and up
      exchanges.png          images, each with one linked group of its neighbour
    """
    settings = disentanglement_study.Settings(**settings)
    if linked not in [None, groupings.NONE] and len(networks) > 1:
        raise UserError('--groups takes one network; of several, each has the linked groups beside it.')
    subjects = []
    for name, path in tables.short_names(networks).items():
        found = reading.load_all(path, 'PKL', trust)
        G = reading.averaged(found, device)
        require_class(G, settings.class_idx)
        groupings.read_linked(G, path, 'PKL', linked)
        subjects.append(disentanglement_study.prepare(name, path, G, found.get('D'), settings))
    if measures != list(MEASURES) and 'exchanges' in measures:
        _require_linked(subjects, alone=measures == ['exchanges'], left_out=linked == groupings.NONE)
    judge = disentanglement_study.load_judge(data, measures)
    with writing('--outdir', outdir):
        os.makedirs(outdir, exist_ok=True)
        attributes = disentanglement_study.measure(subjects, measures, judge, settings)
        described = dict(data=data, **dataclasses.asdict(settings), attributes=attributes)
        table, names = disentanglement_report.write(outdir, subjects, measures, described)
    click.echo(f'\n{table}')
    for name in names:
        click.echo(click.format_filename(os.path.join(outdir, name)))

def _require_linked(subjects, alone, left_out):
    """Say which networks have no linked groups to exchange. Raises UserError where nothing else is to be measured of
    any. left_out: by --groups=none."""
    without = [subject for subject in subjects if groupings.linked(subject.G) is None]
    refuse = alone and len(without) == len(subjects)
    for subject in without:
        sentence = ('--groups: none leaves no groups to exchange; go without it.' if left_out else
            f'PKL: run `sarigan regroup {subject.path}` first: it has no linked groups to exchange.')
        if refuse:
            raise UserError(sentence)
        disentanglement_study.warn(sentence)

#----------------------------------------------------------------------------
