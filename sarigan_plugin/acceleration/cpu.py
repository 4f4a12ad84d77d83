"""Upstream's operations on the CPU: equal results in less time.

Upstream has CUDA kernels and, for everything else, a reference meant to be read. On a CPU most of a training is
convolutions: winograd.py makes them smaller, and what is exchanged here is the memory traffic between them.
"""

import ctypes
import functools

import torch

from sarigan_plugin.acceleration import activations, convolutions, cpu_formats, layers
from sarigan_plugin.acceleration.activations import memory_format
from sarigan_plugin.upstream.exchanges import exchange

MOST_COLOURS, LARGEST_BY_MATRICES = 4, 32 # Images that matrices upsample in less time than convolutions.

def prepare():
    """Exchange them, once per process."""
    activations.prepare()
    exchange('torch_utils.ops.upfirdn2d', '_upfirdn2d_ref', _filtered_once,
        'upfirdn2d.py:169 pads in memory, computes pixels that downsampling throws away, and convolves small images')
    exchange('torch_utils.ops.conv2d_gradfix', 'conv2d', _fewer_products,
        'conv2d_gradfix.py:35 takes four times the multiplications in 3x3 convolutions, gradients that are wrong in '
        'bfloat16, and a slow operator for 1x1 ones')
    layers.prepare()
    cpu_formats.prepare()
    keep_freed_memory()

def keep_freed_memory():
    """Feature maps of 32 MiB and more are given back to the kernel when they are freed,
    and each page of the next has to be fetched and zeroed.

    That was a fifth of a training at 128x128. From now on the process keeps what it has been given. Nothing happens
    where the C library is not glibc.
    """
    mmap_max, trim_threshold = -4, -1 # As in malloc.h.
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is not None:
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)

#----------------------------------------------------------------------------
# Filters and convolutions.

def _filtered_once(reference):
    """Pad inside the convolution and do not compute the pixels that downsampling throws away; or, with what suits
    matrices, multiply by one for columns and one for rows."""
    from torch_utils.ops.upfirdn2d import _parse_padding, _parse_scaling
    @functools.wraps(reference)
    def upfirdn2d(x, f, up=1, down=1, padding=0, flip_filter=False, gain=1):
        if x.device.type != 'cpu' or f is None:
            return reference(x, f, up=up, down=down, padding=padding, flip_filter=flip_filter, gain=gain)
        (up_x, up_y), (down_x, down_y) = _parse_scaling(up), _parse_scaling(down)
        left, right, top, bottom = _parse_padding(padding)
        taps = None
        if _suits_matrices(x, f, (up_x, up_y), (down_x, down_y)):
            taps = _taps(tuple(map(tuple, f.reshape(-1, f.shape[-1]).tolist())), f.ndim, gain, flip_filter)
        if taps is not None:
            matrix = axis_matrix if f.ndim == 1 else _kept_matrix # Those of augmentation seldom come again.
            of_columns = matrix(taps[0], x.shape[2], up_y, down_y, top, bottom).to(x.dtype)
            of_rows = matrix(taps[1], x.shape[3], up_x, down_x, left, right).to(x.dtype)
            return of_columns @ x @ of_rows.t()
        if f.ndim != 2 or (up_x, up_y) != (1, 1):
            return reference(x, f, up=up, down=down, padding=padding, flip_filter=flip_filter, gain=gain)
        padding = (top, left)
        if not (left == right >= 0 and top == bottom >= 0):
            x, padding = torch.nn.functional.pad(x, [left, right, top, bottom]), (0, 0) # Crops where negative.
        f = (f * gain).to(x.dtype)
        f = f if flip_filter else f.flip([0, 1])
        return Filter.apply(x, f.expand(x.shape[1], 1, -1, -1).contiguous(), (down_y, down_x), padding)
    return upfirdn2d

def _suits_matrices(x, f, up, down):
    """Long filters that are the same for both axes, as those of augmentation: its images have another size each time,
    and PyTorch would keep what it prepares for each. And images that a small filter enlarges, as long as they are
    small."""
    if f.ndim == 1:
        return x.dtype in [torch.float32, torch.float64]
    return (up != (1, 1) and down == (1, 1) and x.dtype == torch.float32 and x.shape[1] <= MOST_COLOURS
        and max(x.shape[2:]) <= LARGEST_BY_MATRICES)

@functools.lru_cache(32)
def _taps(rows, axes, gain, flip_filter):
    """A filter as numbers down columns and along rows, whose products it is, in the order of a correlation; None where
    it is no such product. rows: of the filter, one if it is for each of the axes."""
    f = torch.tensor(rows)
    f = f if flip_filter else f.flip([0, 1])
    if axes == 1:
        taps = tuple((f[0] * gain ** 0.5).tolist())
        return taps, taps
    along_y, along_x = f.sum(dim=1), f.sum(dim=0) / f.sum()
    return (tuple((along_y * gain).tolist()), tuple(along_x.tolist())) if torch.allclose(
        along_y.outer(along_x), f) else None

def axis_matrix(taps, size, up, down, before, after):
    """What upfirdn2d does along one axis, as a matrix [outputs, size]: up - 1 zeros behind each pixel, margins (cut off
    where negative), a correlation with the taps, and each down-th of what is left.

    Output i sums taps[k] times pixel j where up * j = down * i + k - before.
    """
    outputs = (size * up + before + after - len(taps)) // down + 1
    index = up * torch.arange(size) + before - down * torch.arange(outputs)[:, None]
    inside = (index >= 0) & (index < len(taps))
    return torch.where(inside, torch.tensor(taps)[index.clamp(0, len(taps) - 1)], 0)

# The next use may ask for gradients.
_kept_matrix = functools.lru_cache(32)(torch.inference_mode(False)(axis_matrix))

class Filter(torch.autograd.Function):
    """A convolution of each channel alone: x [N, C, H, W], f [C, 1, fh, fw]; stride and padding are pairs.

    PyTorch's own derivative of its derivative works out the gradient of the filter as well, channel by channel, which
    was a tenth of a step of the path length penalty.
    """
    @staticmethod
    def forward(ctx, x, f, stride, padding):
        ctx.save_for_backward(f)
        ctx.how = stride, padding, x.shape
        return torch.nn.functional.conv2d(x, f, stride=stride, padding=padding, groups=len(f))

    @staticmethod
    def backward(ctx, dy):
        return FilterGradient.apply(dy, *ctx.saved_tensors, *ctx.how), None, None, None

class FilterGradient(torch.autograd.Function):
    """The adjoint of Filter, which is its adjoint in turn."""
    @staticmethod
    def forward(ctx, dy, f, stride, padding, shape):
        ctx.save_for_backward(f)
        ctx.how = stride, padding
        return _adjoint_filter(dy, f, stride, padding, shape)

    @staticmethod
    def backward(ctx, ddx):
        return Filter.apply(ddx, *ctx.saved_tensors, *ctx.how), None, None, None, None

def _adjoint_filter(dy, f, stride, padding, shape):
    """The gradient by x, of a shape [N, C, H, W], of conv2d(x, f [C, 1, fh, fw]).

    PyTorch's own are slower, up to twenty times with 16 bits.

    It is a convolution with the filter turned around. With a stride, zeros stand between the pixels of dy.
    """
    rests = [size - fsize + 2 * pad - step * (dsize - 1)
        for size, fsize, pad, step, dsize in zip(shape[2:], f.shape[2:], padding, stride, dy.shape[2:])]
    margins = [fsize - 1 - pad for fsize, pad in zip(f.shape[2:], padding)]
    if min(margins) < 0 or stride != (1, 1) and dy.dtype == torch.float32 and dy.is_contiguous():
        return torch.nn.grad.conv2d_input(shape, f, dy, stride=stride, padding=padding, groups=len(f))
    if stride != (1, 1) or any(rests):
        (step_y, step_x), (rest_y, rest_x) = stride, rests
        spread = torch.empty([*shape[:2], step_y * (dy.shape[2] - 1) + 1 + rest_y,
            step_x * (dy.shape[3] - 1) + 1 + rest_x], dtype=dy.dtype,
            memory_format=memory_format(dy) or torch.contiguous_format).zero_()
        spread[:, :, :spread.shape[2] - rest_y:step_y, :spread.shape[3] - rest_x:step_x] = dy
        dy = spread
    return torch.nn.functional.conv2d(dy, f.flip([2, 3]), padding=margins, groups=len(f))

def _fewer_products(reference):
    """3x3 convolutions by convolutions.py, where it has a way; and 1x1 ones by the faster of PyTorch's operators."""
    @functools.wraps(reference)
    def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        by = convolutions.way(input, weight, stride, padding, dilation, groups)
        if by is not None:
            y = convolutions.Convolution.apply(input, weight, False, by)
            return y if bias is None else y.add_(bias[:, None, None])
        # Not for images, which have three channels.
        if (input.device.type == 'cpu' and input.dtype == torch.float32 and weight.shape[2:] == (1, 1)
                and min(weight.shape[:2]) > 4):
            # Of a single pixel: the same. Small batches on one thread go to an operator three times slower if not
            # dilated.
            dilation = 2
        return reference(input, weight, bias=bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
    return conv2d

#----------------------------------------------------------------------------
