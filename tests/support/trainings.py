"""Trainings that are to end alike."""

import json
import pickle
import shutil

import torch

import commands
import small_training
from sarigan_plugin.trainer import state_files

# All that remembers something: ADA, path length, style mixing, groups that merge, the average, two ticks and more.
# In bf16; tables that go on, in test_ablate.py, are in fp32.
CONFIG = small_training.config(method=dict(num_groups='auto', regroup_kimg=0.064),
    training=dict(kimg=2, batch=128, ema_rampup=0.05, aug='ada', cpu_bf16=True)) # Sixteen steps.

def start(command, outdir, *arguments, **how):
    """Start a command line of sarigan in a process of its own. how: of commands.start()."""
    return commands.start('-m', 'sarigan_plugin.cli', *command, f'--outdir={outdir}', *arguments, **how)

def finish(process):
    """Returns what it printed."""
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out

def last_run(outdir):
    return sorted(outdir.iterdir())[-1]

def cut_back(run, outdir, images):
    """A copy of a run, in another folder, as it was after so many images: with that state alone and what was there
    before a thousand."""
    state, = [path for path in state_files.state_paths(run) if state_files.images_seen(path) == images]
    again = outdir / run.name
    shutil.copytree(run, again)
    for path in [*again.glob('training-state-*.pt'), *again.glob('*-00000[1-9].*')]:
        if path.name != state.rpartition('/')[2]:
            path.unlink()
    return again

def networks(run):
    """{network.tensor: value} of the last snapshot."""
    with open(sorted(run.glob('network-snapshot-*.pkl'))[-1], 'rb') as f:
        snapshot = pickle.load(f)
    return {f'{name}.{key}': tensor for name in ['G', 'D', 'G_ema', 'augment_pipe'] if snapshot[name] is not None
        for key, tensor in snapshot[name].state_dict().items()}

def statistics(run):
    """All that was logged but how long it took."""
    lines = [json.loads(line) for line in (run / 'stats.jsonl').read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith(('Timing', 'Resources', 'timestamp'))}
        for line in lines]

def assert_equal_runs(run, reference):
    theirs = networks(reference)
    for name, tensor in networks(run).items():
        assert torch.equal(tensor, theirs[name]), name
    assert statistics(run) == statistics(reference)
    assert [path.name for path in sorted(run.glob('*.png'))] == [path.name for path in sorted(reference.glob('*.png'))]
    for path in run.glob('*.png'):
        assert path.read_bytes() == (reference / path.name).read_bytes(), path.name

def stats(folder):
    return [json.loads(line) for line in (folder / 'stats.jsonl').read_text().splitlines()]
