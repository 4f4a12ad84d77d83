"""`sarigan data folder`: from pictures of a user to a data set, whatever is among them and however it ends."""

import collections
import fcntl
import importlib
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import types
import unicodedata
import zipfile

import numpy as np
import PIL.Image
import PIL.ImageFont
import psutil
import pytest
from click.testing import CliRunner
from hypothesis import given, settings, strategies as st

import limits
import trees
from sarigan_plugin.commands import train
from sarigan_plugin.commands.data import data_command
from sarigan_plugin.datasets import check as dataset_check, folder, picture_labels, picture_sources
from sarigan_plugin.errors import UserError
from sarigan_plugin.support import processes

#----------------------------------------------------------------------------
# Pictures, and what the command says.

def noise(seed, width=8, height=8, mode='RGB'):
    pixels = np.random.RandomState(seed).randint(256, size=[height, width, 4])
    return PIL.Image.fromarray(pixels.astype(np.uint8)).convert(mode)

def encoded(image, kind='PNG', **kwargs):
    stream = io.BytesIO()
    image.save(stream, kind, **kwargs)
    return stream.getvalue()

def fill(place, contents):
    """Write {name: image or bytes} into a folder. Returns it."""
    for name, content in contents.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else encoded(content))
    return place

def run(source, dest, *args):
    """What `sarigan data folder` leaves: exit code, and the lines of stdout and stderr."""
    done = CliRunner().invoke(data_command, ['folder', str(source), f'--dest={dest}', *map(str, args)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    assert '\x1b' not in done.output
    return types.SimpleNamespace(code=done.exit_code, out=done.stdout, lines=done.stdout.splitlines(),
        errors=done.stderr.splitlines())

def make(source, dest, *args):
    """Run it where it should succeed. Returns what is in the zip, and in the report, and what was said."""
    done = run(source, dest, *args)
    assert done.code == 0 and done.errors == [], done.errors
    with zipfile.ZipFile(dest) as archive:
        names = archive.namelist()
        attributes = json.loads(archive.read(names.pop())) if names[-1] == 'attributes.json' else None
        assert names == [*(f'{index // 1000:05d}/img{index:08d}.png' for index in range(len(names) - 1)),
            'dataset.json']
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        pictures = [np.array(PIL.Image.open(io.BytesIO(archive.read(name)))) for name in names[:-1]]
        table = json.loads(archive.read('dataset.json'))
    assert dataset_check.check(dest).count == len(pictures)
    report = json.loads(dest.with_suffix('.report.json').read_text())
    return types.SimpleNamespace(pictures=pictures, table=table, attributes=attributes,
        labels=table['labels'] and [label for _name, label in table['labels']], report=report,
        left_out={entry['name']: entry['reason'] for entry in report['left_out']}, said=done.out)

def fault(source, dest, *args):
    """The sentence of a run that must fail and leave nothing."""
    before = sorted(dest.parent.rglob('*')) if dest.parent.exists() else None
    done = run(source, dest, *args)
    assert done.code == 2 and len(done.errors) == 1, done
    assert (sorted(dest.parent.rglob('*')) if dest.parent.exists() else None) == before
    return done.errors[0].removeprefix('Error: ')

def same(picture, image):
    return np.array_equal(picture, np.array(image))

#----------------------------------------------------------------------------
# Sources.

CONTENTS = {'a.png': noise(1), 'b/c.PNG': noise(2), 'b/d/e.bmp': encoded(noise(3), 'BMP'),
    'b-/f.webp': encoded(noise(4), 'WEBP', lossless=True), 'G.tif': encoded(noise(5), 'TIFF')}
IN_ORDER = [5, 1, 2, 3, 4] # Seeds. By parts of names: b/c before b-/f, as upstream orders the files of a folder.

def archive_of(path, contents, prefix=''):
    """A zip or a tar, by its name, of {name: image or bytes}."""
    contents = {prefix + name: content if isinstance(content, bytes) else encoded(content)
        for name, content in contents.items()}
    if path.suffix == '.zip':
        with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        return path
    modes = {'.tar': 'w', '.gz': 'w:gz', '.tgz': 'w:gz', '.xz': 'w:xz', '.bz2': 'w:bz2'}
    with tarfile.open(path, modes[path.suffix]) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path

@pytest.mark.parametrize('kind', ['.zip', '.tar', '.tar.gz', '.tgz', '.tar.xz', '.tar.bz2'])
@pytest.mark.parametrize('prefix', ['', './', 'photos/', './photos/'])
def test_folders_and_archives_of_the_same_pictures_give_the_same_bytes(tmp_path, kind, prefix):
    made = make(fill(tmp_path / 'src', CONTENTS), tmp_path / 'a.zip')
    assert len(made.pictures) == 5 and all(same(picture, noise(seed)) for picture, seed in zip(made.pictures, IN_ORDER))
    make(archive_of(tmp_path / f'src{kind}', dict(reversed(CONTENTS.items())), prefix), tmp_path / 'b.zip')
    assert (tmp_path / 'a.zip').read_bytes() == (tmp_path / 'b.zip').read_bytes()
    beside = [f'{name}.{end}' for name in 'ab' for end in ['zip', 'preview.png', 'report.json']]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(['src', f'src{kind}', *beside])

def test_names_in_zips_of_macs_are_utf8_which_they_do_not_say(tmp_path):
    source = archive_of(tmp_path / 'src.zip', {'Vögel/1.png': noise(1), '猫/1.png': noise(2), 'dogs/1.png': noise(3)},
        'Tiere/')
    content = bytearray(source.read_bytes())
    for mark, place in [(b'PK\3\4', 6), (b'PK\1\2', 8)]: # Take away the flag that says so.
        start = content.find(mark)
        while start >= 0:
            content[start + place + 1] &= ~8
            start = content.find(mark, start + 4)
    source.write_bytes(content)
    assert 'Vögel/1.png' not in str(zipfile.ZipFile(source).namelist())
    assert make(source, tmp_path / 'a.zip', '--labels=folders').table['label_names'] == ['Vögel', 'dogs', '猫']

def test_a_zip_made_on_a_mac(tmp_path):
    decomposed = unicodedata.normalize('NFD', 'Café.jpg')
    contents = {'Photos/IMG_1.JPG': encoded(noise(1), 'JPEG'), f'Photos/{decomposed}': encoded(noise(2), 'JPEG'),
        'Photos/.DS_Store': b'x', '__MACOSX/Photos/._IMG_1.JPG': b'\0\5\x16\7', '__MACOSX/._Photos': b'x'}
    made = make(archive_of(tmp_path / 'Photos.zip', contents), tmp_path / 'a.zip')
    assert len(made.pictures) == 2 and made.left_out == {} and made.report['other_files'] == dict(junk=2)
    assert 'Other files: 2 hidden or of a system.' in made.said

def test_other_files_are_counted_and_never_fatal(tmp_path):
    junk = {'Thumbs.db': b'x', '.hidden.png': b'x', '@eaDir/a.png': b'x', '__MACOSX/b.png': b'x',
        '__MACOSX/c.png': b'x', 'notes.txt': b'x', 'film.MP4': b'x', 'film2.mp4': b'x', 'README': b'x',
        '.git/d.png': b'x'}
    expected = {'.txt': 1, '.mp4': 2, 'without extension': 1, 'junk': 5}
    made = make(fill(tmp_path / 'src', CONTENTS | junk), tmp_path / 'a.zip')
    assert len(made.pictures) == 5 and made.left_out == {} and made.report['other_files'] == expected
    made = make(archive_of(tmp_path / 'src.tar.gz', CONTENTS | junk), tmp_path / 'b.zip')
    assert made.report['other_files'] == expected

def test_pictures_that_pillow_cannot_read_are_named(tmp_path):
    made = make(fill(tmp_path / 'src', CONTENTS | {'IMG_2.HEIC': b'x', 'raw.NEF': b'x', 'x.svg': b'<svg>'}),
        tmp_path / 'a.zip')
    reason = 'in a format that Pillow does not read (convert to JPEG)'
    assert made.left_out == {'IMG_2.HEIC': f'{reason}: HEIC', 'raw.NEF': f'{reason}: a raw format of cameras',
        'x.svg': f'{reason}: SVG'}
    assert f'  3 left out, {reason}: IMG_2.HEIC, raw.NEF, x.svg\n' in made.said

def test_broken_pictures_are_listed_with_their_reasons_and_left_out(tmp_path):
    source = fill(tmp_path / 'src', CONTENTS | {'cut.png': encoded(noise(9, 100, 100))[:900], 'empty.jpg': b'',
        'page.jpg': b'<html>', 'huge.ppm': b'P6 100000 100000 255\n', 'small.png': noise(9, 7, 9)})
    os.mkfifo(source / 'pipe.png')
    os.symlink('nowhere', source / 'link.png')
    made = make(source, tmp_path / 'a.zip')
    assert len(made.pictures) == 5 and made.left_out.pop('cut.png').startswith('broken, or no picture: ')
    assert made.left_out == {'empty.jpg': 'broken, or no picture: it is empty',
        'page.jpg': 'broken, or no picture: it is a web page',
        'huge.ppm': 'too many pixels to be safe: more than 178 million',
        'pipe.png': 'broken, or no picture: it is no regular file',
        'link.png': 'broken, or no picture: it cannot be read: No such file or directory',
        'small.png': 'too small without --enlarge: 7x9'}

def test_linked_folders_are_followed_and_each_is_read_once(tmp_path):
    fill(tmp_path / 'elsewhere', {'z.png': noise(9)})
    source = fill(tmp_path / 'src', CONTENTS)
    os.symlink(tmp_path / 'elsewhere', source / 'y')
    os.symlink(tmp_path / 'elsewhere', source / 'z')
    os.symlink(source, source / 'b' / 'up')
    assert len(make(source, tmp_path / 'a.zip').pictures) == 6

def test_names_in_archives_are_no_paths(tmp_path):
    (tmp_path / 'inside').mkdir()
    for kind in ['.zip', '.tar', '.tar.gz']:
        source = archive_of(tmp_path / f'src{kind}',
            {'../../up.png': noise(1), '/absolute.png': noise(2), 'b\\back.png': noise(3)})
        assert len(make(source, tmp_path / 'inside' / f'a{kind}.zip').pictures) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ['inside', 'src.tar', 'src.tar.gz', 'src.zip']

@pytest.mark.parametrize('kind', ['.tar', '.tar.gz'])
def test_of_equal_names_the_last_counts_and_links_within_a_tar_are_followed(tmp_path, kind):
    source = tmp_path / f'src{kind}'
    with tarfile.open(source, 'w:gz' if kind == '.tar.gz' else 'w') as tar:
        for name, seed in [('a.png', 1), ('b.png', 2), ('a.png', 3)]:
            member, content = tarfile.TarInfo(name), encoded(noise(seed))
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        links = [('c.png', tarfile.LNKTYPE, 'a.png'), ('d.png', tarfile.LNKTYPE, '/etc/passwd'),
            ('e.png', tarfile.SYMTYPE, 'a.png'), ('f.png', tarfile.FIFOTYPE, '')]
        for name, kind_of_link, link in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind_of_link, link
            tar.addfile(member)
    made = make(source, tmp_path / 'a.zip')
    assert len(made.pictures) == 3
    assert all(same(picture, noise(seed)) for picture, seed in zip(made.pictures, [3, 2, 3]))
    reason = 'broken, or no picture: it is a link, or no regular file'
    assert made.left_out == {'d.png': reason, 'e.png': reason, 'f.png': reason}

@pytest.mark.parametrize('kind', ['.zip', '.tar', '.tar.gz'])
def test_members_that_unpack_to_too_much_are_refused_by_what_they_claim(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(picture_sources, 'MAX_MEMBER_BYTES', 10 ** 6)
    bomb = encoded(PIL.Image.new('RGB', (8, 8)), 'BMP') + bytes(10 ** 6)
    made = make(archive_of(tmp_path / f'src{kind}', CONTENTS | {'bomb.bmp': bomb}), tmp_path / 'a.zip')
    reason = f'it has {len(bomb)} bytes unpacked, more than the 1000000 that are read'
    assert made.left_out == {'bomb.bmp': f'broken, or no picture: {reason}'}

def test_damaged_and_encrypted_members_of_zips_are_left_out(tmp_path):
    source = archive_of(tmp_path / 'src.zip',
        {name: noise(seed, 50, 50) for seed, name in enumerate(['a.png', 'b.png', 'c.png'])})
    content = bytearray(source.read_bytes())
    with zipfile.ZipFile(source) as archive:
        offset = archive.getinfo('a.png').header_offset
    content[offset + 14] ^= 255 # Of the checksum.
    for place in [content.rindex(b'PK\1\2'), content.rindex(b'PK\3\4')]: # c.png is encrypted, it says.
        content[place + (8 if content[place + 2] == 1 else 6)] |= 1
    content[content.index(b'PK\1\2') + 16] ^= 255
    source.write_bytes(content)
    made = make(source, tmp_path / 'a.zip', '--resolution=32')
    assert len(made.pictures) == 1
    assert same(made.pictures[0], noise(1, 50, 50).resize((32, 32), PIL.Image.Resampling.LANCZOS))
    assert "Bad CRC-32 for file 'a.png'" in made.left_out['a.png'] and 'is encrypted' in made.left_out['c.png']

@pytest.mark.parametrize('kind, says', [
    ('.tar', 'unexpected end of data'), ('.tar.gz', ''), ('.tar.xz', ''), ('.zip', 'neither a folder nor'),
])
def test_archives_that_end_too_soon_are_refused(tmp_path, kind, says):
    source = archive_of(tmp_path / f'src{kind}', {f'{seed}.png': noise(seed, 60, 60) for seed in range(5)})
    source.write_bytes(source.read_bytes()[:30000])
    sentence = fault(source, tmp_path / 'a.zip')
    assert sentence.startswith(f'SRC: {source} is ') and says in sentence

def test_what_is_no_source_is_named(tmp_path):
    (tmp_path / 'file.png').write_bytes(encoded(noise(1)))
    (tmp_path / 'empty').mkdir()
    for name, says in [('none', 'cannot be read: No such file or directory'),
            ('empty', 'has no pictures that can be used'),
            ('file.png', 'is neither a folder nor a zip or tar archive')]:
        assert fault(tmp_path / name, tmp_path / 'a.zip') == f'SRC: {tmp_path}/{name} {says}.'
    fill(tmp_path / 'bad', {'a.png': b'', 'b.png': noise(1, 4, 4), 'c.heic': b'x'})
    assert fault(tmp_path / 'bad', tmp_path / 'a.zip') == f'SRC: {tmp_path}/bad has no pictures that can be used: ' \
        '1 in a format that Pillow does not read (convert to JPEG), as c.heic; 1 broken, or no picture, as a.png; ' \
        '1 too small without --enlarge, as b.png.'

#----------------------------------------------------------------------------
# As upstream's tool.

def upstreams(source, dest, *args):
    """What upstream's tool makes of it: {name in the zip: bytes}."""
    done = CliRunner().invoke(importlib.import_module('dataset_tool').convert_dataset,
        [f'--source={source}', f'--dest={dest}', *args])
    assert done.exit_code == 0, done.exc_info
    return members(dest)

SIXTEEN = ['--width=16', '--height=16']

def members(path):
    with zipfile.ZipFile(path) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}

@pytest.mark.parametrize('mode', ['RGB', 'L'])
@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
@pytest.mark.parametrize('sizes, options, theirs', [
    ([(16, 16)], [], []), # As they are.
    ([(40, 30), (33, 65), (16, 17), (90, 21)], ['--resolution=16'], ['--transform=center-crop', *SIXTEEN]),
    ([(40, 30), (33, 65)], ['--resolution=16', '--fit=stretch'], SIXTEEN),
])
def test_every_byte_in_the_zip_is_upstreams(tmp_path, mode, kind, sizes, options, theirs):
    if mode == 'L' and '--transform=center-crop' in theirs:
        theirs = SIXTEEN # Upstream's tool can't crop grey pictures.
        sizes = [(size[0], size[0]) for size in sizes]
    contents = {f'{"xyz"[index % 3]}{"-" * (index % 2)}/{index}.{kind.lower()}':
        encoded(noise(index, *size, mode), kind) for index, size in enumerate(sizes * 3)}
    classes, vectors = ([[name, label(index)] for index, name in enumerate(contents)]
        for label in [lambda index: index, lambda index: [0.5, index]])
    for table in [None, dict(labels=classes), dict(labels=vectors), dict(labels=None)]:
        side = {'dataset.json': json.dumps(table).encode()} if table else {}
        source = fill(tmp_path / f'src{table is None}', contents | side)
        make(source, tmp_path / 'ours.zip', '--force', *options)
        assert members(tmp_path / 'ours.zip') == upstreams(source, tmp_path / 'theirs.zip', *theirs)

#----------------------------------------------------------------------------
# Options.

def test_the_resolution_is_that_of_most_pictures_unless_it_is_given(tmp_path):
    sizes = [(100, 70)] * 9 + [(100, 20)]
    source = fill(tmp_path / 'src', {f'{index}.png': noise(index, *size) for index, size in enumerate(sizes)})
    made = make(source, tmp_path / 'a.zip')
    assert made.report['resolution'] == 64 and made.left_out == {'9.png': 'too small without --enlarge: 100x20'}
    assert make(source, tmp_path / 'b.zip', '--resolution=16').pictures[0].shape == (16, 16, 3)
    assert len(make(source, tmp_path / 'c.zip', '--resolution=128', '--enlarge').pictures) == 10
    assert make(source, tmp_path / 'd.zip', '--min-size=50').left_out == {'9.png': 'smaller than --min-size: 100x20'}

@pytest.mark.parametrize('sizes, fit, expected', [
    ([(512, 512)], 'crop', 512), ([(8, 8)] * 3, 'crop', 8), ([(4000, 3000)] * 5, 'crop', 256),
    ([(512, 512), (4000, 3000)], 'crop', 256), ([(300, 100)], 'crop', 64), ([(300, 100)], 'pad', 256),
    ([(300, 100)], 'stretch', 64), ([(5, 5)], 'crop', 8), ([], 'crop', 8),
    ([(30, 30)] * 3 + [(300, 300)] * 17, 'crop', 16), ([(30, 30)] * 2 + [(300, 300)] * 18, 'crop', 256),
    ([(30, 30)], 'crop', 16),
])
def test_the_default_resolution(sizes, fit, expected):
    assert folder.choose_resolution(sizes, fit) == expected

@pytest.mark.parametrize('modes, args, channels', [
    (['L', 'LA', '1'], [], 1), (['L', 'RGB'], [], 3), (['P'], [], 3), (['L'], ['--colour=rgb'], 3),
    (['RGB', 'L'], ['--colour=grey'], 1), (['LA'], ['--background=red'], 3), (['LA'], ['--background=black'], 1),
])
def test_auto_is_grey_only_where_all_are_grey(tmp_path, modes, args, channels):
    made = make(fill(tmp_path / 'src', {f'{index}.png': noise(index, mode=mode) for index, mode in enumerate(modes)}),
        tmp_path / 'a.zip', *args)
    assert {1 if picture.ndim == 2 else 3 for picture in made.pictures} == {channels}
    name = {1: 'grey', 3: 'RGB'}[channels]
    assert made.report['colour'] == name.lower() and f'8x8 in {name}' in made.said

def test_a_picture_that_is_left_out_has_no_say_in_the_colours(tmp_path):
    source = fill(tmp_path / 'src', {'a.png': noise(1, mode='L'), 'b.png': noise(2, 4, 4)})
    assert make(source, tmp_path / 'a.zip', '--resolution=8').pictures[0].ndim == 2

def test_duplicates_are_dropped_by_their_pixels(tmp_path):
    source = fill(tmp_path / 'src',
        {'b.png': noise(1), 'a.bmp': encoded(noise(1), 'BMP'), 'c.png': noise(2), 'd.png': encoded(noise(1))})
    assert len(make(source, tmp_path / 'a.zip').pictures) == 4
    made = make(source, tmp_path / 'b.zip', '--drop-duplicates')
    assert made.left_out == dict.fromkeys(['b.png', 'd.png'], 'the same as another picture: a.bmp')
    assert len(made.pictures) == 2

def test_padding_and_background(tmp_path):
    made = make(fill(tmp_path / 'src', {'a.png': PIL.Image.new('RGBA', (16, 8), (255, 0, 0, 0))}), tmp_path / 'a.zip',
        '--fit=pad', '--background=#0a0b0c', '--resolution=16')
    assert np.all(made.pictures[0] == [10, 11, 12])

def test_strict_stops_at_the_first_fault_and_leaves_nothing(tmp_path):
    for name, content, reason in [('bad.png', encoded(noise(1, 99, 99))[:500], 'broken, or no picture: '),
            ('small.png', noise(1, 4, 4), 'too small without --enlarge: 4x4'), ('x.heic', b'', 'in a format that ')]:
        source = fill(tmp_path / f'src-{name}', CONTENTS | {name: content})
        sentence = fault(source, tmp_path / 'a.zip', '--strict')
        assert sentence.startswith(f'--strict: {name} cannot be used ({reason}')
        assert sentence.endswith('); without --strict it is left out.')
    source = fill(tmp_path / 'src', CONTENTS | {'copy.png': noise(1), 'small.png': noise(9, 4, 4), 'notes.txt': b''})
    as_asked_for = ['--drop-duplicates', '--min-size=8']
    assert len(make(source, tmp_path / 'a.zip', '--strict', *as_asked_for).pictures) == 5

def test_a_dry_run_says_what_would_happen_and_writes_nothing(tmp_path):
    contents = CONTENTS | {'small.png': noise(1, 4, 4), 'bad.jpg': b'x', 'notes.txt': b''}
    for place in [fill(tmp_path / 'src', contents), archive_of(tmp_path / 'src.tar.gz', contents)]:
        before = sorted(tmp_path.rglob('*'))
        done = run(place, tmp_path / 'new' / 'a.zip', '--resolution=8', '--dry-run')
        assert done.code == 0 and sorted(tmp_path.rglob('*')) == before
        assert f'{tmp_path}/new/a.zip would get 5 pictures of 8x8 in RGB, about 2.5 kB.' in done.lines
        assert 'They are 2 PNG, 1 TIFF, 1 BMP, 1 WEBP; 5 RGB; 8x8.' in done.lines
        assert '  1 would be left out, too small without --enlarge: small.png' in done.lines
        assert '  Other files: 1 .txt.' in done.lines

@pytest.mark.parametrize('args, says', [
    (['--resolution=100'], '--resolution must be a power of two from 8 to 8192, not 100.'),
    (['--resolution=4'], '--resolution must be a power of two from 8 to 8192, not 4.'),
    (['--background=whitish'], "--background: 'whitish' is no colour: give a name such as white, or #rrggbb."),
    (['--labels=json'], 'SRC: --labels=json needs a dataset.json beside the pictures: SRC has none.'),
    (['--labels=folders'], 'SRC: --labels=folders takes the folders right below SRC for classes, and all pictures are '
        'in one, sub: give the folder that holds the folders of classes, or leave --labels out.'),
])
def test_wrong_options_get_a_sentence(tmp_path, args, says):
    assert fault(fill(tmp_path / 'src', {'sub/a.png': noise(1)}), tmp_path / 'a.zip', *args) == says

@pytest.mark.parametrize('option', [
    '--fit=zoom', '--colour=blue', '--labels=x', '--workers=0', '--min-size=0', '--resolution=x',
])
def test_unknown_values_are_answered_with_the_known_ones(tmp_path, option):
    done = run(tmp_path, tmp_path / 'a.zip', option)
    assert done.code == 2 and f"Invalid value for '{option.partition('=')[0]}'" in done.errors[-1]

def test_home_folders_are_meant_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    fill(tmp_path / 'src', CONTENTS)
    assert run('~/src', '~/made/a.zip').code == 0 and (tmp_path / 'made' / 'a.zip').exists()

#----------------------------------------------------------------------------
# Labels.

CLASSES = {'cats/1.png': noise(1), 'cats/deep/er.png': noise(2), 'dogs/1.png': noise(3), 'Birds/1.png': noise(4)}

def test_folders_are_classes_in_sorted_order(tmp_path):
    for source in [fill(tmp_path / 'src', CLASSES), archive_of(tmp_path / 'src.zip', CLASSES, 'animals/')]:
        made = make(source, tmp_path / f'{source.name}.made.zip', '--labels=folders')
        assert made.labels == [0, 1, 1, 2] and made.table['label_names'] == ['Birds', 'cats', 'dogs']
        classes = [tuple(entry.values()) for entry in made.report['classes']]
        assert classes == [(0, 'Birds', 1), (1, 'cats', 2), (2, 'dogs', 1)]
        assert '3 classes (Birds 1, cats 2, dogs 1).' in made.said and ' --cond=1' in made.said
        planned = run(source, tmp_path / 'b.zip', '--labels=folders', '--dry-run').out
        assert 'about 2 kB, 3 classes (Birds 1, cats 2, dogs 1).' in planned
        assert dataset_check.check(tmp_path / f'{source.name}.made.zip').has_labels

def test_pictures_in_no_folder_are_left_out_and_classes_without_pictures_too(tmp_path):
    made = make(fill(tmp_path / 'src', CLASSES | {'top.png': noise(9), 'ants/1.png': b''}), tmp_path / 'a.zip',
        '--labels=folders')
    assert made.left_out['top.png'] == 'in no class folder' and made.labels == [0, 1, 1, 2]

def test_labels_of_a_dataset_json_are_kept(tmp_path):
    names = [*CLASSES]
    for labels in [[3, 0, 1, 2], [[0.5, 1], [0, 0], [1, 2], [3, 4]]]:
        table = dict(labels=[[name, label] for name, label in zip(names, labels)])
        contents = CLASSES | {'dataset.json': json.dumps(table).encode()}
        source, archive = fill(tmp_path / 'src', contents), archive_of(tmp_path / 'src.zip', contents, 'top/')
        expected = dict(zip(names, labels))
        for place in [source, archive]:
            made = make(place, tmp_path / 'a.zip', '--force')
            assert made.labels == [expected[name] for name in sorted(names)]
    assert make(source, tmp_path / 'b.zip', '--labels=none').labels is None
    assert 'with labels of 2 numbers' in made.said

def test_names_in_dataset_json_may_have_backslashes_and_other_accents(tmp_path):
    contents = {'été/1.png': noise(1), 'b/2.png': noise(2)}
    table = dict(labels=[[unicodedata.normalize('NFD', 'été\\1.png'), 1], ['.\\b\\2.png', 0]], label_names=['b', 'a'])
    made = make(fill(tmp_path / 'src', contents | {'dataset.json': b'\xef\xbb\xbf' + json.dumps(table).encode()}),
        tmp_path / 'a.zip')
    assert made.labels == [0, 1] and made.table['label_names'] == ['b', 'a']

def test_pictures_without_a_label_are_named_and_left_out(tmp_path):
    contents = {f'{index:02d}.png': noise(index) for index in range(30)}
    table = dict(labels=[[name, 0] for name in list(contents)[:18]] + [['gone.png', 0], ['bad.png', 0]])
    source = fill(tmp_path / 'src', contents | {'bad.png': b'', 'dataset.json': json.dumps(table).encode()})
    made = make(source, tmp_path / 'a.zip')
    assert made.labels == [0] * 18 and len(made.left_out) == 13
    assert made.left_out['18.png'] == 'without a label in dataset.json'
    assert '  12 left out, without a label in dataset.json: 18.png, 19.png, 20.png and 9 more\n' in made.said
    assert '  1 label in dataset.json without a picture: gone.png\n' in made.said
    assert made.report['labels_without_picture'] == ['gone.png']
    sentence = fault(source, tmp_path / 'b.zip', '--strict')
    assert sentence.startswith('--strict: 18.png cannot be used (without a label in dataset.json)')

A_CLASS = 'dataset.json must have a class, an integer from 0 to 65535, for'
TWO_NUMBERS = 'dataset.json must have 2 numbers, as a.png has, for'

@pytest.mark.parametrize('table, says', [
    ([], 'dataset.json must be an object with a key "labels"'),
    ({}, 'dataset.json must be an object with a key "labels"'),
    (dict(labels=5), '"labels" in dataset.json must be a list of [file name, label] pairs'),
    (dict(labels=[['a.png']]), '"labels" in dataset.json must be a list of [file name, label] pairs'),
    (dict(labels=[['x/a.png', 0], ['x/b.png', 1]]),
        'dataset.json has labels for none of the pictures: it names x/a.png, they are called a.png'),
    (dict(labels=[['a.png', 0], ['b.png', 1], ['a.png', 1]]), 'dataset.json has two different labels for a.png'),
    (dict(labels=[['a.png', 0], ['b.png', 'cat']]), f'{A_CLASS} b.png (not "cat")'),
    (dict(labels=[['a.png', -1], ['b.png', True]]), f'{A_CLASS} a.png (not -1), b.png (not true)'),
    (dict(labels=[['a.png', [0, 1]], ['b.png', [0]]]), f'{TWO_NUMBERS} b.png (not [0])'),
    (dict(labels=[['a.png', [0, 1]], ['b.png', [0, float('nan')]]]), f'{TWO_NUMBERS} b.png (not [0, NaN])'),
    (dict(labels=[[f'{index}.png', 'x'] for index in range(100)]),
        A_CLASS + ','.join(f' {index}.png (not "x")' for index in range(5)) + ' and 95 more'),
])
def test_wrong_labels_are_named(tmp_path, table, says):
    source = fill(tmp_path / 'src', {'a.png': noise(1), 'b.png': noise(2), 'dataset.json': json.dumps(table).encode()})
    assert fault(source, tmp_path / 'a.zip') == f'SRC: {says}; correct it, or give --labels=none.'
    assert len(make(source, tmp_path / 'a.zip', '--labels=none').pictures) == 2

@pytest.mark.parametrize('content', [b'', b'\xff\xfe', b'{', b'[' * 100000])
def test_a_dataset_json_of_something_else_is_named(tmp_path, content):
    source = fill(tmp_path / 'src', {'a.png': noise(1), 'dataset.json': content})
    assert fault(source, tmp_path / 'a.zip').startswith('SRC: dataset.json is not JSON (')

def test_classes_with_gaps_are_pointed_out(tmp_path):
    table = dict(labels=[['a.png', 0], ['b.png', 50000]])
    contents = {'a.png': noise(1), 'b.png': noise(2), 'dataset.json': json.dumps(table).encode()}
    made = make(fill(tmp_path / 'src', contents), tmp_path / 'a.zip')
    assert '2 classes of the 50,001 that labels up to 50,000 make (0 1, 50000 1).' in made.said
    assert made.said.endswith(' --cond=1 --sparse-labels\n')

@settings(max_examples=50, deadline=None)
@given(st.recursive(st.none() | st.integers() | st.floats() | st.text(max_size=4), lambda inner:
    st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(['labels', 'label_names', 'a']), inner, max_size=3)))
def test_any_json_is_labels_or_one_sentence(content):
    picture = types.SimpleNamespace(load=lambda: io.BytesIO(json.dumps(content).encode()))
    source = picture_sources.Source([('a', None)], [], picture, None, 0, collections.Counter())
    try:
        labels = picture_labels.read(source, 'auto')
        assert labels is None or labels.get('a') is not None
    except ValueError as error:
        assert str(error).endswith('; correct it, or give --labels=none.') and '\n' not in str(error)

#----------------------------------------------------------------------------
# Attributes.

def with_attributes(rows, names=('hat', 'tie'), **contents):
    return {**contents, 'attributes.json': json.dumps(dict(names=names, images=rows)).encode()}

@pytest.mark.parametrize('kind, prefix', [('folder', ''), ('.zip', ''), ('.tar', 'photos/'), ('.tar.gz', 'photos/')])
def test_attributes_go_along_under_the_new_names(tmp_path, kind, prefix):
    rows = {'G.tif': ['cap', 0], './b\\c.PNG': [None, '1'], 'b-/f.webp': ['cap', 1], 'b/gone.png': ['cap', 1]}
    contents = {**CONTENTS, 'b/bad.png': b'', **with_attributes({**rows, 'b/bad.png': ['bad', 0]})}
    source = (fill(tmp_path / 'src', contents) if kind == 'folder'
        else archive_of(tmp_path / f'src{kind}', contents, prefix))
    made = make(source, tmp_path / 'a.zip')
    name = '00000/img0000000{}.png'.format
    assert made.attributes == dict(names=['hat', 'tie'], images={name(0): ['cap', 0], name(2): [None, '1'],
        name(4): ['cap', 1]})
    assert '  2 attributes of 3 pictures: hat, tie\n' in made.said and 'Other files' not in made.said
    assert '  2 pictures without a row in attributes.json: a.png, b/d/e.bmp\n' in made.said
    assert '  1 row in attributes.json without a picture: b/gone.png\n' in made.said
    assert made.report['attributes'] == ['hat', 'tie']
    assert made.report['pictures_without_attributes'] == ['a.png', 'b/d/e.bmp']
    assert made.report['attributes_without_picture'] == ['b/gone.png']
    told = run(source, tmp_path / 'b.zip', '--dry-run').out
    assert '  2 attributes of 3 pictures: hat, tie\n' in told and 'without a picture: b/gone.png\n' in told

def test_a_data_set_that_is_made_anew_keeps_its_attributes_and_duplicates_lose_theirs(tmp_path):
    contents = {f'{index}.png': noise(index // 2) for index in range(6)}
    rows = {name: [index] for index, name in enumerate(contents)}
    first = make(fill(tmp_path / 'src', with_attributes(rows, ['number'], **contents)), tmp_path / 'a.zip')
    again = make(tmp_path / 'a.zip', tmp_path / 'b.zip', '--drop-duplicates')
    assert [row for row, in first.attributes['images'].values()] == [0, 1, 2, 3, 4, 5]
    assert again.attributes == dict(names=['number'],
        images={f'00000/img0000000{index}.png': [2 * index] for index in range(3)})
    assert dataset_check.check(tmp_path / 'b.zip').count == 3

@pytest.mark.parametrize('table, says', [
    ('{', 'attributes.json is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))'),
    ('[]', 'attributes.json must be an object with "names" and "images"'),
    ('{"names": ["a", "a"], "images": {"a.png": [1, 2]}}', "attributes.json has two attributes of the name 'a'"),
    ('{"names": ["a"], "images": {"x/a.png": [1]}}',
        'attributes.json has rows for none of the pictures: it names x/a.png, they are called a.png'),
    ('{"names": ["a"], "images": {"a.png": [1], "./a.png": [2]}}',
        'attributes.json has two different rows for a.png'),
])
def test_wrong_attributes_are_named(tmp_path, table, says):
    source = fill(tmp_path / 'src', {'a.png': noise(1), 'attributes.json': table.encode()})
    assert fault(source, tmp_path / 'a.zip') == f'SRC: {says}; correct it, or move it out of SRC.'

def test_only_attributes_beside_the_pictures_count(tmp_path):
    made = make(fill(tmp_path / 'src', {'a.png': noise(1), 'b/attributes.json': b'{'}), tmp_path / 'a.zip')
    assert made.attributes is None and made.report['other_files'] == {'.json': 1, 'junk': 0}

#----------------------------------------------------------------------------
# What is said, and what is left.

def test_it_ends_with_what_was_made_and_a_line_that_trains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contents = {f'{name}/{index}.png': noise(index) for index, name in enumerate(['cats', 'dogs'] * 4)}
    done = run(fill(tmp_path / 'my pictures', contents), 'my set.zip', '--labels=folders', '--resolution=16',
        '--enlarge')
    assert done.code == 0
    assert done.lines[-4].startswith('my set.zip: 8 pictures of 16x16 in RGB, 8.')
    assert done.lines[-4].endswith(' kB, 2 classes (cats 4, dogs 4).')
    line = shlex.split(done.lines[-1])
    assert line == ['sarigan', 'train', '--cfg=tiny', '--data=my set.zip', '--outdir=training-runs', '--cond=1']
    tried = CliRunner().invoke(train.main, [*line[2:], '--dry-run', '--metrics=none'])
    assert tried.exit_code == 0, tried.output

@pytest.mark.parametrize('count, resolution, cfg',
    [(100, 16, 'tiny'), (100, 32, 'tiny'), (100, 64, 'sarigan-ada'), (49999, 256, 'sarigan-ada'),
    (50000, 256, 'sarigan')])
def test_the_config_that_is_advised_fits_the_set(tmp_path, count, resolution, cfg):
    line = folder.train_line(types.SimpleNamespace(resolution=resolution),
        folder.Made(tmp_path / 'a.zip', [''] * count, [None] * count, []))
    assert line == f'sarigan train --cfg={cfg} --data={tmp_path}/a.zip --outdir=training-runs'

def test_the_preview_shows_pictures_from_all_over_with_their_labels(tmp_path):
    colours = [(index * 2, 100, 50) for index in range(100)]
    contents = {f'{"ab"[index // 50]}/{index:03d}.png': PIL.Image.new('RGB', (8, 8), colour)
        for index, colour in enumerate(colours)}
    make(fill(tmp_path / 'src', contents), tmp_path / 'a.zip', '--labels=folders')
    with PIL.Image.open(tmp_path / 'a.preview.png') as preview:
        assert preview.size == (8 * 130 + 2, 8 * 146 + 2)
        corners = [(2 + place % 8 * 130, 2 + place // 8 * 146) for place in range(64)]
        shown = [preview.getpixel((left + 64, top + 64)) for left, top in corners]
        assert shown == [colours[place * 100 // 64] for place in range(64)]
        captions = [np.array(preview.crop((left, top + 128, left + 128, top + 146))) for left, top in corners]
    assert min(caption.min() for caption in captions) < 100
    assert all(np.array_equal(caption, captions[place // 32 * 32]) for place, caption in enumerate(captions))
    assert not np.array_equal(captions[0], captions[63])

def test_captions_say_what_the_font_can_show():
    names = {0: 'Vögel', 1: '猫', 2: 'dogs', 3: None}
    captions = [folder._caption(label, names) for label in [0, 1, 2, 3, [0.25, 1]]]
    assert captions == ['0: Vogel', '1: ?', '2: dogs', '3', '0.25 1']
    font = PIL.ImageFont.load_default(12)
    assert folder._fitting('m' * 100, font).endswith('mmm...') and folder._fitting('dogs', font) == 'dogs'

def test_names_that_no_terminal_should_see_do_no_harm(tmp_path):
    source = fill(tmp_path / 'src',
        CONTENTS | {'\x1b[31m\n.png': b'', os.fsdecode(b'\xff.png'): noise(9), os.fsdecode(b'\xfe.png'): b''})
    made = make(source, tmp_path / 'a.zip')
    assert len(made.pictures) == 6 and set(made.left_out) == {'\x1b[31m\n.png', os.fsdecode(b'\xfe.png')}
    assert '2 left out, broken, or no picture: \\x1b[31m\\n.png, \\udcfe.png' in made.said

def test_what_was_odd_is_in_the_report(tmp_path):
    made = make(fill(tmp_path / 'src', {'a.png': encoded(noise(1), icc_profile=b'junk'), 'b.png': noise(2)}),
        tmp_path / 'a.zip')
    [note] = made.report['notes']
    assert note['name'] == 'a.png' and note['note'].startswith('its colour profile is broken and was ignored')
    assert 'About 1 picture there is a note in a.report.json, as: a.png: its colour profile is broken' in made.said

#----------------------------------------------------------------------------
# Files that are there already, and those that appear.

def test_nothing_is_replaced_without_force(tmp_path):
    source = fill(tmp_path / 'src', CONTENTS)
    for name in ['a.zip', 'b.preview.png', 'c.report.json']:
        (tmp_path / name).write_bytes(b'precious')
        dest = tmp_path / f'{name[0]}.zip'
        assert fault(source, dest) == f'--dest: {tmp_path / name} exists already; --force replaces it.'
        make(source, dest, '--force')

def test_bad_destinations_get_a_sentence(tmp_path):
    source = fill(tmp_path / 'src', CONTENTS)
    archive = archive_of(tmp_path / 'src.zip', CONTENTS)
    assert fault(source, tmp_path / 'a.tar') == f'--dest must end in .zip: {tmp_path}/a.tar does not.'
    assert fault(archive, archive, '--force') == f'--dest: {archive} is SRC itself.'
    assert fault(source, archive / 'a.zip') == f'--dest: {archive}/a.zip cannot be written to: File exists.'
    (tmp_path / 'b.preview.png').mkdir()
    assert fault(source, tmp_path / 'b.zip', '--force') == f'--dest: {tmp_path}/b.preview.png is a folder.'

def test_a_zip_in_its_own_source_is_no_part_of_it_however_often_it_is_made(tmp_path):
    source = fill(tmp_path / 'src', CONTENTS)
    contents = []
    for args in [[], ['--force'], ['--force']]:
        made = make(source, source / 'a.zip', *args)
        contents.append((source / 'a.zip').read_bytes())
        assert len(made.pictures) == 5 and made.left_out == {} and made.report['other_files']['junk'] == 0
    assert len(set(contents)) == 1
    assert len(make(source, source / 'b.zip').pictures) == 5

def test_a_zip_that_another_process_writes_is_left_to_it(tmp_path):
    source = fill(tmp_path / 'src', CONTENTS)
    with open(tmp_path / '.a.zip.unfinished', 'wb') as lock:
        lock.write(b'half')
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert fault(source, tmp_path / 'a.zip') == f'--dest: another process is writing {tmp_path}/a.zip.'
        assert (tmp_path / '.a.zip.unfinished').read_bytes() == b'half'
    make(source, tmp_path / 'a.zip')
    assert not (tmp_path / '.a.zip.unfinished').exists()

def test_a_disk_that_is_too_small_is_told_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda _path: types.SimpleNamespace(free=2000))
    assert fault(fill(tmp_path / 'src', CONTENTS), tmp_path / 'a.zip') == \
        f'--dest: {tmp_path}/a.zip will have 2.5 kB, and 2 kB are free in {tmp_path}: free some space, or choose a ' \
        'smaller --resolution.'

#----------------------------------------------------------------------------
# Several processes, and ends before the end.

@pytest.fixture(scope='module')
def many_pictures(tmp_path_factory):
    """100 pictures, a broken one among them."""
    source = tmp_path_factory.mktemp('many') / 'src'
    return fill(source, {f'{index:03d}.jpg': encoded(noise(index, 100, 80), 'JPEG') if index != 77 else b'broken'
        for index in range(100)})

@pytest.fixture(scope='module')
def slow_pictures(many_pictures):
    """The same, and large ones after them that take minutes: what tests end earlier."""
    source = shutil.copytree(many_pictures, many_pictures.with_name('slow'))
    noise(0, 12, 9).resize((4000, 3000), PIL.Image.Resampling.BICUBIC).save(source.with_name('large.jpg'))
    for index in range(1000):
        os.link(source.with_name('large.jpg'), source / f'large{index:03d}.jpg')
    return source

@pytest.fixture(scope='module')
def expected_zip(many_pictures, tmp_path_factory):
    dest = tmp_path_factory.mktemp('expected') / 'a.zip'
    made = make(many_pictures, dest, '--resolution=64', '--workers=1')
    assert len(made.pictures) == 99
    return dest.read_bytes()

def test_any_number_of_processes_makes_the_same_bytes(many_pictures, expected_zip, tmp_path):
    make(many_pictures, tmp_path / 'a.zip', '--resolution=64', '--workers=3')
    assert (tmp_path / 'a.zip').read_bytes() == expected_zip

@pytest.mark.parametrize('kind', ['zip', 'gztar'])
def test_archives_are_read_by_several_processes_too(many_pictures, expected_zip, tmp_path, kind):
    make(shutil.make_archive(str(tmp_path / 'src'), kind, many_pictures), tmp_path / 'a.zip', '--resolution=64',
        '--workers=2')
    assert (tmp_path / 'a.zip').read_bytes() == expected_zip

def started(source, dest):
    """The command in a process group of its own, with two workers."""
    command = [sys.executable, '-m', 'sarigan_plugin.cli', 'data', 'folder', source, f'--dest={dest}',
        '--resolution=64', '--workers=2']
    return subprocess.Popen(command, cwd=trees.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True)

def wait_until(condition, process=None):
    def met():
        result = condition()
        assert result or process is None or process.poll() is None, process.communicate()
        return result
    limits.wait_until(met, 'data folder', pause=0.01)

def workers_of(process):
    return [child for child in psutil.Process(process.pid).children(recursive=True)
        if 'spawn_main' in ' '.join(child.cmdline())]

def written(dest):
    """Bytes of the zip so far."""
    unfinished = dest.with_name(f'.{dest.name}.unfinished')
    return unfinished.stat().st_size if unfinished.exists() else -1

@pytest.mark.parametrize('size', [pytest.param(0, marks=pytest.mark.slow), 10000]) # As it begins, and within.
def test_a_killed_run_leaves_no_half_zip_and_no_process_and_can_be_repeated(slow_pictures, many_pictures, expected_zip,
        tmp_path, size):
    dest = tmp_path / 'a.zip'
    process = started(slow_pictures, dest)
    wait_until(lambda: written(dest) >= size and (size == 0 or len(workers_of(process)) == 2), process)
    workers = workers_of(process)
    process.kill()
    process.communicate()
    assert [path.name for path in tmp_path.iterdir()] == ['.a.zip.unfinished']
    wait_until(lambda: not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers))
    make(many_pictures, dest, '--resolution=64', '--workers=2')
    assert dest.read_bytes() == expected_zip
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.preview.png', 'a.report.json', 'a.zip']

def test_ctrl_c_ends_it_with_nothing_left(slow_pictures, tmp_path):
    dest = tmp_path / 'a.zip'
    process = started(slow_pictures, dest)
    wait_until(lambda: written(dest) >= 10000, process)
    workers = workers_of(process)
    os.killpg(process.pid, signal.SIGINT) # As a terminal does it.
    _out, errors = process.communicate(timeout=limits.HANG)
    assert process.returncode == 130 and 'Traceback' not in errors
    assert errors.splitlines()[-1] == 'Interrupted: the same command starts again.'
    assert list(tmp_path.iterdir()) == [] and not any(worker.is_running() for worker in workers)

def test_a_worker_that_is_killed_is_one_sentence(slow_pictures, tmp_path):
    dest = tmp_path / 'a.zip'
    process = started(slow_pictures, dest)
    wait_until(lambda: written(dest) >= 10000, process)
    workers_of(process)[0].kill()
    _out, errors = process.communicate(timeout=limits.HANG)
    assert process.returncode == 2
    assert errors == 'Error: One of 2 processes was killed, as happens where memory runs out: use fewer, with ' \
        '--workers=1.\n'
    assert list(tmp_path.iterdir()) == []

FULL_DISK = '''
import resource, sys
from sarigan_plugin.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
main(['data', 'folder', sys.argv[1], '--dest=' + sys.argv[2], '--resolution=64', '--force'])
'''

def test_a_disk_that_fills_up_leaves_the_old_zip(many_pictures, tmp_path):
    (tmp_path / 'a.zip').write_bytes(b'precious')
    done = subprocess.run([sys.executable, '-c', FULL_DISK, many_pictures, tmp_path / 'a.zip'], cwd=trees.ROOT,
        capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f'Error: --dest: {tmp_path}/a.zip cannot be written to: File too large.\n'
    assert (tmp_path / 'a.zip').read_bytes() == b'precious' and [path.name for path in tmp_path.iterdir()] == ['a.zip']

def test_few_results_wait_to_be_taken(tmp_path):
    """A million pictures must not be in memory because the disk is slow."""
    tasks = [str(tmp_path / str(index)) for index in range(100)]
    results = processes.map_in_order(os.mkdir, tasks, 2)
    assert next(results) is None
    results.close()
    assert 1 <= len(list(tmp_path.iterdir())) <= 2 * processes.AHEAD + 1

def test_workers_that_are_ended_in_the_middle_of_a_result_are_not_waited_for():
    code = ('from sarigan_plugin.support import processes\n'
        'if __name__ == "__main__":\n'
        '    results = processes.map_in_order(bytes, [30_000_000] * 20, 2)\n'
        '    next(results)\n'
        '    results.close()\n')
    done = subprocess.run([sys.executable, '-c', code], cwd=trees.ROOT, capture_output=True, text=True, check=False,
        timeout=limits.HANG)
    assert (done.returncode, done.stderr) == (0, '')

def test_results_come_in_order_and_errors_as_they_are():
    assert list(processes.map_in_order(abs, list(range(-50, 0)), 2)) == list(range(50, 0, -1))
    with pytest.raises(TypeError):
        list(processes.map_in_order(abs, [1, 'x', 2], 2))
    with pytest.raises(UserError, match='was killed, as happens where memory runs out: use fewer, with --workers=1'):
        list(processes.map_in_order(os._exit, [1, 1], 2))
    with pytest.raises(UserError, match='was killed, as happens where memory runs out: start again.$'):
        list(processes.map_in_order(os._exit, [1, 1], 2, mend='start again'))

def test_what_workers_import_is_light():
    code = 'import sys\nfrom sarigan_plugin.datasets import picture_conversion, picture_sources\n' \
        'print([name for name in ("torch", "numpy", "requests") if name in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], cwd=trees.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == '[]\n'

#----------------------------------------------------------------------------
