"""How fast winograd.py's convolutions are beside PyTorch's, one by one, and how far both are from double precision.

Run: python benchmarks/convolutions.py --shapes=4:512:32,4:256:64
"""

import json
import os
import statistics
import time
from pathlib import Path

import click
import torch

from common import ListOf, as_count
from sarigan_plugin.acceleration import convolutions, cpu, winograd
from sarigan_plugin.commands.options import PATH

from torch_utils.ops import conv2d_gradfix  # Upstream's, importable by now.

MEASURES = ('forward', 'gradients', 'second ones')

def as_shape(text):
    """'4:512:32' -> (4, 512, 32): images, channels, pixels to a side. Raises ValueError."""
    images, channels, size = map(as_count, text.split(':'))
    if size % winograd.PIXELS:
        raise ValueError(f'{size} is not a multiple of {winograd.PIXELS}')
    return images, channels, size

@click.command()
@click.option('--shapes',  help='Images, channels, pixels to a side', type=ListOf(as_shape, '4:512:32,4:256:64'),
                           default='8:512:16,4:512:32,4:256:64,4:128:128', show_default=True, metavar='LIST')
@click.option('--rounds',  help='Measurements of each; their medians are compared', type=click.IntRange(min=1),
                           default=9, show_default=True, metavar='INT')
@click.option('--threads', help='That work on each', type=click.IntRange(min=1), default=1,
                           show_default=True, metavar='INT')
@click.option('--outdir',  help='Where to leave convolutions.json', default='out/convolutions', show_default=True,
                           type=PATH, metavar='DIR')
def main(shapes, rounds, threads, outdir):
    """Measure 3x3 convolutions on the CPU, ours relative to PyTorch's, by turns.

    CPU seconds with one thread, and seconds with more. Gradients are those of features and kernels, and the second ones
    those that R1 needs. Rounding is the largest error of what is convolved, relative to the largest number.
    """
    torch.set_num_threads(threads)
    cpu.keep_freed_memory()
    clock = time.process_time if threads == 1 else time.perf_counter
    print(f'{"":12}' + ''.join(f'{measure:>13}' for measure in MEASURES) + f'{"rounding":>10}{"PyTorch":>9}')
    rows = []
    for shape in shapes:
        row = dict(shape=shape, **compare(*shape, rounds, clock))
        rows.append(row)
        print(f'{":".join(map(str, shape)):12}' + ''.join(f'{row["ratios"][measure]:13.2f}' for measure in MEASURES)
            + f'{row["rounding"]["ours"]:10.1e}{row["rounding"]["pytorch"]:9.1e}', flush=True)
    os.makedirs(outdir, exist_ok=True)
    Path(outdir, 'convolutions.json').write_text(
        json.dumps(dict(threads=threads, torch=torch.__version__, rows=rows), indent=2) + '\n', encoding='utf-8')
    print(f'Saved {outdir}/convolutions.json.')

def compare(images, channels, size, rounds, clock):
    """Returns seconds and ratios of each measure, and the rounding of both."""
    generator = torch.Generator().manual_seed(0)
    x, w, dy = [torch.randn(shape, generator=generator)
        for shape in [(images, channels, size, size), (channels, channels, 3, 3), (images, channels, size, size)]]
    sides = dict(pytorch=lambda x, w: torch.nn.functional.conv2d(x, w, padding=1),
        ours=lambda x, w: convolutions.Convolution.apply(x, w, False, winograd))
    taken = {(side, measure): [] for side in sides for measure in MEASURES}
    for _ in range(rounds):
        for side, convolution in sides.items():
            for measure, seconds in zip(MEASURES, derivatives(convolution, x, w, dy, clock)):
                taken[side, measure].append(seconds)
    seconds = {side: {measure: statistics.median(taken[side, measure]) for measure in MEASURES} for side in sides}
    exact = sides['pytorch'](x.double(), w.double())
    return dict(seconds=seconds,
        ratios={measure: seconds['ours'][measure] / seconds['pytorch'][measure] for measure in MEASURES},
        rounding={side: float((convolution(x, w) - exact).abs().max() / exact.abs().max())
            for side, convolution in sides.items()})

def derivatives(convolution, x, w, dy, clock):
    """Seconds of each of MEASURES."""
    x, w, dy = [t.detach().requires_grad_() for t in [x, w, dy]]
    times = [clock()]
    y = convolution(x, w)
    times.append(clock())
    torch.autograd.grad(y, [x, w], dy, retain_graph=True)
    times.append(clock())
    with conv2d_gradfix.no_weight_gradients():
        slopes, = torch.autograd.grad(y, x, dy, create_graph=True)
    start = clock()
    torch.autograd.grad(slopes, [dy, w], slopes.detach())
    return [*(after - before for before, after in zip(times, times[1:])), clock() - start]

if __name__ == '__main__':
    main()
