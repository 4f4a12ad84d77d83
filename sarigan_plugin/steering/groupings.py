"""What all tools know of the channel groups of a generator: those of its layers, and linked ones.

    >>> from sarigan_plugin.steering import groupings
    >>> from sarigan_plugin.steering.edits import Edit, edited
    >>> G = groupings.load('network.pkl', 'network')            # With those of network.groups.json, if it is there.
    >>> 'b16.conv0' in groupings.of(G)
    True

A group has a place, (layer, index). Linked groups, see channel_sets.py, have channels in many layers and the places
('linked', index): to tools they are the groups of one more layer of that name.

A layer's own groups are turned by the two codes that style them. Linked groups have no codes of their own. With the
styles s of a group's channels in a layer of C channels, their gain r is what |h| would be by Eq. 5, r^2 = 1/C sum s^2:

    inter_scale, inter_shift    r becomes inter_scale * r + inter_shift; scaling multiplies the styles
    inter_seed, inter_mix       r is taken from the image of another seed, or a part of it
    intra_seed, intra_mix       the styles are taken from there, gain and all
    intra_component             the code of the group's channels moves along one of components()
"""

import contextlib
import os
import weakref

import torch

from sarigan_plugin.errors import UserError
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.model.networks import split_codes
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import channel_sets
from sarigan_plugin.steering.styles import all_styles, hooked, restyled_by_code, styled_layers

LINKED  = 'linked'  # The place of linked groups.
NONE    = 'none'    # In place of a file: without linked groups.
TINY    = 1e-12     # Least gain that is divided by.

_attached = weakref.WeakKeyDictionary() # Of synthesis networks. Beside them, not in them: pickles stay what they are.

#----------------------------------------------------------------------------

def attach(G, sets):
    """Give a generator linked groups, in the place of earlier ones. sets: ChannelSets, None = none."""
    _attached.pop(G.synthesis, None)
    if sets is not None:
        _attached[G.synthesis] = LinkedGroups(styled_layers(G), sets)

def linked(G):
    """The LinkedGroups of a generator, or None."""
    return _attached.get(G.synthesis)

def of(G):
    """{place: LayerGroups or LinkedGroups} of a generator, linked ones first."""
    own = [LayerGroups(*grouped) for grouped in own_layers(G)]
    return {groups.name: groups for groups in [linked(G), *own] if groups is not None}

def own_layers(G):
    """As grouped.grouped_layers(), of any generator."""
    return grouped_layers(G.synthesis) if hasattr(G.synthesis, 'block_resolutions') else []

def notes(G, place):
    """{index: its note} of the groups of a place; those of layers have none."""
    return linked(G).notes() if place == LINKED and linked(G) is not None else {}

def default_places(G):
    """Those that stand for all groups where none is chosen: a layer's own before linked ones, which are theirs too."""
    own = [grouped.name for grouped in own_layers(G)]
    return own or list(of(G))

#----------------------------------------------------------------------------

class LayerGroups:
    """A layer's own groups of the channels that it reads."""

    def __init__(self, name, layer, source):
        """As in grouped.GroupedLayer."""
        self.name = name
        self.layer = layer
        self.source = source
        self.layers = {name: layer}
        self.num_groups = layer.grouping.num_groups
        self.assignment = layer.grouping.assignment

    @property
    def live(self):
        """Indices of the groups that have channels."""
        return self.assignment.unique().tolist()

    @property
    def shown(self):
        """Those that pages have a row for: an empty one too, if channels may join it."""
        return self.layer.grouping.live_groups.tolist()

    def sizes(self):
        """How many channels each group has."""
        return self.assignment.bincount(minlength=self.num_groups).tolist()

    def members(self, group):
        """Numbers that stand for its channels, wherever the group goes."""
        return set((self.assignment == group).nonzero()[:, 0].tolist())

    def maps(self, features):
        """What each group attends to: the mean of its feature maps. {layer: [N, C, h, w]} -> [N, g, h, w]."""
        return group_maps(features[self.name], self.layer.grouping())

    def facts(self):
        """What attention.json says of it. The temperature and threshold of groups that are not learned are None."""
        grouping = self.layer.grouping
        learned = hasattr(grouping, 'temperature')
        return dict(channels=grouping.num_channels, resolution=self.layer.resolution // self.layer.up,
            temperature=grouping.temperature.item() if learned else None,
            threshold=grouping.loss(grouping.target(self.source.weight))[1].item() if learned else None)

    def components(self, group):
        """The directions of the intra-group code that change a group's styles most, see principal_directions()."""
        return principal_directions([module.weight[self.assignment == group] * module.weight_gain
            for module in _intra_modules(self.layer)])

    def turned(self, edit, codes):
        """Contexts, inside of which an Edit is done. codes: {seed: w}, [1 or N, w_dim] each."""
        codes = {seed: split_codes(w) for seed, w in codes.items()}
        chosen = self.assignment == edit.group

        def change_inter(module):
            def change(_args, styles): # [Ng]
                of_group = torch.arange(styles.shape[1], device=styles.device) == edit.group
                # forward() goes past earlier edits.
                mixed = styles if edit.inter_seed is None else styles.lerp(module.forward(codes[edit.inter_seed][0]),
                    edit.inter_mix)
                return torch.where(of_group, mixed * edit.inter_scale + edit.inter_shift, styles)
            return hooked(module, change)

        def mix_intra(module):
            theirs = module.forward(codes[edit.intra_seed][1])
            return hooked(module, lambda _args, styles: torch.where(chosen, styles.lerp(theirs, edit.intra_mix),
                styles))

        def move_intra(module):
            step = edit.intra_amount * self.components(edit.group)[0][[edit.intra_component]] # [1, code_dim]
            change = module.forward(step) - module.forward(torch.zeros_like(step)) # The bias apart.
            return hooked(module, lambda _args, styles: torch.where(chosen, styles + change, styles))

        contexts = [change_inter(module) for module in ([self.layer.group_affine, self.layer.group_shift]
            if self.layer.norm == 'feature' else [self.layer.group_affine])]
        for wanted, make in [(edit.intra_seed, mix_intra), (edit.intra_component, move_intra)]:
            contexts += [make(module) for module in _intra_modules(self.layer) if wanted is not None]
        return contexts

class LinkedGroups:
    """Groups of channels of many layers."""

    name = LINKED

    def __init__(self, layers, sets):
        """layers: {name: layer} of a generator, of which sets, ChannelSets, have some."""
        self.layers = layers
        self.sets = sets
        self.num_groups = len(sets.sets)
        self.num_found = sum(not group.rest for group in sets.sets) # The first ones; what is left over may come last.
        self.masks = [masks_of(layers, group.channels) for group in sets.sets]

    @property
    def live(self):
        return list(range(self.num_groups))

    shown = live

    def sizes(self):
        return [sum(map(len, group.channels.values())) for group in self.sets.sets]

    def members(self, group):
        """Channels are counted through all layers."""
        numbers, first = set(), 0
        for name, layer in self.layers.items():
            numbers |= {first + channel for channel in self.sets.sets[group].channels.get(name, ())}
            first += layer.weight.shape[1]
        return numbers

    def names(self):
        """{index: name} of those that have one in their file."""
        return {index: group.name for index, group in enumerate(self.sets.sets) if group.name is not None}

    def notes(self):
        """{index: what a person sees when it is turned} of those that have a note in their file."""
        return {index: group.note for index, group in enumerate(self.sets.sets) if group.note}

    def maps(self, features):
        """As of LayerGroups, see linked_map()."""
        standard = {name: _standardised(features[name]) for name in self.layers}
        return torch.cat([linked_map(standard, masks, standardised=True) for masks in self.masks], dim=1)

    def facts(self):
        return dict(channels=sum(self.sizes()), resolution=None, temperature=None, threshold=None)

    def components(self, group):
        """The directions of the code, the intra-group one where there are two, that change its styles most."""
        return principal_directions([module.weight[mask] * module.weight_gain
            for name, mask in self.masks[group].items() for module in _intra_modules(self.layers[name])])

    def turned(self, edit, codes):
        contexts = []
        for name, mask in self.masks[edit.group].items():
            layer = self.layers[name]
            theirs = {seed: all_styles(layer, w) for seed, w in codes.items()}
            contexts.append(restyled_by_code(layer, self._change(edit, layer, mask, theirs)))
        return contexts

    def _change(self, edit, layer, mask, theirs):
        """What happens to the styles of one layer. theirs: {seed: its styles there}."""
        step = None
        if edit.intra_component is not None:
            step = edit.intra_amount * self.components(edit.group)[0][[edit.intra_component]] # [1, code_dim]

        def change(own, w):
            channels = mask.to(own[0].device)
            new = own
            if edit.intra_seed is not None:
                new = [style.lerp(other, edit.intra_mix) for style, other in zip(new, theirs[edit.intra_seed])]
            if step is not None:
                moved = w + torch.nn.functional.pad(step, [w.shape[1] - step.shape[1], 0]) # The intra code comes last.
                new = [style + there - here
                    for style, there, here in zip(new, all_styles(layer, moved), all_styles(layer, w))]
            gain = _gain(new[0], channels)
            wanted = gain
            if edit.inter_seed is not None:
                wanted = gain.lerp(_gain(theirs[edit.inter_seed][0], channels), edit.inter_mix)
            factor = wanted / gain.clamp(min=TINY) * edit.inter_scale + edit.inter_shift / gain.clamp(min=TINY)
            return tuple(torch.where(channels, style * factor, before) for style, before in zip(new, own))
        return change

def _standardised(features):
    features = features.float()
    return ((features - features.mean(dim=[1,2,3], keepdim=True))
        / features.std(dim=[1,2,3], keepdim=True).clamp(min=TINY))

def linked_map(features, masks, standardised=False):
    """What channels of several layers attend to: the mean of their maps, each layer's less their mean and over their
    deviation. {layer: [N, C, h, w]}, {layer: bool [C]} -> [N, 1, H, W], as large as the finest layer's of all."""
    side = max(x.shape[-1] for x in features.values())
    sums = []
    for name, mask in masks.items():
        x = features[name] if standardised else _standardised(features[name])
        sums.append(torch.nn.functional.interpolate(x[:, mask.to(x.device)].sum(dim=1, keepdim=True),
            size=[side, side], mode='bilinear'))
    return sum(sums) / sum(int(mask.sum()) for mask in masks.values())

def shuffled(masks, seed):
    """Random sets of as many channels each, out of all that are in some sets: a list of {layer: bool [C]}."""
    places = [(name, channel, len(mask)) for of_set in masks for name, mask in of_set.items()
        for channel in mask.nonzero()[:, 0].tolist()]
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed)).tolist()
    sets, first = [], 0
    for of_set in masks:
        last = first + sum(int(mask.sum()) for mask in of_set.values())
        sets.append(dict())
        for name, channel, width in [places[index] for index in order[first:last]]:
            sets[-1].setdefault(name, torch.zeros([width], dtype=torch.bool))[channel] = True
        first = last
    return sets

def united(sets):
    """What is in any of some sets, a list of {layer: bool [C]}: one of them."""
    union = {}
    for masks in sets:
        for name, mask in masks.items():
            union[name] = union[name] | mask if name in union else mask
    return union

def masks_of(layers, channels):
    """{layer: bool [C]} of {layer: its channels}."""
    masks = {name: torch.zeros([layers[name].weight.shape[1]], dtype=torch.bool) for name in channels}
    for name, of_layer in channels.items():
        masks[name][list(of_layer)] = True
    return masks

def _gain(styles, channels):
    """What |h| of the channels would be by Eq. 5. styles: [N, C]; channels: bool [C]. Returns [N, 1]."""
    return (styles * channels).square().mean(dim=1, keepdim=True).sqrt()

def group_maps(features, membership):
    """The mean of the feature maps of each group.

    [N, C, h, w], [C, g] one-hot -> [N, g, h, w], zero for an empty group.
    """
    return torch.einsum('nchw,cg->nghw', features, membership / membership.sum(dim=0).clamp(min=1))

def principal_directions(rows):
    """The directions that change the outputs of linear maps most, in closed form as in SeFa (Shen and Zhou, CVPR 2021).

    rows: a list of weights [outputs, inputs]. Returns (directions [K, inputs], of length 1, and gains [K], the length
    of the change of all outputs for a step of 1), gains falling: the right singular vectors.
    """
    rows = torch.cat(rows)
    _left, gains, directions = torch.linalg.svd(rows.double(), full_matrices=False)
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    # One of the two signs, the same everywhere.
    return (directions * largest.sign()).to(rows.dtype), gains.to(rows.dtype)

def _intra_modules(layer):
    """What makes styles, and in the feature form shifts, of the intra-group code; of the only one in a StyleGAN2."""
    return [layer.affine, layer.shift] if getattr(layer, 'norm', None) == 'feature' else [layer.affine]

@contextlib.contextmanager
def all_of(contexts):
    """Inside of all of them."""
    with contextlib.ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield

#----------------------------------------------------------------------------
# For commands.

def load(network, option, device='cpu', trust=False, generates=True, groups=None):
    """As reading.load(), of a generator with groups: its own, linked ones, or both. Raises UserError.

    groups: file of the linked ones, None = the one beside the network if there is one, 'none' = without.
    """
    G = reading.load(network, option, device, trust)
    if generates:
        reading.refuse_inpainting(G)
    read_linked(G, network, option, groups)
    if of(G):
        return G
    photos = ' --data=PHOTOS' if reading.completes_images(G) else ''
    regroupable = hasattr(G.synthesis, 'block_resolutions')
    first = f'run `sarigan regroup {network}{photos}` first: ' if regroupable else ''
    raise UserError(f'{option}: {first}{network!r} holds a generator without channel groups.')

def read_linked(G, network, option, groups=None):
    """Attach the linked groups of a file, see load()."""
    path = channel_sets.path_of(network) if groups is None else groups
    if groups == NONE or path is None or groups is None and not os.path.exists(path):
        return
    flag = option if groups is None else '--groups'
    advice = '' if groups is not None else ' --groups=none does without.'
    if not hasattr(G.synthesis, 'block_resolutions'):
        raise UserError(f'{flag}: linked groups {path!r} need a StyleGAN2 or SariGAN.{advice}')
    try:
        attach(G, channel_sets.read(path, G))
    except ValueError as error:
        raise UserError(f'{flag}: linked groups {path!r}: {error}{advice}') from None

#----------------------------------------------------------------------------
