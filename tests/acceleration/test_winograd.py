"""Convolutions in fewer multiplications against PyTorch's own, and against numbers of double precision."""

import pytest
import torch

from sarigan_plugin.acceleration import winograd

from torch_utils.ops import conv2d_gradfix

def tensors(*shapes, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]

def pytorchs(x, w):
    return torch.nn.functional.conv2d(x, w, padding=1)

def error(value, exact):
    return float((value.double() - exact).abs().max() / exact.abs().max())

@pytest.fixture(params=[1, 400, 2 ** 20])
def block(request, monkeypatch):
    """One row of tiles at a time, a few, and all images at once."""
    monkeypatch.setattr(winograd, 'BLOCK', request.param)

#----------------------------------------------------------------------------

@pytest.mark.parametrize('images, outputs, inputs, height, width',
    [(1, 1, 1, 4, 4), (3, 2, 5, 8, 12), (2, 4, 3, 20, 4)])
def test_it_is_pytorchs_convolution_with_its_gradients(block, images, outputs, inputs, height, width):
    x, w, dy = tensors((images, inputs, height, width), (outputs, inputs, 3, 3), (images, outputs, height, width))
    # Of double precision: rounding in sums of a hundred terms, times the hundred of the magnitudes below.
    assert error(winograd.convolve(x, w), pytorchs(x, w)) < 1e-12
    assert error(winograd.convolve(dy, w, adjoint=True), torch.nn.grad.conv2d_input(x.shape, w, dy, padding=1)) < 1e-12
    assert error(winograd.kernel_gradient(x, dy), torch.nn.grad.conv2d_weight(x, w.shape, dy, padding=1)) < 1e-12

def test_one_axis_is_a_correlation_with_three_taps():
    d, k = tensors(6, 3)
    y = winograd.A.double() @ ((winograd.B.double() @ d) * (winograd.K @ k))
    assert y.tolist() == pytest.approx([float(d[i : i + 3] @ k) for i in range(4)])

def all_three(x, w, dy):
    return [winograd.convolve(x, w), winograd.convolve(dy, w, adjoint=True), winograd.kernel_gradient(x, dy)]

def pytorchs_three(x, w, dy):
    return [pytorchs(x, w), torch.nn.grad.conv2d_input(x.shape, w, dy, padding=1),
        torch.nn.grad.conv2d_weight(x, w.shape, dy, padding=1)]

@pytest.fixture
def magnitudes(monkeypatch):
    """magnitudes(x, w, dy): what passes through each of the three sums, without signs."""
    def get(*tensors):
        with monkeypatch.context() as patch:
            for name in ['A', 'B', 'K']:
                patch.setattr(winograd, name, getattr(winograd, name).abs())
            return all_three(*[t.abs() for t in tensors])
    return get

@pytest.mark.parametrize('positive', [False, True]) # As after an activation.
def test_rounding_stays_within_what_single_precision_makes_of_the_terms_of_its_sums(magnitudes, positive):
    # A sum of n terms in any order is about sqrt(n) roundings off, each of half an eps of the terms summed so far,
    # which have grown to their magnitudes' sum over sqrt(n): half an eps of that sum in all. Seen: a fifth of it.
    x, w, dy = tensors((2, 128, 16, 16), (128, 128, 3, 3), (2, 128, 16, 16))
    x = x.abs() if positive else x
    for value, exact, magnitude in zip(all_three(x.float(), w.float(), dy.float()), pytorchs_three(x, w, dy),
            magnitudes(x, w, dy)):
        assert ((value - exact).abs() <= torch.finfo(torch.float32).eps / 2 * magnitude).all()

def test_its_sums_have_seventy_times_the_magnitude_of_a_plain_convolutions(magnitudes):
    x, w, dy = [t.abs() for t in tensors((1, 32, 32, 32), (32, 32, 3, 3), (1, 32, 32, 32))]
    for ours, theirs in zip(magnitudes(x, w, dy), pytorchs_three(x, w, dy)):
        assert (ours / theirs).mean() < 75 # With the usual points, 0, 1, -1, 2 and -2: 80 to 82.

def test_a_strip_of_large_numbers_leaves_the_others_as_exact():
    x, w = tensors((1, 8, 16, 32), (8, 8, 3, 3), dtype=torch.float32)
    x[..., :8] *= 1e4
    exact = pytorchs(x.double(), w.double())
    # Tiles that see none of them. If they did: 1e-2.
    assert error(winograd.convolve(x, w)[..., 12:], exact[..., 12:]) < 1e-4

#----------------------------------------------------------------------------

def test_upstreams_convolution_takes_it_where_it_is_faster(monkeypatch):
    from sarigan_plugin.acceleration import cpu
    cpu.prepare()
    taken = []
    monkeypatch.setattr(winograd, 'convolve', lambda x, w, adjoint=False: taken.append(x.shape) or pytorchs(x, w))
    x, w = torch.zeros(2, 256, 48, 32), torch.zeros(256, 256, 3, 3)
    conv2d_gradfix.conv2d(x, w, padding=1)
    conv2d_gradfix.conv2d(x, w, padding=[1, 1])
    assert len(taken) == 2
    for other_x, other_w, options in [(x, w, dict()), (x, w, dict(padding=1, stride=2)),
            (x, w, dict(padding=2, dilation=2)), (x, w[:127], dict(padding=1)),
            (x[:, :, :46], w, dict(padding=1)), (x[:, :, :28, :28], w, dict(padding=1)),
            (x.double(), w.double(), dict(padding=1)),
            (x, w[:, :128], dict(padding=1, groups=2)), (x, torch.zeros(256, 256, 1, 1), dict())]:
        conv2d_gradfix.conv2d(other_x, other_w, **options)
    assert len(taken) == 2

#----------------------------------------------------------------------------
