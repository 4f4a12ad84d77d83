"""Training states: all that a training is, saved beside its snapshots, so that it goes on as if it had never stopped.

A state is a file that torch.load(weights_only=True) reads, after a header with its checksum. patches/training.patch hands
the local variables of upstream's loop to `keeper`, once before the first iteration, after each iteration and each tick.
"""

import functools
import glob
import hashlib
import io
import os
import pickle
import random
import re
import signal
import sys
import time

import numpy as np
import torch
from torch_utils import training_stats

from sarigan_plugin.evaluation import snapshot_metrics
from sarigan_plugin.snapshots.exported import NETWORKS
from sarigan_plugin.support import files

HEADER = b'sarigan training state 1\n'
DIGEST_LENGTH = 64 # Of SHA-256 in hexadecimal.
OF_EACH_PROCESS = re.compile(r'(.*\.)?w_avg') # Buffers that differ between processes: each averages its own codes.
STATE_NAME = re.compile(r'training-state-([0-9]{9,})\.pt$')
POSITION = ('cur_nimg', 'cur_tick', 'tick_start_nimg', 'batch_idx') # Of upstream's loop.
LOGS = ('stats.jsonl', 'log.txt', 'metric-*.jsonl') # Lines are added as training goes.

#----------------------------------------------------------------------------
# Files.

class DamagedState(ValueError):
    """The file is no training state, or not what was written."""

def write_state(path, state):
    """Save a dict of tensors, numbers, strings, lists, tuples and dicts under its name when it is whole. Raises OSError."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    with files.atomic_open(path) as f:
        f.write(HEADER + hashlib.sha256(content).hexdigest().encode())
        f.write(content)

def read_state(path):
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

def state_paths(run_dir):
    """The training states of a run, the newest first. Files that somebody gave other names are not ours."""
    paths = glob.glob(os.path.join(glob.escape(run_dir), 'training-state-*.pt'))
    return sorted((path for path in paths if STATE_NAME.search(path) is not None and os.path.isfile(path)), reverse=True)

def state_path(run_dir, nimg):
    return os.path.join(run_dir, f'training-state-{nimg:09d}.pt')

def images_seen(path):
    """How many images a training had seen when it saved this state."""
    return int(STATE_NAME.search(path).group(1))

def newest_state(run_dir):
    """(path, state) of the newest state that is whole, or None; warns of those that are not."""
    for path in state_paths(run_dir):
        try:
            return path, read_state(path)
        except (DamagedState, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            print(f'Warning: {path} cannot be used: {reason}. The one before it will be.', file=sys.stderr)
    return None

#----------------------------------------------------------------------------
# Random numbers and statistics.

def random_state(device):
    """The state of every random number generator of this process, of plain numbers and tensors."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return dict(
        python  = random.getstate(),
        numpy   = (kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        torch   = torch.get_rng_state(),
        cuda    = torch.cuda.get_rng_state(device) if device.type == 'cuda' else None,
    )

def set_random_state(state, device):
    random.setstate(state['python'])
    kind, keys, *rest = state['numpy']
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state['torch'])
    if device.type == 'cuda' and state['cuda'] is not None:
        torch.cuda.set_rng_state(state['cuda'], device)

def seed_everything(*entropy):
    """Seed all generators with numbers that depend on all of `entropy`, non-negative integers."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)

def _cloned(tensors):
    return {name: tensor.clone() for name, tensor in tensors.items()}

def counters():
    """What this process has reported to upstream's statistics and nobody has collected yet: {name: {device: moments}}."""
    return {name: {str(device): tensor.clone() for device, tensor in by_device.items()} for name, by_device in training_stats._counters.items()} # pylint: disable=protected-access

def set_counters(saved):
    training_stats._counters.clear() # pylint: disable=protected-access
    training_stats._counters.update({name: {torch.device(device): tensor.to(device) for device, tensor in by_device.items()} for name, by_device in saved.items()}) # pylint: disable=protected-access

def collected(collectors):
    """What all processes have reported and `collectors` have collected."""
    return dict(total=_cloned(training_stats._cumulative), seen=[(_cloned(c._cumulative), _cloned(c._moments)) for c in collectors]) # pylint: disable=protected-access

def set_collected(saved, collectors):
    for target, source in [(training_stats._cumulative, saved['total']), *[pair for collector, (cumulative, moments) in zip(collectors, saved['seen']) # pylint: disable=protected-access
            for pair in [(collector._cumulative, cumulative), (collector._moments, moments)]]]: # pylint: disable=protected-access
        target.clear()
        target.update(_cloned(source))

#----------------------------------------------------------------------------
# The loop.

class Stopped(BaseException): # As KeyboardInterrupt: no handler of errors is to take it for one.
    """The training was asked to stop and has saved its state. The text says by what and where."""

class Over(Exception):
    """The training that goes on had seen all its images, and all that was left to do is done."""

def stop_signals():
    """Those that ask a training to stop: a hangup as well, unless it is ignored, as by what `nohup` starts."""
    hangup = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
    return [signal.SIGTERM, signal.SIGINT, *hangup]

class Keeper:
    """Saves and restores the state of the training that this process runs; idle until begin()."""
    def __init__(self):
        self.run_dir = None

    def begin(self, run_dir, rank, num_gpus, keep=2, minutes=None, state=None, seed=None, metrics=(), strict_metrics=False,
            signals=(), timeout=None):
        """The training loop that starts next in this process is to be kept.

        run_dir:  folder of the run; rank, num_gpus: this process and the number of all.
        keep:     how many states stay there.
        minutes:  save so often, beside what each network snapshot brings with it; None = not more often.
        state:    a state's path to go on from, None = from the start.
        seed:     draw other random numbers than the state has, None = the same.
        metrics:  names of those to evaluate at each network snapshot; upstream's loop is to get none.
        strict_metrics: see snapshot_metrics.evaluate().
        signals:  ask it to stop, see stop_signals().
        timeout:  a timedelta after which a process that does not answer is given up; None = PyTorch's.
        """
        self.run_dir = run_dir
        self.rank = rank
        self.num_gpus = num_gpus
        self.keep = keep
        self.seconds = minutes * 60 if minutes is not None else float('inf')
        self.state = read_state(state) if state is not None else None
        self.seed = seed
        self.metrics = metrics
        self.strict_metrics = strict_metrics
        self.signal = None
        self.nimg = 0 # Of the snapshot whose metrics are evaluated.
        self.saved_time = time.monotonic()
        self.group = None
        if num_gpus > 1:
            self.group = torch.distributed.new_group(backend='gloo', timeout=timeout) # Speaks without making GPUs wait.
        self.previous_handlers = {number: signal.signal(number, self._note_signal) for number in signals}

    def end(self):
        """The loop is left, in whatever way."""
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)
        self.run_dir = None

    def _note_signal(self, number, _frame):
        self.signal = self.signal or signal.Signals(number)
        signal.signal(number, self.previous_handlers[number]) # A second one works as ever.

    # What patches/training.patch calls, each with the local variables of upstream's training_loop().

    def attach(self, loop):
        """Put the state into the loop. Returns its (cur_nimg, cur_tick, tick_start_nimg, batch_idx, start_time).

        Metrics that were still to be evaluated then are evaluated first. Raises Over where that was all.
        """
        if self.run_dir is not None:
            loop['loss'].set_average(loop['G_ema'])
        if self.run_dir is None or self.state is None:
            return *(loop[name] for name in POSITION), loop['start_time']
        shared, own = self.state['shared'], self.state['processes'][self.rank if self.rank < len(self.state['processes']) else 0]
        for name, tensors in shared['networks'].items():
            loop[name].load_state_dict(tensors)
            loop[name].load_state_dict(own['buffers'][name], strict=False)
        for optimizer, state in zip(_optimizers(loop), shared['optimizers']):
            optimizer.load_state_dict(state)
        for phase in loop['phases']:
            for event in [phase.start_event, phase.end_event]:
                if event is not None:
                    event.record() # The tick may end before a lazy phase is due, and upstream asks how long each one took.
        for latents, saved in zip(loop['grid_z'] or [], shared['grid_z']):
            latents.copy_(saved)
        set_counters(own['counters'])
        set_collected(shared['collected'], _collectors(loop))
        loop['loss'].load_state_dict(own['loss'])
        position = shared['position']
        if self.seed is not None:
            seed_everything(self.seed, position['cur_nimg'], self.rank)
        elif self.rank < len(self.state['processes']):
            set_random_state(own['random'], loop['device'])
        else: # More processes than were saved.
            seed_everything(position['cur_nimg'], self.rank)
        self.state = None # Memory.
        start_time = time.time() - position['seconds']
        self._finish_snapshot({**loop, **position, 'start_time': start_time}, shared.get('metrics', []))
        return *(position[name] for name in POSITION), start_time

    def iteration_done(self, loop):
        """Save if it is time, or if the training is to stop, which raises Stopped. The end of a tick waits for tick_done().

        Raises soundness.Diverged.
        """
        if self.run_dir is None:
            return
        loop['loss'].iteration_done()
        nimg, total = loop['cur_nimg'], loop['total_kimg'] * 1000
        if nimg >= total or loop['cur_tick'] == 0 or nimg >= loop['tick_start_nimg'] + loop['kimg_per_tick'] * 1000:
            return
        self._save_if(False, loop)

    def tick_done(self, loop):
        """As iteration_done(), and beside a network snapshot always, before its metrics are evaluated."""
        if self.run_dir is not None:
            has_snapshot = loop['snapshot_pkl'] is not None
            self._save_if(has_snapshot, loop, self.metrics if has_snapshot else [])
            if has_snapshot:
                self._evaluate(self.metrics, loop)

    def _finish_snapshot(self, loop, metrics):
        """Evaluate those of the metrics that are still asked for and of which nothing is known."""
        wanted = []
        if self.rank == 0: # Other machines need not see the run's folder.
            names = [name for name in metrics if name in self.metrics]
            wanted = snapshot_metrics.missing(self.run_dir, snapshot_metrics.name_of(loop['cur_nimg']), names)
        wanted = self.told_to_all(wanted)[0]
        self._evaluate(wanted, loop)
        if wanted and loop['cur_nimg'] >= loop['total_kimg'] * 1000:
            raise Over()

    def _evaluate(self, metrics, loop):
        self.nimg = loop['cur_nimg']
        snapshot_pkl = snapshot_metrics.name_of(self.nimg)
        snapshot_metrics.evaluate(metrics, snapshot_pkl, loop, peers=self, strict=self.strict_metrics)

    def _save_if(self, due, loop, metrics=()):
        stop, late = self._most(self._asked(), time.monotonic() - self.saved_time >= self.seconds)
        if stop or late or due:
            self._save(loop, metrics)
        _stop_if(stop, loop['cur_nimg'])

    # What the processes tell each other. All of them call these alike.

    def _asked(self):
        return int(self.signal) if self.signal is not None else 0

    def _most(self, *numbers):
        """The largest of each number over all processes."""
        if self.group is None:
            return numbers
        most = torch.tensor(numbers, dtype=torch.float64)
        torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX, group=self.group)
        return most.tolist()

    def told_to_all(self, value):
        """What each process has to say, by rank."""
        if self.group is None:
            return [value]
        values = [None] * self.num_gpus
        torch.distributed.all_gather_object(values, value, group=self.group)
        return values

    def failed_anywhere(self, failed=False):
        """Whether a metric has failed in any process. Raises Stopped where one was asked to stop: the state is saved."""
        failed, stop = self._most(failed, self._asked())
        _stop_if(stop, self.nimg)
        return bool(failed)

    def stop_if_alone(self):
        """Raise Stopped if this process was asked to stop and need not ask others."""
        if self.group is None:
            _stop_if(self._asked(), self.nimg)

    def _save(self, loop, metrics):
        self.saved_time = time.monotonic()
        if not loop['loss'].is_sound():
            print('Warning: no training state is saved, since not all numbers are finite; the last one stays.', file=sys.stderr)
            return
        own = dict(
            buffers     = {name: {key: tensor for key, tensor in loop[name].state_dict().items() if OF_EACH_PROCESS.fullmatch(key)} for name in _networks(loop)},
            counters    = counters(),
            loss        = loop['loss'].state_dict(),
            random      = random_state(loop['device']),
        )
        processes = [None] * self.num_gpus if self.rank == 0 else None
        if self.group is None:
            processes = [own]
        else:
            torch.distributed.gather_object(own, processes, dst=0, group=self.group)
        if self.rank != 0:
            return
        sys.stdout.flush()
        shared = dict(
            position    = dict({name: loop[name] for name in POSITION}, seconds=time.time() - loop['start_time']),
            networks    = {name: loop[name].state_dict() for name in _networks(loop)},
            optimizers  = [optimizer.state_dict() for optimizer in _optimizers(loop)],
            collected   = collected(_collectors(loop)),
            grid_z      = list(loop['grid_z']),
            metrics     = list(metrics), # Of the snapshot beside it, and still to be evaluated.
            log_sizes   = {os.path.basename(path): os.path.getsize(path) for path in _logs(self.run_dir)},
        )
        path = state_path(self.run_dir, loop['cur_nimg'])
        try:
            write_state(path, dict(shared=shared, processes=processes))
        except OSError as error:
            if error.errno not in files.OUT_OF_SPACE:
                raise
            files.warn_out_of_space(path, error)
            return
        for old in state_paths(self.run_dir)[self.keep:]:
            os.unlink(old)

def _stop_if(number, nimg):
    if number:
        raise Stopped(f'{signal.Signals(int(number)).name} at {nimg / 1000:.1f} kimg')

def _networks(loop):
    return [name for name in NETWORKS if loop[name] is not None]

def _optimizers(loop):
    """Each once: upstream's lazy regularisation has two phases with the same one."""
    return list({id(phase.opt): phase.opt for phase in loop['phases']}.values())

def _collectors(loop):
    return [collector for collector in [loop['stats_collector'], loop['ada_stats'], loop['loss'].losses] if collector is not None]

def _logs(run_dir):
    return [path for pattern in LOGS for path in sorted(glob.glob(os.path.join(glob.escape(run_dir), pattern)))]

keeper = Keeper() # Of this process; upstream's loop asks for it.

#----------------------------------------------------------------------------
# Before the loop.

def go_on_with_tensorboard(nimg):
    """TensorBoard forgets what earlier processes of this run logged after so many images: it will be logged again."""
    try:
        from torch.utils import tensorboard
    except ImportError: # Upstream does without it as well.
        return
    tensorboard.SummaryWriter = functools.partial(tensorboard.SummaryWriter, purge_step=nimg // 1000 + 1) # Upstream's steps are kimg.

def rewind_logs(run_dir, state):
    """Cut what was logged after a state was saved, so that nothing is there twice when it has happened again.

    Metrics of the state's own snapshot, which are evaluated after it is saved, stay. Of log.txt the text that is cut
    goes to log-cut.txt: it may tell why the training stopped.
    """
    sizes, position = state['shared']['log_sizes'], state['shared'].get('position', {})
    for path in _logs(run_dir):
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

def metrics_due(run_dir, names):
    """Those metrics, of these names, that were still to be evaluated at the newest state, and of which nothing is known."""
    paths = state_paths(run_dir)
    if not paths:
        return []
    wanted = snapshot_metrics.missing(run_dir, snapshot_metrics.name_of(images_seen(paths[0])), names)
    if not wanted: # Reading the state would take a while.
        return []
    path, state = newest_state(run_dir) or (None, None)
    return [name for name in wanted if name in state['shared'].get('metrics', [])] if path == paths[0] else []

#----------------------------------------------------------------------------
