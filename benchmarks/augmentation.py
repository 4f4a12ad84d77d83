"""What augmentation costs on the CPU, ours relative to upstream's: seconds, and memory that a training fills with it.

Run: python benchmarks/augmentation.py --settings=64:16,256:4
"""

import concurrent.futures
import json
import multiprocessing
import os
import statistics
import time
from pathlib import Path

import click
import psutil
import torch

from common import ListOf, as_count
from sarigan_plugin.acceleration import cpu
from sarigan_plugin.commands.options import PATH
from sarigan_plugin.trainer.options import AUGMENT_PIPES
from sarigan_plugin.upstream import exchanges

from training.augment import AugmentPipe  # Upstream's, importable by now.

def as_setting(text):
    """'64:16' -> (64, 16): pixels to a side, images. Raises ValueError."""
    size, images = map(as_count, text.split(':'))
    return size, images

@click.command()
@click.option('--settings', help='Pixels to a side, and images', type=ListOf(as_setting, '64:16,256:4'),
                            default='64:16,128:8,256:4', show_default=True, metavar='LIST')
@click.option('--augpipe',  help='Which augmentations', type=click.Choice(list(AUGMENT_PIPES)), default='bgc',
                            show_default=True)
@click.option('--strength', help='Their probability p', type=click.FloatRange(0, 1), default=0.2, show_default=True)
@click.option('--batches',  help='That are augmented, each another way', type=click.IntRange(min=2), default=200,
                            show_default=True, metavar='INT')
@click.option('--outdir',   help='Where to leave augmentation.json', default='out/benchmark', show_default=True,
                            type=PATH, metavar='DIR')
def main(settings, augpipe, strength, batches, outdir):
    """Measure augmentation of a batch and its gradient in CPU seconds of one thread, the median, and how much larger
    the process is after the last batch than after the first. Each side is a process of its own."""
    rows = []
    print(f'{"":10}{"upstream, ms":>14}{"ours, ms":>10}{"ratio":>7}{"upstream, MB more":>19}{"ours":>6}')
    for size, images in settings:
        theirs, ours = [in_a_process(with_ours, size, images, augpipe, strength, batches) for with_ours in [0, 1]]
        rows.append(dict(size=size, images=images, upstream=theirs, ours=ours))
        print(f'{f"{size}:{images}":10}{theirs["seconds"] * 1e3:14.1f}{ours["seconds"] * 1e3:10.1f}'
            f'{ours["seconds"] / theirs["seconds"]:7.2f}{theirs["growth"]:19.0f}{ours["growth"]:6.0f}', flush=True)
    os.makedirs(outdir, exist_ok=True)
    Path(outdir, 'augmentation.json').write_text(
        json.dumps(dict(augpipe=augpipe, strength=strength, batches=batches, torch=torch.__version__, rows=rows),
            indent=2) + '\n', encoding='utf-8')
    print(f'Saved {outdir}/augmentation.json.')

def in_a_process(*job):
    context = multiprocessing.get_context('spawn')
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, *job).result()

def measure(with_ours, size, images, augpipe, strength, batches):
    """Returns the median of CPU seconds for a batch, and the growth of the process in MB."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pipe = AugmentPipe(**dict.fromkeys(AUGMENT_PIPES[augpipe], 1))
    pipe.p.fill_(strength)
    batch = torch.rand(images, 3, size, size).mul(2).sub(1).requires_grad_()
    seconds, sizes = [], []
    with exchanges.undone():
        cpu.keep_freed_memory()
        if with_ours:
            cpu.prepare()
        for _batch in range(batches):
            start = time.process_time()
            torch.autograd.grad(pipe(batch).square().sum(), batch)
            seconds.append(time.process_time() - start)
            sizes.append(psutil.Process().memory_info().rss / 2 ** 20)
    return dict(seconds=statistics.median(seconds), growth=sizes[-1] - sizes[0])

if __name__ == '__main__':
    main()
