"""Look at a dataset before training starts, so that a bad one gets one sentence instead of a traceback hours later.

What is looked at stays small for millions of images. The list of files and dataset.json are read whole. Images are
decoded up to PIXEL_BUDGET pixels in all: every one of 65,536 at 32x32, 64 at 1024x1024, evenly spaced over the sorted
names. Up to HEADER_BUDGET of the others, evenly spaced, have their header read: size and colours. The choice depends
on the names alone, so the same dataset gets the same answer.

Whatever is looked at and accepted here, upstream's ImageFolderDataset reads. This is the stricter of the two: it also
refuses what would only fail in the networks.
"""

import io
import json
import os
import sys
import zipfile
from dataclasses import dataclass

import numpy as np
import PIL.Image

PIXEL_BUDGET   = 64 << 20
HEADER_BUDGET  = 20000
MIN_RESOLUTION = 8          # D needs a block above its 4x4 epilogue
NUM_CLASSES    = 1 << 16    # labels become one-hot vectors of this length at most
FLOAT32_MAX    = float(np.finfo(np.float32).max)
CHANNELS       = {'L': 1, 'RGB': 3} # image modes that upstream can train on as they are

@dataclass(frozen=True)
class DatasetSummary:
    path:       str
    name:       str     # Without folder and extension.
    count:      int
    resolution: int
    channels:   int     # 1 or 3.
    has_labels: bool    # Can it be trained with --cond=1?

#----------------------------------------------------------------------------
# Files, in a folder or in a zip.

class _Folder:
    def __init__(self, path):
        self.path = path
        self.names = {os.path.relpath(os.path.join(root, name), start=path) for root, _folders, names in os.walk(path) for name in names}

    def open(self, name):
        return open(os.path.join(self.path, name), 'rb')

    def close(self):
        pass

class _Zip:
    def __init__(self, path):
        self.archive = zipfile.ZipFile(path)
        self.names = set(self.archive.namelist())

    def open(self, name):
        return self.archive.open(name)

    def close(self):
        self.archive.close()

def _open_source(path):
    if not os.path.exists(path):
        raise ValueError(f'{path} does not exist')
    if os.path.isdir(path):
        return _Folder(path)
    if os.path.splitext(path)[1].lower() != '.zip':
        raise ValueError(f'{path} is neither a folder nor a .zip file')
    try:
        return _Zip(path)
    except zipfile.BadZipFile:
        raise ValueError(f'{path} is a broken zip, or none: is its download complete?') from None
    except OSError as err:
        raise ValueError(f'{path} cannot be read: {err.strerror}') from None

#----------------------------------------------------------------------------
# Images.

_CONVERT = "convert the images to 8-bit grey or RGB, or make a dataset of them with upstream's dataset_tool.py"

def _bits(file):
    """Bits per sample in a PNG's header, which pillow does not always tell; 8 for other formats."""
    header = file.read(25)
    file.seek(0)
    return header[24] if header[:8] == b'\x89PNG\r\n\x1a\n' and len(header) == 25 else 8

def _look(source, name, decode_as=None):
    """(height, width, channels) of one image, which is decoded as well if that is decode_as."""
    try:
        with source.open(name) as file:
            # Reading to the end lets a zip compare its checksum.
            stream = io.BytesIO(file.read()) if decode_as else file
            bits = _bits(stream)
            image = PIL.Image.open(stream)
            shape = (image.height, image.width, CHANNELS.get(image.mode))
            if shape == decode_as:
                image.load()
    except PIL.UnidentifiedImageError:
        raise ValueError(f'{name} is corrupt, truncated or no image: its format is unknown') from None
    except Exception as err: # decoders raise whatever they like on bad bytes
        raise ValueError(f'{name} is corrupt, truncated or no image: {err or type(err).__name__}') from None
    if shape[2] is None:
        raise ValueError(f'{name} has the unsupported colour mode {image.mode}: {_CONVERT}')
    if bits > 8:
        raise ValueError(f'{name} has {bits} bits per sample: {_CONVERT}')
    return shape

def _check_shape(name, shape):
    height, width, _channels = shape
    if height != width:
        raise ValueError(f'{name} is {width}x{height}, but images must be square: crop them with upstream\'s dataset_tool.py')
    if width & (width - 1) or width < MIN_RESOLUTION:
        raise ValueError(f'{name} is {width}x{height}, but the resolution must be a power of two, at least {MIN_RESOLUTION}: resize with upstream\'s dataset_tool.py')

def _spread(count, wanted):
    """`wanted` indices below `count`, or all, evenly spaced from the first to the last."""
    wanted = min(count, wanted)
    return [0] if wanted == 1 else [i * (count - 1) // (wanted - 1) for i in range(wanted)]

def _check_images(source, names, skip_bad_images):
    """The common shape (height, width, channels) of the images that are looked at; of those that are good, if bad ones are skipped."""
    shape = _look(source, names[0])
    _check_shape(names[0], shape)
    decoded = set(_spread(len(names), max(PIXEL_BUDGET // shape[0] ** 2, 1)))
    for index in sorted(decoded.union(_spread(len(names), HEADER_BUDGET))):
        try:
            other = _look(source, names[index], decode_as=shape if index in decoded else None)
            if other != shape:
                raise ValueError(f'images differ: {names[0]} is {_describe(shape)}, {names[index]} is {_describe(other)}')
        except ValueError as error:
            if not skip_bad_images:
                raise
            print(f'Warning: --data: {error}; it is skipped.', file=sys.stderr)
    return shape

def _describe(shape):
    return f'{shape[1]}x{shape[0]} with {_plural(shape[2], "channel")}'

def _plural(count, noun):
    return f'{count} {noun}' + ('s' if count != 1 else '')

#----------------------------------------------------------------------------
# Labels.

def _is_number(value):
    return type(value) in (int, float) and abs(value) <= FLOAT32_MAX # False for NaN

def _check_labels(source, names):
    """True if dataset.json has labels for the images. Raises ValueError if it has labels that upstream can't read."""
    if 'dataset.json' not in source.names:
        return False
    try:
        with source.open('dataset.json') as file:
            content = json.load(file)
    except Exception as err: # JSON, encoding, zip and file errors
        raise ValueError(f'dataset.json is not readable JSON ({err})') from None
    if not isinstance(content, dict) or 'labels' not in content:
        raise ValueError('dataset.json must be an object with a key "labels"')
    if content['labels'] is None:
        return False
    try:
        labels = dict(content['labels'])
    except (TypeError, ValueError):
        raise ValueError('"labels" in dataset.json must be a list of [file name, label] pairs, or null') from None
    names = [name.replace('\\', '/') for name in names]
    missing = [name for name in names if name not in labels]
    if missing:
        raise ValueError(f'dataset.json has no label for {missing[0]}' + (f' and {_plural(len(missing) - 1, "more image")}' if len(missing) > 1 else ''))
    _check_label_values([(name, labels[name]) for name in names])
    return True

def _check_label_values(labels):
    first_name, first = labels[0]
    if isinstance(first, list):
        good = lambda label: isinstance(label, list) and len(label) == len(first) > 0 and all(map(_is_number, label))
        kind = f'like that of {first_name}, a list of {_plural(len(first), "number")}' if first else 'a list of numbers that is not empty'
    else:
        good = lambda label: type(label) is int and 0 <= label < NUM_CLASSES # type(): JSON's true is no class
        kind = f'a class, an integer from 0 to {NUM_CLASSES - 1}'
    for name, label in labels:
        if not good(label):
            raise ValueError(f'the label of {name} in dataset.json must be {kind}, not {_shorten(json.dumps(label))}')

def _shorten(text):
    return text if len(text) <= 40 else text[:37] + '...'

#----------------------------------------------------------------------------

def check(path, skip_bad_images=False):
    """Look at the dataset at `path`, a folder or a zip, and return its DatasetSummary.

    Raises ValueError with one sentence, without a full stop, for what upstream can't train on. With skip_bad_images all
    images but the first may be bad; a line on stderr names each.
    """
    path = os.fspath(path)
    source = _open_source(path)
    try:
        PIL.Image.init()
        names = sorted(name for name in source.names if os.path.splitext(name)[1].lower() in PIL.Image.EXTENSION)
        if not names:
            raise ValueError(f'{path} has no images in it')
        height, _width, channels = _check_images(source, names, skip_bad_images)
        has_labels = _check_labels(source, names)
    finally:
        source.close()
    name = os.path.splitext(os.path.basename(os.path.normpath(path)))[0]
    return DatasetSummary(path=path, name=name, count=len(names), resolution=height, channels=channels, has_labels=has_labels)

#----------------------------------------------------------------------------
