"""From training options to processes that train: torchrun's, one for each device of this machine, or this one alone."""

import contextlib
import copy
import dataclasses
import datetime
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time

import dnnlib
import requests
import torch

from sarigan_plugin.acceleration import cpu
from sarigan_plugin.acceleration import cpu_formats
from sarigan_plugin.acceleration import ops
from sarigan_plugin.datasets import bad_images
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.support import files
from sarigan_plugin.support import streams
from sarigan_plugin.support.world import World, is_lost_peer
from sarigan_plugin.trainer import checkpoint
from sarigan_plugin.trainer import options
from sarigan_plugin.trainer import progress
from sarigan_plugin.trainer import runs
from sarigan_plugin.trainer import soundness
from sarigan_plugin.trainer import upstream_loop
from sarigan_plugin.upstream import host

LOST = 1 # The exit code where another process was lost.
REMEDIES = 'A lower learning rate, a higher --gamma, or --fp32=1 may help.'
GO_ON = 'what was saved is kept, and the same command goes on from there.'

#----------------------------------------------------------------------------

@dataclasses.dataclass
class Care:
    """What a training does against what may befall it; kept as `care` in its options."""
    keep_states:        int             = 2     # Training states that stay in the run's folder.
    checkpoint_minutes: float | None    = None  # Time between them, beside those that network snapshots bring.
    max_bad_iterations: int             = 50    # Iterations in a row with numbers that are not finite before going back.
    max_rollbacks:      int             = 3     # How often to go back to the last state with other random numbers.
    skip_bad_images:    bool            = False # Take another image for one that goes bad?
    trust_pickle:       bool            = False # Run the code inside the pickle that training starts from?
    strict_metrics:     bool            = False # Stop where a metric fails?

def launch(args, device_type, minutes=None, world=None):
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
    locks = [] # Of the first process.
    made = _missing_folders(args.run_dir)
    state_path = world.agree(lambda: _open_run(args, locks))
    if world.rank == 0:
        print(f'Training on {device_type.upper()}{"; mixed precision is off there" if device_type == "cpu" else ""} ...')
    try:
        if args.num_gpus == world.size:
            code = train_process(world, args, device_type, minutes, state_path)
        else:
            with tempfile.TemporaryDirectory() as temp_dir:
                code = _spawn(args, device_type, minutes, state_path, temp_dir, world.timeout / datetime.timedelta(minutes=1))
        if code == UserError.exit_code and world.rank == 0 and args.run_dir in made:
            _remove_if_nothing_began(args.run_dir, made)
        return code
    finally:
        for lock in locks:
            lock.release()
        if world.rank == 0:
            progress.restore_terminal()

def machine_obstacle(world, args, device_type):
    """Why this machine can't run its share of the processes, as one sentence, or None."""
    if device_type == 'cuda' and not torch.cuda.is_available():
        return '--device: PyTorch finds no CUDA device here, but it does on the first machine.'
    obstacle = ops.obstacle(args.get('ops', 'auto'), device_type)
    if obstacle is not None:
        return obstacle
    available = host.num_devices(device_type)
    option, num_processes = ('--gpus', args.num_gpus) if world.store is None else ('--nproc_per_node', world.local_size)
    if num_processes > available:
        return f'{option}={num_processes} is more than the {available} {"GPUs" if device_type == "cuda" else "CPU cores"} of this machine.'
    if not os.path.exists(args.training_set_kwargs.path):
        return f'--data: {args.training_set_kwargs.path} is not on this machine.'
    return None

def _open_run(args, locks):
    """Make the run's folder ready for args and add its lock to `locks`. Returns the path of the state that it goes on from, or None."""
    with writing('--outdir', args.run_dir):
        os.makedirs(args.run_dir, exist_ok=True)
        try:
            locks.append(files.FolderLock(args.run_dir))
        except BlockingIOError as error:
            raise UserError(f'--outdir: {args.run_dir} is being trained by {error}; --resume=noresume starts another run beside it.') from None
        files.remove_unfinished(args.run_dir)
        found = checkpoint.newest_state(args.run_dir)
        if found is None and checkpoint.state_paths(args.run_dir):
            raise UserError(f'--resume: no training state in {args.run_dir} is whole; --resume=noresume starts anew, --resume=PKL from a snapshot.')
        if found is not None:
            checkpoint.rewind_logs(args.run_dir, found[1])
        with files.atomic_open(os.path.join(args.run_dir, runs.OPTIONS)) as f:
            f.write(json.dumps(args, indent=2).encode())
        return found[0] if found is not None else None

def _missing_folders(path):
    """The folders that os.makedirs(path) would make, the innermost first."""
    missing = []
    while path and not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    return missing

def _remove_if_nothing_began(run_dir, made):
    """Remove the folders of a training that was refused before its first image, as where --resume can't be read."""
    if set(os.listdir(run_dir)) <= {'.lock', 'log.txt', runs.OPTIONS}:
        shutil.rmtree(run_dir)
        with contextlib.suppress(OSError): # Something else may be there by now.
            for folder in made[1:]:
                os.rmdir(folder)

#----------------------------------------------------------------------------
# Processes of our own, all on this machine.

def _spawn(args, device_type, *rest):
    """Start args.num_gpus processes and wait for them. Returns the exit code, as launch(). Signals go to all of them, and they decide when to stop."""
    signals = checkpoint.stop_signals()
    # Ignored while the processes are born; each sets its own.
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in signals}
    context = torch.multiprocessing.spawn(_spawned, args=(args, device_type, signals, *rest), nprocs=args.num_gpus, join=False)
    def pass_on(number, _frame):
        for process in context.processes:
            if process.is_alive():
                os.kill(process.pid, number)
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

def _spawned(rank, args, device_type, signals, minutes, state_path, temp_dir, timeout):
    world = World.on_this_machine(rank, args.num_gpus, temp_dir, timeout)
    code = train_process(world, args, device_type, minutes, state_path, signals)
    if code != 0:
        sys.exit(code)

def _first_killed(error, exit_codes):
    """(rank, name of the signal) of the process that was killed first, or None.

    Those that lose it exit as well, and error may be about one of them. The rest join() ends, with SIGTERM.
    """
    candidates = [(error.error_index, error.exit_code)] + [(rank, code) for rank, code in enumerate(exit_codes) if code != -signal.SIGTERM]
    return next(((rank, signal.Signals(-code).name) for rank, code in candidates if code < 0), None)

#----------------------------------------------------------------------------

@streams.unbreakable()
def train_process(world, args, device_type, minutes, state_path, signals=None):
    """Train as one of world.size processes, from a state if there is one. Returns the exit code, as launch().

    signals: those that ask it to stop; None = as checkpoint.stop_signals() says here.
    """
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

    signals = checkpoint.stop_signals() if signals is None else signals
    care = Care(**args.pop('care', dict()))
    args.augment_p = args.pop('ada_start', args.get('augment_p', 0))
    chosen_ops = args.pop('ops', 'auto')
    left_out = args.pop('left_out', dict(images=[]))['images']
    precision = cpu_precision(args)
    upstream_loop.prepare(device_type, grid=args.pop('grid', None), local_rank=world.local_rank, trust=care.trust_pickle, skip_bad_images=care.skip_bad_images,
        left_out={args.training_set_kwargs.path: left_out})
    upstream_loop.fit_to_device(args, device_type)
    args.loss_kwargs = dnnlib.EasyDict(class_name='sarigan_plugin.trainer.progress.MonitoredLoss', loss_kwargs=args.loss_kwargs, rank=world.rank, minutes=minutes,
        num_gpus=args.num_gpus, max_bad_iterations=care.max_bad_iterations, batch_size=args.batch_size, total_kimg=args.total_kimg, kimg_per_tick=args.get('kimg_per_tick', 4))
    try:
        with dnnlib.util.Logger(should_flush=True) as logger:
            if is_first:
                logger.file = files.training_open(os.path.join(args.run_dir, 'log.txt'), 'wt')
            if device_type == 'cuda':
                line = ops.prepare(chosen_ops, world)
                if world.local_rank == 0: # Machines may differ.
                    print(line)
            else:
                cpu.prepare()
            if world.size > 1:
                torch.distributed.init_process_group(backend='nccl' if device_type == 'cuda' else 'gloo', rank=world.rank, world_size=world.size,
                    store=world.store, timeout=world.timeout)
            with cpu_formats.using(*precision):
                if device_type == 'cpu' and world.rank == 0:
                    resolution, size = args.training_set_kwargs.resolution, args.G_kwargs.synthesis_kwargs
                    print(cpu_formats.explained(resolution, options.channels_at(size, resolution)))
                _train(world, args, care, state_path, signals, abort_fn=_alarm(minutes, device, args.num_gpus))
            if world.size > 1:
                torch.distributed.destroy_process_group()
    except UserError as error:
        return _complain(world, str(error))
    except bad_images.BadImage as error:
        return _complain(world, f'--data: {error}; mend it, and the same command goes on, or go on without it by --skip-bad-images=1 --resume=latest.')
    except requests.RequestException as error:
        url = getattr(error.request, 'url', 'a file')
        return _complain(world, f'--resume: {url} could not be downloaded; it takes a file as well.')
    except OSError as error:
        if error.errno not in files.OUT_OF_SPACE:
            raise
        return _complain(world, f'--outdir: {error.strerror} while writing to {args.run_dir}; the snapshots and states that are there are whole. '
            'Free some space; the same command goes on.')
    except RuntimeError as error:
        if not is_lost_peer(error):
            world.speaks() # The traceback is enough.
            raise
        return _complain(world, f'Rank {world.rank} on {socket.gethostname()} has lost another process, or has not heard from it for {world.minutes()}: {GO_ON}', LOST)
    return 0

def cpu_precision(args):
    """For cpu_formats.using(), before upstream_loop.fit_to_device() takes what is meant for GPUs."""
    choice, resolutions = args.pop('cpu_bf16', 'auto'), args.D_kwargs.get('num_fp16_res', 0)
    return choice, resolutions or (cpu_formats.RESOLUTIONS if choice == '1' else 0)

def _train(world, args, care, state_path, signals, abort_fn):
    """Run upstream's loop to its end, again from the last state where it diverges. Raises UserError where that is no use."""
    for attempt in range(care.max_rollbacks + 1):
        story = _attempt(attempt, world, args, care, state_path, signals, abort_fn)
        if story is None:
            return
        state_path = next(iter(checkpoint.state_paths(args.run_dir)), None)
        if state_path is None:
            raise UserError(f'--max-rollbacks: {story}. There is no training state to go back to. {REMEDIES}')
        if attempt < care.max_rollbacks and world.rank == 0:
            print(f'Diverged: {story}. Going back to {state_path} with other random numbers; rollback {attempt + 1} of at most {care.max_rollbacks}.')
            checkpoint.rewind_logs(args.run_dir, checkpoint.read_state(state_path))
    raise UserError(f'--max-rollbacks: {story}. It was so after {care.max_rollbacks} rollbacks as well. {REMEDIES}')

def _attempt(attempt, world, args, care, state_path, signals, abort_fn):
    """Run upstream's loop once. Returns None when it is over, or how it diverged."""
    from training import training_loop
    args = copy.deepcopy(args)
    if state_path is not None:
        upstream_loop.skip_samples(checkpoint.images_seen(state_path) // args.num_gpus)
        args.resume_pkl = None # All that came from there is in the state.
        if world.rank == 0:
            print(f'Going on from {state_path}')
    checkpoint.keeper.begin(args.run_dir, world.rank, args.num_gpus, keep=care.keep_states, minutes=care.checkpoint_minutes,
        state=state_path, seed=attempt or None, metrics=args.pop('metrics', []), strict_metrics=care.strict_metrics,
        signals=signals, timeout=world.timeout)
    try:
        training_loop.training_loop(rank=world.rank, abort_fn=abort_fn, **args)
    except checkpoint.Over:
        pass
    except checkpoint.Stopped as stop:
        if world.rank == 0:
            print(f'Stopped by {stop}; the same command goes on from there.')
    except soundness.Diverged as error:
        return str(error)
    finally:
        checkpoint.keeper.end()
    return None

def _complain(world, sentence, code=UserError.exit_code):
    """Returns the exit code. Processes that this one leaves behind keep quiet, if they are on the same machine."""
    is_first, is_new = world.speaks(), world.speaks(sentence)
    if is_new and (is_first or code != LOST):
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
