"""Triton kernels for upstream's two custom ops, for machines where its CUDA plugins can't be built.

This module stands in for both plugins: ops.py hands it to upstream's bias_act.py and upfirdn2d.py, whose autograd
functions make first and second order gradients of the same two functions. Sums are in float32, in float64 for float64.
Needs Triton 3.3, which PyTorch 2.7 brings along. Kernels use no jitted functions of Triton's own, as tl.zeros is one:
those can't be interpreted where Triton was imported to compile.
"""

import torch
import triton
import triton.language as tl

# As upstream numbers them, from 1.
ACTIVATIONS = ('linear', 'relu', 'lrelu', 'tanh', 'sigmoid', 'elu', 'selu', 'softplus', 'swish')
SELU_SCALE = tl.constexpr(1.0507009873554805)
SELU_ALPHA = tl.constexpr(1.6732632423543772)

THREADS = 128                   # Of each program, as Triton has it unless told otherwise.
BLOCK   = 8 * THREADS           # Elements of each program of bias_act.
MOST_ELEMENTS = 2 ** 31 - BLOCK # Indices have 32 bits.

#----------------------------------------------------------------------------
# Bias and activation.

@triton.jit
def _bias_act_kernel(
    x_ptr,                  # What to map: x, or a gradient.
    b_ptr,                  # Bias, or None.
    xref_ptr,               # The x of the forward pass, or None.
    yref_ptr,               # The y of the forward pass, or None.
    dy_ptr,                 # For second derivatives, the gradient that the first one was taken with.
    out_ptr,
    count,                  # Elements in x.
    step,                   # Elements between two that have neighbouring biases.
    num_biases,
    alpha,
    gain,
    inverse_gain,
    clamp,
    ACT:   tl.constexpr,
    GRAD:  tl.constexpr,    # 0 = the op, 1 = first derivative, 2 = second.
    CLAMP: tl.constexpr,    # Is there a clamp?
    FLOAT: tl.constexpr,    # What to calculate in.
    BLOCK: tl.constexpr,
):
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    x = tl.load(x_ptr + index, mask=inside, other=0).to(FLOAT)

    # u is what the activation function gets, y what it returns, and yref that times gain, clamped.
    u = x
    yref = tl.full([BLOCK], 0, FLOAT)
    if GRAD > 0:
        if xref_ptr is not None:
            u = tl.load(xref_ptr + index, mask=inside, other=0).to(FLOAT)
        if yref_ptr is not None:
            yref = tl.load(yref_ptr + index, mask=inside, other=0).to(FLOAT)
    y = yref * inverse_gain
    if b_ptr is not None:
        u += tl.load(b_ptr + index // step % num_biases, mask=inside, other=0).to(FLOAT)

    # Its value, first or second derivative. Comparisons are such that NaN stays NaN,
    # and 0 has the reference's derivatives.
    value = u
    if ACT == 'linear':
        if GRAD == 1:
            value = tl.full([BLOCK], 1, FLOAT)
        if GRAD == 2:
            value = tl.full([BLOCK], 0, FLOAT)
    elif ACT == 'relu':
        if GRAD == 0:
            value = tl.where(u < 0, 0, u)
        if GRAD == 1:
            value = tl.where(y > 0, 1, 0).to(FLOAT)
        if GRAD == 2:
            value = tl.full([BLOCK], 0, FLOAT)
    elif ACT == 'lrelu':
        if GRAD == 0:
            value = tl.where(u < 0, u * alpha, u)
        if GRAD == 1:
            value = tl.where(y > 0, 1, alpha).to(FLOAT)
        if GRAD == 2:
            value = tl.full([BLOCK], 0, FLOAT)
    elif ACT == 'tanh':
        if GRAD == 0:
            value = 1 - 2 / (tl.exp(2 * u) + 1)
        if GRAD == 1:
            value = 1 - y * y
        if GRAD == 2:
            value = 2 * y * (y * y - 1)
    elif ACT == 'sigmoid':
        if GRAD == 0:
            value = 1 / (1 + tl.exp(-u))
        if GRAD == 1:
            value = y * (1 - y)
        if GRAD == 2:
            value = y * (1 - y) * (1 - 2 * y)
    elif ACT == 'elu':
        if GRAD == 0:
            value = tl.where(u < 0, tl.exp(u) - 1, u)
        if GRAD == 1:
            value = tl.where(y > 0, 1, y + 1)
        if GRAD == 2:
            value = tl.where(y < 0, y + 1, 0)
    elif ACT == 'selu':
        if GRAD == 0:
            value = SELU_SCALE * tl.where(u < 0, SELU_ALPHA * (tl.exp(u) - 1), u)
        if GRAD == 1:
            value = tl.where(y > 0, SELU_SCALE, y + SELU_SCALE * SELU_ALPHA)
        if GRAD == 2:
            value = tl.where(y < 0, y + SELU_SCALE * SELU_ALPHA, 0)
    elif ACT == 'softplus':
        if GRAD == 0:
            value = tl.where(u < 0, 0, u) + tl.log(1 + tl.exp(-tl.abs(u)))
        if GRAD == 1:
            value = 1 - tl.exp(-y)
        if GRAD == 2:
            value = tl.exp(-y) * (1 - tl.exp(-y))
    elif ACT == 'swish': # Alone in that its derivatives are functions of u.
        s = 1 / (1 + tl.exp(-u))
        if GRAD == 0:
            value = u * s
        if GRAD == 1:
            value = s * (1 + u * (1 - s))
        if GRAD == 2:
            value = s * (1 - s) * (2 + u * (1 - 2 * s))
        yref = u * s * gain
    else:
        tl.static_assert(False, 'unknown activation function')

    # The rest of the op, or of the chain rule.
    value *= gain
    if GRAD == 0:
        if CLAMP:
            value = tl.where(value > clamp, clamp, tl.where(value < -clamp, -clamp, value))
    else:
        value *= x
        if GRAD == 2:
            value *= tl.load(dy_ptr + index, mask=inside, other=0).to(FLOAT)
        if CLAMP:
            value = tl.where(tl.abs(yref) < clamp, value, 0)
    tl.store(out_ptr + index, value.to(out_ptr.dtype.element_ty), mask=inside)

def bias_act(x, b, xref, yref, dy, grad, dim, act, alpha, gain, clamp):
    """gain * act(x + b), clamped, or its derivatives; what upstream's bias_act plugin does.

    x:          a float tensor of any shape, without gaps, in any order of dimensions: the input for grad=0, the
                gradient of the output for grad=1, and what came back through grad=1 for grad=2.
    b:          [x.shape[dim]] biases, added to x, or to xref where grad > 0.
    xref, yref: input and output of grad=0, laid out as x.
    dy:         the x of grad=1, laid out as x. All four may be empty: there is none.
    act:        1 + index into ACTIVATIONS.
    clamp:      largest magnitude of the output; negative = no limit. Gradients are 0 where it was reached, and only
                acts that keep xref or yref can tell: 'linear' keeps neither, so its gradients ignore the clamp, as
                upstream's.
    Returns a tensor like x. Raises ValueError for tensors that don't fit together.
    """
    b, xref, yref, dy = [tensor if tensor is not None and tensor.numel() > 0 else None
        for tensor in (b, xref, yref, dy)]
    for tensor in [xref, yref, dy]:
        if tensor is not None and _layout(tensor) != _layout(x):
            raise ValueError(f'bias_act: x is laid out as {_layout(x)}, its reference as {_layout(tensor)}')
    if b is not None and (not 0 <= dim < x.ndim or list(b.shape) != [x.shape[dim]]):
        raise ValueError(f'bias_act: biases of shape {list(b.shape)} do not fit dimension {dim} of {list(x.shape)}')
    _check_size(x)
    out = torch.empty_like(x)
    if x.numel() == 0:
        return out
    with torch.cuda.device_of(x):
        _bias_act_kernel[(triton.cdiv(x.numel(), BLOCK),)](x, b, xref, yref, dy, out, x.numel(),
            max(x.stride(dim), 1) if b is not None else 1, b.numel() if b is not None else 1,
            float(alpha), float(gain), 1 / gain if gain != 0 else 0.0, float(clamp),
            ACT=ACTIVATIONS[act - 1], GRAD=grad, CLAMP=(clamp >= 0), FLOAT=_float_of(x), BLOCK=BLOCK)
    return out

#----------------------------------------------------------------------------
# Upsample, pad, filter, downsample.
#
# Output line oy sees lines oy * DOWN_Y - pad_y0 + ty of the upsampled and padded image, for filter lines ty. Only each
# UP_Y-th of them was in the input: the taps that hit start at ty = phase_y and input line iy. All is the same in x.
#
# A program makes groups of LINES lines of the output, of which it has COLUMNS columns. Those lie side by side in
# memory, pixels of a line, or with channels_last the channels of a pixel, so that neighbouring threads read
# neighbours. Lines are taken together since they share input: of equal loads with no store between them the compiler
# keeps one. LINES is a multiple of UP_Y, and so the phases of a group's lines are known when the kernel is compiled.

LINES      = 8
LOAD_BYTES = 16 # The most that a thread loads at once, with channels_last.

@triton.jit(do_not_specialize=['groups', 'in_h', 'in_w', 'out_h', 'out_w', 'first_y', 'start_x', 'skip_x'])
def _upfirdn2d_kernel(
    x_ptr,                      # [N, C, in_h, in_w]
    f_ptr,                      # [FILTER_H, FILTER_W]
    out_ptr,                    # [N, C, out_h, out_w]
    groups,                     # In all: of each channel, or with channels_last of each column of pixels.
    channels, in_h, in_w, out_h, out_w,
    stride_n, stride_c, stride_y, stride_x,
    stride_fy, stride_fx,
    first_y,                    # Input line of the first tap of output line 0.
    start_x, skip_x,            # Input pixel of the first tap of output pixel 0: start_x // UP_X - skip_x.
    gain,
    UP_Y:          tl.constexpr,
    UP_X:          tl.constexpr,
    DOWN_Y:        tl.constexpr,
    DOWN_X:        tl.constexpr,
    FILTER_H:      tl.constexpr,
    FILTER_W:      tl.constexpr,
    FLIP:          tl.constexpr, # Correlate?
    PHASE_Y:       tl.constexpr, # UP_Y - 1 - phase_y of output line 0.
    CHANNELS_LAST: tl.constexpr,
    FLOAT:         tl.constexpr, # What to sum in.
    LINES:         tl.constexpr,
    GROUPS:        tl.constexpr,
    COLUMNS:       tl.constexpr,
):
    # Locate the tile: all that follows is of shape [GROUPS, COLUMNS], or has 1 for one of them.
    columns = channels if CHANNELS_LAST else out_w
    groups_y = (out_h + LINES - 1) // LINES
    tiles_x = (columns + COLUMNS - 1) // COLUMNS
    group = tl.program_id(0) // tiles_x * GROUPS + tl.arange(0, GROUPS)[:, None]
    column = tl.program_id(0) % tiles_x * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    inside = (group < groups) & (column < columns)
    if CHANNELS_LAST:
        n, c = group // out_w // groups_y, column
        oy, ox = group // out_w % groups_y * LINES, group % out_w
        out_ptr += ((n.to(tl.int64) * out_h + oy) * out_w + ox) * channels + c
        out_line = out_w * channels
    else:
        n, c = group // groups_y // channels, group // groups_y % channels
        oy, ox = group % groups_y * LINES, column
        out_ptr += (group // groups_y * out_h + oy).to(tl.int64) * out_w + ox
        out_line = out_w

    # Find the first tap that hits the input.
    x = ox * DOWN_X + start_x
    ix = x // UP_X - skip_x
    iy = oy // UP_Y * DOWN_Y + first_y
    # One number where it is the same everywhere: then weights are, too.
    phase_x = 0 if UP_X == 1 else UP_X - 1 - x % UP_X
    x_ptr += n.to(tl.int64) * stride_n + c * stride_c + iy * stride_y + ix * stride_x

    # Sum over taps.
    sums = ()
    for line in tl.static_range(LINES):
        total = tl.full([GROUPS, COLUMNS], 0, FLOAT)
        for tap_y in tl.static_range((FILTER_H + UP_Y - 1) // UP_Y):
            below = (PHASE_Y + line * DOWN_Y) // UP_Y + tap_y # Lines below iy.
            ty = UP_Y - 1 - (PHASE_Y + line * DOWN_Y) % UP_Y + tap_y * UP_Y
            if ty < FILTER_H:
                fy = ty if FLIP else FILTER_H - 1 - ty
                on_line = inside & (iy + below >= 0) & (iy + below < in_h)
                for tap_x in tl.static_range((FILTER_W + UP_X - 1) // UP_X):
                    tx = phase_x + tap_x * UP_X
                    fx = tx if FLIP else FILTER_W - 1 - tx
                    weight = tl.load(f_ptr + fy * stride_fy + fx * stride_fx, mask=tx < FILTER_W, other=0)
                    hit = on_line & (ix + tap_x >= 0) & (ix + tap_x < in_w)
                    pixel = tl.load(x_ptr + (below * stride_y + tap_x * stride_x), mask=hit, other=0)
                    total += pixel.to(FLOAT) * weight.to(FLOAT)
        sums = sums + (total * gain,)

    # Store.
    for line in tl.static_range(LINES):
        tl.store(out_ptr + line * out_line, sums[line].to(out_ptr.dtype.element_ty), mask=inside & (oy + line < out_h))

def upfirdn2d(x, f, upx, upy, downx, downy, padx0, padx1, pady0, pady1, flip, gain):
    """Insert zeros, pad, convolve with f and drop pixels; what upstream's upfirdn2d plugin does.

    x:    [N, C, H, W] float, any strides. f: [fh, fw] float32, any strides.
    up:   one pixel becomes so many by so many, the others 0. down: of so many pixels one stays.
    pad:  zeros before and after, counted after `up`; negative = pixels are cut off.
    flip: correlate with f instead.
    Returns [N, C, (H * upy + pady0 + pady1 - fh) // downy + 1, ...], in the memory format of x. Raises ValueError where
    that leaves no pixel.
    """
    if f.ndim != 2 or f.dtype != torch.float32 or f.device != x.device:
        raise ValueError(f'upfirdn2d: the filter must be float32 with two dimensions on {x.device}, '
            f'not {f.dtype} with {f.ndim} on {f.device}')
    batch, channels, in_h, in_w = x.shape
    filter_h, filter_w = f.shape
    out_h = (in_h * upy + pady0 + pady1 - filter_h) // downy + 1
    out_w = (in_w * upx + padx0 + padx1 - filter_w) // downx + 1
    if out_h < 1 or out_w < 1:
        raise ValueError(f'upfirdn2d: a filter of {filter_h}x{filter_w} leaves nothing of {in_h}x{in_w} pixels with '
            f'padding {[padx0, padx1, pady0, pady1]}')
    channels_last = x.stride(1) == 1 and channels > 1 and not x.is_contiguous()
    out = torch.empty([batch, channels, out_h, out_w], dtype=x.dtype, device=x.device,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    _check_size(x)
    _check_size(out)
    if out.numel() == 0:
        return out

    lines = upy * triton.cdiv(LINES, upy)
    groups = batch * triton.cdiv(out_h, lines) * (out_w if channels_last else channels)
    columns = channels if channels_last else out_w
    # Lines are often one pixel longer than a power of two.
    tile_columns = min(triton.next_power_of_2(columns), 64 if channels_last else 32)
    of_thread = LOAD_BYTES // x.element_size() if channels_last else 2
    tile_groups = min(triton.next_power_of_2(groups), THREADS * of_thread // tile_columns)
    skip_x = max(-(-padx0 // upx), 0) # A kernel's division rounds towards zero, and so gets no negative numbers.
    with torch.cuda.device_of(x):
        _upfirdn2d_kernel[(triton.cdiv(groups, tile_groups) * triton.cdiv(columns, tile_columns),)](x, f, out, groups,
            channels, in_h, in_w, out_h, out_w, *x.stride(), *f.stride(), -(pady0 // upy),
            upx - 1 - padx0 + upx * skip_x, skip_x, float(gain),
            UP_Y=upy, UP_X=upx, DOWN_Y=downy, DOWN_X=downx, FILTER_H=filter_h, FILTER_W=filter_w, FLIP=bool(flip),
            PHASE_Y=(upy - 1 - pady0) % upy,
            CHANNELS_LAST=channels_last, FLOAT=_float_of(x), LINES=lines, GROUPS=tile_groups, COLUMNS=tile_columns)
    return out

#----------------------------------------------------------------------------

def _layout(x):
    """Shape, strides where there is a choice, type and device."""
    return list(x.shape), [stride for size, stride in zip(x.shape, x.stride()) if size > 1], x.dtype, x.device

def _float_of(x):
    return tl.float64 if x.dtype == torch.float64 else tl.float32

def _check_size(x):
    if x.numel() > MOST_ELEMENTS:
        raise ValueError(f'a tensor of {x.numel()} elements is too large; a smaller batch per GPU helps')

#----------------------------------------------------------------------------
