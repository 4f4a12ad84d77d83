"""Building upstream's two CUDA ops, by one process of each machine before training starts. ops.py decides whether to.

Left alone, every process builds them when it first needs them, and waits for as long as a lock file is there, which
stays behind for ever if the process that made it was killed.
"""

import contextlib
import glob
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import warnings

import psutil
import torch

from sarigan_plugin.errors import UserError
from sarigan_plugin.upstream.exchanges import Overlay, exchange

# Without a sign of life. Building both takes a minute or two, and a shared folder's lock may be another machine's.
STALE_SECONDS = 180

#----------------------------------------------------------------------------

def prepare(world, build=None, folders=None):
    """Build on this machine's first process; the others wait for it and load.

    world:   world.World.
    build:   () -> bool, whether the ops can be used; in the other processes it finds them built.
    folders: where it builds.
    Returns whether the ops can be used. Raises UserError where the wait exceeds the world's timeout.
    """
    build = build_upstreams if build is None else build
    folders = build_folders() if folders is None else folders
    key = f'ops on the machine of {world.first_local}'
    if world.local_rank == 0:
        built = False
        try:
            for folder in folders:
                wait_for_lock(folder, world)
            built = build()
        finally: # Whatever happens: the others wait.
            if world.local_size > 1:
                world.store.set(key, 'built' if built else 'failed')
        return built
    try:
        world.store.wait([key], world.timeout)
    except RuntimeError:
        raise UserError(f'Rank {world.rank} has waited {world.minutes()} '
            f'for rank {world.first_local} to build the CUDA ops in {" and ".join(folders)}: if nothing builds there, '
            'remove the file called lock and run the same command again; --timeout takes more minutes.') from None
    return world.store.get(key) == b'built' and build()

def wait_for_lock(folder, world):
    """Return when no process builds in `folder`; a lock that a dead process has left is removed. Raises UserError."""
    lock = os.path.join(folder, 'lock')
    end = time.monotonic() + world.timeout.total_seconds()
    announced = False
    while os.path.exists(lock):
        if not _is_open(lock) and _seconds_since_writing(folder) > STALE_SECONDS:
            print(f'Removing {lock}, which a process that no longer runs has left.')
            with contextlib.suppress(FileNotFoundError):
                os.unlink(lock)
            return
        if time.monotonic() > end:
            raise UserError(f'Rank {world.rank} has waited {world.minutes()} for another program '
                f'that builds CUDA ops in {folder}: if there is none, remove {lock} and run the same command again; '
                '--timeout takes more minutes.')
        if not announced:
            print(f'Waiting for {lock}: another program builds there, '
                f'or was killed {STALE_SECONDS} seconds ago or less.')
            announced = True
        time.sleep(0.2)

def _is_open(path):
    """Whether a process of this machine has the file open, as one that builds has its lock."""
    path = os.path.realpath(path)
    for process in psutil.process_iter():
        try:
            if any(file.path == path for file in process.open_files()):
                return True
        except psutil.Error: # Gone by now, or another user's.
            pass
    return False

def _seconds_since_writing(folder):
    """Since the newest file of `folder` was written; none = no time at all."""
    times = []
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError): # A compiler's temporary file.
            times.append(entry.stat().st_mtime)
    return time.time() - max(times, default=time.time())

#----------------------------------------------------------------------------
# Upstream's modules. Their _init() builds or loads, and on failure warns and returns False.

NAMES = ('bias_act', 'upfirdn2d')

def modules():
    from torch_utils.ops import (
        bias_act,  # Here, as upstream's tree may come to sys.path late.
        upfirdn2d,
    )
    return [bias_act, upfirdn2d]

def build_folders():
    """Where PyTorch builds them."""
    from torch.utils import cpp_extension
    return [cpp_extension._get_build_directory(f'{name}_plugin', verbose=False) for name in NAMES]

def build_upstreams(quiet=False):
    """Build or load both; whether both can be used. quiet: leave out upstream's page about what went wrong."""
    with warnings.catch_warnings(), current_pytorch():
        if quiet:
            warnings.simplefilter('ignore')
        return all(module._init() for module in modules())

@contextlib.contextmanager
def current_pytorch():
    """Inside the `with`, upstream's custom_ops.get_plugin() builds and finds what current PyTorch builds.

    PyTorch includes headers of cuBLAS, cuSPARSE and cuSOLVER, which a CUDA toolkit may lack, but which the Python
    packages that PyTorch for CUDA asks for bring along.
    """
    exchange('torch_utils.custom_ops', 'torch', _with_loader_that_registers,
        'custom_ops.py:111 imports a plugin by name, which relies on the loader having entered it in sys.modules; '
        'with pybind11 3, as PyTorch 2.13 has it, a loader no longer does, and every build ended in "No module named"')
    with _also_searched('CPLUS_INCLUDE_PATH', _packaged_headers()), _ninja_found():
        yield

def _ninja_found():
    """Inside the `with`, PyTorch finds the ninja of this environment, which need not be an active one."""
    import ninja  # Where something is built, and not whenever a command starts.
    return _also_searched('PATH', [ninja.BIN_DIR])

@contextlib.contextmanager
def _also_searched(variable, folders):
    """Inside the `with`, a variable that lists folders has some more. They are searched last: what a machine has of its
    own comes first."""
    searched = os.environ.get(variable)
    if folders:
        os.environ[variable] = os.pathsep.join(filter(None, [searched, *folders]))
    try:
        yield
    finally:
        os.environ.pop(variable, None)
        if searched is not None:
            os.environ[variable] = searched

def _with_loader_that_registers(torch):
    from torch.utils import cpp_extension  # Slow to import.
    def load(name, *args, **kwargs):
        return sys.modules.setdefault(name, cpp_extension.load(name, *args, **kwargs))
    return Overlay(torch, utils=Overlay(torch.utils, cpp_extension=Overlay(cpp_extension, load=load)))

def _packaged_headers():
    """Folders of CUDA headers in Python packages."""
    nvidia = importlib.util.find_spec('nvidia') # What is there of it depends on the release of PyTorch.
    places = nvidia and nvidia.submodule_search_locations or []
    return sorted(folder for place in places for folder in glob.glob(os.path.join(place, '*', 'include')))

#----------------------------------------------------------------------------
# What can be known without building.

def obstacle():
    """Why they can't be built on this machine, in a few words, or None."""
    from torch.utils import cpp_extension
    if cpp_extension.CUDA_HOME is None:
        return f'no nvcc, which the CUDA toolkit {torch.version.cuda} has'
    nvcc = os.path.join(cpp_extension.CUDA_HOME, 'bin', 'nvcc')
    if not os.path.isfile(nvcc):
        return f'no nvcc in {os.path.dirname(nvcc)}'
    release = re.search(r'release (\d+)\.(\d+)',
        subprocess.run([nvcc, '--version'], capture_output=True, text=True, check=False).stdout)
    if release and torch.version.cuda and release[1] != torch.version.cuda.split('.')[0]:
        return f'nvcc is of CUDA {release[1]}.{release[2]}, PyTorch of CUDA {torch.version.cuda}'
    compiler = os.environ.get('CXX', 'c++')
    if shutil.which(compiler) is None:
        return f'no C++ compiler ({compiler})'
    with _ninja_found():
        return None if cpp_extension.is_ninja_available() else 'no ninja'

def are_built():
    """Whether an earlier run has built them."""
    return all(os.path.isfile(os.path.join(folder, f'{name}_plugin.so'))
        for name, folder in zip(NAMES, build_folders()))

#----------------------------------------------------------------------------
