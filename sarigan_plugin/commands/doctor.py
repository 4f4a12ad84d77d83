"""`sarigan doctor`: one line for each part of the installation."""

import ast
import importlib.util
import json
import platform
import re
import shutil
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from sarigan_plugin.support import places, processes
from sarigan_plugin.upstream import tree as upstream

OK, WARNING, ERROR = 'ok', 'warning', 'error'
COLOURS = {OK: 'green', WARNING: 'yellow', ERROR: 'red'}

MIN_PYTHON = (3, 10)
MIN_TORCH  = (2, 1)

# Bytes on the disk: a training at 256x256 writes 350 MB per snapshot.
DISK_WARNING = 10e9
DISK_ERROR   = 1e9

@dataclass(frozen=True)
class Finding:
    part:   str
    state:  str     # OK, WARNING or ERROR
    detail: str     # one line

#----------------------------------------------------------------------------
# One function per part; each returns (state, detail).

def check_python():
    state = OK if sys.version_info >= MIN_PYTHON else ERROR
    where = 'virtual environment' if sys.prefix != sys.base_prefix else 'no virtual environment'
    needs = '' if state == OK else f'; sarigan needs {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or newer'
    return state, f'{platform.python_version()}, {where}{needs}'

def check_torch():
    try:
        import torch
    except ModuleNotFoundError:
        return ERROR, f'not installed: run {places.install_command("torch")}'
    built_for = f'built for CUDA {torch.version.cuda}' if torch.version.cuda else 'built for CPUs'
    if tuple(int(number) for number in re.findall(r'\d+', torch.__version__)[:2]) < MIN_TORCH:
        return ERROR, f'{torch.__version__}; sarigan needs {MIN_TORCH[0]}.{MIN_TORCH[1]} or newer'
    return OK, f'{torch.__version__}, {built_for}'

def check_device():
    import torch
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        devices = [torch.cuda.get_device_properties(index) for index in range(count)]
        names = [f'{device.name} with {device.total_memory / 2**30:.0f} GiB' for device in devices]
        return OK, ', '.join(f'{names.count(name)} x {name}' for name in dict.fromkeys(names))
    cores = processes.available_cores()
    detail = f'CPU, {cores} core{"s" if cores != 1 else ""}'
    if caught: # there is a GPU that PyTorch can't use
        return WARNING, f'{detail}; {_first_line(caught[0].message)}'
    return OK, f'{detail}, no CUDA device'

def check_upstream():
    tree = places.upstream_tree()
    origin = upstream.identify(tree)
    if origin.kind == 'missing':
        return ERROR, f'{upstream.FOLDER if places.is_checkout() else tree} is empty: run {places.install_command()}'
    name = dict(submodule='git submodule', pypi='assembled from Python packages', other='unknown origin')[origin.kind]
    commit = f', commit {origin.commit[:7]}' if origin.commit else ''
    # A user may have reasons for another tree; without its packages nothing works.
    state = OK if origin.ok else WARNING if upstream.find() else ERROR
    return state, f'{name}{commit}, {origin.detail}'

def check_patches():
    tree = upstream.find()
    if tree is None:
        return ERROR, 'no tree to patch'
    states = upstream.patch_status(tree)
    problems = [f'{name} {dict(missing="is not applied", conflict="does not fit")[state]}'
        for name, state in states.items() if state != 'applied']
    if problems:
        return ERROR, f'{", ".join(problems)}: run {places.install_command()}'
    return OK, f'{", ".join(states)} applied'

def check_tools():
    tree = upstream.find()
    if tree is None:
        return ERROR, 'no tree, so that there are none'
    scripts = sorted(tree.glob('*.py'))
    known = sys.stdlib_module_names | {path.stem for path in tree.iterdir()} | {'sarigan_plugin'}
    needed = {module: path.name for path in scripts for module in _imported(path) if module not in known}
    missing = [(script, places.PACKAGES.get(module, module))
        for module, script in needed.items() if not _is_there(module)]
    if missing:
        return (WARNING, ', '.join(f'{script} needs {package}' for script, package in missing) + ': '
            f'run {places.install_command(" ".join(package for _script, package in missing))}')
    videos = 'MP4' if _is_there('imageio_ffmpeg') else 'animated PNGs, and MP4 after pip install imageio-ffmpeg'
    return OK, f"all that upstream's {len(scripts)} scripts import is there; videos are {videos}"

def _is_there(module):
    return importlib.util.find_spec(module) is not None

def _imported(path):
    """The top-level names of all modules that a script imports, in functions as well."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding='utf-8-sig'))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0]
    return dict.fromkeys(name.partition('.')[0] for name in names)

def check_custom_ops():
    import torch
    if not torch.cuda.is_available():
        return OK, "PyTorch's, as always on the CPU"
    from sarigan_plugin.acceleration import cuda_build, ops
    obstacle = cuda_build.obstacle()
    if obstacle is None:
        return OK, ops.NAMES['cuda'] + (', built' if cuda_build.are_built()
            else ', built at the first run on this GPU, which takes some minutes')
    problem = ops.triton_problem()
    for_cuda = f'for {ops.NAMES["cuda"]}: {obstacle}'
    if problem is None:
        return OK, f'{ops.NAMES["triton"]}; {for_cuda}'
    return WARNING, f'{ops.NAMES["torch"]}; {for_cuda}; for {ops.NAMES["triton"]}: {problem}'

def check_detectors():
    tree = upstream.find()
    if tree is None:
        return ERROR, 'no tree, so that there are no metrics'
    text = ''.join(path.read_text(encoding='utf-8') for path in sorted((tree / 'metrics').glob('*.py')))
    urls = sorted(set(re.findall(r"'(https://[^']+\.pt)'", text)))
    import dnnlib
    missing = [url for url in urls if not upstream.is_cached(url)]
    if missing:
        from sarigan_plugin.features import detectors
        unaided = '--metrics=none and fd10k_lite0 need none' if detectors.has_lite0() else '--metrics=none needs none'
        return (WARNING, f'{_names(missing)} not cached: '
            f'metrics download {"it" if len(missing) == 1 else "them"} when first used ({unaided})')
    return OK, f'{_names(urls)} cached in {dnnlib.make_cache_dir_path("downloads")}'

def _names(urls):
    return ', '.join(Path(url).stem for url in urls)

def check_disk():
    root = places.root() # Which after `pip install` is made by `sarigan upstream`.
    free = shutil.disk_usage(next(folder for folder in [root, *root.parents] if folder.is_dir())).free
    state = ERROR if free < DISK_ERROR else WARNING if free < DISK_WARNING else OK
    needs = '' if state == OK else '; long trainings write many snapshots of some 100 MB'
    return state, f'{free / 1e9:.3g} GB free{needs}'

#----------------------------------------------------------------------------

CHECKS = {
    'Python':    check_python,
    'PyTorch':   check_torch,
    'device':    check_device,
    'upstream':  check_upstream,
    'patches':   check_patches,
    'tools':     check_tools,
    'ops':       check_custom_ops,
    'detectors': check_detectors,
    'disk':      check_disk,
}

def _first_line(problem):
    return (str(problem).strip().splitlines() or [''])[0]

def examine():
    """Run every check; returns a list of Findings. A check that fails is itself a finding."""
    findings = []
    for part, check in CHECKS.items():
        try:
            state, detail = check()
        except ModuleNotFoundError as err:
            state, detail = ERROR, f'needs the Python module {err.name}: run {places.install_command(err.name)}'
        except click.ClickException as err:
            state, detail = ERROR, err.message
        except Exception as err:
            state, detail = ERROR, f'{type(err).__name__}: {_first_line(err)}'
        findings.append(Finding(part, state, _first_line(detail)))
    return findings

@click.command('doctor')
@click.option('--json', 'as_json', help='Print JSON, for programs', is_flag=True)
def doctor_command(as_json):
    """Check the installation: what works on this machine and what doesn't.

    The exit code is 1 if anything is wrong.

    \b
    sarigan doctor
    """
    findings = examine()
    healthy = all(finding.state != ERROR for finding in findings)
    if as_json:
        click.echo(json.dumps(dict(ok=healthy, findings=[asdict(finding) for finding in findings]), indent=2))
    else:
        for finding in findings:
            click.echo(f'{click.style(f"{finding.state:<7}", fg=COLOURS[finding.state])}  {finding.part:<9}  '
                f'{finding.detail}')
    sys.exit(0 if healthy else 1)

#----------------------------------------------------------------------------
