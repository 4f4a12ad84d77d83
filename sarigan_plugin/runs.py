"""Folders of trainings: the next free one, and the one that a command goes on with."""

import json
import os
import re

from sarigan_plugin import checkpoint
from sarigan_plugin import weights
from sarigan_plugin import what_is
from sarigan_plugin.cli import UserError

OPTIONS = 'training_options.json'

# What may change when a run goes on: how long, how often, by how many. The rest would make it another training.
CHANGEABLE = re.compile(r'run_dir|total_kimg|(image|network)_snapshot_ticks|metrics|care|grid|ops|num_gpus|batch_gpu|data_loader_kwargs|training_set_kwargs\.path')
OF_TRANSFER = ('resume_pkl', 'ada_kimg', 'ema_rampup') # Set by --resume=PKL, so they are the run's own when it goes on.

#----------------------------------------------------------------------------

def next_run_id(outdir):
    """One more than the largest number that a folder's name in outdir starts with."""
    return max([number for number, _path in _numbered(outdir)], default=-1) + 1

def _numbered(outdir):
    """[(number, path)] of the folders whose names start with one, the largest first. Raises UserError."""
    try:
        names = [entry.name for entry in os.scandir(outdir) if entry.is_dir()] if os.path.isdir(outdir) else []
    except OSError as error:
        raise UserError(f'--outdir: {outdir} cannot be read: {error.strerror}.') from None
    found = [(int(match.group()), os.path.join(outdir, name)) for name in names if (match := re.match(r'\d+', name)) is not None]
    return sorted(found, reverse=True)

def stored_options(run_dir):
    """The options that a run was started with, or None where there are none to read."""
    try:
        with open(os.path.join(run_dir, OPTIONS), encoding='utf-8') as f:
            options = json.load(f)
    except (OSError, ValueError):
        return None
    return options if isinstance(options, dict) else None

def position(run_dir):
    """How many images the run had seen at its newest state, or None where it has no state."""
    paths = checkpoint.state_paths(run_dir)
    return checkpoint.images_seen(paths[0]) if paths else None

#----------------------------------------------------------------------------

def run_to_continue(outdir, resume, args):
    """The folder of the run that goes on, or None for a new one.

    resume: --resume. 'latest' is the newest run in outdir that has a training state, if there is one; a folder is that
            run; 'noresume' none. Anything else goes on with a run that the same options started and did not finish.
    args:   from config.training_options(). What a run that is named goes on with is changed in place.
    Raises UserError where it can't go on.
    """
    if resume == 'noresume':
        return None
    if resume != 'latest' and is_run(resume):
        if position(resume) is None:
            newest = what_is.newest_network(resume) # Upstream's trainings leave no states.
            advice = f'--resume={newest} starts from its newest network'
            if newest is None:
                advice = 'give a run\'s folder, a network pickle, latest or noresume'
            raise UserError(f'--resume: {resume} has no training state; {advice}.')
        go_on_with(resume, args)
        return resume
    for _number, run_dir in _numbered(outdir):
        if position(run_dir) is None:
            continue
        if resume == 'latest':
            go_on_with(run_dir, args)
            return run_dir
        if not _differences(stored_options(run_dir), args, ignored=re.compile('run_dir')) and position(run_dir) < args.total_kimg * 1000:
            return run_dir
    return None

def is_run(resume):
    """Whether --resume means a run and not a network pickle."""
    return resume == 'latest' or (resume is not None and os.path.isdir(resume) and not weights.is_exported(resume))

def go_on_with(run_dir, args):
    """Give args, in place, what is the run's own. Raises UserError unless the rest is what the run was started with, but for CHANGEABLE."""
    stored = stored_options(run_dir)
    if stored is None:
        raise UserError(f'--resume: {os.path.join(run_dir, OPTIONS)} cannot be read, so there is no telling how the run was trained.')
    for name in OF_TRANSFER:
        args.pop(name, None)
        if name in stored:
            args[name] = stored[name]
    different = _differences(stored, args, ignored=CHANGEABLE)
    if different:
        listed = '; '.join(f'{name} was {_shown(before)} and would be {_shown(now)}' for name, before, now in different[:3])
        raise UserError(f'--resume: {run_dir} goes on only with the options that it was started with: {listed}{"; ..." if len(different) > 3 else ""}.')

def _shown(value):
    return 'not set' if value is None else json.dumps(value)

def _differences(stored, args, ignored):
    """[(name, value stored, value now)] of all options that differ, names with dots."""
    before, now = _flat(stored), _flat(json.loads(json.dumps(args)))
    return [(name, before.get(name), now.get(name)) for name in sorted({*before, *now})
        if before.get(name) != now.get(name) and ignored.match(name) is None]

def _flat(options, prefix=''):
    if not isinstance(options, dict):
        return {prefix[:-1]: options}
    return {key: value for name, inner in options.items() for key, value in _flat(inner, f'{prefix}{name}.').items()}

#----------------------------------------------------------------------------
