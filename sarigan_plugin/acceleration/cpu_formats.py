"""In which precision, and in which order of memory, blocks of G and D compute on the CPU.

Where the CPU multiplies bfloat16 faster than fp32 (AVX512-BF16, AMX), the high resolutions of wide networks compute in
it, as they compute in fp16 on a GPU: feature maps and convolutions, while parameters, mapping, styles, images and
losses stay in fp32. bfloat16 has the range of fp32, so nothing needs scaling, and 8 bits of precision. Its kernels, and
those for few channels in fp32, want channels last.

Blocks are told while a network runs and forget it then, so that copies and pickles show nothing of the machine.
"""

import contextlib
import functools
import math
import time

import torch

from sarigan_plugin.upstream.exchanges import Overlay, exchange

CHOICES           = ('auto', '1', '0')
RESOLUTIONS       = 4    # From the highest, as upstream's num_fp16_res is for its networks.
LEAST_CHANNELS    = 32   # At the highest resolution: with fewer, images take as long either way ...
LEAST_TRAINED     = 16   # ... but the convolutions of a training, which are three times as many, don't.
NARROW            = 64   # Channels from which on fp32 gains nothing by channels last.
FASTER            = 0.75 # Most of fp32's time where the CPU has instructions for bfloat16; without, it is more than 1.

# See using(); in fp32 unless a command says otherwise.
_choice, _resolutions, _least_channels = '0', RESOLUTIONS, LEAST_CHANNELS

@contextlib.contextmanager
def using(choice, resolutions=RESOLUTIONS, least_channels=LEAST_CHANNELS):
    """Inside the `with`, networks on the CPU compute in bfloat16: 'auto' (where it pays), '1' (always) or '0' (never).

    resolutions: how many, from the highest; 0 = none, whatever the choice.
    least_channels: at the highest resolution, for 'auto'.
    """
    global _choice, _resolutions, _least_channels # Of this process.
    before = _choice, _resolutions, _least_channels
    _choice, _resolutions, _least_channels = choice, resolutions, least_channels
    try:
        yield
    finally:
        _choice, _resolutions, _least_channels = before

def lowest_in_bf16(img_resolution, channels):
    """The lowest resolution that computes in bfloat16, None = no one does. channels: of the highest resolution.

    It is never below 8, as with upstream's fp16 (networks.py:439).
    """
    if _resolutions == 0 or _choice == '0' or _choice == 'auto' and (channels < _least_channels or not is_faster()):
        return None
    return max(2 * img_resolution >> _resolutions, 8)

def explained(img_resolution, channels):
    """What lowest_in_bf16() says, as a line for the log."""
    lowest = lowest_in_bf16(img_resolution, channels)
    if lowest is not None:
        return f'Precision: bf16 from {lowest}x{lowest} to {img_resolution}x{img_resolution}, fp32 elsewhere.'
    if _resolutions == 0 or _choice == '0':
        return 'Precision: fp32, as asked for.'
    if channels < _least_channels:
        return (f'Precision: fp32; with {channels} channels at {img_resolution}x{img_resolution}, '
            f'fewer than {_least_channels}, bf16 would save nothing.')
    return 'Precision: fp32; this CPU is no faster in bf16.'

@functools.cache
def is_faster():
    """Whether this CPU multiplies bfloat16 faster than fp32, tried on a convolution: some hundredths of a second."""
    return _seconds(torch.bfloat16) <= FASTER * _seconds(torch.float32)

def _seconds(dtype):
    x, w = [torch.ones(shape, dtype=dtype).contiguous(memory_format=torch.channels_last)
        for shape in [[4, 64, 32, 32], [64, 64, 3, 3]]]
    taken = []
    for _try in range(6): # The least counts: others share the CPU, and the first builds the kernel.
        start = time.thread_time()
        torch.nn.functional.conv2d(x, w, padding=1)
        taken.append(time.thread_time() - start)
    return min(taken)

#----------------------------------------------------------------------------

def prepare():
    """Exchange the methods of networks that run blocks, once per process."""
    for module in ['training.networks', 'sarigan_plugin.model.inpainting']:
        exchange(module, 'torch', _Torch, 'networks.py:382 and 557 compute in fp16, which CPUs are slow with')
    for place, name in [
        ('training.networks:SynthesisNetwork',          'forward'),
        ('training.networks:Discriminator',             'forward'),
        ('sarigan_plugin.model.discriminator:Discriminator', 'features'),
        ('sarigan_plugin.model.inpainting:Synthesis',   'forward'),
    ]:
        exchange(place, name, _in_formats,
            'networks.py:457 and 717 run blocks in the precision and memory order of a GPU')

class _Torch(Overlay):
    """`torch` for modules that ask for fp16 by name: while a network runs on the CPU, half precision is bfloat16."""
    half = None

    @property
    def float16(self):
        return _Torch.half if _Torch.half is not None else self._original.float16

def _in_formats(method):
    @functools.wraps(method)
    def wrapper(network, *args, **kwargs):
        codes_or_images = args[0] if args else next(iter(kwargs.values()))
        if codes_or_images.device.type != 'cpu':
            return method(network, *args, **kwargs)
        with _formats_chosen(network, in_fp32=kwargs.pop('force_fp32', False)):
            return method(network, *args, **kwargs)
    wrapper.chooses_formats = True
    return wrapper

def as_in_forward(network, device):
    """Inside the `with`, blocks called one by one compute as in forward() of the synthesis network they belong to.

    device: torch.device that they are on. To the bit: each order of memory has its own order of additions.
    """
    chooses = device.type == 'cpu' and hasattr(type(network).forward, 'chooses_formats') # Not before prepare().
    return _formats_chosen(network) if chooses else contextlib.nullcontext()

@contextlib.contextmanager
def _formats_chosen(network, in_fp32=False):
    """Inside the `with`, blocks, and the encoder of inpainting, know their precision and their order of memory.

    in_fp32: that of a network without half precision, whatever this one has.
    """
    # At 4x4 there is nothing to gain.
    blocks = [getattr(network, f'b{res}') for res in network.block_resolutions if res > 4]
    if not blocks or not in_fp32 and any(block.use_fp16 for block in blocks): # Some want to be looked at in fp16.
        yield
        return
    before = [(module, name, getattr(module, name)) for module in blocks for name in ['use_fp16', 'channels_last']]
    lowest = None if in_fp32 else lowest_in_bf16(network.img_resolution,
        getattr(network, f'b{network.img_resolution}').conv1.weight.shape[1])
    for block in blocks:
        block.use_fp16 = lowest is not None and block.resolution >= lowest
        block.channels_last = block.use_fp16 or max(block.conv0.weight.shape[:2]) < NARROW
    if hasattr(network, 'encoder'):
        before.append((network.encoder, 'fp16_resolution', network.encoder.fp16_resolution))
        network.encoder.fp16_resolution = math.inf if lowest is None else lowest
    _Torch.half = torch.bfloat16
    try:
        yield
    finally:
        _Torch.half = None
        for module, name, value in before:
            setattr(module, name, value)

#----------------------------------------------------------------------------
