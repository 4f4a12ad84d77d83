"""Names that people give to channel groups, and `sarigan name`. They are kept in a JSON file beside the network.

    >>> from sarigan_plugin.steering import names
    >>> from sarigan_plugin.snapshots import reading
    >>> G = reading.load('out/demo/network.pkl', 'network')
    >>> known = names.read('out/demo/network.pkl', G)           # Of out/demo/network.names.json.
    >>> known.set('b16.conv0', 3, 'glasses')
    >>> known.write()
    >>> known.find('glasses')
    ('b16.conv0', 3)

In training channels change group. A name remembers which channels its group had, and follows the group that has most of them.
"""

import dataclasses
import json
import os

import click
import dnnlib

from sarigan_plugin.commands.options import PATH
from sarigan_plugin.errors import UserError
from sarigan_plugin.model.networks import grouped_layers
from sarigan_plugin.snapshots import exported
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering.edits import Edit, WrongField
from sarigan_plugin.support import files

VERSION     = 1     # Of the files that are written.
MAX_LETTERS = 40    # Of a name: captions have to hold it.
MIN_OVERLAP = 0.5   # Of the channels that a group had and those of a group now, |both| / |either|, for the name to fit.

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Place:
    """What a name stands for."""
    layer:      str
    group:      int         # Index in [0, g), None = lost: no group has most of the channels.
    channels:   tuple       # Indices of the channels that the group had when it was named, None = not known.

class Names:
    """The names of the groups of one network. Iteration gives (layer, group, name), by layer and group."""

    def __init__(self,
        path    = None, # The file to write.
        G       = None, # The generator. Without it anything can be named, channels are not remembered and names follow nothing.
        places  = (),   # {name: Place}, each name and each place once.
    ):
        self.path = path
        self.members = _members(G) if G is not None else None
        self.places = _follow(dict(places), self.members) if G is not None else dict(places)

    def __iter__(self):
        there = [(place.layer, place.group, name) for name, place in self.places.items() if place.group is not None]
        return iter(sorted(there, key=lambda row: (len(row[0]), row))) # b8 before b16.

    @property
    def lost(self):
        """Names that fit no group any more. They stay in the file until they are given anew or forgotten."""
        return sorted(name for name, place in self.places.items() if place.group is None)

    def of(self, layer, group):
        """The name of a group, or None."""
        return next((name for *place, name in self if place == [layer, group]), None)

    def find(self, name):
        """The (layer, group) that has a name. Raises ValueError, which lists the names, if none has."""
        if name not in self.places or name in self.lost:
            there = ', '.join(name for _layer, _group, name in self)
            raise ValueError(f'no group is called {name!r:.60}; ' + (f'the names are {there}.' if there else '`sarigan name` gives names, and none has been given.'))
        return self.places[name].layer, self.places[name].group

    def label(self, layer, group):
        """What captions call a group: 'group 3 "glasses"', or 'group 3'."""
        name = self.of(layer, group)
        return f'group {group}' if name is None else f'group {group} "{name}"'

    def set(self, layer, group, name):
        """Name a group, or name it anew. Raises ValueError for a name that won't do or that another group has."""
        _check(name)
        if name in self.places and name not in self.lost and self.find(name) != (layer, group):
            raise ValueError('{!r} is the name of {}, group {}.'.format(name, *self.find(name)))
        channels = None
        if self.members is not None:
            if group not in self.members.get(layer, {}):
                raise ValueError(f'{layer} has no group {group} with channels.')
            channels = tuple(sorted(self.members[layer][group]))
        self.remove(layer, group)
        self.places[name] = Place(layer, group, channels)

    def remove(self, layer, group):
        """Take away the name of a group, if it has one."""
        self.forget(self.of(layer, group))

    def forget(self, name):
        """Take a name away, which may be lost, if it is there."""
        self.places.pop(name, None)

    def adopt(self, others):
        """Take over names of another network, such as an earlier snapshot of a training. Names that are here stay, and so does what
        groups here are called. Returns the names that were taken over.
        """
        here = {name for _layer, _group, name in self}
        taken = [(layer, group, name) for layer, group, name in Names(places=_follow(others.places, self.members))
            if name not in here and self.of(layer, group) is None]
        for layer, group, name in taken:
            self.set(layer, group, name)
        return [name for _layer, _group, name in taken]

    def write(self, path=None):
        """Write the file, or another one at `path`, whole or not at all. Raises OSError, and ValueError for a network behind a URL."""
        path = path or self.path
        if path is None:
            raise ValueError('names are kept beside a network, and this one is behind a URL.')
        rows = [json.dumps(dict(name=name, layer=place.layer, group=place.group, channels=place.channels), ensure_ascii=False) for name, place in self.places.items()]
        with files.atomic_open(path) as f:
            f.write(('{"version": %d, "names": [\n%s\n]}\n' % (VERSION, ',\n'.join(rows))).encode()) # A line for each.

def _members(G):
    """{layer: {group: set of its channels}}, of groups that have some."""
    members = dict()
    for name, layer, _source in grouped_layers(G.synthesis):
        members[name] = dict()
        for channel, group in enumerate(layer.grouping.assignment.tolist()):
            members[name].setdefault(group, set()).add(channel)
    return members

def _follow(places, members):
    """The same names, each at its group if that still has most of the channels, else at the one that has, else lost."""
    candidates = []
    for name, place in places.items():
        for group, channels in members.get(place.layer, {}).items():
            stays = group == place.group
            overlap = stays if place.channels is None else len(channels.intersection(place.channels)) / len(channels.union(place.channels))
            if overlap >= MIN_OVERLAP:
                candidates.append((overlap, stays, name, group))
    followed, taken = dict(), set()
    for _overlap, _stays, name, group in sorted(candidates, reverse=True): # A group that fits two names gets the one that fits better.
        layer = places[name].layer
        if name not in followed and (layer, group) not in taken:
            taken.add((layer, group))
            followed[name] = dataclasses.replace(places[name], group=group)
    return {name: followed.get(name, dataclasses.replace(place, group=None)) for name, place in places.items()}

def _check(name):
    """Raise ValueError unless it can name a group."""
    if not isinstance(name, str) or not name.isprintable() or not name:
        problem = 'it is not text that can be printed'
    elif name != name.strip():
        problem = 'it has a space at an end'
    elif ',' in name:
        problem = 'it has a comma'
    elif len(name) > MAX_LETTERS:
        problem = f'it has {len(name)} letters, and {MAX_LETTERS} are the most'
    elif _is_number(name):
        problem = 'numbers are the indices of groups'
    else:
        return
    raise ValueError(f'{name!r:.60} is no name: {problem}.')

def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True

#----------------------------------------------------------------------------

def path_of(network):
    """The file of the names of a network: beside a pickle, inside an exported folder; None for a URL."""
    if dnnlib.util.is_url(network, allow_file_urls=True):
        return None
    if os.path.basename(network) == exported.DESCRIPTION:
        network = os.path.dirname(network) or '.'
    return os.path.join(network, 'names.json') if os.path.isdir(network) else os.path.splitext(network)[0] + '.names.json'

def read(network, G=None):
    """The Names of a network, of which there may be none yet.

    network: file name or URL of a pickle, or exported folder. G: its generator, for names to follow their groups; without it they are
    where the file says. Raises ValueError, with one sentence, for a file of something else.
    """
    path = path_of(os.fspath(network))
    if path is None or not os.path.exists(path):
        return Names(path, G)
    try:
        return Names(path, G, _parse(files.read_json(path)))
    except ValueError as error:
        raise ValueError(f'{path!r}: {error}') from None

def _parse(data):
    """{name: Place} of what JSON says, whose keys may be anything."""
    if not isinstance(data, dict) or set(data) != {'version', 'names'} or not isinstance(data['names'], list):
        raise ValueError('it is not a file of names: an object with version and names.')
    if data['version'] != VERSION:
        raise ValueError(f'version: {data["version"]!r:.40} is unknown; this program reads version {VERSION}.')
    places = dict()
    for index, entry in enumerate(data['names']):
        if not isinstance(entry, dict) or set(entry) != {'name', 'layer', 'group', 'channels'}:
            raise ValueError(f'names[{index}]: it is not an object with name, layer, group and channels.')
        name, layer, group, channels = (entry[key] for key in ['name', 'layer', 'group', 'channels'])
        try:
            _check(name)
        except ValueError as error:
            raise ValueError(f'names[{index}]: {error}') from None
        if not isinstance(layer, str) or not layer.isprintable() or not (group is None or _is_index(group)):
            raise ValueError(f'names[{index}]: layer has to be text, and group an index or null.')
        if channels is not None and not (isinstance(channels, list) and all(map(_is_index, channels))):
            raise ValueError(f'names[{index}]: channels has to be a list of indices or null.')
        if name in places:
            raise ValueError(f'names[{index}]: {name!r} is there twice.')
        if group is not None and any((place.layer, place.group) == (layer, group) for place in places.values()):
            raise ValueError(f'names[{index}]: group {group} of {layer} has a name already.')
        places[name] = Place(layer, group, None if channels is None else tuple(channels))
    return places

def _is_index(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0

#----------------------------------------------------------------------------
# For commands.

def load(network, G):
    """As read(), but raises UserError, and warns of each name that fits no group."""
    try:
        known = read(network, G)
    except ValueError as error:
        raise UserError(f'PKL: the names of its groups cannot be read from {error}') from None
    for name in known.lost:
        click.echo(f'Warning: no group of {known.places[name].layer} has most of the channels that {name!r} had; the name is left out.', err=True)
    return known

def locate(known, layers, group):
    """What --layer and --group say together: (layers, index), each None where nothing says it. Raises UserError.

    layers: list of names of layers, or None. group: what was typed, an index or a name, or None.
    """
    if group is None or _is_number(group):
        try:
            return layers, group if group is None else int(group)
        except ValueError:
            raise UserError(f'--group: {group} is not a whole number.') from None
    try:
        layer, index = known.find(group)
    except ValueError as error:
        raise UserError(f'--group: {error}') from None
    if layers not in [None, [layer]]:
        raise UserError(f'--layer: {group!r} is group {index} of {layer}, not of {", ".join(layers)}.')
    return [layer], index

#----------------------------------------------------------------------------

@click.command('name')
@click.argument('network', type=PATH, metavar='PKL')
@click.option('--layer',        help='Layer that has the group', metavar='NAME')
@click.option('--group',        help='Which channel group of the layer, or its present name', metavar='INDEX|NAME')
@click.option('--as', 'name',   help='Name to give to it', metavar='NAME')
@click.option('--remove',       help='Name to take away', metavar='NAME')
@click.option('--from', 'source', help='Take over the names of another network, e.g. an earlier snapshot of the training', type=PATH, metavar='PKL')
@reading.trust_option
def name_command(network, layer, group, name, remove, source, trust):
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
    G = reading.load_grouped(network, 'PKL', trust=trust, generates=False)
    known = load(network, G)
    if [name, remove, source] == [None, None, None]:
        _print_names(known)
        return
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
    rows = [(name, f'{layer}, group {group}', f'{len(known.members[layer][group])} channels') for layer, group, name in known]
    if not rows:
        click.echo('No group has a name yet; --layer=NAME --group=INDEX --as=NAME gives one.')
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        click.echo('   '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())

def _give(known, G, layer, group, name):
    layers, index = locate(known, None if layer is None else [layer], group)
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
    if not os.path.exists(path_of(source) or ''):
        raise UserError(f'--from: there are no names beside {source!r}.')
    try:
        others = read(source)
    except ValueError as error:
        raise UserError(f'--from: {error}') from None
    taken = known.adopt(others)
    for layer, group, name in known:
        if name in taken:
            click.echo(f'{layer}, {known.label(layer, group)}')
    for name in sorted(set(others.places) - set(known.places)):
        click.echo(f'Warning: no group of {others.places[name].layer} that has no name has most of the channels that {name!r} had; it is left out.', err=True)

#----------------------------------------------------------------------------
