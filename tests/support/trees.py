"""Clean StyleGAN2-ADA trees of either origin, and small copies of this project that a test may break."""

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import limits
import skips
from sarigan_plugin.upstream import assemble, tree as upstream

ROOT = upstream.root()
SUPPORT = ROOT / 'tests' / 'support'
URL = 'https://github.com/NVlabs/stylegan2-ada-pytorch.git'

def run(command, cwd, **environment):
    """Run a command as a user would; returns the finished process with its output as text."""
    environment = os.environ | dict(OMP_NUM_THREADS='1') | {name: str(value) for name, value in environment.items()}
    return subprocess.run([str(word) for word in command], cwd=cwd, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=limits.HANG)

def git(folder, *arguments):
    done = run(['git', *arguments], folder)
    assert done.returncode == 0, done.stderr
    return done.stdout

#----------------------------------------------------------------------------
# The submodule: upstream's own repository, or a stand-in where nothing but git's part in it is looked at.

def submodule_history():
    """The git folder that holds upstream's pinned commit, or None. SARIGAN_UPSTREAM_GIT may name a clone."""
    named = os.environ.get('SARIGAN_UPSTREAM_GIT')
    for folder in ([Path(named)] if named else []) + [ROOT / '.git' / 'modules' / upstream.FOLDER,
            ROOT / upstream.FOLDER / '.git']:
        if folder.is_dir() and run(['git', '--git-dir', folder, 'cat-file', '-e', upstream.COMMIT],
                ROOT).returncode == 0:
            return folder
    return None

GENERATE = '''\
import torch

def generate_images():
    print(torch.__version__)

if __name__ == "__main__":
    generate_images() # pylint: disable=no-value-for-parameter
'''

@functools.cache
def any_history():
    """(git folder, commit): upstream's own, or a repository with the installed tree's files and an earlier commit.

    Only upstream's has its generate.py and README.md; two that our patches fit stand in for them.
    """
    history = submodule_history()
    if history is not None:
        return history, upstream.COMMIT
    folder = Path(tempfile.mkdtemp(prefix='sarigan-history-'))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    files = installed_files() | {'generate.py': GENERATE.encode(), 'README.md': b'A stand-in.\n'}
    git(folder, 'init', '--quiet')
    for message in ['earlier', 'pinned']:
        write_files(folder, files | {'docs.txt': message.encode()})
        git(folder, 'add', '--all', '--force')
        git(folder, '-c', 'user.name=me', '-c', 'user.email=me@localhost', 'commit', '--quiet', '--message', message)
    return folder / '.git', git(folder, 'rev-parse', 'HEAD').strip()

def installed_files():
    """{name: content} of the installed tree, without our patches and what users have added."""
    tree = ROOT / upstream.FOLDER
    names = upstream._own_files(tree) - {assemble.MARKER}
    return upstream._without_patches(tree, upstream.identify(tree).kind, sorted(names))

def write_files(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

def make_git_tree(folder):
    """A clean checkout of any_history() in `folder`."""
    history, commit = any_history()
    git(ROOT, 'clone', '--quiet', '--no-checkout', '--local', history, folder)
    git(folder, 'checkout', '--quiet', commit)

def make_submodule_tree(folder):
    """A clean checkout of upstream's own pinned commit in `folder`."""
    if submodule_history() is None:
        pytest.skip(skips.NO_SUBMODULE)
    make_git_tree(folder)

def make_pypi_tree(folder):
    """An unpatched assembled tree in `folder`: the installed one's files, or new ones where another is installed."""
    origin = upstream.identify(ROOT / upstream.FOLDER)
    if origin.kind == 'pypi' and origin.ok:
        files = installed_files()
    else:
        with tempfile.TemporaryDirectory() as wheels:
            try:
                files = assemble.assemble_files(assemble.download(wheels))
            except assemble.AssemblyError:
                pytest.skip(skips.NO_PACKAGES)
    assemble.write_tree(files, upstream.COMMIT, folder)

class Project:
    """A copy of this project without a tree, in which `sarigan` is the copy's own."""

    def __init__(self, folder, reachable):
        self.folder = Path(folder)
        self.tree = self.folder / upstream.FOLDER
        for name in ('sarigan_plugin', 'patches', '.gitmodules', 'install.sh'):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, self.folder / name, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                self.folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, self.folder / name)
        self.tree.mkdir()
        git(self.folder, 'init', '--quiet')
        self.history, self.commit = any_history() if reachable else (None, upstream.COMMIT)
        own = self.folder / 'sarigan_plugin' / 'upstream' / 'tree.py'
        own.write_text(own.read_text(encoding='utf-8').replace(upstream.COMMIT, self.commit), encoding='utf-8')
        git(self.folder, 'update-index', '--add', '--cacheinfo', f'160000,{self.commit},{upstream.FOLDER}')
        self.settings = self.folder.parent / f'{self.folder.name}.gitconfig'
        self.reach(reachable)

    def reach(self, reachable):
        """Let git find GitHub, as a folder on this machine, or not."""
        target = self.history if reachable else self.folder / 'nowhere'
        self.settings.write_text(f'[url "{target}"]\n\tinsteadOf = {URL}\n[protocol "file"]\n\tallow = always\n')

    def sarigan(self, *arguments, **environment):
        return run([sys.executable, '-m', 'sarigan_plugin.cli', *arguments], self.folder,
            PYTHONPATH=self.folder, GIT_CONFIG_GLOBAL=self.settings, **environment)

    def origin(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(upstream, 'COMMIT', self.commit)
            return upstream.identify(self.tree)
