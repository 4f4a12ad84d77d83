"""Folders of trainings: the next free one, and the one that a command goes on with."""

import copy
import json
import os
import re
from collections.abc import Collection
from typing import Any, TypeGuard

from sarigan_plugin.errors import UserError
from sarigan_plugin.model.networks import RETIRED
from sarigan_plugin.snapshots import exported, what_is
from sarigan_plugin.trainer import left_out, state_files

OPTIONS = 'training_options.json'

# What may change when a run goes on: how long, how often, by how many. The rest would make it another training.
CHANGEABLE = re.compile(r'run_dir|ada_start|total_kimg|(image|network)_snapshot_ticks|metrics|care|grid|ops|cpu_bf16|'
    r'num_gpus|batch_gpu|data_loader_kwargs|training_set_kwargs\.path|loss_kwargs\.data|left_out')
OF_THE_RUN = re.compile(r'run_dir|ada_start|left_out') # What differs in the options of the same command, and
# where images went bad or were mended.
OF_THE_IMAGES = re.compile(r'run_dir|ada_start|left_out|training_set_kwargs\.max_size')
# Set by --resume=PKL, so they are the run's own when it goes on.
OF_TRANSFER = ('resume_pkl', 'ada_start', 'ada_kimg', 'ema_rampup')

#----------------------------------------------------------------------------

def next_run_id(outdir: str) -> int:
    """One more than the largest number that a folder's name in outdir starts with."""
    return max([number for number, _path in _numbered(outdir)], default=-1) + 1

def _numbered(outdir: str) -> list[tuple[int, str]]:
    """[(number, path)] of the folders whose names start with one, the largest first. Raises UserError."""
    try:
        names = [entry.name for entry in os.scandir(outdir) if entry.is_dir()] if os.path.isdir(outdir) else []
    except OSError as error:
        raise UserError(f'--outdir: {outdir} cannot be read: {error.strerror}.') from None
    found = [(int(match.group()), os.path.join(outdir, name)) for name in names
        if (match := re.match(r'\d+', name)) is not None]
    return sorted(found, reverse=True)

def stored_options(run_dir: str) -> dict[str, Any] | None:
    """The options that a run was started with, or None where there are none to read."""
    try:
        with open(os.path.join(run_dir, OPTIONS), encoding='utf-8') as f:
            options = json.load(f)
    except (OSError, ValueError):
        return None
    return options if isinstance(options, dict) else None

def position(run_dir: str) -> int | None:
    """How many images the run had seen at its newest state, or None where it has no state."""
    paths = state_files.state_paths(run_dir)
    return state_files.images_seen(paths[0]) if paths else None

def is_over(run_dir: str, args: Any) -> bool:
    """Whether nothing is left to do of a run: its images are seen, and the metrics of its last snapshot are there."""
    return position(run_dir) >= args.total_kimg * 1000 and not state_files.metrics_due(run_dir, args.metrics)

#----------------------------------------------------------------------------
# Images that runs leave out.

def known_left_out(outdir: str, data: str) -> dict[str, Any] | None:
    """What the newest run in outdir with --skip-bad-images has left out of a data set, for datasets.check, or None."""
    for _number, run_dir in _numbered(outdir):
        stored = stored_options(run_dir) or dict()
        if stored.get('left_out') is not None and _flat(stored).get('training_set_kwargs.path') == data:
            return dict(of=_flat(stored).get('left_out.of'), images=left_out.names(stored))
    return None

def _as_begun(stored: dict[str, Any] | None, args: Any) -> Any:
    """args, or where a run began with other images a copy about these.

    What was mended stays out, what went bad stays in.
    """
    if stored is None or left_out.names(stored) == left_out.names(args):
        return args
    args = copy.deepcopy(args)
    left_out.go_without(args, left_out.names(stored))
    return args

def _go_on_as(begun: Any, args: Any) -> None:
    """Let args, in place, be about the images that a run began with, and say so where these are not those of today."""
    before, now = left_out.names(begun), left_out.names(args)
    args.update(begun)
    if set(before) - set(now):
        print(f'The run goes on without {_listed(set(before) - set(now))}, as it began; '
            '--resume=noresume starts one with all images that are good now.')
    if set(now) - set(before):
        print(f'Bad since the run began: {_listed(set(now) - set(before))}. Other images are shown in place of these.')

def _listed(names: Collection[str]) -> str:
    return ', '.join(sorted(names)[:5]) + (f' and {len(names) - 5} more' if len(names) > 5 else '')

#----------------------------------------------------------------------------

def run_to_continue(outdir: str, resume: str | None, args: Any) -> str | None:
    """The folder of the run that goes on, or None for a new one.

    resume: --resume. 'latest' is the newest run in outdir that has a training state, if there is one; a folder is that
            run; 'noresume' none. Anything else goes on with a run that the same options started and did not finish.
    args:   from arguments.training_options(). What a run that is named goes on with is changed in place.
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
        stored = stored_options(run_dir)
        if _differences(stored, args, ignored=OF_THE_IMAGES) or is_over(run_dir, args):
            continue
        begun = _as_begun(stored, args)
        if not _differences(stored, begun, ignored=OF_THE_RUN):
            _go_on_as(begun, args)
            return run_dir
    return None

def is_run(resume: str | None) -> TypeGuard[str]:
    """Whether --resume means a run and not a network pickle."""
    return resume == 'latest' or (resume is not None and os.path.isdir(resume) and not exported.is_exported(resume))

def go_on_with(run_dir: str, args: Any) -> None:
    """Give args, in place, what is the run's own.

    Raises UserError unless the rest is what the run was started with, but for CHANGEABLE.
    """
    stored = stored_options(run_dir)
    if stored is None:
        raise UserError(f'--resume: {os.path.join(run_dir, OPTIONS)} cannot be read, so there is no telling how '
            'the run was trained.')
    for name in OF_TRANSFER:
        args.pop(name, None)
        if name in stored:
            args[name] = stored[name]
    begun = _as_begun(stored, args)
    different = _differences(stored, begun, ignored=CHANGEABLE)
    if different:
        listed: Any = [f'{name} was {_shown(before)} and would be {_shown(now)}'
            for name, before, now in different[:3]]
        listed = '; '.join(listed + ['...'] * (len(different) > 3))
        raise UserError(f'--resume: {run_dir} goes on only with the options that it was started with: {listed}.')
    _go_on_as(begun, args)

def _shown(value: Any) -> str:
    return 'not set' if value is None else json.dumps(value)

def _differences(stored: Any, args: Any, ignored: re.Pattern[str]) -> list[tuple[str, Any, Any]]:
    """[(name, value stored, value now)] of all options that differ, names with dots."""
    before, now = _flat(stored), _flat(json.loads(json.dumps(args)))
    before = {name: value for name, value in before.items() if not _is_retired(name, value)}
    return [(name, before.get(name), now.get(name)) for name in sorted({*before, *now})
        if before.get(name) != now.get(name) and ignored.match(name) is None]

def _is_retired(name: str, value: Any) -> bool:
    """Whether an option of an earlier version says what has become the rule."""
    table, _dot, option = name.partition('.')
    return table in ['G_kwargs', 'D_kwargs'] and option in RETIRED and value == RETIRED[option]

def _flat(options: Any, prefix: str = '') -> dict[str, Any]:
    if not isinstance(options, dict):
        return {prefix[:-1]: options}
    return {key: value for name, inner in options.items() for key, value in _flat(inner, f'{prefix}{name}.').items()}

#----------------------------------------------------------------------------
