"""Upstream's layers with fewer operations, for the same numbers.

Narrow networks and small batches take as long as the operations are many, not large: on a CPU most of a step of 32x32
is PyTorch's own bookkeeping, on a GPU its launches. Only classes of upstream's modules are exchanged, in this process:
pickles bring upstream's own source, as ever.
"""

import contextlib
import functools

import torch

from sarigan_plugin.acceleration import activations, convolutions, winograd
from sarigan_plugin.acceleration.activations import ALPHA
from sarigan_plugin.upstream.exchanges import exchange

def prepare():
    """Exchange them, once per process."""
    exchange('torch_utils.misc', 'suppress_tracer_warnings', _where_something_is_traced,
        'misc.py:69 takes 20 microseconds, three times in each convolution')
    exchange('training.networks:FullyConnectedLayer', 'forward', _scaled_inputs,
        'networks.py:105 scales the many weights, and the bias, in operations of their own')
    exchange('training.networks:Conv2dLayer', 'forward', _biased_convolution,
        'networks.py:160 adds the bias and takes the gain in operations of their own')
    exchange('training.networks:ToRGBLayer', 'forward', _biased_colours,
        'networks.py:329 modulates in one of five ways, and adds the bias in an operation of its own')
    exchange('sarigan_plugin.model.networks', 'resampling_conv2d', _resampled_directly,
        'conv2d_resample.py:62 looks at its arguments for as long as a small convolution takes')

def _where_something_is_traced(reference):
    """Suppress the tracer's warnings where there is a tracer."""
    @functools.wraps(reference, updated=()) # It is a class.
    def suppress_tracer_warnings():
        return reference() if torch.jit.is_tracing() else contextlib.nullcontext()
    return suppress_tracer_warnings

#----------------------------------------------------------------------------

def _scaled_inputs(reference):
    """Scale the few inputs, not the many weights; a positive gain of leaky ReLU comes before it."""
    from torch_utils.ops.bias_act import activation_funcs
    @functools.wraps(reference)
    def forward(layer, x):
        if (layer.activation not in ('linear', 'lrelu') or layer.bias is None or x.ndim != 2
                or x.dtype != layer.weight.dtype):
            return reference(layer, x)
        gain = float(activation_funcs[layer.activation].def_gain)
        x = torch.addmm(layer.bias, x * (layer.weight_gain * gain), layer.weight.t(), beta=layer.bias_gain * gain)
        return torch.nn.functional.leaky_relu_(x, ALPHA) if layer.activation == 'lrelu' else x
    return forward

def _biased_convolution(reference):
    """On the CPU convolutions add the bias themselves, and kernels take on the gain of leaky ReLU.

    Those of winograd.py are left as they are.
    """
    from torch_utils.ops import conv2d_gradfix, upfirdn2d
    @functools.wraps(reference)
    def forward(layer, x, gain=1):
        size = layer.weight.shape[2]
        is_known = (layer.up == 1 and layer.activation in ('linear', 'lrelu')
            and x.dtype in (layer.weight.dtype, torch.bfloat16))
        if (x.device.type != 'cpu' or not is_known or activations.memory_format(x) is None
                or layer.down == 1 and convolutions.way(x, layer.weight, 1, layer.padding, 1, 1) is winograd):
            return reference(layer, x, gain=gain)
        gain = float(layer.act_gain * gain)
        clamp = layer.conv_clamp * (gain / layer.act_gain) if layer.conv_clamp is not None else None
        bias = layer.bias if layer.bias is None or gain == 1 else layer.bias * gain
        bias = bias if bias is None else bias.to(x.dtype)
        stride, padding = layer.down, layer.padding
        if layer.down > 1: # As conv2d_resample() does.
            before, after = [padding + (layer.resample_filter.shape[-1] - layer.down + odd) // 2 for odd in (1, 0)]
            shrink = layer.down if size == 1 else 1
            x = upfirdn2d.upfirdn2d(x, layer.resample_filter, down=shrink, padding=[before, after, before, after])
            stride, padding = layer.down // shrink, 0
        weight = (layer.weight * (layer.weight_gain * gain)).to(x.dtype)
        x = conv2d_gradfix.conv2d(x, weight, bias, stride=stride, padding=padding)
        if layer.activation == 'linear':
            return x if clamp is None else x.clamp(-clamp, clamp)
        if clamp is None:
            return torch.nn.functional.leaky_relu_(x, ALPHA)
        return activations.LeakyReLU.apply(x, None, ALPHA, 1.0, clamp)
    return forward

def _biased_colours(reference):
    """Styles take on the gain of the kernels, and the convolution adds the bias. On the CPU, where blocks train."""
    from torch_utils.ops import conv2d_gradfix
    @functools.wraps(reference)
    def forward(layer, x, w, fused_modconv=True):
        if x.device.type != 'cpu' or fused_modconv or activations.memory_format(x) is None:
            return reference(layer, x, w, fused_modconv=fused_modconv)
        styles = (layer.affine(w) * layer.weight_gain).to(x.dtype)
        x = conv2d_gradfix.conv2d(x * styles[:, :, None, None], layer.weight.to(x.dtype), layer.bias.to(x.dtype))
        return x if layer.conv_clamp is None else x.clamp(-layer.conv_clamp, layer.conv_clamp)
    return forward

def _resampled_directly(reference):
    """A convolution alone, or one with a stride turned around and the filter, with no more in between."""
    from torch_utils.ops import conv2d_gradfix, upfirdn2d
    @functools.wraps(reference)
    def resampling_conv2d(x, weight, up=1, padding=0, resample_filter=None, flip_weight=True):
        size = weight.shape[2]
        if x.device.type != 'cpu' or size == 1 or flip_weight != (up == 1) or up > 1 and resample_filter is None:
            return reference(x, weight, up=up, padding=padding, resample_filter=resample_filter,
                flip_weight=flip_weight)
        weight = weight.to(x.dtype)
        if up == 1:
            return conv2d_gradfix.conv2d(x, weight, padding=padding)
        # As conv2d_resample() does.
        taps = resample_filter.shape[-1]
        before, after = padding + (taps + up - 1) // 2 - (size - 1), padding + (taps - up) // 2 - (size - up)
        cut = max(min(-before, -after), 0)
        x = conv2d_gradfix.conv_transpose2d(x, weight.transpose(0, 1), stride=up, padding=cut)
        margins = [before + cut, after + cut] * 2
        return upfirdn2d.upfirdn2d(x, resample_filter, padding=margins, gain=up ** 2)
    return resampling_conv2d

#----------------------------------------------------------------------------
