"""A reader of a page, who types its command lines one after the other, and what they bring along."""

import json
import re
import shutil
import signal
import socket
import tempfile
from pathlib import Path

import PIL.Image
import requests

import commands
import limits
import small_images
import small_networks
import small_training
import trees
from command_lines import TREE
from sarigan_plugin.datasets import masks, packaged

#----------------------------------------------------------------------------
# What a page takes for granted, small. Each is a function of the path where it is to be.

def typed(*words):
    """One of our commands, which leaves what it makes at a path."""
    def make(path):
        done = commands.run(*(word.format(path) for word in words))
        assert done.exit_code == 0, done.output
    return make

def heads(size, num=40):
    return typed('data', 'drawn', '--dest={}', f'--resolution={size}', f'--num={num}')

DRAWN32, DRAWN64 = typed('import', 'drawn32', '--to={}'), typed('import', 'drawn64', '--to={}')

def stylegan2(path):
    small_networks.write(small_networks.plain_networks(), path)

def rosinality(path):
    """A checkpoint of rosinality's stylegan2-pytorch."""
    pickled = path.with_name('exported.pkl')
    stylegan2(pickled)
    typed('export', str(pickled), '--to={}')(path)

def inpainter(path):
    small_networks.write_network(path, small_networks.make_inpainter())

def photo(path):
    small_images.photo(0, 300, 280).save(path)

def photos(path):
    path.mkdir()
    for index in range(12):
        small_images.photo(index, 300, 280).save(path / f'{index}.jpg')

def pets(path):
    path.mkdir()
    photos(path / 'cats')
    photos(path / 'dogs')

def cars(path):
    small_images.save_images(path, count=2, size=512)

def holes(path):
    path.mkdir()
    for index in range(12):
        hole(path / f'{index}.png')

def hole(path):
    PIL.Image.fromarray(masks.of_index('rectangle', 280, 0)).resize((300, 280)).save(path)

def cut_out(path):
    image = small_images.noise(30, 40).convert('RGBA')
    image.paste((0, 0, 0, 0), (10, 10, 20, 20))
    image.save(path)

def recipe(path):
    path.write_text(json.dumps(dict(version=2, edits=[dict(layers=['b16.conv0'], group=3, inter_scale=2)])))

def config(path):
    path.write_text(small_training.config())

def snapshot(path):
    """With the record of its training beside it."""
    with tempfile.TemporaryDirectory() as folder:
        data, cfg = Path(folder, 'heads.zip'), Path(folder, 'small.toml')
        heads(16)(data)
        config(cfg)
        done = commands.sarigan('train', f'--cfg={cfg}', f'--data={data}', f'--outdir={folder}', '--metrics=none',
            '--device=cpu')
        assert done.returncode == 0, done.stderr
        made, = Path(folder).glob('0*')
        shutil.copytree(made, path.parent, dirs_exist_ok=True)
    (path.parent / 'network-snapshot-000001.pkl').rename(path)

def boxed_folder(path):
    shutil.copytree(trees.ROOT / 'sarigan_plugin' / 'box' / 'drawn32', path)

def detector(path):
    small_images.save_script(path)

def cat_lmdb(path):
    small_images.write_lmdb(path, [small_images.photo(0, 300, 260), small_images.photo(1, 256, 400)])

def car_lmdb(path):
    small_images.write_lmdb(path, [small_images.photo(0, 640, 480), small_images.photo(1, 800, 700)])

def faces(path):
    (path / '00000').mkdir(parents=True)
    small_images.photo(0, 1024, 1024).save(path / '00000' / '00000.png')

def streets(path):
    path.mkdir()
    for index in range(3):
        small_images.photo(index, 936, 537).save(path / f'{index:03d}_im.JPG', 'jpeg')

#----------------------------------------------------------------------------

class Reader:
    """Types command lines in a scratch folder that has the project's scripts, and is their HOME as well."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        monkeypatch.setenv('HOME', str(folder))
        monkeypatch.setenv('XDG_CACHE_HOME', str(packaged.cache_dir().parent)) # What was downloaded before.
        monkeypatch.setenv('DNNLIB_CACHE_DIR', str(folder / 'statistics'))
        monkeypatch.delenv('PYTEST_CURRENT_TEST', raising=False) # By which NiceGUI knows tests of its own.
        monkeypatch.chdir(folder)
        for name in [TREE, 'benchmarks', 'examples', 'docs']: # What scripts write is for the scratch folder.
            (folder / name).mkdir()
            for path in (trees.ROOT / name).iterdir() if name != 'docs' else []:
                (folder / name / path.name).symlink_to(path)

    def brings(self, makers):
        """makers: {path, from HOME: function of the path that makes what is there}."""
        for name, make in makers.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            make(path)

    def types(self, line):
        """Have a command_lines.Line run to its end, in which it must succeed. Returns what it prints."""
        words = [word.replace('~', str(self.folder), 1) if word.startswith('~') else word for word in line.words]
        words = words[words[0] == 'srun':]
        how = dict(cwd=self.folder / line.folder)
        if words[:2] == ['sarigan', 'explore'] or 'http.server' in words:
            return self._visits(words, how)
        if words[0] == 'sarigan' and words[1] not in ['train', 'ablate']:
            done = commands.run(*words[1:])
            assert done.exit_code == 0, (line.text, done.output, done.exception)
            return done.output
        return self._ended(line, commands.start(*_python(words), **how))

    def _ended(self, line, process):
        out, errors = process.communicate()
        assert process.returncode == 0, (line.text, out, errors)
        return out + errors

    def _visits(self, words, how):
        """The page of a server, which ends with Ctrl-C."""
        if words[0] == 'sarigan':
            process = commands.start(*_python(words), '--port=0', '--no-browser', '--device=cpu', **how)
            address = lambda: re.match(r'http://\S+(?=  \(Ctrl-C ends it)', process.printed())
        else:
            with socket.create_server(('127.0.0.1', 0)) as free:
                port = free.getsockname()[1]
            process = commands.start(*_python(words), str(port), **how)
            address = lambda: answers(port) and re.match('.*', f'http://127.0.0.1:{port}')
        try:
            found = limits.wait_until(lambda: process.poll() is not None or address(), 'an address')
            assert process.poll() is None, process.communicate()
            assert '<title>' in requests.get(found[0], timeout=limits.HANG).text
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
        return process.printed()

def answers(port):
    with socket.socket() as visitor:
        return visitor.connect_ex(('127.0.0.1', port)) == 0

def _python(words):
    """What follows `python`."""
    if words[0] == 'sarigan':
        return ['-m', 'sarigan_plugin.cli', *words[1:]]
    if words[0] == 'torchrun':
        return ['-m', 'torch.distributed.run', *words[1:]]
    assert words[0] == 'python', words
    return words[1:]
