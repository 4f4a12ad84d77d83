"""How far from the machine's floor each training phase is: its arithmetic and memory traffic beside what the machine
can do.

Run: python benchmarks/floor.py --setting=128:4
"""

import json
import os
import statistics
import tempfile
import time
import weakref
from pathlib import Path

import click
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from common import Device, as_setting, random_images
from sarigan_plugin.acceleration import cpu
from sarigan_plugin.commands.options import PATH
from sarigan_plugin.trainer import arguments, upstream_loop

import dnnlib  # Upstream's, importable by now.

PHASES = ('Gmain', 'Greg', 'Dmain', 'Dreg')
REPEATS = 3

class Counter(TorchDispatchMode):
    """Adds up what operations calculate and what they read and write,
    that of convolutions and matrix products only if they `move` bytes.

    `memory` is the most that tensors made here have held at a time, bytes.
    """
    def __init__(self, convolutions_move=False):
        super().__init__()
        self.convolutions_move = convolutions_move
        self.kernels = 0
        self.flops = 0
        self.bytes = 0
        self.memory = 0
        self.held = dict() # {address: bytes}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [x for x in torch.utils._pytree.tree_leaves([args, kwargs, out]) if isinstance(x, torch.Tensor)]
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=out)
        if tensors and not func.is_view and not func.__name__.startswith(('empty', 'new_empty', 'detach')):
            self.kernels += 1
            if count is None or self.convolutions_move:
                self.bytes += sum(x.numel() * x.element_size() for x in tensors)
        for x in torch.utils._pytree.tree_leaves(out):
            if isinstance(x, torch.Tensor):
                self._hold(x.untyped_storage())
        return out

    def _hold(self, storage):
        address = storage._cdata # Of a tensor with shapes alone as well.
        if address not in self.held:
            self.held[address] = storage.nbytes()
            weakref.finalize(storage, self.held.pop, address)
            self.memory = max(self.memory, sum(self.held.values()))

@click.command()
@click.option('--setting',  help='Resolution and batch', type=as_setting, default='128:4',
                            show_default=True, metavar='PAIR')
@click.option('--cfg',      help='Base config', default='sarigan', show_default=True, metavar='NAME')
@click.option('--device',   help='Where to run', type=Device(), default='auto', show_default=True)
@click.option('--threads',  help='On the CPU', type=click.IntRange(min=1), default=1, show_default=True, metavar='INT')
@click.option('--outdir',   help='Where to leave floor.json', default='out/floor', show_default=True,
                            type=PATH, metavar='DIR')
def main(setting, cfg, device, threads, outdir):
    """Count floating-point operations and bytes of each phase and compare with the machine's own speed.

    The machine's speeds are those of the best 3x3 convolution and of a large copy. Convolutions at the one and all the
    rest at the other is the floor; the rest may still be more than it has to be.
    """
    resolution, batch = setting
    device = torch.device(device)
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        _desc, args = arguments.training_options(data=str(random_images(Path(folder, 'images'), resolution)), cfg=cfg,
            batch=batch, gpus=1, metrics=[], fp32=True)
    upstream_loop.fit_to_device(args, device.type)
    if device.type == 'cpu':
        cpu.prepare()
    peak, bandwidth = best_convolution(device), copying(device)
    print(f'The machine: {peak / 1e9:.0f} GFLOP/s in a 3x3 convolution, {bandwidth / 1e9:.0f} GB/s reading and writing')
    rows = []
    run, _networks = phases_of(args, device)
    print(f'{"":6} {"GFLOP":>7} {"GB":>6} {"floor, s":>9} {"of it convolutions":>19} {"taken, s":>9} '
        f'{"floor / taken":>14}')
    for phase in PHASES:
        run(phase)
        with Counter() as counter:
            run(phase)
        taken = statistics.median(seconds(lambda phase=phase: run(phase), device) for _ in range(REPEATS))
        arithmetic, traffic = counter.flops / peak, counter.bytes / bandwidth
        rows.append(dict(phase=phase, flops=counter.flops, bytes=counter.bytes, arithmetic=arithmetic,
            traffic=traffic, taken=taken))
        print(f'{phase:6} {counter.flops / 1e9:7.0f} {counter.bytes / 1e9:6.1f} {arithmetic + traffic:9.2f} '
            f'{arithmetic:19.2f} {taken:9.2f} {(arithmetic + traffic) / taken:14.2f}')
    os.makedirs(outdir, exist_ok=True)
    Path(outdir, 'floor.json').write_text(json.dumps(dict(setting=setting, cfg=cfg, peak=peak, bandwidth=bandwidth,
        rows=rows), indent=2) + '\n', encoding='utf-8')

def seconds(function, device):
    """Processor seconds on the CPU, where other programs may be running, and wall seconds on a GPU."""
    clock = time.process_time if device.type == 'cpu' else time.perf_counter
    start = clock()
    function()
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return clock() - start

def best_convolution(device):
    """Floating-point operations per second, the best of a few shapes."""
    best = 0
    for channels, size in [(512, 32), (256, 64), (512, 16)]:
        x, w = torch.randn(8, channels, size, size, device=device), torch.randn(channels, channels, 3, 3, device=device)
        taken = min(seconds(lambda x=x, w=w: torch.nn.functional.conv2d(x, w, padding=1), device) for _ in range(5))
        best = max(best, 2 * x.numel() * w[:, 0].numel() / taken)
    return best

def copying(device):
    """Bytes per second, read and written."""
    x = torch.randn(2 ** 26, device=device)
    y = torch.empty_like(x)
    return 2 * x.numel() * x.element_size() / min(seconds(lambda: y.copy_(x), device) for _ in range(5))

def phases_of(args, device):
    """A function that runs one round of a phase as upstream's loop does, without the optimizer, and G and D."""
    size = dict(c_dim=0, img_resolution=args.training_set_kwargs.resolution, img_channels=3)
    G, D = [dnnlib.util.construct_class_by_name(**kwargs, **size).train().to(device)
        for kwargs in [args.G_kwargs, args.D_kwargs]]
    loss = dnnlib.util.construct_class_by_name(device=device, G_mapping=G.mapping, G_synthesis=G.synthesis, D=D,
        **args.loss_kwargs)
    images = torch.randn([args.batch_size, 3, size['img_resolution'], size['img_resolution']], device=device)
    z, c = torch.randn([args.batch_size, G.z_dim], device=device), torch.zeros([args.batch_size, 0], device=device)
    def run(phase):
        for module, letter in [(G, 'G'), (D, 'D')]:
            module.requires_grad_(phase[0] == letter).zero_grad(set_to_none=True)
        loss.accumulate_gradients(phase=phase, real_img=images, real_c=c, gen_z=z, gen_c=c, sync=True, gain=1)
    return run, [G, D]

if __name__ == '__main__':
    main()
