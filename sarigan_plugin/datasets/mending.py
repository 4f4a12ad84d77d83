"""The line of `sarigan data folder` that makes a data set of what can't be trained on, ready to be pasted into a shell.

    dataset_mending.line('photos') is 'sarigan data folder photos --dest=photos-256.zip --resolution=256'
"""

import contextlib
import itertools
import os
import re
import shlex
import tarfile

import PIL.Image

from sarigan_plugin.datasets import listing
from sarigan_plugin.support import picture_files

MAX_LOOKED_AT   = 2000      # Pictures whose size is looked at: evenly spread, but the first of a tar file,
                            # which is read in turn.
SMALLEST, LARGEST = 8, 1024 # Resolutions that are proposed.
FEW             = 20        # One picture in so many may be too small for what is proposed:
                            # no thumbnail decides for all.

def spread(count, wanted):
    """`wanted` indices below `count`, or all, evenly spaced from the first to the last."""
    wanted = min(count, wanted)
    return [0] if wanted == 1 else [i * (count - 1) // (wanted - 1) for i in range(wanted)]

def is_tar(path):
    with contextlib.suppress(OSError): # It may be closed to us.
        return os.path.isfile(path) and tarfile.is_tarfile(path)
    return False

def line(path, resolution=None, colour=None, labels=None):
    """The command, or None where there are no pictures that can be read.

    resolution: None = the largest power of two that the pictures have. colour, labels: as --colour and --labels.
    """
    sides = sorted(_sides(path))
    if not sides:
        return None
    side = sides[len(sides) // FEW]
    if resolution is None:
        resolution = min(max(1 << side.bit_length() - 1, SMALLEST), LARGEST)
    options = dict(dest=_free_place(path, resolution), resolution=resolution, labels=labels, colour=colour)
    words = [f'--{name}={value}' for name, value in options.items() if value is not None]
    words += ['--enlarge'] * (side < resolution)
    return shlex.join(['sarigan', 'data', 'folder', _no_option(path), *words])

def has_folders_of_classes(path):
    """Are all its pictures in folders, two at least, that may be classes?

    Those of upstream's dataset_tool.py, 00000, are none.
    """
    with contextlib.closing(listing.opened(path)) as source:
        pictures = [name.replace('\\', '/') for name in source.names if picture_files.is_picture(name)]
    tops = {name.partition('/')[0] for name in pictures if '/' in name}
    of_upstream = all(re.fullmatch(r'\d{5}', top) for top in tops)
    return len(tops) >= 2 and all('/' in name for name in pictures) and not of_upstream

#----------------------------------------------------------------------------

def _sides(path):
    """The shorter side of each picture that is looked at, of those that can be read."""
    for file in _pictures(path):
        # Decoders raise whatever they like on bad bytes.
        with contextlib.suppress(Exception), PIL.Image.open(file) as image:
            yield min(image.size)

def _pictures(path):
    """Open files of the pictures that are looked at."""
    if is_tar(path):
        # One that is cut off has what comes before.
        with contextlib.suppress(tarfile.TarError, OSError, EOFError), tarfile.open(path) as archive:
            members = (member for member in archive if member.isfile() and picture_files.is_picture(member.name))
            for member in itertools.islice(members, MAX_LOOKED_AT):
                yield archive.extractfile(member)
        return
    with contextlib.closing(listing.opened(path)) as source:
        names = sorted(filter(picture_files.is_picture, source.names))
        for index in spread(len(names), MAX_LOOKED_AT):
            # Locked by a password, or as above.
            with contextlib.suppress(Exception), source.open(names[index]) as file:
                yield file

def _free_place(path, resolution):
    """The name of a zip that is not there yet: beside what it is made of,
    or in the current folder where it can't be."""
    path = os.path.normpath(path)
    if os.path.basename(path) in ('', os.curdir, os.pardir):
        path = os.path.abspath(path)
    folder, name = os.path.split(path)
    if os.path.isfile(path):
        name = re.sub(r'(\.tar)?\.\w+$', '', name) or name
    if not os.access(folder or os.curdir, os.W_OK):
        folder = ''
    stem = os.path.join(folder, f'{name or "data"}-{resolution}')
    places = itertools.chain([f'{stem}.zip'], (f'{stem}-{number}.zip' for number in itertools.count(2)))
    return next(place for place in places if not os.path.lexists(place))

def _no_option(path):
    return os.path.join(os.curdir, path) if path.startswith('-') else path

#----------------------------------------------------------------------------
