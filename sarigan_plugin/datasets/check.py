"""Look at a dataset before training starts, so that a bad one gets one sentence instead of a traceback hours later.

What is looked at stays small for millions of images. The list of files and dataset.json are read whole. Images are
decoded up to PIXEL_BUDGET pixels in all: every one of 65,536 at 32x32, 64 at 1024x1024, evenly spaced over the sorted
names. Up to HEADER_BUDGET of the others, evenly spaced, have their header read: size and colours. The choice depends
on the names alone, so the same dataset gets the same answer.

Where bad images are to be left out, every image is decoded: those that can't be read, and those of another shape than
most, are no part of the data set then.

Whatever is looked at and accepted here, upstream's ImageFolderDataset reads. This is the stricter of the two: it also
refuses what would only fail in the networks.
"""

import collections
import contextlib
import functools
import io
import json
import os
import sys
from dataclasses import dataclass, field

import PIL.Image

from sarigan_plugin.datasets import listing, mending as dataset_mending
from sarigan_plugin.datasets.mending import spread as _spread
from sarigan_plugin.support import processes
from sarigan_plugin.support.bars import progressbar

PIXEL_BUDGET   = 64 << 20
HEADER_BUDGET  = 20000
MIN_RESOLUTION = 8          # D needs a block above its 4x4 epilogue
CHANNELS       = {'L': 1, 'RGB': 3} # image modes that upstream can train on as they are
MANY           = 2000       # So many images are worth a process for each core.
PORTION        = 100        # Images that such a process looks at in one go.
MAX_NAMED      = 20         # Bad images that are left out with a line for each.

@dataclass(frozen=True)
class DatasetSummary:
    path:           str
    name:           str     # Without folder and extension.
    count:          int     # Of images, without those that are left out.
    resolution:     int
    channels:       int     # 1 or 3.
    has_labels:     bool    # Can it be trained with --cond=1?
    num_classes:    int | None = field(default=None, compare=False) # One more than the largest; None without classes.
    used_classes:   int | None = field(default=None, compare=False) # Of these, those that an image has,
    missing_class:  int | None = field(default=None, compare=False) # and the first that none has.
    left_out:       tuple = field(default=(), compare=False)        # Names of bad images.
    stamp:          str | None = field(default=None, compare=False) # Of the files that left_out is about.

class _Mendable(ValueError):
    """What `sarigan data folder` mends."""

#----------------------------------------------------------------------------
# Images.

def _bits(file):
    """Bits per sample in a PNG's header, which pillow does not always tell; 8 for other formats."""
    header = file.read(25)
    file.seek(0)
    return header[24] if header[:8] == b'\x89PNG\r\n\x1a\n' and len(header) == 25 else 8

def _look(source, name, decode=None):
    """(height, width, channels) of one image, which is decoded as well if `decode`, a function of these, says so."""
    try:
        with source.open(name) as file:
            # Reading to the end lets a zip compare its checksum.
            stream = io.BytesIO(file.read()) if decode is not None else file
            bits = _bits(stream)
            image = PIL.Image.open(stream)
            shape = (image.height, image.width, CHANNELS.get(image.mode))
            if decode is not None and decode(shape):
                image.load()
    except PIL.UnidentifiedImageError:
        raise _Mendable(f'{name} is corrupt, truncated or no image: its format is unknown') from None
    except Exception as err: # decoders raise whatever they like on bad bytes
        raise _Mendable(f'{name} is corrupt, truncated or no image: {err or type(err).__name__}') from None
    if shape[2] is None:
        raise _Mendable(f'{name} has the unsupported colour mode {image.mode}: images must be 8-bit grey or RGB')
    if bits > 8:
        raise _Mendable(f'{name} has {bits} bits per sample: images must be 8-bit grey or RGB')
    return shape

def _check_shape(name, shape):
    height, width, _channels = shape
    if height != width:
        raise _Mendable(f'{name} is {width}x{height}, but images must be square')
    if not _is_square_of_two(shape):
        raise _Mendable(f'{name} is {width}x{height}, but the resolution must be a power of two, '
            f'at least {MIN_RESOLUTION}')

def _is_square_of_two(shape):
    height, width, _channels = shape
    return height == width >= MIN_RESOLUTION and not width & (width - 1)

def _check_images(source, names):
    """The common shape (height, width, channels) of the images that are looked at."""
    shape = _look(source, names[0])
    _check_shape(names[0], shape)
    decoded = set(_spread(len(names), max(PIXEL_BUDGET // shape[0] ** 2, 1)))
    for index in sorted(decoded.union(_spread(len(names), HEADER_BUDGET))):
        other = _look(source, names[index], decode=shape.__eq__ if index in decoded else None)
        if other != shape:
            raise _Mendable(f'images differ: {names[0]} is {_describe(shape)}, {names[index]} is {_describe(other)}')
    return shape

def _describe(shape):
    return f'{shape[1]}x{shape[0]} with {_plural(shape[2], "channel")}'

def _plural(count, noun):
    return f'{count} {noun}' + ('s' if count != 1 else '')

#----------------------------------------------------------------------------
# Images that are left out.

def _good_images(source, names, known):
    """(names of the images that can be trained on, their shape).

    Of those that can be read, it is the shape that most have: one thumbnail among photos does not decide,
    not even as the first.
    """
    good = sorted(set(names).difference(known['images'])) if known is not None else []
    if good:
        with contextlib.suppress(ValueError): # Bytes may have changed without the time of the file.
            return good, _check_images(source, good)
    verdicts = _verdicts(source, names)
    shapes = [shape for shape, _problem in verdicts if shape is not None]
    if not shapes:
        raise _Mendable(verdicts[0][1])
    (common, _count), = collections.Counter(shapes).most_common(1) # Of equals the first.
    problems = [problem if shape is None else f'{name} is {_describe(shape)}, but most images are {_describe(common)}'
        for name, (shape, problem) in zip(names, verdicts) if shape != common]
    for problem in problems[:MAX_NAMED]:
        print(f'Warning: --data: {problem}; it is left out.', file=sys.stderr)
    if len(problems) > MAX_NAMED:
        print(f'Warning: --data: of the kind, {_plural(len(problems) - MAX_NAMED, "more image")} left out.',
            file=sys.stderr)
    return [name for name, (shape, _problem) in zip(names, verdicts) if shape == common], common

def _verdicts(source, names):
    """For each image its shape and None, or None and a sentence that says why it can't be trained on.

    It takes a while, and has a progress bar.
    """
    portions = [names[first : first + PORTION] for first in range(0, len(names), PORTION)]
    workers = processes.available_cores() if len(names) >= MANY else 1
    look = functools.partial(_of_portion_at, source.path) if workers > 1 else functools.partial(_of_portion, source)
    found = processes.map_in_order(look, portions, workers, mend='close other programs, and start again')
    verdicts = []
    with contextlib.closing(found), \
            progressbar(length=len(names), label='Looking at all images', file=sys.stderr) as bar:
        for of_portion in found:
            verdicts += of_portion
            bar.update(len(of_portion))
    return verdicts

def _of_portion(source, names):
    return [_verdict(source, name) for name in names]

def _of_portion_at(path, names):
    return _of_portion(_opened_once(path), names)

# Each process opens it for itself: those that share an open file would share the place in it.
_opened_once = functools.lru_cache(maxsize=1)(listing.opened)

def _verdict(source, name):
    try:
        shape = _look(source, name, decode=_is_square_of_two)
        _check_shape(name, shape)
        return shape, None
    except ValueError as error:
        return None, str(error)

#----------------------------------------------------------------------------
# Labels.

class _Object(dict):
    """A JSON object that also knows what a name of it stood for before it was there again."""
    def __init__(self, pairs):
        super().__init__(pairs)
        self.pairs = pairs

def _read_labels(source, names):
    """The labels of the images in dataset.json, a list; None where it has none.

    Raises ValueError for those that upstream can't read.
    """
    if listing.LABELS not in source.names:
        return None
    try:
        with source.open(listing.LABELS) as file:
            content = json.load(file, object_pairs_hook=_Object)
    except Exception as err: # JSON, encoding, zip and file errors
        raise ValueError(f'dataset.json is not readable JSON ({err})') from None
    if not isinstance(content, dict) or 'labels' not in content:
        raise ValueError('dataset.json must be an object with a key "labels"')
    if content['labels'] is None:
        return None
    try:
        pairs = getattr(content['labels'], 'pairs', content['labels'])
        labels = dict(pairs)
    except (TypeError, ValueError):
        raise ValueError('"labels" in dataset.json must be a list of [file name, label] pairs, or null') from None
    names = [name.replace('\\', '/') for name in names]
    if len(labels) < len(pairs):
        _check_repetitions(pairs, set(names))
    _check_presence(labels, names)
    _check_label_values([(name, labels[name]) for name in names])
    return [labels[name] for name in names]

def _check_repetitions(pairs, names):
    """An image may be there more than once, but not as different things."""
    seen = dict()
    for name, label in pairs:
        if name in names and seen.setdefault(name, label) != label:
            first, other = (_shorten(json.dumps(each)) for each in [seen[name], label])
            raise ValueError(f'dataset.json has two labels for {name}, {first} and {other}')

def _check_presence(labels, names):
    missing = [name for name in names if name not in labels]
    if not missing:
        return
    first = missing[0]
    of_windows = first.replace('/', '\\')
    if of_windows in labels:
        raise _Mendable(f'dataset.json writes names with backslashes, as {of_windows}, '
            f'where images are looked up as {first}')
    others = f' and {_plural(len(missing) - 1, "more image")}' if len(missing) > 1 else ''
    raise ValueError(f'dataset.json has no label for {first}{others}')

def _check_label_values(labels):
    first_name, first = labels[0]
    if isinstance(first, list):
        kind = (f'like that of {first_name}, a list of {_plural(len(first), "number")}' if first
            else 'a list of numbers that is not empty')
    else:
        kind = f'a class, an integer from 0 to {listing.NUM_CLASSES - 1}'
    good = listing.is_label_like(first)
    for name, label in labels:
        if not good(label):
            raise ValueError(f'the label of {name} in dataset.json must be {kind}, not {_shorten(json.dumps(label))}')

def _shorten(text):
    return text if len(text) <= 40 else text[:37] + '...'

def _classes(labels):
    """The fields of a DatasetSummary about classes, of which upstream counts as many as the largest number says."""
    if labels is None or isinstance(labels[0], list):
        return dict()
    used = set(labels)
    total = max(used) + 1
    missing = next((number for number in range(total) if number not in used), None)
    return dict(num_classes=total, used_classes=len(used), missing_class=missing)

#----------------------------------------------------------------------------

def images_without(path, left_out):
    """How many images a dataset has without these. Raises ValueError as check() does."""
    with contextlib.closing(listing.opened(path)) as source:
        return len(_pictures(source, left_out))

def _pictures(source, left_out=()):
    return [name for name in listing.listed(source.names, left_out) if name != listing.LABELS]

def check(path, skip_bad_images=False, known=None):
    """Look at the dataset at `path`, a folder or a zip, and return its DatasetSummary.

    skip_bad_images: leave out what can't be trained on, of which lines on stderr tell.
    known:           what was left out the last time, dict(of=its stamp, images=names): if no file has changed since,
                     images are not all decoded again.
    Raises ValueError with one sentence, without a full stop, for what upstream can't train on. Where
    `sarigan data folder` mends it, the sentence ends with the line to type.
    """
    path = os.fspath(path)
    try:
        return _check(path, skip_bad_images, known)
    except _Mendable as error:
        raise ValueError(f'{error}{mending(path)}') from None

def mending(path, what='a data set of it', **options):
    """The end of a sentence about a dataset that can't be used: the line that mends it, or '' where there is none.

    options: see dataset_mending.line().
    """
    line = dataset_mending.line(path, **options)
    return f'; this makes {what}: {line}' if line is not None else ''

def ended(sentence):
    """With its full stop, unless it ends with a line to type."""
    return str(sentence) if '; this makes ' in str(sentence) else f'{sentence}.'

def _check(path, skip_bad_images, known):
    if os.path.splitext(path)[1].lower() != '.zip' and dataset_mending.is_tar(path):
        raise _Mendable(f'{path} is a tar file, neither a folder nor a .zip file')
    with contextlib.closing(listing.opened(path)) as source:
        listed = names = _pictures(source)
        if not names:
            raise ValueError(f'{path} has no images in it')
        if skip_bad_images:
            stamp = source.stamp() # Before it is looked at.
            names, shape = _good_images(source, names, known if known is not None and known['of'] == stamp else None)
        else:
            stamp = None
            shape = _check_images(source, names)
        labels = _read_labels(source, names)
    name = os.path.splitext(os.path.basename(os.path.normpath(path)))[0]
    return DatasetSummary(path=path, name=name, count=len(names), resolution=shape[0], channels=shape[2],
        has_labels=labels is not None, **_classes(labels),
        left_out=tuple(sorted(set(listed).difference(names))), stamp=stamp)

#----------------------------------------------------------------------------
