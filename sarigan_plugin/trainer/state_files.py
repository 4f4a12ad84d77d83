"""Files of training states, and the logs that belong to them.

A state is a file that torch.load(weights_only=True) reads, after a header with its checksum.
"""

import glob
import hashlib
import io
import os
import pickle
import re
import sys
from collections.abc import Sequence
from typing import Any

import torch

from sarigan_plugin.evaluation import snapshot_metrics
from sarigan_plugin.support import files

HEADER = b'sarigan training state 1\n'
DIGEST_LENGTH = 64 # Of SHA-256 in hexadecimal.
STATE_NAME = re.compile(r'training-state-([0-9]{9,})\.pt$')
LOGS = ('stats.jsonl', 'log.txt', 'metric-*.jsonl') # Lines are added as training goes.

#----------------------------------------------------------------------------

class DamagedState(ValueError):
    """The file is no training state, or not what was written."""

def write_state(path: str, state: dict[str, Any]) -> None:
    """Save a dict of tensors, numbers, strings, lists, tuples and dicts under its name when it is whole.

    Raises OSError.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    with files.atomic_open(path) as f:
        f.write(HEADER + hashlib.sha256(content).hexdigest().encode())
        f.write(content)

def read_state(path: str) -> dict[str, Any]:
    """The dict that write_state() saved, tensors on the CPU. Raises DamagedState, with what is wrong, and OSError."""
    with open(path, 'rb') as f:
        header, digest, content = f.read(len(HEADER)), f.read(DIGEST_LENGTH), f.read()
    if header != HEADER:
        raise DamagedState('it is no training state')
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise DamagedState('its checksum is wrong, so a part of it is missing or was changed')
    try:
        return torch.load(io.BytesIO(content), map_location='cpu', weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise DamagedState(f'PyTorch cannot read it ({str(error).splitlines()[0]})') from None

def state_paths(run_dir: str) -> list[str]:
    """The training states of a run, the newest first. Files that somebody gave other names are not ours."""
    paths = glob.glob(os.path.join(glob.escape(run_dir), 'training-state-*.pt'))
    return sorted((path for path in paths if STATE_NAME.search(path) is not None and os.path.isfile(path)),
        reverse=True)

def state_path(run_dir: str, nimg: int) -> str:
    return os.path.join(run_dir, f'training-state-{nimg:09d}.pt')

def images_seen(path: str) -> int:
    """How many images a training had seen when it saved this state."""
    return int(STATE_NAME.search(path).group(1)) # type: ignore[union-attr] # As state_paths() has them.

def newest_state(run_dir: str) -> tuple[str, dict[str, Any]] | None:
    """(path, state) of the newest state that is whole, or None; warns of those that are not."""
    for path in state_paths(run_dir):
        try:
            return path, read_state(path)
        except (DamagedState, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            print(f'Warning: {path} cannot be used: {reason}. The one before it will be.', file=sys.stderr)
    return None

#----------------------------------------------------------------------------
# Logs.

def log_paths(run_dir: str) -> list[str]:
    """The logs of a run."""
    return [path for pattern in LOGS for path in sorted(glob.glob(os.path.join(glob.escape(run_dir), pattern)))]

def rewind_logs(run_dir: str, state: dict[str, Any]) -> None:
    """Cut what was logged after a state was saved, so that nothing is there twice when it has happened again.

    Metrics of the state's own snapshot, which are evaluated after it is saved, stay. Of log.txt the text that is cut
    goes to log-cut.txt: it may tell why the training stopped.
    """
    sizes, position = state['shared']['log_sizes'], state['shared'].get('position', {})
    for path in log_paths(run_dir):
        name, size = os.path.basename(path), sizes.get(os.path.basename(path), 0)
        with open(path, 'rb') as f:
            f.seek(size)
            cut = f.readlines()
        if not cut:
            continue
        if name == 'log.txt':
            with open(os.path.join(run_dir, 'log-cut.txt'), 'ab') as f:
                f.writelines(cut)
        os.truncate(path, size)
        if name.startswith('metric-') and position:
            snapshot_pkl = snapshot_metrics.name_of(position['cur_nimg'])
            with open(path, 'ab') as f:
                f.writelines(line for line in cut if snapshot_metrics.is_about(line, snapshot_pkl))

def metrics_due(run_dir: str, names: Sequence[str]) -> list[str]:
    """Those metrics, of these names, that were still to be evaluated at the newest state,
    and of which nothing is known."""
    paths = state_paths(run_dir)
    if not paths:
        return []
    wanted = snapshot_metrics.missing(run_dir, snapshot_metrics.name_of(images_seen(paths[0])), names)
    if not wanted: # Reading the state would take a while.
        return []
    path, state = newest_state(run_dir) or (None, None)
    return [name for name in wanted
        if name in state['shared'].get('metrics', [])] if path == paths[0] else [] # type: ignore[index]

#----------------------------------------------------------------------------
