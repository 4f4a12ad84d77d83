"""How fast SariGAN is beside the StyleGAN2-ADA that it extends: a table of ratios, as text, JSON and bar charts.

Run: python benchmarks/speed.py --settings=64:8,128:4
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from multiprocessing import Pipe
from pathlib import Path

import click
import torch

import charts
from common import Device, ListOf, as_setting, random_images
from sarigan_plugin.commands.options import PATH
from sarigan_plugin.upstream import tree as upstream

HERE = Path(__file__).resolve().parent
TRAINING = ('cycle', 'Gmain', 'Greg', 'Dmain', 'Dreg', 'G forward')
IMAGES = ('inference', 'fused inference')
SIDE = re.compile(r'upstream|sarigan(-g(?P<groups>\d+))?(-(?P<precision>fp32|bf16))?|bare')
KINDS = dict(wall='seconds', cpu='CPU seconds', memory='peak memory')

def side(text):
    if SIDE.fullmatch(text) is None:
        raise ValueError()
    return text

def measure_name(text):
    if text not in TRAINING + IMAGES:
        raise ValueError()
    return text

@click.command()
@click.option('--settings',     help='Resolutions and batches', type=ListOf(as_setting, '64:8,128:4'),
                                default='64:8,128:4', show_default=True, metavar='LIST')
@click.option('--sides',        help='What to compare, by turns, with the first: upstream (its own StyleGAN2, '
                                'unpatched), sarigan (16 groups), sarigan-g64 (that many), sarigan-fp32 and '
                                'sarigan-bf16 (what it computes in on a CPU, whether that pays or not), '
                                'bare (SariGAN without grouping loss and Q)', type=ListOf(side, 'upstream,sarigan'),
                                default='upstream,sarigan', show_default=True, metavar='LIST')
@click.option('--measures',     help=f'Any of {", ".join(TRAINING + IMAGES)}: a cycle is the training of 16 batches, '
                                'all phases included; fused is how upstream makes images unless told otherwise',
                                type=ListOf(measure_name, 'cycle,inference'), default=','.join(TRAINING + IMAGES),
                                metavar='LIST')
@click.option('--rounds',       help='Measurements of each; their medians are compared', type=click.IntRange(min=1),
                                default=3, show_default=True, metavar='INT')
@click.option('--gpus',         help='Processes that train together, for cycles alone', type=click.IntRange(min=1),
                                default=1, show_default=True, metavar='INT')
@click.option('--device',       help='Where to run', type=Device(), default='auto', show_default=True)
@click.option('--threads',      help='Of each process on the CPU', type=click.IntRange(min=1), default=1,
                                show_default=True, metavar='INT')
@click.option('--fp32',         help='No mixed precision', is_flag=True)
@click.option('--channel-base', help='Channels times resolution', type=click.IntRange(min=64), default=16384,
                                show_default=True, metavar='INT')
@click.option('--channel-max',  help='Most channels of a layer', type=click.IntRange(min=16), default=512,
                                show_default=True, metavar='INT')
@click.option('--outdir',       help='Where to leave speed.json and speed.png', default='out/speed', show_default=True,
                                type=PATH, metavar='DIR')
def main(settings, sides, measures, rounds, gpus, device, threads, fp32, channel_base, channel_max, outdir):
    """Measure SariGAN beside upstream's StyleGAN2, with equal channels, batch, precision and data.

    Each side is a process of its own, and they work by turns, so that whatever else the machine does slows all alike.
    Wall time is what you wait for; CPU time depends less on other programs. Images are random: they are loaded, but
    what they show costs nothing.
    """
    if gpus > 1:
        measures = [measure for measure in measures if measure == 'cycle']
    os.makedirs(outdir, exist_ok=True)
    machine = dict(device=torch.cuda.get_device_name() if device == 'cuda' else cpu_name(),
        threads=threads if device == 'cpu' else None,
        cores=os.cpu_count(), load=os.getloadavg()[0], torch=torch.__version__)
    common = dict(device=device, threads=threads, size=dict(channel_base=channel_base, channel_max=channel_max))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        unpatched = upstream.copy_unpatched(Path(folder, 'upstream')) if 'upstream' in sides else None
        for resolution, batch in settings:
            data = Path(folder, f'{resolution}x{resolution}')
            if not data.exists():
                random_images(data, resolution)
            options = dict(data=str(data), batch=batch, gpus=gpus, workers=1, fp32=fp32 or None)
            for task, of_task in [('train', TRAINING), ('images', IMAGES)]:
                if asked := [measure for measure in measures if measure in of_task]:
                    where = dict(setting=f'{resolution}x{resolution} batch {batch}'
                        + (f', {gpus} processes' if gpus > 1 else ''))
                    rows += [dict(where, **row)
                        for row in compare(sides, asked, rounds, unpatched, dict(common, task=task, options=options))]
                    print_table([row for row in rows if row['setting'] == where['setting']
                        and row['measure'] in of_task], sides)
    Path(outdir, 'speed.json').write_text(json.dumps(dict(machine=machine, rows=rows), indent=2) + '\n',
        encoding='utf-8')
    if len(sides) > 1:
        kind = 'cpu' if device == 'cpu' else 'wall'
        charts.ratios(Path(outdir, 'speed.png'), rows, kind,
            f'{KINDS[kind]}, relative to {sides[0]} ({machine["device"]})')
    print(f'Saved {outdir}/speed.json{" and speed.png" if len(sides) > 1 else ""}; {machine}')

def cpu_name():
    """As Linux has it."""
    names = (re.findall(r'model name\s*: (.*)', Path('/proc/cpuinfo').read_text(encoding='utf-8'))
        if os.path.exists('/proc/cpuinfo') else [])
    return names[0] if names else 'CPU'

#----------------------------------------------------------------------------

class Side:
    """One of those that are compared, at work in a process, or in several that train together; see side.py."""
    def __init__(self, name, unpatched, settings, folder):
        is_upstream, (groups, precision) = name == 'upstream', SIDE.fullmatch(name).group('groups', 'precision')
        options = dict(settings['options'], cfg='stylegan2-e' if is_upstream else 'sarigan',
            **(dict(num_groups=int(groups)) if groups else {}),
            **(dict(cpu_bf16=dict(fp32='0', bf16='1')[precision]) if precision else {}))
        run_dir = Path(folder, name, 'run')
        run_dir.mkdir(parents=True)
        self.log = run_dir / 'output.txt'
        self.connection, theirs = Pipe()
        path = [str(unpatched), str(upstream.root())] if is_upstream else [str(upstream.root())]
        with open(self.log, 'w', encoding='utf-8') as output:
            self.processes = [subprocess.Popen([sys.executable, str(HERE / 'side.py'),
                json.dumps(dict(settings, options=options, upstream=is_upstream,
                bare=(name == 'bare'), run_dir=str(run_dir), rank=rank)), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=dict(os.environ, PYTHONPATH=os.pathsep.join(path)), stdout=output,
                stderr=subprocess.STDOUT) for rank in range(options['gpus'])]
        theirs.close()

    def measure(self, what):
        try:
            self.connection.send(what)
            return self.connection.recv()
        except (EOFError, OSError):
            raise click.ClickException('a process of the comparison ended '
                f'early:\n{self.log.read_text(encoding="utf-8")[-2000:]}') from None

    def end(self):
        try:
            self.connection.send('end')
            self.processes[0].wait(60)
        except (OSError, subprocess.TimeoutExpired):
            pass
        for process in self.processes:
            process.kill()
            process.wait()

def compare(sides, measures, rounds, unpatched, settings):
    """Returns one row per measure and side: medians, and their ratios to the first side's."""
    several = settings['options']['gpus'] > 1
    # The phases do for a cycle, which is long.
    warm_up = TRAINING[1:] if 'cycle' in measures and not several else measures
    with tempfile.TemporaryDirectory() as folder:
        at_work = {}
        try:
            at_work = {name: Side(name, unpatched, settings, folder) for name in sides}
            results = {(measure, name): [] for measure in measures for name in sides}
            for one in at_work.values():
                for measure in warm_up: # Memory, algorithms, kernels.
                    one.measure(measure)
            turns = [(measure, name) for turn in range(rounds) for measure in measures
                for name in (sides if turn % 2 == 0 else sides[::-1])]
            with click.progressbar(turns, label=f'{os.path.basename(settings["options"]["data"])}, {settings["task"]}',
                    item_show_func=lambda turn: turn and ', '.join(turn)) as bar:
                for measure, name in bar:
                    results[measure, name].append(at_work[name].measure(measure))
        finally:
            for one in at_work.values():
                one.end()
    rows = []
    for measure in measures:
        medians = [{kind: statistics.median(result[kind] for result in results[measure, name]) for kind in KINDS}
            for name in sides]
        rows += [dict(measure=measure, side=name, **median,
            ratios={kind: median[kind] / medians[0][kind] for kind in KINDS}, all=results[measure, name])
            for name, median in zip(sides, medians)]
    return rows

def print_table(rows, sides):
    width = max(map(len, sides))
    print(f'\n{rows[0]["setting"]}, medians; ratios to {sides[0]}')
    print(f'{"":16} {"":{width}}  {"seconds":>8} {"CPU s":>8} {"MiB":>7}   {"time":>5} {"CPU":>5} {"memory":>6}')
    for row in rows:
        print(f'{row["measure"]:16} {row["side"]:{width}}  {row["wall"]:8.3f} {row["cpu"]:8.3f} '
            f'{row["memory"] / 2 ** 20:7.0f}   '
            + '{wall:5.2f} {cpu:5.2f} {memory:6.2f}'.format(**row['ratios']))

if __name__ == '__main__':
    main()
