"""What an iteration asks of a GPU, counted where there is none: kernels, arithmetic, bytes and memory,
beside upstream's.

Run: python benchmarks/counts.py --settings=256:32,256:4
"""

import json
import os
import tempfile
from pathlib import Path

import click
import torch
from torch import library

import charts
from common import ListOf, as_setting, random_images
from floor import Counter, phases_of
from sarigan_plugin.acceleration import cuda_build
from sarigan_plugin.commands.options import PATH
from sarigan_plugin.trainer import arguments, upstream_loop

SIDES = dict(upstream='stylegan2-e', sarigan='sarigan')
INTERVALS = dict(Gmain=1, Greg=4, Dmain=1, Dreg=16) # Iterations from one to the next.
QUANTITIES = dict(kernels=('kernels', 1), flops=('TFLOP', 1e12), bytes=('GB', 1e9), memory=('peak, GiB', 2 ** 30))

@click.command()
@click.option('--settings', help='Resolutions and batches of a GPU', type=ListOf(as_setting, '256:32,256:4'),
                            default='256:32', show_default=True, metavar='LIST')
@click.option('--fp32',     help='No mixed precision', is_flag=True)
@click.option('--outdir',   help='Where to leave counts.json and counts.png', default='out/counts', show_default=True,
                            type=PATH, metavar='DIR')
def main(settings, fp32, outdir):
    """Count what both sides launch, calculate, read and write, and keep, with equal channels, batch and precision.

    The networks have shapes and no numbers (PyTorch's device meta), and upstream's CUDA plugins are one kernel each.
    Every other operation of PyTorch counts as one kernel, and what it reads and writes as if nothing were cached. No
    times follow from that: it says where to look. Style mixing is left out, which makes no difference to the layers,
    and so is the optimizer.
    """
    rows = []
    for resolution, batch in settings:
        counted = {side: count(cfg, resolution, batch, fp32) for side, cfg in SIDES.items()}
        of_setting = [dict(setting=f'{resolution}x{resolution}, batch {batch}', measure=measure, side=side,
            **of_side[measure],
            ratios={name: of_side[measure][name] / counted['upstream'][measure][name] for name in QUANTITIES})
            for measure in [*INTERVALS, 'iteration'] for side, of_side in counted.items()]
        print_table(of_setting)
        rows += of_setting
    os.makedirs(outdir, exist_ok=True)
    Path(outdir, 'counts.json').write_text(json.dumps(dict(fp32=fp32, torch=torch.__version__, rows=rows), indent=2)
        + '\n', encoding='utf-8')
    of_iterations = [dict(row, measure=label, ratios=dict(counted=row['ratios'][name]))
        for name, (label, _unit) in QUANTITIES.items()
        for row in rows if row['measure'] == 'iteration']
    charts.ratios(Path(outdir, 'counts.png'), of_iterations, 'counted', 'An iteration, counted, relative to upstream')
    print(f'Saved {outdir}/counts.json and {outdir}/counts.png.')

def print_table(rows):
    print(f'\n{rows[0]["setting"]}; ratios to upstream')
    print(f'{"":10} {"":9}' + ''.join(f'{label:>14} {"ratio":>5}' for label, _unit in QUANTITIES.values()))
    for row in rows:
        print(f'{row["measure"]:10} {row["side"]:9}' + ''.join(f'{row[name] / unit:14.{0 if unit == 1 else 2}f} '
            f'{row["ratios"][name]:5.2f}' for name, (_label, unit) in QUANTITIES.items()))

def count(cfg, resolution, batch, fp32):
    """Returns {phase, and 'iteration' for the mean over many: {quantity: number}},
    memory being the largest of all phases there."""
    with tempfile.TemporaryDirectory() as folder:
        _desc, args = arguments.training_options(data=str(random_images(Path(folder, 'images'), resolution, number=1)),
            cfg=cfg, batch=batch, gpus=1, metrics=[], fp32=fp32 or None)
    upstream_loop.fit_to_device(args, 'cuda')
    args.loss_kwargs.style_mixing_prob = 0 # Where it mixes depends on a number.
    launch_plugins()
    run, networks = phases_of(args, torch.device('meta'))
    weights = sum(tensor.numel() * tensor.element_size() for network in networks
        for tensor in [*network.parameters(), *network.buffers()])
    counted = dict()
    for phase in INTERVALS:
        for _step in range(2): # The first one looks for the grouping loss's targets, as one in sixteen does.
            with Counter(convolutions_move=True) as counter:
                run(phase)
        counted[phase] = dict(kernels=counter.kernels, flops=counter.flops, bytes=counter.bytes,
            memory=counter.memory + weights)
    counted['iteration'] = {name: sum(counted[phase][name] / interval for phase, interval in INTERVALS.items())
        for name in QUANTITIES}
    counted['iteration']['memory'] = max(counted[phase]['memory'] for phase in INTERVALS)
    return counted

#----------------------------------------------------------------------------
# Upstream's two plugins, as far as shapes go.

PLUGINS = library.Library('counted', 'DEF')
PLUGINS.define('bias_act(Tensor x, Tensor b, Tensor xref, Tensor yref, Tensor dy) -> Tensor')
PLUGINS.define('upfirdn2d(Tensor x, Tensor f, int height, int width) -> Tensor')
PLUGINS.impl('bias_act', lambda x, b, xref, yref, dy: torch.empty_like(x), 'Meta')
PLUGINS.impl('upfirdn2d', lambda x, f, height, width: x.new_empty([*x.shape[:2], height, width]), 'Meta')

class Plugins:
    """In the place of both."""
    @staticmethod
    def bias_act(x, b, xref, yref, dy, *_options):
        return torch.ops.counted.bias_act(x, b, xref, yref, dy)

    @staticmethod
    def upfirdn2d(x, f, upx, upy, downx, downy, padx0, padx1, pady0, pady1, *_options):
        height, width = (x.shape[2] * upy + pady0 + pady1 - f.shape[0]) // downy + 1, (x.shape[3] * upx + padx0 + padx1
            - f.shape[1]) // downx + 1
        return torch.ops.counted.upfirdn2d(x, f, height, width)

def launch_plugins():
    """Let upstream's ops end in the plugins above, as on a GPU they would in its own."""
    bias_act, upfirdn2d = cuda_build.modules()
    for module in [bias_act, upfirdn2d]:
        module._plugin, module._inited = Plugins, True
    bias_act._bias_act_ref = lambda x, b=None, **options: bias_act._bias_act_cuda(**options).apply(x, b)
    upfirdn2d._upfirdn2d_ref = lambda x, f, **options: upfirdn2d._upfirdn2d_cuda(**options).apply(x,
        f if f is not None else x.new_ones([1, 1], dtype=torch.float32))

if __name__ == '__main__':
    main()
