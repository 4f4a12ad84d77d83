"""How fast photos become a dataset zip: `sarigan data folder` beside upstream's dataset_tool.py.

Both read the same JPEG files, and must make the same bytes of them.

Run: python benchmarks/data_folder.py --pictures=2000 --workers=1,2 --rounds=3
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import click
import numpy as np
import PIL.Image

from common import ListOf, as_count
from sarigan_plugin.commands.options import PATH
from sarigan_plugin.upstream import tree as upstream

DIFFERENT = 50          # Photos; the others are links to them.
SIZE      = (1500, 1000)

@click.command()
@click.option('--pictures',   help='How many photos', type=click.IntRange(min=1), default=2000,
                              show_default=True, metavar='INT')
@click.option('--resolution', help='Size that they become', type=click.IntRange(min=8), default=256,
                              show_default=True, metavar='INT')
@click.option('--workers',    help='Numbers of processes, each on a core of its own', type=ListOf(as_count, '1,2'),
                              default='1,2', show_default=True, metavar='LIST')
@click.option('--rounds',     help='Measurements of each, by turns', type=click.IntRange(min=1), default=3,
                              show_default=True, metavar='INT')
@click.option('--outdir',     help='Where to leave data_folder.json', default='out/data_folder', show_default=True,
                              type=PATH, metavar='DIR')
def main(pictures, resolution, workers, rounds, outdir):
    """Measure pictures per second, of upstream's tool on one core and of ours on one and more.

    What counts is the ratio of the medians. CPU seconds are those of all processes, and say more where a machine has
    other work.
    """
    sides = {'upstream': 1} | {f'{number} worker{"s" if number > 1 else ""}': number for number in workers}
    measured = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as folder:
        source = make_photos(Path(folder, 'photos'), pictures)
        for _round in range(rounds):
            for side, cores in sides.items():
                measured[side].append(measure(side, cores, source, Path(folder), resolution))
    rows = [dict(side=side) for side in sides]
    for row in rows:
        row |= {kind: statistics.median(one[kind] for one in measured[row['side']]) for kind in ['wall', 'cpu']}
        row['pictures_per_second'] = pictures / row['wall']
        row['ratios'] = {kind: rows[0][kind] / row[kind] for kind in ['wall', 'cpu']}
        print(f'{row["side"]}: {row["pictures_per_second"]:.1f} pictures/s, {row["ratios"]["wall"]:.2f} times as fast '
            f'as upstream; {row["cpu"]:.1f} CPU seconds, '
            f'of which upstream takes {row["ratios"]["cpu"]:.2f} times as many')
    os.makedirs(outdir, exist_ok=True)
    result = dict(cores=os.cpu_count(), pillow=PIL.__version__, pictures=pictures, resolution=resolution, rows=rows,
        measured=measured)
    Path(outdir, 'data_folder.json').write_text(json.dumps(result, indent=2) + '\n', encoding='utf-8')
    print(f'Saved {outdir}/data_folder.json.')

def make_photos(folder, count):
    """JPEG files as large as those of phones for so many pixels: smooth shapes, some noise. Returns the folder."""
    rng = np.random.RandomState(0)
    folder.mkdir()
    for index in range(count):
        path = folder / f'{index:05d}.jpg'
        if index >= DIFFERENT:
            os.link(folder / f'{index % DIFFERENT:05d}.jpg', path)
            continue
        shapes = PIL.Image.fromarray(rng.randint(256, size=[8, 12, 3], dtype=np.uint8))
        shapes = shapes.resize(SIZE, PIL.Image.Resampling.BICUBIC)
        pixels = np.asarray(shapes) + rng.normal(scale=6, size=[SIZE[1], SIZE[0], 3])
        PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return folder

def measure(side, cores, source, folder, resolution):
    """dict(wall, cpu) in seconds."""
    dest = folder / f'{side.replace(" ", "")}.zip'
    if side == 'upstream':
        command = [upstream.find() / 'dataset_tool.py', f'--source={source}', f'--dest={dest}',
            '--transform=center-crop', f'--width={resolution}', f'--height={resolution}']
    else:
        command = ['-m', 'sarigan_plugin.cli', 'data', 'folder', source, f'--dest={dest}', f'--resolution={resolution}',
            f'--workers={cores}', '--force']
    before, start = children_seconds(), time.perf_counter()
    on_cores = lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    subprocess.run([sys.executable, *map(str, command)], check=True, preexec_fn=on_cores,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = dict(wall=time.perf_counter() - start, cpu=children_seconds() - before)
    if side != 'upstream' and contents(dest) != contents(folder / 'upstream.zip'):
        raise SystemExit('The two made different pictures.')
    return seconds

def children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

def contents(path):
    """Names and checksums of what is in a zip."""
    with zipfile.ZipFile(path) as archive:
        return [(entry.filename, entry.CRC) for entry in archive.infolist()]

if __name__ == '__main__':
    main()
