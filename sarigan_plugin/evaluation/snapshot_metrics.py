"""Metrics of a training's snapshots. They come after the training state: one that fails, or never ends, loses nothing.

A metric that fails is a warning and a null in its file. Where many processes train, all of them work on each metric,
and if one fails alone the others would wait for it: so they ask each other whether all is well before upstream's
metrics exchange anything.
"""

import contextlib
import copy
import json
import os
import time

import requests
import torch

from sarigan_plugin.errors import UserError, first_line
from sarigan_plugin.support import files
from sarigan_plugin.support.world import is_lost_peer

import dnnlib

COLLECTIVES = ('broadcast', 'barrier') # Of torch.distributed: those that upstream's metrics call.

#----------------------------------------------------------------------------
# Files.

def name_of(nimg):
    """The snapshot that upstream's loop saves after so many images."""
    return f'network-snapshot-{nimg // 1000:06d}.pkl'

def is_about(line, snapshot_pkl):
    """Whether a line of a metric's file, bytes, is whole and tells of this snapshot."""
    try:
        return line.endswith(b'\n') and json.loads(line).get('snapshot_pkl') == snapshot_pkl
    except (ValueError, AttributeError):
        return False

def missing(run_dir, snapshot_pkl, names):
    """The metrics, of these names, whose files tell nothing of the snapshot."""
    found = []
    for name in names:
        path = _path(run_dir, name)
        if os.path.exists(path):
            with open(path, 'rb') as f:
                if any(is_about(line, snapshot_pkl) for line in f):
                    continue
        found.append(name)
    return found

def _path(run_dir, name):
    return os.path.join(run_dir, f'metric-{name}.jsonl')

def _report(run_dir, name, snapshot_pkl, results, seconds, num_gpus, **why):
    """Print and log a line as upstream's metric_main.report_metric() does. why: `error`, where the results are null."""
    line = json.dumps(dict(results=results, metric=name, total_time=seconds,
        total_time_str=dnnlib.util.format_time(seconds),
        num_gpus=num_gpus, snapshot_pkl=snapshot_pkl, timestamp=time.time(), **why))
    print(line)
    with contextlib.closing(files.training_open(_path(run_dir, name), 'wt')) as f:
        f.write(line + '\n')

#----------------------------------------------------------------------------
# Failing together.

class FailedElsewhere(Exception):
    """The metric that this process works on has failed in another one."""

_check = None # Called before each exchange; returns whether any process has failed.

@contextlib.contextmanager
def _checked_by(check):
    global _check # Upstream's metrics hand nothing through.
    _check = check
    try:
        yield
    finally:
        _check = None

def watched(exchange):
    """A function of torch.distributed that raises FailedElsewhere where another process won't come to take part."""
    def wrapper(*args, **kwargs):
        if _check is not None and _check():
            raise FailedElsewhere()
        return exchange(*args, **kwargs)
    return wrapper

#----------------------------------------------------------------------------

def evaluate(names, snapshot_pkl, loop, peers, strict=False):
    """Evaluate metrics of the snapshot that upstream's loop has just saved, on all processes.

    names:        of the metrics.
    snapshot_pkl: its name.
    loop:         the local variables of upstream's loop.
    peers:        the processes: failed_anywhere(failed), values_of_all(value), which all processes call alike.
    strict:       raise UserError where a metric fails, and leave its file alone?
    """
    is_first = loop['rank'] == 0
    if names and is_first:
        print('Evaluating metrics...', flush=True)
    for name in names:
        start_time = time.time()
        results, reason = _calculate(name, loop, peers)
        seconds = time.time() - start_time
        if results is None:
            if loop['device'].type == 'cuda':
                torch.cuda.empty_cache() # It may have failed for want of memory.
            reason = next(reason for reason in peers.values_of_all(reason) if reason is not None)
            sentence = f'{name} of {snapshot_pkl} failed: {reason}'
            if strict:
                raise UserError(f'--strict-metrics: {sentence}. The training state is saved; '
                    'the same command goes on with this metric.')
            if is_first:
                print(f'Warning: {sentence}. Training goes on; --strict-metrics would stop it.', flush=True)
                _report(loop['run_dir'], name, snapshot_pkl, {name: None}, seconds, loop['num_gpus'], error=reason)
        elif is_first:
            _report(loop['run_dir'], name, snapshot_pkl, results, seconds, loop['num_gpus'])
            _draw(loop, results)

def _calculate(name, loop, peers):
    """({value: number}, None), or (None, why it failed, if it was in this process)."""
    from metrics import metric_main, metric_utils  # Here, as upstream's tree may come to sys.path late.
    progress = metric_utils.ProgressMonitor(progress_fn=lambda _done, _all: peers.stop_if_alone())
    try:
        G = copy.deepcopy(loop['G_ema']).eval().requires_grad_(False).cpu() # As in the snapshot.
        with _checked_by(peers.failed_anywhere):
            found = metric_main.calc_metric(metric=name, G=G, dataset_kwargs=loop['training_set_kwargs'],
                num_gpus=loop['num_gpus'], rank=loop['rank'], device=loop['device'], progress=progress)
        return (None, None) if peers.failed_anywhere() else (dict(found.results), None)
    except FailedElsewhere:
        return None, None
    except Exception as error: # Whatever it is, the training is whole.
        if is_lost_peer(error):
            raise
        peers.failed_anywhere(True)
        return None, _reason(error)

def _reason(error):
    if isinstance(error, requests.RequestException) and getattr(error.request, 'url', None):
        return f'{error.request.url} could not be downloaded; fd10k_lite0 needs no download'
    sentence = first_line(error).rstrip('.')
    return sentence if isinstance(error, (UserError, ValueError)) else f'{type(error).__name__}: {sentence}'

def _draw(loop, results):
    """For TensorBoard, where they belong to the snapshot's kimg alone."""
    writer = loop['stats_tfevents']
    if writer is not None:
        walltime = time.time() - loop['start_time']
        for name, value in results.items():
            writer.add_scalar(f'Metrics/{name}', value, global_step=loop['cur_nimg'] // 1000, walltime=walltime)
        writer.flush()

#----------------------------------------------------------------------------
