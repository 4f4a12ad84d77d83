"""Assemble the stylegan2-ada-pytorch tree from two Python packages that redistribute it.

For machines that reach a Python package index but not GitHub. dnnlib, torch_utils and legacy.py are in the one wheel
unchanged; training, metrics and the scripts come from the other, with imports made absolute and its own additions
resolved away. What results computes the same as upstream's commit, bit for bit (tests/upstream/test_upstream.py): its
files differ in import order and comments.

Wheels and result are pinned by sha256, and each edit must match exactly once, so that anything unexpected stops the
assembly instead of leaving a half-edited tree. train.py, generate.py and upstream's LICENSE are in neither wheel: the
tree gets entry points of ours. NVIDIA's licence covers the tree; it is assembled on the user's machine, never shipped.
"""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

MARKER = '.sarigan-upstream.json'

# The sha256 over all 39 assembled files (see tree_hash), entry points of ours apart.
TREE_SHA256 = '114ca6add136d42dc747f5c4517c3b15e5abb2a3c34e87b926339202c10d8363'

# requirement -> sha256 of its wheel.
LIBRARY_WHEEL  = 'draggan==1.1.6'
TRAINING_WHEEL = 'slideflow-noncommercial==0.0.2'
WHEELS = {
    LIBRARY_WHEEL:  'cf3abe5636bf6f9ca0ebf9749e61c9742fba8b2391b19520c938de8c8272c9ef',
    TRAINING_WHEEL: 'e63bbc1dca55a1b3ab29bbc7bfc689001cbeba88b08bdc12139575f29c992c51',
}
LIBRARY_PREFIX  = 'draggan/stylegan2/'
TRAINING_PREFIX = 'slideflow_noncommercial/stylegan2/'
SCRIPTS = ('calc_metrics.py', 'projector.py', 'style_mixing.py', 'dataset_tool.py')

class AssemblyError(RuntimeError):
    """The tree can't be assembled; the message says why, in one sentence."""

#----------------------------------------------------------------------------
# Entry points that the wheels lack. train.py ends as upstream's does, so that the same patch hooks both.

ENTRY_POINTS = {
    'train.py': '''\
"""Stands in for upstream's train.py, which the packages that this tree was assembled from lack."""

import sys

def main():
    sys.exit("sarigan's patches are not applied: run ./install.sh")

if __name__ == "__main__":
    main() # pylint: disable=no-value-for-parameter
''',
    'generate.py': '''\
"""Stands in for upstream's generate.py, which the packages that this tree was assembled from lack."""

from sarigan_plugin.hooks import generate

if __name__ == "__main__":
    generate() # pylint: disable=no-value-for-parameter
''',
}

#----------------------------------------------------------------------------
# Step 1: imports. The second wheel made them relative, or absolute within its own package.

def absolute_imports(source):
    source = re.sub(
        r'^([ \t]*)from (?:\.\.|stylegan2) import (.+)$',
        lambda match: '\n'.join(f'{match[1]}import {name.strip()}' for name in match[2].split(',')),
        source, flags=re.M)
    return re.sub(r'^([ \t]*)from (?:\.\.|stylegan2\.)(\w[\w.]*) import ', r'\1from \2 import ', source, flags=re.M)

#----------------------------------------------------------------------------
# Step 2: branches. The second wheel put upstream's lines under conditions of its own.

def _indent(line):
    return len(line) - len(line.lstrip())

def _block_end(lines, header_at):
    """Index after the last line of the block under lines[header_at]."""
    end = at = header_at + 1
    while at < len(lines) and (not lines[at].strip() or _indent(lines[at]) > _indent(lines[header_at])):
        at += 1
        if lines[at - 1].strip():
            end = at
    return end

def resolve_branches(name, source, header, keep, count=1, otherwise='else:'):
    """Replace each statement `header` (an if, a try) by one of its branches.

    keep: 'if' or 'else'; 'same' takes those whose two branches are equal and leaves the others alone.
    """
    lines = source.split('\n')
    at, found = 0, 0
    while at < len(lines):
        if lines[at].strip() == header:
            indent = _indent(lines[at])
            end = first_end = _block_end(lines, at)
            first, second = lines[at + 1 : first_end], []
            if first_end < len(lines) and lines[first_end] == ' ' * indent + otherwise:
                end = _block_end(lines, first_end)
                second = lines[first_end + 1 : end]
            if keep != 'same' or first == second:
                lines[at:end] = [line[4:] for line in (second if keep == 'else' else first)]
                found += 1
                continue # the kept branch may itself start with the header
        at += 1
    if found != count:
        raise AssemblyError(f'{name} is not what it should be: {header!r} was found {found} times instead of {count}.')
    return '\n'.join(lines)

_IS_SLIDEFLOW = "if 'slideflow' in opts.dataset_kwargs.class_name:"
_HAS_LENGTH   = "if hasattr(dataset, '__len__') and dataset.__class__.__name__ != 'StyleGAN2Interleaver':"
_NO_LENGTH    = "if not hasattr(training_set, '__len__') or training_set.__class__.__name__ == 'StyleGAN2Interleaver':"

# file -> [(header, branch to keep, occurrences[, header of the other branch])]
BRANCHES = {
    'training/networks.py': [
        ('try:', 'same', 1, 'except ImportError:'),
        ('if interp_embed:', 'else', 1),
        ('if self.inst_noise_sigma:', 'else', 1),
    ],
    'training/augment.py': [
        ('try:', 'same', 1, 'except ImportError:'),
    ],
    'training/training_loop.py': [
        ("if 'slideflow' in training_set_kwargs.class_name:", 'else', 1),
        ("if hasattr(training_set, '__len__'):", 'if', 1),
        (_NO_LENGTH, 'else', 1),
    ],
    'metrics/metric_utils.py': [
        (_IS_SLIDEFLOW, 'else', 4),
        (_HAS_LENGTH, 'if', 2),
    ],
    'calc_metrics.py': [
        ("with open(train_opt, 'r') as f:", 'else', 1),
        ('if is_slideflow_model:', 'else', 1),
    ],
    'dataset_tool.py': [
        ('if slideflow:', 'else', 1),
    ],
}

#----------------------------------------------------------------------------
# Step 3: what remains of the second wheel's additions, as (text or pattern, replacement).

def _class_pattern(class_name):
    return re.compile(rf'@persistence\.persistent_class\nclass {class_name}\(.*?(?=@persistence\.|#-----)', re.S)

EDITS = {
    'training/networks.py': [
        # Embeddings between class labels, and noise per instance.
        (re.compile(r'\n#\w+: implement support for missing class labels\n'), ''),
        ('        interp_embed        = False, # Interpolate embedding, used for linear labels\n', ''),
        ('        interp_embed        = False,    # Interpolate embedding, used for linear labels\n', ''),
        ('        inst_noise_sigma    = 0,        # Instance noise sigma. 0 = disable instance noise.\n', ''),
        ('        self.inst_noise_sigma = inst_noise_sigma\n', ''),
        ('        assert 0 <= inst_noise_sigma <= 1\n\n', ''),
        (re.compile(r'        if c_dim > 0 and interp_embed:\n.*\n        elif c_dim > 0:'), '        if c_dim > 0:'),
        (_class_pattern('InterpolatedMappingNetwork'), ''),
        (_class_pattern('EmbeddingMappingNetwork'), ''),
        (_class_pattern('EmbeddingGenerator'), ''),
    ],
    'training/training_loop.py': [
        # Datasets that are iterators, and `lazy=`, an argument that upstream's copy_params_and_buffers does not have.
        ('import training\n', ''),
        ('import random\n', ''),
        (re.compile(r'# \w+: Fix seg fault in sample image generation\n\n'), ''),
        (re.compile(r'def setup_snapshot_image_grid_iterator\(.*?(?=def setup_snapshot_image_grid\()', re.S), ''),
        ('random_seed=0, training_set_iterator=None):', 'random_seed=0):'),
        ('training_set=training_set, training_set_iterator=training_set_iterator)', 'training_set=training_set)'),
        ('    slideflow_kwargs        = {},       # Options for SlideflowIterator.\n', ''),
        (re.compile(r'    lazy_resume             = False,.*\n'), ''),
        (', lazy=lazy_resume', ''),
        ('    random.seed(random_seed)          # Used for slideflow dataset interleaving\n', ''),
        ('    training_set_len = len(training_set)\n\n', ''),
        ("        print('Training set length:', training_set_len)\n", ''),
        ("print('Num images: ', training_set_len)", "print('Num images: ', len(training_set))"),
        (re.compile(r'np\.random\.randint\(training_set_len\)\)(.*?)  # I.m not.*'),
            r'np.random.randint(len(training_set)))\1'),
        (re.compile(r'device=device,\n +slideflow_kwargs=slideflow_kwargs\)'), 'device=device)'),
    ],
    'metrics/metric_main.py': [
        ('    print(f"Starting calculation for metric {metric}...")\n', ''),
    ],
    'metrics/metric_utils.py': [
        ('from tqdm import tqdm\n', ''),
        (' slideflow_kwargs={},', ''),
        ('        self.slideflow_kwargs   = dnnlib.EasyDict(slideflow_kwargs)\n', ''),
        ('    num_workers = 3\n', ''),
        ('num_workers=num_workers', 'num_workers=3'),
        ('    print("Computing feature stats for dataset...")\n', ''),
        ('    print("Computing feature stats for generator...")\n', ''),
        ('    # Length of dataset (support for slideflow datasets)\n    dataset_len = len(dataset)\n\n', ''),
        ('randint(dataset_len)', 'randint(len(dataset))'),
        (re.compile(r'    dataset_iter = iter\((.*)\)\n    for images, _labels in dataset_iter:'),
            r'    for images, _labels in \1:'),
    ],
    'calc_metrics.py': [
        # As packaged it fails on networks that slideflow has not trained, and ignores --data.
        (', slideflow_kwargs=args.slideflow_kwargs)', ')'),
        ('    is_slideflow_model = False\n', ''),
        ("    if mirror is not None and is_slideflow_model:\n        args.dataset_kwargs.augment = 'xyr'\n"
            "    elif mirror", '    if mirror'),
    ],
    'dataset_tool.py': [
        # As packaged it ends with an UnboundLocalError (dataset_attrs) without --slideflow.
        (re.compile(r"@click\.option\('--slideflow'.*\n@click\.option\('--subfolder-labels'.*\n"), ''),
        ('height: Optional[int],\n    slideflow: bool,\n    subfolder_labels: bool\n', 'height: Optional[int]\n'),
        ('    labels = []\n\n    num_files', '    dataset_attrs = None\n    labels = []\n\n    num_files'),
    ],
}

def edit(name, source, old, new):
    if isinstance(old, re.Pattern):
        source, found = old.subn(new, source)
    else:
        source, found = source.replace(old, new), source.count(old)
    if found != 1:
        raise AssemblyError(f'{name} is not what it should be: {old!r} was found {found} times instead of once.')
    return source

def convert(name, source):
    """Give a file of the second wheel the content that upstream's has."""
    source = absolute_imports(source)
    for rule in BRANCHES.get(name, []):
        source = resolve_branches(name, source, *rule)
    for old, new in EDITS.get(name, []):
        source = edit(name, source, old, new)
    ast.parse(source.lstrip('\ufeff'), name)
    return source

#----------------------------------------------------------------------------
# From wheels to files.

def sha256(data):
    return hashlib.sha256(data).hexdigest()

def tree_hash(file_hashes):
    """One sha256 for a tree, from {path: sha256 of the file}."""
    return sha256(b''.join(path.encode() + b'\0' + bytes.fromhex(digest)
        for path, digest in sorted(file_hashes.items())))

def download(folder):
    """Fetch both wheels with pip, as it is configured on this machine; returns {requirement: path of the wheel}."""
    folder = Path(folder)
    requirements = folder / 'requirements.txt'
    requirements.write_text(''.join(f'{requirement} --hash=sha256:{digest}\n'
        for requirement, digest in WHEELS.items()))
    command = [
        sys.executable, '-m', 'pip', 'download',
        '--quiet',
        '--disable-pip-version-check',
        '--require-hashes',
        '--no-deps',
        '--only-binary=:all:',
        '--retries=1',
        '--timeout=15',
        f'--dest={folder}',
        f'--requirement={requirements}',
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reasons = ([line for line in done.stderr.splitlines() if line.startswith('ERROR')] or done.stderr.splitlines()
            or ['no reason given'])
        raise AssemblyError(f'pip could not download {" and ".join(WHEELS)} '
            f'({reasons[-1].removeprefix("ERROR: ").rstrip(".")}).')
    by_hash = {sha256(path.read_bytes()): path for path in folder.glob('*.whl')}
    return {requirement: by_hash[digest] for requirement, digest in WHEELS.items()} # pip has verified the hashes

def _wheel_files(wheel, prefix):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if member.startswith(prefix) and not member.endswith('/'):
                yield member.removeprefix(prefix), archive.read(member)

def assemble_files(wheels):
    """The tree's files {path: bytes} from {requirement: path of the wheel}, verified."""
    files = dict()
    for path, data in _wheel_files(wheels[LIBRARY_WHEEL], LIBRARY_PREFIX):
        if path == 'legacy.py' or (path.startswith(('dnnlib/', 'torch_utils/'))
                and path.endswith(('.py', '.cu', '.cpp', '.h'))):
            files[path] = data
    for path, data in _wheel_files(wheels[TRAINING_WHEEL], TRAINING_PREFIX):
        if path in SCRIPTS or (path.startswith(('stylegan2/training/', 'stylegan2/metrics/')) and path.endswith('.py')):
            path = path.removeprefix('stylegan2/')
            files[path] = convert(path, data.decode('utf-8')).encode('utf-8')
    found = tree_hash({path: sha256(data) for path, data in files.items()})
    if found != TREE_SHA256:
        raise AssemblyError(f'The assembled tree has the sha256 {found} instead of {TREE_SHA256}.')
    return files

def write_tree(files, commit, tree):
    """Write files, entry points and marker into the folder `tree`, which must not exist.

    Everything is written beside it first: a kill at any moment leaves no half tree under that name.
    """
    tree = Path(tree)
    files = files | {path: text.encode('utf-8') for path, text in ENTRY_POINTS.items()}
    marker = dict(
        about       = 'Assembled by `sarigan upstream` from Python packages; stands for the commit below.',
        commit      = commit,
        wheels      = WHEELS,
        tree_sha256 = TREE_SHA256,
        files       = {path: sha256(data) for path, data in sorted(files.items())},
    )
    partial = tree.parent / f'.{tree.name}.partial'
    shutil.rmtree(partial, ignore_errors=True)
    for path, data in files.items():
        (partial / path).parent.mkdir(parents=True, exist_ok=True)
        (partial / path).write_bytes(data)
    (partial / MARKER).write_text(json.dumps(marker, indent=2) + '\n')
    os.rename(partial, tree)

def assemble(commit, tree):
    """Download the wheels and assemble them into the folder `tree`, which must not exist."""
    with tempfile.TemporaryDirectory(prefix='sarigan-wheels-') as folder:
        files = assemble_files(download(folder))
    write_tree(files, commit, tree)

#----------------------------------------------------------------------------
