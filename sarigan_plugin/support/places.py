"""Where to find configs/, patches/ and stylegan2-ada-pytorch, from a checkout of the project or after `pip install`.

A wheel carries configs/ and patches/ inside the package (setup.py); in a checkout they lie beside it.
"""

import importlib.resources
import os
from pathlib import Path

TREE = 'stylegan2-ada-pytorch'
UPSTREAM_MODULES = ('dnnlib', 'torch_utils', 'training', 'metrics')
PACKAGES = {'cv2': 'opencv-python-headless', 'PIL': 'pillow'} # Modules whose packages have other names.

def _package() -> Path:
    return Path(str(importlib.resources.files('sarigan_plugin'))).resolve()

def is_checkout() -> bool:
    """Whether the plugin runs from a checkout of the project, not from a wheel."""
    return not (_package() / 'patches').is_dir()

def root() -> Path:
    """The project's checkout; after `pip install`, the user's folder for sarigan's data."""
    if is_checkout():
        return _package().parent
    data = os.environ.get('XDG_DATA_HOME') or Path('~', '.local', 'share').expanduser()
    return Path(data) / 'sarigan'

def configs() -> Path:
    """The folder of configs/*.toml."""
    return _shipped('configs')

def patches() -> Path:
    """The folder of the patches to upstream's files."""
    return _shipped('patches')

def box() -> Path:
    """The folder of the networks that come with the plugin."""
    return _package() / 'box'

def _shipped(name: str) -> Path:
    return (_package().parent if is_checkout() else _package()) / name

def upstream_tree() -> Path:
    """Where stylegan2-ada-pytorch is or shall be: $SARIGAN_UPSTREAM if it is set, else in root()."""
    named = os.environ.get('SARIGAN_UPSTREAM')
    return Path(named).expanduser().resolve() if named else root() / TREE

def install_command(module: str | None = None) -> str:
    """What to type where something is missing: a Python module, or None for upstream's tree or its patches."""
    if is_checkout():
        return './install.sh'
    if module is None or module in UPSTREAM_MODULES:
        return '`sarigan upstream`'
    return f'`pip install {PACKAGES.get(module, module)}`'

#----------------------------------------------------------------------------
