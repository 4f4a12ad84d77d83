"""How far apart two right answers may be: bounds on rounding that hold with whichever kernels a CPU has."""

import math

import torch

def bound(terms, layers=1, dtype=torch.float32):
    """Between sums of so many terms that are added in two orders, relative to the largest sum.

    Each addition is off by up to half an eps of what was summed so far, in either direction: a walk of as many steps as
    terms, which ends about eps * sqrt(terms) from where it began. Each layer of sums of sums adds a walk. Sixteen times
    as much leaves room for the farthest of a million sums (five deviations) and for terms that partly cancel. What a
    mistake does is far larger.
    """
    return 16 * layers * math.sqrt(terms) * torch.finfo(dtype).eps

def assert_close(ours, theirs, terms, layers=1, name=None):
    """Tensors or arrays of any shape; `name` begins what a failure says."""
    ours, theirs = torch.as_tensor(ours), torch.as_tensor(theirs)
    # Figures are doubles of what was computed in single precision.
    coarser = max(ours.dtype, theirs.dtype, key=lambda dtype: torch.finfo(dtype).eps)
    apart = bound(terms, layers, coarser) * theirs.abs().max().item()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=apart, check_dtype=False,
        msg=lambda text: text if name is None else f'{name}: {text}')
