"""One side of a comparison: a process that does what it is asked for and answers with what that took.

Started by speed.py, with its settings as JSON and a connection. It runs upstream's own training loop, in which one
thing is exchanged, the loss, for one that waits before each cycle of the phases; or it makes images with a fresh
generator.
"""

import contextlib
import json
import os
import time
from multiprocessing.connection import Connection

import click
import torch

from sarigan_plugin.acceleration import cpu, cpu_formats, ops
from sarigan_plugin.losses.sarigan import SariGANLoss, unwrapped
from sarigan_plugin.support.world import DEFAULT_TIMEOUT, World
from sarigan_plugin.trainer import arguments, launch, upstream_loop

import dnnlib  # Upstream's, importable by now.

CYCLE = 16 # Iterations until every phase was due: R1 every 16, path length every 4.
PHASES = ('Gmain', 'Greg', 'Dmain', 'Dreg')

class Over(Exception):
    """Nothing more is asked."""

class Measured:
    """Wall and processor seconds since it was made, and the most memory in use, bytes."""
    def __init__(self, device):
        self.device = device
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with open('/proc/self/clear_refs', 'w', encoding='ascii') as f:
                f.write('5') # Linux forgets the largest resident size.
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def stop(self):
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)
        seconds = dict(wall=time.perf_counter() - self.wall, cpu=time.process_time() - self.cpu)
        if self.device.type == 'cuda':
            return dict(seconds, memory=torch.cuda.max_memory_allocated(self.device))
        with open('/proc/self/status', encoding='ascii') as f:
            peak, = [line for line in f if line.startswith('VmHWM:')]
        return dict(seconds, memory=int(peak.split()[1]) * 1024)

#----------------------------------------------------------------------------

class BareLoss(SariGANLoss):
    """Without what the grouping and Q add: adversarial, R1 and path length remain, through the same networks."""
    def _grouping_loss(self, features):
        return torch.zeros([], device=self.device)

    def _info_loss(self, predicted, ws):
        return torch.zeros([], device=self.device)

    def _report_share(self, adversarial, info):
        pass

class WaitingLoss:
    """Passes everything on to the real loss, and before each cycle does what is asked until that is to go on."""
    def __init__(self, device, loss_kwargs, connection, **networks):
        self.loss = dnnlib.util.construct_class_by_name(device=device, **networks, **loss_kwargs)
        self.device = device
        self.connection = Connection(connection)
        self.generator = [unwrapped(networks['G_mapping']), unwrapped(networks['G_synthesis'])]
        self.D = unwrapped(networks['D'])
        self.iteration = 0
        self.cycle = None # The Measured of the cycle that is running.

    def __getattr__(self, name):
        return getattr(self.loss, name)

    def accumulate_gradients(self, phase, **batch):
        if phase == 'Gmain':
            if self.iteration % CYCLE == 0:
                self._wait(batch)
            self.iteration += 1
        self.loss.accumulate_gradients(phase=phase, **batch)

    def _wait(self, batch):
        if self.cycle is not None:
            self.connection.send(self.cycle.stop())
        while (what := self.connection.recv()) != 'cycle':
            if what == 'end':
                raise Over()
            self._train(phase_of_G=(what != 'G forward' and what[0] == 'G'), phase_of_D=(what[0] == 'D'))
            measured = Measured(self.device)
            if what == 'G forward':
                mapping, synthesis = self.generator
                synthesis(mapping(batch['gen_z'], batch['gen_c']))
            else:
                self.loss.accumulate_gradients(phase=what, **batch)
            self.connection.send(measured.stop())
        self._train(phase_of_G=True, phase_of_D=False) # As the loop has left it.
        self.cycle = Measured(self.device)

    def _train(self, phase_of_G, phase_of_D):
        for module, needed in [*[(module, phase_of_G) for module in self.generator], (self.D, phase_of_D)]:
            module.requires_grad_(needed).zero_grad(set_to_none=True)

def train(settings, args, connection):
    rank, size = settings['rank'], args.num_gpus
    args.update(run_dir=settings['run_dir'], network_snapshot_ticks=None, image_snapshot_ticks=None,
        kimg_per_tick=10 ** 6, total_kimg=10 ** 7, grid=[1, 1])
    if settings['bare']:
        args.loss_kwargs.class_name = '__main__.BareLoss'
    if rank == 0: # The others wait for it at the next exchange of gradients.
        args.loss_kwargs = dnnlib.EasyDict(class_name='__main__.WaitingLoss', loss_kwargs=args.loss_kwargs,
            connection=connection)
    world = (World.on_this_machine(rank, size, os.path.dirname(settings['run_dir']), DEFAULT_TIMEOUT)
        if size > 1 else World())
    with contextlib.suppress(Over):
        if settings['upstream']:
            train_upstream(world, args, settings['device'])
        else:
            launch.train_process(world, args, settings['device'], minutes=None, state_path=None)

def train_upstream(world, args, device):
    """As upstream's train.py starts each of its processes, and on the CPU as well."""
    from torch_utils import training_stats
    from training import training_loop  # The unpatched tree's.
    upstream_loop.prepare(device, grid=args.pop('grid'), local_rank=world.rank)
    upstream_loop.fit_to_device(args, device)
    training_stats.init_multiprocessing(rank=world.rank,
        sync_device=torch.device(device, world.rank) if world.size > 1 else None)
    if world.size > 1:
        torch.distributed.init_process_group('nccl' if device == 'cuda' else 'gloo', rank=world.rank,
            world_size=world.size, store=world.store)
    training_loop.training_loop(rank=world.rank, **args)

def make_images(settings, args, connection):
    device = torch.device(settings['device'])
    choice, resolutions, _least_channels = launch.cpu_precision(args)
    upstream_loop.fit_to_device(args, settings['device'])
    if not settings['upstream']:
        ops.choose_at_first_use()
        cpu.prepare()
    G = dnnlib.util.construct_class_by_name(**args.G_kwargs, c_dim=0,
        img_resolution=args.training_set_kwargs.resolution, img_channels=3).eval().requires_grad_(False).to(device)
    z = torch.randn([args.batch_size, G.z_dim], device=device)
    connection = Connection(connection)
    while (what := connection.recv()) != 'end':
        measured = Measured(device)
        with cpu_formats.using(choice, resolutions): # As tools do.
            G(z, None, noise_mode='const', fused_modconv=(what == 'fused inference'))
        connection.send(measured.stop())

@click.command()
@click.argument('settings', type=json.loads)
@click.argument('connection', type=click.IntRange(min=0))
def main(settings, connection):
    """One side of a comparison; speed.py starts it, and nobody else has to.

    SETTINGS is JSON, CONNECTION the number of a file descriptor that says what to measure.
    """
    if settings['device'] == 'cpu':
        torch.set_num_threads(settings['threads'])
    _desc, args = arguments.training_options(metrics=[], **settings['options'])
    for kwargs in [args.G_kwargs.synthesis_kwargs, args.D_kwargs]:
        kwargs.update(settings['size'])
    dict(train=train, images=make_images)[settings['task']](settings, args, connection)

if __name__ == '__main__':
    main()
