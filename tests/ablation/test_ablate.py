"""Tables of ablations: real trainings of small networks, killed and gone on with, and what their figures become."""

import contextlib
import dataclasses
import json
import math
import os
import pickle
import re
import shlex
import shutil
import signal
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

import commands
import limits
import small_training
import trees
from commands import sarigan
from sarigan_plugin.ablation import job as ablation_job, report, runner, table_spec
from sarigan_plugin.commands import ablate
from sarigan_plugin.errors import UserError
from sarigan_plugin.snapshots import reading as snapshot
from sarigan_plugin.steering.sampling import render, sample_ws
from sarigan_plugin.support import files, pictures
from sarigan_plugin.trainer import recipes

pytestmark = pytest.mark.filterwarnings('ignore:.torch.jit:DeprecationWarning') # It is what detectors come in.

CONFIG = small_training.config(training=dict(ema_kimg=0.1, batch=64)) # Sixteen steps.

TABLE = '''
title           = "Groups of squares"
cfg             = "{cfg}"
metrics         = ["fd10k"]
num_samples     = 24
paper_metric    = "FID, CATS"

[rows.stylegan2]
label           = "StyleGAN2"
grouping        = "none"
lambda_info     = 0
paper           = 8.16

[rows.sarigan]
label           = "four groups"
paper           = 6.74

[rows.same]
num_groups      = 4
'''

class Pooled(torch.nn.Module):
    """A detector that sees colours: means of four quarters."""
    def forward(self, x):
        """RGB [N, 3, H, W] in [0, 255] -> [N, 12]."""
        return torch.nn.functional.adaptive_avg_pool2d(x.to(torch.float32) / 32, 2).flatten(1)

@pytest.fixture(scope='module')
def files_of(tmp_path_factory):
    """Folder of small.toml, squares.toml and detector.pt."""
    folder = tmp_path_factory.mktemp('ablation')
    (folder / 'small.toml').write_text(CONFIG)
    (folder / 'squares.toml').write_text(TABLE.format(cfg=folder / 'small.toml'))
    torch.jit.script(Pooled()).save(folder / 'detector.pt')
    return folder

def arguments(files_of, images, outdir, *more):
    return ['ablate', files_of / 'squares.toml', f'--data={images}', f'--outdir={outdir}',
        f'--detector={files_of / "detector.pt"}', '--device=cpu', *more]

def here(files_of, images, outdir, *more):
    """As the command, but in this process, which trains nothing."""
    return CliRunner().invoke(ablate.ablate_command, list(map(str, arguments(files_of, images, outdir, *more)))[1:])

@pytest.fixture(scope='module')
def finished(files_of, images, tmp_path_factory):
    """(process, folder) of a table of three rows, two at a time. The row `sarigan` was stopped on the way, and went on;
    nothing has disturbed the others."""
    outdir = tmp_path_factory.mktemp('finished') / 'out'
    stop(signal.SIGHUP, files_of, images, outdir)
    done = sarigan(*arguments(files_of, images, outdir, '--parallel=2'), before=commands.fork_all)
    assert done.returncode == 0, done.stderr
    return done, outdir

def stop(number, files_of, images, outdir):
    """Start the row `sarigan`, and send a signal once it has a state."""
    process = commands.start('-m', 'sarigan_plugin.cli', *arguments(files_of, images, outdir, '--rows=sarigan'),
        before=commands.fork_all)
    limits.wait_until(lambda: list(outdir.glob('*/seed0/training-state-*.pt')), 'a training state')
    process.send_signal(number)
    _out, errors = process.communicate(timeout=limits.HANG)
    if number == signal.SIGKILL: # Its training gets SIGTERM, and saves.
        assert process.returncode == -signal.SIGKILL
        wait_until_free(outdir / 'sarigan' / 'seed0')
    else:
        assert (process.returncode == 128 + number
            and f'Stopped by {signal.Signals(number).name}; the same command goes on.' in errors), errors
    assert not (outdir / 'sarigan' / 'seed0' / 'network-snapshot-000001.pkl').exists()

def wait_until_free(run_dir):
    """Until no training has the lock of the folder."""
    def is_free():
        with contextlib.suppress(BlockingIOError):
            files.FolderLock(str(run_dir)).release()
            return True
    limits.wait_until(is_free, 'the lock of a training')

def rows_of(outdir):
    return {row['name']: row for row in json.loads((outdir / 'squares.json').read_text())['rows']}

def networks(run_dir):
    with open(run_dir / 'network-snapshot-000001.pkl', 'rb') as f:
        snapshot = pickle.load(f)
    return {f'{name}.{key}': tensor for name in ['G', 'D', 'G_ema']
        for key, tensor in snapshot[name].state_dict().items()}

#----------------------------------------------------------------------------
# Whole tables.

def test_each_row_is_trained_measured_and_compared_with_the_first(finished):
    done, outdir = finished
    rows = rows_of(outdir)
    assert list(rows) == ['stylegan2', 'sarigan', 'same'] and 'Traceback' not in done.stderr
    values = {name: row['figures']['fd10k']['mean'] for name, row in rows.items()}
    assert all(math.isfinite(value) and value > 0 for value in values.values())
    for name, row in rows.items():
        assert row['figures']['fd10k']['ratio'] == pytest.approx(values[name] / values['stylegan2'])
    text = (outdir / 'squares.md').read_text()
    assert (re.search(rf'\| four groups +\| {values["sarigan"]:.1f} .*\| 6.74 +\| 0.826 \|', text)
        and text in done.stdout)
    options = {name: json.loads((outdir / name / 'seed0' / 'training_options.json').read_text()) for name in rows}
    assert (options['stylegan2']['G_kwargs']['grouping'] == 'none'
        and options['stylegan2']['loss_kwargs']['lambda_info'] == 0)
    assert (options['sarigan']['G_kwargs']['grouping'] == 'similarity'
        and options['sarigan']['loss_kwargs']['lambda_info'] == 10)

def test_the_samples_are_the_images_of_seeds_0_to_63_of_each_row(finished):
    _done, outdir = finished
    sheets = {}
    for name in rows_of(outdir):
        run_dir = outdir / name / 'seed0'
        G = snapshot.load(str(run_dir / 'network-snapshot-000001.pkl'), 'PKL')
        with PIL.Image.open(run_dir / 'samples-000001.png') as sheet:
            sheets[name] = np.array(sheet)
        for seed, (row, column) in {0: (0, 0), 9: (1, 1), 63: (7, 7)}.items():
            image = pictures.enlarge(render(G, sample_ws(G, [seed], trunc=1))[None], 64)[0]
            height, width, _ = image.shape
            y, x = 2 + row * (height + 2), 2 + column * (width + 2)
            assert np.array_equal(sheets[name][y : y + height, x : x + width], image)
    with PIL.Image.open(outdir / 'squares-samples.png') as together:
        together = np.array(together)
    height, width, _ = sheets['sarigan'].shape
    assert together.shape[0] > 2 * height and together.shape[1] > 2 * width
    found = np.lib.stride_tricks.sliding_window_view(together[:, :, 0], (height, width))[:60, :20]
    assert (found == sheets['stylegan2'][:, :, 0]).all(axis=(2, 3)).any() # First, on the left.

def test_rows_of_equal_options_and_seed_have_equal_networks_and_figures_also_where_one_was_stopped(finished):
    _done, outdir = finished
    assert 'Going on from' in (outdir / 'sarigan' / 'seed0' / 'output.txt').read_text()
    assert 'Going on from' not in (outdir / 'same' / 'seed0' / 'output.txt').read_text()
    theirs, ours, others = (networks(outdir / name / 'seed0') for name in ['sarigan', 'same', 'stylegan2'])
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    assert not torch.equal(ours['G.synthesis.b16.conv1.weight'], others['G.synthesis.b16.conv1.weight'])
    rows = rows_of(outdir)
    assert rows['same']['figures'] == rows['sarigan']['figures'] != rows['stylegan2']['figures']

def test_what_is_done_is_not_done_again(finished, files_of, images):
    _done, outdir = finished
    before = {path: path.stat().st_mtime_ns for path in outdir.rglob('*') if path.is_file() and path.parent != outdir}
    table = (outdir / 'squares.json').read_bytes()
    done = here(files_of, images, outdir)
    assert done.exit_code == 0, done.stderr
    assert 'seed 0: done' in done.stdout and 'to be' not in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (outdir / 'squares.json').read_bytes() == table

def test_another_metric_or_number_of_samples_is_measured_and_nothing_is_trained(finished, files_of, images):
    plan = here(files_of, images, finished[1], '--metrics=fd10k,kd', '--dry-run').stdout
    assert plan.count('trained, to be measured by kd') == 3
    plan = here(files_of, images, finished[1], '--num-samples=23', '--dry-run').stdout
    assert plan.count('trained, to be measured by fd10k') == 3

def test_all_rows_of_a_seed_see_the_same_images_in_the_same_order(files_of, images, tmp_path):
    toml = tmp_path / 'order.toml'
    head = TABLE.format(cfg=files_of / 'small.toml').partition('[rows.sarigan]')[0] # One row.
    toml.write_text(head.replace('[rows', 'seeds = [0, 1]\n[rows') + '[rows.groups2]\nnum_groups = 2\n')
    process = commands.start(trees.SUPPORT / 'reals_seen.py', toml, images, tmp_path / 'out', 3)
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    seen = json.loads(out.splitlines()[-1])
    assert len(seen) == 3 and all(len(batches) == 16 and len(set(batches)) > 8 for batches in seen.values())
    assert seen['stylegan2, seed 0'] == seen['groups2, seed 0'] != seen['stylegan2, seed 1']

#----------------------------------------------------------------------------
# Interruptions.

@pytest.mark.slow # By SIGHUP: see `finished`.
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_table_that_was_stopped_ends_as_one_that_was_not(finished, files_of, images, tmp_path, number):
    outdir = tmp_path / 'out'
    stop(number, files_of, images, outdir)
    done = sarigan(*arguments(files_of, images, outdir, '--rows=sarigan'))
    assert done.returncode == 0, done.stderr
    assert 'Going on from' in (outdir / 'sarigan' / 'seed0' / 'output.txt').read_text()
    theirs = networks(finished[1] / 'same' / 'seed0')
    for name, tensor in networks(outdir / 'sarigan' / 'seed0').items():
        assert torch.equal(tensor, theirs[name]), name
    figures, others = (rows_of(folder)[row]['figures']['fd10k'] for folder, row in [(outdir, 'sarigan'),
        (finished[1], 'same')])
    assert {**figures, 'ratio': None} == {**others, 'ratio': None}

def test_a_row_that_starts_from_a_pickle_looks_at_it_as_train_does(files_of, images, network, tmp_path):
    toml = tmp_path / 'resumed.toml'
    toml.write_text(TABLE.format(cfg=files_of / 'small.toml').replace('[rows.same]',
        f'[options]\nresume = "{network}"\n\n[rows.same]'))
    training = table_spec.plan(table_spec.read(str(toml)), str(images), str(tmp_path / 'out'))[0]
    with pytest.raises(UserError, match='^--resume: the resolution is 32 in the pickle and 16 here; '
            'they may grow, not shrink.$'):
        ablation_job.run(training, None, 'cpu')

def test_a_row_that_fails_is_named_at_the_end_and_the_others_go_on(finished, files_of, images, tmp_path):
    outdir = shutil.copytree(finished[1], tmp_path / 'out')
    (outdir / 'sarigan' / 'seed0' / 'network-snapshot-000001.pkl').unlink()
    first, last = sorted((outdir / 'sarigan' / 'seed0').glob('training-state-*.pt'))
    first.write_bytes(b'torn')
    last.unlink()
    done = sarigan(*arguments(files_of, images, outdir))
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert re.search(fr'Error: sarigan, seed 0: --resume: no training state in {outdir}/sarigan/seed0 is whole; '
        fr'.* \({outdir}/sarigan/seed0/output.txt\)', done.stderr)
    rows = rows_of(outdir)
    assert rows['sarigan']['figures'] == {} and rows['same']['figures']['fd10k']['mean'] > 0
    assert re.search(r'\| four groups \| +\| +\| 6.74', (outdir / 'squares.md').read_text())

def test_files_of_the_tables_name_are_not_overwritten_unless_they_are_its_own(files_of, images, tmp_path):
    notes = tmp_path / 'squares.md'
    notes.write_text('mine')
    done = here(files_of, images, tmp_path, '--table-only')
    assert (done.exit_code == 2 and f'--outdir: {notes} is there, and not of `sarigan ablate`; '
        'another --outdir, or another name for the table.' in done.stderr)
    assert notes.read_text() == 'mine'

def test_each_training_has_its_own_gpus_of_those_that_are_visible(monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,5,6,7')
    assert [runner.environment('cuda', slot, parallel=2, gpus=2) for slot in range(2)] == [
        dict(CUDA_VISIBLE_DEVICES='4,5'), dict(CUDA_VISIBLE_DEVICES='6,7')]

def test_trainings_on_the_cpu_share_its_threads(monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '6')
    assert runner.environment('cpu', 1, parallel=4, gpus=1) == dict(OMP_NUM_THREADS='1')
    assert runner.environment('cpu', 1, parallel=2, gpus=1) == dict(OMP_NUM_THREADS='3')

def test_two_commands_do_not_work_in_one_folder(files_of, images, tmp_path):
    outdir = tmp_path / 'out'
    outdir.mkdir()
    lock = files.FolderLock(outdir)
    done = here(files_of, images, outdir)
    lock.release()
    assert (done.exit_code == 2 and 'Error: --outdir: '
        f'{outdir} is being worked on by process {os.getpid()} on ' in done.stderr)

#----------------------------------------------------------------------------
# Plans.

def test_a_dry_run_prints_rows_flags_and_length_and_leaves_nothing(files_of, images, tmp_path):
    done = here(files_of, images, tmp_path / 'out', '--dry-run', '--seeds=0-2', '--kimg=7')
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith('Groups of squares: '
        f'9 trainings of 7 kimg, --cfg={files_of / "small.toml"}, measured by fd10k\n')
    assert re.search(r'  stylegan2  --grouping=none --lambda-info=0\n +seeds 0, 1, 2: '
        r'to be trained\n  sarigan    no other options\n', done.stdout)
    assert 'of training are left' not in done.stdout # Nothing was timed.
    assert not (tmp_path / 'out').exists()

def test_a_dry_run_says_what_this_machine_would_refuse(files_of, images, tmp_path):
    done = here(files_of, images, tmp_path / 'out', '--dry-run', '--parallel=999', '--gpus=2')
    assert (done.exit_code == 0 and 'Without --dry-run this machine would refuse: '
        '--parallel=999 of --gpus=2 needs 1998 CPU cores, and there are ' in done.stdout)

def test_time_left_is_told_from_what_has_been_trained(finished, files_of, images):
    done = here(files_of, images, finished[1], '--dry-run', '--kimg=100')
    lines = [json.loads((finished[1] / name / 'seed0' / 'stats.jsonl').read_text().splitlines()[-1])
        for name in ['stylegan2', 'sarigan', 'same']]
    seconds = sum(line['Timing/sec_per_kimg']['mean'] for line in lines) * 99
    told = re.search(r'About (?:(\d+)h )?(?:(\d+)m )?(\d+)s of training are left', done.stdout)
    assert sum(int(part or 0) * unit for part, unit in zip(told.groups(), [3600, 60, 1])) == pytest.approx(seconds,
        rel=0.05)

@pytest.mark.parametrize('path', sorted(table_spec.folder().glob('*.toml')), ids=lambda path: path.stem)
def test_our_tables_can_be_planned_in_every_setting(path, images, tmp_path):
    settings = ['paper', *re.findall(r'^\[settings\.(\w+)\]', path.read_text(), flags=re.M)]
    assert 'tiny' in settings
    for setting in settings:
        table = table_spec.read(table_spec.find(path.stem), setting)
        trainings = table_spec.plan(table, str(images), str(tmp_path / setting))
        assert len(trainings) == len(table.rows) * len(table.seeds)
        recipe = recipes.find_recipe(table.cfg, resolution=16, gpus=1)
        assert {training.args.total_kimg for training in trainings} == {table.kimg or recipe.training.kimg}

@pytest.mark.parametrize('setting', ['paper', 'tiny'])
def test_rows_of_one_name_are_the_same_training_in_all_our_tables(setting):
    known = dict()
    for path in table_spec.folder().glob('*.toml'):
        table = table_spec.read(path, setting)
        for row in table.rows:
            trained = (table.cfg, table.kimg, row.options)
            for seed in table.seeds: # Each has a folder of its own.
                assert known.setdefault((row.name, seed), trained) == trained, (path, row.name)

def test_the_papers_figures_are_those_of_its_tables():
    papers = {path.stem: {row.name: row.paper for row in table_spec.read(path).rows if row.paper is not None}
        for path in table_spec.folder().glob('*.toml')}
    assert papers['info'] == dict(stylegan2=8.16, sarigan=6.74) | {'no-info': 7.77}
    assert papers['groups'] == dict(stylegan2=8.16, groups8=7.62, sarigan=6.74, groups32=7.74)
    assert papers['stylegan2'] == dict(stylegan2=8.16, sarigan=6.74)
    assert {row.name: row.paper for row in table_spec.read(table_spec.find('stylegan2'), 'cars').rows} == dict(
        stylegan2=3.01, sarigan=2.98)
    assert 1 - papers['grouping']['sarigan'] / papers['grouping']['blocks'] == pytest.approx(0.119, abs=0.0005)

def test_the_documentation_is_understood(tmp_path):
    text = (table_spec.folder().parents[1] / 'docs' / 'ablations.md').read_text()
    toml = tmp_path / 'mine.toml'
    toml.write_text(re.search(r'```toml\n(.*?)```', text, flags=re.S)[1])
    assert (table_spec.read(str(toml)).kimg, table_spec.read(str(toml), 'short').kimg) == (5000, 500)
    assert [row.options for row in table_spec.read(str(toml)).rows] == [{}, dict(lambda_info=1.0)]
    commands = [shlex.split(line, comments=True)[2:]
        for line in text.splitlines() if line.startswith('sarigan ablate ')]
    assert len(commands) >= 3
    for command in commands:
        params = ablate.ablate_command.make_context('ablate', command).params # Raises if there is no such option.
        assert table_spec.read(table_spec.find(params['table']), params['setting']).rows
    assert set(re.findall(r'^\| `(\w+)` \|', text, flags=re.M)) == {path.stem
        for path in table_spec.folder().glob('*.toml')}
    for file, test in re.findall(r'`(tests/[\w/]+\.py)::(\w+)`', text):
        assert f'def {test}(' in (table_spec.folder().parents[1] / file).read_text(), test

#----------------------------------------------------------------------------
# Mistakes.

ROW = 'title = "x"\ncfg = "{cfg}"\nmetrics = ["fd10k"]\n'

@pytest.mark.parametrize('text, sentence', [
    ('title = 3\nmetrics = ["fd10k"]\ncfg = "tiny"\n[rows.a]\n', ': title must be a string, not 3'),
    (ROW, ': there must be rows, tables such as [rows.sarigan]'),
    (ROW + 'sead = 3\n[rows.a]\n', ": unknown key 'sead' in the file; did you mean seeds?"),
    (ROW + 'seeds = [1, 1]\n[rows.a]\n', ': seeds must be a list of different seeds, as in [0, 1, 2], not [1, 1]'),
    (ROW + '[rows.a]\nnumgroups = 3\n', ": unknown key 'numgroups' in [rows.a]; did you mean num_groups?"),
    (ROW + '[rows.a]\nnum_groups = 0\n', ': [rows.a] num_groups must be at least 1, not 0'),
    (ROW + '[rows.a]\nfp32 = 1\n', ': [rows.a] fp32 must be true or false, not 1'),
    (ROW + '[rows.a]\nbatch = 8\n', ': batch in [rows.a] would make rows differ in more than the method; '
        'it can be in [options], for all rows'),
    (ROW + '[rows."a/b"]\n', ": rows.'a/b': a row has a folder of its name, so it must be of letters, digits, - and _"),
    (ROW + '[options]\nmirror = 1\n[rows.a]\n', ': [options] mirror must be true or false, not 1'),
    (ROW + '[rows.a]\n[settings.big]\nkimg = "much"\n', ": kimg must be an integer, not 'much'"),
    ('title = = 3', ' is not valid TOML'),
    ('title = "x"\nmetrics = ["fd10k"]\n[rows.a]\n', ': the file lacks cfg'),
])
def test_a_broken_table_names_its_file_and_key(text, sentence, tmp_path):
    path = tmp_path / 'broken.toml'
    path.write_text(text.format(cfg='tiny'))
    with pytest.raises(UserError) as caught:
        table_spec.read(str(path))
    assert caught.value.message.startswith(f'{path}{sentence}')

@pytest.mark.parametrize('more, sentence', [
    (['--rows=sarigam'], "--rows: there is no row 'sarigam'; did you mean sarigan?"),
    (['--setting=huge'], 'squares.toml has paper, and no huge'),
    (['--seeds=1,1'], '--seeds: each seed once.'),
    (['--metrics=fid'], "not 'fid'"),
    (['--parallel=999'], '--parallel=999 needs 999 CPU cores, and there are '),
    (['--data=missing.zip'], 'missing.zip does not exist'),
    (['--kimg=0'], "Invalid value for '--kimg': 0 is not in the range x>=1."),
    (['--table-only'], '--outdir: there is no folder '),
])
def test_a_mistake_gets_one_sentence_and_leaves_nothing(more, sentence, files_of, images, tmp_path):
    done = here(files_of, images, tmp_path / 'out', *more)
    assert done.exit_code == 2 and sentence in done.stderr.splitlines()[-1]
    assert not (tmp_path / 'out').exists()

def test_a_table_that_is_not_there_lists_ours():
    done = CliRunner().invoke(ablate.ablate_command, ['infos', '--data=x', '--outdir=y'])
    assert done.exit_code == 2
    assert ('There is no ablation \'infos\'; give the path of a .toml file, or one of grouping, groups, info, mixing, '
        'quality, stylegan2, target.') in done.stderr

def test_a_row_that_cannot_be_trained_is_named_before_anything_is(files_of, images, tmp_path):
    toml = tmp_path / 'wide.toml'
    toml.write_text(TABLE.format(cfg=files_of / 'small.toml') + '[rows.wide]\nnum_groups = 64\n')
    with pytest.raises(UserError, match=r'^wide: '
            r'--num-groups must be between 1 and 4, the channels of the layers at 16x16, not 64'):
        table_spec.plan(table_spec.read(str(toml)), str(images), str(tmp_path))

def test_rows_with_batches_of_other_sizes_are_refused(files_of, images, tmp_path):
    toml = tmp_path / 'batches.toml'
    toml.write_text(TABLE.format(cfg=files_of / 'small.toml') + '[rows.tiny]\ncfg = "tiny"\n')
    with pytest.raises(UserError, match='tiny has batches of 16 images and stylegan2 of 64: '
            'rows must not differ in that; batch in .options. sets one for all'):
        table_spec.plan(table_spec.read(str(toml)), str(images), str(tmp_path))

def test_folders_of_other_trainings_are_not_gone_on_with(finished, files_of, images, tmp_path):
    toml = tmp_path / 'squares.toml'
    toml.write_text(TABLE.format(cfg=files_of / 'small.toml').replace('[rows.same]\nnum_groups      = 4',
        '[rows.same]\nnum_groups      = 2'))
    with pytest.raises(UserError, match=r'^--outdir: .*/same/seed0 goes on only with the options that it was started '
            r'with: G_kwargs.num_groups was 4 and would be 2; another --outdir begins anew.'):
        table_spec.plan(table_spec.read(str(toml)), str(images), str(finished[1]))

def test_other_images_of_the_same_number_and_size_are_noticed(finished, files_of, images, tmp_path):
    others = shutil.copytree(images, tmp_path / 'squares')
    (others / '00.png').write_bytes((others / '01.png').read_bytes())
    done = here(files_of, others, finished[1])
    assert done.exit_code == 2 and re.search(r'--data: .*/stylegan2/seed0 was begun with other images; '
        r'another --outdir begins anew.', done.stderr)

#----------------------------------------------------------------------------
# Figures.

@pytest.fixture
def measured(files_of, images, tmp_path):
    """measured({row: {seed: value}}) -> (table, trainings, evaluation) where networks have these values;
    nothing was trained."""
    def make(values):
        seeds = sorted({seed for of_row in values.values() for seed in of_row})
        table = dataclasses.replace(table_spec.read(str(files_of / 'squares.toml')), seeds=seeds)
        trainings = table_spec.plan(table, str(images), str(tmp_path / 'out'))
        evaluation = table_spec.Evaluation(str(images), 'digest', ('fd10k',), 24, None)
        for training in trainings:
            value = values.get(training.row.name, {}).get(training.seed)
            if value is not None:
                table_spec.begin_record(training, 'digest')
                Path(training.snapshot).write_bytes(training.name.encode())
                table_spec.add_results(training, evaluation, ['fd10k'],
                    dict(fd10k=dict(value=value, floor=1.0, low=value - 1, high=value + 2, num_samples=24)))
        return table, trainings, evaluation
    return make

SETTINGS = dict(cfg='small', kimg=1, data='squares', seeds=[0, 1, 2])

def test_figures_are_means_and_deviations_over_seeds(measured):
    _table, trainings, evaluation = measured(dict(stylegan2={0: 10., 1: 14., 2: 12.}, sarigan={0: 8., 1: 7.}))
    first, second, third = report.figures(trainings, evaluation)
    assert (first['figures']['fd10k']['mean'], first['figures']['fd10k']['std']) == (12, 2)
    assert (second['figures']['fd10k']['mean'], second['figures']['fd10k']['ratio']) == (7.5, 0.625)
    assert (second['figures']['fd10k']['ratio_error'] == pytest.approx(np.hypot(0.5 / 12, 0.625 * np.sqrt(4 / 3) / 12))
        and first['figures']['fd10k']['ratio_error'] is None)
    assert (second['figures']['fd10k']['std'] == pytest.approx(np.sqrt(0.5))
        and second['figures']['fd10k']['seeds'] == {0: 8, 1: 7})
    assert (first['measured'], second['measured'], third['measured'], third['figures']) == (3, 2, 0, {})
    assert second['paper_ratio'] == pytest.approx(6.74 / 8.16) and third['paper_ratio'] is None

def test_a_table_says_what_its_numbers_are(measured):
    table, trainings, evaluation = measured(dict(stylegan2={0: 10., 1: 14., 2: 12.}, sarigan={0: 8., 1: 7.}))
    text = report.markdown(table, report.figures(trainings, evaluation), SETTINGS)
    assert '| StyleGAN2                  | 12.0 ± 2.0 | 1.000         | 8.16      | 1.000 |' in text
    assert '| four groups (2 of 3 seeds) | 7.5 ± 0.7  | 0.625 ± 0.073 | 6.74      | 0.826 |' in text
    assert '| same                       |            |               |           |       |' in text
    assert ('small, 1 kimg of squares, seeds 0, 1, 2. Ratios are to the first row. '
        '± is the standard deviation over seeds; of a ratio its standard error. Real images have fd10k 1.0.' in text)

def test_the_error_of_a_ratio_is_how_much_it_varies_from_seeds_to_seeds(measured):
    random = np.random.RandomState(0)
    draw = lambda mean, std: dict(enumerate(random.normal(mean, std, size=8)))
    _table, trainings, evaluation = measured(dict(stylegan2=draw(100, 10), sarigan=draw(80, 5)))
    figure = report.figures(trainings, evaluation)[1]['figures']['fd10k']
    ratios = random.normal(80, 5, size=[10000, 8]).mean(axis=1) / random.normal(100, 10, size=[10000, 8]).mean(axis=1)
    # Eight seeds know their deviation to a quarter.
    assert figure['ratio_error'] == pytest.approx(ratios.std(), rel=0.4)

@pytest.mark.parametrize('num_seeds', [3, pytest.param(8, marks=pytest.mark.slow)])
def test_intervals_of_ratios_hold_the_truth_and_what_is_detectable_is_detected(num_seeds):
    random = np.random.RandomState(0)
    draw = lambda mean: np.exp(random.normal(np.log(mean), 0.09, size=num_seeds))
    found = [report.log_ratio(draw(80), draw(100)) for _trial in range(1000)]
    assert np.mean([each['low'] < 0.8 < each['high'] for each in found]) == pytest.approx(0.95, abs=0.03)
    detectable = np.exp(np.mean(np.log([each['detectable'] for each in found])))
    found = [report.log_ratio(draw(100 * detectable), draw(100)) for _trial in range(1000)]
    assert np.mean([each['high'] < 1 for each in found]) == pytest.approx(0.8, abs=0.07)

def test_a_table_says_how_sure_its_ratios_are(measured):
    table, trainings, evaluation = measured(dict(stylegan2={0: 10., 1: 10., 2: 12.}, sarigan={0: 8., 1: 7., 2: 8.}))
    assert re.search(r'fd10k, geometric means over seeds with intervals of 95%: four groups 0\.72 \(0\.58 to 0\.89\)\. '
        r'So many seeds see a ratio of 0\.\d\d or 1\.\d\d in 80% of cases',
        report.markdown(table, report.figures(trainings, evaluation), SETTINGS))

def test_a_row_that_is_no_better_after_some_seeds_is_trained_no_more(measured, tmp_path):
    table, trainings, evaluation = measured(dict(stylegan2={0: 10., 1: 14., 2: 1.}, sarigan={0: 11., 1: 14.},
        same={0: 9., 1: 14.}))
    assert report.stopped_rows(table, trainings, evaluation) == []
    table = dataclasses.replace(table, stop_after=2) # The first row's third seed, 1, has no say.
    assert report.stopped_rows(table, trainings, evaluation) == ['sarigan']
    settings = dict(SETTINGS, metrics=['fd10k'], detector=None)
    ablation = runner.Ablation(str(tmp_path / 'out'), table, trainings, evaluation, settings)
    assert [training.name for training in trainings if ablation.is_stopped(training)] == ['sarigan, seed 2']
    assert 'seed 2: stopped: after 2 seeds the row is no better than the first' in ablation.plan(1)
    assert [training.name for training in ablation.wanted()] == [
        training.name for training in trainings if training.name != 'sarigan, seed 2']
    text = report.markdown(table, report.figures(trainings, evaluation), dict(settings, stopped=['sarigan']))
    assert 'four groups (2 of 3 seeds, stopped)' in text and 'same (2 of 3 seeds) ' in text
    assert report.stopped_rows(dataclasses.replace(table, stop_after=3), trainings, evaluation) == []

def test_a_stopped_row_is_not_trained(finished, files_of, images):
    """One that is as good as the first, to the bit, goes on; with a worse one nothing is left to be done."""
    _done, outdir = finished
    values = {name: row['figures']['fd10k']['mean'] for name, row in rows_of(outdir).items()}
    worse = [name for name in ['sarigan', 'same'] if values[name] > values['stylegan2']]
    text = (files_of / 'squares.toml').read_text()
    (files_of / 'stopping').mkdir()
    (files_of / 'stopping' / 'squares.toml').write_text(f'seeds = [0, 1]\nstop_after = 1\n{text}')
    plan = CliRunner().invoke(ablate.ablate_command, list(map(str, ['-n', files_of / 'stopping' / 'squares.toml',
        *arguments(files_of, images, outdir)[2:]]))).output
    assert plan.count('seed 1: stopped') == len(worse) and plan.count('seed 1: to be trained') == 3 - len(worse)

def test_one_seed_has_the_interval_of_its_images(measured):
    table, trainings, evaluation = measured(dict(stylegan2={0: 10.}, sarigan={0: 8.}, same={0: 9.}))
    text = report.markdown(table, report.figures(trainings, evaluation), {**SETTINGS, 'seeds': [0]})
    assert ('| StyleGAN2   | 10.0 (9.0 to 12.0) | 1.000 |' in text
        and 'In brackets is the interval of 95% of one network' in text and '±' not in text)

def test_what_was_measured_of_another_network_does_not_count(measured):
    _table, trainings, evaluation = measured(dict(stylegan2={0: 10.}))
    assert table_spec.missing(trainings[0], evaluation) == []
    assert table_spec.missing(trainings[0], dataclasses.replace(evaluation, num_samples=25)) == ['fd10k']
    assert table_spec.missing(trainings[0], dataclasses.replace(evaluation, digest='other')) == ['fd10k']
    Path(trainings[0].snapshot).write_bytes(b'trained on')
    assert table_spec.missing(trainings[0], evaluation) == ['fd10k']

def test_precision_and_recall_are_one_metric_of_two_figures(measured):
    _table, trainings, evaluation = measured(dict(stylegan2={0: 10.}))
    evaluation = dataclasses.replace(evaluation, metrics=('pr', 'fd10k'))
    assert table_spec.missing(trainings[0], evaluation) == ['pr']
    figure = dict(value=0.5, floor=None, low=None, high=None, num_samples=24)
    table_spec.add_results(trainings[0], evaluation, ['pr'], dict(pr_precision=figure, pr_recall=figure))
    assert table_spec.missing(trainings[0], evaluation) == []
    assert list(report.figures(trainings, evaluation)[0]['figures']) == ['pr_precision', 'pr_recall', 'fd10k']

def test_bars_are_as_long_as_their_figures_and_error_bars_as_wide_as_their_deviations(measured):
    table, trainings, evaluation = measured(dict(stylegan2={0: 10., 1: 14., 2: 12.}, sarigan={0: 6., 1: 6., 2: 6.}))
    pixels = np.asarray(report.chart(table, report.figures(trainings, evaluation), 'caption')).astype(int)
    bars = [(pixels == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2) for colour in report.COLOURS]
    lengths = [bar.sum(axis=1).max() for bar in bars]
    assert lengths[1] / lengths[0] == pytest.approx(6 / 12, abs=0.01)
    longest = report.PANEL * report.SCALE # Where the error bar of 12 + 2 ends.
    assert lengths[0] == pytest.approx(longest * 12 / 14, abs=3)

    # The bar's first line is below the letters, which have some grey as well.
    top = np.flatnonzero(bars[0].sum(axis=1) > 100)[0]
    left = np.flatnonzero(bars[0][top])[0]
    dark = pixels[top + 7 * report.SCALE].max(axis=1) < 10 # Above the line of the error bar, through its tips.
    near = lambda value: slice(left + round(longest * value / 14) - 4, left + round(longest * value / 14) + 5)
    assert [bool(dark[near(value)].any()) for value in [9, 10, 11, 12, 13, 14]] == [False, True, False,
        False, False, True]

#----------------------------------------------------------------------------
