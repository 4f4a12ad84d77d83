"""`sarigan name`: names of channel groups, listed, given, taken away and taken over."""

import os

import click

from sarigan_plugin.commands.options import PATH, linked_option, trust_option
from sarigan_plugin.errors import UserError
from sarigan_plugin.snapshots import box
from sarigan_plugin.steering import groupings, names
from sarigan_plugin.steering.edits import Edit, WrongField

#----------------------------------------------------------------------------

@click.command('name')
@click.argument('network', type=PATH, metavar='PKL')
@click.option('--layer',        help='Layer that has the group', metavar='NAME')
@click.option('--group',        help='Which channel group of the layer, or its present name', metavar='INDEX|NAME')
@click.option('--as', 'name',   help='Name to give to it', metavar='NAME')
@click.option('--remove',       help='Name to take away', metavar='NAME')
@click.option('--from', 'source', help='Take over the names of another network, e.g. '
                                'an earlier snapshot of the training', type=PATH, metavar='PKL')
@linked_option
@trust_option
def name_command(network, layer, group, name, remove, source, linked, trust):
    """List the names of the channel groups of a SariGAN, or give one: `--group=glasses` then does for every command.

    \b
    sarigan name network.pkl                                                # list them
    sarigan name network.pkl --layer=b16.conv0 --group=3 --as=glasses       # kept in network.names.json
    sarigan edit network.pkl --outdir=out --group=glasses --inter=0

    In training channels change group. A name goes to the group that has most of the channels that its group had when it
    was given; where there is none, it is left out.
    """
    if [name, remove, source].count(None) < 2:
        raise UserError('--as, --remove and --from are three things to do, one at a time.')
    if name is None and (layer, group) != (None, None):
        raise UserError('--as is required with --layer or --group: the name to give.')
    G = groupings.load(network, 'PKL', trust=trust, generates=False, groups=linked)
    known = names.load(network, G)
    if [name, remove, source] == [None, None, None]:
        _print_names(known)
        return
    if box.resolve(network) != network:
        raise UserError(f'PKL: {network} comes with sarigan, and is not changed: '
            f'`sarigan import {network} --to=mine.pkl` makes a copy to give names to.')
    if known.path is None:
        raise UserError(f'PKL: names are kept beside a network, and {network} is a URL.')
    if name is not None:
        _give(known, G, layer, group, name)
    elif remove is not None:
        _take_away(known, remove)
    else:
        _take_over(known, source)
    try:
        known.write()
    except OSError as error:
        raise UserError(f'PKL: {known.path} cannot be written: {error.strerror}.') from None

def _print_names(known):
    rows = [(name, f'{layer}, group {group}', f'{len(known.members[layer][group])} channels')
        for layer, group, name in known]
    if not rows:
        click.echo('No group has a name yet; --layer=NAME --group=INDEX --as=NAME gives one.')
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        click.echo('   '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())

def _give(known, G, layer, group, name):
    layers, index = names.locate(known, None if layer is None else [layer], group)
    if layers is None or index is None:
        raise UserError('--layer and --group are required with --as: what to name.')
    layer, = layers
    try:
        Edit(layer, index).check(G)
        before = known.of(layer, index)
        known.set(layer, index, name)
    except WrongField as error:
        raise UserError(f'--{dict(layers="layer").get(error.field, error.field)}: {error.sentence}') from None
    except ValueError as error:
        raise UserError(f'--as: {error}') from None
    click.echo(f'{layer}, {known.label(layer, index)}' + (f', {before!r} before' if before not in [None, name] else ''))

def _take_away(known, name):
    if name not in known.lost:
        try:
            known.find(name)
        except ValueError as error:
            raise UserError(f'--remove: {error}') from None
    known.forget(name)

def _take_over(known, source):
    if not os.path.exists(names.path_of(source) or ''):
        raise UserError(f'--from: there are no names beside {source!r}.')
    try:
        others = names.read(source)
    except ValueError as error:
        raise UserError(f'--from: {error}') from None
    taken = known.adopt(others)
    for layer, group, name in known:
        if name in taken:
            click.echo(f'{layer}, {known.label(layer, group)}')
    for name in sorted(set(others.places) - set(known.places)):
        click.echo(f'Warning: no group of {others.places[name].layer} that has no name has most of the channels that '
            f'{name!r} had; it is left out.', err=True)

#----------------------------------------------------------------------------
