"""Commands that write, with whatever is typed and whatever is in their files: nothing is lost,
and nothing lands elsewhere."""

import contextlib
import ctypes
import glob
import hashlib
import json
import math
import multiprocessing
import os
import pickle
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, strategies as st

import small_training
from fuzzing import NUMBERS, TEXTS, VALUES, fuzz
from sarigan_plugin.cli import main
from sarigan_plugin.commands.train import main as train_main
from sarigan_plugin.snapshots import exported, model_card, reading, rosinality

from torch_utils import training_stats
from training import networks as upstream_networks

#----------------------------------------------------------------------------
# The world around a command.

@contextlib.contextmanager
def without_privileges():
    """Inside the `with`, root minds the permissions of files as everybody does."""
    libc = ctypes.CDLL(None)
    # This process; effective, permitted, inheritable, twice.
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    before = sets[0]
    sets[0] &= ~(1 << 1 | 1 << 2) # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = before
        assert libc.capset(header, sets) == 0

def everything(folder):
    """{path: content} of all that is there; of a folder None, of a link where it points to."""
    found = dict()
    for path in Path(folder).rglob('*'):
        found[path] = os.readlink(path) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
    return found

def remove(folder):
    for place, _folders, _files in os.walk(folder):
        os.chmod(place, 0o700)
    shutil.rmtree(folder)

def assert_answered(code, output, errors, what):
    """An answer, or one sentence and exit code 2."""
    assert code in [0, 2] and 'Traceback' not in output + errors, (what, code, output + errors)
    if code == 2:
        said = [line for line in errors.splitlines() if line.startswith('Error: ')]
        assert len(said) == 1 and len(said[0]) > 20, (what, errors)

#----------------------------------------------------------------------------
# sarigan generate, groups, edit, mix, directions, export, import and pack.

TOOL_CASES = [30, pytest.param(3000, marks=pytest.mark.slow)]

SIZE = dict(channel_base=32, channel_max=4)
SOURCES = ['sarigan.pkl', 'plain.pkl', 'labelled.pkl', 'exported', 'theirs.pt', 'notes.txt', 'full', 'missing.pkl']
DESTINATIONS = ['new', 'new.pt', 'new.pkl', 'new/deeper', './new', 'ünï ☃', '\udcff', '', '.', '..', '../new', 'full',
    'full/new.pkl', 'full/', 'linked', 'locked', 'locked/new', 'locked/new.pt', 'notes.txt',
    'notes.txt/new', 'sarigan.pkl', 'theirs.pt', 'exported', 'exported/new', 'full/network-snapshot-000001.pkl',
    'missing/new.pt', '/proc/nowhere', '/dev/null', '/dev/null/new', '~', '-', '--to', '*', 'x' * 300]

@pytest.fixture(scope='module')
def workbench(tmp_path_factory):
    """A folder with networks in all formats, and places where a command may be sent to write."""
    from sarigan_plugin.model import networks
    def pickled(path, of, width, c_dim=0, **kwargs):
        torch.manual_seed(0)
        G = of.Generator(z_dim=4, c_dim=c_dim, img_resolution=8, img_channels=3, mapping_kwargs=dict(num_layers=2),
            synthesis_kwargs=SIZE, **kwargs, **{width: 4}).eval().requires_grad_(False)
        D = of.Discriminator(c_dim=c_dim, img_resolution=8, img_channels=3, **SIZE,
            **({width: 4} if of is networks else {}))
        data = dict(G=G, D=D, G_ema=G, training_set_kwargs=None, augment_pipe=None)
        path.write_bytes(pickle.dumps(data))
        return data

    here = tmp_path_factory.mktemp('workbench') / 'here'
    for name in ['exported', 'full', 'linked', 'locked']:
        (here / name).mkdir(parents=True)
    data = pickled(here / 'sarigan.pkl', networks, 'code_dim', num_groups=2)
    pickled(here / 'plain.pkl', upstream_networks, 'w_dim')
    pickled(here / 'labelled.pkl', networks, 'code_dim', num_groups=2, c_dim=3)
    exported.write(data, here / 'exported')
    torch.save(rosinality.to_checkpoint(data)[0], here / 'theirs.pt')
    np.savez(here / 'w.npz', w=np.zeros([2, data['G'].num_ws, data['G'].w_dim], np.float32))
    (here / 'notes.txt').write_text('not a network')
    for name in ['network-snapshot-000001.pkl', 'seed0001.png', 'groups.png', 'training-state-000001000.pt']:
        (here / 'full' / name).write_bytes(name.encode())
    # What a command writes under these names must not go where they point to.
    for name in ['seed0000.png', 'proj00.png', 'strip.png']:
        (here / 'linked' / name).symlink_to('../sarigan.pkl')
    (here / 'locked' / 'old').write_text('old')
    return here

SPOTS = st.lists(st.tuples(st.integers(0, 10 ** 6), st.integers(0, 7)), min_size=1, max_size=3)

@st.composite
def damages(draw):
    """What befalls a file: a function of its bytes."""
    kind = draw(st.sampled_from(['none', 'none', 'cut', 'flip', 'flip', 'more', 'other']))
    where, rubbish = draw(SPOTS), draw(st.binary(max_size=20))
    def damage(content):
        if kind == 'cut':
            return content[:where[0][0] % (len(content) + 1)]
        if kind == 'flip' and content:
            spoiled = bytearray(content)
            for place, bit in where:
                spoiled[place % len(content)] ^= 1 << bit
            return bytes(spoiled)
        return {'more': content + rubbish, 'other': rubbish}.get(kind, content)
    return damage

def edited(tree, steps, value):
    """A copy of nested dicts and lists with one value exchanged; steps choose which."""
    if not steps or not isinstance(tree, (dict, list)) or not tree:
        return value
    tree = dict(tree) if isinstance(tree, dict) else list(tree)
    key = sorted(tree)[steps[0] % len(tree)] if isinstance(tree, dict) else steps[0] % len(tree)
    tree[key] = edited(tree[key], steps[1:], value)
    return tree

EDITS = st.one_of(st.none(), st.tuples(st.lists(st.integers(0, 20), max_size=5),
    st.one_of(VALUES, st.sampled_from([-1, 0, 2 ** 70, 'training.networks.Generator', None, {}]))))

def spoil(folder, source, damage, edit):
    """Damage a file, or one of the two in an exported folder; half of the time the checksum knows of it."""
    path = folder / source
    if path.is_file():
        path.write_bytes(damage(path.read_bytes()))
    elif source == 'exported':
        description = json.loads((path / exported.DESCRIPTION).read_text())
        tensors = path / exported.TENSORS
        tensors.write_bytes(damage(tensors.read_bytes()))
        if edit is None:
            description['tensors_sha256'] = hashlib.sha256(tensors.read_bytes()).hexdigest()
        else:
            description = edited(description, *edit)
        (path / exported.DESCRIPTION).write_text(json.dumps(description))

OPTIONS = dict(generate=['seeds', 'trunc', 'class', 'noise-mode', 'device', 'projected-w', 'outdir', 'network', 'to'],
    groups=['seeds', 'trunc', 'class', 'outdir', 'to'], export=['to', 'outdir'],
    edit=['seed', 'trunc', 'class', 'layer', 'group', 'inter', 'inter-shift', 'inter-from', 'intra', 'intra-mix',
        'scales', 'recipe', 'projected-w', 'outdir'],
    mix=['rows', 'cols', 'layer', 'group', 'code', 'trunc', 'class', 'outdir'],
    directions=['seeds', 'layer', 'down', 'up', 'top', 'attributes', 'scorer', 'class', 'groups', 'outdir'],
    regroup=['seeds', 'by', 'num-groups', 'attributes', 'trunc', 'class', 'to', 'groups'])
OPTIONS['import'] = OPTIONS['export']
OPTIONS['pack'] = ['to', 'licence', 'trained-on', 'figures', 'machine']
SEEDS = st.sampled_from(['0-2', '1', '0,5', '3-1', '', '-1', '0-', 'a', '4294967295', '4294967296', '0-99999999999',
    '9' * 5000, '٣', '0-0'])
ARRAYS = st.one_of(st.none(), st.builds(lambda shape, kind: np.zeros(shape, kind), st.sampled_from([(2, 4, 8),
    (2, 4, 8), (0, 4, 8), (1, 4, 7), (4, 8), ()]), st.sampled_from(['f4', 'f8', 'i4', 'c8', 'U3', 'bool', 'O'])))

@st.composite
def tool_commands(draw):
    """(command, arguments, name of the source, destination)"""
    command, source, dest = (
        draw(st.sampled_from(
            ['generate', 'groups', 'edit', 'mix', 'directions', 'regroup', 'export', 'import', 'pack'])),
        draw(st.sampled_from(SOURCES + ['sarigan.pkl'] * 4)), draw(st.sampled_from(DESTINATIONS + ['new'] * 8)))
    # No command line can have that character.
    options = st.tuples(st.sampled_from(OPTIONS[command]), st.one_of(NUMBERS, TEXTS)).map(
        lambda pair: f'--{pair[0]}={pair[1]}'.replace('\x00', ''))
    more = draw(st.one_of(st.just([]), st.just(['--trust-pickle'] if command != 'import' else []),
        options.map(lambda option: [option])) if draw(st.booleans()) else st.just([]))
    if command in ['export', 'import', 'pack']:
        licence = ['--licence=mit'] if command == 'pack' else []
        return command, [*licence, *more, f'--to={dest}', '--', source], source, dest
    if command == 'regroup':
        return command, ['--seeds=0-1', '--num-groups=2', '--quick', *more, f'--to={dest}', '--', source], source, dest
    seeds = draw(st.one_of(st.just(['--seeds=0-1']), st.just(['--seeds=0-1']),
        SEEDS.map(lambda text: [f'--seeds={text}']), st.just([])))
    # Before `more`, which may say otherwise.
    what = dict(groups=seeds, directions=seeds, edit=['--seed=0', '--layer=b8.conv1', '--group=0', '--inter=2'],
        mix=['--rows=0', '--cols=1'])
    if command in what:
        return command, [*what[command], *more, f'--outdir={dest}', '--', source], source, dest
    projected = draw(st.sampled_from([[], [], ['--projected-w=w.npz']]))
    label = draw(st.sampled_from([[], ['--class=1']]))
    return command, [*more, *seeds, *label, *projected, f'--network={source}', f'--outdir={dest}'], source, dest

PICTURES = re.compile(r'(seed\d{4,}|proj\d\d|groups|strip|before|after|difference|grid|directions)\.png')
PAGES = ['index.html', 'attention.json', 'edit.json', 'directions.json'] # Made anew as well.
FOLDERS = ['groups', 'cells']
FOLDER_FILES = [*exported.LAYOUTS, *exported.LAYOUTS.values(), model_card.CARD]
DRAWING = ['generate', 'groups', 'edit', 'mix', 'directions']

def is_drawn(path, dest):
    return (path.parent == dest and (PICTURES.fullmatch(path.name) or path.name in PAGES) or path.parent.parent == dest
        and path.parent.name in FOLDERS and path.suffix == '.png')

def assert_only_there(before, after, command, dest):
    """Pictures may be replaced by pictures; all else that was there stays, and what is new is at dest."""
    dest = Path(os.path.normpath(Path.cwd() / dest))
    for path, content in before.items():
        assert command in DRAWING and is_drawn(path, dest) or after.get(path, 'gone') == content, path
    for path in after.keys() - before.keys():
        if after[path] is None and path in [dest, *dest.parents, *(dest / folder for folder in FOLDERS)]:
            continue
        if command in DRAWING:
            assert is_drawn(path, dest), path
        else:
            assert path == dest or (path.parent == dest and path.name in FOLDER_FILES), path

def assert_made(command, dest):
    if command == 'import':
        reading.load_all(dest, '--to')
    elif command in DRAWING:
        for path in Path(dest).glob('*.png'):
            if PICTURES.fullmatch(path.name) and not path.is_symlink():
                assert path.read_bytes() == path.name.encode() or PIL.Image.open(path).size[0] >= 8, path

@pytest.mark.parametrize('cases', TOOL_CASES)
@pytest.mark.filterwarnings('ignore')
def test_tools_write_where_they_are_told_and_overwrite_nothing_but_pictures(workbench, tmp_path, monkeypatch, cases):
    here = tmp_path / 'here'
    @fuzz(cases)
    @given(tool_commands(), damages(), EDITS, ARRAYS)
    def run(typed, damage, edit, array):
        command, arguments, source, dest = typed
        shutil.copytree(workbench, here, symlinks=True)
        monkeypatch.chdir(here)
        if array is not None:
            np.savez(here / 'w.npz', w=array)
        if '--trust-pickle' not in arguments: # What is trusted runs, whatever that leads to.
            spoil(here, 'w.npz' if '--projected-w=w.npz' in arguments else source, damage, edit)
        os.chmod(here / 'locked', 0o500)
        try:
            before = everything(tmp_path)
            with without_privileges():
                done = CliRunner().invoke(main, [command, *arguments])
            assert done.exception is None or isinstance(done.exception, SystemExit), (typed, done.exc_info)
            assert_answered(done.exit_code, done.stdout, done.stderr, typed)
            last_dest = [argument.partition('=')[2]
                for argument in arguments if argument.startswith(('--outdir=', '--to='))][-1]
            assert_only_there(before, everything(tmp_path), command, last_dest)
            if done.exit_code == 0:
                assert_made(command, last_dest)
        finally:
            monkeypatch.chdir(tmp_path)
            remove(here)
    run()

#----------------------------------------------------------------------------
# Trainings, each in a process of its own.

TRAINING_CASES = [3, pytest.param(300, marks=pytest.mark.slow)]

CONFIG = small_training.config(method=dict(num_groups=2, code_dim=4), networks=dict(channel_base=32, channel_max=4),
    training=dict(batch=500, grid=[2, 1]))

@pytest.fixture(scope='module')
def yard(workbench, tmp_path_factory):
    """The workbench, with data sets and a config for trainings of a second."""
    # Once, for all the processes that fork.
    import torch._dynamo  # noqa: E401, F401

    import sarigan_plugin.losses.sarigan
    import sarigan_plugin.trainer.progress  # noqa: F401

    import training.training_loop  # noqa: F401
    here = tmp_path_factory.mktemp('yard') / 'here'
    shutil.copytree(workbench, here, symlinks=True)
    (here / 'mine.toml').write_text(CONFIG)
    for name, method in METHODS.items():
        (here / f'{name}.toml').write_text(CONFIG.replace('[method]', f'[method]\n{method}'))
    rng = np.random.RandomState(0)
    pictures = {f'{index}.png': rng.randint(256, size=[8, 8, 3]).astype(np.uint8) for index in range(6)}
    for folder in ['images', 'spotty']:
        (here / folder).mkdir()
        for name, picture in pictures.items():
            PIL.Image.fromarray(picture).save(here / folder / name)
        (here / folder / 'dataset.json').write_text(
            json.dumps(dict(labels=[[name, index % 3] for index, name in enumerate(pictures)])))
    with open(here / 'spotty' / '2.png', 'r+b') as f:
        f.truncate(60)
    PIL.Image.new('RGB', (4, 4)).save(here / 'spotty' / '4.png')
    shutil.make_archive(str(here / 'zipped'), 'zip', here / 'images')
    (here / 'cut.pkl').write_bytes((here / 'sarigan.pkl').read_bytes()[:-1000])
    return here

DATA = ['images'] * 20 + ['zipped.zip', 'spotty', 'notes.txt']
OUTDIRS = ['out'] * 12 + ['out/nested/deeper', './out', 'ünï ☃', '\udcff', 'o*[u]?', '', '.', 'images', 'notes.txt',
    'notes.txt/new', 'locked', 'locked/new', 'full', '/proc/nowhere', '/dev/null', 'x' * 300, '~', '-']
# In capitals: of the newest run.
RESUMES = ['latest', 'latest', 'noresume', 'LAST', 'LAST', 'SNAPSHOT', 'sarigan.pkl', 'plain.pkl', 'labelled.pkl',
    'exported', 'cut.pkl', 'notes.txt', 'missing', 'out', 'full']
METHODS = { # Configs beside mine.toml, and what they say of the method.
    'often': 'regroup_kimg = 0.1', 'kmeans': 'grouping = "kmeans"', 'feature': 'norm = "feature"',
    'responses': 'similarity = "responses"',
}
SETTINGS = {
    'resume': RESUMES, 'kimg': [1, 2, 3], 'snap': [1, 2, 0], 'keep-states': [1, 2, 5], 'checkpoint-minutes': [0.0001,
        1], 'grid': ['1x1', '3x2', '99x99', '2'], 'batch': [1000, 250, 334, 501, 2000], 'workers': [1, 2],
    'cond': [1], 'subset': [1, 3, 6, 9], 'mirror': [1], 'skip-bad-images': [1], 'seed': [1, -1, 2 ** 40],
    'aug': ['noaug', 'ada', 'fixed'], 'p': [0.5], 'target': [0.9], 'augpipe': ['blit', 'bgcfnc'],
    'gamma': [0, 1e38, 'nan', 'inf'], 'max-bad-iterations': [1, 2], 'max-rollbacks': [0, 1],
    'num-groups': ['auto', 1, '8:4'], 'grouping': ['none', 'random'], 'inertia': [1],
    'freezed': [1, 99], 'fp32': [1], 'nhwc': [1], 'timeout': [1e-9],
    'cfg': ['mine.toml', 'missing.toml', *(f'{name}.toml' for name in METHODS)],
}
CHOICES = st.sampled_from([name for name in SETTINGS
    for _ in range(4 if name in ['resume', 'kimg', 'snap', 'keep-states', 'checkpoint-minutes'] else 1)])
SETTING = CHOICES.flatmap(lambda name: st.sampled_from(SETTINGS[name]).map(lambda value: (name, value)))

@st.composite
def commands(draw):
    """One command, typed one to three times with small changes, and what happens to its files before each but the
    first."""
    basis = dict(draw(st.lists(SETTING, max_size=2)), data=draw(st.sampled_from(DATA)),
        outdir=draw(st.sampled_from(OUTDIRS)))
    if basis['data'] == 'spotty' and draw(st.booleans()):
        basis['skip-bad-images'] = 1
    steps = [(basis, None)]
    for _again in range(draw(st.integers(0, 2))):
        steps.append(({**basis, **dict(draw(st.lists(SETTING, max_size=2)))}, draw(MISHAPS)))
    return steps

# What happens to the folder of the newest run.

@st.composite
def spoilt_files(draw):
    pattern, damage = draw(st.sampled_from(['training-state-*.pt', 'training_options.json', 'stats.jsonl', 'log.txt',
        'network-snapshot-*.pkl'])), draw(damages())
    def happen(run):
        for path in sorted(run.glob(pattern))[-1:]:
            path.write_bytes(damage(path.read_bytes()))
    return happen

@st.composite
def edited_options(draw):
    steps, value = draw(st.lists(st.integers(0, 30), max_size=3)), draw(VALUES)
    def happen(run):
        path = run / 'training_options.json'
        if path.is_file():
            path.write_text(json.dumps(edited(json.loads(path.read_text()), steps, value)))
    return happen

@st.composite
def lost_files(draw):
    pattern, number = draw(st.sampled_from(['training-state-*.pt', 'training-state-*.pt', 'training_options.json',
        'stats.jsonl', 'log.txt', 'fakes*.png', '*'])), draw(st.integers(1, 3))
    def happen(run):
        for path in sorted(run.glob(pattern))[-number:]:
            path.unlink() if path.is_file() else shutil.rmtree(path)
    return happen

@st.composite
def stray_files(draw):
    name = draw(st.sampled_from(['training-state-old.pt', 'training-state-000009999.pt', '.writing-abc', 'log.txt',
        'stats.jsonl', '.lock', 'log-cut.txt', 'fakes_init.png', 'network-snapshot-000002.pkl',
        '../00009-old', '../00009-old/training-state-.pt', '../99999999999999999999-x',
        '../00009-old/training-state-000000500.pt']))
    as_folder, content = draw(st.booleans()), draw(st.binary(max_size=20))
    def happen(run):
        path = Path(os.path.normpath(run / name))
        if path.is_file():
            path.unlink()
        path.parent.mkdir(exist_ok=True)
        path.mkdir(exist_ok=True) if as_folder or path.is_dir() else path.write_bytes(content)
    return happen

@st.composite
def closed_folders(draw):
    mode, of_all = draw(st.sampled_from([0o500, 0o300, 0])), draw(st.booleans())
    return lambda run: os.chmod(run.parent if of_all else run, mode)

MISHAPS = st.one_of(st.none(), st.none(), spoilt_files(), edited_options(), lost_files(), lost_files(), stray_files(),
    stray_files(), closed_folders())

def newest_run(outdir):
    """The folder of the newest run, or one that isn't there."""
    return Path(last_of(outdir, '[0-9]*-*/', os.path.join(outdir, '00000-none')))

def last_of(folder, pattern, default):
    return max(glob.glob(os.path.join(glob.escape(folder), pattern)), default=default)

def train(arguments):
    """The command in a process of its own, on the files of this folder. Returns (exit code, output, errors)."""
    with open('../output', 'w+b') as output, open('../errors', 'w+b') as errors:
        process = multiprocessing.get_context('fork').Process(target=_child,
            args=(arguments, output.fileno(), errors.fileno()))
        process.start()
        process.join(300)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f'hangs: {arguments}')
        return (process.exitcode, Path('../output').read_text(errors='replace'),
            Path('../errors').read_text(errors='replace'))

def _child(arguments, output, errors):
    os.dup2(output, 1)
    os.dup2(errors, 2)
    sys.stdout, sys.stderr = [open(number, 'w', buffering=1, encoding='utf-8', errors=how, closefd=False)
        for number, how in [(1, 'strict'), (2, 'backslashreplace')]]
    torch.set_num_threads(1) # As after every fork: the pool of the parent has no threads here.
    training_stats._sync_called = False # As in a new process: other tests may have read statistics in the parent.
    with without_privileges():
        train_main(arguments, prog_name='train.py')

ADDED_TO = ('log.txt', 'log-cut.txt', 'stats.jsonl', 'training_options.json', '.lock')

def lines(files, path):
    return [line for line in (files.get(path) or b'').decode(errors='replace').splitlines() if line.strip()]

def ticks(files, run):
    """The thousands of images of every line of stats.jsonl that is whole."""
    return [float(found[1]) for line in lines(files, run / 'stats.jsonl')
        if (found := re.match(r'\{.*"Progress/kimg": \{"num": 1, "mean": ([\d.]+),.*\}$', line))]

MADE_AT = re.compile(r'(network-snapshot-|fakes)(\d+)\.(pkl|png)')

def assert_run_only_went_on(before, after, run, outdir, keep, first_image):
    """Of what was there only the run's logs grew and its oldest states went; all that is new is in its folder.

    first_image: of the earliest state that it went on from, infinity if of none. What was made after that state is made
    again; what was made with it, at the end of a tick, is not.
    """
    ended_a_tick = first_image in [round(kimg * 1000) for kimg in ticks(before, run)]
    first_remade = first_image + 1 if ended_a_tick else first_image // 1000 * 1000
    for path, content in before.items():
        if after.get(path, 'gone') == content:
            continue
        assert path.parent == run, path
        if path.match('training-state-*.pt') or path.name.startswith('.writing-'):
            assert path not in after, path
        else:
            made_at = MADE_AT.fullmatch(path.name)
            assert path in after and (path.name in ADDED_TO
                or (made_at is not None and int(made_at[2]) * 1000 >= first_remade)), path
    for path in after.keys() - before.keys():
        assert path == run or path.parent == run or (after[path] is None and path in [outdir, *outdir.parents]), path
        assert not path.name.startswith('.writing-'), path
    assert len(
        [path for path in after if path.parent == run and re.fullmatch(r'training-state-\d+\.pt', path.name)]) <= keep

def assert_nothing_is_forgotten(before, after, run):
    """What log.txt said is in it still, or in log-cut.txt; stats.jsonl has every tick up to the last one,
    and none twice."""
    said = set(lines(after, run / 'log.txt') + lines(after, run / 'log-cut.txt'))
    assert set(lines(before, run / 'log.txt')) <= said
    now = ticks(after, run)
    assert len(now) == len(set(now)) and {tick
        for tick in ticks(before, run) if tick <= max(now, default=0)} <= set(now)

@pytest.mark.parametrize('cases', TRAINING_CASES)
def test_trainings_write_into_their_folder_alone_and_no_snapshot_changes(yard, tmp_path, monkeypatch, cases):
    here = tmp_path / 'here'
    @fuzz(cases)
    @given(commands())
    def run(steps):
        shutil.copytree(yard, here, symlinks=True)
        monkeypatch.chdir(here)
        os.chmod(here / 'locked', 0o500)
        try:
            for settings, mishap in steps:
                outdir = Path(os.path.normpath(here / settings['outdir']))
                if mishap is not None and os.path.isdir(newest_run(outdir)):
                    mishap(newest_run(outdir))
                last = newest_run(outdir)
                of_last = dict(LAST=last, SNAPSHOT=last_of(last, 'network-snapshot-*.pkl', 'none'))
                settings = {name: of_last.get(value, value) for name, value in settings.items()}
                before = everything(tmp_path)
                arguments = ['--cfg=mine.toml', '--metrics=none', '--device=cpu',
                    *[f'--{name}={value}' for name, value in settings.items()]]
                code, output, errors = train(arguments)
                assert_answered(code, output, errors, arguments)
                after = everything(tmp_path)
                for name in ['output', 'errors']:
                    before.pop(tmp_path / name, None), after.pop(tmp_path / name)
                for path in before: # Who had a folder last.
                    if path.name == '.lock' and path in after:
                        after[path] = before[path]
                if code == 2 and '--max-rollbacks' not in errors: # What diverged has begun, and stays.
                    assert after == before, (arguments, errors,
                        [path for path in {*before, *after} if before.get(path, 'new') != after.get(path, 'gone')])
                else:
                    made = Path(os.path.normpath(here / re.search(r'^Output directory: +(.*)$', output, re.M)[1]))
                    first_image = min(map(int, re.findall(r'^Going on from .*training-state-(\d+)\.pt$', output, re.M)),
                        default=math.inf)
                    assert_run_only_went_on(before, after, made, outdir, settings.get('keep-states', 2), first_image)
                    assert_nothing_is_forgotten(before, after, made)
        finally:
            monkeypatch.chdir(tmp_path)
            remove(here)
    run()

#----------------------------------------------------------------------------
