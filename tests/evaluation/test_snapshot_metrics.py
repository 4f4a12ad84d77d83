"""Metrics of a training's snapshots: they come after the state, and one that fails or never ends loses nothing."""

import json
import os
import re
import signal

import pytest

import commands
import limits
import small_training
import trees
from sarigan_plugin.trainer import runs, state_files
from trainings import networks, statistics

import dnnlib

SCRIPT = trees.SUPPORT / 'cheap_metrics.py'

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """The command line of a training of two ticks and two snapshots, but for --outdir and --metrics."""
    folder = tmp_path_factory.mktemp('metrics')
    small_training.write_images(folder / 'images')
    (folder / 'small.toml').write_text(small_training.config())
    return [f'--cfg={folder / "small.toml"}', f'--data={folder / "images"}', '--device=cpu', '--batch=128']

STARTED = []

@pytest.fixture(autouse=True)
def nothing_is_left_running():
    yield
    while STARTED:
        process = STARTED.pop()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

def start(data, outdir, *arguments, program=(str(SCRIPT),), **environment):
    STARTED.append(commands.start(*program, *data, f'--outdir={outdir}', *arguments, **environment))
    return STARTED[-1]

def finish(process, code=0):
    """Returns (stdout, stderr)."""
    out, errors = process.communicate(timeout=limits.HANG)
    assert process.returncode == code, out + errors
    assert 'Traceback' not in out + errors
    return out, errors

def run_of(outdir):
    run, = outdir.iterdir()
    return run

def logged(run, metric):
    """[(snapshot, results)] of a metric's file."""
    path = run / f'metric-{metric}.jsonl'
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line['snapshot_pkl'], line['results']) for line in map(json.loads, lines)]

def newest_state(run):
    return state_files.images_seen(state_files.state_paths(run)[0])

def wait_for(process, path):
    limits.wait_until(lambda: path.exists() or process.poll() is not None, path.name, pause=0.02)
    assert process.poll() is None, process.communicate()

METRICS = ['mean', 'endless', 'fails', 'fails_in_first', 'fails_in_second']
ALL = f'--metrics={",".join(METRICS)}'
SNAPSHOTS = ['network-snapshot-000000.pkl', 'network-snapshot-000001.pkl'] # After 128 images and after 1024.

@pytest.fixture(scope='module')
def measured(data, tmp_path_factory):
    """measured(number of processes) -> (run of a training with all metrics, what it printed), made once."""
    found = dict()
    def get(gpus):
        if gpus not in found:
            outdir = tmp_path_factory.mktemp('measured')
            out, errors = finish(start(data, outdir, ALL, f'--gpus={gpus}'))
            found[gpus] = run_of(outdir), out + errors
        return found[gpus]
    return get

def assert_same_training(run, reference):
    theirs = networks(reference)
    assert all(bool((tensor == theirs[name]).all()) for name, tensor in networks(run).items())
    assert statistics(run) == statistics(reference)

#----------------------------------------------------------------------------

def test_without_a_network_the_state_of_a_run_that_goes_on_is_there_and_the_metric_is_null(data, tmp_path):
    sarigan = ['-m', 'sarigan_plugin.cli', 'train']
    nowhere = dict.fromkeys(['HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy'], 'http://127.0.0.1:9')
    offline = dict(program=sarigan, DNNLIB_CACHE_DIR=str(tmp_path / 'cache'), **nowhere)
    finish(start(data, tmp_path / 'out', '--snap=1', '--kimg=1', '--metrics=none', **offline))
    out, _errors = finish(start(data, tmp_path / 'out', '--resume=latest', '--kimg=3',
        '--metrics=fid50k_full', **offline))
    run = run_of(tmp_path / 'out')
    assert newest_state(run) >= 3000 and (run / 'network-snapshot-000003.pkl').exists()
    # Not the first, for which nobody had asked.
    snapshots = ['network-snapshot-000002.pkl', 'network-snapshot-000003.pkl']
    assert logged(run, 'fid50k_full') == [(snapshot, {'fid50k_full': None}) for snapshot in snapshots]
    url = r'https://\S+/inception-2015-12-05\.pt'
    for snapshot in snapshots:
        assert len(re.findall(rf'^Warning: fid50k_full of {snapshot} failed: {url} could not be downloaded; .*\. '
            r'Training goes on; --strict-metrics would stop it\.$', out, flags=re.M)) == 1

# Two processes: see also test_many_processes_go_on_... below.
@pytest.mark.parametrize('gpus', [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_metric_that_fails_in_any_process_is_one_warning_and_training_goes_on(measured, gpus):
    run, output = measured(gpus)
    failing = [name for name in METRICS if name.startswith('fails') and (name != 'fails_in_second' or gpus == 2)]
    warnings = [line.split(' failed')[0] for line in output.splitlines() if line.startswith('Warning: ')]
    assert warnings == [f'Warning: {name} of {snapshot}' for snapshot in SNAPSHOTS for name in failing]
    for name in METRICS:
        results = dict(logged(run, name))
        assert list(results) == SNAPSHOTS
        assert all((result == {name: None}) == (name in failing) for result in results.values())
    assert 'failed: RuntimeError: no luck. Training goes on' in output

def test_metrics_change_nothing_of_the_training(data, measured, tmp_path):
    finish(start(data, tmp_path, '--metrics=none'))
    assert_same_training(measured(1)[0], run_of(tmp_path))

@pytest.mark.parametrize('gpus', [1, pytest.param(2, marks=pytest.mark.slow)])
def test_where_metrics_are_strict_one_that_fails_stops_the_training_with_its_state(data, tmp_path, gpus):
    out, errors = finish(start(data, tmp_path, '--metrics=mean,fails_in_first', '--strict-metrics',
        f'--gpus={gpus}'), code=2)
    assert [line for line in (out + errors).splitlines() if line.startswith('Error: ')] == [
        f'Error: --strict-metrics: fails_in_first of {SNAPSHOTS[0]} failed: RuntimeError: no luck. '
        'The training state is saved; the same command goes on with this metric.']
    run = run_of(tmp_path)
    assert newest_state(run) == 128 and state_files.metrics_due(run, METRICS) == ['fails_in_first']

def test_many_processes_go_on_after_a_metric_fails_in_any_and_stop_together_when_asked_to_during_one(data, tmp_path):
    marker = tmp_path / 'hangs'
    failing = [name for name in METRICS if name.startswith('fails')]
    process = start(data, tmp_path / 'out', f'--metrics={",".join(failing)},mean,endless', '--gpus=2',
        before=commands.fork_all, SARIGAN_TEST_HANG='1', SARIGAN_TEST_MARKER=str(marker))
    wait_for(process, marker)
    os.killpg(process.pid, signal.SIGINT) # As Ctrl-C in a terminal: those that load images get it as well.
    out, errors = finish(process)
    assert 'Stopped by SIGINT at 0.1 kimg; the same command goes on from there.' in out
    assert [line.split(' failed')[0] for line in (out + errors).splitlines() if line.startswith('Warning: ')] == [
        f'Warning: {name} of {SNAPSHOTS[0]}' for name in failing]
    run = run_of(tmp_path / 'out')
    assert newest_state(run) == 128 and state_files.metrics_due(run, METRICS) == ['endless']
    (_snapshot, results), = logged(run, 'mean')
    assert results['mean'] is not None

def test_a_training_that_ends_during_metrics_goes_on_as_if_nothing_had_been(data, measured, tmp_path):
    # Killed in the metric of the first snapshot.
    process = start(data, tmp_path / 'out', ALL, SARIGAN_TEST_HANG='1', SARIGAN_TEST_MARKER=str(tmp_path / 'first'))
    wait_for(process, tmp_path / 'first')
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    run = run_of(tmp_path / 'out')
    assert newest_state(run) == 128 and [len(logged(run, name)) for name in METRICS[:2]] == [1, 0]

    # Makes up for that, goes on, and is asked to stop in the metric of the last snapshot.
    process = start(data, tmp_path / 'out', ALL, SARIGAN_TEST_HANG='2', SARIGAN_TEST_MARKER=str(tmp_path / 'last'))
    wait_for(process, tmp_path / 'last')
    os.kill(process.pid, signal.SIGTERM)
    assert 'Stopped by SIGTERM at 1.0 kimg; the same command goes on from there.' in finish(process)[0]
    assert newest_state(run) == 1024 and state_files.metrics_due(run, METRICS) == METRICS[1:]
    options = dnnlib.EasyDict(runs.stored_options(run))
    assert not runs.is_over(run, options)

    # Makes up for that without training.
    before = {path.name: path.read_bytes() for path in run.glob('*.p*')}
    out, _errors = finish(start(data, tmp_path / 'out', ALL))
    assert run_of(tmp_path / 'out') == run and f'Going on with {run}' in out and out.count('tick ') == 0
    assert {path.name: path.read_bytes() for path in run.glob('*.p*')} == before
    assert runs.is_over(run, options)
    assert [logged(run, name) for name in METRICS] == [logged(measured(1)[0], name) for name in METRICS]
    assert_same_training(run, measured(1)[0])

#----------------------------------------------------------------------------
