"""Clean StyleGAN2-ADA trees of either origin, and small copies of this project that a test may break."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import limits
import pytest

from sarigan_plugin import upstream, upstream_pypi

ROOT = upstream.root()
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

def submodule_history():
    """The git folder that holds upstream's pinned commit, or None."""
    for folder in (ROOT / '.git' / 'modules' / upstream.FOLDER, ROOT / upstream.FOLDER / '.git'):
        if folder.is_dir() and run(['git', '--git-dir', folder, 'cat-file', '-e', upstream.COMMIT], ROOT).returncode == 0:
            return folder
    return None

def make_submodule_tree(folder):
    """A clean checkout of the pinned commit in `folder`."""
    history = submodule_history()
    if history is None:
        pytest.skip('the submodule is not here: ./install.sh --upstream=submodule fetches it')
    git(ROOT, 'clone', '--quiet', '--no-checkout', '--local', history, folder)
    git(folder, 'checkout', '--quiet', upstream.COMMIT)

def make_pypi_tree(folder):
    """An unpatched assembled tree in `folder`."""
    with tempfile.TemporaryDirectory() as wheels:
        try:
            files = upstream_pypi.assemble_files(upstream_pypi.download(wheels))
        except upstream_pypi.AssemblyError as err:
            pytest.skip(f'the assembled tree cannot be had: {err}')
    upstream_pypi.write_tree(files, upstream.COMMIT, folder)

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
        git(self.folder, 'update-index', '--add', '--cacheinfo', f'160000,{upstream.COMMIT},{upstream.FOLDER}')
        self.settings = self.folder.parent / f'{self.folder.name}.gitconfig'
        self.reach(reachable)

    def reach(self, reachable):
        """Let git find GitHub, as a folder on this machine, or not."""
        target = submodule_history() if reachable else self.folder / 'nowhere'
        self.settings.write_text(f'[url "{target}"]\n\tinsteadOf = {URL}\n[protocol "file"]\n\tallow = always\n')

    def sarigan(self, *arguments, **environment):
        return run([sys.executable, '-m', 'sarigan_plugin.cli', *arguments], self.folder,
            PYTHONPATH=self.folder, GIT_CONFIG_GLOBAL=self.settings, **environment)

    def origin(self):
        return upstream.identify(self.tree)
