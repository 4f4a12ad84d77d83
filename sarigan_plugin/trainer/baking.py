"""A SariGAN whose groups are the linked groups of a plain StyleGAN2, and which makes nearly the same images.

The styles of the StyleGAN2 are the intra-group ones, kernels and all else are its own, and the inter-group affine maps
are fitted so that Eq. 5's norm cancels: see transfer.fit_group_styles().
"""

import copy
from typing import Any

import torch

from sarigan_plugin.errors import UserError
from sarigan_plugin.model import networks
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering.channel_sets import ChannelSets
from sarigan_plugin.steering.styles import styled_layers
from sarigan_plugin.trainer import transfer

@torch.no_grad()
def baked(source: Any, sets: ChannelSets) -> tuple[Any, float]:
    """A Generator of ours with the linked groups of a plain one, the same index in each layer.

    Channels that are in no group join what is left over, or are one more. Returns (generator, relative error of its
    styles, root mean square). Raises UserError.
    """
    check(source)
    left = len(sets.sets) - sets.sets[-1].rest
    members = {name: torch.full([layer.weight.shape[1]], left, dtype=torch.int64)
        for name, layer in styled_layers(source).items()}
    for index, group in enumerate(sets.sets):
        for name, channels in group.channels.items():
            members[name][list(channels)] = index
    number = 1 + max(int(of_layer.max()) for of_layer in members.values())
    fewest = min(map(len, members.values()))
    if number > fewest:
        raise UserError(f'--bake: {number} groups are more than the {fewest} channels of the smallest layer; '
            f'--num-groups={max(fewest - 1, 2)} would do.')
    options = source.init_kwargs
    target = networks.Generator(z_dim=source.z_dim, c_dim=source.c_dim, img_resolution=source.img_resolution,
        img_channels=source.img_channels, code_dim=source.w_dim, num_groups=number, grouping='blocks',
        mapping_kwargs=options.get('mapping_kwargs', {}), synthesis_kwargs=options.get('synthesis_kwargs', {}))
    theirs = transfer.fitting_tensors(source, target)
    for name, tensor in dict([*target.named_parameters(), *target.named_buffers()]).items():
        if name in theirs:
            tensor.copy_(theirs[name])
    for name, layer, _source in grouped_layers(target.synthesis):
        layer.grouping.assignment.copy_(members[name])
    target.eval().requires_grad_(False)
    return target, transfer.fit_group_styles(target)

def check(source: Any) -> None:
    """Raise UserError unless it is a plain StyleGAN2."""
    if reading.completes_images(source):
        raise UserError('--bake: the network completes images; a StyleGAN2 that makes them can be baked.')
    if hasattr(source, 'code_dim') or not hasattr(source, 'init_kwargs'):
        raise UserError('--bake: the network is a SariGAN already, whose styles are made of two codes; '
            'a StyleGAN2 can be baked.')

def contents(data: dict[str, Any], G_ema: Any, sets: ChannelSets) -> dict[str, Any]:
    """What a pickle holds that a training can go on from. data: of reading.load_all(); G_ema: as baked() made it."""
    G = copy.deepcopy(G_ema) if data.get('G') is None else baked(reading.put(data['G'], 'cpu'), sets)[0]
    return dict(data, G=G, G_ema=G_ema)
