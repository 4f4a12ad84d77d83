"""What an ablation is: a table whose rows differ in a few options of `sarigan train`, and the trainings that it takes.

All rows of a seed see the same images in the same order, in batches of one size, for as long: the order depends on the
seed alone, and options that would change the rest are options of the table, not of a row.
"""

import copy
import dataclasses
import difflib
import functools
import json
import os
import re
from typing import Annotated, Optional

from pydantic import PlainValidator

from sarigan_plugin.errors import UserError
from sarigan_plugin.support import files, toml
from sarigan_plugin.support.toml import Count, Number, Path, Text
from sarigan_plugin.trainer import arguments, options, recipes, runs

AS_IN_THE_PAPER = 'paper'   # The setting that the top of a file is.
LONGEST_LINE = 1 << 18      # Of stats.jsonl, bytes; with 18 grouped layers it has 20,000.
# In a training's folder: the images it was begun with, and what its networks were measured at.
RECORD = 'ablation.json'

#----------------------------------------------------------------------------
# Reading a table.

def _names(value):
    """A list of different strings."""
    names = isinstance(value, list) and value and all(isinstance(name, str) for name in value)
    if not (names and len(set(value)) == len(value)):
        raise ValueError(f' must be a list of different names, not {value!r}')
    return value

def _seeds(value):
    """A list of different whole numbers."""
    whole = isinstance(value, list) and value and all(type(seed) is int and seed >= 0 for seed in value)
    if not (whole and len(set(value)) == len(value)):
        raise ValueError(f' must be a list of different seeds, as in [0, 1, 2], not {value!r}')
    return value

Names = Annotated[list, PlainValidator(_names)]
Seeds = Annotated[list, PlainValidator(_seeds)]

def _types(*names):
    return {name: options.FIELDS[name].type for name in names}

OF_A_ROW = { # Options of a training in which rows may differ.
    **_types('cfg', *(field.name for cls in [options.Method, options.Inpainting] for field in dataclasses.fields(cls))),
    **_types('gamma', 'aug', 'p', 'target', 'augpipe', 'freezed', 'fp32', 'cpu_bf16'),
}
OF_ALL_ROWS = {
    **OF_A_ROW,
    **_types('batch', 'cond', 'sparse_labels', 'mirror', 'subset', 'resume', 'workers', 'nhwc', 'allow_tf32'),
}

@dataclasses.dataclass(frozen=True)
class Row:
    name:       str             # Of its folder, and for --rows.
    label:      str             # In the table.
    paper:      float | None    # The paper's figure.
    options:    dict            # Of `sarigan train`, for this row alone.

@dataclasses.dataclass(frozen=True)
class Table:
    """A file of configs/ablations, in one of its settings."""
    name:           Text                        # Of the file.
    title:          Text
    cfg:            Path                        # The config that rows start from.
    metrics:        Names                       # What networks are measured by, see quality.py.
    rows:           tuple = ()                  # Of Row; ratios are to the first.
    options:        tuple = ()                  # (option, value) pairs of `sarigan train` for all rows.
    kimg:           Optional[Count] = None      # Length of each training, None = that of the config.
    snap:           Optional[Count] = None      # Ticks between snapshots, None = the config's.
    seeds:          Seeds           = (0,)      # One training for each, of every row.
    stop_after:     Optional[Count] = None      # Seeds after which a row no better than the first is trained no more.
    num_samples:    Optional[Count] = None      # Generated images that metrics look at, None = as their names say.
    paper_metric:   Text            = ''        # What the paper's figures are.
    note:           Text            = ''        # Printed below the table.

def folder():
    return recipes.config_dir() / 'ablations'

def find(name):
    """The path of an ablation: a file, or the name of one in configs/ablations. Raises UserError."""
    ours = {path.stem: path for path in sorted(folder().glob('*.toml'))}
    if name in ours:
        return str(ours[name])
    if not name.endswith('.toml'):
        raise UserError(f'There is no ablation {name!r}; give the path of a .toml file, or one of {", ".join(ours)}.')
    return name

def read(path, setting=AS_IN_THE_PAPER):
    """The Table of a file. What its table [settings.SETTING] says goes before what the top says. Raises UserError."""
    top = toml.read(path)
    settings = top.pop('settings', {})
    if not (isinstance(settings, dict) and all(isinstance(each, dict) for each in settings.values())):
        raise UserError(f'{path}: settings must be tables, as in [settings.tiny]')
    if setting != AS_IN_THE_PAPER and setting not in settings:
        raise UserError(f'--setting: {path} has {", ".join([AS_IN_THE_PAPER, *settings])}, and no {setting}')
    for name, each in settings.items(): # A mistake in any is found with all.
        table = _read_tables(path, {**top, **each})
        if name == setting:
            return table
    return _read_tables(path, top)

def _read_tables(path, tables):
    rows, of_all_rows = tables.pop('rows', {}), tables.pop('options', {})
    if not (isinstance(rows, dict) and rows and all(isinstance(row, dict) for row in rows.values())):
        raise UserError(f'{path}: there must be rows, tables such as [rows.sarigan]')
    name = os.path.splitext(os.path.basename(path))[0]
    table = toml.read_table(path, 'the file', Table, {**tables, 'name': name})
    return dataclasses.replace(table, options=tuple(_read_options(path, '[options]', of_all_rows, OF_ALL_ROWS).items()),
        rows=tuple(_read_row(path, name, row) for name, row in rows.items()))

def _read_row(path, name, table):
    if re.fullmatch(r'[A-Za-z0-9][\w.-]*', name) is None:
        raise UserError(f'{path}: rows.{name!r}: a row has a folder of its name, so it must be of '
            'letters, digits, - and _')
    own = {key: table[key] for key in ['label', 'paper'] if key in table}
    where = f'[rows.{name}]'
    row_options = _read_options(path, where, {key: value for key, value in table.items() if key not in own}, OF_A_ROW)
    label = toml.typed(f'{path}: {where} label', Text, own.get('label', name))
    return Row(name, label, toml.typed(f'{path}: {where} paper', Optional[Number], own.get('paper')), row_options)

def _read_options(path, where, table, kinds):
    if not isinstance(table, dict):
        raise UserError(f'{path}: options must be a table, [options]')
    for key in table:
        if kinds is OF_A_ROW and key in OF_ALL_ROWS and key not in OF_A_ROW:
            raise UserError(f'{path}: {key} in {where} would make rows differ in more than the method; '
                'it can be in [options], for all rows')
    table = recipes.without_retired(path, table)
    toml.check_names(path, where, table, kinds)
    return {key: toml.typed(f'{path}: {where} {key}', kinds[key], value) for key, value in table.items()}

def chosen_rows(table, names):
    """The table with some of its rows, in its order. Raises UserError for one that it doesn't have."""
    known = [row.name for row in table.rows]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f'did you mean {close[0]}?' if close else f'they are {", ".join(known)}'
            raise UserError(f'--rows: there is no row {name!r}; {hint}')
    return dataclasses.replace(table, rows=tuple(row for row in table.rows if row.name in names))

#----------------------------------------------------------------------------
# From a table to trainings.

@dataclasses.dataclass(frozen=True)
class Training:
    """One row with one seed."""
    row:    Row
    seed:   int
    args:   dict    # Of training_loop(), an EasyDict, with its run_dir.
    flags:  str     # The row's options as they are typed.

    @property
    def name(self):
        return f'{self.row.name}, seed {self.seed}'

    @property
    def run_dir(self):
        return self.args.run_dir

    @property
    def num_images(self):
        """How many real images it sees: kimg, rounded up to whole batches."""
        return -(-self.args.total_kimg * 1000 // self.args.batch_size) * self.args.batch_size

    @property
    def snapshot(self):
        """Path of the network that is measured. With it the training is over."""
        return os.path.join(self.run_dir, f'network-snapshot-{self.num_images // 1000:06d}.pkl')

    @property
    def samples(self):
        """Path of its network's images of seeds 0 to 63; None where those would need a photo to complete."""
        if 'inpainting' in self.args.G_kwargs.class_name:
            return None
        return os.path.join(self.run_dir, f'samples-{self.num_images // 1000:06d}.png')

    @property
    def is_trained(self):
        return os.path.isfile(self.snapshot)

    def images_seen(self):
        """As of the last tick that its statistics have; 0 before the first."""
        last = _last_statistics(self.run_dir)
        if self.is_trained:
            return self.num_images
        return int(last['Progress/kimg']['mean'] * 1000) if last is not None else 0

    def seconds_per_kimg(self):
        """As its last tick says, or None; the first is one batch, and no measure."""
        last = _last_statistics(self.run_dir)
        return last['Timing/sec_per_kimg']['mean'] if last is not None and last['Progress/tick']['mean'] >= 1 else None

def _last_statistics(run_dir):
    """The last line of a run's stats.jsonl, or None. The file may have thousands, and is looked at twice a second."""
    try:
        with open(os.path.join(run_dir, 'stats.jsonl'), 'rb') as f:
            f.seek(max(os.fstat(f.fileno()).st_size - LONGEST_LINE, 0))
            return json.loads(f.read().splitlines()[-1])
    except (OSError, IndexError, ValueError):
        return None

def plan(table, data, outdir, gpus=1):
    """The trainings of a table, row by row, each in OUTDIR/<row>/seed<k>.

    Raises UserError for what can't be trained, for rows that would differ in more than their options say, and for
    folders in which something else was trained.
    """
    trainings = []
    for row in table.rows:
        given = {'cfg': table.cfg, **dict(table.options), **row.options}
        kimg = trainings[0].args.total_kimg if trainings else table.kimg
        try:
            _desc, args = arguments.training_options(data=data, gpus=gpus, kimg=kimg, snap=table.snap, metrics=[],
                seed=max(table.seeds), **given)
        except UserError as error:
            raise UserError(f'{row.name}: {error.message}') from None
        if trainings and args.batch_size != trainings[0].args.batch_size:
            first = trainings[0]
            raise UserError(f'{row.name} has batches of {args.batch_size} images and {first.row.name} of '
                f'{first.args.batch_size}: rows must not differ in that; batch in [options] sets one for all')
        flags = ' '.join(options.setting(name, value) for name, value in row.options.items())
        trainings += [Training(row, seed, _with_seed(args, seed, os.path.join(outdir, row.name, f'seed{seed}')), flags)
            for seed in table.seeds]
    for training in trainings:
        if os.path.exists(os.path.join(training.run_dir, runs.OPTIONS)):
            _check_earlier(training)
    return trainings

def _with_seed(args, seed, run_dir):
    """arguments.training_options() looks at all images again; another seed needs no second look."""
    args = copy.deepcopy(args)
    args.random_seed = seed
    if 'random_seed' in args.training_set_kwargs: # Which images --subset takes.
        args.training_set_kwargs.random_seed = seed
    args.run_dir = run_dir
    return args

def _check_earlier(training):
    """Raise UserError unless the training in its folder is the one that is meant."""
    try:
        runs.go_on_with(training.run_dir, training.args)
    except UserError as error:
        sentence = error.message.replace('--resume', '--outdir', 1).rstrip('.')
        raise UserError(f'{sentence}; another --outdir begins anew.') from None
    seen = runs.position(training.run_dir)
    if seen is not None and seen >= training.num_images and not training.is_trained:
        raise UserError(f'--kimg: {training.run_dir} has seen {seen / 1000:g} kimg, but has no '
            f'{os.path.basename(training.snapshot)} to be measured; another --kimg, or --outdir.')

#----------------------------------------------------------------------------
# What was measured, beside the network.

@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How all networks of a table are measured."""
    data:           str             # Path of the real images,
    digest:         str             # and what tells them from others, see files.fingerprint().
    metrics:        tuple
    num_samples:    int | None
    detector:       str | None      # Of quality.measure().

    def key(self, network):
        """All that the figures of a network depend on, but for the metric."""
        is_file = self.detector is not None and os.path.isfile(self.detector)
        detector = _sha256(self.detector) if is_file else self.detector
        return dict(network=_sha256(network), data=self.digest, num_samples=self.num_samples, detector=detector)

def _sha256(path):
    status = os.stat(path)
    return _sha256_at(path, status.st_size, status.st_mtime_ns)

@functools.cache # Every table asks for those of all its networks.
def _sha256_at(path, _size, _changed):
    return files.sha256(path)

def check_data(trainings, digest):
    """Raise UserError where a training was begun with other images."""
    for training in trainings:
        is_begun = os.path.exists(os.path.join(training.run_dir, runs.OPTIONS))
        if is_begun and _read_record(training.run_dir).get('data') != digest:
            raise UserError(f'--data: {training.run_dir} was begun with other images; another --outdir begins anew.')

def begin_record(training, digest):
    """Make the training's folder, with the number of its images. Raises OSError."""
    os.makedirs(training.run_dir, exist_ok=True)
    _write_record(training.run_dir, {**_read_record(training.run_dir), 'data': digest})

def results(training, evaluation):
    """{metric: {figure: what quality.measure() gave}} of the training's network, as far as it was measured.

    Precision and recall are one metric.
    """
    if not training.is_trained:
        return {}
    wanted = evaluation.key(training.snapshot)
    found = dict()
    for entry in _read_record(training.run_dir).get('evaluations', []):
        if entry['key'] == wanted:
            found.update(entry['metrics'])
    return {metric: found[metric] for metric in evaluation.metrics if metric in found}

def missing(training, evaluation):
    """The metrics that the training's network has yet to be measured by."""
    found = results(training, evaluation)
    return [metric for metric in evaluation.metrics if metric not in found]

def add_results(training, evaluation, metrics, figures):
    """Keep what quality.measure() gave of these metrics. Raises OSError."""
    def is_of(metric, name):
        return name == metric or (metric not in figures and name.startswith(f'{metric}_'))
    of_metrics = {metric: {name: figure for name, figure in figures.items() if is_of(metric, name)}
        for metric in metrics}
    record = _read_record(training.run_dir)
    record.setdefault('evaluations', []).append(dict(key=evaluation.key(training.snapshot), metrics=of_metrics))
    _write_record(training.run_dir, record)

def _read_record(run_dir):
    path = os.path.join(run_dir, RECORD)
    if not os.path.exists(path):
        return {}
    try:
        record = files.read_json(path)
    except ValueError as error:
        raise UserError(f'{path}: {error}') from None
    if not isinstance(record, dict):
        raise UserError(f'{path} is not what `sarigan ablate` writes.')
    return record

def _write_record(run_dir, record):
    files.write_json(os.path.join(run_dir, RECORD), record)

#----------------------------------------------------------------------------
