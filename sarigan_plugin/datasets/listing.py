"""The files of a data set, a folder or a zip: one listing for our checks and for upstream's ImageFolderDataset."""

import functools
import os
import zipfile

from sarigan_plugin.support import files, picture_files
from sarigan_plugin.upstream import exchanges

LABELS      = 'dataset.json'
ATTRIBUTES  = 'attributes.json'     # See attribute_table.py.
NUM_CLASSES = 1 << 16               # Labels become one-hot vectors of this length at most.
FLOAT32_MAX = 3.4028234663852886e38

def is_label_like(first):
    """A function that says whether a label, of dataset.json, can stand beside the first one: classes,
    or lists of as many numbers."""
    if isinstance(first, list):
        return lambda label: isinstance(label, list) and len(label) == len(first) > 0 and all(map(_is_number, label))
    return lambda label: type(label) is int and 0 <= label < NUM_CLASSES # type(): JSON's true is no class.

def _is_number(value):
    return type(value) in (int, float) and abs(value) <= FLOAT32_MAX # False for NaN.

def listed(names, left_out=()):
    """Of the names of all files those that are a data set: its pictures, sorted, and dataset.json where it is there.

    Junk is no part of it, nor what is left out.
    """
    found = sorted(name for name in set(names).difference(left_out) if picture_files.is_picture(name))
    return found + [LABELS] * (LABELS in names)

_left_out = dict() # {path: names}, of this process.

def left_out(path):
    """The names of images that are no part of the data set at a path in this process."""
    return tuple(_left_out.get(path, ()))

def serve_upstream(left_out_of=None):
    """Let upstream's ImageFolderDataset list what datasets/check.py looks at: linked folders, no junk,
    and none left out.

    left_out_of: {path of a data set: names of images that are no part of it}.
    """
    _left_out.clear()
    _left_out.update(left_out_of or {})
    for name, replace in [('os', _walking_as_we_do), ('zipfile', _listing_as_we_do)]:
        exchanges.exchange('training.dataset', name, replace,
            'dataset.py:165 follows no links; '
            'dataset.py:171 takes whatever PIL can write, junk and documents, for an image')

def _walking_as_we_do(os):
    def walk(path):
        yield path, [], listed(picture_files.walk(path), left_out(path))
    return exchanges.Overlay(os, walk=walk)

def _listing_as_we_do(zipfile):
    class Archive(zipfile.ZipFile):
        def namelist(self):
            return listed(super().namelist(), left_out(self.filename))
    return exchanges.Overlay(zipfile, ZipFile=Archive)

#----------------------------------------------------------------------------

class Folder:
    """A folder with all below it; links to folders are followed, see picture_files.walk()."""
    def __init__(self, path):
        self.path = path

    @functools.cached_property
    def names(self):
        """Of all files. Raises ValueError for a folder that can't be read."""
        try:
            return frozenset(picture_files.walk(self.path))
        except OSError as error:
            raise ValueError(f'{error.filename} cannot be read: {error.strerror}') from None

    def open(self, name):
        return open(os.path.join(self.path, name), 'rb')

    def close(self):
        pass

    def stamp(self):
        """What tells it from what it was before a file in it changed."""
        return files.fingerprint(self.path)

class Zip:
    """A zip file."""
    def __init__(self, path):
        self.path = path
        self.archive = zipfile.ZipFile(path)

    @functools.cached_property
    def names(self):
        return frozenset(self.archive.namelist())

    def open(self, name):
        return self.archive.open(name)

    def close(self):
        self.archive.close()

    def stamp(self):
        """As of a Folder.

        Checksums in a zip are those of what it should hold, so its own size and time count as well.
        """
        status = os.stat(self.path)
        return f'{files.fingerprint(self.path)}-{status.st_size}-{status.st_mtime_ns}'

def opened(path):
    """The Folder or Zip at a path. Raises ValueError, one sentence without a full stop, for what is neither."""
    if not os.path.exists(path):
        raise ValueError(f'{path} does not exist')
    if os.path.isdir(path):
        return Folder(path)
    if os.path.splitext(path)[1].lower() != '.zip':
        raise ValueError(f'{path} is neither a folder nor a .zip file')
    try:
        return Zip(path)
    except zipfile.BadZipFile:
        raise ValueError(f'{path} is a broken zip, or none: is its download complete?') from None
    except OSError as error:
        raise ValueError(f'{path} cannot be read: {error.strerror}') from None

#----------------------------------------------------------------------------
