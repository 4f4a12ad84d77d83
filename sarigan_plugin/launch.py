"""From training options to processes that train: one for each device, or this one alone."""

import copy
import dataclasses
import json
import os
import signal
import sys
import tempfile
import time

import dnnlib
import requests
import torch

from sarigan_plugin import checkpoint
from sarigan_plugin import files
from sarigan_plugin import monitor
from sarigan_plugin import runs
from sarigan_plugin import runtime
from sarigan_plugin import soundness
from sarigan_plugin.cli import UserError

#----------------------------------------------------------------------------

@dataclasses.dataclass
class Care:
    """What a training does against what may befall it; kept as `care` in its options."""
    keep_states:        int             = 2     # Training states that stay in the run's folder.
    checkpoint_minutes: float | None    = None  # Time between them, beside those that network snapshots bring.
    max_bad_iterations: int             = 50    # Iterations in a row with numbers that are not finite before going back.
    max_rollbacks:      int             = 3     # How often to go back to the last state with other random numbers.
    skip_bad_images:    bool            = False # Take another image for one that can't be read?
    trust_pickle:       bool            = False # Run the code inside the pickle that training starts from?

def launch(args, device_type, minutes=None):
    """Create args.run_dir and train there, or go on with the training that is there.

    args:        from config.training_options(), plus run_dir.
    device_type: 'cuda' or 'cpu'.
    minutes:     stop at the first tick after so long; None = after args.total_kimg.
    Returns the exit code: 0, or 2 where the user can mend what stopped it. Raises UserError if run_dir can't be made.
    """
    try:
        os.makedirs(args.run_dir, exist_ok=True)
        lock = files.FolderLock(args.run_dir)
        state_path = _open_run(args)
    except BlockingIOError as error:
        raise UserError(f'--outdir: {args.run_dir} is being trained by {error}; --resume=noresume starts another run beside it.') from None
    except OSError as error:
        raise UserError(f'--outdir: {args.run_dir} cannot be written to: {error.strerror}.') from None

    print(f'Training on {device_type.upper()}{"; mixed precision is off there" if device_type == "cpu" else ""} ...')
    try:
        with tempfile.TemporaryDirectory() as temp_dir:
            if args.num_gpus == 1:
                return train_process(0, args, device_type, temp_dir, minutes, state_path)
            _spawn(args, device_type, temp_dir, minutes, state_path)
    except torch.multiprocessing.ProcessExitedException as error:
        return error.exit_code
    finally:
        monitor.restore_terminal()
        lock.release()
    return 0

def _open_run(args):
    """Make the run's folder ready for args. Returns the path of the state that it goes on from, or None."""
    files.remove_unfinished(args.run_dir)
    found = checkpoint.newest_state(args.run_dir)
    if found is None and checkpoint.state_paths(args.run_dir):
        raise UserError(f'--resume: no training state in {args.run_dir} is whole; --resume=noresume starts anew, --resume=PKL from a snapshot.')
    if found is not None:
        checkpoint.rewind_logs(args.run_dir, found[1])
    with files.atomic_open(os.path.join(args.run_dir, runs.OPTIONS)) as f:
        f.write(json.dumps(args, indent=2).encode())
    return found[0] if found is not None else None

def _spawn(args, device_type, *rest):
    """Train with a process for each GPU; signals go to them all, and they decide when to stop."""
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in [signal.SIGINT, signal.SIGTERM]} # As the processes are born; each sets its own.
    context = torch.multiprocessing.spawn(_exit_with_code, args=(args, device_type, *rest), nprocs=args.num_gpus, join=False)
    def pass_on(number, _frame):
        for process in context.processes:
            if process.is_alive():
                os.kill(process.pid, number)
    signal.signal(signal.SIGTERM, pass_on) # Ctrl-C reaches them from the terminal.
    try:
        while not context.join():
            pass
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)

def _exit_with_code(rank, *args):
    code = train_process(rank, *args)
    if code != 0:
        sys.exit(code)

def train_process(rank, args, device_type, temp_dir, minutes, state_path):
    """Train as one of args.num_gpus processes that meet in temp_dir. Returns the exit code, as launch()."""
    from torch_utils import custom_ops
    from torch_utils import training_stats

    args = dnnlib.EasyDict(args)
    if args.num_gpus > 1:
        torch.distributed.init_process_group(backend='nccl' if device_type == 'cuda' else 'gloo', rank=rank, world_size=args.num_gpus,
            init_method=f'file://{os.path.abspath(temp_dir)}/rendezvous')
    device = torch.device('cuda', rank) if device_type == 'cuda' else torch.device('cpu')
    training_stats.init_multiprocessing(rank=rank, sync_device=device if args.num_gpus > 1 else None)
    if rank != 0:
        custom_ops.verbosity = 'none'
    if device_type == 'cpu' and args.num_gpus > 1:
        torch.set_num_threads(max(torch.get_num_threads() // args.num_gpus, 1)) # Processes that share cores slow each other down.

    care = Care(**args.pop('care', dict()))
    runtime.prepare(device_type, grid=args.pop('grid', None), trust=care.trust_pickle, skip_bad_images=care.skip_bad_images)
    runtime.fit_to_device(args, device_type)
    args.loss_kwargs = dnnlib.EasyDict(class_name='sarigan_plugin.monitor.MonitoredLoss', loss_kwargs=args.loss_kwargs, rank=rank, minutes=minutes,
        num_gpus=args.num_gpus, max_bad_iterations=care.max_bad_iterations, batch_size=args.batch_size, total_kimg=args.total_kimg, kimg_per_tick=args.get('kimg_per_tick', 4))
    abort_fn = _alarm(minutes, device, args.num_gpus)
    try:
        with dnnlib.util.Logger(should_flush=True) as logger:
            if rank == 0:
                logger.file = files.training_open(os.path.join(args.run_dir, 'log.txt'), 'wt')
            for attempt in range(care.max_rollbacks + 1):
                diverged = _attempt(attempt, rank, args, care, state_path, abort_fn)
                if diverged is None:
                    return 0
                state_path = _go_back(diverged, attempt, rank, args, care)
    except UserError as error:
        return _complain(error)
    except runtime.BadImage as error:
        return _complain(f'--data: {error}; mend it, or leave it out with --skip-bad-images. The same command goes on.')
    except requests.RequestException as error:
        url = getattr(error.request, 'url', 'a file')
        return _complain(f'{url} could not be downloaded: --metrics=none needs no detector networks, and --resume takes a file as well.')
    except OSError as error:
        if error.errno not in files.OUT_OF_SPACE:
            raise
        return _complain(f'--outdir: {error.strerror} while writing to {args.run_dir}; the snapshots and states that are there are whole. '
            'Free some space; the same command goes on.')

def _attempt(attempt, rank, args, care, state_path, abort_fn):
    """Run upstream's loop, from the state if there is one. Returns None when it is over, or the Diverged that ended it."""
    from training import training_loop
    args = copy.deepcopy(args)
    if state_path is not None:
        first_image = checkpoint.images_seen(state_path)
        runtime.skip_samples(first_image // args.num_gpus)
        checkpoint.go_on_with_tensorboard(first_image)
        args.resume_pkl = None # All that came from there is in the state.
        if rank == 0:
            print(f'Going on from {state_path}')
    checkpoint.keeper.begin(args.run_dir, rank, args.num_gpus, keep=care.keep_states, minutes=care.checkpoint_minutes, state=state_path, seed=attempt or None)
    try:
        training_loop.training_loop(rank=rank, abort_fn=abort_fn, **args)
    except checkpoint.Stopped as stop:
        if rank == 0:
            print(f'Stopped by {stop}; the same command goes on from there.')
    except soundness.Diverged as error:
        return str(error)
    finally:
        checkpoint.keeper.end()
    return None

def _go_back(story, attempt, rank, args, care):
    """After a Diverged with this story: the state to go on from. Raises UserError where there is none or it has been enough."""
    state_path = next(iter(checkpoint.state_paths(args.run_dir)), None)
    if attempt == care.max_rollbacks or state_path is None:
        raise UserError(f'--max-rollbacks: {story}. ' + ('There is no training state to go back to. ' if state_path is None else f'It was so after {attempt} rollbacks as well. ')
            + 'A lower learning rate, a higher --gamma, or --fp32=1 may help.')
    if rank == 0:
        print(f'Diverged: {story}. Going back to {state_path} with other random numbers; rollback {attempt + 1} of at most {care.max_rollbacks}.')
        checkpoint.rewind_logs(args.run_dir, checkpoint.read_state(state_path))
    return state_path

def _complain(sentence):
    print(f'Error: {sentence}', file=sys.stderr)
    return UserError.exit_code

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
