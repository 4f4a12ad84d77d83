"""All that a training is, taken out of the local variables of upstream's loop and put back.

What processes share, the first one gives; what each has of its own, as random numbers, all of them give.
"""

import random
import re
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from sarigan_plugin.snapshots.exported import NETWORKS

from torch_utils import training_stats

OF_EACH_PROCESS = re.compile(r'(.*\.)?w_avg') # Buffers that differ between processes: each averages its own codes.
POSITION = ('cur_nimg', 'cur_tick', 'tick_start_nimg', 'batch_idx') # Of upstream's loop.

#----------------------------------------------------------------------------
# Random numbers and statistics.

def random_state(device: torch.device) -> dict[str, Any]:
    """The state of every random number generator of this process, of plain numbers and tensors."""
    keys: Any # An array, whatever NumPy says.
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return dict(
        python  = random.getstate(),
        numpy   = (kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        torch   = torch.get_rng_state(),
        cuda    = torch.cuda.get_rng_state(device) if device.type == 'cuda' else None,
    )

def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    random.setstate(state['python'])
    kind, keys, *rest = state['numpy']
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state['torch'])
    if device.type == 'cuda' and state['cuda'] is not None:
        torch.cuda.set_rng_state(state['cuda'], device)

def seed_everything(*entropy: int) -> None:
    """Seed all generators with numbers that depend on all of `entropy`, non-negative integers."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)

def counters() -> dict[str, dict[str, torch.Tensor]]:
    """What this process has reported to upstream's statistics and nobody has collected yet: {name: {device:
    moments}}."""
    return {name: {str(device): tensor.clone() for device, tensor in by_device.items()}
        for name, by_device in training_stats._counters.items()}

def set_counters(saved: dict[str, dict[str, torch.Tensor]]) -> None:
    training_stats._counters.clear()
    for name, by_device in saved.items():
        training_stats._counters[name] = {torch.device(device): tensor.to(device)
            for device, tensor in by_device.items()}

def collected(collectors: Iterable[Any]) -> dict[str, Any]:
    """What all processes have reported and `collectors` have collected."""
    seen = [(_cloned(collector._cumulative), _cloned(collector._moments)) for collector in collectors]
    return dict(total=_cloned(training_stats._cumulative), seen=seen)

def set_collected(saved: dict[str, Any], collectors: Iterable[Any]) -> None:
    _replace(training_stats._cumulative, saved['total'])
    for collector, (cumulative, moments) in zip(collectors, saved['seen']):
        _replace(collector._cumulative, cumulative)
        _replace(collector._moments, moments)

def _cloned(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}

def _replace(tensors: dict[str, torch.Tensor], saved: dict[str, torch.Tensor]) -> None:
    tensors.clear()
    tensors.update(_cloned(saved))

#----------------------------------------------------------------------------
# The loop.

def of_this_process(loop: dict[str, Any]) -> dict[str, Any]:
    """What this process has of its own."""
    return dict(
        buffers     = {name: _own_buffers(loop[name]) for name in _networks(loop)},
        counters    = counters(),
        loss        = loop['loss'].state_dict(),
        random      = random_state(loop['device']),
    )

def shared_by_all(loop: dict[str, Any]) -> dict[str, Any]:
    """What all processes have alike, or the first one has for all."""
    return dict(
        position    = dict({name: loop[name] for name in POSITION}, seconds=time.time() - loop['start_time']),
        networks    = {name: loop[name].state_dict() for name in _networks(loop)},
        optimizers  = [optimizer.state_dict() for optimizer in _optimizers(loop)],
        collected   = collected(_collectors(loop)),
        grid_z      = list(loop['grid_z']),
    )

def put_back(state: dict[str, Any], loop: dict[str, Any], rank: int, seed: int | None = None) -> None:
    """Put dict(shared=..., processes=[own, ...]) into the loop of process `rank`.

    seed: draw other random numbers than the state has; None = the same. Processes beyond those that were saved get what
    the first one had, and random numbers of their own.
    """
    shared, processes = state['shared'], state['processes']
    is_saved = rank < len(processes)
    own = processes[rank if is_saved else 0]
    for name, tensors in shared['networks'].items():
        loop[name].load_state_dict(tensors)
        loop[name].load_state_dict(own['buffers'][name], strict=False)
    for optimizer, of_optimizer in zip(_optimizers(loop), shared['optimizers'], strict=True):
        optimizer.load_state_dict(of_optimizer)
    for phase in loop['phases']:
        for event in [phase.start_event, phase.end_event]:
            if event is not None:
                event.record() # The tick may end before a lazy phase is due, and upstream asks how long each one took.
    for latents, saved in zip(loop['grid_z'] or [], shared['grid_z']): # The first process alone has a grid.
        latents.copy_(saved)
    set_counters(own['counters'])
    set_collected(shared['collected'], _collectors(loop))
    loop['loss'].load_state_dict(own['loss'])
    nimg = shared['position']['cur_nimg']
    if seed is not None:
        seed_everything(seed, nimg, rank)
    elif is_saved:
        set_random_state(own['random'], loop['device'])
    else:
        seed_everything(nimg, rank)

def _own_buffers(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in network.state_dict().items() if OF_EACH_PROCESS.fullmatch(name)}

def _networks(loop: dict[str, Any]) -> list[str]:
    return [name for name in NETWORKS if loop[name] is not None]

def _optimizers(loop: dict[str, Any]) -> list[torch.optim.Optimizer]:
    """Each once: upstream's lazy regularisation has two phases with the same one."""
    return list({id(phase.opt): phase.opt for phase in loop['phases']}.values())

def _collectors(loop: dict[str, Any]) -> list[Any]:
    found = [loop['stats_collector'], loop['ada_stats'], loop['loss'].losses]
    return [collector for collector in found if collector is not None]

#----------------------------------------------------------------------------
