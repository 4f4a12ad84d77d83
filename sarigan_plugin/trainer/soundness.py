"""Watches a training for numbers that are not finite, says where they come from, and when it is time to go back.

Upstream's loop turns such gradients into zeros and 1e5 and goes on without a word (training_loop.py:286).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from torch_utils import training_stats

SHOWN = 3 # Layers in a warning.

class Diverged(Exception):
    """So many iterations in a row were bad that the training is lost. The text tells which numbers, and where."""

class GradientWatch:
    """Looks at the gradients of every phase; asks the device for what it saw only in report()."""
    def __init__(self,
        device:             torch.device,   # Device of the networks.
        networks:           Mapping[str, Sequence[torch.nn.Module]], # {'G': [modules], 'D': [modules]}: whose gradients
                                            # the phases of upstream's loop make.
        max_bad_iterations: int,            # So many bad iterations in a row raise Diverged.
    ) -> None:
        self.parameters = {letter: [named for module in modules for named in _named_parameters(module)]
            for letter, modules in networks.items()}
        self.counts = {letter: torch.zeros(len(named), device=device) # Bad gradients since report().
            for letter, named in self.parameters.items()}
        self.indices: dict[tuple[int, ...], torch.Tensor] = dict() # Of parameters that a phase gives gradients.
        self.max_bad_iterations = max_bad_iterations
        self.bad = torch.zeros([], device=device)       # Is this iteration bad?
        self.streak = torch.zeros([], device=device)    # Bad iterations in a row, up to now,
        self.longest = torch.zeros([], device=device)   # and the most since report().
        self.are_finite = False # Those of the last phase, as far as is known without waiting for a GPU.
        self.total = 0                                  # Bad iterations of this process, up to report().
        self.since = torch.zeros([], device=device)     # And since then.

    @torch.no_grad()
    def look(self, phase: str) -> None:
        """The gradients of a phase ('Gmain', 'Dreg', ...) are complete."""
        named = self.parameters[phase[0]]
        self.are_finite = False
        present = tuple(index for index, (_name, parameter) in enumerate(named) if parameter.grad is not None)
        if not present: # As where there is no path length penalty.
            return
        if present not in self.indices:
            self.indices[present] = torch.tensor(present, device=self.bad.device)
        bad = (~_sums([named[index][1].grad for index in present]).isfinite()).to(self.bad.dtype)
        self.counts[phase[0]].index_add_(0, self.indices[present], bad)
        worst = bad.amax()
        self.are_finite = worst.device.type == 'cpu' and worst.item() == 0
        self.bad = torch.maximum(self.bad, worst)

    def end_iteration(self) -> None:
        self.streak = (self.streak + 1) * self.bad
        self.longest = torch.maximum(self.longest, self.streak)
        self.since = self.since + self.bad
        self.bad = torch.zeros_like(self.bad)

    def is_sound(self) -> bool:
        """Whether the gradients of the iteration that ended last, and all parameters, are finite."""
        parameters = [parameter for named in self.parameters.values() for _name, parameter in named]
        return self.streak.item() == 0 and all(bool(parameter.isfinite().all()) for parameter in parameters)

    def report(self, read_losses: Callable[[], dict[str, float]]) -> str | None:
        """What was bad since the last call, as a sentence without a full stop, or None.

        read_losses: called where something was bad, on all ranks; returns {name: mean} of the losses. Raises Diverged.
        """
        bad_iterations = int(self.since.item())
        self.total += bad_iterations
        training_stats.report0('Numbers/bad_iterations', self.total)
        if bad_iterations == 0:
            return None
        found = self._describe(bad_iterations, read_losses())
        longest = self.longest.item()
        for tensor in [*self.counts.values(), self.since, self.longest]:
            tensor.zero_()
        if longest >= self.max_bad_iterations:
            raise Diverged(f'{found}; {int(longest)} of them in a row')
        return found

    def _describe(self, bad_iterations: int, losses: dict[str, float]) -> str:
        names = []
        for letter, named in self.parameters.items():
            names += [name for (name, _parameter), count in zip(named, self.counts[letter].tolist()) if count > 0]
        shown = ', '.join(names[:SHOWN]) + (f' and {len(names) - SHOWN} more' if len(names) > SHOWN else '')
        wrong = [f'{name} is {value:g}' for name, value in losses.items() if not math.isfinite(value)]
        return '; '.join([f'{bad_iterations} iterations had gradients that are not finite, in {shown}',
            *([', '.join(wrong)] if wrong else [])])

def _sums(gradients: list[Any]) -> torch.Tensor:
    """Finite where all numbers of a gradient are: one that isn't stays in a sum, and squares would overflow early."""
    if gradients[0].device.type == 'cpu': # Norms take PyTorch ten times as long as plain sums there.
        return torch.stack([gradient.sum() for gradient in gradients])
    return torch.stack(torch._foreach_norm(gradients, 1))

def _named_parameters(module: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    return [(f'{type(module).__name__}.{name}', parameter) for name, parameter in module.named_parameters()]

#----------------------------------------------------------------------------
