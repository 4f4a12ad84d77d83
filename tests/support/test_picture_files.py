"""Which files are pictures."""

import os

import pytest

from sarigan_plugin.support import picture_files

@pytest.mark.parametrize('name',
    ['a.png', 'a.JPG', 'deep/er/a.Tiff', 'a b.webp', 'a.png.jpeg', './a.png', '00000/img00000000.png', 'thumbs/a.png'])
def test_pictures_are_told_by_their_extension(name):
    assert picture_files.is_picture(name)

@pytest.mark.parametrize('name', ['._a.png', '__MACOSX/._0.png', '__MACOSX/a.png', '.ipynb_checkpoints/x.png',
    '@eaDir/a.jpg', 'x/@eaDir/a.jpg/SYNO.png', 'x\\__MACOSX\\a.png'])
def test_junk_is_no_picture(name):
    assert picture_files.is_junk(name) and not picture_files.is_picture(name)

@pytest.mark.parametrize('name', ['a.txt', 'a', 'a.mpg', 'a.mp4', 'Thumbs.db', 'dataset.json', 'png', '.png', 'a.pdf'])
def test_other_files_are_no_pictures(name):
    assert not picture_files.is_picture(name)

def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()

def test_folders_are_walked_with_their_links_each_once(tmp_path):
    top = tmp_path / 'top'
    for name in ['z/1.png', 'z/deep/2.png', '3.png', '.hidden/4.png', '__MACOSX/5.png']:
        touch(top / name)
    touch(tmp_path / 'elsewhere' / '6.png')
    os.symlink(top / 'z', top / 'a') # Sorted before what it leads to.
    os.symlink(tmp_path / 'elsewhere', top / 'linked')
    os.symlink(tmp_path / 'elsewhere', top / 'linked again')
    os.symlink(top, top / 'z' / 'up')
    os.symlink(tmp_path / 'nowhere', top / 'broken.png')
    assert picture_files.walk(top) == ['3.png', 'broken.png', 'linked/6.png', 'z/1.png', 'z/deep/2.png']
