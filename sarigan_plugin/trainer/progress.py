"""What is seen of a training while it runs.

Upstream's loop tells the outside nothing between two ticks. But it calls the loss in every phase: MonitoredLoss passes
everything on to the real loss, and lets others look: the progress bar, group_statistics.py and soundness.py.
"""

import sys
import time
from typing import Any

import torch

from sarigan_plugin.losses.sarigan import unwrapped
from sarigan_plugin.losses.upstream import UpstreamLoss
from sarigan_plugin.support import streams
from sarigan_plugin.support.bars import progressbar
from sarigan_plugin.trainer.group_statistics import GroupStatistics
from sarigan_plugin.trainer.soundness import GradientWatch

import dnnlib
from torch_utils import training_stats

REFRESH_ITERATIONS = 16 # Reading a loss makes a GPU wait for it, as upstream's ADA does every 4 iterations.

#----------------------------------------------------------------------------

class MonitoredLoss:
    """Stands between upstream's training_loop() and the loss that the config names."""
    def __init__(self,
        device:             torch.device,   # Device of the networks.
        loss_kwargs:        dict[str, Any], # Class name and arguments of the real loss.
        batch_size:         int,            # Images per iteration, all GPUs together.
        total_kimg:         int,            # Length of the training, thousands of images.
        kimg_per_tick:      int,            # Thousands of images between upstream's ticks.
        num_gpus:           int,            # Number of processes.
        rank:               int,            # This process; the first one shows the bar.
        minutes:            float | None,   # Training ends after so long, None = after total_kimg.
        max_bad_iterations: int,            # So many iterations in a row with numbers not finite raise Diverged.
        **networks:         Any,            # G_mapping, G_synthesis, D and augment_pipe, for the real loss.
    ) -> None:
        loss = dnnlib.util.construct_class_by_name(device=device, **networks, **loss_kwargs)
        self.loss: Any = loss if hasattr(loss, 'state_dict') else UpstreamLoss(loss)
        self.clock = TickClock(batch_size, total_kimg, kimg_per_tick)
        self.groups = GroupStatistics(networks['G_synthesis'])
        self.bar = ProgressBar(total_kimg * 1000, minutes, wanted=(rank == 0))
        self.losses = training_stats.Collector(regex='Loss/(G/loss|D/loss|info/.*)')
        mapping, synthesis, D = [unwrapped(networks[name]) for name in ['G_mapping', 'G_synthesis', 'D']]
        self.gradients = GradientWatch(device, dict(G=[mapping, synthesis], D=[D]), max_bad_iterations)
        self.refresh_iterations = REFRESH_ITERATIONS if device.type == 'cuda' else 1
        self.num_gpus = num_gpus
        self.is_first = (rank == 0)

    def accumulate_gradients(self, phase: str, real_img: torch.Tensor, sync: bool, **kwargs: Any) -> None:
        self.loss.accumulate_gradients(phase=phase, real_img=real_img, sync=sync, **kwargs)
        if sync:
            self.gradients.look(phase)
        if phase in ['Dmain', 'Dboth']: # One of them in each iteration.
            self.bar.advance(len(real_img) * self.num_gpus)
            if sync: # The last round: the iteration is over, or all but its R1.
                self._show_statistics()

    def _show_statistics(self) -> None:
        if self.clock.iteration_ends_tick():
            counts = self.groups.report()
            if self.is_first and counts is not None:
                print('Groups:', ', '.join(f'{name} {count}' for name, count in counts.items()))
        if self.clock.iteration % REFRESH_ITERATIONS == 0:
            self.losses.update() # On every rank: it adds up over them.
            self.bar.show(self.losses)

    def iteration_done(self) -> None:
        """All phases of an iteration are over. Raises soundness.Diverged, on every rank."""
        self.gradients.end_iteration()
        if self.clock.iteration % self.refresh_iterations == 0:
            found = self.gradients.report(self._mean_losses)
            if found is not None and self.is_first:
                print(f'Warning: {found}.', file=sys.stderr, flush=True)

    def _mean_losses(self) -> dict[str, float]:
        self.losses.update()
        return {name: self.losses.mean(name) for name in self.losses.names()}

    # What checkpoint.py asks for.

    @property
    def regroup_nimg(self) -> float:
        """See SariGANLoss."""
        return self.loss.regroup_nimg

    def set_average(self, G_ema: torch.nn.Module) -> None:
        """See SariGANLoss."""
        self.loss.set_average(G_ema)

    def gradients_are_finite(self) -> bool:
        """Whether those of the phase that ended last are known to be."""
        return self.gradients.are_finite

    def is_sound(self) -> bool:
        """Whether the numbers of the last iteration, and all parameters, are finite."""
        return self.gradients.is_sound()

    def state_dict(self) -> dict[str, Any]:
        """What a training state keeps, beside the networks and the statistics."""
        return dict(loss=self.loss.state_dict(), clock=self.clock.state_dict(), groups=self.groups.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loss.load_state_dict(state['loss'])
        self.clock.load_state_dict(state['clock'])
        self.groups.load_state_dict(state['groups'])
        self.bar.go_on_from(self.clock.nimg)

class TickClock:
    """Knows, one iteration before it happens, when upstream's loop ends a tick: the first alone,
    then every kimg_per_tick."""
    def __init__(self, batch_size: int, total_kimg: int, kimg_per_tick: int) -> None:
        self.batch_size = batch_size
        self.total_nimg = total_kimg * 1000
        self.tick_nimg = kimg_per_tick * 1000
        self.iteration = 0
        self.tick_start = 0

    @property
    def nimg(self) -> int:
        """Images seen."""
        return self.iteration * self.batch_size

    def iteration_ends_tick(self) -> bool:
        """Call once per iteration."""
        self.iteration += 1
        ends = self.iteration == 1 or self.nimg >= self.total_nimg or self.nimg >= self.tick_start + self.tick_nimg
        if ends:
            self.tick_start = self.nimg
        return ends

    def state_dict(self) -> tuple[int, int]:
        return self.iteration, self.tick_start

    def load_state_dict(self, state: tuple[int, int]) -> None:
        self.iteration, self.tick_start = state

#----------------------------------------------------------------------------

class ProgressBar:
    """kimg, images per second, time left and losses on the terminal's last line; upstream's tick lines scroll above.

    Where stderr is not a terminal there is no bar: the tick lines are the progress. wanted=False: none anywhere.
    """
    def __init__(self, total_nimg: int, minutes: float | None = None, wanted: bool = True) -> None:
        terminal: Any = streams.terminal() # As good as a TextIO.
        self.visible = wanted and terminal.isatty()
        self.start_time = time.monotonic() # Set again by the first images: CUDA ops are built before.
        self.nimg = self.first_nimg = 0
        self.seconds = minutes * 60 if minutes is not None else None
        self.losses = ''
        if self.visible:
            length = total_nimg if minutes is None else int(self.seconds) # type: ignore[arg-type]
            self.bar = progressbar(length=length, file=terminal, label='Training', show_percent=False,
                item_show_func=lambda item: item)
            _ClearedLine.install(terminal)

    def go_on_from(self, nimg: int) -> None:
        """So many images were seen before this process started."""
        self.nimg = self.first_nimg = nimg
        if self.visible and self.seconds is None:
            self.bar.pos = nimg

    def advance(self, nimg: int) -> None:
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

    def show(self, collector: Any) -> None:
        """Put the collected losses beside the bar from now on."""
        names = {'Loss/G/loss': 'G', 'Loss/D/loss': 'D', 'Loss/info/inter': 'info h', 'Loss/info/intra': 'info z'}
        means = {label: collector.mean(name) for name, label in names.items() if name in collector.names()}
        self.losses = ''.join(f' {label} {mean:.2f}' for label, mean in means.items())

class _ClearedLine:
    """Wraps stdout: wipes the bar before a line of text is written where the bar stands."""
    def __init__(self, stream: Any, terminal: streams.Unbreakable) -> None:
        self.stream = stream
        self.terminal = terminal
        self.starts_line = True

    @classmethod
    def install(cls, terminal: streams.Unbreakable) -> None:
        logger: Any = sys.stdout # Upstream's Logger, which writes to its own `stdout`.
        if getattr(logger, 'stdout', None) is not None and not isinstance(logger.stdout, cls):
            logger.stdout = cls(logger.stdout, terminal)

    def write(self, text: str) -> int:
        if self.starts_line:
            self.terminal.write('\r\x1b[K')
            self.terminal.flush()
        self.starts_line = text.endswith('\n')
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

def restore_terminal() -> None:
    """Show the cursor again, which the bar has hidden, whatever ended the training."""
    terminal = streams.terminal()
    if terminal.isatty():
        terminal.write('\x1b[?25h')
        terminal.flush()

#----------------------------------------------------------------------------
