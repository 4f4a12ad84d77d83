"""Bias, noise, leaky ReLU, gain and clamp of feature maps on the CPU, block by block and with few nodes in the graph.

Upstream reads and writes feature maps once for each of them. Narrow networks wait for the nodes, and bfloat16 for
broadcasts along few channels, which PyTorch does one number at a time.
"""

import functools

import torch

from sarigan_plugin.upstream.exchanges import exchange

ALPHA = 0.2     # Slope of StyleGAN2's leaky ReLU.
BLOCK = 2 ** 17 # Numbers that several operations in a row find in the cache: 512 KiB.

def prepare():
    """Exchange them, once per process."""
    exchange('torch_utils.ops.bias_act', '_bias_act_ref', _fused_lrelu,
        'bias_act.py:94 reads and writes feature maps once for the bias, the activation, the gain and the clamp each')
    exchange('sarigan_plugin.model.networks', 'demodulated_activation', _in_one,
        'the factors and the noise before them take as many passes again')

#----------------------------------------------------------------------------
# How feature maps lie in memory.

def memory_format(x):
    """How feature maps [N, C, H, W] lie in memory; None = with gaps, or in another order."""
    return next((order for order in [torch.contiguous_format, torch.channels_last]
        if x.is_contiguous(memory_format=order)), None)

def _in_order(x):
    """A view of x [N, C, H, W] whose elements follow each other in memory."""
    return x if x.is_contiguous() else x.permute(0, 2, 3, 1)

def in_lines(x):
    """A view of x [N, C, H, W]: [N, C, HW], or [N, H, WC] with channels last. Its last dimension is long, so that
    factors and shifts that are repeated along it go through whole registers."""
    return x.flatten(2) if x.is_contiguous() else x.permute(0, 2, 3, 1).flatten(2)

def from_lines(lines, like):
    """The other way round, for a tensor of the shape and order of `like`, [N, C, H, W]."""
    if like.is_contiguous():
        return lines.view(like.shape)
    batch_size, channels, height, width = like.shape
    return lines.view(batch_size, height, width, channels).permute(0, 3, 1, 2)

def _per_line(x, numbers):
    """numbers, [N, C], as what in_lines(x) can be multiplied by: [N, C, 1], or [N, 1, WC]."""
    numbers = numbers.to(x.dtype)
    return numbers[:, :, None] if x.is_contiguous() else numbers.repeat(1, x.shape[3])[:, None]

def _of_part(numbers, rows, dim=0):
    """Those of some rows, where they aren't the same for all."""
    return numbers if numbers.shape[dim] == 1 else numbers.narrow(dim, rows.start, min(rows.stop, numbers.shape[dim])
        - rows.start)

def parts(lines):
    """Indices, (images, rows), of parts of in_lines() that are small enough for the cache."""
    images, rows = max(BLOCK // max(lines[0].numel(), 1), 1), max(BLOCK // max(lines.shape[2], 1), 1)
    return [(slice(image, image + images), slice(row, row + rows))
        for image in range(0, lines.shape[0], images) for row in range(0, lines.shape[1], rows)]

#----------------------------------------------------------------------------
# Bias and activation.

def _fused_lrelu(reference):
    """Leaky ReLU of feature maps, the one activation of StyleGAN2, block by block;
    the rest is left to the reference."""
    from torch_utils.ops.bias_act import activation_funcs
    @functools.wraps(reference)
    def bias_act(x, b=None, dim=1, act='linear', alpha=None, gain=None, clamp=None):
        spec = activation_funcs[act]
        gain_or_default = float(spec.def_gain if gain is None else gain)
        if (x.device.type != 'cpu' or act != 'lrelu' or dim != 1 or x.ndim != 4 or gain_or_default <= 0
                or memory_format(x) is None):
            return reference(x, b=b, dim=dim, act=act, alpha=alpha, gain=gain, clamp=clamp)
        return LeakyReLU.apply(x, b, float(spec.def_alpha if alpha is None else alpha), gain_or_default,
            float('inf' if clamp is None or clamp < 0 else clamp))
    return bias_act

def _clamped(y, clamp, look):
    """Clamp y in place to +-clamp, and say whether the gradient has to know.

    look: for numbers that reach it first. There are hardly any, and the gradient's pass over y takes longer than that.
    """
    if clamp == float('inf'):
        return False
    if look:
        least, most = torch.aminmax(y)
        if -clamp < least and most < clamp: # Not where there are NaN.
            return False
    y.clamp_(-clamp, clamp)
    return True

class LeakyReLU(torch.autograd.Function):
    """clamp(gain * lrelu(x + b)) for x [N, C, H, W] and b [C] or None. Its gradient needs the output alone."""
    @staticmethod
    def forward(ctx, x, b, alpha, gain, clamp):
        y = torch.empty_like(x)
        lines, result = in_lines(x), in_lines(y)
        shifts = _per_line(x, b[None] * gain)[0] if b is not None else None
        was_clamped = False
        for part in parts(lines):
            block_x, block_y = lines[part], result[part]
            if shifts is not None:
                # A positive gain may come before it as well.
                block_x = torch.add(_of_part(shifts, part[1]), block_x, alpha=gain, out=block_y)
            elif gain != 1:
                block_x = torch.mul(block_x, gain, out=block_y)
            torch._C._nn.leaky_relu(block_x, alpha, out=block_y)
            was_clamped |= _clamped(block_y, clamp, look=any(ctx.needs_input_grad))
        ctx.save_for_backward(y)
        ctx.shape_of_function = (alpha, gain, clamp if was_clamped else float('inf'))
        return y

    @staticmethod
    def backward(ctx, dy):
        y, = ctx.saved_tensors
        dx = LeakyReLUGradient.apply(dy, y, *ctx.shape_of_function)
        return dx, dx.sum(dim=[0,2,3]) if ctx.needs_input_grad[1] else None, None, None, None

class LeakyReLUGradient(torch.autograd.Function):
    """dy times the slope of LeakyReLU where it gave y; linear in dy, so that it is its own gradient."""
    @staticmethod
    def forward(ctx, dy, y, alpha, gain, clamp):
        dx = torch.empty_like(y)
        dy = dy.contiguous(memory_format=memory_format(y))
        for block_dy, block_y, block_dx in zip(*[_in_order(t).view(-1).split(BLOCK) for t in [dy, y, dx]]):
            torch.ops.aten.leaky_relu_backward.grad_input(block_dy, block_y, alpha, True, grad_input=block_dx)
            if gain != 1:
                block_dx.mul_(gain)
            if clamp < float('inf'):
                # Zero where it was reached.
                torch.ops.aten.hardtanh_backward.grad_input(block_dx, block_y, -clamp, clamp, grad_input=block_dx)
        ctx.save_for_backward(y)
        ctx.shape_of_function = (alpha, gain, clamp)
        return dx

    @staticmethod
    def backward(ctx, ddx):
        y, = ctx.saved_tensors
        return LeakyReLUGradient.apply(ddx, y, *ctx.shape_of_function), None, None, None, None

#----------------------------------------------------------------------------
# What a layer of the generator does after its convolution.

def _in_one(reference):
    @functools.wraps(reference)
    def demodulated_activation(x, demodulation, noise, noise_strength, bias, activation, gain, clamp):
        if x.device.type != 'cpu' or activation != 'lrelu' or gain <= 0 or memory_format(x) is None:
            return reference(x, demodulation, noise, noise_strength, bias, activation, gain, clamp)
        return Activation.apply(x, demodulation, noise, noise_strength, bias, float(gain),
            float('inf') if clamp is None else float(clamp))
    return demodulated_activation

class Activation(torch.autograd.Function):
    """clamp(gain * lrelu(x * scale + strength * noise + bias)).

    x: [N, C, H, W]; scale: [N, C]; noise: [N, 1, H, W], [H, W] or None; strength: []; bias: [C].
    Its gradient takes the slope from the output; noise has none.
    """
    @staticmethod
    def forward(ctx, x, scale, noise, strength, bias, gain, clamp):
        y = torch.empty_like(x)
        lines, result = in_lines(x), in_lines(y)
        factors = _per_line(x, scale * gain)
        shift = _in_rows if not x.is_contiguous() else _in_maps
        add = shift(x, noise, strength if noise is None else strength * gain, bias * gain)
        was_clamped = False
        for part in parts(lines):
            images, rows = part
            block = torch.mul(lines[part], _of_part(factors[images], rows, dim=1), out=result[part])
            add(block, part)
            torch._C._nn.leaky_relu_(block, ALPHA)
            was_clamped |= _clamped(block, clamp, look=any(ctx.needs_input_grad))
        ctx.save_for_backward(x, scale, noise, y)
        ctx.how = gain, clamp if was_clamped else float('inf')
        return y

    @staticmethod
    def backward(ctx, dy):
        (x, scale, noise, y), (gain, clamp) = ctx.saved_tensors, ctx.how
        dy = LeakyReLUGradient.apply(dy, y, ALPHA, 1.0, clamp) # The gain comes later, to fewer numbers.
        needs_x, needs_scale, _noise, needs_strength, needs_bias, *_rest = ctx.needs_input_grad
        dx = dscale = dstrength = dbias = None
        if needs_x:
            dx = from_lines(in_lines(dy) * _per_line(dy, scale * gain), dy)
        if needs_scale:
            dscale = (dy * x).sum(dim=[2,3]).to(scale.dtype) * gain
        if needs_strength and noise is not None:
            dstrength = _product_with_noise(dy, noise) * gain
        if needs_bias:
            dbias = dy.sum(dim=[0,2,3]).to(scale.dtype) * gain
        return dx, dscale, None, dstrength, dbias, None, None

def _in_maps(x, noise, strength, bias):
    """A function that adds strength * noise + bias to a part of lines, for x with one map after another."""
    bias = bias.to(x.dtype)[:, None]
    if noise is not None:
        noise = (noise * strength).to(x.dtype).view(-1, 1, x[0, 0].numel()).expand(len(x), -1, -1)
    def add(block, part):
        images, channels = part
        if noise is not None:
            block.add_(noise[images])
        block.add_(bias[channels])
    return add

def _in_rows(x, noise, strength, bias):
    """The same for channels last. Noise and bias are one matrix product, [NHW, 2] x [2, C]."""
    (batch_size, channels, height, width), dtype = x.shape, x.dtype
    if noise is None:
        bias = bias.to(dtype).repeat(width)
        return lambda block, part: block.add_(bias)
    noise = noise.to(dtype).expand(batch_size, 1, height, width)[:, 0]
    pixels = torch.stack([noise, torch.ones_like(noise)], dim=-1) # [NHW2]
    of_channels = torch.stack([strength.expand(channels), bias]).to(dtype) # [2C]
    return lambda block, part: block.view(-1, channels).addmm_(pixels[part].reshape(-1, 2), of_channels)

def _product_with_noise(dy, noise):
    """sum(dy * noise), [], for dy [N, C, H, W] and noise [N, 1, H, W] or [H, W]."""
    noise = noise.expand(len(dy), 1, *dy.shape[2:])
    if dy.is_contiguous():
        return (dy.sum(dim=1, keepdim=True) * noise).sum()
    return (noise.to(dy.dtype).reshape(1, -1) @ dy.permute(0, 2, 3, 1).reshape(-1, dy.shape[1])).to(noise.dtype).sum()

#----------------------------------------------------------------------------
