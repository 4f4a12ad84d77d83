"""Which implementation of upstream's two custom ops, bias_act and upfirdn2d, this process uses on a GPU: --ops.

cuda:   upstream's CUDA plugins, which nvcc builds at the first run.
triton: the kernels of triton_kernels.py, which need no nvcc.
torch:  upstream's reference, many PyTorch operations for each op, which are slower.
auto:   the first of these that works.

On the CPU it is always torch.
"""

import functools

import torch

from sarigan_plugin.acceleration import cuda_build
from sarigan_plugin.errors import UserError
from sarigan_plugin.support.world import World
from sarigan_plugin.upstream.exchanges import exchange, undo

CHOICES = ('auto', 'cuda', 'triton', 'torch')
NAMES   = dict(cuda="upstream's CUDA plugins", triton='Triton kernels', torch='PyTorch operations, which are slower')

# Of the check below, whose numbers are about one: rounding is a hundredth of that, a wrong tap a hundred times it.
TOLERANCE = 1e-4

#----------------------------------------------------------------------------

def obstacle(choice, device_type, cuda_obstacle=cuda_build.obstacle):
    """Why --ops=choice can't be had on this machine, as far as one can tell without building: one sentence, or None."""
    if choice in ('auto', 'torch'):
        return None
    if device_type == 'cpu':
        return f'--ops={choice} needs a CUDA device, and this would train on the CPU: leave --ops out.'
    problem = cuda_obstacle() if choice == 'cuda' else _triton_is_missing()
    return None if problem is None else _refusal(choice, problem)

def prepare(choice, world, build=None, cuda_obstacle=cuda_build.obstacle, triton_obstacle=None):
    """Make upstream's two ops use the implementation of choice in this process from now on. Call when the GPU is set.

    world: world.World, whose processes do so together.
    build: quiet -> bool, whether upstream's plugins can be used now, where nothing is known to stand against it.
    cuda_obstacle, triton_obstacle: () -> why not, in a few words, or None.
    Returns one line that says what was chosen and why. Raises UserError where choice can't be had.
    """
    for module in cuda_build.modules():
        undo(module.__name__, '_init')
        _set(module, None, False) # As it was imported: what failed to build is tried again.
    build = build or (lambda quiet: cuda_build.prepare(world, functools.partial(cuda_build.build_upstreams, quiet)))
    def cuda_problem():
        problem = cuda_obstacle()
        if problem is not None or build(choice == 'auto'):
            return problem
        return 'building them failed' + (', as --ops=cuda shows in full' if choice == 'auto' else '')
    obstacles = dict(cuda=cuda_problem, triton=triton_obstacle or triton_problem, torch=lambda: None)
    name, problems = choose(choice, obstacles)
    for module in cuda_build.modules():
        _set(module, _plugin(name, module), True)
    reasons = '; '.join(f'{NAMES[other]}: {problem}' for other, problem in problems.items())
    return f'Custom ops: {NAMES[name]}' + (f' ({reasons}).' if reasons else '.')

def _plugin(name, module):
    """What a module of upstream's is to call on a GPU: its own plugin, which is built by now, ours, or none."""
    if name == 'triton':
        from sarigan_plugin.acceleration import triton_kernels  # Here, as Triton may be missing.
        return triton_kernels
    return module._plugin if name == 'cuda' else None

def _set(module, plugin, inited):
    exchange(module.__name__, '_plugin', lambda _none: plugin,
        'bias_act.py:38 and upfirdn2d.py:24 know CUDA plugins alone')
    exchange(module.__name__, '_inited', lambda _false: inited,
        'bias_act.py:43 and upfirdn2d.py:28 build when they are first called')

def choose(choice, problems):
    """Decide by problems = {name: () -> why it can't be used, or None}, of which no more are asked than needed.

    Returns (name, {faster name: why not}). Raises UserError where choice is one of them and can't be had.
    """
    found = dict()
    for name in problems if choice == 'auto' else [choice]:
        problem = problems[name]()
        if problem is None:
            return name, found
        found[name] = problem
    raise UserError(_refusal(choice, found[choice]))

def _refusal(choice, problem):
    others = [name for name in CHOICES if name != choice]
    return (f'--ops={choice}: {NAMES[choice]} cannot be used here: {problem}. '
        f'The other choices are {", ".join(others[:-1])} and {others[-1]}.')

#----------------------------------------------------------------------------
# Tools have no --ops.

def choose_at_first_use():
    """As --ops=auto, when one of the two ops first runs on a GPU in this process; nothing happens before."""
    for module in cuda_build.modules():
        if not module._inited:
            exchange(module.__name__, '_init', _choosing, 'bias_act.py:41 and upfirdn2d.py:26 know CUDA plugins alone')

def _choosing(_init):
    return _init_at_first_use

def _init_at_first_use():
    from torch_utils import custom_ops
    line = prepare('auto', World())
    if custom_ops.verbosity != 'none': # As in all processes of a tool but the first.
        print(line)
    return cuda_build.modules()[0]._init()

#----------------------------------------------------------------------------

def _triton_is_missing():
    try:
        import triton as _triton  # noqa: F401
    except ImportError:
        return 'there is no Python package triton, which comes with PyTorch for CUDA on Linux'
    return None

def triton_problem(device='cuda'):
    """Why the Triton kernels can't be used on a device, in a few words, or None. Compiles two of them, in seconds."""
    missing = _triton_is_missing()
    if missing is not None:
        return missing
    try:
        error = _error_of_triton(device)
    except Exception as problem: # Whatever a compiler, a driver or an old Triton comes up with.
        return f'{type(problem).__name__}: {(str(problem).strip().splitlines() or ["no reason given"])[0]}'
    return None if error < TOLERANCE else f'their results are off by {error:.2g}'

def _error_of_triton(device):
    """The largest difference from upstream's reference, which runs on the CPU: convolutions of a GPU may round more."""
    from sarigan_plugin.acceleration import triton_kernels
    bias_act, upfirdn2d = cuda_build.modules()
    x = torch.linspace(-3, 3, 2 * 3 * 9 * 8).sin().reshape(2, 3, 9, 8) # Random numbers are the training's.
    b = torch.linspace(-1, 1, 3)
    f = upfirdn2d.setup_filter([1, 3, 3, 1])
    lrelu = bias_act.activation_funcs['lrelu']
    none = torch.empty([0])
    activated = triton_kernels.bias_act(x.to(device), b.to(device), none, none, none, 0, 1, lrelu.cuda_idx,
        lrelu.def_alpha, lrelu.def_gain, -1)
    enlarged = triton_kernels.upfirdn2d(x.to(device), f.to(device), 2, 2, 1, 1, 2, 1, 2, 1, False, 4)
    pairs = [(activated, bias_act.bias_act(x, b, act='lrelu', impl='ref')),
        (enlarged, upfirdn2d.upsample2d(x, f, impl='ref'))]
    return max((ours.cpu() - theirs).abs().nan_to_num(nan=float('inf')).max().item() for ours, theirs in pairs)

#----------------------------------------------------------------------------
