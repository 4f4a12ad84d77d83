"""A wheel, installed into a folder of its own and run from another one: no checkout is near."""

import json
import shutil
import sys
import zipfile
from pathlib import Path

import PIL.Image
import pytest

import trees

SOURCES = ('sarigan_plugin', 'configs', 'patches', 'pyproject.toml', 'setup.py', 'MANIFEST.in', 'README.md', 'LICENSE')

@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """A wheel of a copy of the project, since setuptools leaves build/ behind."""
    folder = tmp_path_factory.mktemp('wheel')
    for name in SOURCES:
        source = trees.ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / 'project' / name, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy(source, folder / 'project' / name)
    done = trees.run([sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps',
        '--no-build-isolation', '--no-index',
        f'--wheel-dir={folder}', folder / 'project'], folder)
    assert done.returncode == 0, done.stderr
    return next(folder.glob('*.whl'))

@pytest.fixture
def sarigan(wheel, tmp_path):
    """sarigan(*arguments, **environment) -> the finished process of the wheel's `sarigan`;
    its home is tmp_path/home."""
    site, home, elsewhere = (tmp_path / name for name in ('site', 'home', 'elsewhere'))
    home.mkdir()
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    def run(*arguments, **environment):
        environment = dict(PYTHONPATH=site, HOME=home, XDG_DATA_HOME='', SARIGAN_UPSTREAM='') | environment
        return trees.run([sys.executable, '-m', 'sarigan_plugin', *arguments], elsewhere, **environment)
    return run

def test_the_wheel_has_every_file_of_the_package_and_the_configs_and_patches(wheel):
    def files(name):
        return {path.relative_to(trees.ROOT) for path in (trees.ROOT / name).rglob('*')
                if path.is_file() and '__pycache__' not in path.parts}
    wanted = files('sarigan_plugin') | {Path('sarigan_plugin', path) for name in ('configs', 'patches')
        for path in files(name)}
    with zipfile.ZipFile(wheel) as archive:
        found = {Path(name) for name in archive.namelist() if '.dist-info/' not in name}
        entry_points, = [name for name in archive.namelist() if name.endswith('.dist-info/entry_points.txt')]
        assert 'sarigan = sarigan_plugin.cli:main' in archive.read(entry_points).decode()
    assert found == wanted

def test_without_a_tree_it_says_which_command_fetches_one(sarigan, tmp_path):
    assert 'Usage: sarigan [OPTIONS]' in sarigan('--help').stdout
    tree = tmp_path / 'home' / '.local' / 'share' / 'sarigan' / 'stylegan2-ada-pytorch'
    findings = {found['part']: found['detail'] for found in json.loads(sarigan('doctor', '--json').stdout)['findings']}
    assert findings['upstream'] == f'{tree} is empty: run `sarigan upstream`'
    done = sarigan('train', '--cfg=tiny', '--dry-run')
    assert (done.returncode, done.stderr) == (2,
        'Error: `sarigan train` needs the Python module dnnlib, which is not installed: run `sarigan upstream`.\n')

def test_its_configs_and_patches_are_found_and_the_users_own_tree_is_patched_and_trains(sarigan, tmp_path, pypi_tree):
    tree = tmp_path / 'my tree'
    shutil.copytree(pypi_tree, tree)
    done = sarigan('upstream', SARIGAN_UPSTREAM=tree)
    assert (done.stdout == f'{tree}: assembled from Python packages, commit d72cc7d, patches networks, tools, train, '
        'training applied\n'), done.stderr

    findings = {found['part']: found
        for found in json.loads(sarigan('doctor', '--json', SARIGAN_UPSTREAM=tree).stdout)['findings']}
    assert (findings['upstream']['detail'] == 'assembled from Python packages, commit d72cc7d, '
        'unmodified apart from our patches')
    assert findings['patches']['detail'] == 'networks, tools, train, training applied'
    assert findings['disk']['state'] != 'error'

    images = tmp_path / 'images'
    images.mkdir()
    for name in '1234':
        PIL.Image.new('RGB', (32, 32)).save(images / f'{name}.png')
    done = sarigan('train', '--cfg=tiny', f'--data={images}', f'--outdir={tmp_path / "runs"}', '--dry-run',
        SARIGAN_UPSTREAM=tree)
    assert done.returncode == 0, done.stderr
    assert '"class_name": "sarigan_plugin.networks.Generator"' in done.stdout
    assert not (tmp_path / 'runs').exists()

@pytest.mark.parametrize('kind', ['default', 'XDG_DATA_HOME'])
def test_the_tree_is_assembled_in_the_users_folder_of_data(sarigan, tmp_path, pypi_tree, kind):
    data = tmp_path / 'home' / '.local' / 'share' if kind == 'default' else tmp_path / 'data'
    tree = data / 'sarigan' / 'stylegan2-ada-pytorch'
    shutil.copytree(pypi_tree, tree) # As `sarigan upstream` leaves it when it is killed before it has patched it.
    done = sarigan('upstream', XDG_DATA_HOME='' if kind == 'default' else data)
    assert done.stdout.startswith(f'{tree}: assembled'), done.stderr

def test_where_no_package_can_be_had_one_sentence_names_no_checkout(sarigan, tmp_path):
    done = sarigan('upstream', PIP_NO_INDEX=1, PIP_FIND_LINKS='', PIP_CONFIG_FILE='/dev/null')
    folder = tmp_path / 'home' / '.local' / 'share' / 'sarigan'
    assert done.returncode == 2
    assert done.stderr.startswith('Error: stylegan2-ada-pytorch cannot be had: '
        f'{folder} is not a git checkout of sarigan, ')
    assert done.stderr.count('\n') == 1

#----------------------------------------------------------------------------
