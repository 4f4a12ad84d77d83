"""Operations and networks with their derivatives."""

import torch

from sarigan_plugin.acceleration import cuda_build

_bias_act, upfirdn2d = cuda_build.modules()

# Four hundred times the eps, for a hundred sums and for exp and erf of different libraries.
FP32 = dict(rtol=5e-5, atol=5e-5)

# Thirty times the eps: the reference rounds after each of its steps, in the value and in both derivatives.
FP16 = dict(rtol=3e-2, atol=3e-2)

def random(*shape, dtype=torch.float32, seed=0, memory_format=torch.contiguous_format):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return (x.to(memory_format=memory_format) if x.ndim == 4 else x).requires_grad_()

def orders(function, *inputs):
    """What function returns, the gradients of a loss of it, and those of a penalty on these gradients, as R1 is one."""
    y = function(*inputs)
    loss = (y.float() * random(*y.shape, seed=1).detach().to(y.device)).sum()
    first = torch.autograd.grad(loss, inputs, create_graph=True)
    penalty = sum(grad.float().square().sum() for grad in first)
    second = torch.autograd.grad(penalty, inputs, allow_unused=True) if penalty.requires_grad else [None] * len(inputs)
    # Activations of straight lines have none.
    second = [torch.zeros_like(x) if grad is None else grad for x, grad in zip(inputs, second)]
    return [y, *first, *second]

def assert_orders_agree(ours, theirs, inputs, tolerance=FP32):
    for order, (actual, expected) in enumerate(zip(orders(ours, *inputs), orders(theirs, *inputs), strict=True)):
        scale = max(expected.abs().max().item(), 1) # Gradients of penalties are sums of many.
        assert actual.dtype == expected.dtype
        torch.testing.assert_close(actual / scale, expected / scale, **tolerance,
            msg=lambda text, order=order: f'{order}: {text}')

# ADA's, rounded.
SYM6 = [0.0154, 0.0035, -0.1180, -0.0483, 0.4911, 0.7876, 0.3379, -0.0726, -0.0211, 0.0447, 0.0018, -0.0078]

FILTERS = {
    'none':       None,
    '4x4':        upfirdn2d.setup_filter([1, 3, 3, 1]),
    '12 by 12':   upfirdn2d.setup_filter(SYM6),                     # Separable: one dimension.
    'asymmetric': torch.arange(15).reshape(3, 5) / 100,
}

def gradients_of_a_step(G, D):
    """An image, its logits, and the parameters' gradients under R1 and under the path length penalty."""
    rng = torch.Generator().manual_seed(1)
    device = next(G.parameters()).device
    ws = torch.randn(1, G.num_ws, G.w_dim, generator=rng).to(device).requires_grad_()
    img = G.synthesis(ws, noise_mode='const')
    path, = torch.autograd.grad((img * torch.randn(img.shape, generator=rng).to(device)).sum(), ws, create_graph=True)
    of_G = torch.autograd.grad(path.square().sum(2).mean(1).sqrt().sum(), list(G.synthesis.parameters()),
        allow_unused=True)
    real = img.detach().requires_grad_()
    logits = D(real, torch.zeros(1, 0, device=device))
    r1, = torch.autograd.grad(logits.sum(), real, create_graph=True)
    of_D = torch.autograd.grad(r1.square().sum(), list(D.parameters()), allow_unused=True)
    return [img, logits, *[grad for grad in [*of_G, *of_D] if grad is not None]]
