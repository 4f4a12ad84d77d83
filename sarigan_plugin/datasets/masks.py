"""Masks of holes for inpainting: drawn at random, or read from files.

    >>> import numpy as np
    >>> from sarigan_plugin.datasets import masks
    >>> hole = masks.draw('free-form', 256, np.random.RandomState(0), area=(0.1, 0.3))
    >>> hole.shape, hole.dtype                              # True where pixels are missing.
    ((256, 256), dtype('bool'))
    >>> of_image = masks.of_index('mixed', 256, index=7)    # The same one every time.
"""

import functools

import numpy as np

from sarigan_plugin.support import pictures

KINDS       = ('centre', 'rectangle', 'free-form', 'mixed')
AREA        = (0.1, 0.5)    # Share of the pixels that is missing, lowest and highest.
TOLERANCE   = 0.1           # A mask is done when so little of the area it aims at is missing:
                            # no crumbs to make it exact.
BRUSH       = (0.03, 0.15)  # Width of free-form strokes, in sides of the image.
STROKE      = (0.15, 0.45)   # Length of each straight part of them, in sides of the image.
VERTICES    = 8             # Straight parts of a stroke, at most.
TURN        = 1.2           # Most that a stroke turns from one part to the next beside going back, radians.

#----------------------------------------------------------------------------
# At random.

def draw(kind, resolution, random, area=AREA):
    """A mask of one of the KINDS.

    centre:     a square of half the side in the middle, always a quarter of the area.
    rectangle:  a few rectangles.
    free-form:  strokes of a brush that goes to and fro, as in gated convolution (Yu et al., ICCV 2019).
    mixed:      one of these each time; centre where `area` has room for a quarter.

    resolution: side of the mask, pixels. random: numpy RandomState. area: lowest and highest share of the pixels that
    is missing, inclusive. Returns bool [resolution, resolution], True = hole, never empty and never everything. Raises
    ValueError for a kind that is not there and an area that no mask of the resolution has.
    """
    low, high = _pixel_counts(resolution, area)
    if kind == 'mixed':
        kind = random.choice(['rectangle', 'free-form'] + ['centre'] * (low <= resolution ** 2 // 4 <= high))
    if kind == 'centre':
        side = resolution // 2
        return np.pad(np.ones([side, side], dtype=bool), ((resolution - side) // 2, (resolution - side + 1) // 2))
    if kind not in PIECES:
        raise ValueError(f'{kind!r} is not a kind of mask; they are {", ".join(KINDS)}.')

    aim = random.randint(low, high + 1)
    mask = np.zeros([resolution, resolution], dtype=bool)
    count = 0
    while count < max(low, (1 - TOLERANCE) * aim):
        grown = mask | PIECES[kind](resolution, random, most=aim - count)
        if grown.sum() <= high: # The pixels of a stroke are a few more or less than its area.
            mask, count = grown, grown.sum()
    return mask

def of_index(kind, resolution, index, seed=0, area=AREA):
    """As draw(), but always the same mask for the same index of an image and the same seed."""
    return draw(kind, resolution, np.random.RandomState([seed, index]), area)

def _pixel_counts(resolution, area):
    """The fewest and the most pixels that may be missing."""
    low, high = area
    if not 0 <= low <= high <= 1:
        raise ValueError(f'{area!r} is not a range of areas from 0 to 1.')
    fewest, most = max(int(np.ceil(low * resolution ** 2)), 1), min(int(high * resolution ** 2), resolution ** 2 - 1)
    if fewest > most:
        raise ValueError(f'no mask of {resolution}x{resolution} pixels has an area from {low:g} to {high:g}.')
    return fewest, most

def _rectangle(resolution, random, most):
    """A rectangle of `most` pixels at most and about half of them at least,
    whose sides are in a ratio of two at most."""
    count = max(int(most * random.uniform(0.5, 1)), 1)
    height = int(np.clip(np.sqrt(count * 2 ** random.uniform(-1, 1)), 1, min(count, resolution)))
    width = min(count // height, resolution)
    y, x = random.randint(resolution - height + 1), random.randint(resolution - width + 1)
    mask = np.zeros([resolution, resolution], dtype=bool)
    mask[y : y + height, x : x + width] = True
    return mask

def _stroke(resolution, random, most):
    """A stroke of about `most` pixels at most: straight parts with round ends,
    each of which turns back from the last."""
    mask = np.zeros([resolution, resolution], dtype=bool)
    radius = min(max(random.uniform(*BRUSH) * resolution, 1), np.sqrt(most)) / 2 # Thinner ones would have gaps.
    left = most - np.pi * radius ** 2 # Area of what is to come, after the round ends.
    here, angle = random.randint(resolution, size=2).astype(float), random.uniform(0, 2 * np.pi)
    for _part in range(random.randint(1, VERTICES + 1)):
        length = min(random.uniform(*STROKE) * resolution, max(left, 0) / (2 * radius))
        there = np.clip(here + length * np.array([np.sin(angle), np.cos(angle)]), 0, resolution - 1)
        paint(mask, here, there, radius)
        left -= 2 * radius * length
        here, angle = there, angle + np.pi + random.uniform(-TURN, TURN)
    return mask

def paint(mask, start, end, radius):
    """Set the pixels whose centres are no further than `radius` from a line between two points, (y, x) each,
    in pixels from the first one's centre."""
    first = np.floor(np.minimum(start, end) - radius).astype(int).clip(min=0)
    last = np.ceil(np.maximum(start, end) + radius).astype(int)
    window = mask[first[0] : last[0] + 1, first[1] : last[1] + 1]
    (dy, dx), (top, left) = np.float32(end - start), np.float32(first - start)
    y = top + np.arange(window.shape[0], dtype=np.float32)[:, None]
    x = left + np.arange(window.shape[1], dtype=np.float32)
    # Of the nearest point of the line, 0 = start, 1 = end.
    place = ((y * dy + x * dx) / max(dy * dy + dx * dx, 1e-12)).clip(0, 1)
    window |= (y - place * dy) ** 2 + (x - place * dx) ** 2 <= np.float32(radius ** 2)

PIECES = {'rectangle': _rectangle, 'free-form': _stroke} # Of which masks are put together.

#----------------------------------------------------------------------------
# From files.

def read(path, **limits):
    """The mask in an image file, bool [H, W]: white is the hole, black is known, and greys are the nearer of the two.

    limits: see pictures.read(). Raises ValueError with one sentence,
    also for a mask without a hole and for one that is nothing else.
    """
    return check(np.asarray(pictures.eight_bits(pictures.read(path, **limits), path).convert('L')) >= 128, repr(path))

@functools.lru_cache(maxsize=4) # Data set and loss have the same ones.
def _read_folder(path, resolution):
    """The masks in a folder, in the order of their names, eight pixels to a byte: there may be thousands."""
    return [np.packbits(check(resized(read(file), resolution, resolution), f'{file!r} at {resolution}x{resolution}'))
        for file in pictures.files_in(path)]

def check(mask, name):
    """Returns the mask. Raises ValueError where it has no hole, or nothing else."""
    if not mask.any():
        raise ValueError(f'{name} has no hole.')
    if mask.all():
        raise ValueError(f'{name} is all hole.')
    return mask

def resized(mask, height, width):
    """A mask of another size: each pixel is a hole that has the least part in one,
    so that nothing of a hole is taken as known."""
    for size in [height, width]:
        edges = np.arange(size + 1) * len(mask)
        first, last = edges[:-1] // size, -(-edges[1:] // size) # Of the rows that a row of the new one touches.
        mask = np.stack([mask[a:b].any(axis=0) for a, b in zip(first, last)], axis=1)
    return mask

#----------------------------------------------------------------------------
# Either.

class Source:
    """Masks for images of one resolution, bool [R, R] each, which are drawn or in a folder."""

    def __init__(self, source, resolution):
        """source: one of the KINDS, or a folder.

        Raises ValueError with one sentence, for a file in it that is no mask as well.
        """
        self.kind = source
        self.resolution = resolution
        self.packed = None if source in KINDS else _read_folder(source, resolution)

    def draw(self, random):
        """One of them at random. random: numpy RandomState."""
        if self.packed is None:
            return draw(self.kind, self.resolution, random)
        return self._unpacked(random.randint(len(self.packed)))

    def of_index(self, index):
        """The one of an image in a data set, always the same: those in a folder in turn."""
        if self.packed is None:
            return of_index(self.kind, self.resolution, index)
        return self._unpacked(index % len(self.packed))

    def _unpacked(self, number):
        bits = np.unpackbits(self.packed[number], count=self.resolution ** 2)
        return bits.astype(bool).reshape(self.resolution, self.resolution)

#----------------------------------------------------------------------------
