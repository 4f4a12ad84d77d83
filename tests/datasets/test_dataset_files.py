"""What belongs to a data set: the same for our checks, for upstream's ImageFolderDataset, and for metrics."""

import json
import os
import shutil
import subprocess
import sys

import PIL.Image
import pytest
import torch

from sarigan_plugin.datasets import check as dataset_check, listing
from sarigan_plugin.datasets.inpainting import InpaintingDataset
from sarigan_plugin.evaluation import inpainting
from sarigan_plugin.explore.inpaint_studio import Album
from sarigan_plugin.support import files, pictures
from sarigan_plugin.trainer import upstream_loop

from training import dataset

@pytest.fixture(autouse=True)
def prepared():
    upstream_loop.prepare('cpu')
    yield
    upstream_loop.prepare('cpu')

def save(path, red=0, size=16):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new('RGB', (size, size), (red, 0, 0)).save(path)

IMAGES = ['1.png', 'x/2.PNG', 'x/y/3.bmp']
JUNK_IMAGES = ['.ipynb_checkpoints/x.png', '@eaDir/1.png/SYNOPHOTO_THUMB.png', '.hidden.png', 'x/.thumbs/a.png']
# Upstream takes what PIL can write, as pdf, for images.
JUNK_BYTES = ['._1.png', '__MACOSX/._1.png', 'x/@eaDir/2.png', 'Thumbs.db', '.DS_Store', 'notes.txt',
    'film.mpg', 'page.pdf']

@pytest.fixture
def messy(tmp_path):
    """A folder of three images with labels, and of what systems leave among them."""
    folder = tmp_path / 'messy'
    for number, name in enumerate(IMAGES, 1):
        save(folder / name, number)
    for name in JUNK_IMAGES:
        save(folder / name, 200, size=32)
    for name in JUNK_BYTES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b'junk')
    (folder / 'dataset.json').write_text(
        json.dumps(dict(labels=[[name, index] for index, name in enumerate([*IMAGES, '.hidden.png'])])))
    return folder

def as_zip(folder):
    return shutil.make_archive(str(folder), 'zip', folder)

@pytest.mark.parametrize('packed', [str, as_zip])
@pytest.mark.parametrize('kind', [dataset.ImageFolderDataset, InpaintingDataset])
def test_junk_is_no_part_of_a_data_set(messy, packed, kind):
    path = packed(messy)
    summary = dataset_check.check(path)
    assert (summary.count, summary.resolution, summary.num_classes) == (3, 16, 3)
    made = kind(path=path, use_labels=True)
    assert [int(made[index][0][0, 0, 0]) for index in range(len(made))] == [1, 2, 3]
    if kind is dataset.ImageFolderDataset:
        assert [made.get_label(index).tolist() for index in range(3)] == torch.eye(3).tolist()

@pytest.mark.parametrize('packed', [str, as_zip])
def test_nor_of_what_is_completed_for_a_table(messy, packed):
    task = inpainting.read_task(packed(messy), 'all', 'centre')
    assert task.truth[:, 0, 0, 0].tolist() == [1, 2, 3]

@pytest.mark.parametrize('packed', [str, as_zip])
def test_junk_does_not_tell_a_data_set_from_another(messy, packed):
    before = files.fingerprint(packed(messy))
    save(messy / '.ipynb_checkpoints' / 'another.png')
    (messy / '.DS_Store').write_bytes(b'changed')
    assert files.fingerprint(packed(messy)) == before
    save(messy / '1.png', 99, size=32)
    assert files.fingerprint(packed(messy)) != before

def test_upstreams_own_metrics_script_lists_the_same(messy):
    """As calc_metrics.py does, whose patched line asks for host_torch;
    the class and its arguments are those of any tree."""
    code = ('import sys, dnnlib, pickle\n'
        'from sarigan_plugin.hooks import host_torch as torch\n'
        'kwargs = dict(class_name="training.dataset.ImageFolderDataset", path=sys.argv[1])\n'
        'made = dnnlib.util.construct_class_by_name(**kwargs)\n'
        'print(len(made), type(made).__module__, type(made).__name__, len(pickle.loads(pickle.dumps(made))))\n')
    done = subprocess.run([sys.executable, '-c', f'import sarigan_plugin\n{code}', str(messy)], capture_output=True,
        text=True, check=True)
    assert done.stdout.split() == ['3', 'training.dataset', 'ImageFolderDataset', '3']

def test_linked_folders_are_followed_each_once(tmp_path):
    save(tmp_path / 'set' / 'real' / '1.png', 1)
    save(tmp_path / 'elsewhere' / '2.png', 2)
    os.symlink(tmp_path / 'elsewhere', tmp_path / 'set' / 'linked')
    os.symlink(tmp_path / 'elsewhere', tmp_path / 'set' / 'twice')
    os.symlink(tmp_path / 'set', tmp_path / 'set' / 'round')
    os.symlink(tmp_path / 'set', tmp_path / 'link')
    for path in [tmp_path / 'set', tmp_path / 'link']: # What is named may be a link as well.
        made = dataset.ImageFolderDataset(str(path))
        assert (made._image_fnames == ['linked/2.png', 'real/1.png']
            and dataset_check.check(path).count == len(made) == 2)
        assert [int(made[index][0][0, 0, 0]) for index in range(2)] == [2, 1]

def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    save(tmp_path / 'set' / '1.png')
    def closed(path):
        raise PermissionError(13, 'Permission denied', path)
    monkeypatch.setattr(os, 'scandir', closed)
    with pytest.raises(ValueError, match=rf'^{tmp_path}/set cannot be read: Permission denied$'):
        dataset_check.check(tmp_path / 'set')

def test_what_is_left_out_is_so_by_path_and_until_the_next_preparation(messy):
    upstream_loop.prepare('cpu', left_out={str(messy): ['x/2.PNG']})
    assert dataset.ImageFolderDataset(str(messy))._image_fnames == ['1.png', 'x/y/3.bmp']
    assert len(dataset.ImageFolderDataset(as_zip(messy))) == 3
    upstream_loop.prepare('cpu')
    assert len(dataset.ImageFolderDataset(str(messy))) == 3

#----------------------------------------------------------------------------
# The commands that take pictures of any kind.

def names_of(paths, folder):
    return [os.path.relpath(path, folder) for path in paths]

def test_commands_that_take_pictures_leave_junk_alone(messy):
    assert names_of(pictures.files_in(str(messy)), messy) == ['1.png'] # Those of sub-folders may be masks.
    assert names_of(Album(str(messy)).names, messy) == ['1.png']
    assert Album(as_zip(messy)).names == ['1.png', 'x/2.PNG', 'x/y/3.bmp']
    save(messy / 'folder.png' / '4.png')
    assert names_of(pictures.files_in(str(messy)), messy) == ['1.png']

def test_a_folder_with_pictures_in_its_folders_alone_is_refused_with_one_of_these(messy):
    (messy / '1.png').unlink()
    with pytest.raises(ValueError, match=rf"^'{messy}' has no images in it, but in folders in it, as '{messy}/x': "
            r"give one of these.$"):
        pictures.files_in(str(messy))

def test_a_single_file_of_junk_is_named_as_such(messy):
    with pytest.raises(ValueError,
            match=rf"^'{messy}/._1.png' is a file that the system has left beside images, and none itself.$"):
        pictures.read(str(messy / '._1.png'))
    assert pictures.read(str(messy / '.hidden.png')).size == (32, 32) # Who names a hidden image means it.

def test_the_listing_keeps_labels_and_sorts_images():
    assert listing.listed(['b.png', 'dataset.json', 'a.JPG', '.c.png', 'x/dataset.json', 'note.txt'],
        left_out=['b.png']) == ['a.JPG', 'dataset.json']
