"""One training of an ablation and its evaluation, in a process of its own: python -m sarigan_plugin.ablation.job < job.

Many of them run side by side, each with its own GPUs and threads. `start` is for the one that starts them.
"""

import ctypes
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import torch

from sarigan_plugin.ablation import table_spec
from sarigan_plugin.errors import UserError
from sarigan_plugin.evaluation import quality
from sarigan_plugin.snapshots import label_kind, reading
from sarigan_plugin.steering.sampling import render, sample_ws
from sarigan_plugin.support import pictures, streams
from sarigan_plugin.trainer import launch, runs, transfer

import dnnlib

OUTPUT = 'output.txt'   # In the training's folder: what it says.
MIN_SIDE, MAX_SIDE = 64, 128 # Pixels of an image among the samples: smaller ones are repeated, larger ones averaged.
STOPPED = 3             # Exit code where a training was asked to stop, and has saved its state.
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1    # Linux: the signal that a process gets when its parent is gone, however that ended.

#----------------------------------------------------------------------------
# In the process that starts jobs.

def start(training, evaluation, device_type, environment, lock):
    """Start to train, if that is not done, and then to measure. Returns the process, whose output goes to OUTPUT.

    environment: what differs from this process's. lock: an open file that others look at, which is locked until the
    process, and all that it starts, have ended. A signal at the terminal does not reach it; where this process is
    killed, it gets SIGTERM.
    """
    with open(os.path.join(training.run_dir, OUTPUT), 'ab') as output:
        process = subprocess.Popen([sys.executable, '-m', 'sarigan_plugin.ablation.job'], stdin=subprocess.PIPE,
            stdout=output, stderr=subprocess.STDOUT,
            env={**os.environ, **environment}, start_new_session=True, pass_fds=[lock.fileno()],
            preexec_fn=_end_with_parent)
    with process.stdin:
        pickle.dump((training, evaluation, device_type), process.stdin)
    return process

def _end_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

def last_words(training):
    """The last sentence of what a job said: the error, if it came to that."""
    try:
        with open(os.path.join(training.run_dir, OUTPUT), encoding='utf-8', errors='replace') as f:
            lines = [line.strip() for line in f.read().splitlines() if line.strip()]
    except OSError:
        return ''
    errors = [line.removeprefix('Error: ') for line in lines[-20:] if line.startswith('Error: ')]
    return (errors or lines or [''])[-1]

#----------------------------------------------------------------------------
# In the job.

def run(training, evaluation, device_type):
    """Train until the snapshot is there, then measure what has not been measured.

    Returns the exit code. Raises UserError.
    """
    if not training.is_trained:
        if 'resume_pkl' in training.args and runs.position(training.run_dir) is None:
            print(transfer.examine(training.args) or f'Starting from {training.args.resume_pkl}', flush=True)
        code = launch.launch(training.args, device_type)
        if code != 0:
            return code
        if not training.is_trained:
            return STOPPED
    wanted = table_spec.missing(training, evaluation)
    if wanted:
        print(f'Measuring {training.snapshot}', flush=True)
        figures = quality.measure(training.snapshot, evaluation.data, wanted, num_samples=evaluation.num_samples,
            detector=evaluation.detector,
            device=torch.device(device_type))
        table_spec.add_results(training, evaluation, wanted, figures)
    if training.samples is not None and not os.path.exists(training.samples):
        _draw_samples(training, torch.device(device_type))
    return 0

@torch.no_grad()
def _draw_samples(training, device):
    """Images of seeds 0 to 63, which nobody has chosen, row by row; see class_indices()."""
    G = reading.load(training.snapshot, training.name, device)
    chosen = class_indices(G, training.args.training_set_kwargs, 64)
    images = [render(G, sample_ws(G, [seed], 1, class_idx)) for seed, class_idx in enumerate(chosen)]
    images = pictures.enlarge(pictures.shrink(np.stack(images), MAX_SIDE), MIN_SIDE)
    pictures.save(pictures.sheet(images, columns=8), training.samples)

def class_indices(G, training_set_kwargs, count):
    """The classes of a conditional network by turns, or the first labels of its training set where they are vectors."""
    if label_kind.of(G) != 'vectors':
        return [index % max(G.c_dim, 1) for index in range(count)]
    training_set = dnnlib.util.construct_class_by_name(**training_set_kwargs)
    return [training_set.get_label(index % len(training_set)) for index in range(count)]

@streams.unbreakable()
def main():
    try:
        sys.exit(run(*pickle.load(sys.stdin.buffer)))
    except UserError as error:
        error.show()
        sys.exit(error.exit_code)

if __name__ == '__main__':
    main()

#----------------------------------------------------------------------------
