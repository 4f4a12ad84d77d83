"""Parameters in upstream's loop: their gradients, the optimizer's step, the average.

The loop walks through all modules nine times in each iteration, and once more through memory than it must; in a narrow
network that was a twentieth of the time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

#----------------------------------------------------------------------------

class PhaseParameters:
    """All that the loop asks of a phase's module, from a list that is made once."""
    def __init__(self, module: torch.nn.Module, is_finite: Callable[[], bool]) -> None:
        """is_finite: whether all gradients of the phase that ended last are known to be."""
        self.all = list(module.parameters())
        self.is_finite = is_finite

    def requires_grad_(self, needed: bool) -> None:
        for parameter in self.all:
            parameter.requires_grad_(needed)

    def parameters(self) -> Sequence[torch.nn.Parameter]:
        """Those whose gradients the loop has to repair (training_loop.py:285)."""
        return [] if self.is_finite() else self.all

def shorten(phases: Sequence[Any], is_finite: Callable[[], bool]) -> None:
    """Have the phases of upstream's loop ask PhaseParameters."""
    made: dict[int, PhaseParameters] = dict() # Of networks: two phases have the same.
    for phase in phases:
        if isinstance(phase.module, torch.nn.Module):
            phase.module = made.setdefault(id(phase.module), PhaseParameters(phase.module, is_finite))

class Adam(torch.optim.Adam):
    """Adam in one pass over memory (`fused=True`), which on a CPU does not sort and check its parameters at each step.

    State and results are those of PyTorch's.
    """
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.known: dict[tuple[int, ...], list[list[torch.Tensor]]] = dict() # Of which parameters -> their state.

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        group = self.param_groups[0]
        parameters = [parameter for parameter in group['params'] if parameter.grad is not None]
        which = tuple(map(id, parameters))
        if closure is not None or which not in self.known:
            result = super().step(closure)
            if self._is_simple(parameters):
                self.known[which] = [[self.state[parameter][name] for parameter in parameters]
                    for name in ['exp_avg', 'exp_avg_sq', 'step']]
            return result
        means, squares, steps = self.known[which]
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(parameters, [parameter.grad for parameter in parameters], means, squares, [], steps,
            amsgrad=False, lr=group['lr'], beta1=group['betas'][0], beta2=group['betas'][1],
            weight_decay=group['weight_decay'], eps=group['eps'], maximize=False, grad_scale=None, found_inf=None)
        return None

    def _is_simple(self, parameters: list[torch.nn.Parameter]) -> bool:
        """Whether all of them are on the CPU and alike, and nothing else is asked of Adam."""
        group = self.param_groups[0]
        kinds = {(parameter.device.type, parameter.dtype) for parameter in parameters}
        return (len(self.param_groups) == 1 and bool(group['fused']) and kinds == {('cpu', torch.float32)}
            and not group['amsgrad'] and not group['maximize'] and not isinstance(group['lr'], torch.Tensor))

    def load_state_dict(self, state_dict: Any) -> None:
        self.known.clear()
        super().load_state_dict(state_dict)

class Average:
    """G_ema follows G: p_ema = p + beta * (p_ema - p), and its buffers are G's.

    To the bit as upstream has it for beta > 0.5, where 1 - beta is exact; up to there, as in the first iterations of a
    training, up to rounding.
    """
    def __init__(self) -> None:
        self.networks: list[torch.nn.Module] = [] # Those that the lists below are of.
        self.parameters: list[list[torch.Tensor]] = []
        self.buffers: list[list[tuple[dict[str, Any], str]]] = []

    @torch.no_grad()
    def follow(self, G_ema: torch.nn.Module, G: torch.nn.Module, beta: float) -> None:
        if list(map(id, self.networks)) != [id(G_ema), id(G)]:
            self.networks = [G_ema, G]
            self.parameters = [list(network.parameters()) for network in self.networks]
            self.buffers = [_places_of_buffers(network) for network in self.networks]
        weight = 1 - float(np.float32(beta)) # As the operation itself rounds beta.
        averages, parameters = self.parameters
        torch._foreach_lerp_(averages, parameters, weight)
        kept, buffers = [[owner[name] for owner, name in places] for places in self.buffers]
        torch._foreach_copy_(kept, buffers)

def _places_of_buffers(network: torch.nn.Module) -> list[tuple[dict[str, Any], str]]:
    """Where the buffers are, as a module may exchange its own."""
    return [(module._buffers, name) for module in network.modules()
        for name, buffer in module._buffers.items() if buffer is not None]

#----------------------------------------------------------------------------
