"""What a user types: training from the command line, with and without mistakes."""

import dataclasses
import functools
import glob
import json
import os
import pickle
import re
import resource
import shutil

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

import small_training
from commands import finished, sarigan, start
from sarigan_plugin.commands.train import main
from sarigan_plugin.trainer import options
from sarigan_plugin.upstream import tree as upstream
from trainings import stats

#----------------------------------------------------------------------------
# Runs.

def test_a_run_leaves_snapshots_samples_options_log_and_statistics(run):
    done, folder = run
    assert 'Traceback' not in done.stderr
    assert {'training_options.json', 'log.txt', 'stats.jsonl', 'reals.png', 'fakes_init.png', 'fakes000001.png',
        'network-snapshot-000001.pkl'} <= set(os.listdir(folder))
    assert PIL.Image.open(folder / 'fakes000001.png').size == (32, 32)
    assert 'tick 1 ' in (folder / 'log.txt').read_text()

def test_statistics_have_both_losses_and_every_layers_groups(run):
    _done, folder = run
    last = stats(folder)[-1]
    for name in ['Loss/grouping', 'Loss/info/inter', 'Loss/info/intra', 'Loss/G/loss', 'Loss/D/loss', 'Loss/r1_penalty',
            'Loss/pl_penalty']:
        assert last[name]['num'] > 0 and np.isfinite(last[name]['mean']), name
    for layer in ['b8.conv0', 'b8.conv1', 'b16.conv0', 'b16.conv1']:
        for key in ['temperature', 'used_groups', 'size_min', 'size_median', 'size_max', 'churn']:
            # Once per tick, at its end.
            assert all(line[f'Grouping/{layer}/{key}']['num'] == 1 for line in stats(folder)), (layer, key)
        assert stats(folder)[0][f'Grouping/{layer}/threshold']['num'] == 1 # With new targets.

def test_average_of_w_is_finite_though_upstream_prints_its_summary_from_uninitialised_memory(run):
    with open(run[1] / 'network-snapshot-000001.pkl', 'rb') as f:
        data = pickle.load(f)
    assert data['G_ema'].mapping.w_avg.isfinite().all() and data['G_ema'].mapping.w_avg.abs().max() > 0
    assert not data['G_ema'].synthesis.b16.use_fp16 # fp16 was asked for, and is off on the CPU.

def test_python_train_py_in_upstreams_folder_trains_the_same_network_from_the_same_seed(run, images, cfg, tmp_path):
    done = finished(start('train.py', f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path}', '--seed=3',
        '--metrics=none', '--device=cpu', cwd=upstream.find()))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / '00000-squares-small'
    ours, theirs = (json.loads((path / 'training_options.json').read_text()) for path in [run[1], folder])
    assert {**ours, 'run_dir': None} == {**theirs, 'run_dir': None}
    networks = []
    for path in [run[1], folder]:
        with open(path / 'network-snapshot-000001.pkl', 'rb') as f:
            networks.append(pickle.load(f)['G_ema'])
    for (name, a), (_name, b) in zip(networks[0].named_parameters(), networks[1].named_parameters()):
        assert torch.equal(a, b), name

@pytest.mark.slow # In test_torchrun.py as well.
def test_two_processes_train_one_network(images, cfg, tmp_path):
    # Upstream itself compares all parameters and buffers of the two at each snapshot, and stops where they differ.
    done = sarigan('train', f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path}', '--metrics=none',
        '--device=cpu', '--gpus=2')
    assert done.returncode == 0, done.stderr
    last = stats(tmp_path / '00000-squares-small')[-1]
    assert last['Loss/scores/real']['num'] >= 1000 # Images of both.
    assert done.stdout.count('tick 1 ') == 1

@pytest.mark.parametrize('grouping', ['blocks', pytest.param('none', marks=pytest.mark.slow)])
def test_other_groupings_train_too(images, cfg, tmp_path, grouping):
    done = sarigan('train', f'--cfg={cfg}', f'--grouping={grouping}', '--aug=ada', f'--data={images}',
        f'--outdir={tmp_path}', '--metrics=none', '--device=cpu')
    assert done.returncode == 0, done.stderr
    folder, = tmp_path.iterdir()
    assert np.isfinite(stats(folder)[-1]['Loss/G/loss']['mean'])

def test_plain_stylegan2_trains_with_upstreams_own_loss_and_networks(images, tmp_path):
    plain = tmp_path / 'plain.toml'
    plain.write_text(small_training.config(method=None, training=dict(batch=128)))
    done = sarigan('train', f'--cfg={plain}', f'--data={images}', f'--outdir={tmp_path / "out"}',
        '--metrics=none', '--device=cpu')
    assert done.returncode == 0, done.stderr
    last = stats(tmp_path / 'out' / '00000-squares-plain')[-1]
    assert np.isfinite(last['Loss/G/loss']['mean']) and not any(name.startswith('Grouping/') for name in last)

def test_a_pickle_that_does_not_fit_is_refused_before_training(run, images, cfg, tmp_path):
    snapshot = run[1] / 'network-snapshot-000001.pkl'
    done = sarigan('train', f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path}', '--metrics=none',
        '--device=cpu', '--num-groups=8', f'--resume={snapshot}')
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    assert re.search(r'Error: --resume: synthesis\.b8\.conv0\.\S+ of Generator is \[.*\] in the pickle and \[.*\] '
        r'here; go on with the options', done.stderr)

@pytest.mark.parametrize('gpus', [1, 2])
def test_what_is_no_pickle_is_refused_by_every_process(images, cfg, tmp_path, gpus):
    done = sarigan('train', f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path}', '--metrics=none',
        '--device=cpu', f'--gpus={gpus}', f'--resume={cfg}')
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    assert f"Error: --resume: '{cfg}' is not a network pickle" in done.stderr

def test_training_goes_on_from_a_pickle_and_tensors_that_it_lacks_are_named(run, images, tmp_path):
    snapshot = run[1] / 'network-snapshot-000001.pkl'
    cfg = tmp_path / 'small.toml'
    cfg.write_text(small_training.config(method=dict(lambda_info=1.0, norm='feature'),
        networks=dict(channel_base=128, num_fp16_res=4), training=dict(batch=128)))
    done = sarigan('train', f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path / "out"}', '--metrics=none',
        '--device=cpu', f'--resume={snapshot}')
    assert done.returncode == 0, done.stderr
    assert 'Resuming from' in done.stdout
    assert re.search(r'Generator: \d+ of \d+ tensors are not in the pickle and start afresh: '
        r'synthesis\.b8\.conv0\.shift\.weight, ', done.stdout)
    folder, = (tmp_path / 'out').iterdir()
    assert np.isfinite(stats(folder)[-1]['Loss/G/loss']['mean'])

def test_on_a_full_disk_training_goes_on_with_a_warning_every_tick(images, cfg, tmp_path):
    # Sample sheets fit, pickles don't.
    limit_file_size = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (120_000, 120_000))
    done = sarigan('train', f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path}', '--metrics=none',
        '--device=cpu', before=limit_file_size)
    assert done.returncode == 0 and 'Traceback' not in done.stderr
    for name in ['network-snapshot-000000.pkl', 'network-snapshot-000001.pkl', r'training-state-\d+.pt']:
        assert re.search(rf'Warning: {name} could not be written: File too large. Training goes on; free some space.',
            done.stderr), name
    folder, = tmp_path.iterdir()
    assert glob.glob(str(folder / '*.pt')) == glob.glob(str(folder / '*.pkl')) == glob.glob(
        str(folder / '.writing-*')) == []
    assert len(stats(folder)) == 2 and (folder / 'fakes000001.png').exists()

#----------------------------------------------------------------------------
# Mistakes: one sentence that names the option, exit code 2, nothing written.

@pytest.mark.parametrize('options, sentence', [
    (['--cfg=sarigam'], '--cfg must be one of '),
    (['--num-groups=0'], '--num-groups must be at least 1, not 0'),
    (['--num-groups=9'], '--num-groups must be between 1 and 8, the channels of the layers at 16x16, not 9'),
    (['--num-groups=many'], "--num-groups must be an integer, auto, "
        "or RESOLUTION:INTEGER or LAYER:INTEGER pairs as in 8:16,16:8,b32.conv0:4, not 'many'"),
    (['--lambda-info=-1'], '--lambda-info must be at least 0, not -1.0'),
    (['--grouping=best'],
        "Invalid value for '--grouping': 'best' is not one of 'similarity', 'effects', 'attributes', 'blocks', "
        "'random', 'none'."),
    (['--grouping=kmeans'], "Invalid value for '--grouping': 'kmeans' is for configs: give --cfg=FILE.toml, a file "
        'with base = "sarigan" in its first line and grouping = "kmeans" in the table [method] below'),
    (['--inertia=0'], '--inertia is for configs: give --cfg=FILE.toml, a file with base = "sarigan" in its first line '
        'and inertia = ... in the table [method] below.'),
    (['--norm-eps', '0.3'], '--norm-eps is no longer an option: it made nothing better.'),
    (['--grid=3'], "Invalid value for '--grid': '3' is not COLUMNSxROWS, as in 8x4"),
    (['--device=tpu'], "Invalid value for '--device': 'tpu' is not one of 'auto', 'cuda', 'cpu'."),
    (['--ops=nvcc'], "Invalid value for '--ops': 'nvcc' is not one of 'auto', 'cuda', 'triton', 'torch'."),
    (['--device=cpu', '--ops=triton'], '--ops=triton needs a CUDA device, and this would train on the CPU: '
        'leave --ops out.'),
    (['--device=cpu', '--gpus=1024', '--batch=1024'], '--gpus=1024 is more than the '),
    (['--cfg=cifar', '--gpus=8'], '--gpus=8 GPUs of 32 images at a time do not divide the batch of 64; '
        'add --batch, a multiple of --gpus.'),
    (['--data=nowhere'], '--data: '),
    (['--outdir=/dev/null/runs'], '--outdir: /dev/null is not a folder that can be written to.'),
    (['--outdir='], '--outdir: an empty name is no folder; . is the current one.'),
    (['--outdir=\udcff'], "--outdir: '\\udcff' is not UTF-8."),
    (['--groups=8'], 'No such option'),
    *([] if torch.cuda.is_available() else [
        (['--device=cuda'], '--device: cuda was asked for, but PyTorch finds no CUDA device here; use cpu or auto.'),
        (['--gpus=2'], '--gpus=2, but PyTorch finds no GPU here; --device=cpu trains with up to '),
    ]),
])
def test_a_mistake_gets_one_sentence_and_exit_code_2(images, cfg, tmp_path, options, sentence):
    outdir = tmp_path / 'out'
    done = CliRunner().invoke(main, [f'--cfg={cfg}', f'--data={images}', f'--outdir={outdir}', *options])
    assert done.exit_code == 2
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith('Error: ') and sentence in error
    assert not outdir.exists()

@pytest.mark.parametrize('break_it, sentence', [
    (lambda folder: (folder / '03.png').write_bytes((folder / '03.png').read_bytes()[:40]),
        '--data: 03.png is corrupt'),
    (lambda folder: PIL.Image.new('RGB', (16, 8)).save(folder / '00.png'),
        '--data: 00.png is 16x8, but images must be square'),
    (lambda folder: PIL.Image.new('L', (16, 16)).save(folder / '05.png'),
        '--data: images differ: 00.png is 16x16 with 3 channels, 05.png is 16x16 with 1 channel'),
    (lambda folder: [path.unlink() for path in folder.iterdir()], 'has no images in it'),
])
def test_a_bad_dataset_is_described_in_one_sentence(images, cfg, tmp_path, break_it, sentence):
    folder = shutil.copytree(images, tmp_path / 'copy')
    break_it(folder)
    done = CliRunner().invoke(main, [f'--cfg={cfg}', f'--data={folder}', f'--outdir={tmp_path / "out"}'])
    assert done.exit_code == 2 and sentence in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / 'out').exists()

def test_a_dry_run_says_what_this_machine_would_refuse(images, cfg, tmp_path):
    done = sarigan('train', f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path}', '--gpus=1024',
        '--batch=1024', '--dry-run')
    assert done.returncode == 0, done.stderr
    assert 'Dry run; exiting. Without --dry-run this machine would refuse: --gpus=1024' in done.stdout
    assert os.listdir(tmp_path) == [] # It leaves nothing.

def test_a_dry_run_names_the_ops_where_they_were_chosen(images, cfg, tmp_path):
    command = [f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path}', '--device=cpu', '--dry-run']
    assert '"ops"' not in CliRunner().invoke(main, command).output
    assert '"ops": "torch"' in CliRunner().invoke(main, [*command, '--ops=torch']).output
    refused = CliRunner().invoke(main, [*command, '--ops=cuda'])
    assert (refused.exit_code == 0 and 'Without --dry-run this machine would refuse: '
        '--ops=cuda needs a CUDA device' in refused.output)

def test_a_config_does_what_is_advised_in_place_of_a_flag(images, tmp_path):
    cfg = tmp_path / 'FILE.toml'
    cfg.write_text('base = "sarigan"\n[method]\ninertia = 0.5\ngrouping = "kmeans"\nnum_groups = 4\n')
    done = CliRunner().invoke(main, [f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path}', '--dry-run'])
    assert done.exit_code == 0, done.output
    assert '"inertia": 0.5' in done.stdout and '"grouping": "kmeans"' in done.stdout

def test_help_fits_two_screens_and_all_of_it_is_there_for_the_asking():
    short, full = (CliRunner().invoke(main, [option], terminal_width=100).stdout for option in ['--help', '--help-all'])
    assert len(short.splitlines()) <= 80
    shown = [param.opts[-1] for param in main.params if getattr(param, 'section', options.MORE) != options.MORE]
    for name in ['--help', '--help-all', *shown]:
        assert re.search(rf'^  .*{name}\b', short, flags=re.M), name
    for param in main.params:
        assert re.search(rf'^  .*{param.opts[-1]}\b', full, flags=re.M), param
    for field in dataclasses.fields(options.Method):
        if options.flag(field.name) == field.name:
            assert re.search(rf'^  {field.name} +\w', full, flags=re.M) and f'--{field.name}' not in short, field.name

def test_help_lists_our_configs_beside_upstreams():
    done = sarigan('train', '--help')
    assert done.returncode == 0
    for name in ['sarigan', 'tiny', 'auto', 'stylegan2', 'paper256', 'paper512', 'paper1024', 'cifar']:
        assert re.search(rf'^    {name} +\w', done.stdout, flags=re.M), name

#----------------------------------------------------------------------------
