"""3x3 convolutions on the CPU whose gradients, and theirs again, are two operations that something computes well.

PyTorch takes the gradient of a kernel's gradient, which R1 and the path length need, as a convolution whose kernel is
as large as the image. In bfloat16 oneDNN 3.12, of torch 2.13, gets that wrong where the CPU has AMX and a batch has an
even number of images below 16: the result has nothing to do with the true one. Here it is a 3x3 convolution once more.
"""

import torch

from sarigan_plugin.acceleration import winograd

class ByPyTorch:
    """convolve() and kernel_gradient() as of winograd.py, by PyTorch's operators."""
    @staticmethod
    def convolve(x, w, adjoint=False):
        operator = torch.nn.functional.conv_transpose2d if adjoint else torch.nn.functional.conv2d
        return operator(x, w, padding=1)

    @staticmethod
    def kernel_gradient(x, dy):
        return torch.nn.grad.conv2d_weight(x, [dy.shape[1], x.shape[1], 3, 3], dy, padding=1)

def way(x, w, stride, padding, dilation, groups):
    """What should compute torch.nn.functional.conv2d() of x and w: the module winograd, ByPyTorch, or None: as ever."""
    pairs = [(value, value) if isinstance(value, int) else tuple(value) for value in [stride, padding, dilation]]
    if (x.device.type != 'cpu' or pairs != [(1, 1)] * 3 or groups != 1 or x.ndim != 4 or w.shape[2:] != (3, 3)
            or x.dtype != w.dtype):
        return None
    if winograd.suits(x, w):
        return winograd
    return ByPyTorch if x.dtype == torch.bfloat16 else None

#----------------------------------------------------------------------------

class Convolution(torch.autograd.Function):
    """conv2d(x, w, padding=1) for x [N, C, H, W] and w [O, C, 3, 3].

    adjoint: its gradient by x for x [N, O, H, W]. by: of way(); winograd wants H and W to be multiples of four.
    """
    @staticmethod
    def forward(ctx, x, w, adjoint, by):
        ctx.save_for_backward(x, w)
        ctx.adjoint, ctx.by = adjoint, by
        return by.convolve(x, w, adjoint)

    @staticmethod
    def backward(ctx, dy):
        from torch_utils.ops import conv2d_gradfix  # Here, as upstream's tree may come to sys.path late.
        x, w = ctx.saved_tensors
        dx = Convolution.apply(dy, w, not ctx.adjoint, ctx.by) if ctx.needs_input_grad[0] else None
        # R1 and the path length have no use for them.
        if not ctx.needs_input_grad[1] or conv2d_gradfix.weight_gradients_disabled:
            return dx, None, None, None
        return dx, KernelGradient.apply(*(dy, x) if ctx.adjoint else (x, dy), ctx.by), None, None

class KernelGradient(torch.autograd.Function):
    """The gradient of w from x and the gradient of conv2d(x, w, padding=1); linear in both,
    as the convolution is in x and w."""
    @staticmethod
    def forward(ctx, x, dy, by):
        ctx.save_for_backward(x, dy)
        ctx.by = by
        return by.kernel_gradient(x, dy)

    @staticmethod
    def backward(ctx, ddw):
        x, dy = ctx.saved_tensors
        return (Convolution.apply(dy, ddw, True, ctx.by) if ctx.needs_input_grad[0] else None,
            Convolution.apply(x, ddw, False, ctx.by) if ctx.needs_input_grad[1] else None, None)

#----------------------------------------------------------------------------
