"""Networks made anew by our installed code from what a file tells of them: a class, constructor arguments, tensors.

Nothing of the file is trusted. The class is one of seven, the arguments are plain and small, the constructor may make
hardly more numbers than the file could hold, and names, shapes and types of the tensors must be those that it made.
"""

import importlib
import math

import torch

from sarigan_plugin import compat

import dnnlib
from torch_utils.ops import bias_act

# What files may name, and nothing else is ever imported for them.
CLASSES = (
    'training.networks.Generator',
    'training.networks.Discriminator',
    'training.augment.AugmentPipe',
    'sarigan_plugin.networks.Generator',
    'sarigan_plugin.networks.Discriminator',
    'sarigan_plugin.inpainting.Generator',
    'sarigan_plugin.inpainting.Discriminator',
)
# Of training_set_kwargs, which upstream's metrics construct.
DATASET_CLASSES = ('training.dataset.ImageFolderDataset', 'sarigan_plugin.inpainting_data.InpaintingDataset')

MAX_ARGUMENT = 2 ** 22  # A constructor's whole numbers; the largest is c_dim,
                        # 4 * 1024 * 1024 for inpainting of 1024 pixels.
MAX_LENGTH   = 64       # Of lists and dicts among them; filters have 8 numbers at most,
                        # num_groups a key for each of 17 layers.
MAX_ITEMS    = 10000    # In all of a network's arguments.
MAX_TENSORS  = 4000     # A generator of 1024 pixels makes about 300.

GROUP_NUMBERS = ('grouping.assignment', 'grouping.merged_into') # Must be groups that the layer has.
# Networks pickled before these came start with the constructor's.
LATER_TENSORS = ('grouping.steps', 'style_mean', 'style_variance')

#----------------------------------------------------------------------------

def class_name(network):
    """The name in CLASSES of a network that we or upstream made. Raises ValueError for others."""
    original = type(network).__mro__[1] # Below the decorator of torch_utils.persistence.
    name = compat.file_name(original.__module__, original.__name__)
    if name not in CLASSES:
        raise ValueError(f'{type(network).__name__} is not a network of this installation')
    return name

def construct(name, args, kwargs, file_size):
    """A fresh network of the class `name`, in eval mode, without gradients.

    The caller's random numbers stay as they are.

    args, kwargs: of its constructor, checked here. file_size: bytes of the file that it is in,
    which limits how large it is.
    Raises ValueError, or whatever a constructor raises at arguments that make no sense.
    """
    if name not in CLASSES:
        raise ValueError(f'{shorten(name)} is none of {", ".join(CLASSES)}')
    if type(args) not in (list, tuple) or type(kwargs) not in (dict, dnnlib.EasyDict):
        raise ValueError('it has no constructor arguments')
    args, kwargs = plain(list(args), MAX_ARGUMENT), plain(kwargs, MAX_ARGUMENT)
    module, attribute = name.rsplit('.', maxsplit=1)
    constructor = getattr(importlib.import_module(module), attribute)
    # Numbers of four bytes, made twice: SariGAN exchanges layers.
    with torch.random.fork_rng(devices=[]), _Budget(file_size // 2):
        network = constructor(*args, **kwargs).eval().requires_grad_(False)
    for module in network.modules():
        # Some layers would ask only when they run.
        if getattr(module, 'activation', 'linear') not in bias_act.activation_funcs:
            raise ValueError(f'{shorten(module.activation)} is none of the activations '
                f'{", ".join(bias_act.activation_funcs)}')
    return network

def fresh_discriminator(G):
    """A discriminator that has learnt nothing, in eval mode, of the kind and size of a generator of ours or upstream's.

    The caller's random numbers stay as they are. Raises ValueError for other generators.
    """
    module, attribute = class_name(G).rsplit('.', maxsplit=1)
    constructor = getattr(importlib.import_module(module), attribute.replace('Generator', 'Discriminator'))
    kwargs = dict(c_dim=G.c_dim, img_resolution=G.img_resolution, img_channels=G.img_channels)
    sizes = G.init_kwargs.get('synthesis_kwargs', {})
    kwargs.update({key: sizes[key] for key in ['channel_base', 'channel_max', 'num_fp16_res', 'conv_clamp']
        if key in sizes})
    if hasattr(G, 'code_dim'):
        kwargs.update(code_dim=G.code_dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return constructor(**kwargs).eval().requires_grad_(False)

@torch.no_grad()
def fill(network, tensors):
    """Copy {name: tensor} into a network, which must have exactly these.

    Raises ValueError, with the network half filled.
    """
    ours = dict([*network.named_parameters(), *network.named_buffers()])
    unknown = [name for name in tensors if name not in ours]
    missing = [name for name in ours if name not in tensors and not name.endswith(LATER_TENSORS)]
    if unknown or missing:
        raise ValueError(f'its tensor {shorten(unknown[0])} has no place in the network' if unknown
            else f'its tensor {missing[0]} is missing')
    for name, theirs in tensors.items():
        if theirs.shape != ours[name].shape or theirs.dtype != ours[name].dtype:
            raise ValueError(f'{name} is {describe(theirs)} where its network has {describe(ours[name])}')
        if name.endswith(GROUP_NUMBERS):
            num_groups = network.get_submodule(name.rsplit('.', maxsplit=1)[0]).num_groups
            if not (theirs.min() >= 0 and theirs.max() < num_groups):
                raise ValueError(f'{name} names groups that are not there')
        ours[name].copy_(theirs)

def describe(tensor):
    return f'{str(tensor.dtype).removeprefix("torch.")} {list(tensor.shape)}'

def shorten(text):
    """Text of a file's, fit for a sentence: no control characters, and not too much of it."""
    shown = ascii(text[:80] if isinstance(text, str) else text)
    return shown if len(shown) <= 80 else f'{shown[:76]}...'

#----------------------------------------------------------------------------

def plain(value, largest):
    """A copy of numbers, strings, lists and dicts. largest: of whole numbers. Raises ValueError for anything else."""
    items_left = [MAX_ITEMS]
    def copied(value):
        items_left[0] -= 1
        if items_left[0] < 0:
            raise ValueError('it has too many arguments')
        kind = type(value)
        if value is None or kind in (bool, float):
            return value
        if kind is int and abs(value) <= largest:
            return value
        if kind is str and len(value) <= 10000:
            return value
        if kind in (list, tuple, dict, dnnlib.EasyDict) and len(value) <= MAX_LENGTH:
            if kind in (list, tuple):
                return kind([copied(item) for item in value])
            if all(type(key) in (str, int) and key not in ('class_name', 'func_name') for key in value):
                return kind({key: copied(item) for key, item in value.items()})
        raise ValueError(f'the argument {shorten(value) if kind in (int, str) else kind.__name__} is none that '
            'networks have')
    return copied(value)

def plain_dataset(kwargs):
    """training_set_kwargs as far as they can be kept: None unless they are for a class in DATASET_CLASSES."""
    if type(kwargs) not in (dict, dnnlib.EasyDict) or kwargs.get('class_name') not in DATASET_CLASSES:
        return None
    return dict(plain({key: value for key, value in kwargs.items() if key != 'class_name'}, largest=2 ** 63),
        class_name=kwargs['class_name'])

class _Budget(torch.overrides.TorchFunctionMode):
    """Inside the `with`, functions that make tensors of a given size may make `numbers` elements in all."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers = numbers
        self.tensors = MAX_TENSORS

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.randn, torch.zeros, torch.ones, torch.full, torch.empty):
            self.numbers -= abs(math.prod(args[0] if isinstance(args[0], (list, tuple)) else args))
            self.tensors -= 1
            if self.numbers < 0 or self.tensors < 0:
                raise ValueError('its arguments are for a network much larger than the file')
            if func is torch.randn:
                func = torch.zeros # Random numbers take time, and all of them will be overwritten.
        return func(*args, **(kwargs or {}))

#----------------------------------------------------------------------------
