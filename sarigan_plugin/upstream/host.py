"""The device that trainings and tools run on, and `torch` as upstream's modules see it there.

Upstream was written for PyTorch 1.7 to 1.9 and one CUDA device per process. What adapts its modules to this machine is
in trainer/upstream_loop.py, evaluation/upstream_metrics.py, datasets/loading.py and acceleration/, by way of
exchanges.py.
"""

import functools
import time

import torch

from sarigan_plugin.support import processes
from sarigan_plugin.upstream.exchanges import Overlay

#----------------------------------------------------------------------------
# The device.

DEVICES = ('auto', 'cuda', 'cpu')

def resolve_device(name='auto'):
    """'auto', 'cuda' or 'cpu' -> 'cuda' or 'cpu'. Raises ValueError where CUDA is asked for and missing."""
    if name not in DEVICES:
        raise ValueError(f'must be one of {", ".join(DEVICES)}, not {name!r}')
    if name == 'cuda' and not torch.cuda.is_available():
        raise ValueError('cuda was asked for, but PyTorch finds no CUDA device here; use cpu or auto')
    if name == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    return name

def num_devices(device_type):
    """How many processes of one device each this machine can run: GPUs, or CPU cores."""
    if device_type == 'cuda':
        return torch.cuda.device_count()
    return processes.available_cores()

#----------------------------------------------------------------------------
# A stand-in for the name `torch` inside one of upstream's modules.

def stand_in(device_type, local_rank=None, **exchanged):
    """`torch` for upstream's modules: the real one, but for what this machine or this version lacks.

    local_rank: index of this process's GPU, which upstream takes to be its rank; None = outside training.
    exchanged:  more names of torch and what they stand for.
    """
    parallel = Overlay(torch.nn.parallel, DistributedDataParallel=_distributed_data_parallel)
    exchanged['nn'] = Overlay(torch.nn, parallel=parallel)
    if not torch.cuda.is_available():
        exchanged['from_numpy'] = _never_pinned
    if device_type == 'cpu':
        exchanged['device'] = _cpu_device
        exchanged['cuda'] = Overlay(torch.cuda,
            Event                   = _WallClockEvent,
            current_stream          = lambda device=None: None,
            max_memory_allocated    = lambda device=None: 0,     # training_loop.py:332
            reset_peak_memory_stats = lambda device=None: None,  # training_loop.py:333
        )
    elif local_rank is not None:
        exchanged['device'] = _local_cuda_device(local_rank)
    return Overlay(torch, **exchanged)

class _WallClockEvent:
    """torch.cuda.Event for the CPU, where work is done when the call returns (training_loop.py:213, 276, 294)."""
    def __init__(self, enable_timing=False):
        _ = enable_timing
        self.time = None

    def record(self, stream=None):
        _ = stream
        self.time = time.perf_counter()

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return (end.time - self.time) * 1e3 # Milliseconds.

def _never_pinned(array):
    """torch.from_numpy() with a pin_memory() that does nothing: page-locked memory is CUDA's (training_loop.py:266)."""
    tensor = torch.from_numpy(array)
    tensor.pin_memory = functools.partial(torch.from_numpy, array)
    return tensor

def _cpu_device(device, index=None):
    """torch.device() that sends CUDA devices to the CPU."""
    if str(device).startswith('cuda'):
        return torch.device('cpu')
    return torch.device(device) if index is None else torch.device(device, index)

def _local_cuda_device(local_rank):
    """torch.device() for a process whose GPU has the index local_rank, whatever its rank (training_loop.py:124)."""
    def device(device, index=None):
        if device == 'cuda' and index is not None:
            return torch.device('cuda', local_rank)
        return torch.device(device) if index is None else torch.device(device, index)
    return device

def _distributed_data_parallel(module, device_ids=None, **kwargs):
    """DistributedDataParallel as upstream expects it (training_loop.py:187).

    From torch 2.0 on, broadcast_buffers=False also skips the broadcast at the start, and every rank would keep its own
    noise_const; and a module on the CPU takes no device_ids.
    """
    for tensor in module.buffers():
        torch.distributed.broadcast(tensor, src=0)
    on_cuda = next(module.parameters()).is_cuda
    return torch.nn.parallel.DistributedDataParallel(module, device_ids=device_ids if on_cuda else None, **kwargs)

#----------------------------------------------------------------------------
