"""Images of a training set that can't be read: upstream's data sets name them, or show another one for each."""

import contextlib
import sys
import zipfile
import zlib

import numpy as np

from sarigan_plugin.upstream import exchanges

FOLDER, INPAINTING = 'training.dataset:ImageFolderDataset', 'sarigan_plugin.datasets.inpainting:InpaintingDataset'

BAD   = (OSError, ValueError, SyntaxError, AssertionError, zipfile.BadZipFile, zlib.error) # What reading one raises.
TRIES = 100 # Images drawn for one that can't be read, before all are tried in turn.

class BadImage(Exception):
    """An image of the training set can't be read. The text names it."""
    def __str__(self):
        line = super().__str__().strip().splitlines()[-1] # DataLoader's workers put their traceback before it.
        return line.removeprefix(f'{__name__}.BadImage: ')

_skips = False # Whether this process skips them, for the processes that load images.

def are_skipped():
    """Whether data sets of this process show another image for one that can't be read."""
    return _skips

def watch(skip):
    """Let upstream's data sets name an image that can't be read by a BadImage, or show another one for it."""
    global _skips # Upstream's DataLoader hands nothing through.
    _skips = skip
    named = lambda get: _named_if_bad(get, skip)
    exchanges.exchange(FOLDER, '__getitem__', named,
        'dataset.py:87 fails without a word about which image, on one that datasets/check.py did not find bad')
    exchanges.exchange(INPAINTING, 'get_label', named, 'As ImageFolderDataset.__getitem__: the label is the image')
    for name, replace in [('__init__', _knowing_its_resolution), ('_load_raw_image', _of_any_good_image)]:
        if skip:
            exchanges.exchange(FOLDER, name, replace,
                'dataset.py:176 takes the shape of all images from the first, which may be bad')
        else:
            exchanges.undo(FOLDER, name)

def _named_if_bad(get, skip):
    """A method of upstream's data set that takes an index.

    The image that stands in for a bad one is drawn at random, always the same for the same index: the next one would be
    seen as often as there are bad ones before it.
    """
    reported = set()
    def wrapper(dataset, index):
        for other in _and_stand_ins(index, len(dataset)): # Where there is no such index, it is an IndexError as ever.
            try:
                return get(dataset, other)
            except BAD as error:
                name = dataset._image_fnames[dataset._raw_idx[other]]
                problem = f'{name} cannot be read or has another size ({error or type(error).__name__})'
                if not skip:
                    raise BadImage(problem) from None
                if name not in reported:
                    reported.add(name)
                    print(f'Warning: --data: {problem}; another image is shown for it.', file=sys.stderr)
        raise BadImage('no image can be read')
    return wrapper

def _and_stand_ins(index, count):
    yield index
    yield from np.random.RandomState(index).randint(count, size=TRIES).tolist()
    yield from range(count)

def _knowing_its_resolution(init):
    """The constructor of a data set, which asks its first image for the shape of all: see _of_any_good_image()."""
    def wrapper(dataset, path, resolution=None, **kwargs):
        dataset._wanted = resolution
        init(dataset, path, resolution=resolution, **kwargs)
        del dataset._wanted
    return wrapper

def _of_any_good_image(load_raw_image):
    """Give the constructor the first image of the right size, as the very first one may have gone bad."""
    def wrapper(dataset, raw_idx):
        wanted = getattr(dataset, '_wanted', None)
        if wanted is None: # It is made already, or does not say.
            return load_raw_image(dataset, raw_idx)
        for other in range(len(dataset._image_fnames)):
            with contextlib.suppress(*BAD):
                image = load_raw_image(dataset, other)
                if image.shape[1:] == (wanted, wanted):
                    return image
        raise BadImage('no image can be read')
    return wrapper

#----------------------------------------------------------------------------
