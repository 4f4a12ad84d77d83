"""Training in many processes: torchrun on two machines, which here are one, processes of our own,
and what ends them."""

import contextlib
import json
import os
import pickle
import re
import socket
import subprocess
import sys
import time

import psutil
import pytest
import torch
from click.testing import CliRunner

import limits
from commands import finished, fork_all, start
from sarigan_plugin.acceleration import cuda_build
from sarigan_plugin.commands.train import main
from sarigan_plugin.errors import UserError
from sarigan_plugin.support.world import World, gather
from sarigan_plugin.trainer import launch
from trainings import stats
from worlds import HANG_MINUTES, together

import dnnlib

@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ['RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT']:
        monkeypatch.delenv(name, raising=False)

@contextlib.contextmanager
def started(*words_of_each, before=None):
    """Start command lines of Python; yields the processes, and leaves none of their children behind."""
    processes = [start(*words, before=before) for words in words_of_each]
    family = []
    try:
        family = [psutil.Process(process.pid) for process in processes]
        yield processes
    finally:
        for process in [child for parent in family if parent.is_running()
                for child in [*parent.children(recursive=True), parent]]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

def torchrun(nodes, processes, *arguments, meeting='static', restarts=0):
    """The commands of `nodes` machines, all of them this one, that train with so many processes each."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        port = server.getsockname()[1]
    def place(node):
        if meeting == 'static':
            return [f'--node_rank={node}', '--master_addr=127.0.0.1', f'--master_port={port}']
        return [f'--rdzv_backend={meeting}', f'--rdzv_endpoint=127.0.0.1:{port}', '--rdzv_id=test']
    return [['-m', 'torch.distributed.run', f'--nnodes={nodes}', f'--nproc_per_node={processes}',
        f'--max-restarts={restarts}', *place(node),
        '-m', 'sarigan_plugin.cli', 'train', '--metrics=none', '--device=cpu', *arguments] for node in range(nodes)]

def workers(process):
    """{rank: process} of those that torchrun has started."""
    found = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if 'RANK' in child.environ() and psutil.Process(child.ppid()).pid == process.pid:
                found[int(child.environ()['RANK'])] = child
    return found

def is_training(outdir, run='*'):
    """Whether the first tick is over."""
    return lambda: any('tick 0' in log.read_text() for log in outdir.glob(f'{run}/log.txt'))

#----------------------------------------------------------------------------
# A training.

BATCH = 64
LOST = (r'Error: Rank {rank} on \S+ has lost another process, or has not heard from it for {minutes} minutes: '
    r'what was saved is kept, and the same command goes on from there\.')

@pytest.fixture(scope='module', params=[
    ('static', 1),
    pytest.param(('static', 2), marks=pytest.mark.slow),
    pytest.param(('c10d', 1), marks=pytest.mark.slow),
])
def trained(request, images, cfg, tmp_path_factory):
    """A training of two machines, of one or two processes each. One on the second machine was killed on the way, and
    torchrun started all again. Returns (the machines' finished processes, run folder, number of processes)."""
    meeting, processes = request.param
    outdir = tmp_path_factory.mktemp('torchrun')
    options = [f'--cfg={cfg}', f'--data={images}', f'--outdir={outdir}', f'--batch={BATCH}']
    with started(*torchrun(2, processes, *options, meeting=meeting, restarts=1), before=fork_all) as machines:
        limits.wait_until(lambda: list(outdir.glob('*/training-state-*.pt')), 'a training state')
        victim, *_others = psutil.Process(machines[1].pid).children()
        victim.kill()
        ends = [finished(machine) for machine in machines]
    folder, = outdir.iterdir()
    return ends, folder, 2 * processes

def test_two_machines_train_together_and_only_the_first_process_talks(trained):
    first, second = trained[0]
    assert first.returncode == 0, first.stderr
    assert second.returncode == 0, second.stderr
    assert first.stdout.count('Output directory:') == first.stdout.count('Training on CPU') == 2 # It started twice.
    assert first.stdout.count('tick 1 ') == 1
    assert second.stdout == '' and not re.search('^Traceback', second.stderr, re.MULTILINE), second.stderr
    # Within a line it may stand: torchrun itself logs so where the first machine leaves before it has said goodbye.

def test_all_processes_share_one_run_folder(trained):
    _ends, folder, processes = trained
    assert folder.name == f'00000-squares-small-batch{BATCH}'
    assert json.loads((folder / 'training_options.json').read_text())['num_gpus'] == processes # Without --gpus.
    assert (folder / 'log.txt').read_text().count('Exiting...') == 1
    assert len((folder / 'stats.jsonl').read_text().splitlines()) == 2

def test_a_process_killed_on_one_machine_ends_those_of_the_other_with_one_sentence(trained):
    (first, _second), _folder, processes = trained
    assert len(re.findall(LOST.format(rank=r'\d+', minutes=10), first.stderr)) == 1, first.stderr
    assert processes > 2 or re.search(LOST.format(rank=0, minutes=10), first.stderr)
    assert 'RuntimeError' not in first.stderr # Only torchrun's own report.

def test_torchrun_starts_all_again_and_they_train_the_same_network_as_processes_of_our_own(
        trained, images, cfg, tmp_path):
    (first, _second), theirs, processes = trained
    assert re.search(r'Going on from \S+training-state-\d+\.pt', first.stdout)
    code = ("import sys, os; from sarigan_plugin.trainer import arguments; from sarigan_plugin.trainer import launch\n"
        "_, args = arguments.training_options(data=sys.argv[1], cfg=sys.argv[2], gpus=int(sys.argv[4]), "
        "batch=int(sys.argv[5]), metrics=[])\nargs.run_dir = os.path.join(sys.argv[3], 'run')\n"
        "sys.exit(launch.launch(args, 'cpu'))") # Past the check for as many cores.
    with started(['-c', code, images, cfg, tmp_path, processes, BATCH], before=fork_all) as (process,):
        done = finished(process)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('tick 1 ') == 1
    # 15 batches of 64 images; one of the two processes alone would have counted 480.
    assert stats(tmp_path / 'run')[-1]['Loss/scores/real']['num'] == 960
    networks = [pickle.loads((folder / 'network-snapshot-000001.pkl').read_bytes())
        for folder in [theirs, tmp_path / 'run']]
    for name in ['G', 'D', 'G_ema']:
        states = [data[name].state_dict() for data in networks]
        assert states[0].keys() == states[1].keys()
        for key, tensor in states[0].items():
            assert torch.equal(tensor, states[1][key]), (name, key)

#----------------------------------------------------------------------------
# Lost processes.

def test_a_killed_process_of_our_own_is_named_with_its_signal(images, cfg, tmp_path):
    words = ['-m', 'sarigan_plugin.cli', 'train', f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path}',
        '--kimg=1000', '--metrics=none', '--device=cpu', '--gpus=2']
    with started(words) as (process,):
        limits.wait_until(is_training(tmp_path), 'the first tick')
        children = sorted((child for child in psutil.Process(process.pid).children()
            if 'spawn_main' in ' '.join(child.cmdline())), key=lambda child: child.create_time())
        children[1].kill()
        done = finished(process)
    assert done.returncode == 1
    assert ('Error: Rank 1 was killed by SIGKILL (is there enough memory?): '
        'what was saved is kept, and the same command goes on from there.' in done.stderr)
    assert 'Traceback' not in done.stderr

@pytest.mark.slow
def test_a_process_that_hangs_is_given_up_after_the_timeout(images, cfg, tmp_path):
    machines = torchrun(2, 2, f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path}', '--kimg=1000',
        '--timeout=0.25')
    with started(*machines) as (first, second):
        limits.wait_until(is_training(tmp_path), 'the first tick')
        workers(second)[3].suspend()
        suspended = time.monotonic()
        done = finished(first)
        assert done.returncode != 0 and time.monotonic() - suspended + 1 >= 15
        assert re.search(LOST.format(rank='[01]', minutes='0.25'), done.stderr), done.stderr

#----------------------------------------------------------------------------
# Mistakes.

def test_a_wrong_number_of_gpus_is_told_once(images, cfg, tmp_path):
    options = [f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path / "out"}', '--gpus=4']
    with started(*torchrun(1, 2, *options), before=fork_all) as (process,):
        done = finished(process)
    assert done.returncode != 0 # torchrun's own is 1 whatever ours is; it reports ours, 2.
    assert done.stderr.count('Error: --gpus=4, but torchrun has started WORLD_SIZE=2 processes: '
        'leave --gpus out, or change --nnodes or --nproc_per_node.') == 1
    assert re.search(r'exitcode *: 2 ', done.stderr) and not (tmp_path / 'out').exists()

COMPLETE = dict(RANK='1', WORLD_SIZE='4', LOCAL_RANK='1', LOCAL_WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
    MASTER_PORT='29500')

@pytest.mark.parametrize('changes, sentence', [
    (dict(WORLD_SIZE=''), 'RANK is set in the environment, but WORLD_SIZE is not: '
        'start with torchrun, which sets all of them, or unset RANK to train on this machine alone.'),
    (dict(RANK='', MASTER_PORT=''), 'WORLD_SIZE is set in the environment, but RANK and MASTER_PORT are not: '
        'start with torchrun'),
    (dict(LOCAL_RANK='first'), "LOCAL_RANK in the environment must be a number, not 'first'; torchrun sets it."),
    (dict(RANK='4'), 'The environment contradicts itself: RANK=4 of WORLD_SIZE=4, LOCAL_RANK=1 of LOCAL_WORLD_SIZE=2; '
        'torchrun sets all four.'),
    (dict(LOCAL_RANK='2', RANK='2'), 'The environment contradicts itself: '
        'RANK=2 of WORLD_SIZE=4, LOCAL_RANK=2 of LOCAL_WORLD_SIZE=2'),
])
def test_a_malformed_environment_gets_one_sentence(images, cfg, tmp_path, monkeypatch, changes, sentence):
    for name, value in {**COMPLETE, **changes}.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(main, [f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path / "out"}'])
    assert done.exit_code == 2 and sentence in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / 'out').exists()

def test_a_first_machine_that_does_not_answer_is_named(monkeypatch):
    with socket.socket() as deaf: # Its port is taken, and nobody listens.
        deaf.bind(('127.0.0.1', 0))
        port = str(deaf.getsockname()[1])
        for name, value in dict(COMPLETE, MASTER_PORT=port).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match=f'Rank 1 cannot reach the first machine at 127.0.0.1:{port}: '):
            World.from_environment(timeout=0.01)

def test_a_stray_local_rank_is_no_torchrun(images, cfg, tmp_path, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '3')
    monkeypatch.setenv('SLURM_PROCID', '3')
    monkeypatch.setenv('MASTER_ADDR', 'elsewhere')
    done = CliRunner().invoke(main,
        [f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path}', '--device=cpu', '--dry-run'])
    assert done.exit_code == 0, done.output
    assert '"num_gpus": 1' in done.stdout

#----------------------------------------------------------------------------
# Without training: processes that only talk to each other, or build what takes its time.

def test_a_gathering_waits_for_the_living_and_forgets_the_dead(tmp_path):
    """Twice three processes meet in a store that keeps everything; the last of them comes late."""
    def work(world):
        time.sleep(0.5 * (world.rank == 2))
        name = gather(world.store, world.rank, world.size, timeout=HANG_MINUTES)
        (tmp_path / f'{name}-{world.rank}').touch()
    assert together(tmp_path, 3, work) == [0, 0, 0] and together(tmp_path, 3, work) == [0, 0, 0]
    names = [path.name.split('-')[0] for path in tmp_path.glob('*-*')]
    assert len(names) == 6 and len(set(names)) == 2

def test_a_machine_that_never_starts_is_told(tmp_path, capfd):
    work = lambda world: gather(world.store, world.rank, 3, timeout=0.01) and 3
    assert together(tmp_path, 2, work) == [2, 2]
    assert ('has waited 0.01 minutes for all 3 processes to start: '
        'is the command running on every machine?' in capfd.readouterr().err)

def test_all_processes_get_what_the_first_decides(tmp_path):
    def work(world):
        assert [world.agree(lambda: {'run_dir': world.rank}) for _ in range(3)] == [{'run_dir': 0}] * 3
    assert together(tmp_path, 3, work) == [0, 0, 0]

def test_what_the_first_process_refuses_is_told_once_and_ends_all(tmp_path, capfd):
    def work(world):
        def refuse():
            raise UserError('--outdir: no.')
        try:
            world.agree(refuse)
        except SystemExit as end:
            return end.code
    assert together(tmp_path, 3, work) == [2, 2, 2]
    assert capfd.readouterr().err == 'Error: --outdir: no.\n'

def test_one_machine_that_cannot_train_is_named_and_ends_all(tmp_path, capfd):
    def work(world):
        try:
            world.check_everywhere('--data: cats.zip is not on this machine.' if world.rank == 2 else None)
        except SystemExit as end:
            return end.code
    assert together(tmp_path, 3, work) == [2, 2, 2]
    assert (capfd.readouterr().err == f'Error: Rank 2 on {socket.gethostname()}: --data: '
        'cats.zip is not on this machine.\n')

def test_a_machine_with_too_few_devices_or_no_data_set_says_so(tmp_path):
    world = World(rank=9, size=2048, local_rank=1, local_size=1024, store='any')
    args = dnnlib.EasyDict(num_gpus=2048, training_set_kwargs=dnnlib.EasyDict(path=str(tmp_path / 'cats.zip')))
    assert re.fullmatch(r'--nproc_per_node=1024 is more than the \d+ CPU cores of this machine\.',
        launch.machine_obstacle(world, args, 'cpu'))
    world.local_size = 1
    assert launch.machine_obstacle(world, args, 'cpu') == f'--data: {tmp_path}/cats.zip is not on this machine.'
    (tmp_path / 'cats.zip').touch()
    assert launch.machine_obstacle(world, args, 'cpu') is None

def test_one_process_of_a_machine_reports_its_end(tmp_path, capfd):
    def work(world):
        if world.may_report():
            print('lost')
    assert together(tmp_path, 3, work) == [0, 0, 0]
    assert capfd.readouterr().out == 'lost\n'

def build_in(folder, seconds=0.0, succeeds=True):
    """A stand-in for building: leaves a line for each process that compiles, which is one if all goes well."""
    def build():
        if not (folder / 'op.so').exists():
            with open(folder / 'compiled', 'a', encoding='utf-8') as f:
                f.write('once\n')
            time.sleep(seconds)
            if succeeds:
                (folder / 'op.so').touch()
        return succeeds
    return build

def test_one_process_builds_slowly_and_the_others_load(tmp_path):
    folder = tmp_path / 'ops'
    folder.mkdir()
    work = lambda world: 0 if cuda_build.prepare(world, build_in(folder, seconds=0.5), [str(folder)]) else 3
    assert together(tmp_path, 3, work) == [0, 0, 0]
    assert (folder / 'compiled').read_text() == 'once\n'

def test_where_building_fails_no_process_has_ops_and_none_tries_again(tmp_path):
    folder = tmp_path / 'ops'
    folder.mkdir()
    work = lambda world: 0 if cuda_build.prepare(world, build_in(folder, succeeds=False), [str(folder)]) else 3
    assert together(tmp_path, 3, work) == [3, 3, 3]
    assert (folder / 'compiled').read_text() == 'once\n'

def test_a_build_that_never_ends_is_blamed_on_its_rank(tmp_path, capfd):
    folder = tmp_path / 'ops'
    folder.mkdir()
    def work(world):
        if world.rank == 0:
            return 0 # Without a word, which the other cannot tell from a build that takes for ever.
        return 0 if cuda_build.prepare(world, build_in(folder), [str(folder)]) else 3
    assert together(tmp_path, 2, work, timeout=0.02) == [0, 2]
    assert re.fullmatch(r'Error: Rank 1 has waited 0\.02 minutes for rank 0 to build the CUDA ops in '
        rf'{re.escape(str(folder))}: if nothing builds there, remove the file called lock and run the same command '
        r'again; --timeout takes more minutes\.\n', capfd.readouterr().err)

@pytest.fixture
def lock(tmp_path):
    """The lock of a folder where nothing has been written for an hour."""
    path = tmp_path / 'ops' / 'lock'
    path.parent.mkdir()
    path.touch()
    os.utime(path, (time.time() - 3600,) * 2)
    return path

def test_a_lock_that_a_dead_process_has_left_is_removed_with_a_word(lock, capsys):
    assert cuda_build.prepare(World(), lambda: True, [str(lock.parent)])
    assert not lock.exists()
    assert capsys.readouterr().out == f'Removing {lock}, which a process that no longer runs has left.\n'

def test_a_lock_that_a_process_holds_is_waited_for(lock, monkeypatch):
    code = ('import os, sys; fd = os.open(sys.argv[1], os.O_RDONLY); print("held", flush=True); sys.stdin.read(); '
        'os.remove(sys.argv[1])')
    with subprocess.Popen([sys.executable, '-c', code, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True) as holder:
        holder.stdout.readline()
        told = []
        def tell_and_let_go(sentence):
            told.append(sentence)
            holder.stdin.close()
        monkeypatch.setattr(cuda_build, 'print', tell_and_let_go, raising=False)
        assert cuda_build.prepare(World(), lambda: not lock.exists(), [str(lock.parent)])
    assert len(told) == 1 and told[0].startswith('Waiting for')

def test_a_young_lock_may_be_another_machines_and_is_given_up_after_the_timeout(lock):
    (lock.parent / 'op.o').touch()
    with pytest.raises(UserError, match=r'Rank 0 has waited 0\.01 minutes for another program that builds CUDA ops in '
            r'\S+: if there is none, remove \S+lock and run'):
        cuda_build.prepare(World(timeout=0.01), lambda: True, [str(lock.parent)])
    assert lock.exists()

#----------------------------------------------------------------------------
