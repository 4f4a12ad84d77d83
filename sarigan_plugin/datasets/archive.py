"""Dataset zips as upstream's dataset_tool.py lays them out. They appear whole or not at all.

The same pictures give the same bytes.
"""

import contextlib
import errno
import fcntl
import os
import zipfile
from pathlib import Path

from sarigan_plugin.errors import UserError, writing

UNFINISHED = ('.unfinished', '.unpacked') # Endings of hidden files that are there while a zip is written.

def picture_name(index):
    """What upstream's tool calls the picture of an index."""
    return f'{index // 1000:05d}/img{index:08d}.png'

def _entry(name):
    """What a zip is to know about a file: no clock and no platform."""
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3
    info.external_attr = 0o644 << 16
    return info

def check_dest(dest, force, besides=()):
    """Whether --dest will do. Returns it as a Path. besides: endings, in place of .zip, of files that come with it."""
    dest = Path(dest)
    if dest.suffix != '.zip':
        raise UserError(f'--dest must end in .zip: {dest} does not.')
    for path in [dest, *map(dest.with_suffix, besides)]:
        if path.is_dir():
            raise UserError(f'--dest: {path} is a folder.')
        if path.exists() and not force:
            raise UserError(f'--dest: {path} exists already; --force replaces it.')
    return dest

def make_folder(dest):
    """Make the folder that --dest is in, and see whether it can be written to."""
    with writing('--dest', dest):
        dest.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(dest.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

class _Writer:
    """A zip that is written file by file."""
    def __init__(self, archive, dest):
        self.archive, self.dest = archive, dest

    def add(self, name, content):
        """content: bytes, or str to be written in UTF-8."""
        with writing('--dest', self.dest):
            self.archive.writestr(_entry(name), content)

@contextlib.contextmanager
def whole_zip(dest):
    """A zip to add() files to, uncompressed, that becomes dest at the end of the `with`.

    If anything goes wrong, dest stays as it was. What a killed run was writing is written anew, or removed. Raises
    UserError where dest can't be written to, as where another process does so.
    """
    unfinished = dest.with_name(f'.{dest.name}{UNFINISHED[0]}')
    with _locked(unfinished, dest):
        archive = zipfile.ZipFile(unfinished, 'w', zipfile.ZIP_STORED)
        try:
            yield _Writer(archive, dest)
            unpacked_path(dest).unlink(missing_ok=True)
            with writing('--dest', dest):
                archive.close()
                with open(unfinished, 'rb') as file:
                    os.fsync(file.fileno())
                os.replace(unfinished, dest)
        except BaseException: # Ctrl-C as well.
            with contextlib.suppress(OSError):
                archive.close()
            unpacked_path(dest).unlink(missing_ok=True)
            unfinished.unlink(missing_ok=True)
            raise

@contextlib.contextmanager
def _locked(path, dest):
    """Inside the `with` a file is there that no other process has. Its lock goes with the process, however it ends."""
    with writing('--dest', dest):
        lock = open(path, 'ab')
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(lock.fileno()), os.stat(path)): # It became dest just now.
                raise BlockingIOError
        except (BlockingIOError, FileNotFoundError):
            raise UserError(f'--dest: another process is writing {dest}.') from None
        yield

def unpacked_path(dest):
    """Where something may be put aside while a zip is written: beside it, where there is room. It is removed then."""
    return dest.with_name(f'.{dest.name}{UNFINISHED[1]}')

#----------------------------------------------------------------------------
