"""Networks as a folder of numbers: safetensors beside a JSON of classes and constructor arguments.

Reading runs nothing.

    network.json            what the networks are, and the SHA-256 of
    network.safetensors     their parameters and buffers, named as in 'G_ema.synthesis.b4.const'

Folders that are to be published hold the averaged generator alone, and call these config.json and model.safetensors,
as others do.
"""

import copy
import json
import os
import shutil

import safetensors.torch
import torch

from sarigan_plugin.snapshots import label_kind, rebuild
from sarigan_plugin.support import files

DESCRIPTION = 'network.json'
TENSORS     = 'network.safetensors'
LAYOUTS     = {DESCRIPTION: TENSORS, 'config.json': 'model.safetensors'} # Description -> tensors.
FORMAT      = 'sarigan network'
VERSION     = 1
NETWORKS    = ('G', 'D', 'G_ema', 'augment_pipe')

HALF        = 'float16'     # How most tensors may be stored.

MAX_DESCRIPTION = 2 ** 20 # Bytes; two thousand are usual.

#----------------------------------------------------------------------------

def is_exported(path):
    """Whether this is a folder of ours."""
    return any(os.path.isfile(os.path.join(path, name)) for name in LAYOUTS)

def description_of(folder):
    """The path of the file that says what is in a folder of ours."""
    paths = [os.path.join(folder, name) for name in LAYOUTS]
    return next((path for path in paths if os.path.isfile(path)), paths[0])

def write(data, folder, layout=DESCRIPTION, names=NETWORKS, half=False, more=None):
    """Write networks into an empty folder that exists. data: as from reading.read().

    layout: one of LAYOUTS. names: which networks. half: store weights in 16 bits. more: what else the description says.
    Raises ValueError for networks of other code.
    """
    networks = {name: data[name] for name in names if data.get(name) is not None}
    described = {name: dict(class_name=rebuild.class_name(network), args=network.init_args, kwargs=network.init_kwargs)
        for name, network in networks.items()}
    for name, network in networks.items():
        if label_kind.of(network) is not None:
            described[name]['labels'] = label_kind.of(network)
    tensors = {f'{name}.{key}': tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, network in networks.items()
        for key, tensor in [*network.named_parameters(), *network.named_buffers()]}
    path = os.path.join(folder, LAYOUTS[layout])
    safetensors.torch.save_file({key: _halved(key, tensor) for key, tensor in tensors.items()} if half else tensors,
        path, metadata=dict(format='pt') if half else None) # Loaders of the hub ask for the format.
    description = dict(format=FORMAT, version=VERSION, tensors_sha256=files.sha256(path), networks=described,
        training_set_kwargs=rebuild.plain_dataset(data.get('training_set_kwargs')), **(more or {}))
    if half:
        description.update(stored=HALF)
    with open(os.path.join(folder, layout), 'w', encoding='utf-8') as f:
        json.dump(description, f, indent=2)
    shutil.copymode(os.path.join(folder, layout), path) # safetensors keeps its files private.

def _halved(key, tensor):
    """In 16 bits where that will do: not the logits, of which the largest decides, nor what is too large."""
    largest = torch.finfo(torch.float16).max
    fits = tensor.dtype == torch.float32 and '.grouping.' not in key and bool((tensor.abs() <= largest).all())
    return tensor.half() if fits else tensor

def rounded(G):
    """A copy of a network with the numbers that write() keeps of it in 16 bits."""
    made = copy.deepcopy(G)
    for key, tensor in [*made.named_parameters(), *made.named_buffers()]:
        tensor.data.copy_(_halved(key, tensor.data))
    return made

def read(folder):
    """The networks in a folder that write() made: a dict as that of reading.read().

    Raises ValueError or OSError, or what a constructor raises at arguments that make no sense.
    """
    place = description_of(folder)
    with open(place, encoding='utf-8') as f:
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
    path = os.path.join(folder, LAYOUTS[os.path.basename(place)])
    if files.sha256(path) != description.get('tensors_sha256'):
        raise ValueError(f'{os.path.basename(path)} is not the file that it was written with')

    tensors = safetensors.torch.load_file(path)
    halved = description.get('stored') == HALF
    if halved:
        tensors = {key: tensor.float() if tensor.dtype == torch.float16 else tensor for key, tensor in tensors.items()}
    data = dict.fromkeys(NETWORKS)
    for name, entry in described.items():
        network = rebuild.construct(entry['class_name'], entry['args'], entry['kwargs'],
            file_size=os.path.getsize(path) * (3 if halved else 1)) # Half as many bytes a number, and no G and D.
        rebuild.fill(network,
            {key[len(name) + 1:]: tensor for key, tensor in tensors.items() if key.startswith(f'{name}.')})
        label_kind.remember(network, label_kind.known(entry.get('labels')))
        data[name] = network
    data['training_set_kwargs'] = rebuild.plain_dataset(description.get('training_set_kwargs'))
    return data

#----------------------------------------------------------------------------
