"""The Triton kernels against upstream's reference, in Triton's interpreter, which needs no GPU."""

import importlib.util
import re

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings, strategies as st

import skips
from derivatives import FILTERS, FP16, FP32, assert_orders_agree, gradients_of_a_step, random
from sarigan_plugin.acceleration import cuda_build, ops

pytest.importorskip('triton', reason=skips.NO_TRITON)
bias_act, upfirdn2d = cuda_build.modules()
ACTS = list(bias_act.activation_funcs)
@pytest.fixture(scope='module')
def kernels():
    """triton_kernels.py, interpreted: a copy, since Triton decides when a kernel is defined,
    and others may want it compiled."""
    spec = importlib.util.find_spec('sarigan_plugin.acceleration.triton_kernels')
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TRITON_INTERPRET', '1')
        spec.loader.exec_module(module)
    return module

@pytest.fixture(autouse=True, scope='module')
def _plugins(kernels):
    """Upstream's autograd functions call the kernels."""
    with pytest.MonkeyPatch.context() as patch:
        for module in [bias_act, upfirdn2d]:
            patch.setattr(module, '_plugin', kernels)
        yield

#----------------------------------------------------------------------------
# Bias and activation.

def both_bias_acts(**options):
    """Upstream's op with our kernels, and its reference."""
    return (lambda x, b=None: bias_act._bias_act_cuda(**options).apply(x,
        b)), (lambda x, b=None: bias_act._bias_act_ref(x, b, **options))

@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last], ids=['nchw', 'nhwc'])
@pytest.mark.parametrize('options', [dict(), dict(clamp=0.7), dict(alpha=0.4, gain=-1.7, clamp=1.1)], ids=str)
@pytest.mark.parametrize('act', ACTS)
def test_all_activations_and_their_gradients_equal_the_reference(act, options, memory_format):
    if act == 'linear':
        options = dict(options, clamp=None)
    inputs = [random(2, 3, 5, 4, memory_format=memory_format), random(3, seed=2)]
    assert_orders_agree(*both_bias_acts(act=act, **options), inputs)
    assert_orders_agree(*both_bias_acts(act=act, **options), inputs[:1])

def test_a_clamp_without_activation_lets_gradients_through_as_upstreams_plugin_does():
    x = random(2, 3, 4, 4)
    ours, reference = both_bias_acts(clamp=0.5)
    torch.testing.assert_close(ours(x), reference(x))
    assert torch.autograd.grad(ours(x).sum(), x)[0].eq(1).all()

@pytest.mark.parametrize('gain', [0.3, 1.1, 1.7])
def test_gradients_end_exactly_where_the_clamp_was_reached(gain):
    ours, reference = both_bias_acts(act='lrelu', gain=gain, clamp=0.7)
    x = random(10000)
    (actual,), (expected,) = [torch.autograd.grad(function(x).sum(), x) for function in [ours, reference]]
    torch.testing.assert_close(actual, expected)
    assert 0 < expected.eq(0).sum() < 9000

@pytest.mark.parametrize('act', ACTS)
def test_derivatives_at_zero_are_the_references(act):
    ours, reference = both_bias_acts(act=act)
    assert_orders_agree(ours, reference, [torch.zeros(2, 3, requires_grad=True), torch.zeros(3, requires_grad=True)])

@settings(max_examples=30, deadline=None, derandomize=True)
@given(act=st.sampled_from(ACTS), shape=st.lists(st.integers(1, 7), min_size=1, max_size=4), data=st.data(),
    gain=st.sampled_from([0, 0.5, 1, 2]),
    alpha=st.floats(0, 1), clamp=st.sampled_from([None, 0, 0.8, 100]))
def test_any_shape_dimension_and_parameters(act, shape, data, gain, alpha, clamp):
    # Upstream takes these for channels_last, which has four dimensions (bias_act.py:148).
    assume(len(shape) != 3 or shape[2] > 1)
    dim = data.draw(st.integers(0, len(shape) - 1))
    ours, reference = both_bias_acts(dim=dim, act=act, gain=gain, alpha=alpha, clamp=clamp)
    inputs = [random(*shape), random(shape[dim], seed=2)]
    actual, expected = ours(*inputs), reference(*inputs)
    torch.testing.assert_close(actual, expected, **FP32)
    # Upstream sums a vector's gradients where they are the bias's (bias_act.py:173).
    if act != 'linear' and len(shape) > 1:
        weights = random(*shape, seed=1).detach()
        torch.testing.assert_close(torch.autograd.grad(actual, inputs, weights),
            torch.autograd.grad(expected, inputs, weights), **FP32)

def test_tensors_of_many_blocks_and_channels_last_have_the_right_biases():
    for memory_format in [torch.contiguous_format, torch.channels_last]:
        ours, reference = both_bias_acts(act='lrelu')
        x, b = random(3, 10, 9, 11, memory_format=memory_format), random(10, seed=2)
        assert ours(x, b).is_contiguous(memory_format=memory_format)
        torch.testing.assert_close(ours(x, b), reference(x, b), **FP32)

@pytest.mark.parametrize('act', ACTS)
def test_half_precision_is_summed_in_single(act):
    inputs = [random(2, 3, 5, 4, dtype=torch.float16), random(3, dtype=torch.float16, seed=2)]
    assert_orders_agree(*both_bias_acts(act=act), inputs, FP16)

@pytest.mark.parametrize('act', ACTS)
def test_numerical_derivatives_agree_in_double_precision(act):
    inputs = [random(2, 2, 3, dtype=torch.float64), random(2, dtype=torch.float64, seed=2)]
    function, _reference = both_bias_acts(act=act, clamp=None if act == 'linear' else 1.5)
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)

@pytest.mark.filterwarnings('ignore:overflow')
@pytest.mark.parametrize('act', ACTS)
def test_large_values_stay_finite_and_what_is_not_a_number_is_not_hidden(act):
    ours, reference = both_bias_acts(act=act, clamp=256)
    x = torch.tensor([-1e4, -100, -30, 0, 30, 100, 1e4, float('nan')])
    torch.testing.assert_close(ours(x), reference(x), equal_nan=True, **FP32)

def test_bias_act_refuses_what_does_not_fit(kernels):
    none = torch.empty([0])
    x = torch.zeros(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r'bias_act: x is laid out as \(\[2, 3, 4, 4\], \[48, 16, 4, 1\]'):
        kernels.bias_act(x, none, x.to(memory_format=torch.channels_last), none, none, 1, 1, 3, 0.2, 1, -1)
    with pytest.raises(ValueError, match=r'biases of shape \[4\] do not fit dimension 1'):
        kernels.bias_act(x, torch.zeros(4), none, none, none, 0, 1, 3, 0.2, 1, -1)
    with pytest.raises(ValueError, match='a tensor of 2147483648 elements is too large'):
        kernels.bias_act(torch.empty(2 ** 31, device='meta'), none, none, none, none, 0, 0, 3, 0.2, 1, -1)
    assert kernels.bias_act(x[:0], none, none, none, none, 0, 1, 3, 0.2, 1, -1).shape == (0, 3, 4, 4)

#----------------------------------------------------------------------------
# Resampling.

def both_resamplings(f, up=1, down=1, padding=0, flip_filter=False, gain=1):
    """Upstream's op with our kernel, and its reference."""
    options = (up, down, padding, flip_filter, gain)
    return (lambda x: upfirdn2d._upfirdn2d_cuda(*options).apply(x,
        f)), (lambda x: upfirdn2d._upfirdn2d_ref(x, f, *options))

@pytest.mark.parametrize('options', [
    dict(),
    dict(up=2, padding=[2, 1, 2, 1], gain=4),
    dict(down=2, padding=1),
    dict(up=[2, 3], down=[3, 2], padding=[4, 2, 1, 5], flip_filter=True),
    dict(padding=[-2, 5, 4, -1], flip_filter=True, gain=0.3),
    dict(up=2, padding=[-3, 6, 5, -2], gain=2),
], ids=str)
@pytest.mark.parametrize('f', FILTERS)
def test_resampling_and_its_gradients_equal_the_reference(f, options):
    assert_orders_agree(*both_resamplings(FILTERS[f], **options), [random(2, 2, 13, 12)])

@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data(), size=st.tuples(*[st.integers(1, 9)] * 2), filter_size=st.tuples(*[st.integers(1, 6)] * 2),
    up=st.tuples(*[st.integers(1, 4)] * 2),
    down=st.tuples(*[st.integers(1, 4)] * 2), flip=st.booleans(),
    memory_format=st.sampled_from([torch.contiguous_format, torch.channels_last]))
def test_any_size_filter_factor_and_padding(data, size, filter_size, up, down, flip, memory_format):
    x = random(1, 2, *size, memory_format=memory_format)
    padding = []
    for axis in [1, 0]: # Of x, then y: what is left has room for the filter.
        length = size[axis] * up[1 - axis]
        before = data.draw(st.integers(1 - length, 7))
        padding += [before, data.draw(st.integers(max(filter_size[axis] - length - before, 1 - length), 12))]
    if (size[1] * up[0] + min(padding[0], 0) + min(padding[1], 0) < 1
            or size[0] * up[1] + min(padding[2], 0) + min(padding[3], 0) < 1):
        return # Cropped away on both sides before it is padded.
    f = torch.full([filter_size[0] + 2, filter_size[1] + 2], 1e3)[1:-1, 1:-1] # A tap beside it would be seen.
    f.copy_(random(*filter_size, seed=1).detach())
    ours, reference = both_resamplings(f, list(up), list(down), padding, flip)
    torch.testing.assert_close(ours(x), reference(x), **FP32)

@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last], ids=['nchw', 'nhwc'])
def test_images_of_many_tiles_keep_their_memory_format(memory_format, kernels, monkeypatch):
    monkeypatch.setattr(kernels, 'THREADS', 32)
    monkeypatch.setattr(kernels, 'LINES', 2)
    ours, reference = both_resamplings(FILTERS['4x4'], up=2, padding=[2, 1, 2, 1])
    x = random(2, 3, 4, 19, memory_format=memory_format)
    assert ours(x).is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(ours(x), reference(x), **FP32)

@pytest.mark.parametrize('view', [
    lambda x: x[:, :2, 1:-1, 2:],
    lambda x: x.transpose(2, 3),
    lambda x: x[:1, :1].expand(3, 2, -1, -1),
    lambda x: x.to(memory_format=torch.channels_last)[..., 1:, ::2],
], ids=['slice', 'transposed', 'expanded', 'slice of channels_last'])
def test_tensors_with_any_strides_are_read_where_they_are(view):
    ours, reference = both_resamplings(FILTERS['4x4'], padding=2)
    x = view(random(2, 3, 6, 8))
    torch.testing.assert_close(ours(x), reference(x), **FP32)

def test_half_precision_is_resampled_with_sums_in_single():
    ours, reference = both_resamplings(FILTERS['4x4'], down=2, padding=1)
    x = random(1, 2, 8, 8, dtype=torch.float16)
    assert ours(x).dtype == torch.float16
    torch.testing.assert_close(ours(x), reference(x), **FP16)

@pytest.mark.parametrize('options',
    [dict(up=2, padding=[2, 1, 2, 1]), dict(down=2, padding=1, flip_filter=True)], ids=str)
def test_numerical_derivatives_of_resampling_agree_in_double_precision(options, kernels, monkeypatch):
    monkeypatch.setattr(kernels, 'LINES', 2) # Fewer steps for the interpreter.
    function, _reference = both_resamplings(FILTERS['4x4'], **options)
    x = random(1, 1, 3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(function, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, x, fast_mode=True)

def test_resampling_refuses_what_does_not_fit(kernels):
    x, f = torch.zeros(1, 1, 4, 4), torch.ones(3, 3)
    rest = [1, 1, 1, 1, 0, 0, 0, 0, False, 1]
    with pytest.raises(ValueError, match=r'a filter of 3x3 leaves nothing of 2x2 pixels with padding \[0, 0, 0, 0\]'):
        kernels.upfirdn2d(x[..., :2, :2], f, *rest)
    with pytest.raises(ValueError,
            match='the filter must be float32 with two dimensions on cpu, not torch.float64 with 2 on cpu'):
        kernels.upfirdn2d(x, f.double(), *rest)
    with pytest.raises(ValueError,
            match='the filter must be float32 with two dimensions on cpu, not torch.float32 with 1 on cpu'):
        kernels.upfirdn2d(x, f[0], *rest)
    with pytest.raises(ValueError, match='a tensor of 4294967296 elements is too large; a smaller batch per GPU helps'):
        kernels.upfirdn2d(torch.empty(2 ** 16, 1, 2 ** 8, 2 ** 8, device='meta'), f.to('meta'), *rest)
    assert kernels.upfirdn2d(x[:0], f, *rest).shape == (0, 1, 2, 2)

#----------------------------------------------------------------------------
# A network.

def test_a_generator_and_a_discriminator_with_second_order_gradients(make_generator, make_discriminator,
        kernels, monkeypatch):
    G, D = make_generator(), make_discriminator()
    expected = gradients_of_a_step(G, D)
    # On the CPU upstream's ops end in these functions; on a GPU, in the others.
    monkeypatch.setattr(bias_act, '_bias_act_ref',
        lambda x, b, **options: bias_act._bias_act_cuda(**options).apply(x, b))
    monkeypatch.setattr(upfirdn2d, '_upfirdn2d_ref',
        lambda x, f, **options: upfirdn2d._upfirdn2d_cuda(**options).apply(x, f))
    monkeypatch.setattr(kernels, 'BLOCK', 2 ** 16) # The interpreter takes as long for a small tile.
    monkeypatch.setattr(kernels, 'THREADS', 2 ** 14)
    monkeypatch.setattr(kernels, 'LINES', 2)
    for actual, wanted in zip(gradients_of_a_step(G, D), expected, strict=True):
        scale = max(wanted.abs().max().item(), 1)
        torch.testing.assert_close(actual / scale, wanted / scale, **FP32)

#----------------------------------------------------------------------------
# What a GPU would run: Triton compiles for one that isn't there.

def launched(monkeypatch, launch):
    """(kernel, arguments, constants) of the kernel that launch(triton_ops) would run."""
    from sarigan_plugin.acceleration import triton_kernels
    calls = []
    class Recorder:
        def __init__(self, kernel):
            self.kernel = kernel
        def __getitem__(self, _grid):
            return lambda *args, **constants: calls.append((self.kernel, args, constants))
    with monkeypatch.context() as patch:
        for name in ['_bias_act_kernel', '_upfirdn2d_kernel']:
            patch.setattr(triton_kernels, name, Recorder(getattr(triton_kernels, name)))
        launch(triton_kernels)
    call, = calls
    return call

def compiled(monkeypatch, launch):
    """PTX for an H100 of the kernel that launch(triton_ops) would run."""
    import triton
    from triton.backends.compiler import GPUTarget
    kernel, args, constants = launched(monkeypatch, launch)
    signature, values, attributes = dict(), dict(), dict()
    for index, name in enumerate(kernel.arg_names): # As Triton itself sorts arguments when it launches.
        value = constants[name] if name in constants else args[index]
        known = name not in (kernel.do_not_specialize or [])
        if name in constants or value is None or (known and isinstance(value, int) and value == 1):
            signature[name] = 'constexpr'
            values[(index,)] = value
        elif isinstance(value, torch.Tensor):
            signature[name] = {torch.float16: '*fp16', torch.float32: '*fp32'}[value.dtype]
            attributes[(index,)] = [['tt.divisibility', 16]]
        else:
            signature[name] = 'fp32' if isinstance(value, float) else 'i32'
            if known and isinstance(value, int) and value % 16 == 0:
                attributes[(index,)] = [['tt.divisibility', 16]]
    source = triton.compiler.ASTSource(kernel, signature=signature, constexprs=values, attrs=attributes)
    return triton.compile(source, target=GPUTarget('cuda', 90, 32)).asm['ptx']

@pytest.mark.parametrize('up', [1, 2, 3])
@pytest.mark.parametrize('padding', range(-7, 8))
def test_no_negative_number_is_divided(monkeypatch, padding, up):
    """GPUs round towards zero there, and the interpreter downwards."""
    x = torch.zeros(1, 1, 9, 9)
    kernel, args, _constants = launched(monkeypatch,
        lambda module: module.upfirdn2d(x, torch.ones(1, 1), up, 1, 1, 1, padding, 0, 0, 0, False, 1.0))
    start, skip = [args[kernel.arg_names.index(name)] for name in ['start_x', 'skip_x']]
    assert start >= 0 and start // up - skip == np.ceil(-padding / up)

def test_lines_of_a_group_share_what_they_load(monkeypatch):
    """Without sharing each output pixel would take 16 loads, where it now takes 5.5."""
    ptx = compiled(monkeypatch, lambda module: module.upfirdn2d(torch.zeros(2, 16, 64, 64), FILTERS['4x4'], 1, 1, 1, 1,
        1, 2, 1, 2, False, 4.0))
    pixels = 2 # Of each line and thread.
    assert len(re.findall(r'ld\.global', ptx)) == (8 + 3) * 4 * pixels + 16 # Weights are loaded once.
    assert len(re.findall(r'st\.global', ptx)) == 8 * pixels

def test_channels_last_and_activations_move_many_numbers_at_a_time(monkeypatch):
    x = torch.zeros(2, 64, 16, 16, dtype=torch.float16).to(memory_format=torch.channels_last)
    ptx = compiled(monkeypatch, lambda module: module.upfirdn2d(x, FILTERS['4x4'], 2, 2, 1, 1, 2, 1, 2, 1, False, 4.0))
    assert set(re.findall(r'st\.global\.(\S+)', ptx)) == {'v4.b32'} # Eight.
    none = torch.empty([0])
    ptx = compiled(monkeypatch, lambda module: module.bias_act(x, torch.zeros(64, dtype=torch.float16), none, none,
        none, 0, 1, 3, 0.2, 1.4, 256.0))
    assert set(re.findall(r'st\.global\.(\S+)', ptx)) == {'v4.b32'} # Eight.

#----------------------------------------------------------------------------
# The check before they are used.

def test_the_check_finds_nothing_wrong_and_would_find_a_wrong_result(kernels, monkeypatch):
    from sarigan_plugin import acceleration
    monkeypatch.setattr(acceleration, 'triton_kernels', kernels, raising=False)
    state = torch.get_rng_state()
    assert ops.triton_problem('cpu') is None
    assert torch.equal(torch.get_rng_state(), state)
    original = kernels.bias_act
    monkeypatch.setattr(kernels, 'bias_act', lambda *args: original(*args) * 1.01)
    assert re.fullmatch(r'their results are off by 0\.0\d+', ops.triton_problem('cpu'))
    monkeypatch.setattr(kernels, 'bias_act', lambda *args: original(*args) * np.nan)
    assert ops.triton_problem('cpu') == 'their results are off by inf'

#----------------------------------------------------------------------------
