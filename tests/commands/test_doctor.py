"""`sarigan doctor`."""

import hashlib
import json
import shutil

import pytest
import torch

import commands
import trees
from sarigan_plugin.acceleration import cuda_build, ops
from sarigan_plugin.commands import doctor
from sarigan_plugin.upstream import tree as upstream

PARTS = ['Python', 'PyTorch', 'device', 'upstream', 'patches', 'tools', 'ops', 'detectors', 'disk']

def findings(project, **environment):
    done = project.sarigan('doctor', '--json', **environment)
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report['ok'] else 1)
    assert done.stderr == ''
    return {finding['part']: finding for finding in report['findings']}

def test_each_part_has_one_line_with_its_state():
    done = commands.sarigan('doctor')
    lines = done.stdout.splitlines()
    assert [line[9:18].strip() for line in lines] == PARTS
    assert {line[:7].strip() for line in lines} <= {'ok', 'warning', 'error'}
    assert done.returncode == (1 if any(line.startswith('error') for line in lines) else 0)

def test_a_patched_tree_is_healthy(tmp_path, any_tree):
    project = trees.Project(tmp_path / 'project', reachable=False)
    kind = upstream.identify(any_tree).kind
    upstream.apply_patches(any_tree)
    project.tree.rmdir()
    shutil.move(any_tree, project.tree)
    found = findings(project)
    name = dict(submodule='git submodule', pypi='assembled from Python packages')[kind]
    assert found['upstream'] == dict(part='upstream', state='ok',
        detail=f'{name}, commit d72cc7d, unmodified apart from our patches')
    assert found['patches']['state'] == 'ok'

def test_a_missing_tree_is_an_error_that_names_the_fix_and_a_cpu_needs_no_plugins(tmp_path):
    found = findings(trees.Project(tmp_path / 'project', reachable=False), CUDA_VISIBLE_DEVICES='')
    assert found['upstream'] == dict(part='upstream', state='error',
        detail='stylegan2-ada-pytorch is empty: run ./install.sh')
    assert found['patches'] == dict(part='patches', state='error', detail='no tree to patch')
    assert found['ops'] == dict(part='ops', state='ok', detail="PyTorch's, as always on the CPU")
    assert found['device']['detail'].startswith('CPU, ')

def test_missing_patches_are_an_error_and_edited_files_a_warning(tmp_path, pypi_tree):
    project = trees.Project(tmp_path / 'project', reachable=False)
    shutil.copytree(pypi_tree, project.tree, dirs_exist_ok=True)
    (project.tree / 'dataset_tool.py').write_text('# mine\n')
    found = findings(project)
    assert found['upstream']['state'] == 'warning'
    assert found['upstream']['detail'] == 'assembled from Python packages, commit d72cc7d, modified: dataset_tool.py'
    detail = ', '.join(f'{name} is not applied'
        for name in ['networks', 'tools', 'train', 'training']) + ': run ./install.sh'
    assert found['patches'] == dict(part='patches', state='error', detail=detail)

def test_cached_detectors_are_found_where_dnnlib_looks_for_them(tmp_path, monkeypatch):
    cache = tmp_path / 'cache'
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(cache))
    state, detail = doctor.check_detectors()
    assert state == 'warning'
    assert detail.startswith('inception-2015-12-05, vgg16 not cached: metrics download them when first used')
    (cache / 'downloads').mkdir(parents=True)
    for name in ('inception-2015-12-05', 'vgg16'):
        url = f'https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{name}.pt'
        (cache / 'downloads' / f'{hashlib.md5(url.encode()).hexdigest()}_{name}.pt').write_bytes(b'')
    assert doctor.check_detectors() == ('ok', f'inception-2015-12-05, vgg16 cached in {cache / "downloads"}')

def test_a_check_that_fails_is_an_error_line_and_no_traceback(monkeypatch):
    def burn():
        raise OSError('the disk is on fire\nseriously')
    def lack():
        raise ModuleNotFoundError("No module named 'torch'", name='torch')
    monkeypatch.setattr(doctor, 'CHECKS', dict(disk=burn, device=lack))
    assert doctor.examine() == [
        doctor.Finding('disk', 'error', 'OSError: the disk is on fire'),
        doctor.Finding('device', 'error', 'needs the Python module torch: run ./install.sh'),
    ]

@pytest.mark.parametrize('obstacle, problem, finding', [
    (None, None, ('ok', "upstream's CUDA plugins, built at the first run on this GPU, which takes some minutes")),
    ('no ninja', None, ('ok', "Triton kernels; for upstream's CUDA plugins: no ninja")),
    ('no ninja', 'no Triton', ('warning', "PyTorch operations, which are slower; for upstream's CUDA plugins: "
        "no ninja; for Triton kernels: no Triton")),
])
def test_on_a_gpu_the_ops_that_would_run_are_named_with_what_keeps_faster_ones_away(monkeypatch, tmp_path, obstacle,
        problem, finding):
    monkeypatch.setenv('TORCH_EXTENSIONS_DIR', str(tmp_path))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(cuda_build, 'obstacle', lambda: obstacle)
    monkeypatch.setattr(ops, 'triton_problem', lambda: problem)
    assert doctor.check_custom_ops() == finding
    if obstacle is None:
        for name in cuda_build.NAMES:
            (tmp_path / f'{name}_plugin' / f'{name}_plugin.so').touch()
        assert doctor.check_custom_ops() == ('ok', "upstream's CUDA plugins, built")

def test_a_full_disk_is_an_error(monkeypatch):
    usage = shutil.disk_usage('/')
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage._replace(free=int(5e8)))
    assert doctor.check_disk() == ('error', '0.5 GB free; long trainings write many snapshots of some 100 MB')
