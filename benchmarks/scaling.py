"""How much faster more processes train: seconds per thousand images with 1, 2, ... GPUs, or CPU processes,
of this machine.

Run: python benchmarks/scaling.py --gpus=1,2,4,8 --cfg=sarigan --data=cats256.zip --kimg=12
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import psutil
import torch

import charts
from common import Device, ListOf, as_count, random_images
from sarigan_plugin.commands.options import PATH

ROOT = Path(__file__).resolve().parents[1]
WARM_UP_TICKS = 2 # The first iteration, which builds CUDA ops and tries algorithms, and the first full tick.

@click.command()
@click.option('--gpus',     help='Numbers of processes to compare; efficiency is relative to the first',
                            type=ListOf(as_count, '1,2,4'), default='1,2', show_default=True, metavar='LIST')
@click.option('--cfg',      help='Base config', default='tiny', show_default=True, metavar='NAME')
@click.option('--data',     help='Training data [default: random images of 32x32]', type=PATH, metavar='PATH')
@click.option('--kimg',     help='Length of each training; its ticks after the first two are measured',
                            type=click.IntRange(min=1), default=6, show_default=True, metavar='INT')
@click.option('--repeats',  help='Trainings of each number, by turns', type=click.IntRange(min=1), default=3,
                            show_default=True, metavar='INT')
@click.option('--device',   help='Where to train', type=Device(), default='auto', show_default=True)
@click.option('--outdir',   help='Where to leave scaling.json and scaling.png', default='out/scaling',
                            show_default=True, type=PATH, metavar='DIR')
def main(gpus, cfg, data, kimg, repeats, device, outdir):
    """Measure how training scales from one process to several on this machine.

    The batch stays the same, so that each process gets a share of it. Per thousand images there are two figures: wall
    time, which other programs on the machine lengthen, and the CPU time of all processes together,
    which they hardly do.
    """
    os.makedirs(outdir, exist_ok=True)
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        options = [f'--cfg={cfg}', f'--data={data or random_images(Path(folder, "random"), 32, number=256)}',
            f'--kimg={kimg}', f'--device={device}', '--metrics=none', '--snap=1000000']
        runs = []
        for repeat in range(repeats):
            for count in gpus: # By turns: a machine's other load changes in the meantime.
                wall, cpu = measure([*options, f'--gpus={count}', f'--outdir={folder}/{repeat}-{count}'])
                runs.append(dict(gpus=count, wall=wall, cpu=cpu))
                print(f'{count} process{"es" if count > 1 else ""}: '
                    f'{wall:.2f} s/kimg, {cpu:.2f} CPU s/kimg', flush=True)
    rows = summarize(runs)
    machine = dict(cores=os.cpu_count(), load_before=before, load_after=os.getloadavg()[0], torch=torch.__version__,
        gpu=(torch.cuda.get_device_name() if torch.cuda.is_available() else None))
    result = dict(machine=machine, cfg=cfg, data=data, kimg=kimg, device=device, rows=rows, runs=runs)
    Path(outdir, 'scaling.json').write_text(json.dumps(result, indent=2) + '\n', encoding='utf-8')
    charts.scaling(Path(outdir, 'scaling.png'), rows)
    print_table(rows, machine)
    print(f'Saved {outdir}/scaling.json and {outdir}/scaling.png.')

def measure(options):
    """Train once. Returns (wall seconds, CPU seconds) per thousand images, without the warm-up."""
    environment = dict(os.environ, PYTHONUNBUFFERED='1',
        PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')])))
    process = subprocess.Popen([sys.executable, '-m', 'sarigan_plugin.cli', 'train', *options], env=environment,
        stdout=subprocess.PIPE, text=True)
    ticks = [] # (thousands of images, time, CPU time) at the end of each.
    for line in process.stdout:
        if line.startswith('tick '):
            ticks.append((float(line.split()[3]), time.monotonic(), cpu_seconds(process.pid)))
    if process.wait() != 0:
        raise click.ClickException(f'the training ended with exit code {process.returncode}.')
    if len(ticks) <= WARM_UP_TICKS:
        raise click.ClickException('--kimg is too short: '
            f'only {len(ticks)} ticks, and the first {WARM_UP_TICKS} warm up.')
    (start_kimg, *start), (end_kimg, *end) = ticks[WARM_UP_TICKS - 1], ticks[-1]
    return [(b - a) / (end_kimg - start_kimg) for a, b in zip(start, end)]

def cpu_seconds(pid):
    """What a process and all that it has started have used so far."""
    total = 0
    parent = psutil.Process(pid)
    for process in [parent, *parent.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:2]) # User and system.
    return total

def summarize(runs):
    """Medians for each number of processes. Efficiency is 1 where n processes are n times as fast as one."""
    rows = []
    for count in dict.fromkeys(run['gpus'] for run in runs):
        wall, cpu = [statistics.median(run[key] for run in runs if run['gpus'] == count) for key in ['wall', 'cpu']]
        first = rows[0] if rows else dict(gpus=count, wall=wall, cpu=cpu)
        rows.append(dict(gpus=count, wall=wall, cpu=cpu, efficiency=first['wall'] * first['gpus'] / (wall * count),
            cpu_ratio=cpu / first['cpu']))
    return rows

def print_table(rows, machine):
    print(f'\nMedians; {machine["cores"]} cores, '
        f'load {machine["load_before"]:.1f} before and {machine["load_after"]:.1f} after, {machine["gpu"] or "no GPU"}')
    print(f'{"processes":>9}  {"s/kimg":>8}  {"efficiency":>10}  {"CPU s/kimg":>10}  {"CPU ratio":>9}')
    for row in rows:
        print(f'{row["gpus"]:>9}  {row["wall"]:>8.2f}  {row["efficiency"]:>10.2f}  {row["cpu"]:>10.2f}  '
            f'{row["cpu_ratio"]:>9.2f}')

if __name__ == '__main__':
    main()
