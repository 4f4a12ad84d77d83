"""Trains and measures the rows of a table, one after another or side by side."""

import contextlib
import os
import signal
import sys
import time

from sarigan_plugin.ablation import job, report, table_spec
from sarigan_plugin.errors import UserError
from sarigan_plugin.support import files
from sarigan_plugin.support.bars import progressbar
from sarigan_plugin.trainer import stopping
from sarigan_plugin.upstream import host

import dnnlib

POLL_SECONDS = 0.5 # Between two looks at the processes.

#----------------------------------------------------------------------------

class Ablation:
    """What is planned, and how far it is."""
    def __init__(self, outdir, table, trainings, evaluation, settings):
        self.outdir = outdir
        self.table = table
        self.trainings = trainings
        self.evaluation = evaluation
        self.settings = settings
        self.stopped_rows = report.stopped_rows(table, trainings, evaluation) # As of the last write().

    def write(self):
        self.stopped_rows = report.stopped_rows(self.table, self.trainings, self.evaluation)
        settings = dict(self.settings, stopped=self.stopped_rows)
        return report.write(self.outdir, self.table, self.trainings, self.evaluation, settings)

    def is_stopped(self, training):
        """Whether its row goes no further, by stop_after; seeds that decide that are always trained."""
        return training.seed not in self.table.seeds[:self.table.stop_after] \
            and training.row.name in self.stopped_rows

    def wanted(self):
        """The trainings of rows that go on."""
        return [training for training in self.trainings if not self.is_stopped(training)]

    def is_done(self, training):
        is_drawn = training.samples is None or os.path.exists(training.samples)
        return training.is_trained and not table_spec.missing(training, self.evaluation) and is_drawn

    def plan(self, parallel):
        """Rows, options and how far each training is, as text."""
        lines = [f'{self.table.title}: {len(self.trainings)} trainings of {self.settings["kimg"]} kimg, '
            f'--cfg={self.table.cfg}, measured by {", ".join(self.table.metrics)}', '']
        width = max(len(training.row.name) for training in self.trainings)
        for row in self.table.rows:
            of_row = [training for training in self.trainings if training.row.name == row.name]
            seeds = dict() # {state: [seed]}
            for training in of_row:
                seeds.setdefault(self._state(training), []).append(str(training.seed))
            lines.append(f'  {row.name:<{width}}  {of_row[0].flags or "no other options"}')
            for state, alike in seeds.items():
                lines.append(f'  {"":<{width}}    seed{"s" if len(alike) > 1 else ""} {", ".join(alike)}: {state}')
        seconds = self.seconds_left(parallel)
        if seconds:
            lines += ['', f'About {dnnlib.util.format_time(seconds)} of training are left, '
                f'as fast as what has been trained in {self.outdir}.']
        return '\n'.join([*lines, ''])

    def _state(self, training):
        if not self.is_done(training) and self.is_stopped(training):
            return f'stopped: after {self.table.stop_after} seeds the row is no better than the first'
        if not training.is_trained:
            seen = training.images_seen()
            return f'{seen / 1000:g} kimg trained' if seen > 0 else 'to be trained'
        missing = table_spec.missing(training, self.evaluation)
        if missing:
            return f'trained, to be measured by {", ".join(missing)}'
        return 'done' if self.is_done(training) else 'measured, its samples to be drawn'

    def seconds_left(self, parallel):
        """As the trainings' own logs tell; one that has not begun counts as fast as the others. None where none has."""
        speeds = {training.run_dir: training.seconds_per_kimg() for training in self.trainings}
        known = [speed for speed in speeds.values() if speed is not None]
        if not known:
            return None
        mean = sum(known) / len(known)
        return sum((training.num_images - training.images_seen()) / 1000 * (speeds[training.run_dir] or mean)
            for training in self.wanted()) / parallel

#----------------------------------------------------------------------------

class Runner:
    """Runs what is not done, so many at a time.

    It stops as trainings do: what was asked to stop saves its state first.
    """
    def __init__(self, ablation, device_type, parallel, gpus, lock):
        self.ablation = ablation
        self.device_type = device_type
        self.environments = [environment(device_type, slot, parallel, gpus) for slot in range(parallel)]
        self.lock = lock
        self.running = dict()   # {slot: (training, process)}
        self.failures = dict()  # {name of a training: sentence}
        self.signal = None

    def run(self):
        """Returns {name of a training: why it failed}. Exits where a signal says so."""
        seeds = self.ablation.table.seeds
        waiting = [training for training in self.ablation.trainings if not self.ablation.is_done(training)]
        waiting.sort(key=lambda training: seeds.index(training.seed)) # The first whole table soon.
        handlers = {number: signal.signal(number, self._stop) for number in stopping.stop_signals()}
        try:
            with self._bar() as bar:
                while (waiting and self.signal is None) or self.running:
                    while waiting and self.signal is None and len(self.running) < len(self.environments):
                        training = waiting.pop(0)
                        if not self.ablation.is_stopped(training):
                            self._start(training)
                    time.sleep(POLL_SECONDS)
                    for slot, (_training, process) in list(self.running.items()):
                        if process.poll() is not None:
                            self._ended(*self.running.pop(slot))
                    self._advance(bar)
        finally:
            for _training, process in self.running.values():
                process.terminate()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self.signal is not None:
            print(f'Stopped by {self.signal.name}; the same command goes on.', file=sys.stderr)
            sys.exit(128 + self.signal)
        return self.failures

    def _start(self, training):
        table_spec.begin_record(training, self.ablation.evaluation.digest)
        slot = next(slot for slot in range(len(self.environments)) if slot not in self.running)
        seen = training.images_seen()
        what = 'training' if seen == 0 else f'going on from {seen / 1000:g} kimg'
        what = 'measuring' if training.is_trained else what
        self._say(f'{training.name}: {what}; {os.path.join(training.run_dir, job.OUTPUT)} has what it says')
        process = job.start(training, self.ablation.evaluation, self.device_type, self.environments[slot],
            self.lock.file)
        self.running[slot] = training, process

    def _ended(self, training, process):
        if process.returncode == 0:
            results = table_spec.results(training, self.ablation.evaluation)
            figures = {name: figure['value'] for of_metric in results.values() for name, figure in of_metric.items()}
            self._say(f'{training.name}: ' + ', '.join(f'{name} {value:.4g}' for name, value in figures.items()))
            self.ablation.write()
        elif self.signal is None:
            why = job.last_words(training)
            if process.returncode < 0:
                why = f'it was killed by {signal.Signals(-process.returncode).name}'
            self.failures[training.name] = f'{why} ({os.path.join(training.run_dir, job.OUTPUT)})'
            self._say(f'{training.name}: failed: {why}')

    def _stop(self, number, _frame):
        """Once: everything saves its state. Twice: at once."""
        for _training, process in self.running.values():
            if self.signal is None:
                process.terminate()
            else:
                os.killpg(process.pid, signal.SIGKILL)
        if self.signal is None:
            self._say('Stopping; a second time ends it at once.')
        self.signal = signal.Signals(number)

    # The bar counts images of all trainings; lines go above it.

    @contextlib.contextmanager
    def _bar(self):
        with progressbar(length=self._images_wanted(), label='Training', file=sys.stderr, show_eta=False,
                item_show_func=lambda item: item) as bar:
            self._advance(bar)
            yield bar

    def _images_wanted(self):
        return sum(training.num_images for training in self.ablation.wanted())

    def _advance(self, bar):
        bar.length = self._images_wanted() # Fewer once a row is stopped.
        seen = sum(training.images_seen() for training in self.ablation.wanted())
        seconds = self.ablation.seconds_left(len(self.environments))
        left = f', about {dnnlib.util.format_time(seconds)} left' if seconds else ''
        bar.update(max(seen - bar.pos, 0), f'{seen / 1000:g} of {bar.length / 1000:g} kimg{left}')

    def _say(self, line):
        if sys.stderr.isatty():
            print('\r\x1b[K', end='', file=sys.stderr)
        print(line, file=sys.stderr, flush=True)

def environment(device_type, slot, parallel, gpus):
    """Environment variables that give a process its share of the machine."""
    if device_type == 'cuda':
        everything = ','.join(map(str, range(host.num_devices(device_type))))
        visible = os.environ.get('CUDA_VISIBLE_DEVICES') or everything
        return dict(CUDA_VISIBLE_DEVICES=','.join(visible.split(',')[slot * gpus : (slot + 1) * gpus]))
    threads = os.environ.get('OMP_NUM_THREADS', '')
    threads = int(threads) if threads.isdecimal() else host.num_devices(device_type)
    return dict(OMP_NUM_THREADS=str(max(threads // parallel, 1)))

def run(ablation, device_type, parallel, gpus):
    """Train and measure what is not done, with nobody else in the folder.

    Returns {name of a training: why it failed}. Raises UserError, OSError.
    """
    os.makedirs(ablation.outdir, exist_ok=True)
    try:
        lock = files.FolderLock(ablation.outdir)
    except BlockingIOError as error:
        raise UserError(f'--outdir: {ablation.outdir} is being worked on by {error}.') from None
    try:
        return Runner(ablation, device_type, parallel, gpus, lock).run()
    finally:
        lock.release()

#----------------------------------------------------------------------------
