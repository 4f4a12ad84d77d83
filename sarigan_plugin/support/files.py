"""Files that survive what happens to long trainings: kills, full disks, a second run in the same folder."""

import builtins
import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import shutil
import socket
import tempfile
import zipfile
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any

from sarigan_plugin.support import picture_files, streams

OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#----------------------------------------------------------------------------

def printable(path: str) -> str:
    """The path as text that every encoding of Unicode has, whatever bytes it is made of."""
    return os.fsdecode(path).encode('utf-8', 'surrogateescape').decode('utf-8', 'replace')

#----------------------------------------------------------------------------

class atomic_open:
    """open() for writing bytes that never leaves half a file: what is written appears under its name when it is whole.

    A file of that name stays as it was until then, and if anything goes wrong.
    """
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self.file = tempfile.NamedTemporaryFile(dir=os.path.dirname(path) or '.', prefix='.writing-', delete=False)

    def __enter__(self) -> IO[bytes]:
        return self.file

    def __exit__(self,
        error:      type[BaseException] | None,
        value:      BaseException | None,
        traceback:  TracebackType | None,
    ) -> bool | None:
        whole = False
        try:
            if error is None:
                self.file.flush()
                os.fsync(self.file.fileno())
                whole = True
        finally:
            self._close(keep=whole)
        return None

    def _close(self, keep: bool) -> None:
        try:
            self.file.close()
            if keep:
                os.chmod(self.file.name, 0o666 & ~_umask()) # Temporary files are private; snapshots are not.
                os.replace(self.file.name, self.path)
        finally:
            if os.path.exists(self.file.name):
                os.unlink(self.file.name)

def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Make a file of it, in UTF-8, as atomic_open() does."""
    with atomic_open(path) as f:
        f.write(text.encode())

def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Make a file of it that people can read."""
    write_text(path, json.dumps(content, indent=2) + '\n')

def read_json(path: str | os.PathLike[str]) -> Any:
    """What a JSON file says that people may have written.

    Raises ValueError, with one sentence, for a file of something else.
    """
    try:
        with open(path, encoding='utf-8') as f:
            return json.load(f)
    except OSError as error:
        raise ValueError(f'it cannot be read ({error.strerror}).') from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f'it is not JSON ({error}).') from None

def remove_unfinished(folder: str | os.PathLike[str]) -> None:
    """Remove what atomic_open() or `sarigan export` was writing there when its process was killed."""
    for entry in os.scandir(folder):
        if entry.name.startswith('.writing-'):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)

#----------------------------------------------------------------------------
# Whether a file is what it was.

def fingerprint(path: str | os.PathLike[str]) -> str:
    """What tells apart what is at a path: of a zip, the checksums that are in it; of other files, size and time of the
    last change, of all in a folder; the name itself of what is no file. Junk, which systems change as they please, does
    not count."""
    path = str(path)
    if os.path.isdir(path):
        return _digest([(name, *_size_and_time(os.path.join(path, name)))
            for name in picture_files.walk(path) if not picture_files.is_junk(name)])
    if not os.path.isfile(path):
        return path
    status = os.stat(path)
    if path.lower().endswith('.zip') and zipfile.is_zipfile(path):
        return _fingerprint_at(path, status.st_size, status.st_mtime_ns)
    return _digest([os.path.realpath(path), status.st_size, status.st_mtime_ns])

@functools.lru_cache(maxsize=16) # A directory of a million images takes seconds.
def _fingerprint_at(path: str, _size: int, _changed: int) -> str:
    with zipfile.ZipFile(path) as archive:
        return fingerprint_of_zip(archive)

def fingerprint_of_zip(archive: zipfile.ZipFile) -> str:
    """Of what is in a zip, by the checksums that are in it, so that a large one need not be read."""
    return _digest([(entry.filename, entry.file_size, entry.CRC)
        for entry in archive.infolist() if not picture_files.is_junk(entry.filename)])

def _size_and_time(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError: # A link that leads nowhere.
        return 0, 0
    return status.st_size, status.st_mtime_ns

def sha256(path: str | os.PathLike[str]) -> str:
    """Of the content of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, 'rb') as f:
        while block := f.read(2 ** 20):
            digest.update(block)
    return digest.hexdigest()

def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]

#----------------------------------------------------------------------------
# A full disk.

def warn_out_of_space(path: str | os.PathLike[str], error: OSError) -> None:
    """One line on the real stderr, whose copy in log.txt would need space as well;
    training goes on without this file."""
    print(f'Warning: {os.path.basename(path)} could not be written: {error.strerror}. Training goes on; '
        'free some space.', file=streams.terminal(), flush=True)

@contextlib.contextmanager
def out_of_space_warns(path: str | os.PathLike[str]) -> Iterator[None]:
    """A full disk ends what is done inside, with a warning that the file at path could not be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in OUT_OF_SPACE:
            raise
        warn_out_of_space(path, error)

class _forgiving_atomic_open(atomic_open):
    """atomic_open() that only warns where the disk is full."""
    def __exit__(self,
        error:      type[BaseException] | None,
        value:      BaseException | None,
        traceback:  TracebackType | None,
    ) -> bool:
        with out_of_space_warns(self.path):
            super().__exit__(error, value, traceback)
            if isinstance(value, OSError):
                raise value
            return False
        return True

class _ForgivingLines:
    """A text file opened for appending whole lines; one that meets a full disk is left out, with a warning."""
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self.file = builtins.open(path, 'ab', buffering=0)

    def write(self, line: str) -> None:
        # Names of files may hold what is no text.
        end, content = self.file.tell(), line.encode(errors='backslashreplace')
        try:
            written = self.file.write(content)
            if written < len(content): # The disk took a part.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if error.errno not in OUT_OF_SPACE:
                raise
            os.truncate(self.path, end)
            self.file.seek(end)
            warn_out_of_space(self.path, error)

    def flush(self) -> None:
        pass # Nothing is buffered.

    def close(self) -> None:
        self.file.close()

def training_open(path: str | os.PathLike[str], mode: str = 'r', **kwargs: Any) -> Any:
    """open() for upstream's training loop, which writes 'wb' network pickles and 'wt' stats.jsonl.

    Pickles are written whole or not at all, lines of statistics are added to those that are there, and a full disk ends
    in a warning.
    """
    if mode == 'wb':
        return _forgiving_atomic_open(path)
    if mode == 'wt':
        return _ForgivingLines(path)
    return builtins.open(path, mode, **kwargs)

#----------------------------------------------------------------------------

class FolderLock:
    """Keeps a second training out of a run's folder, on this machine and on those that share its file system.

    Raises BlockingIOError, its text saying who holds the lock. The lock goes with the process, however it ends.
    """
    def __init__(self, folder: str | os.PathLike[str]) -> None:
        path = os.path.join(folder, '.lock')
        self.file = builtins.open(path, 'a+', encoding='utf-8')
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.file.seek(0)
            holder = self.file.read().strip() or 'another process'
            self.file.close()
            raise BlockingIOError(holder) from None
        self.file.truncate(0)
        self.file.write(f'process {os.getpid()} on {socket.gethostname()}')
        self.file.flush()

    def release(self) -> None:
        self.file.close()

#----------------------------------------------------------------------------
