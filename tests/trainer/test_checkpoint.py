"""Trainings that are interrupted, in every way, and go on as if they had not been."""

import functools
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import commands
import limits
import small_training
from sarigan_plugin.commands.train import main
from sarigan_plugin.support import files
from sarigan_plugin.trainer import checkpoint, loop_state, progress, state_files, upstream_loop
from sarigan_plugin.trainer.state_files import DamagedState, read_state, write_state
from trainings import CONFIG, assert_equal_runs, finish, last_run, start

from torch_utils import misc, training_stats

@pytest.fixture(scope='session')
def command(tmp_path_factory):
    """The command line of a training of two ticks, but for --outdir."""
    folder = tmp_path_factory.mktemp('checkpoint')
    small_training.write_images(folder / 'images')
    (folder / 'small.toml').write_text(CONFIG)
    return ['train', f'--cfg={folder / "small.toml"}', f'--data={folder / "images"}', '--metrics=none', '--device=cpu',
        '--checkpoint-minutes=0.01', '--augpipe=blit'] # The cheapest of ADA.

@pytest.fixture(scope='session')
def uninterrupted(command, tmp_path_factory):
    """uninterrupted(number of processes, kimg) -> run folder, made when asked for first."""
    found = dict()
    def get(gpus, kimg=2):
        if (gpus, kimg) not in found:
            outdir = tmp_path_factory.mktemp('uninterrupted')
            finish(start(command, outdir, f'--gpus={gpus}', f'--kimg={kimg}'))
            found[gpus, kimg] = last_run(outdir)
        return found[gpus, kimg]
    return get

#----------------------------------------------------------------------------
# Interrupted trainings.

def interrupt(command, outdir, arguments, signal_number, rng, longest):
    """Start the training, or go on with it, and send the signal at a random moment: SIGTERM once it trains,
    SIGKILL at any.

    longest: seconds from a new state to the signal, far fewer than the training takes on any machine.

    Returns whether the training had ended before.
    """
    before = set(outdir.glob('*/training-state-*.pt'))
    process = start(command, outdir, *arguments)
    while process.poll() is None and set(outdir.glob('*/training-state-*.pt')) <= before and (
            signal_number != signal.SIGKILL or rng.random() > 0.01):
        time.sleep(0.05)
    try:
        process.wait(timeout=rng.uniform(0, longest))
        finish(process)
        return True
    except subprocess.TimeoutExpired:
        send = os.killpg if signal_number == signal.SIGKILL else os.kill
        send(process.pid, signal_number)
        out, errors = process.communicate(timeout=limits.HANG)
        if signal_number == signal.SIGTERM:
            assert process.returncode == 0, errors
            assert 'Stopped by SIGTERM' in out or 'Exiting...' in out
        return False

def interrupted_run(command, outdir, arguments, signal_number, times, seed):
    """Returns (run folder, how often it was interrupted)."""
    rng = random.Random(seed)
    for count in range(times):
        if interrupt(command, outdir, arguments, signal_number, rng, longest=times / 10):
            return last_run(outdir), count
    finish(start(command, outdir, *arguments, *(['--resume=latest'] if seed % 2 else [])))
    return last_run(outdir), times

# Asked to stop: in test_ablate.py, test_effect_groups.py and test_snapshot_metrics.py as well.
@pytest.mark.parametrize('gpus, signal_number, times',
    [(1, signal.SIGKILL, 1), *[pytest.param(gpus, number, times, marks=pytest.mark.slow)
    for gpus, number, times in [(1, signal.SIGTERM, 1), (1, signal.SIGKILL, 20), (1, signal.SIGTERM, 20),
        (2, signal.SIGKILL, 20), (2, signal.SIGTERM, 20)]]])
def test_an_interrupted_training_ends_as_one_that_was_not(command, uninterrupted, tmp_path, gpus, signal_number, times):
    kimg = 2 if times < 20 else 20
    run, count = interrupted_run(command, tmp_path, [f'--gpus={gpus}', f'--kimg={kimg}'], signal_number,
        times, seed=gpus)
    print(f'{count} interruptions')
    assert count > times // 2
    assert_equal_runs(run, uninterrupted(gpus, kimg))

# Two processes: in test_snapshot_metrics.py as well.
@pytest.mark.parametrize('gpus, number', [(1, signal.SIGTERM), pytest.param(2, signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_to_all_processes_of_a_job_stops_it_with_a_state(command, tmp_path, gpus, number):
    nohup = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    process = start(command, tmp_path, f'--gpus={gpus}', '--kimg=1000',
        before=nohup if number == signal.SIGTERM else None)
    limits.wait_until(lambda: list(tmp_path.glob('*/training-state-*.pt')), 'a training state')
    if number == signal.SIGTERM:
        os.killpg(process.pid, signal.SIGHUP) # As the terminal of what `nohup` has started hangs up: nothing happens.
    os.killpg(process.pid, number) # The workers that load images get it as well.
    out = finish(process)
    assert f'Stopped by {signal.Signals(number).name} at ' in out

def test_a_mistake_in_the_midst_of_training_does_not_hang(command, tmp_path):
    code = ("import sys, sarigan_plugin\nfrom sarigan_plugin.commands "
        "import train\nfrom sarigan_plugin.trainer.progress import MonitoredLoss\ndef fail(self, "
        "**_kwargs):\n    raise KeyError('something')\nMonitoredLoss.accumulate_gradients = fail\ntrain.main()")
    done = commands.finished(commands.start('-c', code, *command[1:], f'--outdir={tmp_path}'))
    assert done.returncode == 1 and "KeyError: 'something'" in done.stderr

def test_the_loss_gets_the_average_before_the_first_iteration(make_generator, make_discriminator, tmp_path):
    G, D = make_generator(num_groups='auto'), make_discriminator()
    G_ema = make_generator(num_groups='auto')
    networks = dict(G_mapping=G.mapping, G_synthesis=G.synthesis, D=D)
    loss = progress.MonitoredLoss(torch.device('cpu'), dict(class_name='sarigan_plugin.loss.SariGANLoss'), batch_size=4,
        total_kimg=1, kimg_per_tick=1, num_gpus=1, rank=0, minutes=None, max_bad_iterations=1, **networks)
    position = dict(cur_nimg=0, cur_tick=0, tick_start_nimg=0, batch_idx=0, start_time=5)
    checkpoint.keeper.begin(tmp_path, rank=0, num_gpus=1)
    phase = types.SimpleNamespace(module=D)
    found = checkpoint.keeper.attach(dict(position, loss=loss, G_ema=G_ema, phases=[phase]))
    checkpoint.keeper.end()
    assert found == (0, 0, 0, 0, 5) and loss.loss.average is G_ema # What it is for: test_grouping.py.
    assert len(phase.module.parameters()) > 0, 'no gradient is known to be finite before somebody has looked'
    loss.gradients.are_finite = True
    assert len(phase.module.parameters()) == 0

#----------------------------------------------------------------------------
# Which run goes on. Each test goes on with a copy of a run that stopped after its first tick.

@pytest.fixture(scope='session')
def _stopped(command, tmp_path_factory):
    outdir = tmp_path_factory.mktemp('stopped')
    finish(start(command, outdir, '--kimg=1'))
    run = last_run(outdir)
    options = json.loads((run / 'training_options.json').read_text())
    # As if the kimg had been two, and the last tick the first.
    (run / 'training_options.json').write_text(json.dumps(dict(options, total_kimg=2)))
    return run

@pytest.fixture
def stopped(_stopped, tmp_path):
    """A run of the fixture `command` that has seen 1 kimg of 2, in a folder of its own."""
    return Path(shutil.copytree(_stopped, tmp_path / 'out' / '00000-images-small'))

def dry_run(command, outdir, *arguments):
    done = CliRunner().invoke(main, [*command[1:], f'--outdir={outdir}', '--dry-run', *arguments])
    assert done.exit_code == 0, done.output
    return done.output

def refusal(command, outdir, *arguments):
    done = CliRunner().invoke(main, [*command[1:], f'--outdir={outdir}', *arguments])
    assert done.exit_code == 2
    return done.stderr.strip().splitlines()[-1]

@pytest.mark.parametrize('arguments, goes_on',
    [([], True), (['--resume=latest'], True), (['--resume=latest', '--kimg=9', '--snap=3', '--ops=torch'], True),
    (['--seed=1'], False), (['--resume=noresume'], False), (['--kimg=9'], False)])
def test_the_same_command_goes_on_and_another_one_starts_anew(command, stopped, arguments, goes_on):
    out = dry_run(command, stopped.parent, *arguments)
    assert (f'Going on with {stopped} from 1.024 kimg' in out) == goes_on
    assert ('Output directory:   ' + (f'{stopped}' if goes_on else f'{stopped.parent}/00001-')) in out

def test_a_named_run_goes_on_wherever_it_is(command, stopped, tmp_path):
    assert f'Going on with {stopped} ' in dry_run(command, tmp_path / 'elsewhere', f'--resume={stopped}')

def test_a_finished_run_is_left_alone(command, stopped):
    before = sorted(path.name for path in stopped.iterdir())
    done = CliRunner().invoke(main, [*command[1:], f'--outdir={stopped.parent}', '--resume=latest', '--kimg=1'])
    assert done.exit_code == 0 and 'has seen its 1 kimg; a larger --kimg trains on.' in done.output
    assert sorted(path.name for path in stopped.iterdir()) == before

def test_latest_without_a_run_starts_one(command, tmp_path):
    assert f'Output directory:   {tmp_path}/none/00000-' in dry_run(command, tmp_path / 'none', '--resume=latest')

@pytest.mark.parametrize('arguments, sentence', [
    (['--batch=16'], 'batch_size was 128 and would be 16.'),
    (['--gamma=5'], 'loss_kwargs.r1_gamma was 1.0 and would be 5.0.'),
])
def test_a_named_run_refuses_other_options_by_name(command, stopped, arguments, sentence):
    assert refusal(command, stopped.parent, '--resume=latest',
        *arguments) == f'Error: --resume: {stopped} goes on only with the options that it was started with: {sentence}'

def test_a_run_whose_options_are_lost_is_refused(command, stopped):
    for content in ['3', '[', '']:
        (stopped / 'training_options.json').write_text(content)
        assert refusal(command, stopped.parent, '--resume=latest') == \
            f'Error: --resume: {stopped / "training_options.json"} cannot be read, so there is no telling how ' \
            'the run was trained.'

def test_a_folder_without_states_is_no_run(command, tmp_path):
    assert refusal(command, tmp_path, f'--resume={tmp_path}') == \
        f"Error: --resume: {tmp_path} has no training state; give a run's folder, a network pickle, latest or noresume."

def test_two_trainings_in_one_folder_are_refused(command, stopped):
    lock = files.FolderLock(stopped)
    sentence = refusal(command, stopped.parent)
    assert sentence.startswith(f'Error: --outdir: {stopped} is being trained by process {os.getpid()} on ')
    assert sentence.endswith('; --resume=noresume starts another run beside it.')
    lock.release()
    files.FolderLock(stopped).release()

#----------------------------------------------------------------------------
# States.

STATE = dict(numbers=[1, 2.5, None], tensor=torch.arange(1000), nested=dict(text='x', pair=(1, 2)))

def test_a_state_is_read_as_it_was_written(tmp_path):
    write_state(tmp_path / 'state.pt', STATE)
    again = read_state(tmp_path / 'state.pt')
    assert torch.equal(again.pop('tensor'), STATE['tensor'])
    assert again == {name: value for name, value in STATE.items() if name != 'tensor'}
    assert os.listdir(tmp_path) == ['state.pt']

def test_any_flipped_bit_or_missing_end_is_noticed(tmp_path):
    path = tmp_path / 'state.pt'
    write_state(path, STATE)
    whole = path.read_bytes()
    rng = random.Random(0)
    for _case in range(50):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        for content in [bytes(damaged), whole[:rng.randrange(len(whole))]]:
            path.write_bytes(content)
            with pytest.raises(DamagedState, match='it is no training state|its checksum is wrong'):
                read_state(path)

def test_a_damaged_state_is_reported_and_the_one_before_it_used(tmp_path, capsys):
    for nimg in [1000, 2000, 3000]:
        write_state(state_files.state_path(tmp_path, nimg), dict(nimg=nimg))
    for nimg in [2000, 3000]:
        os.truncate(state_files.state_path(tmp_path, nimg), 200)
    path, state = state_files.newest_state(tmp_path)
    assert path == state_files.state_path(tmp_path, 1000) and state == dict(nimg=1000)
    assert (f'Warning: {state_files.state_path(tmp_path, 3000)} cannot be used: '
        'its checksum is wrong' in capsys.readouterr().err)

def test_files_that_somebody_named_like_states_are_none(tmp_path):
    write_state(state_files.state_path(tmp_path, 1000), dict())
    (tmp_path / 'training-state-best.pt').touch()
    (tmp_path / 'training-state-000002000.pt').mkdir()
    assert state_files.state_paths(tmp_path) == [state_files.state_path(tmp_path, 1000)]

def test_where_no_state_is_whole_nothing_is_lost(command, stopped):
    for path in stopped.glob('training-state-*.pt'):
        os.truncate(path, 100)
    before = {path.name: path.read_bytes() for path in stopped.iterdir() if path.name != '.lock'}
    assert refusal(command, stopped.parent) == \
        f'Error: --resume: no training state in {stopped} is whole; --resume=noresume starts anew, ' \
        '--resume=PKL from a snapshot.'
    assert {path.name: path.read_bytes() for path in stopped.iterdir() if path.name != '.lock'} == before

def test_as_many_states_as_asked_for_are_kept(uninterrupted):
    assert [state_files.images_seen(str(path))
        for path in sorted(uninterrupted(1).glob('training-state-*.pt'))][-1] == 2048
    assert len(list(uninterrupted(1).glob('training-state-*.pt'))) == 2

def test_random_numbers_go_on_where_they_were():
    state = loop_state.random_state(torch.device('cpu'))
    draw = lambda: (random.random(), np.random.randn(3).tolist(), torch.randn(3).tolist())
    numbers = draw()
    assert draw() != numbers
    loop_state.set_random_state(state, torch.device('cpu'))
    assert draw() == numbers

def test_statistics_go_on_where_they_were():
    training_stats.report('Test/a', torch.tensor([1.0, 3.0]))
    collector = training_stats.Collector(regex='Test/.*')
    training_stats.report('Test/a', torch.tensor([5.0]))
    counters, collected = loop_state.counters(), loop_state.collected([collector])
    training_stats.report('Test/a', torch.tensor([float('nan')]))
    collector.update()
    loop_state.set_counters(counters)
    loop_state.set_collected(collected, [collector])
    training_stats.report('Test/a', torch.tensor([7.0]))
    collector.update()
    assert collector.mean('Test/a') == 6 and collector.num('Test/a') == 2

def test_the_sampler_starts_where_it_was():
    upstream_loop.prepare('cpu')
    whole = list(itertools.islice(iter(misc.InfiniteSampler(list(range(10)), rank=1, num_replicas=2, seed=5)), 40))
    upstream_loop.skip_samples(13)
    assert list(itertools.islice(iter(misc.InfiniteSampler(list(range(10)), rank=1, num_replicas=2, seed=5)), 27)) == (
        whole[13:])
    upstream_loop.skip_samples(0)

def test_logs_are_cut_to_where_the_state_was_and_what_was_cut_is_kept(tmp_path):
    (tmp_path / 'stats.jsonl').write_text('one\n')
    (tmp_path / 'log.txt').write_text('tick 0\n')
    state = dict(shared=dict(log_sizes={'stats.jsonl': 4, 'log.txt': 7}))
    for name in ['stats.jsonl', 'log.txt', 'metric-fid50k_full.jsonl']:
        with open(tmp_path / name, 'a', encoding='utf-8') as f:
            f.write('tick 1\n')
    state_files.rewind_logs(tmp_path, state)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == \
        {'stats.jsonl': 'one\n', 'log.txt': 'tick 0\n', 'metric-fid50k_full.jsonl': '', 'log-cut.txt': 'tick 1\n'}

def test_tensorboard_forgets_what_will_happen_again(tmp_path):
    from torch.utils import tensorboard  # Slow to import.
    first = tensorboard.SummaryWriter(tmp_path)
    for kimg in range(5):
        first.add_scalar('Loss', kimg, global_step=kimg)
    first.close()
    second = tensorboard.SummaryWriter(tmp_path)
    checkpoint.go_on_with_tensorboard(second, 2048)
    second.add_scalar('Loss', 30, global_step=3)
    second.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(tmp_path)).Reload().Scalars('Loss')
    assert [(event.step, event.value) for event in events] == [(0, 0), (1, 1), (2, 2), (3, 30)]

#----------------------------------------------------------------------------
