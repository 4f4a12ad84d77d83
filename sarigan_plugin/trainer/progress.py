"""What a person sees while training runs: a progress bar, and the groups' statistics once per tick.

Upstream's loop tells the outside world nothing between two ticks. But it calls the loss in every phase, so the monitor
is a loss that passes everything on to the real one and counts.
"""

import sys
import time

import dnnlib
import torch
from torch_utils import training_stats

from sarigan_plugin.losses.sarigan import unwrapped
from sarigan_plugin.model.grouping import ChannelGrouping
from sarigan_plugin.model.networks import grouped_layers
from sarigan_plugin.support import streams
from sarigan_plugin.support.bars import progressbar
from sarigan_plugin.trainer.soundness import GradientWatch

LOSS_STATE = ('pl_mean', 'images_to_regroup', 'steps_to_targets', 'grouping_targets') # What a loss, upstream's or ours, remembers from step to step.
REFRESH_ITERATIONS = 16 # Reading a loss makes a GPU wait for it, as upstream's ADA does every 4 iterations.

#----------------------------------------------------------------------------

class MonitoredLoss:
    """Stands between upstream's training_loop() and the loss that the config names."""
    def __init__(self,
        device,                 # Device of the networks.
        loss_kwargs,            # Class name and arguments of the real loss.
        batch_size,             # Images per iteration, all GPUs together.
        total_kimg,             # Length of the training, thousands of images.
        kimg_per_tick,          # Thousands of images between upstream's ticks.
        num_gpus,               # Number of processes.
        rank,                   # This process; the first one shows the bar.
        minutes,                # Training ends after so long, None = after total_kimg.
        max_bad_iterations,     # So many iterations in a row with numbers that are not finite raise Diverged.
        **networks,             # G_mapping, G_synthesis, D and augment_pipe, for the real loss.
    ):
        self.loss = dnnlib.util.construct_class_by_name(device=device, **networks, **loss_kwargs)
        self.clock = TickClock(batch_size, total_kimg, kimg_per_tick)
        self.groups = GroupStatistics(networks['G_synthesis'])
        self.bar = ProgressBar(total_kimg * 1000, minutes) if rank == 0 else None
        self.losses = training_stats.Collector(regex='Loss/(G/loss|D/loss|info/.*)')
        self.gradients = GradientWatch(device, dict(G=[unwrapped(networks['G_mapping']), unwrapped(networks['G_synthesis'])], D=[unwrapped(networks['D'])]),
            max_bad_iterations)
        self.refresh_iterations = REFRESH_ITERATIONS if device.type == 'cuda' else 1
        self.num_gpus = num_gpus
        self.rank = rank

    def accumulate_gradients(self, phase, real_img, sync, **kwargs):
        self.loss.accumulate_gradients(phase=phase, real_img=real_img, sync=sync, **kwargs)
        if sync:
            self.gradients.look(phase)
        if phase not in ['Dmain', 'Dboth']:
            return
        if self.bar is not None:
            self.bar.advance(len(real_img) * self.num_gpus)
        if sync: # The last round: the iteration is over, or all but its R1.
            if self.clock.iteration_ends_tick():
                counts = self.groups.report()
                if self.bar is not None and counts is not None:
                    print('Groups:', ', '.join(f'{name} {count}' for name, count in counts.items()))
            if self.clock.iteration % REFRESH_ITERATIONS == 0:
                self.losses.update() # On every rank: it adds up over them.
                if self.bar is not None:
                    self.bar.show(self.losses)

    def iteration_done(self):
        """All phases of an iteration are over. Raises soundness.Diverged, on every rank."""
        self.gradients.end_iteration()
        if self.clock.iteration % self.refresh_iterations == 0:
            story = self.gradients.report(self._mean_losses)
            if story is not None and self.rank == 0:
                print(f'Warning: {story}.', file=sys.stderr, flush=True)

    def _mean_losses(self):
        self.losses.update()
        return {name: self.losses.mean(name) for name in self.losses.names()}

    def is_sound(self):
        """Whether the numbers of the last iteration, and all parameters, are finite."""
        modules = [unwrapped(module) for module in [self.loss.G_mapping, self.loss.G_synthesis, self.loss.D]]
        return self.gradients.is_sound() and all(bool(parameter.isfinite().all()) for module in modules for parameter in module.parameters())

    # What a training state keeps, see checkpoint.py.

    def state_dict(self):
        return dict(
            loss    = {name: getattr(self.loss, name) for name in LOSS_STATE if hasattr(self.loss, name)},
            clock   = (self.clock.iteration, self.clock.tick_start),
            groups  = (self.groups.previous, self.groups.counts),
        )

    def load_state_dict(self, state):
        for name, value in state['loss'].items():
            if isinstance(value, torch.Tensor):
                getattr(self.loss, name).copy_(value)
            elif isinstance(value, dict): # Of tuples of tensors.
                setattr(self.loss, name, {key: tuple(x if x is None else x.to(self.loss.device) for x in values) for key, values in value.items()})
            else:
                setattr(self.loss, name, value)
        self.clock.iteration, self.clock.tick_start = state['clock']
        previous, self.groups.counts = state['groups']
        for name, assignment in previous.items():
            self.groups.previous[name].copy_(assignment)
        if self.bar is not None:
            self.bar.go_on_from(self.clock.iteration * self.clock.batch_size)

class TickClock:
    """Knows, one iteration before it happens, when upstream's loop ends a tick: the first alone, then every kimg_per_tick."""
    def __init__(self, batch_size, total_kimg, kimg_per_tick):
        self.batch_size = batch_size
        self.total_nimg = total_kimg * 1000
        self.tick_nimg = kimg_per_tick * 1000
        self.iteration = 0
        self.tick_start = 0

    def iteration_ends_tick(self):
        """Call once per iteration."""
        self.iteration += 1
        nimg = self.iteration * self.batch_size
        ends = self.iteration == 1 or nimg >= self.total_nimg or nimg >= self.tick_start + self.tick_nimg
        if ends:
            self.tick_start = nimg
        return ends

#----------------------------------------------------------------------------

class GroupStatistics:
    """Grouping/<layer>/... in upstream's statistics; empty for networks without groups. The loss adds the threshold."""
    def __init__(self, G_synthesis):
        self.layers = grouped_layers(unwrapped(G_synthesis))
        self.previous = {name: layer.grouping.assignment.clone() for name, layer, _source in self.layers}
        self.counts = self._count()

    def _count(self):
        return {name: len(layer.grouping.live_groups) for name, layer, _source in self.layers}

    @torch.no_grad()
    def report(self):
        """Returns {layer name: number of groups} where groups have merged since the last call, or None."""
        for name, layer, _source in self.layers:
            grouping = layer.grouping
            assignment = grouping.assignment.clone()
            sizes = assignment.bincount(minlength=grouping.num_groups)[grouping.live_groups].float()
            values = dict(
                num_groups  = len(sizes), # That channels may join.
                used_groups = (sizes > 0).sum(),
                size_min    = sizes.min(),
                size_median = sizes.median(),
                size_max    = sizes.max(),
                churn       = (assignment != self.previous[name]).float().mean(), # Share of channels, since the last tick.
            )
            if isinstance(grouping, ChannelGrouping):
                values['temperature'] = grouping.temperature
            for key, value in values.items():
                training_stats.report0(f'Grouping/{name}/{key}', value)
            self.previous[name] = assignment
        previous_counts, self.counts = self.counts, self._count()
        return self.counts if self.counts != previous_counts else None

#----------------------------------------------------------------------------

class ProgressBar:
    """kimg, images per second, time left and losses on the terminal's last line; upstream's tick lines scroll above.

    Where stderr is not a terminal there is no bar: the tick lines are the progress.
    """
    def __init__(self, total_nimg, minutes=None):
        terminal = streams.terminal()
        self.visible = terminal.isatty()
        self.start_time = time.monotonic() # Set again by the first images: CUDA ops are built before.
        self.nimg = self.first_nimg = 0
        self.seconds = minutes * 60 if minutes is not None else None
        self.losses = ''
        if self.visible:
            length = total_nimg if minutes is None else int(self.seconds)
            self.bar = progressbar(length=length, file=terminal, label='Training', show_percent=False, item_show_func=lambda item: item)
            _ClearedLine.install(terminal)

    def go_on_from(self, nimg):
        """So many images were seen before this process started."""
        self.nimg = self.first_nimg = nimg
        if self.visible and self.seconds is None:
            self.bar.pos = nimg

    def advance(self, nimg):
        """Count so many more images."""
        if not self.visible:
            return
        if self.nimg == self.first_nimg:
            self.start_time = time.monotonic()
        elapsed = time.monotonic() - self.start_time
        rate = (self.nimg - self.first_nimg) / elapsed if elapsed > 0 else 0 # The first images start the clock.
        self.nimg += nimg
        steps = nimg if self.seconds is None else int(elapsed) - self.bar.pos
        self.bar.update(steps, f'{self.nimg / 1000:.1f} kimg {rate:.0f} img/s{self.losses}')

    def show(self, collector):
        """Put the collected losses beside the bar from now on."""
        names = {'Loss/G/loss': 'G', 'Loss/D/loss': 'D', 'Loss/info/inter': 'info h', 'Loss/info/intra': 'info z'}
        means = {label: collector.mean(name) for name, label in names.items() if name in collector.names()}
        self.losses = ''.join(f' {label} {mean:.2f}' for label, mean in means.items())

class _ClearedLine:
    """Wraps stdout: wipes the bar before a line of text is written where the bar stands."""
    def __init__(self, stream, terminal):
        self.stream = stream
        self.terminal = terminal
        self.starts_line = True

    @classmethod
    def install(cls, terminal):
        logger = sys.stdout # Upstream's Logger, which writes to its own `stdout`.
        if getattr(logger, 'stdout', None) is not None and not isinstance(logger.stdout, cls):
            logger.stdout = cls(logger.stdout, terminal)

    def write(self, text):
        if self.starts_line:
            self.terminal.write('\r\x1b[K')
            self.terminal.flush()
        self.starts_line = text.endswith('\n')
        return self.stream.write(text)

    def __getattr__(self, name):
        return getattr(self.stream, name)

def restore_terminal():
    """Show the cursor again, which the bar has hidden, whatever ended the training."""
    terminal = streams.terminal()
    if terminal.isatty():
        terminal.write('\x1b[?25h')
        terminal.flush()

#----------------------------------------------------------------------------
