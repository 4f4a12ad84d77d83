"""Mistakes that the user can mend, and how they are told: in one sentence."""

import contextlib
import errno
import os
from collections.abc import Iterator

import click

from sarigan_plugin.support import streams

#----------------------------------------------------------------------------

class UserError(click.ClickException):
    """A mistake that the user can mend: one sentence on stderr and exit code 2, never a traceback.

    For a mistake in one option's value, click.BadParameter names the option as well.
    """
    exit_code = 2

@contextlib.contextmanager
def writing(option: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Inside the `with`, what can't be written there is a mistake in the option that named the place:
    OSError becomes UserError."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE or streams.is_lost(): # Of standard output.
            raise
        raise UserError(f'{option}: {path} cannot be written to: {error.strerror}.') from None

def first_line(error: object) -> str:
    """What an error says, fit for a sentence."""
    line = (str(error).strip().splitlines() or [''])[0]
    return ''.join(letter if letter.isprintable() else '?' for letter in line[:200]) or type(error).__name__

#----------------------------------------------------------------------------
