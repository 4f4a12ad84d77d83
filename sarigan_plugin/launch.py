"""From training options to processes that train: one for each device, or this one alone."""

import errno
import json
import os
import sys
import tempfile
import time

import dnnlib
import requests
import torch

from sarigan_plugin import monitor
from sarigan_plugin import runtime
from sarigan_plugin.cli import UserError

OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#----------------------------------------------------------------------------

def launch(args, device_type, minutes=None):
    """Create args.run_dir and train there.

    args:        from config.training_options(), plus run_dir.
    device_type: 'cuda' or 'cpu'.
    minutes:     stop at the first tick after so long; None = after args.total_kimg.
    Returns the exit code: 0, or 2 where the user can mend what stopped it. Raises UserError if run_dir can't be made.
    """
    try:
        os.makedirs(args.run_dir)
        with open(os.path.join(args.run_dir, 'training_options.json'), 'wt', encoding='utf-8') as f:
            json.dump(args, f, indent=2)
    except OSError as error:
        raise UserError(f'--outdir: {args.run_dir} cannot be written to: {error.strerror}.') from None

    print(f'Training on {device_type.upper()}{"; mixed precision is off there" if device_type == "cpu" else ""} ...')
    try:
        with tempfile.TemporaryDirectory() as temp_dir:
            if args.num_gpus == 1:
                return train_process(0, args, device_type, temp_dir, minutes)
            torch.multiprocessing.spawn(_exit_with_code, args=(args, device_type, temp_dir, minutes), nprocs=args.num_gpus)
    except torch.multiprocessing.ProcessExitedException as error:
        return error.exit_code
    finally:
        monitor.restore_terminal()
    return 0

def _exit_with_code(rank, *args):
    code = train_process(rank, *args)
    if code != 0:
        sys.exit(code)

def train_process(rank, args, device_type, temp_dir, minutes):
    """Train as one of args.num_gpus processes that meet in temp_dir. Returns the exit code, as launch()."""
    from training import training_loop
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

    runtime.prepare(device_type, grid=args.pop('grid', None), trust=args.pop('trust_pickle', False))
    runtime.fit_to_device(args, device_type)
    args.loss_kwargs = dnnlib.EasyDict(class_name='sarigan_plugin.monitor.MonitoredLoss', loss_kwargs=args.loss_kwargs, rank=rank, minutes=minutes,
        num_gpus=args.num_gpus, batch_size=args.batch_size, total_kimg=args.total_kimg, kimg_per_tick=args.get('kimg_per_tick', 4))
    try:
        with dnnlib.util.Logger(file_name=os.path.join(args.run_dir, 'log.txt'), file_mode='a', should_flush=True):
            training_loop.training_loop(rank=rank, abort_fn=_alarm(minutes, device, args.num_gpus), **args)
    except UserError as error:
        return _complain(error)
    except requests.RequestException as error:
        url = getattr(error.request, 'url', 'a file')
        return _complain(f'{url} could not be downloaded: --metrics=none needs no detector networks, and --resume takes a file as well.')
    except OSError as error:
        if error.errno not in OUT_OF_SPACE:
            raise
        return _complain(f'--outdir: {error.strerror} while writing to {args.run_dir}; the snapshots that are there are whole. '
            'Free some space and go on from the last one with --resume.')
    return 0

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
