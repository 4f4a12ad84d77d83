"""`sarigan pack`: a network as a folder with a model card, for the box or for a hub of models."""

import os

import click

from sarigan_plugin.commands.options import PATH, trust_option
from sarigan_plugin.errors import UserError, first_line, writing
from sarigan_plugin.snapshots import exported, model_card, reading
from sarigan_plugin.steering import channel_sets, names
from sarigan_plugin.support import files

#----------------------------------------------------------------------------

@click.command('pack')
@click.argument('network', type=PATH, metavar='PKL')
@click.option('--to', 'dest',   help='The folder to write; its name is the name of the network', required=True,
                                type=PATH, metavar='DIR')
@click.option('--licence',      help='Licence of the weights, as hubs abbreviate it: mit, apache-2.0', required=True,
                                metavar='NAME')
@click.option('--trained-on',   help='The data, in words or as the command that makes them  [default: the name of the '
                                'data set]', metavar='TEXT')
@click.option('--data-licence', help='Licence of that  [default: what LICENSES.txt of the data set says]',
                                metavar='TEXT')
@click.option('--command',      help='The command that trains it', metavar='TEXT')
@click.option('--machine',      help='Where it was trained', metavar='TEXT')
@click.option('--limits',       help='What it can\'t do', metavar='TEXT')
@click.option('--figures',      help='Measured figures, as `sarigan metrics --json` wrote them', type=PATH,
                                metavar='FILE')
@click.option('--force',        help='Replace the network in a folder that is there', is_flag=True)
@trust_option
def pack_command(network, dest, licence, trained_on, figures, force, trust, **words):
    """Write a network as a folder with a model card, for others to use.

    The folder has config.json, model.safetensors and the card, README.md: the averaged generator alone, in 16 bits, and
    no code. The card is made of the record of the training beside the pickle. Names of groups, and groups that `sarigan
    regroup` found, are taken along.

    \b
    sarigan metrics runs/00000-x/network-snapshot-002000.pkl --data=drawn.zip --json=figures.json
    sarigan pack runs/00000-x/network-snapshot-002000.pkl --to=heads --licence=mit --figures=figures.json
    sarigan explore heads
    """
    dest = dest.rstrip(os.sep) or dest
    _check_dest(dest, force)
    measured = _read_figures(figures) if figures is not None else None
    data = reading.load_all(network, 'PKL', trust)
    try:
        facts, options = model_card.of_run(network, data['G_ema'], os.path.basename(os.path.abspath(dest)), licence)
    except ValueError as error:
        raise UserError(f'PKL: {error}') from None
    for name, told in dict(words, data=trained_on).items():
        if told is not None:
            setattr(facts, name, told)
    facts.figures = measured
    sets = _linked_groups(network, data['G_ema'])
    if sets is not None:
        facts.groups, facts.groups_by = channel_sets.described(sets), sets.measured.get('by')
    besides = _besides(network, sets)
    kept = [name for name in model_card.BESIDES
        if name not in besides and os.path.exists(os.path.join(dest, name))]
    try:
        with writing('--to', dest):
            model_card.write(data, dest, facts, options, besides)
    except ValueError as error:
        raise UserError(f'PKL: {network!r} cannot be packed ({first_line(error)}).') from None
    for name in kept:
        click.echo(f'{name} of the network that was there before is kept: see whether it still fits.')
    click.echo(f'Wrote {click.format_filename(dest)}')

def _check_dest(dest, force):
    if not os.path.lexists(dest):
        return
    if not force:
        raise UserError(f'--to: {dest} exists already; --force replaces the network in it.')
    if not os.path.isfile(os.path.join(dest, model_card.LAYOUT)):
        raise UserError(f'--to: {dest} is no folder that `sarigan pack` wrote; nothing is overwritten.')

def _read_figures(path):
    try:
        found = files.read_json(path)
        for measured in found['metrics'].values():
            for key in ['value', 'low', 'high', 'floor', 'num_samples']:
                float(measured[key])
        return dict(metrics=found['metrics'])
    except ValueError as error:
        raise UserError(f'--figures: {path!r}: {error}') from None
    except (KeyError, TypeError, AttributeError):
        raise UserError(f'--figures: {path!r} was not written by `sarigan metrics --json`.') from None

def _linked_groups(network, G):
    """Those beside the pickle, of the network as it is stored, or None."""
    try:
        return channel_sets.taken_along(network, G, exported.rounded(G))
    except ValueError as error:
        raise UserError(f'PKL: {channel_sets.path_of(network)}: {error}') from None

def _besides(network, sets):
    """{file of the folder: its text}, of what is beside the pickle. sets: its linked groups, or None."""
    besides = dict()
    path = names.path_of(network)
    if path is not None and os.path.exists(path):
        with open(path, encoding='utf-8') as f:
            besides['names.json'] = f.read()
    if sets is not None:
        besides['groups.json'] = sets.content
    return besides

#----------------------------------------------------------------------------
