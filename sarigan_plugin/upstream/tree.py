"""Find, fetch, verify and patch the StyleGAN2-ADA tree, and put it on sys.path.

The tree is the folder stylegan2-ada-pytorch/ of the checkout (support/places.py has the other places): a git submodule
or, where GitHub can't be reached, assembled from Python packages (assemble.py). Either holds the same code; either can
be exchanged for the other.
What a user has changed or put into the folder is never lost: changed files stop us, added files move along.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sarigan_plugin.errors import UserError
from sarigan_plugin.support import places
from sarigan_plugin.support.places import root, upstream_tree

COMMIT = 'd72cc7d041b42ec8e806021a205ed9349f87c6a4'
FOLDER = places.TREE
KINDS  = ('auto', 'submodule', 'pypi')

# Seconds that GitHub has to answer before the tree is assembled from Python packages instead.
REACH_TIMEOUT = 15

#----------------------------------------------------------------------------
# Finding.

def find() -> Path | None:
    """The tree's folder, or None where it is missing or empty."""
    tree = upstream_tree()
    return tree if (tree / 'dnnlib' / '__init__.py').is_file() and (tree / 'training').is_dir() else None

def activate():
    """Make dnnlib, torch_utils, training and metrics importable; returns whether they are."""
    if importlib.util.find_spec('dnnlib') is not None:
        return True # we run inside a tree already, perhaps another than ours
    tree = find()
    if tree is not None:
        sys.path.insert(0, str(tree))
    return tree is not None

def is_cached(url):
    """Whether dnnlib.util.open_url() has the file of a URL already."""
    import dnnlib  # Of the tree that is found here.
    return any(Path(dnnlib.make_cache_dir_path('downloads')).glob(hashlib.md5(url.encode('utf-8')).hexdigest() + '_*'))

#----------------------------------------------------------------------------
# Git.

def _git_environment(folder):
    # A git hook sets variables that tie every git command to the repository it runs for.
    bound = ('GIT_DIR', 'GIT_WORK_TREE', 'GIT_INDEX_FILE', 'GIT_OBJECT_DIRECTORY', 'GIT_COMMON_DIR', 'GIT_PREFIX')
    environment = {name: value for name, value in os.environ.items() if name not in bound}
    return environment | dict(
        LC_ALL                  = 'C',
        GIT_TERMINAL_PROMPT     = '0', # fail instead of asking for a password
        # an assembled tree is no part of the project's repository
        GIT_CEILING_DIRECTORIES = str(Path(folder).resolve().parent),
    )

def _git(folder, *arguments, timeout=None):
    """Run git in a folder; returns the finished process, whose output is bytes."""
    try:
        process = subprocess.Popen(
            ['git', *arguments],
            cwd               = folder,
            env               = _git_environment(folder),
            stdin             = subprocess.DEVNULL,
            stdout            = subprocess.PIPE,
            stderr            = subprocess.PIPE,
            # git's helpers keep the pipes open: on a timeout all of them must end
            start_new_session = timeout is not None,
        )
    except FileNotFoundError as err:
        raise UserError('git is not installed; sarigan needs it to fetch and patch stylegan2-ada-pytorch.') from err
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return subprocess.CompletedProcess(arguments, 1, b'', f'no answer within {timeout} seconds'.encode())
    return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

def _git_folder(tree):
    return Path(os.fsdecode(_git(tree, 'rev-parse', '--absolute-git-dir').stdout.rstrip(b'\n')))

def _reason(process):
    """Why git failed, as the end of a sentence: its last words that say so."""
    lines = process.stderr.decode(errors='replace').strip().splitlines() or ['git gave no reason']
    fatal = [line for line in lines if line.startswith(('fatal:', 'error:'))] or lines
    return re.sub(r'^(fatal|error): ', '', fatal[0]).strip().rstrip('.')

#----------------------------------------------------------------------------
# Patches. Each file of a patch is checked and applied by itself, so that a run that was killed halfway can go on. The
# tree remembers what was applied, so that a later version of a patch can take the place of an earlier one.

@dataclass(frozen=True)
class Patch:
    path:  Path
    files: tuple        # names of the files it changes
    tree:  str | None   # the kind of tree it is for, None = each

    @property
    def name(self):
        return self.path.stem

def patches(kind, folder=None):
    """The patches in a folder (default: this project's) for a kind of tree."""
    found = []
    for path in sorted((folder or places.patches()).glob('*.patch')):
        text = path.read_text(encoding='utf-8')
        header = re.search(r'^Tree: (\w+)$', text, flags=re.M)
        patch = Patch(path, tuple(re.findall(r'^\+\+\+ b/(\S+)$', text, flags=re.M)), header and header[1])
        if patch.tree in (None, kind):
            found.append(patch)
    return found

def _kind(tree):
    if not tree.is_dir() or not any(tree.iterdir()):
        return 'missing'
    if (tree / '.git').exists():
        return 'submodule'
    from sarigan_plugin.upstream.assemble import MARKER
    return 'pypi' if (tree / MARKER).is_file() else 'other'

def _memory(tree, kind):
    """The folder that keeps copies of the patches that were applied to the tree."""
    return _git_folder(tree) / 'sarigan-patches' if kind == 'submodule' else tree / '.sarigan-patches'

def _apply(folder, patch, name, *options):
    return _git(folder, 'apply', f'--include={name}', *options, str(patch.path))

def _change_file(folder, patch, name, *options):
    """As _apply, but a kill leaves the old file or the new one, where git leaves a part of one."""
    scratch = folder.parent / f'.{folder.name}.patching'
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / name).parent.mkdir(parents=True)
    shutil.copy(folder / name, scratch / name)
    done = _apply(scratch, patch, name, *options)
    if done.returncode == 0:
        os.replace(scratch / name, folder / name)
    shutil.rmtree(scratch)
    return done

def _file_status(folder, patch, name):
    if not (folder / name).is_file():
        return 'conflict'
    if _apply(folder, patch, name, '--reverse', '--check').returncode == 0:
        return 'applied'
    return 'missing' if _apply(folder, patch, name, '--check').returncode == 0 else 'conflict'

def _remove(folder, patch_list):
    for patch in patch_list:
        for name in patch.files:
            if _file_status(folder, patch, name) == 'applied':
                _change_file(folder, patch, name, '--reverse')

def _remove_patches(folder, tree, kind):
    """Take our patches away from the files in `folder`, the tree itself or copies of some of its files."""
    _remove(folder, patches(kind, _memory(tree, kind)))
    _remove(folder, patches(kind)) # where somebody has applied them by hand

def patch_status(tree):
    """{name of patch: 'applied', 'missing' or 'conflict'}."""
    tree = Path(tree)
    result = dict()
    for patch in patches(_kind(tree)):
        states = [_file_status(tree, patch, name) for name in patch.files]
        result[patch.name] = 'conflict' if 'conflict' in states else 'missing' if 'missing' in states else 'applied'
    return result

def apply_patches(tree):
    """Apply the patches that are missing; returns their names."""
    tree = Path(tree)
    kind = _kind(tree)
    memory = _memory(tree, kind)
    current = {patch.path.name: patch.path.read_bytes() for patch in patches(kind)}
    _remove(tree, [patch for patch in patches(kind, memory) if patch.path.read_bytes() != current.get(patch.path.name)])

    # Remember first: after a kill in between, what is applied is known.
    shutil.rmtree(memory, ignore_errors=True)
    memory.mkdir()
    for name, content in current.items():
        (memory / name).write_bytes(content)

    applied = []
    for patch in patches(kind):
        states = {name: _file_status(tree, patch, name) for name in patch.files}
        for name, state in states.items():
            if state == 'conflict':
                raise UserError(f'{patch.path.name} does not fit {tree / name}: '
                    'give the file its original content and run again.')
            done = _change_file(tree, patch, name) if state == 'missing' else None
            if done is not None and done.returncode != 0:
                raise UserError(f'{patch.path.name} could not be applied to {tree / name} ({_reason(done)}).')
        if 'missing' in states.values():
            applied.append(patch.name)
    return applied

def _without_patches(tree, kind, names):
    """{name: content} of files in the tree, less what our patches added."""
    with tempfile.TemporaryDirectory(prefix='sarigan-patches-') as folder:
        copy = Path(folder, 'tree')
        for name in names:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(tree / name, copy / name)
        if names:
            _remove_patches(copy, tree, kind)
        return {name: (copy / name).read_bytes() for name in names}

def copy_unpatched(folder, tree=None):
    """Copy a tree (default: this project's) to a new folder, without our patches. Returns the folder."""
    tree = upstream_tree() if tree is None else tree
    shutil.copytree(tree, folder, ignore=shutil.ignore_patterns('.git', '.sarigan-patches', '__pycache__'))
    _remove_patches(Path(folder), tree, _kind(tree))
    return folder

#----------------------------------------------------------------------------
# Verifying.

@dataclass(frozen=True)
class Origin:
    kind:    str            # 'submodule', 'pypi', 'other' (neither: somebody else's) or 'missing'
    commit:  str | None     # upstream's commit that the tree holds or stands for
    ok:      bool           # the pinned commit, unmodified apart from our patches?
    detail:  str            # the same for people
    changed: tuple = ()     # files that somebody has edited
    missing: tuple = ()     # files that are gone
    keep:    str | None = None  # why the tree must not be exchanged, None = it may

def _listed(names, shown=3):
    names = sorted(names)
    more = len(names) - shown
    return ', '.join(names[:shown]) + (f' and {more} more' if more > 0 else '')

def _judge(kind, commit, changed, missing, wrong=None):
    """An Origin from what was found; `wrong` is the reason why even an unmodified tree is not the right one."""
    keep = f'has changes of yours in {_listed(changed)}' if changed else None
    problems = [wrong] if wrong else []
    problems += [f'modified: {_listed(changed)}'] if changed else []
    problems += [f'missing: {_listed(missing)}'] if missing else []
    return Origin(kind, commit, not problems, '; '.join(problems) or 'unmodified apart from our patches',
        tuple(changed), tuple(missing), keep)

def _identify_submodule(tree):
    head = _git(tree, 'rev-parse', '--verify', '--quiet', 'HEAD^{commit}')
    if head.returncode != 0 or not (_git_folder(tree) / 'index').is_file():
        return Origin('submodule', None, False, 'its checkout was interrupted')
    commit = head.stdout.decode().strip()
    listed = _git(tree, 'diff', '--name-only', '-z', 'HEAD')
    if listed.returncode != 0:
        return Origin('submodule', commit, False, f'git cannot read it ({_reason(listed)})',
            keep='is a git repository in trouble')
    names = [os.fsdecode(name) for name in listed.stdout.split(b'\0') if name]
    present = [name for name in names if (tree / name).is_file()]
    contents = _without_patches(tree, 'submodule', present)
    changed = [name for name in present if contents[name] != _git(tree, 'cat-file', 'blob', f'HEAD:{name}').stdout]
    origin = _judge('submodule', commit, changed, sorted(set(names) - set(present)),
        wrong=None if commit == COMMIT else f'at {commit[:7]} instead of {COMMIT[:7]}')
    if origin.keep is None and commit != COMMIT and not _git(tree, 'for-each-ref', '--contains', commit).stdout:
        return Origin(**(origin.__dict__ | dict(keep='has commits of yours that no branch holds')))
    return origin

def _identify_pypi(tree):
    from sarigan_plugin.upstream import assemble as pypi
    try:
        marker = json.loads((tree / pypi.MARKER).read_text(encoding='utf-8'))
        commit, recorded = str(marker['commit']), {str(name): str(digest) for name, digest in marker['files'].items()}
        assembled = pypi.tree_hash({name: digest for name, digest in recorded.items() if name not in pypi.ENTRY_POINTS})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Origin('pypi', None, False, f'{pypi.MARKER} is damaged', keep=f'has a damaged {pypi.MARKER}')
    entry_points = {name: pypi.sha256(text.encode('utf-8')) for name, text in pypi.ENTRY_POINTS.items()}
    current = commit == COMMIT and assembled == pypi.TREE_SHA256 and entry_points.items() <= recorded.items()
    present = [name for name in recorded if (tree / name).is_file()]
    contents = _without_patches(tree, 'pypi', present)
    changed = [name for name in present if pypi.sha256(contents[name]) != recorded[name]]
    return _judge('pypi', commit, changed, sorted(set(recorded) - set(present)),
        wrong=None if current else 'assembled by another version of sarigan')

def identify(tree):
    """What the tree in this folder is, and whether it is what it should be."""
    tree = Path(tree)
    kind = _kind(tree)
    if kind == 'submodule':
        return _identify_submodule(tree)
    if kind == 'pypi':
        return _identify_pypi(tree)
    if kind == 'other':
        return Origin('other', None, False, 'neither a submodule nor assembled by sarigan',
            keep='holds files that sarigan did not put there')
    return Origin('missing', None, False, 'not there')

#----------------------------------------------------------------------------
# Fetching.

def _aside(tree):
    return tree.parent / f'.{tree.name}.aside'

def _own_files(tree):
    """The names of the files that belong to the tree itself."""
    if _kind(tree) == 'submodule':
        return {os.fsdecode(name) for name in _git(tree, 'ls-files', '-z').stdout.split(b'\0') if name}
    from sarigan_plugin.upstream.assemble import MARKER
    return {MARKER, *json.loads((tree / MARKER).read_text(encoding='utf-8'))['files']}

def _carry_over(old, new):
    """Move what a user has put into the old tree (training runs, networks, ...) to the new one."""
    own = _own_files(old)
    for path in sorted(old.rglob('*')):
        name = path.relative_to(old)
        if str(name) in own or name.parts[0] in ('.git', '.sarigan-patches') or '__pycache__' in name.parts or (
                path.is_dir() and not path.is_symlink()):
            continue
        target = new / name
        if os.path.lexists(target): # the new tree has a file of that name
            target = target.with_name(target.name + '.before')
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)

def _exchange(tree, make_tree):
    """Replace the tree by what make_tree() makes; on any failure the old one is back in its place."""
    aside = _aside(tree)
    os.rename(tree, aside)
    try:
        make_tree()
    except BaseException:
        shutil.rmtree(tree, ignore_errors=True)
        os.rename(aside, tree)
        raise
    _carry_over(aside, tree)
    shutil.rmtree(aside)

def _finish_exchange(tree):
    """Mend what a kill in the middle of _exchange has left."""
    aside = _aside(tree)
    if not aside.is_dir():
        return
    if identify(tree).ok:
        _carry_over(aside, tree)
        shutil.rmtree(aside)
    else:
        if tree.is_dir():
            shutil.rmtree(tree) # new and unfinished: all of the user's files are still aside
        os.rename(aside, tree)

def _module_folder():
    """Where git keeps the submodule's history, or None where the tree can't be a submodule of a git checkout."""
    if not places.is_checkout() or upstream_tree() != root() / FOLDER:
        return None
    top = _git(root(), 'rev-parse', '--show-toplevel')
    if top.returncode != 0 or Path(os.fsdecode(top.stdout.rstrip(b'\n'))).resolve() != root():
        return None
    path = _git(root(), 'rev-parse', '--git-path', f'modules/{FOLDER}').stdout.rstrip(b'\n')
    return root() / os.fsdecode(path)

def _submodule_url():
    own = _git(root(), 'config', f'submodule.{FOLDER}.url') # the user's choice, if there is one
    if own.returncode != 0:
        own = _git(root(), 'config', '--file=.gitmodules', f'submodule.{FOLDER}.url')
    return own.stdout.decode().strip()

def _submodule_problem(tree):
    """Why the submodule can't be had, or None."""
    modules = _module_folder()
    if modules is None:
        return f'{tree.parent} is not a git checkout of sarigan, so that it cannot have a submodule'
    for history in (modules, tree):
        has_own = (history / '.git').exists() or (history / 'HEAD').is_file()
        if has_own and _git(history, 'cat-file', '-e', f'{COMMIT}^{{commit}}').returncode == 0:
            return None # no network needed
    url = _submodule_url()
    answer = _git(root(), 'ls-remote', '--exit-code', url, 'HEAD', timeout=REACH_TIMEOUT)
    return None if answer.returncode == 0 else f'{url} could not be reached ({_reason(answer)})'

def _clear_interrupted_clone(tree):
    """Remove a clone that was killed before it had any branch or checkout: git does not mend it by itself."""
    modules = _module_folder()
    if (modules.is_dir() and not (modules / 'index').is_file()
            and not _git(modules, '--git-dir=.', 'for-each-ref').stdout):
        shutil.rmtree(modules)
        if (tree / '.git').is_file():
            (tree / '.git').unlink()

def _update_submodule(tree):
    _clear_interrupted_clone(tree)
    origin = identify(tree)
    options = ['--depth=1'] # upstream's history is 160 MB
    if origin.kind == 'submodule':
        if origin.commit is None: # an interrupted checkout: nothing in it is the user's
            (_git_folder(tree) / 'index.lock').unlink(missing_ok=True)
            options += ['--force']
        else:
            _remove_patches(tree, tree, 'submodule')
            if origin.missing:
                _git(tree, 'checkout', '--quiet', 'HEAD', '--', *origin.missing)
    done = _git(root(), 'submodule', 'update', '--init', *options, '--', FOLDER)
    if done.returncode != 0:
        raise UserError(f'git could not fill the submodule {FOLDER} ({_reason(done)}).')

def _assemble(tree):
    from sarigan_plugin.upstream import assemble
    try:
        assemble.assemble(COMMIT, tree)
    except assemble.AssemblyError as err:
        raise UserError(str(err)) from err

def fill(kind='auto'):
    """See that the tree is there and right; does nothing, and needs no network, where it is. Returns its Origin.

    kind: 'submodule' or 'pypi' force one origin; 'auto' takes the submodule wherever it can be had.
    """
    tree = upstream_tree()
    tree.parent.mkdir(parents=True, exist_ok=True)
    _finish_exchange(tree)
    origin = identify(tree)
    if origin.ok and origin.kind == ('submodule' if kind == 'auto' else kind):
        return origin

    # Would anything be lost?
    if origin.keep is not None:
        raise UserError(f'{tree} {origin.keep}: save what you need, remove the folder and run again.')

    # Take the submodule.
    problem = None
    if kind != 'pypi':
        problem = _submodule_problem(tree)
        if problem is None and origin.kind == 'pypi':
            _exchange(tree, lambda: _update_submodule(tree))
        elif problem is None:
            _update_submodule(tree)
        elif kind == 'submodule':
            raise UserError(f'The submodule cannot be had: {problem}.')
        if problem is None:
            return identify(tree)

    # Take the Python packages.
    if origin.kind == 'pypi' and origin.ok:
        return origin
    if origin.kind == 'submodule' and (tree / '.git').is_dir():
        raise UserError(f'{tree} is a git clone of its own, with a history that may be yours: '
            'move it away and run again.')
    try:
        if origin.kind == 'missing':
            _assemble(tree)
        else:
            _exchange(tree, lambda: _assemble(tree))
    except UserError as err:
        if problem is None:
            raise
        raise UserError('stylegan2-ada-pytorch cannot be had: '
            f'{problem}, and {err.message[0].lower()}{err.message[1:]}') from err
    return identify(tree)

#----------------------------------------------------------------------------
