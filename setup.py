"""What pyproject.toml cannot say: wheels carry configs/ and patches/ inside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ('configs', 'patches') # A checkout has them beside the package: sarigan_plugin/support/places.py.

class Build(build_py):
    def run(self):
        super().run()
        if not self.editable_mode:
            for name in FOLDERS:
                folder = Path(self.build_lib, 'sarigan_plugin', name)
                shutil.rmtree(folder, ignore_errors=True) # Of an earlier version.
                shutil.copytree(name, folder)

setup(cmdclass=dict(build_py=Build))
