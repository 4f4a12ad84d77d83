"""--grouping=attributes: groups that have one attribute of the data set each, with its name beside each snapshot."""

import functools
import os
from collections.abc import Sequence
from typing import Any

import torch

from sarigan_plugin.errors import UserError
from sarigan_plugin.evaluation import attributes, snapshot_metrics
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.steering import channel_sets
from sarigan_plugin.steering.channel_sets import ChannelSet, ChannelSets
from sarigan_plugin.support import files

ASKED = '--grouping=attributes'

#----------------------------------------------------------------------------

def choose(data: str, wanted: Any) -> list[str]:
    """The attributes of a data set that get a group each. Raises UserError.

    wanted: their names, or 'all' that are recognised. A small network learns to recognise them first.
    """
    try:
        known = attributes.learn(data).attributes()
    except ValueError as error:
        raise UserError(f'--data: {ASKED} needs a data set with attributes.json, and {data!r} is none: {error}'
            ) from None
    names = known if wanted == 'all' else list(wanted)
    for name in names:
        if name not in known:
            raise UserError(f'--attributes: {name!r} is none of those that are recognised in {data!r}: '
                f'{", ".join(known)}')
        _check_name(name, data)
    return names

def _check_name(name: str, data: str) -> None:
    """Raise UserError unless an attribute can give its name to a group: every snapshot has a file of them."""
    try:
        channel_sets.check_name(name)
    except ValueError as error:
        raise UserError(f'--attributes: {str(error).rstrip(".")}; rename the attribute in '
            f'attributes.json of {data!r}, or name others with --attributes=') from None

def make_loss(data: str, attributes_of_groups: Sequence[str], device: torch.device, **kwargs: Any) -> Any:
    """The AttributeLoss of a training; constructed by upstream's training_loop().

    data: the data set. attributes_of_groups: of choose(), in the order of the groups; others that are recognised are
    read as well, and are to come along with no group. kwargs: as AttributeLoss.
    """
    from sarigan_plugin.losses.attributes import AttributeLoss  # Here, as upstream's tree may come to sys.path late.
    classifier = attributes.learn(data)
    names = [*attributes_of_groups, *(name for name in classifier.attributes() if name not in attributes_of_groups)]
    columns = classifier.recognised()
    return AttributeLoss(device=device, reader=functools.partial(_read, classifier.network.to(device), columns),
        attribute_of=[names.index(classifier.of_each[index]) for index in columns],
        num_groups=len(attributes_of_groups), **kwargs)

def _read(network: torch.nn.Module, columns: Sequence[int], images: torch.Tensor) -> torch.Tensor:
    """[N, 1 or 3, R, R] -> logits [N, K]."""
    return network(attributes.resized(images.expand(-1, 3, -1, -1)))[:, columns]

#----------------------------------------------------------------------------

def linked(G: Any, names: Sequence[str]) -> ChannelSets:
    """The groups of a generator's layers as linked ones, with the names of their attributes."""
    layers = {name: layer.grouping.assignment.tolist() for name, layer, _source in grouped_layers(G.synthesis)}
    sets = []
    for index, name in enumerate(names):
        channels = {layer: tuple(channel for channel, group in enumerate(of_layer) if group == index)
            for layer, of_layer in layers.items()}
        sets.append(ChannelSet(name, {layer: of_layer for layer, of_layer in channels.items() if of_layer}))
    return ChannelSets(sets, channel_sets.weights_hash(G), dict(by='attributes'))

def write_names(run_dir: str, nimg: int, G: Any, names: Sequence[str]) -> None:
    """Write the linked groups of a snapshot beside it, where every command finds them."""
    path = channel_sets.path_of(os.path.join(run_dir, snapshot_metrics.name_of(nimg)))
    with files.out_of_space_warns(path):
        linked(G, names).write(path)

#----------------------------------------------------------------------------
