"""Linked groups: sets of channels with one knob in several layers, in a JSON file beside the network.

    >>> from sarigan_plugin.steering import channel_sets
    >>> from sarigan_plugin.snapshots import reading
    >>> G = reading.load('network.pkl', 'network')
    >>> sets = channel_sets.ChannelSets([channel_sets.ChannelSet('hat', {'b8.conv1': (3, 5), 'b16.conv0': (1,)})],
    ...     channel_sets.weights_hash(G))
    >>> sets.write('network.groups.json')
    >>> channel_sets.read('network.groups.json', G).sets[0].name
    'hat'

The network's own file is never written, so that images stay what they are.
"""

import dataclasses
import hashlib
import json
import os

from sarigan_plugin.snapshots import box, exported
from sarigan_plugin.steering.styles import styled_layers
from sarigan_plugin.support import files

import dnnlib

VERSION     = 1     # Of the files that are written.
MAX_LETTERS = 40    # Of a name: captions have to hold it.

@dataclasses.dataclass(frozen=True)
class ChannelSet:
    """One linked group."""
    name:       str     # None = it has none.
    channels:   dict    # {layer: its channels, in order}.
    rest:       bool = False    # Whether it is what is left over, and means nothing: the last one may be.
    note:       str  = None     # What a person sees when it is turned, in a sentence.

@dataclasses.dataclass(frozen=True)
class ChannelSets:
    """The linked groups of one network. A channel is in one of them at most."""
    sets:       list            # The ChannelSet of each group, by its index.
    network:    str             # weights_hash() of the network that they belong to.
    measured:   dict = dataclasses.field(default_factory=dict) # How they were found; for people.

    @property
    def content(self):
        """The text of its file."""
        lines = ',\n'.join(json.dumps(_entry(group), ensure_ascii=False) for group in self.sets) # One for each.
        head = f'{{"version": {VERSION}, "network": "{self.network}", "measured": {json.dumps(self.measured)}'
        return f'{head}, "groups": [\n{lines}\n]}}\n'

    def write(self, path):
        """Write the file, whole or not at all. Raises OSError."""
        files.write_text(path, self.content)

def _entry(group):
    channels = {layer: list(of_layer) for layer, of_layer in group.channels.items()}
    more = dict(note=group.note, rest=group.rest)
    return dict(name=group.name, channels=channels, **{key: value for key, value in more.items() if value})

def weights_hash(G):
    """What tells a network from others, wherever its weights are and whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(G.state_dict().items()):
        digest.update(f'{name} {list(tensor.shape)} {tensor.dtype}'.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

def path_of(network):
    """The file of the linked groups of a network, see beside()."""
    return beside(network, 'groups')

def beside(network, what):
    """The JSON file of something about a network: beside a pickle, inside an exported folder or one of the box.

    None for a URL.
    """
    network = box.resolve(network)
    if dnnlib.util.is_url(network, allow_file_urls=True):
        return None
    if os.path.basename(network) == exported.DESCRIPTION:
        network = os.path.dirname(network) or '.'
    return (os.path.join(network, f'{what}.json') if os.path.isdir(network)
        else f'{os.path.splitext(network)[0]}.{what}.json')

def read(path, G):
    """The ChannelSets in a file. Raises ValueError, one sentence, for whatever does not fit the network G."""
    sets = parse(files.read_json(path))
    layers = {name: layer.weight.shape[1] for name, layer in styled_layers(G).items()}
    for index, group in enumerate(sets.sets):
        for layer, channels in group.channels.items():
            if layer not in layers:
                raise ValueError(f'groups[{index}]: the network has no layer {layer!r:.40}; '
                    f'its layers are {", ".join(layers)}.')
            if channels[-1] >= layers[layer]:
                raise ValueError(f'groups[{index}]: {layer} has no channel {channels[-1]}; '
                    f'its channels are 0 to {layers[layer] - 1}.')
    if sets.network != weights_hash(G):
        raise ValueError('it belongs to another network; `sarigan regroup` makes one for this network.')
    return sets

def taken_along(network, G, copied=None):
    """The ChannelSets beside a network, for a copy of it elsewhere; None where there are none.

    G: the network's generator. copied: the copy's, if weights were rounded. Raises ValueError, one sentence.
    """
    path = path_of(network)
    if path is None or not os.path.exists(path):
        return None
    sets = read(path, G)
    return sets if copied is None else dataclasses.replace(sets, network=weights_hash(copied))

def described(sets):
    """What is known of each group, for people: a list of {'name', 'note', 'channels', 'strength', 'place'} without what
    nobody said or measured, and without what is left over. See regrouping.regroup()."""
    measured = sets.measured.get('groups')
    measured = measured if isinstance(measured, list) and len(measured) == len(sets.sets) else [{}] * len(sets.sets)
    rows = [dict(name=group.name, note=group.note, channels=sum(map(len, group.channels.values())),
        **{key: facts[key] for key in ['strength', 'place']
            if isinstance(facts, dict) and isinstance(facts.get(key), (int, float))})
        for group, facts in zip(sets.sets, measured) if not group.rest]
    return [{key: value for key, value in row.items() if value is not None} for row in rows]

def parse(data):
    """The ChannelSets of what JSON says, whose keys may be anything. Raises ValueError, one sentence."""
    if not isinstance(data, dict) or not {'version', 'network', 'groups'} <= set(data):
        raise ValueError('it is not a file of linked groups: an object with version, network and groups.')
    if data['version'] != VERSION:
        raise ValueError(f'version: {data["version"]!r:.40} is unknown; this program reads version {VERSION}.')
    if not isinstance(data['network'], str):
        raise ValueError('network: it is not the hash of a network.')
    if not isinstance(data['groups'], list) or not data['groups']:
        raise ValueError('groups: it is not a list with at least one group.')
    sets, taken, names = [], set(), set()
    for index, entry in enumerate(data['groups']):
        try:
            sets.append(_parse_group(entry, taken, names))
        except ValueError as error:
            raise ValueError(f'groups[{index}]: {error}') from None
        if sets[-1].rest and not 0 < index == len(data['groups']) - 1:
            raise ValueError(f'groups[{index}]: rest: only the last of several groups can be what is left over.')
    measured = data.get('measured')
    return ChannelSets(sets, data['network'], measured if isinstance(measured, dict) else {})

def check_name(name):
    """Raise ValueError unless it can name a group."""
    if not isinstance(name, str) or not name.isprintable() or not name:
        problem = 'it is not text that can be printed'
    elif name != name.strip():
        problem = 'it has a space at an end'
    elif ',' in name:
        problem = 'it has a comma'
    elif len(name) > MAX_LETTERS:
        problem = f'it has {len(name)} letters, and {MAX_LETTERS} are the most'
    elif is_number(name):
        problem = 'numbers are the indices of groups'
    else:
        return
    raise ValueError(f'{name!r:.60} is no name: {problem}.')

def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True

def _parse_group(entry, taken, names):
    """taken, names: (layer, channel) and names of the groups before, to which this one's are added."""
    if not isinstance(entry, dict) or set(entry) - {'rest', 'note'} != {'name', 'channels'}:
        raise ValueError('it is not an object with name and channels.')
    name, channels, rest, note = entry['name'], entry['channels'], entry.get('rest', False), entry.get('note')
    if not isinstance(rest, bool):
        raise ValueError('rest: it is neither true nor false.')
    if note is not None and not isinstance(note, str):
        raise ValueError('note: it is not text.')
    if name is not None:
        check_name(name)
    if name in names:
        raise ValueError(f'another group is called {name!r} as well.')
    if not isinstance(channels, dict) or not channels:
        raise ValueError('channels: it is not an object with a list of channels for each layer.')
    for layer, of_layer in channels.items():
        if not isinstance(of_layer, list) or not of_layer or not all(map(_is_index, of_layer)):
            raise ValueError(f'channels: those of {layer!r:.40} are not a list of indices.')
        if len(set(of_layer)) < len(of_layer) or taken & {(layer, channel) for channel in of_layer}:
            raise ValueError(f'channels: one of {layer!r:.40} is there twice, or in another group as well.')
        taken |= {(layer, channel) for channel in of_layer}
    names |= {name} - {None}
    return ChannelSet(name, {layer: tuple(sorted(of_layer)) for layer, of_layer in channels.items()}, rest, note)

def _is_index(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0

#----------------------------------------------------------------------------
