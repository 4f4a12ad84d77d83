"""From training options to processes that train: torchrun's, one for each device of this machine, or this one alone."""

import datetime
import errno
import json
import os
import signal
import socket
import sys
import tempfile
import time

import dnnlib
import requests
import torch

from sarigan_plugin import cuda_ops
from sarigan_plugin import monitor
from sarigan_plugin import runtime
from sarigan_plugin.cli import UserError
from sarigan_plugin.world import World, is_lost_peer

OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LOST = 1 # The exit code where another process was lost.
GO_ON = 'what was saved is kept, and the same command goes on from there.'

#----------------------------------------------------------------------------

def launch(args, device_type, minutes=None, world=None):
    """Create args.run_dir and train there.

    args:        from config.training_options(), plus run_dir; the same in all processes.
    device_type: 'cuda' or 'cpu'.
    minutes:     stop at the first tick after so long; None = after args.total_kimg.
    world:       world.World; where it is alone, args.num_gpus processes are started on this machine.
    Returns the exit code: 0, 2 where the user can mend what stopped it, or 1 where a process was lost. Raises UserError
    if run_dir can't be made or a machine can't train.
    """
    world = World() if world is None else world
    if world.size > 1:
        world.check_everywhere(machine_obstacle(world, args, device_type))
    world.agree(lambda: _create_run_dir(args))
    if world.rank == 0:
        print(f'Training on {device_type.upper()}{"; mixed precision is off there" if device_type == "cpu" else ""} ...')
    try:
        if args.num_gpus == world.size:
            return train_process(world, args, device_type, minutes)
        with tempfile.TemporaryDirectory() as temp_dir:
            return _spawn(args, device_type, minutes, temp_dir, world.timeout / datetime.timedelta(minutes=1))
    finally:
        if world.rank == 0:
            monitor.restore_terminal()

def machine_obstacle(world, args, device_type):
    """Why this machine can't run its share of the processes, as one sentence, or None."""
    if device_type == 'cuda' and not torch.cuda.is_available():
        return '--device: PyTorch finds no CUDA device here, but it does on the first machine.'
    available = runtime.num_devices(device_type)
    option, num_processes = ('--gpus', args.num_gpus) if world.store is None else ('--nproc_per_node', world.local_size)
    if num_processes > available:
        return f'{option}={num_processes} is more than the {available} {"GPUs" if device_type == "cuda" else "CPU cores"} of this machine.'
    if not os.path.exists(args.training_set_kwargs.path):
        return f'--data: {args.training_set_kwargs.path} is not on this machine.'
    return None

def _create_run_dir(args):
    try:
        os.makedirs(args.run_dir)
        with open(os.path.join(args.run_dir, 'training_options.json'), 'wt', encoding='utf-8') as f:
            json.dump(args, f, indent=2)
    except OSError as error:
        raise UserError(f'--outdir: {args.run_dir} cannot be written to: {error.strerror}.') from None

#----------------------------------------------------------------------------
# Processes of our own, all on this machine.

def _spawn(args, device_type, minutes, temp_dir, timeout):
    """Start args.num_gpus processes and wait for them. Returns the exit code, as launch()."""
    context = torch.multiprocessing.spawn(_spawned, args=(args, device_type, minutes, temp_dir, timeout), nprocs=args.num_gpus, join=False)
    try:
        while not context.join():
            pass
    except torch.multiprocessing.ProcessExitedException as error:
        killed = _first_killed(error, [process.exitcode for process in context.processes])
        if killed is None:
            return error.exit_code # The process has said why.
        rank, name = killed
        hint = ' (is there enough memory?)' if name == 'SIGKILL' else ''
        print(f'Error: Rank {rank} was killed by {name}{hint}: {GO_ON}', file=sys.stderr)
        return LOST
    return 0

def _spawned(rank, args, device_type, minutes, temp_dir, timeout):
    code = train_process(World.on_this_machine(rank, args.num_gpus, temp_dir, timeout), args, device_type, minutes)
    if code != 0:
        sys.exit(code)

def _first_killed(error, exit_codes):
    """(rank, name of the signal) of the process that was killed first, or None.

    Those that lose it exit as well, and error may be about one of them. The rest join() ends, with SIGTERM.
    """
    candidates = [(error.error_index, error.exit_code)] + [(rank, code) for rank, code in enumerate(exit_codes) if code != -signal.SIGTERM]
    return next(((rank, signal.Signals(-code).name) for rank, code in candidates if code < 0), None)

#----------------------------------------------------------------------------

def train_process(world, args, device_type, minutes):
    """Train as one of world.size processes. Returns the exit code, as launch()."""
    from training import training_loop
    from torch_utils import custom_ops
    from torch_utils import training_stats

    args = dnnlib.EasyDict(args)
    is_first = (world.rank == 0)
    device = torch.device('cuda', world.local_rank) if device_type == 'cuda' else torch.device('cpu')
    training_stats.init_multiprocessing(rank=world.rank, sync_device=device if world.size > 1 else None)
    if not is_first:
        custom_ops.verbosity = 'none'
    if device_type == 'cuda':
        torch.cuda.set_device(device)
    elif world.size > 1:
        torch.set_num_threads(max(torch.get_num_threads() // world.local_size, 1)) # Processes that share cores slow each other down.

    runtime.prepare(device_type, grid=args.pop('grid', None), local_rank=world.local_rank)
    runtime.fit_to_device(args, device_type)
    args.loss_kwargs = dnnlib.EasyDict(class_name='sarigan_plugin.monitor.MonitoredLoss', loss_kwargs=args.loss_kwargs, rank=world.rank, minutes=minutes,
        num_gpus=args.num_gpus, batch_size=args.batch_size, total_kimg=args.total_kimg, kimg_per_tick=args.get('kimg_per_tick', 4))
    try:
        with dnnlib.util.Logger(file_name=os.path.join(args.run_dir, 'log.txt') if is_first else None, file_mode='a', should_flush=True):
            if device_type == 'cuda':
                cuda_ops.prepare(world)
            if world.size > 1:
                torch.distributed.init_process_group(backend='nccl' if device_type == 'cuda' else 'gloo', rank=world.rank, world_size=world.size,
                    store=world.store, timeout=world.timeout)
            training_loop.training_loop(rank=world.rank, abort_fn=_alarm(minutes, device, args.num_gpus), **args)
            if world.size > 1:
                torch.distributed.destroy_process_group()
    except UserError as error:
        return _complain(world, error)
    except requests.RequestException as error:
        url = getattr(error.request, 'url', 'a file')
        return _complain(world, f'{url} could not be downloaded: --metrics=none needs no detector networks, and --resume takes a file as well.')
    except OSError as error:
        if error.errno not in OUT_OF_SPACE:
            raise
        return _complain(world, f'--outdir: {error.strerror} while writing to {args.run_dir}; the snapshots that are there are whole. '
            'Free some space and go on from the last one with --resume.')
    except RuntimeError as error:
        if not is_lost_peer(error):
            world.speaks() # The traceback is enough.
            raise
        return _complain(world, f'Rank {world.rank} on {socket.gethostname()} has lost another process, or has not heard from it for {world.minutes()}: {GO_ON}', LOST)
    return 0

def _complain(world, sentence, code=UserError.exit_code):
    """Returns the exit code. Processes that this one leaves behind keep quiet, if they are on the same machine."""
    if world.speaks() or code != LOST:
        print(f'Error: {sentence}', file=sys.stderr)
    return code

def _alarm(minutes, device, num_gpus):
    """A function that says whether time is up, the same on every rank; None where there is no limit."""
    if minutes is None:
        return None
    end = time.monotonic() + minutes * 60
    def is_time_up():
        late = torch.tensor([time.monotonic() >= end], dtype=torch.float32, device=device)
        if num_gpus > 1:
            torch.distributed.broadcast(late, src=0)
        return bool(late)
    return is_time_up

#----------------------------------------------------------------------------
