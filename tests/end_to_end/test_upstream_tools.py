"""Every script of upstream's tree starts and does a small job, in trees of both origins, and the docs' recipes run."""

import gzip
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

import commands
import small_images
import small_networks
import trees
from sarigan_plugin.commands import doctor, train
from sarigan_plugin.datasets import check as dataset_check
from sarigan_plugin.features import detectors, perceptual
from sarigan_plugin.model import networks
from sarigan_plugin.snapshots import label_kind, unpickler
from sarigan_plugin.steering.sampling import label_vector, labels, render, sample_ws
from sarigan_plugin.upstream import tree as upstream
from small_images import photo, write_lmdb
from small_networks import SIZE

INSTALLED = upstream.root() / upstream.FOLDER
SCRIPTS = sorted(path.name for path in INSTALLED.glob('*.py'))

def run(tree, jobs, num_made=None, **environment):
    """[(exit code, output)] of scripts in a tree, see run_scripts.py."""
    environment = dict(CUDA_VISIBLE_DEVICES='') | {name: str(value) for name, value in environment.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'jobs.json')
        path.write_text(json.dumps(jobs, default=str))
        words = [trees.SUPPORT / 'run_scripts.py', tree, path, *([num_made] if num_made is not None else [])]
        if tree == INSTALLED:
            done = commands.finished(commands.start(*words, **environment))
        else: # Whose modules nobody has imported yet.
            done = trees.run([sys.executable, *words], trees.ROOT, PYTHONPATH=trees.ROOT, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

@pytest.fixture(scope='module', params=['pypi', 'submodule'])
def tree(request, tmp_path_factory):
    """A patched tree of either origin. The installed one is there in any case; the other where it can be had."""
    if upstream.identify(INSTALLED).kind == request.param:
        return INSTALLED
    clean = request.getfixturevalue(f'_clean_{request.param}_tree')
    copy = shutil.copytree(clean, tmp_path_factory.mktemp('tools') / 'tree', symlinks=True)
    upstream.apply_patches(copy)
    return copy

def picture(path):
    with PIL.Image.open(path) as image:
        return np.array(image)

#----------------------------------------------------------------------------
# They start.

def test_there_are_the_scripts_that_upstream_has(tree):
    assert sorted(path.name for path in tree.glob('*.py')) == SCRIPTS
    names = ['calc_metrics', 'dataset_tool', 'generate', 'legacy', 'projector', 'style_mixing', 'train']
    assert [f'{name}.py' for name in names] == SCRIPTS

@pytest.mark.parametrize('script', SCRIPTS)
def test_every_script_of_the_installed_tree_says_what_it_does(script):
    done = commands.finished(commands.start(script, '--help', cwd=INSTALLED))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f'Usage: {script} [OPTIONS]') and '  --help ' in done.stdout

def test_every_script_of_the_other_origin_does_as_well(tree):
    for script, (code, output) in zip(SCRIPTS, run(tree, [[script, '--help'] for script in SCRIPTS])):
        assert code == 0 and output.startswith(f'Usage: {script} [OPTIONS]'), output

def test_doctor_names_what_a_script_imports_and_is_not_installed(tmp_path, monkeypatch):
    (state, detail) = doctor.check_tools()
    assert state == 'ok' and detail.startswith("all that upstream's 7 scripts import is there"), detail
    shutil.copytree(INSTALLED, tmp_path / 'tree', ignore=shutil.ignore_patterns('.git'))
    source = 'import os, dnnlib.util\ndef read():\n    import lacking.part\n    from cv3 import imread\n'
    (tmp_path / 'tree' / 'odd.py').write_text(source)
    monkeypatch.setattr(upstream, 'find', lambda: tmp_path / 'tree')
    assert doctor.check_tools() == ('warning', 'odd.py needs lacking, odd.py needs cv3: run ./install.sh')

#----------------------------------------------------------------------------
# dataset_tool.py.

def write_cifar10(path):
    """CIFAR-10's archive, on whose size upstream's tool insists: 50,000 images, here of one colour each."""
    colours = np.random.RandomState(0).randint(256, size=[50000, 3, 1], dtype=np.uint8)
    colours[:2] = np.array([0, 255])[:, None, None]
    classes = np.arange(50000) % 10
    with tarfile.open(path, 'w:gz', compresslevel=1) as archive:
        for batch in range(5):
            part = slice(10000 * batch, 10000 * (batch + 1))
            data = np.repeat(colours[part], 1024, axis=2).reshape(10000, 3072)
            content = pickle.dumps({'data': data, 'labels': classes[part].tolist()}, protocol=2)
            entry = tarfile.TarInfo(f'cifar-10-batches-py/data_batch_{batch + 1}')
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return colours[:, :, 0], classes

def write_mnist(folder):
    """MNIST's two archives: a head of big-endian numbers, then 60,000 images of 28x28 and as many classes."""
    levels = np.random.RandomState(0).randint(256, size=[60000], dtype=np.uint8)
    levels[:2] = [0, 255]
    classes = (np.arange(60000) % 10).astype(np.uint8)
    with gzip.open(folder / 'train-images-idx3-ubyte.gz', 'wb', compresslevel=1) as f:
        f.write(np.array([2051, 60000, 28, 28], dtype='>i4').tobytes() + np.repeat(levels, 28 * 28).tobytes())
    with gzip.open(folder / 'train-labels-idx1-ubyte.gz', 'wb', compresslevel=1) as f:
        f.write(np.array([2049, 60000], dtype='>i4').tobytes() + classes.tobytes())
    return levels, classes

def read_set(path):
    """[N, H, W] or [N, H, W, 3], and the labels or None, of a zip that the tool wrote; one that can be trained on."""
    summary = dataset_check.check(path)
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith('.png'))
        images = np.stack([np.array(PIL.Image.open(archive.open(name))) for name in names])
        labels = json.loads(archive.read('dataset.json'))['labels']
    assert summary.count == len(names) and summary.has_labels == (labels is not None)
    assert labels is None or [name for name, _label in labels] == names
    return images, None if labels is None else [label for _name, label in labels]

def test_dataset_tool_reads_all_that_it_says_it_reads(tree, tmp_path):
    photos = [photo(seed, 60, 40) for seed in range(5)]
    folder, archive, database = tmp_path / 'photos', tmp_path / 'photos.zip', tmp_path / 'cat_lmdb'
    (folder / 'deep').mkdir(parents=True)
    with zipfile.ZipFile(archive, 'w') as z:
        for index, image in enumerate(photos):
            image.save(folder / 'deep' / f'{index}.png')
            z.write(folder / 'deep' / f'{index}.png', f'deep/{index}.png')
        found = [[f'deep/{index}.png', index % 3] for index in range(5)]
        (folder / 'dataset.json').write_text(json.dumps(dict(labels=found)))
        z.write(folder / 'dataset.json', 'dataset.json')
    write_lmdb(database, [*photos, photo(5, 30, 20)], lossless=True)
    colours, classes = write_cifar10(tmp_path / 'cifar-10-python.tar.gz')
    levels, digits = write_mnist(tmp_path)

    crop = ['--transform=center-crop', '--width=32', '--height=32']
    wide = ['--transform=center-crop-wide', '--width=32', '--height=20']
    sources = [(folder, crop), (archive, crop), (database, crop), (database, wide),
        (tmp_path / 'cifar-10-python.tar.gz', ['--max-images=20']),
        (tmp_path / 'train-images-idx3-ubyte.gz', ['--max-images=20'])]
    jobs = [['dataset_tool.py', f'--source={source}', f'--dest={tmp_path / "out" / f"{index}.zip"}', *options]
        for index, (source, options) in enumerate(sources)]
    for code, output in run(tree, jobs):
        assert code == 0, output

    sets = [read_set(tmp_path / 'out' / f'{index}.zip') for index in range(len(sources))]
    squares = [image.crop((10, 0, 50, 40)).resize((32, 32), PIL.Image.Resampling.LANCZOS) for image in photos]
    cropped = np.stack([np.array(image) for image in squares])
    for images, found in sets[:2]:
        assert np.array_equal(images, cropped) and found == [0, 1, 2, 0, 1]
    images, found = sets[2]
    assert np.array_equal(images[:5], cropped) and len(images) == 6 and found is None
    images, found = sets[3] # The small one would have to be enlarged.
    assert images.shape == (5, 32, 32, 3) and found is None
    assert not images[:, :6].any() and not images[:, 26:].any() and images[:, 6:26].any(axis=(1, 2, 3)).all()
    images, found = sets[4]
    assert np.array_equal(images, np.broadcast_to(colours[:20, None, None], [20, 32, 32, 3]))
    assert found == classes[:20].tolist()
    images, found = sets[5]
    assert images.shape == (20, 32, 32) and found == digits[:20].tolist() and not images[:, :2].any()
    assert np.array_equal(images[:, 2:30, 2:30], np.broadcast_to(levels[:20, None, None], [20, 28, 28]))

def test_opencv_decodes_what_lsun_holds():
    content = io.BytesIO()
    photo(0, 20, 10).save(content, 'webp', lossless=True)
    pixels = cv2.imdecode(np.frombuffer(content.getvalue(), dtype=np.uint8), 1)[:, :, ::-1]
    assert np.array_equal(pixels, np.array(photo(0, 20, 10)))

#----------------------------------------------------------------------------
# Scripts that take networks, of all kinds.

MIX = ['--rows=1', '--cols=2', '--styles=0-3']
KINDS = {
    'plain':    (dict(), None, []),
    'grey':     (dict(img_channels=1), None, []),
    'classes':  (dict(c_dim=3), 'classes', ['--class=1']),
    'vectors':  (dict(c_dim=2, img_channels=1), 'vectors', ['--class=0.2,0.8']),
}

@pytest.fixture(scope='module')
def subjects(tmp_path_factory):
    """{kind: (G, path of its pickle, class or label or None)}."""
    folder = tmp_path_factory.mktemp('networks')
    made = dict()
    for name, (shape, kind, given) in KINDS.items():
        torch.manual_seed(0)
        shape = dict(dict(c_dim=0, img_channels=3), **shape)
        G = networks.Generator(z_dim=32, img_resolution=32, code_dim=32, num_groups=4, grouping='blocks',
            mapping_kwargs=dict(num_layers=2), synthesis_kwargs=SIZE, **shape)
        label_kind.remember(G.eval().requires_grad_(False), kind)
        D = networks.Discriminator(img_resolution=32, code_dim=32, **SIZE, **shape).eval()
        path = folder / f'{name}.pkl'
        path.write_bytes(pickle.dumps(dict(G=G, D=D, G_ema=G, training_set_kwargs=None, augment_pipe=None)))
        text = given[0].partition('=')[2] if given else None
        made[name] = G, path, None if text is None else label_vector(text) if ',' in text else int(text)
    return made

@pytest.fixture
def cache(tmp_path):
    """Stand-ins for the detectors that would be downloaded, where upstream looks for them. They take three channels."""
    folder = tmp_path / 'cache' / 'downloads'
    folder.mkdir(parents=True)
    vgg = '''
def forward(self, x, resize_images: bool=False, return_lpips: bool=False):
    assert x.shape[1] == 3
    return x[:, :, ::4, ::4].flatten(1) / 255'''
    for url, source in [(detectors.INCEPTION_URL, small_images.COLOURS), (perceptual.VGG_URL, vgg)]:
        small_images.save_script(folder / f'{hashlib.md5(url.encode()).hexdigest()}_{os.path.basename(url)}', source)
    return tmp_path / 'cache'

def test_generate_and_style_mixing_draw_what_our_own_commands_do(tree, subjects, tmp_path):
    scripts = [('generate.py', ['--seeds=3']), ('style_mixing.py', [*MIX, '--trunc=0.5'])]
    jobs = [[script, f'--network={path}', *options, f'--outdir={tmp_path / script / name}', *KINDS[name][2]]
        for name, (_G, path, _class_idx) in subjects.items() for script, options in scripts]
    for code, output in run(tree, jobs):
        assert code == 0, output
    for name, (G, _path, class_idx) in subjects.items():
        image = picture(tmp_path / 'generate.py' / name / 'seed0003.png').astype(int)
        assert np.abs(image - render(G, sample_ws(G, [3], 1, class_idx))).max() <= 1 # Upstream's rounds otherwise.
        c = labels(G, 1, class_idx) if G.c_dim > 0 else None
        mixed = small_networks.mixed_image(G, 1, 2, [0, 1, 2, 3], psi=0.5, c=c)
        assert np.abs(picture(tmp_path / 'style_mixing.py' / name / '1-2.png').astype(int) - mixed).max() <= 1
        assert picture(tmp_path / 'style_mixing.py' / name / 'grid.png').shape == (64, 64, 3)

def test_projector_keeps_w_and_a_video_where_there_is_no_ffmpeg(tree, subjects, cache, tmp_path):
    photo(0, 50, 40).save(tmp_path / 'photo.jpg')
    common = ['projector.py', f'--target={tmp_path / "photo.jpg"}', '--num-steps=1']
    jobs = [[*common, f'--network={path}', f'--outdir={tmp_path / name}', *KINDS[name][2]]
        for name, (_G, path, _class_idx) in subjects.items()]
    for (code, output), name in zip(run(tree, jobs, DNNLIB_CACHE_DIR=cache), subjects):
        assert code == 0, output
        video = tmp_path / name / 'proj-video.png'
        assert ('Warning: MP4 needs imageio-ffmpeg, which is not installed (pip install imageio-ffmpeg): '
            f'the video is {video}, an animated PNG.') in output
    for name, (G, _path, class_idx) in subjects.items():
        assert sorted(os.listdir(tmp_path / name)) == ['proj-video.png', 'proj.png', 'projected_w.npz', 'target.png']
        w = np.load(tmp_path / name / 'projected_w.npz')['w'] # After a first step of length 0 the mean of the class.
        z = torch.from_numpy(np.random.RandomState(123).randn(10000, G.z_dim)).float()
        mean = G.mapping(z, labels(G, len(z), class_idx)).mean(dim=0, keepdim=True)
        assert w.shape == (1, G.num_ws, G.w_dim) and np.allclose(w, mean, atol=1e-3)
        assert picture(tmp_path / name / 'proj.png').shape == (32, 32, 3)

REFUSED = [
    ('classes', [],             '--class: the network is conditional and needs one; the classes are 0 to 2.'),
    ('classes', ['--class=3'],  '--class: 3 is out of range: the classes are 0 to 2.'),
    ('vectors', ['--class=1'],  '--class: the network was trained on label vectors, not on classes, '
        'and needs one of 2 numbers: --class=0.2,0.8 or --label=FILE.'),
]

def test_scripts_refuse_what_has_no_label_in_one_sentence_with_exit_code_2(tree, subjects, tmp_path):
    jobs, sentences = [], []
    for script, options in [('generate.py', ['--seeds=3']), ('style_mixing.py', MIX)]:
        for name, given, sentence in REFUSED:
            jobs.append([script, f'--network={subjects[name][1]}', *options, *given, f'--outdir={tmp_path / "out"}'])
            sentences.append(sentence)
    for job, (code, output), sentence in zip(jobs, run(tree, jobs), sentences):
        assert code == 2 and output.strip().splitlines()[-1] == f'Error: {sentence}', (job, output)

def test_codes_that_were_projected_need_no_class(tree, subjects, tmp_path):
    G, path, class_idx = subjects['classes']
    ws = sample_ws(G, [5], 1, class_idx)
    np.savez(tmp_path / 'w.npz', w=ws.numpy())
    job = ['generate.py', f'--network={path}', f'--projected-w={tmp_path / "w.npz"}', f'--outdir={tmp_path}']
    (code, output), = run(tree, [job])
    assert code == 0, output
    assert np.abs(picture(tmp_path / 'proj00.png').astype(int) - render(G, ws)).max() <= 1

def write_set(path, G):
    """A zip of images with a network's channels, and labels of its kind."""
    with zipfile.ZipFile(path, 'w') as archive:
        for index in range(20):
            content = io.BytesIO()
            photo(index, 32, 32).convert('L' if G.img_channels == 1 else 'RGB').save(content, 'png')
            archive.writestr(f'{index:02d}.png', content.getvalue())
        label = (lambda index: index % 3) if G.c_dim == 3 else (lambda index: [index / 20, 1])
        found = [[f'{index:02d}.png', label(index)] for index in range(20)] if G.c_dim > 0 else None
        archive.writestr('dataset.json', json.dumps(dict(labels=found)))
    return path

@pytest.mark.filterwarnings('ignore:.torch.jit:DeprecationWarning')
def test_calc_metrics_measures_them_all(tree, subjects, cache, tmp_path):
    sets = {name: write_set(tmp_path / f'{name}.zip', G) for name, (G, _path, _class_idx) in subjects.items()}
    jobs = [['calc_metrics.py', f'--network={path}', f'--data={sets[name]}', '--metrics=fid50k_full']
        for name, (_G, path, _class_idx) in subjects.items()]
    for code, output in run(tree, jobs, num_made=64, DNNLIB_CACHE_DIR=cache):
        assert code == 0, output
        assert np.isfinite(json.loads(re.search(r'^{"results".*', output, flags=re.M)[0])['results']['fid50k_full'])

def test_legacy_writes_networks_again_and_nothing_of_a_file_that_is_none(tree, subjects, tmp_path):
    (tmp_path / 'page.pkl').write_text('<!DOCTYPE html>')
    _G, path, _class_idx = subjects['classes']
    (code, output), (failed, told) = run(tree, [['legacy.py', f'--source={source}', f'--dest={tmp_path / dest}']
        for source, dest in [(path, 'again.pkl'), (tmp_path / 'page.pkl', 'none.pkl')]])
    assert code == 0, output
    before, after = (unpickler.read(file.read_bytes()) for file in [path, tmp_path / 'again.pkl'])
    for name in ['G', 'D', 'G_ema']:
        written = after[name].state_dict()
        assert all(torch.equal(tensor, written[key]) for key, tensor in before[name].state_dict().items())
    assert failed == 1 and 'UnpicklingError' in told and not (tmp_path / 'none.pkl').exists()

#----------------------------------------------------------------------------
# The recipes of the docs.

def recipes(page):
    """The lines of a page that make a data set of a download, and those that train with what they made."""
    text = (trees.ROOT / 'docs' / page).read_text().replace('\\\n', ' ')
    lines = [line for block in re.findall(r'```bash\n(.*?)```', text, flags=re.DOTALL) for line in block.splitlines()]
    making = [line for line in lines if line.startswith('python dataset_tool.py') and 'downloads/' in line]
    made = {re.search(r'--dest[ =](\S+)', line)[1] for line in making}
    training = [line for line in lines if line.startswith('python train.py')]
    return making, [line for line in training if re.search(r'--data[ =](\S+)', line)[1] in made]

def write_download(path):
    """What somebody who followed the docs has there, with a few pictures."""
    if path.name == 'cat_lmdb':
        write_lmdb(path, [photo(0, 300, 260), photo(1, 256, 400)])
    elif path.name == 'car_lmdb':
        write_lmdb(path, [photo(0, 640, 480), photo(1, 300, 225), photo(2, 800, 700), photo(3, 1000, 500)])
    elif path.name == 'images1024x1024':
        (path / '00000').mkdir(parents=True)
        for index in range(2):
            photo(index, 1024, 1024).save(path / '00000' / f'{index:05d}.png')
    elif path.name in ['paris_train_original', 'paris_eval_gt']:
        path.mkdir(parents=True)
        for index in range(3):
            photo(index, 936, 537).save(path / f'{index:03d}_im.JPG', 'jpeg')
    else:
        pytest.fail(f'no stand-in is known for {path}')

def typed(line, home):
    """The words that a shell makes of a line."""
    done = subprocess.run(['bash', '-c', f"printf '%s\\0' {line}"], env=dict(os.environ, HOME=str(home)),
        capture_output=True, text=True, check=True)
    return done.stdout.split('\0')[:-1]

@pytest.mark.parametrize('page, number, counts', [('datasets.md', 4, [2, 2, 2, 3]), ('inpainting.md', 2, [3, 3])])
def test_the_recipes_of_the_docs_make_data_sets_that_can_be_trained_on(page, number, counts, tmp_path):
    making, training = recipes(page)
    assert len(making) == number and len(training) >= number
    for line, count in zip(making, counts):
        options = dict(zip(words := typed(line, tmp_path), words[1:]))
        write_download(Path(options['--source']))
        done = subprocess.run(['bash', '-c', line], cwd=INSTALLED, capture_output=True, text=True, check=False,
            env=dict(os.environ, HOME=str(tmp_path), PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}'))
        assert done.returncode == 0, done.stderr
        assert Path(options['--dest']).is_relative_to(tmp_path / 'datasets')
        assert dataset_check.check(options['--dest']).count == count
    for line in training:
        done = CliRunner().invoke(train.main, [*typed(line, tmp_path)[2:], '--dry-run'])
        assert done.exit_code == 0, (line, done.output)

#----------------------------------------------------------------------------
