"""`sarigan ablate`: the rows of a table trained, measured and compared, one after another or side by side."""

import contextlib
import dataclasses
import os
import signal
import sys
import time

import click
import dnnlib

from sarigan_plugin.ablation import job as ablation_job
from sarigan_plugin.ablation import report as ablation_table
from sarigan_plugin.ablation import table_spec
from sarigan_plugin.commands.options import PATH, LastingCommand, NameList, NumberRange
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.evaluation import quality
from sarigan_plugin.support import files
from sarigan_plugin.trainer import stopping
from sarigan_plugin.upstream import host

POLL_SECONDS = 0.5 # Between two looks at the processes.

#----------------------------------------------------------------------------

@click.command('ablate', cls=LastingCommand)
@click.argument('table', type=PATH, metavar='TOML')
@click.option('--data',         help='Training data (directory or zip), which networks are measured against as well', required=True, type=PATH, metavar='PATH')
@click.option('--outdir',       help='Where the table and its trainings are', required=True, type=PATH, metavar='DIR')
@click.option('--setting',      help='One of the settings of the file, such as tiny, for a laptop', default=table_spec.AS_IN_THE_PAPER, show_default=True, metavar='NAME')
@click.option('--rows',         help='Some of the rows  [default: all]', type=NameList(), metavar='NAME,...')
@click.option('--seeds',        help="Random seeds: one training for each, of every row  [default: the file's]", type=NumberRange())
@click.option('--kimg',         help="Length of each training  [default: the file's]", type=click.IntRange(min=1), metavar='INT')
@click.option('--metrics',      help="What to measure networks by  [default: the file's]", type=NameList(), metavar='NAME,...')
@click.option('--num-samples',  help='Generated images that metrics look at  [default: as their names say]', type=click.IntRange(min=2), metavar='INT')
@click.option('--detector',     help="TorchScript file to take in place of the metrics' detectors", type=PATH, metavar='FILE')
@click.option('--parallel',     help='Trainings at a time', type=click.IntRange(min=1), default=1, show_default=True, metavar='INT')
@click.option('--gpus',         help='GPUs of each training; on the CPU, processes', type=click.IntRange(min=1), default=1, show_default=True, metavar='INT')
@click.option('--device',       help='Where to train', type=click.Choice(host.DEVICES), default='auto', show_default=True)
@click.option('--table-only',   help='Write the table of what is there, and train nothing', is_flag=True)
@click.option('-n', '--dry-run', help='Print what would be trained, and exit', is_flag=True)
def ablate_command(table, data, outdir, setting, rows, seeds, kimg, metrics, num_samples, detector, parallel, gpus, device, table_only, dry_run):
    """Train the rows of a table, measure their networks and compare them.

    TOML is a file, or the name of one in configs/ablations: see docs/ablations.md. All rows see the same images in the same
    order, and are measured alike. Run it again, and it goes on where it was stopped; what is done is not done again.

    \b
    sarigan ablate info --setting=tiny --data=punks.zip --outdir=out/ablations
    sarigan ablate configs/ablations/groups.toml --data=cats256.zip --outdir=out/cats --gpus=4 --parallel=2

    \b
    DIR gets:
      NAME.md, .json, .png    the table, written anew after each training; +- is the standard deviation over seeds
      NAME-samples.png        images of seeds 0 to 63 of each row's first network
      ROW/seed0/...           a folder as `sarigan train` makes it for each training. Tables share rows of one name.
    """
    table = _chosen(table_spec.read(table_spec.find(table), setting), rows, seeds, kimg, metrics, num_samples)
    device_type, obstacle = _device(device, parallel, gpus)
    chosen_metrics = quality.find(table.metrics, detector)
    trainings = table_spec.plan(table, os.path.abspath(data), outdir, gpus)
    evaluation = table_spec.Evaluation(os.path.abspath(data), files.fingerprint(data), tuple(table.metrics), table.num_samples, detector)
    table_spec.check_data(trainings, evaluation.digest)
    ablation_table.check_files(outdir, table)
    settings = dict(setting=setting, cfg=table.cfg, options=dict(table.options), kimg=trainings[0].args.total_kimg, seeds=list(table.seeds), data=data, metrics=list(table.metrics),
        num_samples=table.num_samples, detector=detector, gpus=gpus, device=device_type)
    report = Report(outdir, table, trainings, evaluation, settings)
    click.echo(report.plan(parallel))
    if dry_run:
        click.echo('Dry run; exiting.' if obstacle is None else f'Dry run; exiting. Without --dry-run this machine would refuse: {obstacle}')
        return
    if table_only and not os.path.isdir(outdir):
        raise UserError(f'--outdir: there is no folder {outdir}.')
    failures = dict()
    with writing('--outdir', outdir):
        if not table_only:
            if obstacle is not None:
                raise UserError(obstacle)
            for metric in chosen_metrics: # Before days of training, not after.
                quality.require_detector(metric.detector, '--metrics' if detector is None else '--detector')
            failures = _run(report, device_type, parallel, gpus)
        click.echo(f'\n{report.write()}')
    for path in ablation_table.paths(outdir, table):
        if os.path.exists(path): # There may be no samples.
            click.echo(click.format_filename(path))
    for training, sentence in failures.items():
        click.echo(f'Error: {training}: {sentence}', err=True)
    if failures:
        sys.exit(1)

def _run(report, device_type, parallel, gpus):
    """Train and measure what is not done. Returns {name of a training: why it failed}. Raises OSError."""
    os.makedirs(report.outdir, exist_ok=True)
    try:
        lock = files.FolderLock(report.outdir)
    except BlockingIOError as error:
        raise UserError(f'--outdir: {report.outdir} is being worked on by {error}.') from None
    try:
        return Runner(report, device_type, parallel, gpus, lock).run()
    finally:
        lock.release()

def _chosen(table, rows, seeds, kimg, metrics, num_samples):
    """The table with what the command line says instead."""
    given = dict(seeds=seeds, kimg=kimg, metrics=metrics, num_samples=num_samples)
    if seeds is not None and len(set(seeds)) < len(seeds):
        raise UserError('--seeds: each seed once.')
    table = dataclasses.replace(table, **{name: value for name, value in given.items() if value is not None})
    return table if rows is None else table_spec.chosen_rows(table, rows)

def _device(device, parallel, gpus):
    """('cuda' or 'cpu', why this machine has no room for so many processes or None). Raises UserError."""
    try:
        device_type = host.resolve_device(device)
    except ValueError as error:
        raise UserError(f'--device: {error}.') from None
    available = host.num_devices(device_type)
    if parallel * gpus <= available:
        return device_type, None
    each = f' of --gpus={gpus}' if gpus > 1 else ''
    return device_type, f'--parallel={parallel}{each} needs {parallel * gpus} {"GPUs" if device_type == "cuda" else "CPU cores"}, and there are {available}.'

#----------------------------------------------------------------------------

class Report:
    """What is planned, and how far it is."""
    def __init__(self, outdir, table, trainings, evaluation, settings):
        self.outdir = outdir
        self.table = table
        self.trainings = trainings
        self.evaluation = evaluation
        self.settings = settings

    def write(self):
        return ablation_table.write(self.outdir, self.table, self.trainings, self.evaluation, self.settings)

    def is_done(self, training):
        return training.is_trained and not table_spec.missing(training, self.evaluation) and (training.samples is None or os.path.exists(training.samples))

    def plan(self, parallel):
        """Rows, options and how far each training is, as text."""
        lines = [f'{self.table.title}: {len(self.trainings)} trainings of {self.settings["kimg"]} kimg, --cfg={self.table.cfg}, measured by {", ".join(self.table.metrics)}', '']
        width = max(len(training.row.name) for training in self.trainings)
        for row in self.table.rows:
            of_row = [training for training in self.trainings if training.row.name == row.name]
            seeds = dict() # {state: [seed]}
            for training in of_row:
                seeds.setdefault(self._state(training), []).append(str(training.seed))
            states = [f'seed{"s" if len(alike) > 1 else ""} {", ".join(alike)}: {state}' for state, alike in seeds.items()]
            lines += [f'  {row.name:<{width}}  {of_row[0].flags or "no other options"}', *(f'  {"":<{width}}    {line}' for line in states)]
        seconds = self.seconds_left(parallel)
        if seconds:
            lines += ['', f'About {dnnlib.util.format_time(seconds)} of training are left, as fast as what has been trained in {self.outdir}.']
        return '\n'.join([*lines, ''])

    def _state(self, training):
        if not training.is_trained:
            seen = training.images_seen()
            return f'{seen / 1000:g} kimg trained' if seen > 0 else 'to be trained'
        missing = table_spec.missing(training, self.evaluation)
        if missing:
            return f'trained, to be measured by {", ".join(missing)}'
        return 'done' if self.is_done(training) else 'measured, its samples to be drawn'

    def seconds_left(self, parallel):
        """As the trainings' own logs tell, where one has begun; a row that has not is taken to be as fast as the others. None where none has."""
        speeds = {training.run_dir: training.seconds_per_kimg() for training in self.trainings}
        known = [speed for speed in speeds.values() if speed is not None]
        if not known:
            return None
        return sum((training.num_images - training.images_seen()) / 1000 * (speeds[training.run_dir] or sum(known) / len(known)) for training in self.trainings) / parallel

#----------------------------------------------------------------------------

class Runner:
    """Runs what is not done, so many at a time, and stops as trainings do: what was asked to stop saves its state first."""
    def __init__(self, report, device_type, parallel, gpus, lock):
        self.report = report
        self.device_type = device_type
        self.environments = [environment(device_type, slot, parallel, gpus) for slot in range(parallel)]
        self.lock = lock
        self.running = dict()   # {slot: (training, process)}
        self.failures = dict()  # {name of a training: sentence}
        self.signal = None

    def run(self):
        """Returns {name of a training: why it failed}. Exits where a signal says so."""
        seeds = self.report.table.seeds
        waiting = sorted([training for training in self.report.trainings if not self.report.is_done(training)], key=lambda training: seeds.index(training.seed)) # The first whole table soon.
        handlers = {number: signal.signal(number, self._stop) for number in stopping.stop_signals()}
        try:
            with self._bar() as bar:
                while (waiting and self.signal is None) or self.running:
                    while waiting and self.signal is None and len(self.running) < len(self.environments):
                        self._start(waiting.pop(0))
                    time.sleep(POLL_SECONDS)
                    for slot in [slot for slot, (_training, process) in self.running.items() if process.poll() is not None]:
                        self._ended(*self.running.pop(slot))
                    self._advance(bar)
        finally:
            for _training, process in self.running.values():
                process.terminate()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self.signal is not None:
            click.echo(f'Stopped by {self.signal.name}; the same command goes on.', err=True)
            sys.exit(128 + self.signal)
        return self.failures

    def _start(self, training):
        table_spec.begin_record(training, self.report.evaluation.digest)
        slot = next(slot for slot in range(len(self.environments)) if slot not in self.running)
        what = 'measuring' if training.is_trained else f'going on from {training.images_seen() / 1000:g} kimg' if training.images_seen() > 0 else 'training'
        self._say(f'{training.name}: {what}; {os.path.join(training.run_dir, ablation_job.OUTPUT)} has what it says')
        self.running[slot] = training, ablation_job.start(training, self.report.evaluation, self.device_type, self.environments[slot], self.lock.file)

    def _ended(self, training, process):
        if process.returncode == 0:
            results = table_spec.results(training, self.report.evaluation)
            self._say(f'{training.name}: ' + ', '.join(f'{name} {figure["value"]:.4g}' for figures in results.values() for name, figure in figures.items()))
            self.report.write()
        elif self.signal is None:
            why = f'it was killed by {signal.Signals(-process.returncode).name}' if process.returncode < 0 else ablation_job.last_words(training)
            self.failures[training.name] = f'{why} ({os.path.join(training.run_dir, ablation_job.OUTPUT)})'
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
        total = sum(training.num_images for training in self.report.trainings)
        with click.progressbar(length=total, label='Training', file=sys.stderr, show_eta=False, item_show_func=lambda item: item) as bar:
            self._advance(bar)
            yield bar

    def _advance(self, bar):
        seen = sum(training.images_seen() for training in self.report.trainings)
        seconds = self.report.seconds_left(len(self.environments))
        left = f', about {dnnlib.util.format_time(seconds)} left' if seconds else ''
        bar.update(max(seen - bar.pos, 0), f'{seen / 1000:g} of {bar.length / 1000:g} kimg{left}')

    def _say(self, line):
        if sys.stderr.isatty():
            click.echo('\r\x1b[K', nl=False, err=True)
        click.echo(line, err=True)

def environment(device_type, slot, parallel, gpus):
    """Environment variables that give a process its share of the machine."""
    if device_type == 'cuda':
        visible = os.environ.get('CUDA_VISIBLE_DEVICES') or ','.join(map(str, range(host.num_devices(device_type))))
        return dict(CUDA_VISIBLE_DEVICES=','.join(visible.split(',')[slot * gpus : (slot + 1) * gpus]))
    threads = os.environ.get('OMP_NUM_THREADS', '')
    threads = int(threads) if threads.isdecimal() else host.num_devices(device_type)
    return dict(OMP_NUM_THREADS=str(max(threads // parallel, 1)))

#----------------------------------------------------------------------------
