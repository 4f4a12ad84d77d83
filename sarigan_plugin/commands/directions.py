"""`sarigan directions`: which channel groups matter, as a ranked list with pictures."""

import dataclasses
import os

import click
import numpy as np

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
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.evaluation import attributes
from sarigan_plugin.steering import directions, groupings, names
from sarigan_plugin.steering.sampling import sample_ws
from sarigan_plugin.support import files, pictures

DRAWN   = 3     # Images beside each group.
MOVE    = 0.05  # Change of a score from which an attribute is named beside a group.

#----------------------------------------------------------------------------

@click.command('directions')
@click.argument('network', type=PATH, metavar='PKL')
@click.option('--outdir',       help='Where to save the list', required=True, type=PATH, metavar='DIR')
@click.option('--seeds',        help='Random seeds of the images', type=NumberRange(), default='0-31',
                                show_default=True)
@click.option('--layer', 'layers', help='Layers to look at, b8.conv1,b16.conv0  [default: all]', metavar='NAME,...')
@click.option('--down',         help='What the inter-group code is multiplied by to turn a group down', type=Number(),
                                default=0, show_default=True)
@click.option('--up',           help='... and up', type=Number(), default=2, show_default=True)
@click.option('--top',          help='How many groups to print and draw', type=click.IntRange(min=1), default=20,
                                show_default=True)
@click.option('--attributes', 'dataset', help='Dataset zip with attributes.json: '
    'also say which attributes each group moves', type=PATH, metavar='ZIP')
@click.option('--scorer',       help='The same with your own Python function, which takes uint8 images [N, H, W, '
                                '3] and returns {attribute: [N] numbers}', type=PATH, metavar='FILE.py:FUNCTION')
@click.option('--trunc',        help='Truncation psi', type=Number(), default=0.7, show_default=True)
@class_options(default=0)
@linked_option
@trust_option
@device_option
def directions_command(network, outdir, seeds, layers, down, up, top, dataset, scorer, trunc, class_idx, linked, trust,
        device):
    """Find the channel groups that matter: turn each one down and up, and see what changes, and where.

    \b
      sarigan directions network.pkl --outdir=out/directions --attributes=punks.zip

    \b
    DIR gets:
      directions.png   a row for each of the strongest groups
      directions.json  all groups: how strong, where, how much of the change is inside what the group attends to
    """
    G = groupings.load(network, 'PKL', device, trust, groups=linked)
    known = names.load(network, G)
    layers = _known_layers(G, layers)
    require_class(G, class_idx)
    judge = _choose_scorer(dataset, scorer)
    with writing('--outdir', outdir):
        os.makedirs(outdir, exist_ok=True)
        ws = sample_ws(G, seeds, trunc, class_idx)
        try:
            effects = directions.measure(G, ws, down, up, judge, layers, progress=_bar)
        except attributes.ScorerFailed as error:
            raise UserError(f'--scorer: {scorer!r}: {error}.') from None
        picture = directions.draw(G, ws[:DRAWN], effects[:top], down, up,
            label=lambda effect: f'{effect.layer}, {known.label(*effect.place)}{_moved(effect)}')
        pictures.save(picture, os.path.join(outdir, 'directions.png'))
        settings = dict(seeds=seeds, trunc=trunc, class_idx=class_idx, down=down, up=up, locus=directions.LOCUS)
        files.write_json(os.path.join(outdir, 'directions.json'),
            dict(settings, effects=[dataclasses.asdict(effect) for effect in effects]))
    _print_effects(effects, known, top)
    for name in ['directions.png', 'directions.json']:
        click.echo(os.path.join(outdir, name))

def _known_layers(G, text):
    if text is None:
        return None
    known = list(groupings.of(G))
    for name in text.split(','):
        if name not in known:
            raise UserError(f'--layer: {name!r} is not a grouped layer; they are {", ".join(known)}.')
    return text.split(',')

def _choose_scorer(dataset, scorer):
    if dataset is not None and scorer is not None:
        raise UserError('--attributes and --scorer exclude each other.')
    option, value, load = ('--attributes', dataset, attributes.fit) if dataset is not None else ('--scorer', scorer,
        attributes.load_scorer)
    try:
        return load(value) if value is not None else None
    except ValueError as error:
        raise UserError(f'{option}: {value!r}: {error}') from None

def _bar(jobs):
    with click.progressbar(jobs, label='Turning groups') as bar:
        yield from bar

def _moved(effect):
    """', beanie +0.41 (next: cap -0.06)', or ''."""
    if not effect.moves or abs(effect.strongest_moves[0][1]) < MOVE:
        return ''
    (name, change), *others = effect.strongest_moves
    return f', {name} {change:+.2f}' + (f' (next: {others[0][0]} {others[0][1]:+.2f})' if others else '')

def _print_effects(effects, known, top):
    labels = [f'{effect.layer:<10}  {known.label(*effect.place)}' for effect in effects[:top]]
    width = max(map(len, labels))
    click.echo(f'\n  {"Group":<{width}}  channels  strength  inside  elsewhere  spill  centre')
    for label, effect in zip(labels, effects):
        x, y = effect.centre
        click.echo(f'  {label:<{width}}{effect.channels:10}{effect.strength:10.1f}{effect.inside:8.0%}'
            f'{effect.elsewhere:11.0%}{effect.spill:7.0%}   {x:.2f}, {y:.2f}{_moved(effect)}')
    inside, elsewhere = (np.median([getattr(effect, what) for effect in effects[:top]])
        for what in ['inside', 'elsewhere'])
    click.echo(f'\nMedian of these: {inside:.0%} of the squared change is inside the {directions.LOCUS:.0%} '
        f'of the pixels that the group attends to most, {inside / directions.LOCUS:.1f} times chance; '
        f'{elsewhere:.0%} inside those of other groups of the layer.')
    click.echo('strength: grey levels; spill: mean distance of the change from there, in widths of the image.')

#----------------------------------------------------------------------------
