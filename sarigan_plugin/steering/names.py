"""Names that people give to channel groups. They are kept in a JSON file beside the network.

    >>> from sarigan_plugin.steering import names
    >>> from sarigan_plugin.snapshots import reading
    >>> G = reading.load('out/demo/network.pkl', 'network')
    >>> known = names.read('out/demo/network.pkl', G)           # Of out/demo/network.names.json.
    >>> known.set('b16.conv0', 3, 'glasses')
    >>> known.write()
    >>> known.find('glasses')
    ('b16.conv0', 3)

In training channels change group. A name remembers which channels its group had,
and follows the group that has most of them.
"""

import dataclasses
import json
import os
import sys

from sarigan_plugin.errors import UserError
from sarigan_plugin.steering import channel_sets, groupings
from sarigan_plugin.steering.channel_sets import check_name, is_number
from sarigan_plugin.support import files

VERSION     = 1     # Of the files that are written.
MIN_OVERLAP = 0.5   # Of the channels that a group had and those of a group now, |both| / |either|, for the name to fit.

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class NamedGroup:
    """What a name stands for."""
    layer:      str         # Or 'linked', see groupings.py.
    group:      int         # Index in [0, g), None = lost: no group has most of the channels.
    channels:   tuple       # The members() that the group had when it was named, None = not known.

class GroupNames:
    """The names of the groups of one network. Iteration gives (layer, group, name), by layer and group."""

    def __init__(self,
        path    = None, # The file to write.
        G       = None, # The generator. Without it anything can be named,
                        # channels are not remembered and names follow nothing.
        places  = (),   # {name: NamedGroup}, each name and each place once.
    ):
        self.path = path
        self.members = _members(G) if G is not None else None
        self.places = _follow(dict(places), self.members) if G is not None else dict(places)
        self.own = _own_names(G) if G is not None else dict()

    def __iter__(self):
        there = [(place.layer, place.group, name) for name, place in self.places.items() if place.group is not None]
        named = {(layer, group) for layer, group, _name in there}
        there += [(*place, name) for place, name in self.own.items() if place not in named and name not in self.places]
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
        place = next(((layer, group) for layer, group, known in self if known == name), None)
        if place is None:
            there = ', '.join(name for _layer, _group, name in self)
            raise ValueError(f'no group is called {name!r:.60}; '
                + (f'the names are {there}.' if there else '`sarigan name` gives names, and none has been given.'))
        return place

    def label(self, layer, group):
        """What captions call a group: 'group 3 "glasses"', or 'group 3'."""
        name = self.of(layer, group)
        return f'group {group}' if name is None else f'group {group} "{name}"'

    def set(self, layer, group, name):
        """Name a group, or name it anew. Raises ValueError for a name that won't do or that another group has."""
        check_name(name)
        for *place, known in self:
            if known == name and place != [layer, group]:
                raise ValueError('{!r} is the name of {}, group {}.'.format(name, *place))
        channels = None
        if self.members is not None:
            if group not in self.members.get(layer, {}):
                raise ValueError(f'{layer} has no group {group} with channels.')
            channels = tuple(sorted(self.members[layer][group]))
        self.remove(layer, group)
        self.places[name] = NamedGroup(layer, group, channels)

    def remove(self, layer, group):
        """Take away the name of a group, if it has one."""
        self.forget(self.of(layer, group))

    def forget(self, name):
        """Take a name away, which may be lost, if it is there."""
        self.places.pop(name, None)

    def adopt(self, others):
        """Take over names of another network, such as an earlier snapshot of a training.

        Names that are here stay, and so does what groups here are called. Returns the names that were taken over.
        """
        here = {name for _layer, _group, name in self}
        taken = [(layer, group, name) for layer, group, name in GroupNames(places=_follow(others.places, self.members))
            if name not in here and self.of(layer, group) is None]
        for layer, group, name in taken:
            self.set(layer, group, name)
        return [name for _layer, _group, name in taken]

    def write(self, path=None):
        """Write the file, or another one at `path`, whole or not at all.

        Raises OSError, and ValueError for a network behind a URL.
        """
        path = path or self.path
        if path is None:
            raise ValueError('names are kept beside a network, and this one is behind a URL.')
        rows = [json.dumps(dict(name=name, layer=place.layer, group=place.group, channels=place.channels),
            ensure_ascii=False) for name, place in self.places.items()]
        with files.atomic_open(path) as f:
            lines = ',\n'.join(rows) # One for each.
            f.write(f'{{"version": {VERSION}, "names": [\n{lines}\n]}}\n'.encode())

def _members(G):
    """{layer: {group: set of its channels}}, of groups that have some."""
    return {name: {group: groups.members(group) for group in groups.live}
        for name, groups in groupings.of(G).items()}

def _own_names(G):
    """{(layer, group): name} of the linked groups that have one in their file, for as long as nobody gives another."""
    linked = groupings.linked(G)
    return {(groupings.LINKED, group): name for group, name in linked.names().items()} if linked is not None else dict()

def _follow(places, members):
    """The same names, each at its group if that still has most of the channels, else at the one that has, else lost."""
    candidates = []
    for name, place in places.items():
        for group, channels in members.get(place.layer, {}).items():
            stays = group == place.group
            overlap = stays if place.channels is None else len(channels.intersection(place.channels)) / len(
                channels.union(place.channels))
            if overlap >= MIN_OVERLAP:
                candidates.append((overlap, stays, name, group))
    followed, taken = dict(), set()
    # A group that fits two names gets the one that fits better.
    for _overlap, _stays, name, group in sorted(candidates, reverse=True):
        layer = places[name].layer
        if name not in followed and (layer, group) not in taken:
            taken.add((layer, group))
            followed[name] = dataclasses.replace(places[name], group=group)
    return {name: followed.get(name, dataclasses.replace(place, group=None)) for name, place in places.items()}

#----------------------------------------------------------------------------

def path_of(network):
    """The file of the names of a network, see channel_sets.beside()."""
    return channel_sets.beside(network, 'names')

def read(network, G=None):
    """The GroupNames of a network, of which there may be none yet.

    network: file name or URL of a pickle, or exported folder. G: its generator, for names to follow their groups;
    without it they are where the file says. Raises ValueError, with one sentence, for a file of something else.
    """
    path = path_of(os.fspath(network))
    if path is None or not os.path.exists(path):
        return GroupNames(path, G)
    try:
        return GroupNames(path, G, _parse(files.read_json(path)))
    except ValueError as error:
        raise ValueError(f'{path!r}: {error}') from None

def _parse(data):
    """{name: NamedGroup} of what JSON says, whose keys may be anything."""
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
            check_name(name)
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
        places[name] = NamedGroup(layer, group, None if channels is None else tuple(channels))
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
        if known.places[name].layer == groupings.LINKED and groupings.LINKED not in known.members:
            continue # Its groups are not at hand now.
        print(f'Warning: no group of {known.places[name].layer} has most of the channels that {name!r} had; '
            'the name is left out.', file=sys.stderr)
    return known

def locate(known, layers, group):
    """What --layer and --group say together: (layers, index), each None where nothing says it. Raises UserError.

    layers: list of names of layers, or None. group: what was typed, an index or a name, or None.
    """
    if group is None or is_number(group):
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
