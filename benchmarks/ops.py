"""How fast the custom ops are on this machine's GPU: upstream's CUDA plugins,
our Triton kernels and PyTorch operations.

Run: python benchmarks/ops.py --cfg=sarigan --data=cats256.zip
"""

import json
import os
import statistics
import tempfile
from pathlib import Path

import click
import torch

from common import random_images
from sarigan_plugin.acceleration import cuda_build, ops
from sarigan_plugin.commands.options import PATH
from sarigan_plugin.errors import UserError
from sarigan_plugin.support.world import World
from scaling import measure

IMPLEMENTATIONS = ops.CHOICES[1:]
WARM_UP, REPEATS = 5, 30
NCHW, NHWC = torch.contiguous_format, torch.channels_last

# What a training at 256x256 calls most; a filter of None = bias_act.
CASES = [
    # name,                 shape,                dtype,         memory format, filter,       options
    ('activation',          [8, 128, 128, 128],   torch.float16, NCHW,          None,
                            dict(act='lrelu', clamp=256)),
    ('activation, nhwc',    [8, 128, 128, 128],   torch.float16, NHWC,          None,
                            dict(act='lrelu', clamp=256)),
    ('activation, fp32',    [8, 512, 32, 32],     torch.float32, NCHW,          None,         dict(act='lrelu')),
    ('blur',                [8, 128, 257, 257],   torch.float16, NCHW,          [1, 3, 3, 1], dict(padding=1, gain=4)),
    ('blur, nhwc',          [8, 128, 257, 257],   torch.float16, NHWC,          [1, 3, 3, 1], dict(padding=1, gain=4)),
    ('blur, fp32',          [8, 512, 33, 33],     torch.float32, NCHW,          [1, 3, 3, 1], dict(padding=1, gain=4)),
    ('downsample',          [8, 128, 256, 256],   torch.float16, NCHW,          [1, 3, 3, 1], dict(down=2, padding=1)),
    ('upsample, RGB',       [8, 3, 128, 128],     torch.float32, NCHW,          [1, 3, 3, 1],
                            dict(up=2, padding=[2, 1, 2, 1], gain=4)),
    ('augment, 12 taps',    [8, 3, 300, 300],     torch.float32, NCHW,          [1] * 12,
                            dict(up=2, padding=[6, 5, 6, 5], gain=4)),
]

@click.command()
@click.option('--cfg',      help='Base config of the trainings', default='sarigan', show_default=True, metavar='NAME')
@click.option('--data',     help='Training data [default: random images of 256x256]', type=PATH, metavar='PATH')
@click.option('--kimg',     help='Length of each training; its ticks after the first two are measured; 0 = none',
                            type=click.IntRange(min=0), default=12, show_default=True, metavar='INT')
@click.option('--repeats',  help='Trainings of each kind, by turns', type=click.IntRange(min=1), default=3,
                            show_default=True, metavar='INT')
@click.option('--outdir',   help='Where to leave ops.json', default='out/ops', show_default=True,
                            type=PATH, metavar='DIR')
def main(cfg, data, kimg, repeats, outdir):
    """Compare the three on single ops, there and back, and on whole trainings,
    whose ticks hold many cycles of lazy phases.

    What can't be used here is left out with a sentence. Ratios are to the CUDA plugins, or to the first there is.
    """
    if not torch.cuda.is_available():
        raise UserError('benchmarks/ops.py needs a CUDA device, and PyTorch finds none here.')
    usable = [name for name in IMPLEMENTATIONS if can_use(name)]
    rows = [dict(case=case[0], **{name: milliseconds(name, *case[1:]) for name in usable}) for case in CASES]
    print_table(rows, usable, 'ms')
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        options = [f'--cfg={cfg}', f'--data={data or random_images(Path(folder, "random"), 256)}', f'--kimg={kimg}',
            '--device=cuda', '--metrics=none', '--snap=1000000']
        for repeat in range(repeats if kimg > 0 else 0):
            for name in usable: # By turns: a machine's other load changes in the meantime.
                wall, _cpu = measure([*options, f'--ops={name}', f'--outdir={folder}/{repeat}-{name}'])
                runs.append(dict(ops=name, wall=wall))
                print(f'{name}: {wall:.2f} s/kimg', flush=True)
    trainings = [dict(case=cfg, **{name: statistics.median(run['wall'] for run in runs if run['ops'] == name)
        for name in usable})] if runs else []
    print_table(trainings, usable, 's/kimg')
    os.makedirs(outdir, exist_ok=True)
    result = dict(gpu=torch.cuda.get_device_name(), torch=torch.__version__, cfg=cfg, data=data, kimg=kimg,
        milliseconds=rows, seconds_per_kimg=trainings, runs=runs)
    Path(outdir, 'ops.json').write_text(json.dumps(result, indent=2) + '\n', encoding='utf-8')
    print(f'Saved {outdir}/ops.json.')

def can_use(name):
    try:
        ops.prepare(name, World())
        return True
    except UserError as error:
        print(error.message)
        return False

def milliseconds(name, shape, dtype, memory_format, taps, options):
    """Median time of one op and its gradients on the GPU."""
    ops.prepare(name, World())
    bias_act, upfirdn2d = cuda_build.modules()
    inputs = [torch.randn(shape, device='cuda', dtype=dtype).to(memory_format=memory_format).requires_grad_()]
    if taps is None:
        inputs.append(torch.zeros(shape[1], device='cuda', dtype=dtype, requires_grad=True))
        op = lambda: bias_act.bias_act(*inputs, **options)
    else:
        f = upfirdn2d.setup_filter(taps, device='cuda')
        op = lambda: upfirdn2d.upfirdn2d(*inputs, f, **options)
    gradient = torch.randn_like(op())
    times = []
    for repeat in range(WARM_UP + REPEATS):
        start, end = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        start.record()
        torch.autograd.grad(op(), inputs, gradient)
        end.record()
        end.synchronize()
        if repeat >= WARM_UP:
            times.append(start.elapsed_time(end))
    return statistics.median(times)

def print_table(rows, names, unit):
    if rows:
        print(f'\n{"":<20}' + ''.join(f'{f"{name}, {unit}":>16}{"ratio":>8}' for name in names))
    for row in rows:
        print(f'{row["case"]:<20}' + ''.join(f'{row[name]:>16.3f}{row[name] / row[names[0]]:>8.2f}' for name in names))

if __name__ == '__main__':
    main()
