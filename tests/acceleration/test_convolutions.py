"""3x3 convolutions whose gradients are such convolutions again, and gradients of kernels."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sarigan_plugin.acceleration import convolutions, cpu, cpu_formats, winograd
from sarigan_plugin.acceleration.convolutions import ByPyTorch, Convolution, KernelGradient
from sarigan_plugin.losses.sarigan import SariGANLoss

from torch_utils.ops import conv2d_gradfix

WAYS = pytest.mark.parametrize('by', [winograd, ByPyTorch], ids=['winograd', 'pytorch'])

def tensors(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]

def plain(x, w):
    return torch.nn.functional.conv2d(x, w, padding=1)

def relative_error(value, exact):
    return ((value.double() - exact).norm() / exact.norm()).item()

#----------------------------------------------------------------------------

@WAYS
@pytest.mark.parametrize('adjoint', [False, True])
def test_first_and_second_derivatives_are_those_of_differences(adjoint, by):
    x, w = tensors((2, 2, 4, 8), (2, 2, 3, 3))
    def convolution(x, w):
        return Convolution.apply(x, w, adjoint, by)
    assert torch.autograd.gradcheck(convolution, (x, w))
    assert torch.autograd.gradgradcheck(convolution, (x, w))
    assert torch.autograd.gradgradcheck(lambda x, dy: KernelGradient.apply(x, dy, by),
        tuple(tensors((2, 2, 4, 8), (2, 3, 4, 8))))

@WAYS
def test_it_is_pytorchs_convolution_with_its_gradients(by):
    x, w, dy = tensors((3, 5, 8, 12), (2, 5, 3, 3), (3, 2, 8, 12))
    ours, theirs = [[y, *torch.autograd.grad(y, [x, w], dy)] for y in [Convolution.apply(x, w, False, by), plain(x, w)]]
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(Convolution.apply(dy, w, True, by), theirs[1], rtol=1e-10, atol=1e-10)

@WAYS
def test_gradients_of_kernels_are_left_out_where_upstream_has_no_use_for_them(monkeypatch, by):
    x, w = tensors((1, 2, 4, 4), (2, 2, 3, 3))
    monkeypatch.setattr(by, 'kernel_gradient', lambda x, dy: pytest.fail('worked out'))
    with conv2d_gradfix.no_weight_gradients():
        dx, = torch.autograd.grad(Convolution.apply(x, w, False, by).sum(), x)
    assert dx.abs().sum() > 0

def test_the_bias_is_added_and_gets_its_gradient():
    cpu.prepare()
    x, w, bias = tensors((2, 8, 4, 4), (3, 8, 3, 3), (3,), dtype=torch.bfloat16)
    y = conv2d_gradfix.conv2d(x, w, bias, padding=1)
    assert type(y.grad_fn).__name__ == 'AddBackward0' and y.dtype == torch.bfloat16
    assert relative_error(y, plain(x.double(), w.double()) + bias.double()[:, None, None]) < 2 ** -8
    dy = torch.randn(y.shape)
    assert relative_error(torch.autograd.grad(y, bias, dy.bfloat16())[0], dy.double().sum(dim=[0, 2, 3])) < 0.05

@pytest.mark.parametrize('dtype, options, expected', [
    (torch.bfloat16, dict(), ByPyTorch), (torch.float32, dict(), None), (torch.float64, dict(), None),
    (torch.float16, dict(), None), (torch.bfloat16, dict(stride=2), None), (torch.bfloat16, dict(padding=0), None),
    (torch.bfloat16, dict(dilation=[1, 2]), None), (torch.bfloat16, dict(groups=2), None),
    (torch.bfloat16, dict(padding=(1, 1)), ByPyTorch)], ids=str)
def test_bfloat16_goes_its_own_way_and_narrow_convolutions_in_fp32_as_ever(dtype, options, expected):
    x, w = tensors((2, 4, 8, 8), (4, 4, 3, 3), dtype=dtype)
    assert convolutions.way(x, w, **dict(dict(stride=1, padding=1, dilation=1, groups=1), **options)) is expected

#----------------------------------------------------------------------------
# What oneDNN gets wrong on CPUs with AMX, in bfloat16: kernels as large as the image.

@pytest.mark.parametrize('images', [1, 2, 4, 6, 8, 12, 16])
@pytest.mark.parametrize('size', [8, 32])
def test_second_gradients_in_bfloat16_are_right_for_every_batch(images, size):
    cpu.prepare()
    found = []
    for dtype in [torch.float64, torch.bfloat16]:
        x, w, dy, ddx = [t.detach().bfloat16().to(dtype).requires_grad_()
            for t in tensors((images, 8, size, size), (8, 8, 3, 3), *[(images, 8, size, size)] * 2)]
        y = conv2d_gradfix.conv2d(x, w, padding=1)
        dx, = torch.autograd.grad(y, x, dy, create_graph=True)
        found.append(torch.autograd.grad(dx, w, ddx)[0])
    # Kernels for CPUs without instructions for bfloat16 add one image after the other in it, and round each time: half
    # an eps at most, which add up as their root. The mistake was as large as the result.
    assert relative_error(found[1], found[0]) < 2 ** -8 * (1 + images ** 0.5) / 2

class PaddedKernels(TorchDispatchMode):
    """The rows of kernels of padded convolutions in bfloat16 inside the `with`. Others are right, measured one by one:
    those of 1x1 kernels, which leave one pixel, and of strides, which become dilations."""
    def __init__(self):
        super().__init__()
        self.rows = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if (func is torch.ops.aten.convolution.default and args[0].dtype == torch.bfloat16
                and args[4] == args[5] == [1, 1]): # Padding, dilation.
            self.rows.add(args[1].shape[2])
        return func(*args, **(kwargs or {}))

@pytest.mark.parametrize('phase', ['Gmain', 'Greg', 'Dmain', 'Dreg'])
def test_no_phase_convolves_with_such_kernels(make_generator, make_discriminator, phase):
    cpu.prepare()
    G, D = make_generator(), make_discriminator()
    trained = G if phase.startswith('G') else D
    for network in [G, D]:
        network.train().requires_grad_(network is trained)
    loss = SariGANLoss('cpu', G.mapping, G.synthesis, D)
    with cpu_formats.using('1'), PaddedKernels() as kernels:
        loss.accumulate_gradients(phase=phase, real_img=torch.rand(8, 3, 32, 32), real_c=torch.zeros(8, 0),
            gen_z=torch.randn(8, 32), gen_c=torch.zeros(8, 0), sync=True, gain=1)
    assert kernels.rows == {3, 4} # Those of layers and of filters.
