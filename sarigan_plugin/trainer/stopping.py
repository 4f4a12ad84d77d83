"""Signals that ask a training to stop."""

import contextlib
import multiprocessing.resource_tracker
import signal
from collections.abc import Iterable, Iterator
from types import FrameType

class Stopped(BaseException): # As KeyboardInterrupt: no handler of errors is to take it for one.
    """The training was asked to stop and has saved its state. The text says by what and where."""

def stop_signals() -> list[signal.Signals]:
    """Those that ask a training to stop: a hangup as well, unless it is ignored, as by what `nohup` starts."""
    hangup = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
    return [signal.SIGTERM, signal.SIGINT, *hangup]

@contextlib.contextmanager
def held_back(signals: Iterable[int]) -> Iterator[None]:
    """Inside the `with`, signals wait. Those of processes that are started there wait for their StopRequest."""
    multiprocessing.resource_tracker.ensure_running() # It would let some through when it starts.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

class StopRequest:
    """Notes the first of some signals that this process gets. A second one does what it did before."""
    def __init__(self, signals: Iterable[int]) -> None:
        self.number = 0 # Of the signal; 0 = there was none.
        self.previous_handlers = {number: signal.signal(number, self._note) for number in signals}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals) # See held_back().

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.number = self.number or number
        signal.signal(number, self.previous_handlers[number])

    def forget(self) -> None:
        """Do no more than before with any signal."""
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)

def stop_if(number: float, nimg: int) -> None:
    """Raise Stopped where `number` is a signal's, after so many images."""
    if number:
        raise Stopped(f'{signal.Signals(int(number)).name} at {nimg / 1000:.1f} kimg')

#----------------------------------------------------------------------------
