"""Pictures of every kind become the right pixels."""

import functools
import io
import struct
import warnings
import zlib

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
from hypothesis import given, settings, strategies as st

from icc import GREY_LINEAR, WHITE, cmyk_profile, profile, rgb_profile
from sarigan_plugin.datasets import picture_conversion
from sarigan_plugin.datasets.picture_conversion import Refused, Target

#----------------------------------------------------------------------------
# Files, and what becomes of them.

def encoded(image, kind='PNG', **kwargs):
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore') # Of modes that Pillow is going to write otherwise.
        image.save(stream, kind, **kwargs)
    return stream.getvalue()

def converted(data, resolution=8, **kwargs):
    """(pixels as int array [H, W, 3] or [H, W], notes) of a file's bytes."""
    image, notes = picture_conversion.convert(io.BytesIO(data), Target(resolution, **kwargs))
    assert image.info == {} and image.mode == ('L' if kwargs.get('grey') else 'RGB')
    return np.array(image).astype(int), notes

def pixels(data, **kwargs):
    array, notes = converted(data, **kwargs)
    assert notes == []
    return array

def only(data, **kwargs):
    """The one colour that a picture becomes."""
    array = pixels(data, **kwargs)
    assert np.all(array == array[0, 0])
    return array[0, 0].tolist()

def plain(mode, colour):
    return PIL.Image.new(mode, (8, 8), colour)

def refusal(data, **kwargs):
    with pytest.raises(Refused) as caught:
        converted(data, **kwargs)
    return str(caught.value)

def png(width, height, depth, kind, rows, *chunks):
    """A PNG by its parts, also such as Pillow doesn't write. rows: their bytes; chunks: (name, content) before them."""
    parts = [(b'IHDR', struct.pack('>IIBBBBB', width, height, depth, kind, 0, 0, 0)), *chunks,
        (b'IDAT', zlib.compress(b''.join(b'\0' + row for row in rows))), (b'IEND', b'')]
    number = lambda value: struct.pack('>I', value)
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        number(len(content)) + name + content + number(zlib.crc32(name + content)) for name, content in parts)

def png16(kind, *levels, chunks=()):
    """8x8, all of one colour with 16 bits for each level."""
    return png(8, 8, 16, kind, [struct.pack(f'>{len(levels)}H', *levels) * 8] * 8, *chunks)

NOISE = np.random.RandomState(0).randint(256, size=[8, 8, 4]).astype(np.uint8)

#----------------------------------------------------------------------------
# Formats.

LOSSLESS = ['BMP', 'DIB', 'GIF', 'ICO', 'IM', 'PCX', 'PNG', 'PPM', 'QOI', 'SGI', 'TGA', 'TIFF', 'DDS']
LOSSY = ['JPEG', 'MPO', 'JPEG2000', 'WEBP', 'AVIF']

@pytest.mark.parametrize('kind', LOSSLESS)
def test_lossless_formats_give_the_pixels_that_were_put_in(kind):
    colours = PIL.Image.fromarray(NOISE[:, :, :3])
    options = dict(sizes=[(8, 8)]) if kind == 'ICO' else {}
    assert np.array_equal(pixels(encoded(colours, kind, **options)), NOISE[:, :, :3])

@pytest.mark.parametrize('kind', LOSSY)
def test_lossy_formats_give_the_colour_that_was_put_in(kind):
    assert np.abs(pixels(encoded(plain('RGB', (200, 100, 50)), kind)) - [200, 100, 50]).max() <= 3

@pytest.mark.parametrize('kind, kwargs', [('WEBP', dict(lossless=True)), ('JPEG2000', dict(irreversible=False))])
def test_formats_that_can_be_lossless_too(kind, kwargs):
    assert np.array_equal(pixels(encoded(PIL.Image.fromarray(NOISE[:, :, :3]), kind, **kwargs)), NOISE[:, :, :3])

@pytest.mark.parametrize('kind', ['GIF', 'PNG', 'WEBP', 'TIFF', 'AVIF', 'MPO'])
def test_of_several_frames_the_first_counts(kind):
    frames = [plain('RGB', colour) for colour in [(0, 0, 255), (255, 0, 0), (0, 255, 0)]]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:],
        **(dict(lossless=True) if kind == 'WEBP' else {}))
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    assert np.abs(pixels(data) - [0, 0, 255]).max() <= (3 if kind in LOSSY[-1:] + ['MPO'] else 0)

#----------------------------------------------------------------------------
# Modes.

@pytest.mark.parametrize('image, expected', [
    (plain('1', 1), 255), (plain('1', 0), 0), (plain('L', 77), 77), (plain('LA', (77, 255)), 77),
    (plain('LA', (0, 0)), 255), (plain('LA', (51, 102)), 255 - 204 * 102 / 255),
    (plain('I;16', 77 * 257), 77), (plain('I;16', 65535), 255), (plain('I;16', 128), 0), (plain('I;16', 129), 1),
])
def test_modes_of_grey_stay_grey_or_become_three_equal_channels(image, expected):
    assert only(encoded(image), grey=True) == round(expected)
    assert only(encoded(image)) == [round(expected)] * 3

@pytest.mark.parametrize('kind, big', [('TIFF', False), ('TIFF', True), ('PNG', False)])
def test_all_16_bit_levels_are_rounded_to_the_nearest(kind, big):
    levels = np.random.RandomState(0).randint(65536, size=[8, 8])
    image = PIL.Image.frombytes('I;16B' if big else 'I;16', (8, 8), levels.astype('>u2' if big else '<u2').tobytes())
    assert np.array_equal(pixels(encoded(image, kind), grey=True), np.round(levels / 257))

def test_16_bit_pgm_counts_its_highest_level():
    levels = struct.pack('>64H', *range(0, 64 * 15, 15))
    assert np.array_equal(pixels(b'P5 8 8 1023\n' + levels, grey=True).flatten(),
        np.round(np.arange(64) * 15 * 65535 // 1023 / 257)) # Pillow brings it to 65535.

def test_of_12_bit_levels_4095_is_white():
    """Two levels in three bytes, which Pillow can't write."""
    data = struct.pack('<2sHI', b'II', 42, 8)
    tags = [(256, 8), (257, 8), (258, 12), (259, 1), (262, 1), (273, 8 + 2 + 8 * 12 + 4), (278, 8), (279, 96)]
    data += struct.pack('<H', len(tags)) + b''.join(struct.pack('<HHII', tag, 4, 1, value) for tag, value in tags)
    data += bytes(4)
    data += bytes([0xff, 0xf0, 0x10]) * 32 # 4095 and 16.
    assert pixels(data, grey=True)[0].tolist() == [255, 1] * 4

@pytest.mark.parametrize('levels, white', [
    ([0, 0.5, 1, 0.25], 1), ([0, 0, 0, 0], 1), ([0, 100, 255, 1], 255), ([0, 100, 60000.5, 1], 65535),
])
def test_numbers_with_a_point_have_the_white_that_none_exceeds(levels, white):
    image = PIL.Image.fromarray(np.resize(np.float32(levels), [8, 8]))
    assert pixels(encoded(image, 'TIFF'), grey=True)[0, :4].tolist() == [round(level * 255 / white) for level in levels]

@pytest.mark.parametrize('levels, dtype', [
    ([-1, 0, 1], np.float32), ([1000, 500000, 999000], np.float32),
    ([-32768, 0, 32767], np.int32), ([0, 70000, 140000], np.int32),
])
def test_other_levels_are_spread_and_that_is_noted(levels, dtype):
    image = PIL.Image.fromarray(np.resize(np.array(levels, dtype=dtype), [8, 8]))
    array, notes = converted(encoded(image, 'TIFF'), grey=True)
    assert np.unique(array).tolist() == [0, round(255 * (levels[1] - levels[0]) / (levels[2] - levels[0])), 255]
    assert notes == [f'its levels from {levels[0]:g} to {levels[2]:g} were spread over all shades']

def test_what_is_no_number_is_black_and_infinity_is_white():
    image = PIL.Image.fromarray(np.resize(np.float32([np.nan, np.inf, -np.inf, 0.2, 1, 0, 0, 0]), [8, 8]))
    assert pixels(encoded(image, 'TIFF'), grey=True)[0, :5].tolist() == [0, 255, 0, 51, 255]

def test_one_level_outside_of_all_ranges_is_black():
    array, _notes = converted(encoded(PIL.Image.new('F', (8, 8), 1e6), 'TIFF'), grey=True)
    assert array.max() == 0

def test_palettes():
    image = PIL.Image.fromarray(NOISE[:, :, :3]).quantize(16)
    assert np.array_equal(pixels(encoded(image)), np.array(image.convert('RGB')))
    image.putpixel((0, 0), 3)
    data = encoded(image, transparency=3)
    array = pixels(data, background=(1, 2, 3))
    assert array[0, 0].tolist() == [1, 2, 3]
    assert np.array_equal(array[np.asarray(image) != 3], np.array(image.convert('RGB'))[np.asarray(image) != 3])

def test_palettes_with_an_alpha_for_each_colour():
    image = plain('P', 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 1)
    array = pixels(encoded(image, transparency=bytes([0, 51])))
    assert array[0, 0].tolist() == [204, 204, 255] and array[7, 7].tolist() == [255, 255, 255]

def test_one_colour_may_stand_for_transparent():
    image = plain('RGB', (10, 20, 30))
    image.putpixel((1, 0), (10, 20, 31))
    array = pixels(encoded(image, transparency=(10, 20, 30)), background=(255, 0, 0))
    assert array[0, 0].tolist() == [255, 0, 0] and array[0, 1].tolist() == [10, 20, 31]
    assert only(encoded(plain('L', 9), transparency=9), grey=True, background=(200, 200, 200)) == 200
    assert only(encoded(plain('1', 1), transparency=1), grey=True, background=(200, 200, 200)) == 200

@pytest.mark.parametrize('kind, levels, expected', [
    (0, [30000], 30000 / 257), (2, [65535, 32896, 257], [255, 128, 1]), (4, [51 * 257, 65535], [51] * 3),
    (4, [51 * 257, 0], [255] * 3),
    (6, [65535, 0, 0, 102 * 257], [255, 153, 153]),
])
def test_16_bit_png(kind, levels, expected):
    assert only(png16(kind, *levels)) == ([round(expected)] * 3 if kind == 0 else expected)

def test_16_bit_png_with_a_colour_for_transparent():
    assert only(png16(0, 1000, chunks=[(b'tRNS', struct.pack('>H', 1000))])) == [255] * 3
    assert only(png16(0, 1000, chunks=[(b'tRNS', struct.pack('>H', 1001))])) == [4] * 3
    assert only(png16(2, 1000, 2000, 3000, chunks=[(b'tRNS', struct.pack('>3H', 1000, 2000, 3000))])) == [255] * 3

@pytest.mark.parametrize('kind', ['TIFF', 'JPEG'])
def test_cmyk(kind):
    for ink, expected in [((0, 0, 0, 0), [255, 255, 255]), ((255, 0, 0, 0), [0, 255, 255]),
            ((0, 0, 0, 255), [0, 0, 0]), ((0, 127, 0, 51), [204, 102, 204])]:
        data = encoded(plain('CMYK', ink), kind, **(dict(quality=100, subsampling=0) if kind == 'JPEG' else {}))
        assert np.abs(pixels(data) - expected).max() <= (3 if kind == 'JPEG' else 1)

def test_ycbcr_and_lab():
    colours = plain('RGB', (200, 100, 50))
    data = encoded(colours.convert('YCbCr'), 'TIFF', compression='tiff_lzw')
    assert np.abs(pixels(data) - [200, 100, 50]).max() <= 2
    srgb, lab = map(PIL.ImageCms.createProfile, ['sRGB', 'LAB'])
    data = encoded(PIL.ImageCms.applyTransform(colours, PIL.ImageCms.buildTransform(srgb, lab, 'RGB', 'LAB')), 'TIFF')
    assert np.abs(pixels(data) - [200, 100, 50]).max() <= 3

@pytest.mark.parametrize('mode', ['HSV', 'RGBX', 'RGBa', 'La', 'PA', 'YCbCr'])
def test_modes_that_files_seldom_have(mode):
    through = {'PA': 'P', 'RGBa': 'RGBA', 'La': 'LA'}.get(mode, 'RGB')
    colours, alpha = picture_conversion._split(plain('RGB', (255, 0, 0)).convert(through).convert(mode), '')
    assert alpha is None and colours.mode == ('L' if mode == 'La' else 'RGB')
    expected = [76] * 3 if mode == 'La' else [255, 0, 0]
    assert np.abs(np.array(colours.convert('RGB')).astype(int) - expected).max() <= 2

def test_what_counts_as_grey_is_how_it_is_stored():
    def grey(data):
        with picture_conversion.opened(io.BytesIO(data)) as image:
            return picture_conversion.is_grey(image)
    assert all(map(grey, [encoded(plain('L', 5)), encoded(plain('LA', (5, 5))), encoded(plain('1', 1)),
        encoded(plain('I;16', 5)), png16(4, 5, 5), encoded(plain('L', 5), 'JPEG'),
        encoded(plain('F', 0.5), 'TIFF'), encoded(plain('I;16', 5), 'TIFF')]))
    assert not any(map(grey, [encoded(plain('RGB', (5, 5, 5))), encoded(plain('P', 5)), encoded(plain('RGBA', 5)),
        encoded(plain('CMYK', 5), 'JPEG'), png16(2, 5, 5, 5), png16(6, 5, 5, 5, 5)]))

def test_colours_become_grey_where_grey_is_asked_for():
    assert only(encoded(plain('RGB', (255, 0, 0))), grey=True) == 76 # Rec. 601, as Pillow has it.
    assert only(encoded(plain('RGBA', (9, 9, 9, 0))), grey=True, background=(255, 0, 0)) == 76

#----------------------------------------------------------------------------
# Transparency and edges.

def test_no_colour_bleeds_in_from_transparent_pixels():
    """Red that can't be seen beside blue, made smaller: over white there is no red anywhere."""
    array = np.zeros([64, 64, 4], dtype=np.uint8)
    array[:, :, 0] = 255
    array[:, 21:43] = [0, 0, 255, 255]
    made = pixels(encoded(PIL.Image.fromarray(array)))
    assert np.all(made[:, :, 0] == made[:, :, 1]) # As white and blue have it, and their mixtures.
    assert made[0, 0].min() > 245 and made[0, 4].tolist() == [0, 0, 255] # Lanczos rings a little.

def test_an_alpha_that_is_opaque_everywhere_changes_nothing():
    big = PIL.Image.fromarray(np.random.RandomState(0).randint(256, size=[40, 30, 3]).astype(np.uint8))
    opaque = big.copy()
    opaque.putalpha(255)
    assert np.array_equal(pixels(encoded(big)), pixels(encoded(opaque)))

@pytest.mark.parametrize('background, expected', [
    ((255, 255, 255), [204] * 3), ((0, 0, 0), [0] * 3), ((10, 100, 200), [8, 80, 160]),
])
def test_backgrounds_shine_through(background, expected):
    assert only(encoded(plain('RGBA', (0, 0, 0, 51))), background=background) == expected

#----------------------------------------------------------------------------
# Shapes.

def gradient(width, height):
    planes = np.broadcast_arrays(np.arange(width) % 251, np.arange(height)[:, None] % 251, 7)
    return np.stack(planes, axis=2).astype(np.uint8)

@pytest.mark.parametrize('width, height', [(8, 8), (8, 9), (11, 8), (8, 30), (50, 8)])
def test_the_middle_is_cropped_and_nothing_resized_that_has_the_size(width, height):
    array = gradient(width, height)
    left, top = (width - 8) // 2, (height - 8) // 2
    assert np.array_equal(pixels(encoded(PIL.Image.fromarray(array))), array[top : top + 8, left : left + 8])

@pytest.mark.parametrize('width, height', [(8, 8), (8, 5), (3, 8), (8, 1)])
def test_bars_are_of_the_background_and_the_picture_in_the_middle(width, height):
    array = gradient(width, height)
    made = pixels(encoded(PIL.Image.fromarray(array)), fit='pad', background=(1, 2, 3))
    left, top = (8 - width) // 2, (8 - height) // 2
    assert np.array_equal(made[top : top + height, left : left + width], array)
    made[top : top + height, left : left + width] = [1, 2, 3]
    assert np.all(made == [1, 2, 3])

def test_pad_keeps_shapes_and_stretch_does_not():
    wide = PIL.Image.fromarray(gradient(64, 48))
    padded = pixels(encoded(wide), resolution=32, fit='pad', background=(0, 0, 0))
    resized = lambda image, width, height: np.array(image.resize((width, height), PIL.Image.Resampling.LANCZOS))
    assert np.array_equal(padded[4:28], resized(wide, 32, 24)) # 4:3, as the paper's cars.
    assert padded[:4].max() == padded[28:].max() == 0
    assert np.array_equal(pixels(encoded(wide), resolution=32, fit='stretch'), resized(wide, 32, 32))
    assert np.array_equal(pixels(encoded(wide), resolution=32), resized(wide.crop((8, 0, 56, 48)), 32, 32))

@pytest.mark.parametrize('fit, size, enough', [
    ('crop', (8, 7), False), ('crop', (100, 7), False), ('crop', (8, 8), True), ('pad', (8, 1), True),
    ('pad', (7, 7), False), ('stretch', (100, 7), False),
])
def test_enlarging_is_refused_unless_asked_for(fit, size, enough):
    data = encoded(PIL.Image.new('RGB', size))
    if not enough:
        assert refusal(data, fit=fit) == f'too small without --enlarge: {size[0]}x{size[1]}'
    assert pixels(data, fit=fit, enlarge=not enough).shape == (8, 8, 3)

def test_a_smallest_size_is_about_the_short_side():
    data = encoded(PIL.Image.new('RGB', (100, 20)))
    assert refusal(data, min_size=21, enlarge=True) == 'smaller than --min-size: 100x20'
    assert pixels(data, min_size=20).shape == (8, 8, 3)

#----------------------------------------------------------------------------
# Orientation.

TURNS = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: np.rot90(a)}

def with_orientation(orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return exif

@pytest.mark.parametrize('orientation', [*TURNS, 0, 9])
@pytest.mark.parametrize('kind, kwargs', [
    ('PNG', {}), ('TIFF', {}), ('WEBP', dict(lossless=True)), ('JPEG', dict(quality=100, subsampling=0)),
    ('AVIF', dict(quality=100, subsampling='4:4:4')),
])
def test_pictures_are_turned_as_the_camera_says(kind, kwargs, orientation):
    array = np.full([8, 12, 3], 200, dtype=np.uint8) # Red above, one corner of what will be the square blue.
    array[:4, :, 1:] = 0
    array[:3, 2:6] = [0, 0, 200]
    made = pixels(encoded(PIL.Image.fromarray(array), kind, exif=with_orientation(orientation), **kwargs))
    assert np.abs(made - TURNS.get(orientation, TURNS[1])(array[:, 2:10])).max() <= dict(JPEG=40, AVIF=40).get(kind, 0)

def test_broken_exif_is_noted_and_the_picture_used(monkeypatch):
    data = encoded(plain('RGB', 'red'), 'JPEG', exif=b'Exif\0\0MM\0*\0\0\0\x08' + b'\xff' * 40)
    array, _notes = converted(data)
    assert np.abs(array - [255, 0, 0]).max() <= 2
    def broken(*_args, **_kwargs):
        raise SyntaxError('not a TIFF file')
    monkeypatch.setattr(PIL.ImageOps, 'exif_transpose', broken)
    assert converted(data)[1] == ['its EXIF data is broken and its orientation may be wrong (not a TIFF file)']

#----------------------------------------------------------------------------
# All of it, in all combinations: nothing has to be resized, so that every pixel is known.

def over(colours, alpha, background):
    return np.round(colours * (alpha / 255) + np.array(background) * (1 - alpha / 255))

MODES = { # How 8-bit noise [H, W, 4] is stored -> (PIL image, RGB that it stands for, alpha).
    'L':    lambda n: (PIL.Image.fromarray(n[:, :, 0]), n[:, :, [0, 0, 0]], 255),
    'LA':   lambda n: (PIL.Image.merge('LA', [*map(PIL.Image.fromarray, [n[:, :, 0], n[:, :, 3]])]),
        n[:, :, [0, 0, 0]], n[:, :, 3:]),
    'RGB':  lambda n: (PIL.Image.fromarray(n[:, :, :3]), n[:, :, :3], 255),
    'RGBA': lambda n: (PIL.Image.fromarray(n), n[:, :, :3], n[:, :, 3:]),
    '1':    lambda n: (PIL.Image.fromarray(n[:, :, 0] > 127), (n[:, :, [0, 0, 0]] > 127) * 255, 255),
    'I;16': lambda n: (PIL.Image.fromarray(n[:, :, 0].astype(np.uint16) * 257), n[:, :, [0, 0, 0]], 255),
    'P':    lambda n: (image := PIL.Image.fromarray(n[:, :, :3]).quantize(7), np.array(image.convert('RGB')), 255),
}

@settings(max_examples=150, deadline=None)
@given(mode=st.sampled_from(list(MODES)), kind=st.sampled_from(['PNG', 'TIFF']),
    orientation=st.sampled_from(list(TURNS)), fit=st.sampled_from(picture_conversion.FITS),
    sides=st.tuples(st.integers(1, 20), st.integers(1, 20)), background=st.tuples(*[st.integers(0, 255)] * 3),
    seed=st.integers(0, 99))
def test_modes_orientations_sizes_and_fits_combine(mode, kind, orientation, fit, sides, background, seed):
    long = dict(crop=max, pad=min, stretch=lambda _side, eight: eight)[fit] # The side that need not be 8.
    height, width = [(8, long(sides[1], 8)), (long(sides[0], 8), 8)][seed % 2]
    array = np.random.RandomState(seed).randint(256, size=[height, width, 4]).astype(np.uint8)
    image, colours, alpha = MODES[mode](array)
    upright = TURNS[orientation](over(colours, alpha, background))
    expected = np.empty([8, 8, 3])
    expected[:] = background
    if fit == 'pad':
        top, left = (8 - upright.shape[0]) // 2, (8 - upright.shape[1]) // 2
        expected[top : top + upright.shape[0], left : left + upright.shape[1]] = upright
    else:
        top, left = (upright.shape[0] - 8) // 2, (upright.shape[1] - 8) // 2
        expected = upright[top : top + 8, left : left + 8]
    made = pixels(encoded(image, kind, exif=with_orientation(orientation)), fit=fit, background=background)
    rounding = 1 if np.any(np.array(alpha) < 255) else 0 # Of halves, either way.
    assert np.abs(made - expected).max() <= rounding

@settings(max_examples=60, deadline=None)
@given(mode=st.sampled_from(list(MODES)), size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    fit=st.sampled_from(picture_conversion.FITS), resolution=st.sampled_from([8, 16, 32]), grey=st.booleans())
def test_pictures_of_any_size_become_squares_of_the_asked_size(mode, size, fit, resolution, grey):
    """What was one colour stays so, whatever it was scaled by."""
    image, colours, _alpha = MODES[mode](np.full([*size, 4], 180, dtype=np.uint8))
    made = pixels(encoded(image), resolution=resolution, fit=fit, grey=grey, enlarge=True, background=(180, 180, 180))
    assert made.shape == (resolution, resolution, 3)[: 2 if grey else 3]
    assert set(np.unique(made)) <= {180, *np.unique(colours).tolist()}

#----------------------------------------------------------------------------
# Colour profiles.

def srgb_of_linear(light):
    return 255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055)

@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'P'])
def test_a_profile_says_which_colour_is_meant(mode):
    """Where a profile's red is sRGB's green, green is what comes out."""
    image = plain('RGB', (255, 0, 0)).convert(mode)
    assert np.abs(pixels(encoded(image, icc_profile=rgb_profile([1, 2, 0]))) - [0, 255, 0]).max() <= 2
    if mode == 'RGBA':
        image.putalpha(51)
        made = pixels(encoded(image, icc_profile=rgb_profile([1, 2, 0])), background=(0, 0, 255))
        assert np.abs(made - [0, 51, 204]).max() <= 2 # The background is in sRGB.

@pytest.mark.parametrize('level', [0, 20, 55, 128, 200, 255])
def test_profiles_of_grey_pictures(level):
    expected = srgb_of_linear(level / 255)
    for image in [plain('L', level), plain('LA', (level, 255))]:
        assert np.abs(pixels(encoded(image, icc_profile=GREY_LINEAR), grey=True) - expected).max() <= 1
    of_a_screen = encoded(plain('L', level), icc_profile=rgb_profile([0, 1, 2], gamma=1))
    assert np.abs(pixels(of_a_screen, grey=True) - expected).max() <= 1

@pytest.mark.parametrize('kind', ['TIFF', 'JPEG'])
def test_profiles_of_inks(kind):
    inks = {(0, 0, 0, 0): 100, (255, 0, 0, 0): 200 / 3, (0, 255, 255, 0): 100 / 3, (0, 0, 0, 255): 0}
    for ink, lightness in inks.items():
        light = ((lightness + 16) / 116) ** 3 if lightness > 8 else lightness / 903.3
        made = pixels(encoded(plain('CMYK', ink), kind, icc_profile=cmyk_profile()))
        assert np.abs(made - srgb_of_linear(light)).max() <= 3

def test_pictures_in_srgb_keep_every_pixel():
    for data in [PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile('sRGB')).tobytes(),
            rgb_profile([0, 1, 2], gamma=2.4, name=b'sRGB IEC61966-2.1')]:
        assert np.array_equal(pixels(encoded(PIL.Image.fromarray(NOISE[:, :, :3]), icc_profile=data)), NOISE[:, :, :3])

@pytest.mark.parametrize('bad, says', [
    (b'junk', 'its colour profile is broken and was ignored ('),
    (rgb_profile([0, 1, 2])[:200], 'its colour profile is broken and was ignored ('),
    (cmyk_profile(), 'its colour profile is for CMYK, not for RGB, and was ignored'),
    (profile(b'HSV ', WHITE), 'its colour profile is broken and was ignored (it is for HSV)'),
])
def test_a_bad_profile_is_ignored_and_noted(bad, says):
    array, notes = converted(encoded(plain('RGB', (1, 2, 3)), icc_profile=bad))
    assert array[0, 0].tolist() == [1, 2, 3] and len(notes) == 1 and notes[0].startswith(says)

#----------------------------------------------------------------------------
# What is refused.

def test_a_tiny_file_that_claims_to_be_huge_is_refused():
    for data in [png(100000, 100000, 8, 2, [b'']), b'P6 100000 100000 255\n']:
        assert refusal(data) == 'too many pixels to be safe: more than 178 million'

@pytest.mark.parametrize('data, says', [
    (b'', 'it is empty'), (b'junk' * 20, 'its format is unknown'),
    (b'version https://git-lfs.github.com/spec/v1\noid',
        'it is a Git LFS stub: fetch the file itself with `git lfs pull`'),
    (b'<!DOCTYPE html><html>', 'it is a web page'),
    (b'\0\0\0\x18ftypheic\0\0\0\0', 'it is HEIC, which Pillow does not read: convert it to JPEG'),
])
def test_what_is_no_picture_is_called_what_it_is(data, says):
    assert refusal(data) == f'broken, or no picture: {says}'

@pytest.mark.parametrize('kind', LOSSLESS + LOSSY)
def test_what_ends_too_soon_is_refused(kind):
    """Or it is complete already: some formats end with what isn't pixels."""
    data = encoded(PIL.Image.fromarray(NOISE[:, :, :3]).resize((64, 64)), kind)
    for length in [len(data) // 8, len(data) // 2]:
        assert refusal(data[:length]).startswith('broken, or no picture: ')

@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(['PNG', 'JPEG', 'TIFF', 'GIF', 'WEBP', 'BMP', 'AVIF', 'JPEG2000']),
    changes=st.lists(st.tuples(st.integers(0, 10 ** 6), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_files_are_a_picture_or_refused(kind, changes):
    data = bytearray(_valid(kind))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        assert converted(bytes(data), enlarge=True)[0].shape == (8, 8, 3)
    except Refused as refused:
        assert len(str(refused)) > 10 and '\n' not in str(refused)

@functools.cache
def _valid(kind):
    return encoded(PIL.Image.fromarray(NOISE[:, :, :3]).resize((20, 20)), kind, exif=with_orientation(6),
        icc_profile=rgb_profile([1, 2, 0]))

#----------------------------------------------------------------------------
