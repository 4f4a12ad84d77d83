"""A look at the grouped layers of a generator: which they are, what the codes say to them, what they read."""

import contextlib
import typing

import torch

from sarigan_plugin.model.networks import convolutions, split_codes

#----------------------------------------------------------------------------

class GroupedLayer(typing.NamedTuple):
    """A layer whose input channels are grouped, e.g. 'b8.conv1'."""
    name:   str                 # Of its block and of itself.
    layer:  torch.nn.Module     # The SynthesisLayer.
    source: torch.nn.Module     # The layer whose kernels produce those channels, here b8.conv0.

def grouped_layers(synthesis):
    """[GroupedLayer] of a generator's synthesis network, in order. Empty for upstream's networks."""
    convs = convolutions(synthesis)
    return [GroupedLayer(name, layer, source) for (name, layer), (_name, source) in zip(convs[1:], convs)
        if getattr(layer, 'grouping', None) is not None]

def inter_positions(synthesis):
    """The slice of ws, [N, num_ws, ...], whose inter-group codes some layer reads; without groups, all of it."""
    read = [index for index, (_name, layer) in enumerate(convolutions(synthesis))
        if getattr(layer, 'grouping', None) is not None]
    return slice(read[0], read[-1] + 1) if read else slice(None)

def code_styles(synthesis, ws):
    """What grouped layers make of the two codes before they are folded into one (paper: h and z).

    ws: [N, num_ws, 2 * code_dim]; under style mixing each layer has codes of its own.
    Returns (inter, intra), [N, sum of g] and [N, sum of C], layer by layer, with their means in the feature form.
    """
    inter, intra = [], []
    for (_name, layer), w in zip(convolutions(synthesis), ws.unbind(dim=1)):
        if layer.grouping is not None:
            inter_code, intra_code = split_codes(w)
            inter.append(layer.group_affine(inter_code))
            intra.append(layer.affine(intra_code))
            if layer.norm == 'feature':
                inter.append(layer.group_shift(inter_code))
                intra.append(layer.shift(intra_code))
    return torch.cat(inter, dim=1), torch.cat(intra, dim=1)

@contextlib.contextmanager
def captured_features(synthesis, layers=None):
    """Record the latest input of each layer inside the `with`: {layer name: [N, C, H, W]}, filled as images are made.

    layers: {name: layer}, None = those that are grouped.
    """
    features = dict()
    if layers is None:
        layers = {grouped.name: grouped.layer for grouped in grouped_layers(synthesis)}
    with contextlib.ExitStack() as stack:
        for name, layer in layers.items():
            hook = layer.register_forward_pre_hook(lambda _layer, args, name=name: features.update({name: args[0]}))
            stack.callback(hook.remove)
        yield features

#----------------------------------------------------------------------------
