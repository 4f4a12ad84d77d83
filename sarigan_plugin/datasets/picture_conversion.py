"""One picture of any kind -> a square of 8-bit RGB or grey, for `sarigan data folder`.

In this order:
1. The first frame is decoded, and turned as its EXIF data says. JPEG files are decoded at full size: the decoder could
   make them smaller itself, faster, but other pixels. Of 16-bit colours Pillow keeps the upper 8 bits.
2. Levels of 16 bits, and numbers with a point, become 8 bits.
3. Where something is transparent, colours become sRGB by the embedded ICC profile, and are laid over the background.
   That is done at full size, so that no colour from under transparent pixels bleeds in.
4. The picture is cropped and resized.
5. Colours of opaque pictures become sRGB only now: at full size a photo would take a hundred times as long.

This file imports neither torch nor numpy, unless a picture needs it: processes that convert start in a moment.
"""

import contextlib
import functools
import hashlib
import io
import warnings
from dataclasses import dataclass

import PIL.Image
import PIL.ImageCms
import PIL.ImageOps

from sarigan_plugin.errors import first_line

FITS       = ('crop', 'pad', 'stretch')
GREY_MODES = frozenset(['1', 'L', 'LA', 'La', 'I', 'F'])

# What files begin with that Pillow can't read, and what to do about them.
STRANGERS = [
    (0, b'version https://git-lfs', 'a Git LFS stub: fetch the file itself with `git lfs pull`'),
    (0, b'<!DOCTYPE', 'a web page'), (0, b'<!doctype', 'a web page'), (0, b'<html', 'a web page'),
    *((4, b'ftyp' + brand, 'HEIC, which Pillow does not read: convert it to JPEG')
        for brand in (b'heic', b'heix', b'hevc', b'mif1', b'msf1')),
]

class Refused(Exception):
    """Why a picture is left out. kind: in words that many pictures share; detail: what is so about this one."""
    def __init__(self, kind, detail=''):
        super().__init__(kind, detail) # Both, so that it can be sent to another process.
        self.kind = kind

    def __str__(self):
        kind, detail = self.args
        return f'{kind}: {detail}' if detail else kind

UNREADABLE   = 'broken, or no picture'
TOO_LARGE    = 'too many pixels to be safe'
TOO_SMALL    = 'too small without --enlarge'
BELOW_MINIMUM = 'smaller than --min-size'

@dataclass(frozen=True)
class Target:
    """What pictures are to become."""
    resolution: int
    fit:        str     = 'crop'            # One of FITS.
    grey:       bool    = False             # One channel, else three.
    background: tuple   = (255, 255, 255)   # RGB, under what is transparent and in the bars of fit='pad'.
    enlarge:    bool    = False             # Else pictures that are too small are refused.
    min_size:   int     = 1                 # Refuse pictures whose short side has fewer pixels.

#----------------------------------------------------------------------------
# Heads of files.

@contextlib.contextmanager
def opened(stream):
    """The PIL image in a binary stream, of which the head alone has been read.

    What goes wrong inside the `with` becomes Refused.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore') # Large is fine, huge is an error; and files may be odd and readable.
            with PIL.Image.open(stream) as image:
                if min(image.size) < 1:
                    raise Refused(UNREADABLE, 'it has no pixels')
                yield image
    except Refused:
        raise
    except PIL.Image.DecompressionBombError:
        raise Refused(TOO_LARGE, f'more than {2 * PIL.Image.MAX_IMAGE_PIXELS // 10 ** 6} million') from None
    except PIL.UnidentifiedImageError:
        raise Refused(UNREADABLE, _stranger(stream)) from None
    except Exception as error: # Decoders raise whatever they like on bad bytes.
        raise Refused(UNREADABLE, first_line(error)) from None

def _stranger(stream):
    """What a file is that Pillow can't read."""
    stream.seek(0)
    head = stream.read(64)
    if not head:
        return 'it is empty'
    known = (f'it is {what}' for start, begin, what in STRANGERS if head[start:].startswith(begin))
    return next(known, 'its format is unknown')

def _raw_mode(image):
    """How Pillow is going to unpack the file's samples, as 'RGB;16B'. Known until the image is loaded."""
    arguments = image.tile[0][3] if image.tile else None
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ''

def is_grey(image):
    """Is it stored as shades of grey? An image of colours that all happen to be grey is not."""
    return image.mode in GREY_MODES or image.mode.startswith('I;16') or _raw_mode(image).startswith('LA')

def check_size(size, target):
    """Raise Refused for a picture that is too small."""
    shown = 'x'.join(map(str, size))
    if min(size) < target.min_size:
        raise Refused(BELOW_MINIMUM, shown)
    if (max if target.fit == 'pad' else min)(size) < target.resolution and not target.enlarge:
        raise Refused(TOO_SMALL, shown)

#----------------------------------------------------------------------------
# Pixels.

def convert(stream, target):
    """(PIL image of mode L or RGB with nothing but pixels, list of what was odd) of a picture in a binary stream.

    Raises Refused.
    """
    notes = []
    with opened(stream) as image:
        check_size(image.size, target)
        raw_mode = _raw_mode(image)
        image.load()
        _turn(image, notes)
        return squared(image, target, notes, raw_mode), notes

def squared(image, target, notes, raw_mode=''):
    """What an upright PIL image, which has been loaded, becomes; see convert(). notes: a list, for what is odd."""
    profile = None if image.mode == 'LAB' else image.info.get('icc_profile') # L*a*b* needs none to be a colour.
    colours, alpha = _split(_eight_bits(image, raw_mode, notes), raw_mode)
    if alpha is not None:
        colours = _over(_to_srgb(colours, profile, notes), alpha, target.background)
    square = _resize(colours, target)
    if alpha is None:
        square = _to_srgb(square, profile, notes)
    square = _pad(_in_mode(square, 'L' if target.grey else 'RGB'), target)
    square.info = {} # Pillow would write some of it into PNG files.
    return square

def _turn(image, notes):
    """Turn and mirror it as its EXIF data says."""
    try:
        PIL.ImageOps.exif_transpose(image, in_place=True)
    except Exception as error: # Cameras and programs write what they like.
        notes.append(f'its EXIF data is broken and its orientation may be wrong ({first_line(error)})')

def _eight_bits(image, raw_mode, notes):
    """16-bit and 32-bit levels -> mode L, or LA where one of them stands for transparent; other modes as they are.

    Integers go by 65535, those of 12-bit files by 4095. Numbers with a point go by the first of 1, 255 and 65535 that
    none exceeds. What fits into no such range is spread over its own, from lowest to highest.
    """
    if image.mode not in ('I', 'F') and not image.mode.startswith('I;16'):
        return image
    import numpy as np
    levels = np.asarray(image)
    finite = levels[np.isfinite(levels)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0, 0)
    whites = [4095] if raw_mode == 'I;12' else [1, 255, 65535] if image.mode == 'F' else [65535]
    black, white = next(((0, white) for white in whites if low >= 0 and high <= white), (low, high))
    if black != 0 or white not in whites:
        notes.append(f'its levels from {low:g} to {high:g} were spread over all shades')
    levels_64 = np.nan_to_num(levels.astype(np.float64), nan=black, posinf=white, neginf=black)
    scaled = (levels_64 - black) * (255 / max(white - black, 1e-300))
    grey = PIL.Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8))
    grey.info = dict(image.info)
    if (key := grey.info.pop('transparency', None)) is not None:
        grey.putalpha(PIL.Image.fromarray(np.where(levels == key, 0, 255).astype(np.uint8)))
    return grey

def _split(image, raw_mode):
    """(colours of mode L, RGB or CMYK, alpha of mode L or None where all is opaque)."""
    if image.mode == 'La':
        image = image.convert('LA')
    grey = image.mode in GREY_MODES
    if not image.has_transparency_data:
        return _in_mode(image, 'L' if grey else 'CMYK' if image.mode == 'CMYK' else 'RGB'), None
    if image.mode == 'RGB' and ';16' in raw_mode: # The one colour that stands for transparent has 16 bits still.
        image.info['transparency'] = tuple(level >> 8 for level in image.info['transparency'])
    image = image.convert('LA' if grey else 'RGBA')
    alpha = image.getchannel('A')
    return image.convert('L' if grey else 'RGB'), None if alpha.getextrema() == (255, 255) else alpha

def _in_mode(image, mode):
    """image.convert(), which would copy an image that has the mode: that takes a fifth of the time of decoding it."""
    return image if image.mode == mode else image.convert(mode)

def _over(colours, alpha, background):
    """Colours laid over a background; grey ones stay grey over a grey one."""
    grey = colours.mode == 'L' and len(set(background)) == 1
    colours = colours if grey else _in_mode(colours, 'RGB')
    below = PIL.Image.new(colours.mode, colours.size, background[0] if grey else background)
    return PIL.Image.composite(colours, below, alpha)

def _resize(image, target):
    """It in the size that it will have in the square, which with fit='pad' it does not fill."""
    width, height = image.size
    size = (target.resolution, target.resolution)
    if target.fit == 'crop': # To the pixel as upstream's center-crop.
        side = min(width, height)
        image = image.crop(((width - side) // 2, (height - side) // 2, (width + side) // 2, (height + side) // 2))
    elif target.fit == 'pad':
        size = tuple(max(round(side * target.resolution / max(width, height)), 1) for side in (width, height))
    return image if image.size == size else image.resize(size, PIL.Image.Resampling.LANCZOS)

def _pad(image, target):
    """It in the middle of a square of the background."""
    side = target.resolution
    if image.size == (side, side):
        return image
    background = PIL.Image.new('RGB', (1, 1), target.background).convert(image.mode).getpixel((0, 0))
    square = PIL.Image.new(image.mode, (side, side), background)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square

#----------------------------------------------------------------------------
# Colour profiles.

PROFILE_MODES = {'RGB ': 'RGB', 'GRAY': 'L', 'CMYK': 'CMYK'}

def _to_srgb(colours, profile, notes):
    """Colours (L, RGB or CMYK) in sRGB, of mode L or RGB.

    profile: the bytes of their ICC profile, or None. A bad one is ignored, with a note.
    """
    plain = colours.convert('RGB') if colours.mode == 'CMYK' else colours
    if not profile:
        return plain
    try:
        mode, transform = _transform(bytes(profile))
    except Exception as error: # LittleCMS and Pillow raise various.
        notes.append(f'its colour profile is broken and was ignored ({first_line(error)})')
        return plain
    if transform is None:
        return plain
    if colours.mode != mode and (colours.mode, mode) != ('L', 'RGB'): # Many grey files carry the profile of a screen.
        notes.append(f'its colour profile is for {mode}, not for {colours.mode}, and was ignored')
        return plain
    return PIL.ImageCms.applyTransform(_in_mode(colours, mode), transform)

@functools.lru_cache(maxsize=16) # Those of a camera or a screen are the same in thousands of files.
def _transform(profile):
    """(mode that the profile is for, transform to sRGB or None where it is sRGB)."""
    opened_profile = PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile))
    mode = PROFILE_MODES.get(opened_profile.profile.xcolor_space, opened_profile.profile.xcolor_space.strip())
    if mode not in PROFILE_MODES.values():
        raise ValueError(f'it is for {mode}')
    if PIL.ImageCms.getProfileDescription(opened_profile).startswith('sRGB'):
        return mode, None
    return mode, PIL.ImageCms.buildTransform(opened_profile, _srgb(), mode, 'RGB')

@functools.cache
def _srgb():
    return PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile('sRGB'))

#----------------------------------------------------------------------------
# Many pictures, as a process gets them: a list of what opens each, see picture_sources.py.

@dataclass(frozen=True, slots=True)
class Look:
    """What the head of a file says."""
    format: str     # As Pillow calls it.
    mode:   str
    size:   tuple   # Width, height; of those that lie on their side it may be the other way round.
    grey:   bool

@dataclass(frozen=True, slots=True)
class Converted:
    png:    bytes   # Of the bytes that upstream's dataset_tool.py writes for these pixels.
    digest: bytes   # Of the pixels.
    notes:  list

def look_at(pictures):
    """A Look, or Refused, for each."""
    return [_unless_refused(_look, picture) for picture in pictures]

def convert_all(pictures, target):
    """A Converted, or Refused, for each."""
    return [_unless_refused(_convert, picture, target) for picture in pictures]

def _unless_refused(function, *args):
    try:
        return function(*args)
    except Refused as refused:
        return refused

def _look(picture):
    with picture.open() as stream, opened(stream) as image:
        return Look(image.format, image.mode, image.size, is_grey(image))

def _convert(picture, target):
    with picture.load() as stream:
        image, notes = convert(stream, target)
    png = io.BytesIO()
    image.save(png, format='png', compress_level=0, optimize=False)
    return Converted(png.getvalue(), hashlib.blake2b(image.tobytes(), digest_size=16).digest(), notes)

#----------------------------------------------------------------------------
