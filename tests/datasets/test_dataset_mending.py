"""The line of `sarigan data folder` that mends what can't be trained on."""

import io
import os
import shlex
import tarfile
import zipfile

import PIL.Image
import pytest
from click.testing import CliRunner

from sarigan_plugin.commands.ablate import ablate_command
from sarigan_plugin.commands.inpaint_table import inpaint_table_command
from sarigan_plugin.commands.metrics import metrics_command
from sarigan_plugin.commands.train import main as train
from sarigan_plugin.datasets import check as dataset_check, mending

def picture(width=100, height=80, mode='RGB'):
    stream = io.BytesIO()
    PIL.Image.new(mode, (width, height)).save(stream, 'png')
    return stream.getvalue()

def write(folder, **pictures):
    """A folder of pictures, by their names without endings; __ stands for a folder."""
    for name, content in pictures.items():
        path = folder / f'{name.replace("__", "/")}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder

@pytest.mark.parametrize('sizes, resolution', [([(100, 80)], 64), ([(64, 64)], 64), ([(63, 200)], 32),
    ([(9, 9), (500, 400)], 8), ([(1500, 1100)], 1024), ([(5000, 3000)], 1024),
    ([(300, 300)] * 25 + [(20, 20)], 256)])
def test_the_resolution_is_the_largest_power_of_two_that_the_pictures_have(tmp_path, sizes, resolution):
    folder = write(tmp_path / 'photos', **{f'p{index:02d}': picture(*size) for index, size in enumerate(sizes)})
    assert shlex.split(mending.line(str(folder))) == ['sarigan', 'data', 'folder', str(folder),
        f'--dest={folder}-{resolution}.zip', f'--resolution={resolution}']

def test_pictures_smaller_than_any_network_are_enlarged(tmp_path):
    assert mending.line(str(write(tmp_path / 'dots', a=picture(5, 7)))).endswith('-8.zip --resolution=8 --enlarge')

@pytest.mark.parametrize('name', ['my photos', "it's", 'a$b`c`', '-rf', 'ünï', 'a;b', '*'])
def test_the_line_can_be_pasted(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name, a=picture())
    words = shlex.split(mending.line(name))
    assert words[:3] == ['sarigan', 'data', 'folder'] and not words[3].startswith('-') and os.path.samefile(words[3],
        name)
    assert words[4] == f'--dest={name}-64.zip'

def test_what_is_there_is_not_written_over(tmp_path):
    folder = write(tmp_path / 'photos', a=picture())
    for expected in ['photos-64.zip', 'photos-64-2.zip', 'photos-64-3.zip']:
        assert f'--dest={tmp_path / expected} ' in mending.line(str(folder))
        (tmp_path / expected).touch()

@pytest.mark.parametrize('path', ['.', './', '../photos', '../photos/'])
def test_the_zip_is_put_beside_a_folder_not_into_it(tmp_path, monkeypatch, path):
    folder = write(tmp_path / 'photos', a=picture())
    monkeypatch.chdir(folder)
    dest, = [word.removeprefix('--dest=') for word in shlex.split(mending.line(path)) if word.startswith('--dest=')]
    assert os.path.abspath(dest) == f'{folder}-64.zip'

def test_where_nothing_can_be_written_the_zip_is_put_into_the_current_folder(tmp_path, monkeypatch):
    folder = write(tmp_path / 'photos', a=picture())
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    assert '--dest=photos-64.zip ' in mending.line(str(folder))

@pytest.mark.parametrize('name', ['photos.tar', 'photos.tar.gz', 'photos.tgz'])
def test_a_tar_file_is_known_by_what_is_in_it(tmp_path, name):
    folder, path = write(tmp_path / 'in', a=picture(), sub__b=picture(40, 50)), tmp_path / name
    with tarfile.open(path, 'w:gz' if 'gz' in name else 'w') as archive:
        archive.add(folder, 'in')
    with pytest.raises(ValueError) as caught:
        dataset_check.check(path)
    assert str(caught.value) == (f'{path} is a tar file, neither a folder nor a .zip file; '
        f'this makes a data set of it: sarigan data folder {path} --dest={tmp_path}/photos-32.zip --resolution=32')

def test_junk_does_not_count(tmp_path):
    folder = write(tmp_path / 'photos', a=picture(), **{'.ipynb_checkpoints__a': picture(9, 9), '._a': b'junk'})
    assert '--resolution=64' in mending.line(str(folder))

def test_without_pictures_there_is_no_line(tmp_path):
    assert mending.line(str(write(tmp_path / 'none', a=b'junk'))) is None

@pytest.mark.parametrize('pictures, found', [(['cat__a', 'dog__b', 'dog__deep__c'], True), (['cat__a', 'b'], False),
    (['cat__a', 'cat__b'], False), (['00000__a', '00001__b'], False)])
def test_folders_that_may_be_classes(tmp_path, pictures, found):
    assert mending.has_folders_of_classes(str(write(tmp_path / 'set', **dict.fromkeys(pictures, picture())))) is found

#----------------------------------------------------------------------------
# In every command.

def zip_of(path, *contents):
    with zipfile.ZipFile(path, 'w') as archive:
        for index, content in enumerate(contents):
            archive.writestr(f'{index}.png', content)
    return path

@pytest.fixture
def commands(network, tmp_path):
    """{name: (click command, arguments)} of all that take a data set to be trained on or compared with."""
    return {
        'train':            (train, [f'--outdir={tmp_path}/out', '--cfg=tiny', '--metrics=none', '--dry-run']),
        'ablate':           (ablate_command, ['info', '--setting=tiny', f'--outdir={tmp_path}/out']),
        'metrics':          (metrics_command, [str(network)]),
        'inpaint-table':    (inpaint_table_command, [f'--outdir={tmp_path}/out', '--baselines=telea']),
    }

@pytest.mark.parametrize('name', ['train', 'ablate', 'metrics', 'inpaint-table'])
def test_every_command_says_what_is_wrong_and_how_to_mend_it(commands, tmp_path, name):
    command, arguments = commands[name]
    data = write(tmp_path / 'my photos', a=picture())
    done = CliRunner().invoke(command, [*arguments, f'--data={data}'])
    assert done.exit_code == 2 and not os.path.exists(tmp_path / 'out')
    assert done.stderr.strip().splitlines()[-1].endswith("--data: a.png is 100x80, but images must be square; "
        f"this makes a data set of it: sarigan data folder '{data}' '--dest={data}-64.zip' --resolution=64")

def test_metrics_tells_how_to_make_images_like_those_of_the_network(commands, tmp_path):
    command, arguments = commands['metrics']
    data = zip_of(tmp_path / 'grey.zip', *[picture(32, 32, 'L')] * 12)
    done = CliRunner().invoke(command, [*arguments, f'--data={data}'])
    assert done.stderr.strip().endswith('has images of 1 channels, but the network makes images of 3; this makes a '
        f'data set like these: sarigan data folder {data} --dest={tmp_path}/grey-32.zip --resolution=32 --colour=rgb')

def test_metrics_names_an_image_that_only_measuring_finds_bad(commands, tmp_path, monkeypatch):
    command, arguments = commands['metrics']
    data = zip_of(tmp_path / 'set.zip', *[picture(32, 32)] * 11, picture(32, 32)[:-30])
    monkeypatch.setattr(dataset_check, 'PIXEL_BUDGET', 1)
    done = CliRunner().invoke(command, [*arguments, f'--data={data}', '--num-samples=10'])
    last = done.stderr.strip().splitlines()[-1]
    assert (done.exit_code == 2 and last.startswith('Error: --data: 11.png cannot be read')
        and f'; this makes a data set of it: sarigan data folder {data} ' in last)

def test_training_with_labels_proposes_folders_for_classes(commands, tmp_path):
    command, arguments = commands['train']
    data = write(tmp_path / 'set', cat__a=picture(32, 32), dog__b=picture(32, 32))
    done = CliRunner().invoke(command, [*arguments, f'--data={data}', '--cond=1'])
    assert done.exit_code == 2 and done.stderr.strip() == ('Error: '
        '--cond=True requires labels specified in dataset.json; this makes a data set with folders for classes: '
        f'sarigan data folder {data} --dest={data}-32.zip --resolution=32 --labels=folders')
