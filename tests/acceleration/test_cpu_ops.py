"""Upstream's operations in their faster form for the CPU against upstream's own reference."""

import pytest
import torch

import rounding
from sarigan_plugin.acceleration import activations, cpu, winograd
from sarigan_plugin.model import networks as sarigan_networks
from sarigan_plugin.trainer import options
from sarigan_plugin.upstream import exchanges

from torch_utils.ops import bias_act, conv2d_gradfix, upfirdn2d
from training import augment, networks

@pytest.fixture
def both():
    """both(function) -> its results with upstream's own operations and with ours, from the same random numbers."""
    def run(function):
        results = []
        for prepare in [lambda: None, cpu.prepare]:
            with exchanges.undone():
                prepare()
                torch.manual_seed(0)
                results.append(function())
        return results
    return run

def derivatives(function, *inputs):
    """The value, the gradients of a random projection of it, and the gradients of a random projection of those."""
    inputs = [x.requires_grad_() for x in inputs]
    y = function(*inputs)
    first = torch.autograd.grad((y * torch.randn(y.shape, dtype=y.dtype)).sum(), inputs, create_graph=True)
    loss = sum((g * torch.randn(g.shape, dtype=g.dtype)).sum() for g in first)
    second = torch.autograd.grad(loss, inputs, allow_unused=True) if loss.requires_grad else []
    return [y, *first, *[x for x in second if x is not None]]

def assert_equal(results, terms=1):
    """terms: that each number of the largest tensor is a sum of; those of smaller ones, as a bias's gradient,
    are sums over it."""
    largest = max(tensor.numel() for tensor in results[0])
    for theirs, ours in zip(*results, strict=True):
        assert theirs.shape == ours.shape
        rounding.assert_close(ours, theirs, terms * largest / theirs.numel())

#----------------------------------------------------------------------------

@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('options', [dict(), dict(gain=0.5), dict(clamp=0.3), dict(gain=2, clamp=1, alpha=0.1),
    dict(dim=3), dict(act='linear', clamp=0.3), dict(act='swish')])
@pytest.mark.parametrize('shape', [(2, 5, 7, 5), (3, 4, 300, 300)])
def test_bias_and_activation_and_both_derivatives_are_upstreams(both, shape, options, dtype):
    def function():
        x, b = torch.randn(shape, dtype=dtype), torch.randn(shape[options.get('dim', 1)], dtype=dtype)
        return derivatives(lambda x, b: bias_act.bias_act(x * 1, b, **dict(dict(act='lrelu'), **options)).square(), x,
            b)
    assert_equal(both(function))

@pytest.mark.parametrize('layout', ['no bias', 'channels last', 'vectors'])
def test_other_arguments_of_bias_and_activation_work_as_ever(both, layout):
    def function():
        x = torch.randn(4, 6) if layout == 'vectors' else torch.randn(4, 6, 8, 8)
        if layout == 'channels last':
            x = x.to(memory_format=torch.channels_last)
        b = None if layout == 'no bias' else torch.ones(6)
        return derivatives(lambda x: bias_act.bias_act(x, b, act='lrelu').square(), x)
    assert_equal(both(function))

@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('clamp', [None, 0.3, 100])
@pytest.mark.parametrize('noise', [None, 'of images', 'the same'])
@pytest.mark.parametrize('shape', [(3, 4, 7, 5), (2, 3, 260, 260)])
def test_what_follows_a_convolution_of_the_generator_and_both_derivatives_are_the_references(both, shape, noise, clamp,
        layout):
    def function():
        x, scale, bias, strength = [torch.randn(size, dtype=torch.float64)
            for size in [shape, shape[:2], shape[1:2], []]]
        pixels = dict({None: lambda: None}, **{'of images': lambda: torch.randn(shape[0], 1, *shape[2:]).double(),
            'the same': lambda: torch.randn(shape[2:]).double()})[noise]()
        def layer(x, scale, bias, *strength):
            return sarigan_networks.demodulated_activation(x.to(memory_format=layout), scale, pixels,
                strength[0] if strength else None, bias, 'lrelu', 2 ** 0.5, clamp).square()
        return derivatives(layer, x, scale, bias, *([] if noise is None else [strength]))
    assert_equal(both(function), terms=shape[1])

@pytest.mark.parametrize('channels', [4, 16, 64])
def test_it_is_as_exact_in_bf16_as_the_reference(both, channels):
    x, scale, bias = torch.randn(4, channels, 16, 16), torch.rand(4, channels), torch.randn(channels)
    noise, strength = torch.randn(4, 1, 16, 16), torch.tensor(0.5)
    def function(dtype=torch.bfloat16):
        features = x.to(dtype, memory_format=torch.channels_last)
        return [sarigan_networks.demodulated_activation(features, scale.to(dtype), noise.to(dtype), strength.to(dtype),
            bias.to(dtype), 'lrelu', 1.5, 256)]
    exact, = function(torch.float64)
    theirs, ours = [(y.double() - exact).norm() / exact.norm() for y, in both(function)]
    assert ours < 1.5 * theirs < 0.01

def test_the_slope_at_zero_and_at_the_clamp_is_that_of_upstreams_cuda_kernel():
    x = torch.tensor([-0.0, 0.0, 1.0, 2.0, -2.0]).view(1, 1, 1, -1).requires_grad_()
    activations.LeakyReLU.apply(x, None, 0.25, 1.0, 1.0).sum().backward()
    assert x.grad.flatten().tolist() == [0.25, 0.25, 0, 0, 0.25] # -2 gives -0.5, which is inside.

@pytest.mark.parametrize('options', [dict(padding=2), dict(padding=[2, 1, 2, 1]), dict(padding=[-1, 2, 3, -2]),
    dict(padding=[1, 1, 2, 2], down=2), dict(down=[2, 1], gain=3),
    dict(padding=1, flip_filter=True), dict(up=2, padding=[2, 1, 2, 1], gain=4)])
@pytest.mark.parametrize('taps', [[1, 3, 3, 1], [[1.0, 2.0, 4.0], [0.0, -1.0, 5.0]], [*range(12)], None])
def test_filters_and_both_derivatives_are_upstreams(both, options, taps):
    f = upfirdn2d.setup_filter(taps) if taps is not None else None
    def function():
        return derivatives(lambda x: upfirdn2d.upfirdn2d(x, f, **options).square(), torch.randn(2, 3, 13, 15))
    assert_equal(both(function), terms=12 * 12)

def test_augmentation_filters_without_convolutions_and_nothing_of_them_is_kept(both):
    """Its images have another size each time, and PyTorch keeps what it prepares for a convolution of each size."""
    kept = cpu._kept_matrix.cache_info().currsize
    pipe = augment.AugmentPipe(**dict.fromkeys(options.AUGMENT_PIPES['bgc'], 1))
    convolved = []
    def function():
        images = torch.randn(4, 3, 16, 16, requires_grad=True)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as recorded:
            augmented = pipe(images)
            gradient, = torch.autograd.grad(augmented.square().sum(), images)
        convolved.append(any('convolution' in event.key for event in recorded.key_averages()))
        return augmented, gradient
    assert_equal(both(function), terms=12 * 12)
    assert convolved == [True, False]
    assert cpu._kept_matrix.cache_info().currsize == kept

@pytest.mark.parametrize('kernel_size, options',
    [(1, dict()), (1, dict(stride=2)), (3, dict(padding=1)), (3, dict(padding=2, dilation=2)), (1, dict(groups=2))])
def test_convolutions_and_both_derivatives_are_upstreams(both, kernel_size, options):
    def function():
        weight = torch.randn(6, 4 // options.get('groups', 1), kernel_size, kernel_size)
        return derivatives(lambda x, w: conv2d_gradfix.conv2d(x, w, **options).square(),
            torch.randn(2, 4, 9, 9), weight)
    assert_equal(both(function), terms=4 * 9)

@pytest.mark.parametrize('winograds', [False, True], ids=['as they are', 'all 3x3 convolutions by Winograd'])
def test_images_and_all_gradients_of_the_networks_are_upstreams(both, make_generator, make_discriminator,
        monkeypatch, winograds):
    convolved = []
    convolve = winograd.convolve
    monkeypatch.setattr(winograd, 'convolve', lambda *args: convolved.append(args) or convolve(*args))
    if winograds: # These networks are too small for it.
        monkeypatch.setattr(winograd, 'LEAST_CHANNELS', 1)
        monkeypatch.setattr(winograd, 'LEAST_FEATURES', 1)
    G, D = make_generator().requires_grad_(), make_discriminator().requires_grad_()
    z = torch.randn(2, 32)
    def function():
        images = G(z, None, noise_mode='const')
        logits, codes = D(images, None, return_codes=True)
        with conv2d_gradfix.no_weight_gradients():
            slopes, = torch.autograd.grad(logits.sum(), images, create_graph=True)
        loss = slopes.square().sum() + codes.square().sum() + logits.sum()
        return [images, logits, *torch.autograd.grad(loss, [*G.parameters(), *D.parameters()])]
    results = both(function)
    assert len(results[0]) > 60
    for place, (theirs, ours) in enumerate(zip(*results, strict=True)):
        # Rounding may move a number to the other side of leaky ReLU's kink:
        # then a gradient misses a few of the thousands that it sums.
        apart = 0.01 if place >= 2 else rounding.bound(terms=16 * 9, layers=16 * (10 if winograds else 1))
        assert theirs.shape == ours.shape and (theirs - ours).abs().max() <= apart * theirs.abs().max()
    assert len(convolved) > 20 if winograds else not convolved # Forwards, and for both derivatives.

@pytest.mark.parametrize('options', [dict(), dict(activation='lrelu'), dict(activation='lrelu', lr_multiplier=0.01),
    dict(activation='lrelu', bias=False), dict(activation='swish')])
def test_fully_connected_layers_and_both_derivatives_are_upstreams(both, options):
    def function():
        layer = networks.FullyConnectedLayer(6, 5, bias_init=1, **options).double()
        return derivatives(lambda x, *_parameters: layer(x).square(), torch.randn(4, 6, dtype=torch.float64),
            *layer.parameters())
    assert_equal(both(function), terms=6)

@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('gain', [1, 0.5 ** 0.5])
@pytest.mark.parametrize('options', [dict(activation='lrelu'), dict(activation='lrelu', down=2),
    dict(activation='lrelu', conv_clamp=0.3), dict(conv_clamp=0.3),
    dict(bias=False, down=2, kernel_size=1), dict(activation='swish'), dict(activation='lrelu', up=2),
    dict(activation='lrelu', down=2, resample_filter=[1, 2, 1])])
def test_convolution_layers_and_both_derivatives_are_upstreams(both, options, gain, layout):
    def function():
        layer = networks.Conv2dLayer(6, 5, **dict(dict(kernel_size=3), **options)).double()
        layer.resample_filter = layer.resample_filter.float() # As upstream's filters want it.
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter) # Biases as well.
        return derivatives(lambda x, *_parameters: layer(x.to(memory_format=layout), gain=gain).square(),
            torch.randn(2, 6, 8, 8, dtype=torch.float64), *layer.parameters())
    assert_equal(both(function), terms=6 * 9)

#----------------------------------------------------------------------------
