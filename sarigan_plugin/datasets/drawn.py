"""Pictures of our own, drawn from independent factors, and how to read the factors back.

A picture is a head with eyes, a mouth, a hat and a tie in front of a plain background. Each factor is drawn by itself,
all its values equally likely, so that any number of pictures can be had. A picture that a generator made can be read:
each part is compared with all that it could be.

    >>> from sarigan_plugin.datasets import drawn
    >>> factors = drawn.sample(8, seed=0)                   # int64 [8, F], a column for each of FACTORS
    >>> images = drawn.draw(factors, 32)                    # uint8 [8, 32, 32, 3]
    >>> bool((drawn.read(images) == drawn.visible(factors)).all())
    True

Only sums, products, quotients and square roots make a picture, which every CPU rounds alike.

Index letters: N pictures, F factors, K choices of a part, P pixels.
"""

import functools

import numpy as np

from sarigan_plugin.datasets import archive, packaged

FACTORS = { # Name -> what it can be.
    'background':   ('sky', 'mint', 'sand', 'lilac', 'slate', 'cream'),
    'head':         ('round', 'square', 'tall', 'wide'),
    'skin':         ('red', 'orange', 'yellow', 'green', 'blue', 'violet'),
    'place':        ('left', 'middle', 'right'),
    'eyes':         ('dots', 'big', 'sleepy', 'one'),
    'mouth':        ('none', 'smile', 'open', 'flat'),
    'hat':          ('none', 'cap', 'cone', 'crown'),
    'hat colour':   ('black', 'white', 'red', 'blue'),
    'tie':          ('none', 'bow', 'necktie'),
    'tie colour':   ('black', 'white', 'green', 'pink'),
}
NAMES       = list(FACTORS)
LABEL       = 'head'        # The factor that is the class label.
NOTHING     = -1            # A factor that can't be seen, or is none of what it can be.
RESOLUTIONS = (16, 32, 64)
MAX_NUM     = 1_000_000     # Pictures of a data set; a million of 64x64 are 2 GB.

LICENSES = """\
Images: drawn by sarigan, see sarigan_plugin/datasets/drawn.py, and under its licence, the MIT License.
"""

_COLOURS = {
    'background':   [(143, 196, 232), (160, 222, 190), (228, 202, 150), (200, 176, 226), (96, 110, 128),
                     (250, 240, 214)],
    'skin':         [(214, 70, 60), (240, 146, 52), (246, 214, 70), (86, 170, 82), (62, 108, 206), (132, 74, 178)],
    'hat colour':   [(34, 32, 40), (248, 248, 250), (170, 24, 48), (26, 62, 150)],
    'tie colour':   [(34, 32, 40), (248, 248, 250), (24, 118, 74), (236, 120, 172)],
}
_WHITE, _INK = (252, 252, 252), (28, 24, 30)
_PLACES = (-0.22, 0, 0.22)

#----------------------------------------------------------------------------
# Shapes: signed distances, negative inside, of points (x, y) in [-1, 1], y downwards.

def _length(x, y):
    return np.sqrt(x * x + y * y)

def _ellipse(x, y, across, down, left=0.0, top=0.0):
    return (_length((x - left) / across, (y - top) / down) - 1) * min(across, down)

def _box(x, y, across, down, left=0.0, top=0.0, rounded=0.0):
    a, b = np.abs(x - left) - across + rounded, np.abs(y - top) - down + rounded
    return _length(a.clip(0), b.clip(0)) + np.maximum(a, b).clip(None, 0) - rounded

def _slope(x, y, steepness):
    return (x - steepness * y) / _length(1.0, steepness)

def _triangle(x, y, across, top, bottom):
    """Its tip in the middle, at the top."""
    return np.maximum(_slope(np.abs(x), y - top, across / (bottom - top)), y - bottom)

def _nothing(x, _y):
    return np.full_like(x, np.inf)

def _pair(shape, x, y, apart):
    return np.minimum(shape(x - apart, y), shape(x + apart, y))

def _smile(x, y):
    return np.maximum(np.abs(_ellipse(x, y, 0.22, 0.22, top=0.14)) - 0.05, 0.17 - y)

def _crown(x, y):
    tooth = lambda x, y: _triangle(x, y, 0.16, -0.92, -0.55)
    return np.minimum(np.minimum(_pair(tooth, x, y, 0.26), tooth(x, y)), _box(x, y, 0.42, 0.09, top=-0.5))

def _cap(x, y):
    dome = np.maximum(_ellipse(x, y, 0.4, 0.42, top=-0.42), y + 0.42)
    return np.minimum(dome, _box(x, y, 0.3, 0.06, left=0.24, top=-0.44))

def _bow(x, y):
    wings = _triangle(y - 0.78, np.abs(x), 0.2, 0, 0.36)
    return np.minimum(wings, _ellipse(x, y, 0.11, 0.11, top=0.78))

def _necktie(x, y):
    blade = np.maximum(_slope(np.abs(x) - 0.07, y - 0.62, 0.3), np.maximum(0.56 - y, np.abs(x) + y - 1.06))
    return np.minimum(blade, _box(x, y, 0.13, 0.07, top=0.62, rounded=0.03))

_LAYERS = [ # From the back to the front: the factor of the shape, the colour or its factor, a shape for each value.
    ('tie', 'tie colour', [_nothing, _bow, _necktie]),
    ('head', 'skin', [
        lambda x, y: _ellipse(x, y, 0.5, 0.5, top=0.06),
        lambda x, y: _box(x, y, 0.47, 0.47, top=0.06, rounded=0.1),
        lambda x, y: _ellipse(x, y, 0.36, 0.54, top=0.06),
        lambda x, y: _ellipse(x, y, 0.64, 0.48, top=0.06)]),
    ('eyes', _WHITE, [
        _nothing,
        lambda x, y: _pair(lambda x, y: _ellipse(x, y, 0.15, 0.17, top=-0.1), x, y, 0.17),
        _nothing,
        lambda x, y: _ellipse(x, y, 0.22, 0.2, top=-0.1)]),
    ('eyes', _INK, [
        lambda x, y: _pair(lambda x, y: _ellipse(x, y, 0.08, 0.09, top=-0.1), x, y, 0.17),
        lambda x, y: _pair(lambda x, y: _ellipse(x, y, 0.07, 0.08, top=-0.06), x, y, 0.15),
        lambda x, y: _pair(lambda x, y: _box(x, y, 0.11, 0.035, top=-0.08), x, y, 0.18),
        lambda x, y: _ellipse(x, y, 0.1, 0.1, top=-0.1)]),
    ('mouth', _INK, [
        _nothing,
        _smile,
        lambda x, y: _ellipse(x, y, 0.12, 0.12, top=0.32),
        lambda x, y: _box(x, y, 0.2, 0.04, top=0.3)]),
    ('hat', 'hat colour', [_nothing, _cap, lambda x, y: _triangle(x, y, 0.36, -1.0, -0.36), _crown]),
]

@functools.cache
def _coverage(resolution):
    """For each layer float32 [places, shapes, P]: how much of each pixel a shape covers, from 0 to 1."""
    steps = (np.arange(resolution) + 0.5) / resolution * 2 - 1
    y, x = (grid.ravel() for grid in np.meshgrid(steps, steps, indexing='ij'))
    cover = lambda shape, place: np.clip(0.5 - shape(x - place, y) * resolution / 2, 0, 1)
    return [np.stack([[cover(shape, place) for shape in shapes] for place in _PLACES]).astype(np.float32)
        for _factor, _colour, shapes in _LAYERS]

#----------------------------------------------------------------------------
# Drawing.

def column(factors, name):
    """[N, F] -> [N], of one factor."""
    return factors[:, NAMES.index(name)]

def sample(num, seed=0):
    """int64 [num, F]: for each picture and factor the index of its value, all independent and equally likely."""
    highs = [len(values) for values in FACTORS.values()]
    return np.random.RandomState(seed).randint(highs, size=[num, len(FACTORS)], dtype=np.int64)

def _colour_of(factors, name):
    """float32 [N, 1, 3]."""
    return np.float32(_COLOURS[name])[column(factors, name)][:, None]

def _paint(factors, coverage):
    """float32 [N, P, 3] in [0, 255]. coverage: as of _coverage(), of all pixels or some."""
    image = _colour_of(factors, 'background')
    place = column(factors, 'place')
    for (shape, colour, _shapes), cover in zip(_LAYERS, coverage):
        paint = _colour_of(factors, colour) if isinstance(colour, str) else np.float32(colour)
        image = image + cover[place, column(factors, shape)][..., None] * (paint - image)
    return image

def draw(factors, resolution):
    """uint8 [N, resolution, resolution, 3] of factors [N, F]."""
    _check_resolution(resolution)
    return np.round(_paint(factors, _coverage(resolution))).astype(np.uint8).reshape(-1, resolution, resolution, 3)

def visible(factors):
    """The same factors, with NOTHING for the colours of what isn't there."""
    factors = factors.copy()
    for part in ['hat', 'tie']:
        column(factors, f'{part} colour')[column(factors, part) == 0] = NOTHING
    return factors

def changed(before, after):
    """bool [N, F]: which factors differ between what was read in pictures, [N, F] each. A colour changes only where
    both pictures show what has it."""
    differs = before != after
    for part in ['hat', 'tie']:
        column(differs, f'{part} colour')[:] &= (column(before, part) > 0) & (column(after, part) > 0)
    return differs

def _check_resolution(resolution):
    if resolution not in RESOLUTIONS:
        sides = ', '.join(f'{side}x{side}' for side in RESOLUTIONS)
        raise ValueError(f'drawn pictures have {sides} pixels, not {resolution}x{resolution}.')

#----------------------------------------------------------------------------
# Reading.

_PARTS  = [ # Factors that are read together, and those of what shows around them.
    (('background',),               ()),
    (('head', 'skin', 'place'),     ('background',)),
    (('eyes',),                     ('background', 'head', 'skin', 'place')),
    (('mouth',),                    ('background', 'head', 'skin', 'place')),
    (('hat', 'hat colour'),         ('background', 'head', 'skin', 'place')),
    (('tie', 'tie colour'),         ('background', 'head', 'skin', 'place')),
]
MARGIN      = 0.35  # How much nearer a picture is to what it is taken for than to anything else:
                    # 1 = right there, 0 = half-way.
FARTHEST    = 40    # Root mean square distance of a part to what it is taken for, of 255.
ROUNDS      = 4     # Of reading parts as a whole.
AT_ONCE     = 512   # Pictures.

def read(images):
    """int64 [N, F] of images uint8 [N, H, W, 3] of one of RESOLUTIONS, drawn or generated; NOTHING for what can't be
    told. Raises ValueError for other sizes.

    One part after the other is compared with all that it can be, where it alone can show. In 16x16 pixels that is too
    little for some: there each is compared wherever it shows, among what the others were taken for, until nothing
    changes. All that is drawn is read without error, see visible(). Where no head is sure, nothing is
    but the background.
    """
    _check_resolution(images.shape[1])
    pixels = images.reshape(len(images), images.shape[1] ** 2, 3)
    parts = [_read_some(pixels[start : start + AT_ONCE], images.shape[1]) for start in range(0, len(images), AT_ONCE)]
    return np.concatenate(parts) if parts else np.zeros([0, len(NAMES)], np.int64)

def _read_some(pixels, resolution):
    """pixels: uint8 [N, P, 3]. Returns int64 [N, F]."""
    pixels = pixels.astype(np.float32)
    found = np.zeros([len(pixels), len(NAMES)], np.int64)
    sure = np.ones_like(found, dtype=bool)
    for part in range(len(_PARTS)):
        _read_alone(pixels, resolution, part, found, sure)
    if resolution == min(RESOLUTIONS):
        _read_whole(pixels, resolution, found, sure)
    is_head = column(sure, 'head') & column(sure, 'place') & (column(found, 'head') >= 0)
    sure[:, 1:] &= is_head[:, None] # All but the background are of it.
    return np.where(sure, visible(found), NOTHING)

def _read_alone(pixels, resolution, part, found, sure):
    """Read a part where no other one can be. Changes found and sure, [N, F]."""
    names, around = _PARTS[part]
    contexts, context_of = np.unique(np.where(np.isin(NAMES, around), found, 0), axis=0, return_inverse=True)
    for index, context in enumerate(contexts):
        members = np.flatnonzero(context_of.ravel() == index)
        region, choices, looks, apart = _templates(resolution, part, tuple(context.tolist()))
        shown = pixels[members][:, region].reshape(len(members), -1)
        distance = np.square(shown).sum(axis=1)[:, None] + np.square(looks).sum(axis=1) - 2 * shown @ looks.T
        found[members[:, None], _columns(names)], sure[members[:, None], _columns(names)] = _decide(
            distance, np.broadcast_to(apart, [len(members), *apart.shape]), choices, shown.shape[1])

def _read_whole(pixels, resolution, found, sure):
    """Read all parts wherever they show, among the others as they were found. Changes found and sure, [N, F]."""
    wrong = np.square(pixels - _paint(found, _coverage(resolution))).mean(axis=(1, 2)) > 1
    left = np.flatnonzero(wrong | ~sure.all(axis=1)) # What was drawn and is read already need not be read again.
    for _round in range(ROUNDS):
        before = found[left]
        for part, (names, _around) in enumerate(_PARTS):
            for place in range(len(_PLACES)):
                members = left[column(found[left], 'place') == place]
                if len(members):
                    found[members[:, None], _columns(names)], sure[members[:, None], _columns(names)] = _compare_whole(
                        pixels[members], resolution, part, place, found[members])
        left = left[(found[left] != before).any(axis=1)]

def _compare_whole(pixels, resolution, part, place, found):
    """The factors of one part, and whether they are sure, [N, names] each."""
    names, _around = _PARTS[part]
    choices = _choices(names)
    candidates = found.repeat(len(choices), axis=0)
    candidates[:, _columns(names)] = np.tile(choices, [len(found), 1])
    region = _regions(resolution)[1][part][place if part > 1 else 0]
    looks = _paint(candidates, _coverage_in(resolution, part, True, place)).reshape(len(found), len(choices), -1)
    shown = pixels[:, region].reshape(len(found), 1, -1)
    products = looks @ looks.swapaxes(1, 2) # [NKK]
    squares = np.einsum('nkk->nk', products)
    distance = np.square(looks - shown).sum(axis=2)
    return _decide(distance, squares[:, :, None] + squares[:, None] - 2 * products, choices, shown.shape[2])

def _decide(distance, apart, choices, num_values):
    """Which choice of a part is nearest, and whether it is that one rather than any other.

    distance: [N, K], squared. apart: [N, K, K], squared distances of the choices. choices: [K, names]. num_values: that
    distances are sums of. Returns values int64 and bool, [N, names] each.
    """
    every = np.arange(len(distance))
    best = distance.argmin(axis=1)
    nearest = distance[every, best][:, None]
    margin = (distance - nearest) / np.maximum(apart[every, best], 1) # Choices of one look are no nearer.
    differs = choices != choices[best][:, None] # [N, K, names]
    sure = np.where(differs, margin[:, :, None], 1).min(axis=1) >= MARGIN
    return choices[best], sure & (nearest <= FARTHEST ** 2 * num_values)

def _columns(names):
    return [NAMES.index(name) for name in names]

@functools.cache
def _choices(names):
    """[K, names]: all that a part can be. What isn't there has one colour."""
    every = np.meshgrid(*[np.arange(len(FACTORS[name])) for name in names], indexing='ij')
    choices = np.stack(every, axis=-1).reshape(-1, len(names))
    return choices[(choices[:, 0] > 0) | (choices[:, 1] == 0)] if len(names) == 2 else choices

@functools.cache
def _regions(resolution):
    """Two lists of bool [places, P], for each of _PARTS: pixels that show it alone, and all that it may cover."""
    parts = ['eyes', 'mouth', 'hat', 'tie']
    covered = {name: np.zeros([len(_PLACES), resolution ** 2], bool) for name in ['head', *parts]}
    for (name, _colour, _shapes), cover in zip(_LAYERS, _coverage(resolution)):
        covered[name] |= (cover > 0).any(axis=1)
    others = {name: np.any([covered[other] for other in covered if other not in (name, 'head')], axis=0)
        for name in covered}
    everywhere = np.ones_like(covered['head'])
    free = everywhere & ~others['head'].any(axis=0) # Wherever the head is.
    background = free & ~covered['head'].any(axis=0)
    return ([background, free, *[covered[name] & ~others[name] for name in parts]],
        [background, everywhere, *[covered[name] for name in parts]])

@functools.cache
def _coverage_in(resolution, part, whole, place):
    """As _coverage(), of the pixels of a part's region alone."""
    region = _regions(resolution)[int(whole)][part][place if part > 1 else 0]
    return [cover[:, :, region] for cover in _coverage(resolution)]

@functools.lru_cache(maxsize=2048) # All contexts of one resolution.
def _templates(resolution, part, context):
    """All that a part can be among other factors `context` [F]: where, bool [P], the choices [K, names], what each
    looks like there [K, P], and squared distances [K, K]. A head may be none: plain background."""
    names, _around = _PARTS[part]
    choices = _choices(names)
    candidates = np.repeat(np.array([context]), len(choices), axis=0)
    candidates[:, _columns(names)] = choices
    place = context[NAMES.index('place')]
    looks = _paint(candidates, _coverage_in(resolution, part, False, place)).reshape(len(choices), -1)
    if 'head' in names:
        bare = np.tile(_colour_of(candidates[:1], 'background').ravel(), looks.shape[1] // 3)
        choices, looks = np.append(choices, [[NOTHING] * len(names)], axis=0), np.append(looks, bare[None], axis=0)
    apart = np.square(looks).sum(axis=1)
    return (_regions(resolution)[0][part][place if part > 1 else 0], choices, looks,
        apart[:, None] + apart - 2 * looks @ looks.T)

#----------------------------------------------------------------------------
# Data sets.

def make_drawn(dest, resolution=32, num=20000, seed=0, force=False):
    """Make a dataset zip of drawn heads. Nothing is downloaded.

    dest, resolution (one of RESOLUTIONS), force: as in packaged.make_punks(). The class label is the factor LABEL; all
    factors are in attributes.json, in words. Returns the number of pictures. Raises UserError.
    """
    dest = packaged.check_request(dest, resolution, RESOLUTIONS, force)
    archive.make_folder(dest)
    factors = sample(num, seed)
    batches = (draw(factors[start : start + AT_ONCE], resolution) for start in range(0, num, AT_ONCE))
    packaged.write_dataset(dest, (image for batch in batches for image in batch), column(factors, LABEL).tolist(),
        list(FACTORS[LABEL]), NAMES, in_words(factors), LICENSES)
    return num

def tell_plan(dest, resolution=32, num=20000, seed=0, force=False):
    """Print what make_drawn() would do, and write nothing. Raises the same UserError."""
    dest = packaged.check_request(dest, resolution, RESOLUTIONS, force)
    print(f'{dest} would get {num} pictures of {resolution}x{resolution} pixels, drawn from {len(FACTORS)} factors '
        f'with the seed {seed}. Nothing was written.')

def in_words(factors):
    """[N, F] -> for each picture a list of the names of its values."""
    return [[values[index] for values, index in zip(FACTORS.values(), row)] for row in factors.tolist()]

def of_words(names, rows):
    """The factors int64 [N, F] that a table of attributes holds, or None where it is of something else.

    names: of its columns. rows: as of in_words().
    """
    if list(names) != NAMES:
        return None
    indices = [{value: index for index, value in enumerate(values)} for values in FACTORS.values()]
    try:
        return np.array([[known[value] for known, value in zip(indices, row)] for row in rows], dtype=np.int64)
    except (KeyError, TypeError):
        return None

#----------------------------------------------------------------------------
