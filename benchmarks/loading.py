"""How many images per second reach a training: upstream's data set and PyTorch's loader,
as upstream's loop sets them up.

Run: python benchmarks/loading.py --resolutions=64,256,1024 --workers=1,2
"""

import itertools
import json
import os
import tempfile
import time
import zipfile
from pathlib import Path

import click
import numpy as np
import PIL.Image
import torch

from common import ListOf, as_count
from sarigan_plugin.commands.options import PATH
from sarigan_plugin.trainer import arguments, upstream_loop

import dnnlib  # Upstream's, importable by now.
from torch_utils import misc

IMAGES = 64
BATCH = 32

@click.command()
@click.option('--resolutions', help='Sizes of images', type=ListOf(as_count, '64,256,1024'), default='64,256,1024',
                               show_default=True, metavar='LIST')
@click.option('--workers',     help='Numbers of processes that load', type=ListOf(as_count, '1,2'), default='1,2',
                               show_default=True, metavar='LIST')
@click.option('--seconds',     help='Length of each measurement', type=click.FloatRange(min=0.1), default=10,
                               show_default=True, metavar='NUM')
@click.option('--outdir',      help='Where to leave loading.json', default='out/loading', show_default=True,
                               type=PATH, metavar='DIR')
def main(resolutions, workers, seconds, outdir):
    """Measure how fast images are loaded, from PNG files in a zip file as dataset_tool.py makes it.

    A GPU that trains faster than that waits. Images are smooth with some noise,
    and their PNG files about as large as those of photos.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for resolution in resolutions:
            data = photo_like_images(Path(folder, f'{resolution}x{resolution}.zip'), resolution)
            kib = data.stat().st_size / IMAGES / 1024
            for number in workers:
                rate = images_per_second(data, number, seconds)
                rows.append(dict(resolution=resolution, kib_per_image=kib, workers=number, images_per_second=rate))
                print(f'{resolution}x{resolution}, {kib:.0f} KiB each, {number} worker{"s" if number > 1 else ""}: '
                    f'{rate:.0f} images/s, {rate / number:.0f} for each worker', flush=True)
    os.makedirs(outdir, exist_ok=True)
    Path(outdir, 'loading.json').write_text(
        json.dumps(dict(cores=os.cpu_count(), torch=torch.__version__, rows=rows), indent=2) + '\n', encoding='utf-8')
    print(f'Saved {outdir}/loading.json.')

def photo_like_images(path, resolution):
    """Returns the path of the zip file that it makes."""
    rng = np.random.RandomState(0)
    with zipfile.ZipFile(path, 'w') as archive:
        for index in range(IMAGES):
            shapes = PIL.Image.fromarray(rng.randint(256, size=[8, 8, 3], dtype=np.uint8)).resize([resolution,
                resolution], PIL.Image.Resampling.BICUBIC)
            pixels = (np.asarray(shapes) + rng.normal(scale=6, size=[resolution, resolution, 3])).clip(0,
                255).astype(np.uint8)
            with archive.open(f'{index:03d}.png', 'w') as file:
                PIL.Image.fromarray(pixels).save(file, format='png')
    return path

def images_per_second(data, workers, seconds):
    _desc, args = arguments.training_options(data=str(data), cfg='sarigan', batch=BATCH, gpus=1, metrics=[],
        workers=workers)
    upstream_loop.prepare('cpu')
    upstream_loop.fit_to_device(args, 'cpu')
    training_set = dnnlib.util.construct_class_by_name(**args.training_set_kwargs)
    loader = torch.utils.data.DataLoader(training_set, sampler=misc.InfiniteSampler(training_set), batch_size=BATCH,
        **args.data_loader_kwargs)
    batches = iter(loader)
    for _batch in range(workers * loader.prefetch_factor + 1): # Workers start, and hold so many ready.
        next(batches)
    start = time.perf_counter()
    for number in itertools.count(1):
        next(batches)
        if time.perf_counter() - start >= seconds:
            return number * BATCH / (time.perf_counter() - start)

if __name__ == '__main__':
    main()
