"""Networks as a folder of numbers: safetensors beside a JSON of classes and constructor arguments.

Reading runs nothing.

    network.json            what the networks are, and the SHA-256 of
    network.safetensors     their parameters and buffers, named as in 'G_ema.synthesis.b4.const'
"""

import json
import os

import safetensors.torch
import torch

from sarigan_plugin.snapshots import label_kind, rebuild
from sarigan_plugin.support import files

DESCRIPTION = 'network.json'
TENSORS     = 'network.safetensors'
FORMAT      = 'sarigan network'
VERSION     = 1
NETWORKS    = ('G', 'D', 'G_ema', 'augment_pipe')

MAX_DESCRIPTION = 2 ** 20 # Bytes; two thousand are usual.

#----------------------------------------------------------------------------

def is_exported(path):
    """Whether this is a folder of ours."""
    return os.path.isfile(os.path.join(path, DESCRIPTION))

def write(data, folder):
    """Write networks into an empty folder that exists. data: as from reading.read().

    Raises ValueError for networks of other code.
    """
    networks = {name: data[name] for name in NETWORKS if data.get(name) is not None}
    described = {name: dict(class_name=rebuild.class_name(network), args=network.init_args, kwargs=network.init_kwargs)
        for name, network in networks.items()}
    for name, network in networks.items():
        if label_kind.of(network) is not None:
            described[name]['labels'] = label_kind.of(network)
    tensors = {f'{name}.{key}': tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, network in networks.items()
        for key, tensor in [*network.named_parameters(), *network.named_buffers()]}
    path = os.path.join(folder, TENSORS)
    safetensors.torch.save_file(tensors, path)
    description = dict(format=FORMAT, version=VERSION, tensors_sha256=files.sha256(path), networks=described,
        training_set_kwargs=rebuild.plain_dataset(data.get('training_set_kwargs')))
    with open(os.path.join(folder, DESCRIPTION), 'w', encoding='utf-8') as f:
        json.dump(description, f, indent=2)

def read(folder):
    """The networks in a folder that write() made: a dict as that of reading.read().

    Raises ValueError or OSError, or what a constructor raises at arguments that make no sense.
    """
    with open(os.path.join(folder, DESCRIPTION), encoding='utf-8') as f:
        description = json.loads(f.read(MAX_DESCRIPTION))
    ours = isinstance(description, dict) and description.get('format') == FORMAT
    if not ours or not isinstance(description.get('networks'), dict):
        raise ValueError('it was not written by `sarigan export`')
    if description.get('version') != VERSION:
        raise ValueError(f'its format is {rebuild.shorten(description.get("version"))}, '
            f'and only {VERSION} is known here')
    described = description['networks']
    if not {'G_ema'} <= set(described) <= set(NETWORKS):
        raise ValueError(f'it has no G_ema, or more than {", ".join(NETWORKS)}')
    path = os.path.join(folder, TENSORS)
    if files.sha256(path) != description.get('tensors_sha256'):
        raise ValueError(f'{TENSORS} is not the file that it was written with')

    tensors = safetensors.torch.load_file(path)
    data = dict.fromkeys(NETWORKS)
    for name, entry in described.items():
        network = rebuild.construct(entry['class_name'], entry['args'], entry['kwargs'],
            file_size=os.path.getsize(path))
        rebuild.fill(network,
            {key[len(name) + 1:]: tensor for key, tensor in tensors.items() if key.startswith(f'{name}.')})
        label_kind.remember(network, label_kind.known(entry.get('labels')))
        data[name] = network
    data['training_set_kwargs'] = rebuild.plain_dataset(description.get('training_set_kwargs'))
    return data

#----------------------------------------------------------------------------
