"""What the processes of one training ask each other."""

import datetime
from collections.abc import Sequence
from typing import Any

import torch

class Agreement:
    """The processes of a training; all of them call its methods alike. A process that trains alone asks nobody."""
    def __init__(self,
        num_processes:  int, # Of the training.
        timeout:        datetime.timedelta | None = None, # After it a process that does not answer is given up;
                                                          # None = PyTorch's.
    ) -> None:
        self.num_processes = num_processes
        self.group = None
        if num_processes > 1: # On CPUs, so that no GPU has to wait.
            self.group = torch.distributed.new_group(backend='gloo', timeout=timeout)

    def largest(self, *numbers: float) -> Sequence[float]:
        """The largest of each number over all processes."""
        if self.group is None:
            return numbers
        largest = torch.tensor(numbers, dtype=torch.float64)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX, group=self.group)
        return largest.tolist()

    def values_of_all(self, value: Any) -> list[Any]:
        """The value that each process has, by rank."""
        if self.group is None:
            return [value]
        values = [None] * self.num_processes
        torch.distributed.all_gather_object(values, value, group=self.group)
        return values

    def values_for_first(self, value: Any, rank: int) -> list[Any] | None:
        """The same in the first process, and None in the others."""
        if self.group is None:
            return [value]
        values = [None] * self.num_processes if rank == 0 else None
        torch.distributed.gather_object(value, values, dst=0, group=self.group)
        return values

#----------------------------------------------------------------------------
