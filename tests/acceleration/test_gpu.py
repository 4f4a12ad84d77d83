"""What only a GPU can show: run with `pytest -m gpu`."""

import os
import subprocess
import sys

import pytest
import torch

import skips
import small_training
from derivatives import FILTERS, FP16, FP32, assert_orders_agree, gradients_of_a_step, random
from sarigan_plugin.acceleration import cuda_build, ops
from sarigan_plugin.support.world import World
from sarigan_plugin.upstream import exchanges
from trainings import stats

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=skips.NO_CUDA)]

def test_generator_and_discriminator_agree_with_the_cpu(make_generator, make_discriminator):
    G, D = make_generator(), make_discriminator()
    ws = torch.randn(4, G.num_ws, G.w_dim)
    img = G.synthesis(ws, noise_mode='const')
    logits, codes = D(img, torch.zeros(4, 0), return_codes=True)
    G, D = G.cuda(), D.cuda()
    img_cuda = G.synthesis(ws.cuda(), noise_mode='const')
    logits_cuda, codes_cuda = D(img.cuda(), torch.zeros(4, 0).cuda(), return_codes=True)
    for ours, theirs in [(img_cuda, img), (logits_cuda, logits), (codes_cuda, codes)]:
        # Other convolution algorithms, other order of sums.
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-3, atol=1e-3)

@pytest.mark.parametrize('gpus', [count for count in [1, 2, 4] if count <= torch.cuda.device_count()])
@pytest.mark.parametrize('method, options', [
    ({}, []), ({}, ['--nhwc=1']), ({}, ['--fp32=1']), ({}, ['--aug=ada']), (dict(norm='feature'), []),
    ({}, ['--ops=triton']),
    ({}, ['--ops=triton', '--nhwc=1', '--aug=ada']), ({}, ['--ops=torch']),
], ids=str)
def test_a_short_training_runs_with_mixed_precision(images, tmp_path, method, options, gpus):
    cfg = tmp_path / 'small.toml'
    cfg.write_text(small_training.config(method=dict(lambda_info=1.0, **method),
        networks=dict(channel_base=128, num_fp16_res=4)))
    done = subprocess.run([sys.executable, '-m', 'sarigan_plugin.cli', 'train', f'--cfg={cfg}', f'--data={images}',
        f'--outdir={tmp_path / "out"}',
        '--metrics=none', '--device=cuda', f'--gpus={gpus}', *options], capture_output=True, text=True,
        check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    folder, = (tmp_path / 'out').iterdir()
    assert all(abs(stats(folder)[-1][name]['mean']) < 1e4
        for name in ['Loss/G/loss', 'Loss/D/loss', 'Loss/info/inter', 'Loss/grouping'])

#----------------------------------------------------------------------------
# The custom ops. On the CPU test_triton_ops.py has the same cases, and more.

def with_ops(choice, function):
    """The function, with the ops of choice; they may change between calls."""
    def wrapper(*args):
        ops.prepare(choice, World())
        return function(*args)
    return wrapper

def on_the_cpu(function):
    """The function, as the CPU in float32 has it: convolutions of a GPU may round more."""
    return lambda *args: function(*[x.cpu().float() for x in args]).to(args[0])

BIAS_ACTS  = [dict(act='lrelu', clamp=1.0), dict(act='linear', gain=0.5), dict(act='tanh'), dict(act='sigmoid'),
    dict(act='elu'), dict(act='selu'),
              dict(act='softplus'), dict(act='swish', clamp=1.0), dict(act='relu')]
RESAMPLINGS = [('4x4', dict(padding=[1, 2, 1, 2], gain=4)), ('4x4', dict(up=2, padding=[2, 1, 2, 1], gain=4)),
    ('4x4', dict(down=2, padding=1, flip_filter=True)),
               ('12 by 12', dict(up=2, padding=[6, 5, 6, 5])), ('12 by 12', dict(down=2, padding=-3)),
               ('asymmetric', dict(up=[2, 3], down=[3, 2], padding=4))]

def ops_to_compare(half, memory_format):
    """(name, upstream's op, its inputs on the GPU): images as those of a network,
    larger than a tile and no multiple of one."""
    bias_act, upfirdn2d = cuda_build.modules()
    dtype = torch.float16 if half else torch.float32
    def inputs(*shapes):
        return [random(*shape, dtype=dtype, memory_format=memory_format).detach().cuda().requires_grad_()
            for shape in shapes]
    for options in BIAS_ACTS:
        if half: # Numbers that round to the clamp have no gradient, but those that are not rounded do.
            options = dict(options, clamp=None)
        yield str(options), (lambda x, b, options=options: bias_act.bias_act(x, b,
            **options)), inputs([3, 40, 37, 33], [40])
    for f, options in RESAMPLINGS:
        yield f'{f} {options}', (lambda x, f=f, options=options: upfirdn2d.upfirdn2d(x, FILTERS[f].to(x.device),
            **options)), inputs([3, 40, 37, 33])

@pytest.fixture
def chosen_ops():
    """Whatever ops a test has chosen, the next one starts without."""
    with exchanges.undone():
        yield

@pytest.mark.usefixtures('chosen_ops')
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last], ids=['nchw', 'nhwc'])
@pytest.mark.parametrize('half', [False, True], ids=['fp32', 'fp16'])
@pytest.mark.parametrize('other', ['the reference', 'cuda'])
def test_triton_equals_the_reference_and_the_plugins(other, half, memory_format):
    if other == 'cuda' and cuda_build.obstacle() is not None:
        pytest.skip(skips.NO_NVCC)
    # The plugins are compiled with fast maths.
    tolerance = FP16 if half else FP32 if other == 'the reference' else dict(rtol=1e-4, atol=1e-4)
    for name, op, inputs in ops_to_compare(half, memory_format):
        if other == 'cuda' and half and 'selu' in name:
            continue # At 0, which half precision often hits, it has a kink, and the plugins and the reference differ.
        theirs = on_the_cpu(op) if other == 'the reference' else with_ops('cuda', op)
        try:
            assert_orders_agree(with_ops('triton', op), theirs, inputs, tolerance)
        except AssertionError as error:
            raise AssertionError(f'{name}: {error}') from None

@pytest.mark.usefixtures('chosen_ops')
def test_a_network_has_the_same_gradients_with_triton_and_with_pytorch(make_generator, make_discriminator):
    G, D = make_generator(), make_discriminator()
    expected = gradients_of_a_step(G, D)
    for actual, wanted in zip(with_ops('triton', gradients_of_a_step)(G.cuda(), D.cuda()), expected, strict=True):
        scale = max(wanted.abs().max().item(), 1)
        # Its convolutions are a GPU's.
        torch.testing.assert_close(actual.cpu() / scale, wanted / scale, rtol=1e-3, atol=1e-3)

def test_auto_works_without_nvcc_and_says_so():
    code = ("import sarigan_plugin\nfrom sarigan_plugin.acceleration import ops\nfrom sarigan_plugin.support.world "
        "import World\nprint(ops.prepare('auto', World()))")
    done = subprocess.run([sys.executable, '-c',
        "from torch.utils import cpp_extension\ncpp_extension.CUDA_HOME = None\n" + code],
        capture_output=True, text=True, check=False, env=os.environ)
    assert done.stdout.startswith("Custom ops: Triton kernels (upstream's CUDA plugins: "
        "no nvcc, which the CUDA toolkit ") and 'Traceback' not in done.stderr
