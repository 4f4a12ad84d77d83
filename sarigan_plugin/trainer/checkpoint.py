"""Saves a training while it runs, and lets it go on as if it had never stopped.

patches/training.patch hands the local variables of upstream's loop to `keeper`, once before the first iteration, after
each iteration and each tick.
"""

import datetime
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from sarigan_plugin.evaluation import snapshot_metrics
from sarigan_plugin.support import files
from sarigan_plugin.trainer import attribute_groups, loop_state, state_files
from sarigan_plugin.trainer.agreement import Agreement
from sarigan_plugin.trainer.effect_groups import EffectGroups
from sarigan_plugin.trainer.loop_state import POSITION
from sarigan_plugin.trainer.stopping import StopRequest, stop_if
from sarigan_plugin.trainer.updates import Average, shorten

#----------------------------------------------------------------------------

class Over(Exception):
    """The training that goes on had seen all its images, and all that was left to do is done."""

class Checkpointer:
    """Saves and restores the state of the training that this process runs; idle until begin()."""
    def __init__(self) -> None:
        self.run_dir: Any = None # A string from begin() to end().
        self.average = Average() # Also where the loop was started by somebody else.

    def begin(self, run_dir: str, rank: int, num_gpus: int, keep: int = 2, minutes: float | None = None,
            state: str | None = None, seed: int | None = None, metrics: Sequence[str] = (),
            strict_metrics: bool = False, signals: Iterable[int] = (),
            timeout: datetime.timedelta | None = None, attributes: Sequence[str] = ()) -> None:
        """The training loop that starts next in this process is to be saved.

        run_dir:  folder of the run; rank, num_gpus: this process and the number of all.
        keep:     how many states stay there.
        minutes:  save so often, beside what each network snapshot brings with it; None = not more often.
        state:    a state's path to go on from, None = from the start.
        seed:     draw other random numbers than the state has, None = the same.
        metrics:  names of those to evaluate at each network snapshot; upstream's loop is to get none.
        strict_metrics: see snapshot_metrics.evaluate().
        signals:  ask it to stop, see stopping.stop_signals().
        timeout:  see Agreement.
        attributes: names of the groups, where they have those of attributes.
        """
        self.run_dir = run_dir
        self.rank = rank
        self.keep = keep
        self.seconds = minutes * 60 if minutes is not None else float('inf')
        self.state = state_files.read_state(state) if state is not None else None
        self.seed = seed
        self.metrics = metrics
        self.strict_metrics = strict_metrics
        self.attributes = attributes
        self.saved_time = time.monotonic()
        self.agreement = Agreement(num_gpus, timeout)
        self.effect_groups = EffectGroups(self.agreement, rank)
        self.stop = StopRequest(signals)

    def end(self) -> None:
        """The loop is left, in whatever way."""
        self.stop.forget()
        self.run_dir = None
        self.average = Average() # Memory.

    # What patches/training.patch calls with the local variables of upstream's training_loop(), beside `average`.

    def attach(self, loop: dict[str, Any]) -> tuple[Any, ...]:
        """Put the state into the loop. Returns its (cur_nimg, cur_tick, tick_start_nimg, batch_idx, start_time).

        Metrics that were still to be evaluated then are evaluated first. Raises Over where that was all.
        """
        if self.run_dir is not None:
            loop['loss'].set_average(loop['G_ema'])
            shorten(loop['phases'], loop['loss'].gradients_are_finite)
        if self.run_dir is None or self.state is None:
            return *(loop[name] for name in POSITION), loop['start_time']
        loop_state.put_back(self.state, loop, self.rank, self.seed)
        shared = self.state['shared']
        self.state = None # Memory.
        position = shared['position']
        start_time = time.time() - position['seconds']
        go_on_with_tensorboard(loop['stats_tfevents'], position['cur_nimg'])
        self._finish_snapshot({**loop, **position, 'start_time': start_time}, shared.get('metrics', []))
        return *(position[name] for name in POSITION), start_time

    def iteration_done(self, loop: dict[str, Any]) -> None:
        """Group by effects if it is time, and save if it is, or if the training is to stop, which raises Stopped.

        Raises soundness.Diverged.

        The end of a tick waits for tick_done().
        """
        if self.run_dir is None:
            return
        loop['loss'].iteration_done()
        self.effect_groups.iteration_done(loop)
        nimg, total = loop['cur_nimg'], loop['total_kimg'] * 1000
        if nimg >= total or loop['cur_tick'] == 0 or nimg >= loop['tick_start_nimg'] + loop['kimg_per_tick'] * 1000:
            return
        self._save_if(False, loop)

    def tick_done(self, loop: dict[str, Any]) -> None:
        """As iteration_done(), and beside a network snapshot always, before its metrics are evaluated."""
        if self.run_dir is not None:
            has_snapshot = loop['snapshot_pkl'] is not None
            if has_snapshot and self.attributes and self.rank == 0:
                attribute_groups.write_names(self.run_dir, loop['cur_nimg'], loop['G_ema'], self.attributes)
            self._save_if(has_snapshot, loop, self.metrics if has_snapshot else [])
            if has_snapshot:
                self._evaluate(self.metrics, loop)

    # States.

    def _save_if(self, due: bool, loop: dict[str, Any], metrics: Sequence[str] = ()) -> None:
        stop, late = self.agreement.largest(self.stop.number, time.monotonic() - self.saved_time >= self.seconds)
        if stop or late or due:
            self._save(loop, metrics)
        stop_if(stop, loop['cur_nimg'])

    def _save(self, loop: dict[str, Any], metrics: Sequence[str]) -> None:
        """metrics: names of those that are still to be evaluated, of the snapshot beside the state."""
        self.saved_time = time.monotonic()
        if not loop['loss'].is_sound():
            print('Warning: no training state is saved, since not all numbers are finite; the last one stays.',
                file=sys.stderr)
            return
        processes = self.agreement.values_for_first(loop_state.of_this_process(loop), self.rank)
        if self.rank != 0:
            return
        sys.stdout.flush()
        sizes = {os.path.basename(path): os.path.getsize(path) for path in state_files.log_paths(self.run_dir)}
        shared = dict(loop_state.shared_by_all(loop), metrics=list(metrics), log_sizes=sizes)
        path = state_files.state_path(self.run_dir, loop['cur_nimg'])
        with files.out_of_space_warns(path):
            state_files.write_state(path, dict(shared=shared, processes=processes))
            for old in state_files.state_paths(self.run_dir)[self.keep:]:
                os.unlink(old)

    # Metrics of snapshots.

    def _finish_snapshot(self, loop: dict[str, Any], metrics: Sequence[str]) -> None:
        """Evaluate those of the metrics that are still asked for and of which nothing is known."""
        wanted = []
        if self.rank == 0: # Other machines need not see the run's folder.
            names = [name for name in metrics if name in self.metrics]
            wanted = snapshot_metrics.missing(self.run_dir, snapshot_metrics.name_of(loop['cur_nimg']), names)
        wanted = self.agreement.values_of_all(wanted)[0]
        self._evaluate(wanted, loop)
        if wanted and loop['cur_nimg'] >= loop['total_kimg'] * 1000:
            raise Over()

    def _evaluate(self, metrics: Sequence[str], loop: dict[str, Any]) -> None:
        nimg = loop['cur_nimg']
        peers = _Evaluators(self.agreement, self.stop, nimg)
        snapshot_metrics.evaluate(metrics, snapshot_metrics.name_of(nimg), loop, peers=peers,
            strict=self.strict_metrics)

class _Evaluators:
    """The processes that evaluate the metrics of one snapshot together, see snapshot_metrics.evaluate()."""
    def __init__(self, agreement: Agreement, stop: StopRequest, nimg: int) -> None:
        self.agreement = agreement
        self.stop = stop
        self.nimg = nimg

    def values_of_all(self, value: Any) -> list[Any]:
        """See Agreement."""
        return self.agreement.values_of_all(value)

    def failed_anywhere(self, failed: float = False) -> bool:
        """Whether a metric has failed in any process.

        Raises Stopped where one was asked to stop: the state is saved.
        """
        failed, stop = self.agreement.largest(failed, self.stop.number)
        stop_if(stop, self.nimg)
        return bool(failed)

    def stop_if_alone(self) -> None:
        """Raise Stopped if this process was asked to stop and need not ask others."""
        if self.agreement.group is None:
            stop_if(self.stop.number, self.nimg)

keeper = Checkpointer() # Of this process; upstream's loop asks for it by this name.

#----------------------------------------------------------------------------
# Before the loop.

def go_on_with_tensorboard(writer: Any, nimg: int) -> None:
    """TensorBoard forgets what earlier processes of this run logged after so many images: it will be logged again.

    writer: upstream's SummaryWriter, new; None = it has none.
    """
    if writer is not None:
        # Where there is a writer, there is TensorBoard.
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        step = nimg // 1000 + 1 # Upstream's steps are kimg.
        writer.file_writer.add_event(Event(step=step, session_log=SessionLog(status=SessionLog.START)))

#----------------------------------------------------------------------------
