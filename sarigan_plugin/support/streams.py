"""Standard output and standard error: any character can be written to them, and a training goes on without them.

A pipe may be closed at its other end, a terminal hang up, the disk of a file be full. Most commands then have nobody
to work for, and end. A training has: its log.txt has what it says.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

#----------------------------------------------------------------------------

def show_everything() -> None:
    """Write characters that an encoding lacks as \\xfc, where Python would end the program."""
    for stream in [sys.stdout, sys.stderr]:
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')

class Watched:
    """A text stream that remembers what went wrong with it. None is one whose file was closed before Python started."""
    buffer = None # click would write past us.

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        self._try(lambda stream: stream.write(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write(''.join(lines))

    def flush(self) -> None:
        self._try(lambda stream: stream.flush())

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def _try(self, action: Callable[[TextIO], object]) -> None:
        if self.error is None and self.stream is not None:
            try:
                action(self.stream)
            except OSError as error:
                self.error = error
                self._let_go(self.stream)
        if self.error is not None:
            self._lost(self.error) # Each time: click tries streams out, and hears of nothing.

    def _let_go(self, stream: TextIO) -> None:
        """Send what is still to be written to nowhere, or Python would complain of it at its end."""
        with contextlib.suppress(OSError, ValueError): # As where it is no file.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)

    def _lost(self, error: OSError) -> None:
        raise error

    def fails(self) -> bool:
        return self.error is not None

class Unbreakable(Watched):
    """One that drops what can't be written."""
    def _lost(self, error: OSError) -> None:
        pass

    def fails(self) -> bool:
        return False

@contextlib.contextmanager
def watched(kind: type[Watched]) -> Iterator[None]:
    """Inside the `with`, standard output and standard error are of this kind, and show everything."""
    show_everything()
    before = sys.stdout, sys.stderr
    streams: list[Any] = [stream if isinstance(stream, kind) else kind(stream) for stream in before]
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        for stream in [sys.stdout, sys.stderr]:
            with contextlib.suppress(OSError): # The last words of a command that has ended.
                stream.flush()
        sys.stdout, sys.stderr = before

def unbreakable() -> contextlib.AbstractContextManager[None]:
    """Inside the `with`, nothing that happens to standard output and standard error is an error."""
    return watched(Unbreakable)

def is_lost() -> bool:
    """Whether it is standard output or standard error that can't be written to."""
    return any(isinstance(stream, Watched) and stream.fails() for stream in [sys.stdout, sys.stderr])

def terminal() -> Unbreakable:
    """The real standard error, where a progress bar is drawn."""
    return Unbreakable(sys.__stderr__)

#----------------------------------------------------------------------------

