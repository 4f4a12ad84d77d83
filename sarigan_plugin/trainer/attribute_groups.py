"""--grouping=attributes: groups that have one attribute of the data set each, with its name beside each snapshot."""

import functools
import os
from collections.abc import Sequence
from typing import Any

import torch

from sarigan_plugin.datasets import attribute_source
from sarigan_plugin.datasets.attribute_source import UnreadableImage
from sarigan_plugin.datasets.picture_labels import some
from sarigan_plugin.errors import UserError
from sarigan_plugin.evaluation import attributes, snapshot_metrics
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.steering import channel_sets
from sarigan_plugin.steering.channel_sets import ChannelSet, ChannelSets
from sarigan_plugin.support import files
from sarigan_plugin.trainer import left_out

ASKED   = '--grouping=attributes'
BY      = 'attributes' # What a file says that its groups go by.

#----------------------------------------------------------------------------

def choose(data: str, wanted: Any, without: Sequence[str]) -> list[str]:
    """The attributes of a data set that get a group each. Raises UserError.

    wanted: their names, or 'all' that are recognised. A small network learns to recognise them first. without: names
    of images that are no part of the data set.
    """
    try:
        known = attributes.learn(data, without).attributes()
    except UnreadableImage as error:
        raise UserError(f'--data: {ASKED} cannot use {data!r}: {str(error).rstrip(".")}; --skip-bad-images=1 goes '
            'without it') from None
    except ValueError as error:
        raise UserError(f'--data: {ASKED} cannot use {data!r}: {error}') from None
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

def described(args: Any) -> str:
    """What is to be printed of a training: lines about attributes with a group, attributes without, layers with fewer
    groups, and rows of the table that no image has; '' for a training without groups by attribute.

    args: from arguments.training_options().
    """
    names = args.loss_kwargs.get('attributes_of_groups')
    if names is None:
        return ''
    classifier = attributes.learn(args.training_set_kwargs.path, left_out.names(args))
    unnamed = [name for name in classifier.attributes() if name not in names]
    without = {**({'not in --attributes': unnamed} if unnamed else {}), **classifier.passed_over()}
    numbers = args.G_kwargs.num_groups
    few = [f'{layer} {number}' for layer, number in numbers.items() if number < len(names)
        ] if isinstance(numbers, dict) else []
    with attribute_source.opened(args.training_set_kwargs.path) as source:
        lost = source.rows_without_an_image()
    facts = {'Groups': ', '.join(names), 'Without a group': attributes.listed(without),
        'Layers with fewer': ', '.join(few), 'Rows but no image': some(lost, 5)}
    return ''.join(f'{fact + ":":<20}{said}\n' for fact, said in facts.items() if said)

def make_loss(data: str, attributes_of_groups: Sequence[str], device: torch.device, **kwargs: Any) -> Any:
    """The AttributeLoss of a training; constructed by upstream's training_loop().

    data: the data set. attributes_of_groups: of choose(), in the order of the groups. kwargs: as AttributeLoss.
    """
    from sarigan_plugin.losses.attributes import AttributeLoss  # Here, as upstream's tree may come to sys.path late.
    classifier = attributes.learn(data)
    columns = [index for index in classifier.recognised() if classifier.of_each[index] in attributes_of_groups]
    return AttributeLoss(device=device, reader=functools.partial(_read, classifier.network.to(device), columns),
        group_of=[attributes_of_groups.index(classifier.of_each[index]) for index in columns], **kwargs)

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
    return ChannelSets(sets, channel_sets.weights_hash(G), dict(by=BY))

def write_names(run_dir: str, nimg: int, G: Any, names: Sequence[str]) -> None:
    """Write the linked groups of a snapshot beside it, where every command finds them."""
    path = channel_sets.path_of(os.path.join(run_dir, snapshot_metrics.name_of(nimg)))
    with files.out_of_space_warns(path):
        linked(G, names).write(path)

#----------------------------------------------------------------------------
