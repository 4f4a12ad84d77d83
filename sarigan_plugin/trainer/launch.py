"""From training options to processes that train: torchrun's, one for each device of this machine, or this one alone."""

import contextlib
import copy
import dataclasses
import datetime
import gc
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import requests
import torch

from sarigan_plugin.acceleration import cpu, cpu_formats, ops
from sarigan_plugin.datasets import bad_images
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.support import files, streams
from sarigan_plugin.support.world import World, is_lost_peer
from sarigan_plugin.trainer import (
    checkpoint,
    left_out,
    options,
    progress,
    runs,
    soundness,
    state_files,
    stopping,
    upstream_loop,
)
from sarigan_plugin.upstream import host

import dnnlib

LOST = 1 # The exit code where another process was lost.
REMEDIES = 'A lower learning rate, a higher --gamma, or --fp32=1 may help.'
GO_ON = 'what was saved is kept, and the same command goes on from there.'

#----------------------------------------------------------------------------

@dataclasses.dataclass
class FaultTolerance:
    """What a training does when something goes wrong; stored as `care` in its options."""
    keep_states:        int             = 2     # Training states that stay in the run's folder.
    checkpoint_minutes: float | None    = None  # Time between them, beside those that network snapshots bring.
    max_bad_iterations: int             = 50    # In a row with numbers that are not finite, before going back.
    max_rollbacks:      int             = 3     # How often to go back to the last state with other random numbers.
    skip_bad_images:    bool            = False # Take another image for one that goes bad?
    trust_pickle:       bool            = False # Run the code inside the pickle that training starts from?
    strict_metrics:     bool            = False # Stop where a metric fails?

def launch(args: Any, device_type: str, minutes: float | None = None, world: World | None = None) -> int:
    """Create args.run_dir and train there, or go on with the training that is there.

    args:        from arguments.training_options(), plus run_dir; the same in all processes.
    device_type: 'cuda' or 'cpu'.
    minutes:     stop at the first tick after so long; None = after args.total_kimg.
    world:       world.World; where it is alone, args.num_gpus processes are started on this machine.
    Returns the exit code: 0, 2 where the user can mend what stopped it, or 1 where a process was lost. Raises UserError
    if run_dir can't be made or a machine can't train.
    """
    world = World() if world is None else world
    if world.size > 1:
        world.check_everywhere(machine_obstacle(world, args, device_type))
    locks: list[files.FolderLock] = [] # Of the first process.
    made = _missing_folders(args.run_dir)
    state_path = world.agree(lambda: _open_run(args, locks))
    if world.rank == 0:
        hint = '; mixed precision is off there' if device_type == 'cpu' else ''
        print(f'Training on {device_type.upper()}{hint} ...')
    try:
        if args.num_gpus == world.size:
            code = train_process(world, args, device_type, minutes, state_path)
        else:
            with tempfile.TemporaryDirectory() as temp_dir:
                timeout = world.timeout / datetime.timedelta(minutes=1)
                code = _spawn(args, device_type, minutes, state_path, temp_dir, timeout)
        if code == UserError.exit_code and world.rank == 0 and args.run_dir in made:
            _remove_if_nothing_began(args.run_dir, made)
        return code
    finally:
        for lock in locks:
            lock.release()
        if world.rank == 0:
            progress.restore_terminal()

def machine_obstacle(world: World, args: Any, device_type: str) -> str | None:
    """Why this machine can't run its share of the processes, as one sentence, or None."""
    if device_type == 'cuda' and not torch.cuda.is_available():
        return '--device: PyTorch finds no CUDA device here, but it does on the first machine.'
    obstacle = ops.obstacle(args.get('ops', 'auto'), device_type)
    if obstacle is not None:
        return obstacle
    available = host.num_devices(device_type)
    option, num_processes = ('--gpus', args.num_gpus) if world.store is None else ('--nproc_per_node', world.local_size)
    if num_processes > available:
        what = 'GPUs' if device_type == 'cuda' else 'CPU cores'
        return f'{option}={num_processes} is more than the {available} {what} of this machine.'
    if not os.path.exists(args.training_set_kwargs.path):
        return f'--data: {args.training_set_kwargs.path} is not on this machine.'
    return None

def _open_run(args: Any, locks: list[files.FolderLock]) -> str | None:
    """Make the run's folder ready for args and add its lock to `locks`.

    Returns the path of the state that it goes on from, or None.
    """
    with writing('--outdir', args.run_dir):
        os.makedirs(args.run_dir, exist_ok=True)
        try:
            locks.append(files.FolderLock(args.run_dir))
        except BlockingIOError as error:
            raise UserError(f'--outdir: {args.run_dir} is being trained by {error}; '
                '--resume=noresume starts another run beside it.') from None
        files.remove_unfinished(args.run_dir)
        found = state_files.newest_state(args.run_dir)
        if found is None and state_files.state_paths(args.run_dir):
            raise UserError(f'--resume: no training state in {args.run_dir} is whole; '
                '--resume=noresume starts anew, --resume=PKL from a snapshot.')
        if found is not None:
            state_files.rewind_logs(args.run_dir, found[1])
        with files.atomic_open(os.path.join(args.run_dir, runs.OPTIONS)) as f:
            f.write(json.dumps(args, indent=2).encode())
        return found[0] if found is not None else None

def _missing_folders(path: str) -> list[str]:
    """The folders that os.makedirs(path) would make, the innermost first."""
    missing = []
    while path and not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    return missing

def _remove_if_nothing_began(run_dir: str, made: list[str]) -> None:
    """Remove the folders of a training that was refused before its first image, as where --resume can't be read."""
    if set(os.listdir(run_dir)) <= {'.lock', 'log.txt', runs.OPTIONS}:
        shutil.rmtree(run_dir)
        with contextlib.suppress(OSError): # Something else may be there by now.
            for folder in made[1:]:
                os.rmdir(folder)

#----------------------------------------------------------------------------
# Processes of our own, all on this machine.

def _spawn(args: Any, device_type: str, *rest: Any) -> int:
    """Start args.num_gpus processes and wait for them. Returns the exit code, as launch().

    Signals go to all of them, and they decide when to stop.
    """
    signals = stopping.stop_signals()
    def pass_on(number: int, _frame: FrameType | None) -> None:
        for process in context.processes:
            if process.is_alive():
                os.kill(process.pid, number)
    with stopping.held_back(signals):
        # Ignored after a StopRequest is forgotten; while the processes are born, signals wait.
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in signals}
        context = torch.multiprocessing.spawn(_spawned, args=(args, device_type, signals, *rest),
            nprocs=args.num_gpus, join=False)
        for number in signals:
            if number != signal.SIGINT: # Ctrl-C reaches them from the terminal.
                signal.signal(number, pass_on)
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
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return 0

def _spawned(rank: int, args: Any, device_type: str, signals: Sequence[int], minutes: float | None,
             state_path: str | None, temp_dir: str, timeout: float) -> None:
    world = World.on_this_machine(rank, args.num_gpus, temp_dir, timeout)
    code = train_process(world, args, device_type, minutes, state_path, signals)
    if code != 0:
        sys.exit(code)

def _first_killed(error: Any, exit_codes: Sequence[Any]) -> tuple[int, str] | None:
    """(rank, name of the signal) of the process that was killed first, or None.

    Those that lose it exit as well, and error may be about one of them. The rest join() ends, with SIGTERM.
    """
    others = [(rank, code) for rank, code in enumerate(exit_codes) if code != -signal.SIGTERM]
    candidates = [(error.error_index, error.exit_code), *others]
    return next(((rank, signal.Signals(-code).name) for rank, code in candidates if code < 0), None)

#----------------------------------------------------------------------------

@streams.unbreakable() # type: ignore[operator] # It decorates as well.
def train_process(world: World, args: Any, device_type: str, minutes: float | None, state_path: str | None,
                  signals: Sequence[int] | None = None) -> int:
    """Train as one of world.size processes, from a state if there is one. Returns the exit code, as launch().

    signals: those that ask it to stop; None = as stopping.stop_signals() says here.
    """
    args = dnnlib.EasyDict(args)
    signals = stopping.stop_signals() if signals is None else signals
    tolerance = FaultTolerance(**args.pop('care', dict()))
    chosen_ops = args.pop('ops', 'auto')
    precision = cpu_precision(args)
    device = _prepare_device(world, device_type)
    _prepare_upstream(world, args, device_type, tolerance)
    _watch_loss(world, args, minutes, tolerance)
    try:
        with _logging_to(args.run_dir, world):
            _prepare_operations(world, device_type, chosen_ops)
            with _connected(world, device_type), cpu_formats.using(*precision):
                if device_type == 'cpu' and world.rank == 0:
                    _explain_formats(args)
                _train(world, args, tolerance, state_path, signals, abort_fn=_alarm(minutes, device, args.num_gpus))
    except Exception as error:
        sentence, code = _failure(error, world, args)
        if sentence is None:
            if isinstance(error, RuntimeError):
                world.may_report() # The traceback is enough.
            raise
        return _complain(world, sentence, code) # type: ignore[arg-type] # Both are there, or neither.
    return 0

def _prepare_device(world: World, device_type: str) -> torch.device:
    """Have PyTorch and upstream's modules use this process's device. Returns it."""
    from torch_utils import custom_ops, training_stats
    device = torch.device('cuda', world.local_rank) if device_type == 'cuda' else torch.device('cpu')
    training_stats.init_multiprocessing(rank=world.rank, sync_device=device if world.size > 1 else None)
    if world.rank > 0:
        custom_ops.verbosity = 'none'
    if device_type == 'cuda':
        torch.cuda.set_device(device)
    elif world.size > 1: # Processes that share cores slow each other down.
        torch.set_num_threads(max(torch.get_num_threads() // world.local_size, 1))
    return device

def _prepare_upstream(world: World, args: Any, device_type: str, tolerance: FaultTolerance) -> None:
    """Have upstream's loop run as args say; what it has no argument for is taken out of them."""
    args.augment_p = args.pop('ada_start', args.get('augment_p', 0))
    without = left_out.names(args)
    args.pop('left_out', None)
    upstream_loop.prepare(device_type, grid=args.pop('grid', None), local_rank=world.local_rank,
        trust=tolerance.trust_pickle, skip_bad_images=tolerance.skip_bad_images,
        left_out={args.training_set_kwargs.path: without})
    upstream_loop.fit_to_device(args, device_type)

def _watch_loss(world: World, args: Any, minutes: float | None, tolerance: FaultTolerance) -> None:
    args.loss_kwargs = dnnlib.EasyDict(
        class_name          = 'sarigan_plugin.trainer.progress.MonitoredLoss',
        loss_kwargs         = args.loss_kwargs,
        batch_size          = args.batch_size,
        total_kimg          = args.total_kimg,
        kimg_per_tick       = args.get('kimg_per_tick', 4),
        num_gpus            = args.num_gpus,
        rank                = world.rank,
        minutes             = minutes,
        max_bad_iterations  = tolerance.max_bad_iterations,
    )

@contextlib.contextmanager
def _logging_to(run_dir: str, world: World) -> Iterator[None]:
    """Inside the `with`, what the first process prints goes to log.txt as well."""
    with dnnlib.util.Logger(should_flush=True) as logger:
        if world.rank == 0:
            logger.file = files.training_open(os.path.join(run_dir, 'log.txt'), 'wt')
        yield

def _prepare_operations(world: World, device_type: str, chosen_ops: str) -> None:
    if device_type == 'cpu':
        cpu.prepare()
        return
    line = ops.prepare(chosen_ops, world)
    if world.local_rank == 0: # Machines may differ.
        print(line)

@contextlib.contextmanager
def _connected(world: World, device_type: str) -> Iterator[None]:
    """Inside the `with`, the processes can exchange tensors."""
    if world.size > 1:
        torch.distributed.init_process_group(backend='nccl' if device_type == 'cuda' else 'gloo', rank=world.rank,
            world_size=world.size, store=world.store, timeout=world.timeout)
    yield # Where that raises, nobody waits for the others.
    if world.size > 1:
        # What exchanged gradients goes first: after its process group it would wait, holding the interpreter, for a
        # thread of the group that waits for the interpreter.
        gc.collect()
        torch.distributed.destroy_process_group()

def _explain_formats(args: Any) -> None:
    resolution, size = args.training_set_kwargs.resolution, args.G_kwargs.synthesis_kwargs
    print(cpu_formats.explained(resolution, options.channels_at(size, resolution)))

def _failure(error: Exception, world: World, args: Any) -> tuple[str, int] | tuple[None, None]:
    """(sentence, exit code) for what ended the training, or (None, None) where the traceback is to say it."""
    if isinstance(error, UserError):
        return str(error), UserError.exit_code
    if isinstance(error, bad_images.BadImage):
        return (f'--data: {error}; mend it, and the same command goes on, or go on without it by '
            '--skip-bad-images=1 --resume=latest.'), UserError.exit_code
    if isinstance(error, requests.RequestException):
        url = getattr(error.request, 'url', 'a file')
        return f'--resume: {url} could not be downloaded; it takes a file as well.', UserError.exit_code
    if isinstance(error, OSError) and error.errno in files.OUT_OF_SPACE:
        return (f'--outdir: {error.strerror} while writing to {args.run_dir}; the snapshots and states that are there '
            'are whole. Free some space; the same command goes on.'), UserError.exit_code
    if isinstance(error, RuntimeError) and is_lost_peer(error):
        return (f'Rank {world.rank} on {socket.gethostname()} has lost another process, or has not heard from it for '
            f'{world.minutes()}: {GO_ON}'), LOST
    return None, None

def cpu_precision(args: Any) -> tuple[str, int, int]:
    """For cpu_formats.using(), before upstream_loop.fit_to_device() takes what is meant for GPUs."""
    choice, resolutions = args.pop('cpu_bf16', 'auto'), args.D_kwargs.get('num_fp16_res', 0)
    return choice, resolutions or (cpu_formats.RESOLUTIONS if choice == '1' else 0), cpu_formats.LEAST_TRAINED

def _train(world: World, args: Any, tolerance: FaultTolerance, state_path: str | None, signals: Sequence[int],
           abort_fn: Callable[[], bool] | None) -> None:
    """Run upstream's loop to its end, again from the last state where it diverges.

    Raises UserError where that is no use.
    """
    for attempt in range(tolerance.max_rollbacks + 1):
        divergence = _attempt(attempt, world, args, tolerance, state_path, signals, abort_fn)
        if divergence is None:
            return
        state_path = next(iter(state_files.state_paths(args.run_dir)), None)
        if state_path is None:
            raise UserError(f'--max-rollbacks: {divergence}. There is no training state to go back to. {REMEDIES}')
        if attempt < tolerance.max_rollbacks and world.rank == 0:
            print(f'Diverged: {divergence}. Going back to {state_path} with other random numbers; '
                f'rollback {attempt + 1} of at most {tolerance.max_rollbacks}.')
            state_files.rewind_logs(args.run_dir, state_files.read_state(state_path))
    raise UserError(f'--max-rollbacks: {divergence}. '
        f'It was so after {tolerance.max_rollbacks} rollbacks as well. {REMEDIES}')

def _attempt(attempt: int, world: World, args: Any, tolerance: FaultTolerance, state_path: str | None,
             signals: Sequence[int], abort_fn: Callable[[], bool] | None) -> str | None:
    """Run upstream's loop once. Returns None when it is over, or how it diverged."""
    from training import training_loop
    args = copy.deepcopy(args)
    if state_path is not None:
        upstream_loop.skip_samples(state_files.images_seen(state_path) // args.num_gpus)
        args.resume_pkl = None # All that came from there is in the state.
        if world.rank == 0:
            print(f'Going on from {state_path}')
    checkpoint.keeper.begin(args.run_dir, world.rank, args.num_gpus, keep=tolerance.keep_states,
        minutes=tolerance.checkpoint_minutes, state=state_path, seed=attempt or None, metrics=args.pop('metrics', []),
        strict_metrics=tolerance.strict_metrics, signals=signals, timeout=world.timeout,
        attributes=args.loss_kwargs.loss_kwargs.get('attributes_of_groups', []))
    try:
        training_loop.training_loop(rank=world.rank, abort_fn=abort_fn, **args)
    except checkpoint.Over:
        pass
    except stopping.Stopped as stop:
        if world.rank == 0:
            print(f'Stopped by {stop}; the same command goes on from there.')
    except soundness.Diverged as error:
        return str(error)
    finally:
        checkpoint.keeper.end()
    return None

def _complain(world: World, sentence: str, code: int = UserError.exit_code) -> int:
    """Returns the exit code. Processes that this one leaves behind keep quiet, if they are on the same machine."""
    is_first, is_new = world.may_report(), world.may_report(sentence)
    if is_new and (is_first or code != LOST):
        print(f'Error: {sentence}', file=sys.stderr)
    return code

def _alarm(minutes: float | None, device: torch.device, num_gpus: int) -> Callable[[], bool] | None:
    """A function that says whether time is up, the same on every rank; None where there is no limit."""
    if minutes is None:
        return None
    end = time.monotonic() + minutes * 60
    def is_time_up() -> bool:
        late = torch.tensor([time.monotonic() >= end], dtype=torch.float32, device=device)
        if num_gpus > 1:
            torch.distributed.broadcast(late, src=0)
        return bool(late)
    return is_time_up

#----------------------------------------------------------------------------
