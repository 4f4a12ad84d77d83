"""Knobs of a generator that could each stand for one thing in the image: channel groups,
and what they are compared with.

    >>> from sarigan_plugin.steering import sampling
    >>> from sarigan_plugin.snapshots import reading
    >>> from sarigan_plugin.steering import units
    >>> G = reading.load('network.pkl', 'network')
    >>> ws = sampling.sample_ws(G, seeds=range(64), trunc=1)
    >>> knobs = units.find(G, ws)
    >>> with knobs[0].turned(2):                                    # Two standard deviations up.
    ...     louder = G.synthesis(ws[:8], noise_mode='const')

Each is a set of channels of one layer, and one number that styles them. s_k is the style of channel k (paper: f),
C their number.

    inter     a group's inter-group style h; turned by d: h + d sigma(h)
    intra     the intra-group styles y of a group, along their first principal component v: y . v; turned:
              y + d sigma(y . v) v
    layer     all styles of a layer, the same: s . v; turned: s + d sigma(s . v) v
    channel   one style, the S space of Wu et al. (StyleSpace Analysis, CVPR 2021): s_k; turned: s_k + d sigma(s_k)
    linked    the gains r of a linked group's channels in all its layers, see groupings.py; turned as random sets
    shuffled  the same of random channels of all layers, as many as a linked group has
    random    the gain r of a random set of channels, r^2 = 1/C sum_k s_k^2, which for a group would be |h| by Eq. 5;
              turned: all its styles
              times (r + d sigma(r)) / r

sigma is the standard deviation over the images of the network itself, so that d means the same for all of them. In the
feature form styles are the standard deviations of channels; their means are left alone, but for those of h, which is
both.
"""

import dataclasses
import typing

import torch

from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.model.networks import split_codes
from sarigan_plugin.steering import groupings
from sarigan_plugin.steering.edits import Edit, edited
from sarigan_plugin.steering.styles import hooked, layer_styles, restyled, styled_layers

KINDS = {
    'inter':    'groups, inter-group code',
    'intra':    'groups, intra-group code',
    'linked':   'linked groups',
    'shuffled': 'linked random sets',
    'random':   'random channels',
    'layer':    'whole layers',
    'channel':  'single channels',
}

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True, eq=False)
class Unit:
    """One knob."""
    kind:       str                 # One of KINDS.
    layer:      str                 # E.g. 'b16.conv0'; 'linked' for those of several layers.
    index:      int                 # Of the group, channel or set in its layer; 0 for a whole layer.
    channels:   torch.Tensor        # bool [C]: those that it styles; of several layers, one after the other.
    values:     torch.Tensor        # [N]: where it stands in each of the images it was found with.
    turned:     typing.Callable     # turned(d): a context, inside which it is turned by d standard deviations of the
                                    # values.
    masks:      dict = None         # {layer: bool [C]} where it has channels of several layers.

    @property
    def size(self):
        """How many channels it styles."""
        return int(self.channels.sum())

    def attention(self, features):
        """The mean of the feature maps of its channels, see groupings.py. {layer: [N, C, h, w]} -> [N, h, w]."""
        if self.masks is not None:
            return groupings.linked_map(features, self.masks)[:, 0]
        return features[self.layer][:, self.channels].float().mean(dim=1)

def _shifted(G, layer_name, group, values, channels):
    sigma = values.std(correction=0).item()
    return Unit('inter', layer_name, group, channels, values,
        lambda d: edited(G, [Edit(layer_name, group, inter_shift=d * sigma)]))

def _moved(kind, layer_name, index, channels, styles, context):
    """Along the first principal component of some channels' styles. context: takes what changes styles,
    [N, C] -> [N, C]."""
    direction = torch.zeros_like(styles[0])
    direction[channels] = principal_direction(styles[:, channels])
    values = styles @ direction
    sigma = values.std(correction=0)
    return Unit(kind, layer_name, index, channels, values, lambda d: context(lambda own: own + d * sigma * direction))

def _amplified(layer_name, index, channels, styles, layer):
    gain = lambda own: (own * channels).square().mean(dim=1).sqrt()
    sigma = gain(styles).std(correction=0)
    def change(own, d):
        factor = 1 + d * sigma / gain(own).clamp(min=1e-8)
        return torch.where(channels, own * factor[:, None], own)
    return Unit('random', layer_name, index, channels, gain(styles),
        lambda d: restyled(layer, lambda own: change(own, d)))

def _linked(kind, index, masks, styles, layers):
    """A unit of channels of several layers. masks: {layer: bool [C]}; styles: {layer: [N, C]}."""
    of_layers = [_amplified(name, index, mask.to(styles[name].device), styles[name], layers[name])
        for name, mask in masks.items()]
    return Unit(kind, groupings.LINKED, index, torch.cat([part.channels for part in of_layers]),
        torch.stack([part.values for part in of_layers]).square().sum(dim=0).sqrt(),
        lambda d: groupings.all_of([part.turned(d) for part in of_layers]), masks)

def principal_direction(styles):
    """The direction in which styles [N, C] vary most: [C], of length 1, its largest component positive."""
    centred = (styles - styles.mean(dim=0)).double()
    direction = torch.linalg.eigh(centred.t() @ centred).eigenvectors[:, -1]
    return (direction * direction[direction.abs().argmax()].sign()).to(styles.dtype)

#----------------------------------------------------------------------------

@torch.no_grad()
def find(G, ws, partitions=None, seed=0):
    """All units of a generator, by kind in the order of KINDS.

    ws:         [N, num_ws, w_dim] of the images that say how far styles vary.
    partitions: {layer name: [C], the group of each channel}, whose sizes the random sets have;
    None = those of its own groups, if any. Layers
                that are not there, or have another number of channels, get no random sets.
    seed:       Of the random sets.
    """
    random = torch.Generator().manual_seed(seed)
    partitions = group_partitions(G) if partitions is None else partitions
    found = {kind: [] for kind in KINDS}
    linked = groupings.linked(G)
    if linked is not None:
        styles = {name: torch.cat([layer_styles(layer, w) for w in ws[:, 0].split(1024)])
            for name, layer in linked.layers.items()}
        for kind, sets in [('linked', linked.masks), ('shuffled', groupings.shuffled(linked.masks, seed))]:
            found[kind] = [_linked(kind, index, masks, styles, linked.layers)
                for index, masks in enumerate(sets[:linked.num_found])]
    for name, layer in styled_layers(G).items():
        styles = torch.cat([layer_styles(layer, w) for w in ws[:, 0].split(1024)])
        if getattr(layer, 'grouping', None) is not None:
            _add_groups(found, G, name, layer, ws[:, 0])
        if len(partitions.get(name, [])) == styles.shape[1]:
            shuffled = partitions[name][torch.randperm(styles.shape[1], generator=random)].to(styles.device)
            found['random'] += [_amplified(name, index, shuffled == index, styles, layer)
                for index in shuffled.unique().tolist()]
        context = lambda change, layer=layer: restyled(layer, change)
        every = torch.ones_like(styles[0], dtype=torch.bool)
        found['layer'].append(_moved('layer', name, 0, every, styles, context))
        for index in range(styles.shape[1]):
            alone = torch.arange(styles.shape[1], device=styles.device) == index
            found['channel'].append(_moved('channel', name, index, alone, styles, context))
    return [unit for of_kind in found.values() for unit in of_kind]

def _add_groups(found, G, name, layer, w):
    inter_code, intra_code = split_codes(w)
    inter, intra = layer.group_affine(inter_code), layer.affine(intra_code)
    for group in layer.grouping.assignment.unique().tolist():
        channels = layer.grouping.assignment == group
        found['inter'].append(_shifted(G, name, group, inter[:, group], channels))
        found['intra'].append(_moved('intra', name, group, channels, intra,
            lambda change, layer=layer: hooked(layer.affine, lambda _args, out: change(out))))

def group_partitions(G):
    """{layer name: [C], the group of each channel} of the grouped layers."""
    return {name: layer.grouping.assignment.cpu() for name, layer, _source in grouped_layers(G.synthesis)}

#----------------------------------------------------------------------------
