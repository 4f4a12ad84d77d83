"""Masks of holes: their shape and area, that the same one comes again, and those of files."""

import hypothesis
import numpy as np
import PIL.Image
import pytest
from hypothesis import strategies

from sarigan_plugin.datasets import masks

SHARES = strategies.floats(0, 1)

@hypothesis.settings(max_examples=200, deadline=None, derandomize=True)
@hypothesis.given(kind=strategies.sampled_from(masks.KINDS), resolution=strategies.integers(2, 64),
    shares=strategies.tuples(SHARES, SHARES), seed=strategies.integers(0, 2**32 - 1))
def test_a_mask_has_its_shape_and_an_area_in_the_range(kind, resolution, shares, seed):
    low, high = min(shares), max(shares)
    counts = [count for count in range(1, resolution ** 2) if low <= count / resolution ** 2 <= high]
    if not counts:
        with pytest.raises(ValueError, match='has an area from'):
            masks.draw(kind, resolution, np.random.RandomState(seed), (low, high))
        return
    mask = masks.draw(kind, resolution, np.random.RandomState(seed), (low, high))
    assert mask.shape == (resolution, resolution) and mask.dtype == bool
    if kind == 'centre':
        assert mask.sum() == (resolution // 2) ** 2
    else:
        assert counts[0] <= mask.sum() <= counts[-1]

def test_strokes_do_not_go_beyond_a_narrow_range():
    counts = [masks.of_index('free-form', 64, index, area=(0.1, 0.101)).sum() for index in range(100)]
    assert min(counts) >= 0.1 * 64 ** 2 and max(counts) <= 0.101 * 64 ** 2

def test_the_centre_is_a_square_of_half_the_side():
    mask = masks.draw('centre', 8, np.random.RandomState(0))
    expected = np.zeros([8, 8], dtype=bool)
    expected[2:6, 2:6] = True
    assert np.array_equal(mask, expected)

@pytest.mark.parametrize('kind', ['rectangle', 'free-form'])
def test_areas_spread_over_their_whole_range_and_holes_over_the_whole_image(kind):
    drawn = np.stack([masks.of_index(kind, 32, index, area=(0.1, 0.5)) for index in range(200)])
    areas = drawn.mean(axis=(1, 2))
    assert areas.min() < 0.13 and areas.max() > 0.45
    often = drawn.mean(axis=0)
    assert often.max(axis=0).min() > 0.05 and often.max(axis=1).min() > 0.05 # Up to the edges.

def test_mixed_masks_are_all_the_other_kinds_and_centres_only_where_a_quarter_is_in_range():
    centre = masks.draw('centre', 32, np.random.RandomState(0))
    def share(area):
        return np.mean([np.array_equal(masks.of_index('mixed', 32, index, area=area), centre) for index in range(90)])
    assert 0.2 < share((0.1, 0.5)) < 0.5 # A third.
    assert share((0.3, 0.5)) == 0

@pytest.mark.parametrize('kind', masks.KINDS)
def test_an_index_always_has_the_same_mask_whatever_was_drawn_before(kind):
    mask = masks.of_index(kind, 64, 5, seed=3)
    np.random.seed(99)
    masks.of_index(kind, 64, 4)
    assert np.array_equal(masks.of_index(kind, 64, 5, seed=3), mask)
    if kind != 'centre':
        assert not np.array_equal(masks.of_index(kind, 64, 6, seed=3), mask) and not np.array_equal(masks.of_index(kind,
            64, 5, seed=4), mask)

@pytest.mark.parametrize('arguments, sentence', [
    (dict(kind='round'),        "'round' is not a kind of mask; they are centre, rectangle, free-form, mixed."),
    (dict(area=(0.5, 0.1)),     '(0.5, 0.1) is not a range of areas from 0 to 1.'),
    (dict(area=(0, 1.5)),       '(0, 1.5) is not a range of areas from 0 to 1.'),
    (dict(area=(0, 0)),         'no mask of 8x8 pixels has an area from 0 to 0.'),
    (dict(resolution=1),        'no mask of 1x1 pixels has an area from 0.1 to 0.5.'),
])
def test_what_cannot_be_drawn_gets_its_sentence(arguments, sentence):
    with pytest.raises(ValueError) as caught:
        masks.draw(**dict(dict(kind='rectangle', resolution=8, random=np.random.RandomState(0)), **arguments))
    assert str(caught.value) == sentence

#----------------------------------------------------------------------------
# Other sizes, and files.

@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
@hypothesis.given(seed=strategies.integers(0, 1000), height=strategies.integers(1, 40),
    width=strategies.integers(1, 40))
def test_no_part_of_a_hole_is_lost_in_another_size(seed, height, width):
    mask = np.random.RandomState(seed).rand(23, 17) < 0.05
    smaller = masks.resized(mask, height, width)
    assert smaller.shape == (height, width) and smaller.any() == mask.any()
    for y, x in np.argwhere(mask):
        assert smaller[int((y + 0.5) * height / 23), int((x + 0.5) * width / 17)]

def test_a_mask_that_is_doubled_repeats_its_pixels():
    mask = masks.of_index('free-form', 16, 0)
    assert np.array_equal(masks.resized(mask, 32, 32), mask.repeat(2, axis=0).repeat(2, axis=1))
    assert np.array_equal(masks.resized(masks.resized(mask, 32, 32), 16, 16), mask)

@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'RGB', 'RGBA', 'I;16'])
def test_white_is_the_hole_in_files_of_any_mode(tmp_path, mode):
    mask = masks.of_index('rectangle', 16, 0)
    image = (PIL.Image.fromarray(mask.astype(np.uint16) * 65535) if mode == 'I;16'
        else PIL.Image.fromarray(mask.astype(np.uint8) * 255).convert(mode))
    image.save(tmp_path / 'mask.png')
    assert np.array_equal(masks.read(str(tmp_path / 'mask.png')), mask)

def test_masks_of_a_folder_are_taken_in_the_order_of_names_or_drawn(tmp_path):
    drawn = [masks.of_index('mixed', 32, index) for index in range(3)]
    for name, mask in zip(['b.png', 'c.PNG', 'a.bmp'], drawn):
        PIL.Image.fromarray(mask).save(tmp_path / name)
    (tmp_path / 'readme.txt').write_text('No mask.')
    for resolution in [32, 8]:
        expected = [masks.resized(mask, resolution, resolution) for mask in [drawn[2], *drawn[:2]]]
        source = masks.Source(str(tmp_path), resolution)
        assert np.array_equal([source.of_index(index) for index in [0, 1, 2, 5]], [*expected, expected[2]])
        random = np.random.RandomState(0)
        met = [[np.array_equal(mask, found) for mask in expected]
            for found in [source.draw(random) for _time in range(60)]]
        assert np.array_equal(np.sum(met, axis=1), np.ones(60)) and np.sum(met, axis=0).min() > 10

@pytest.mark.parametrize('kind', masks.KINDS)
def test_a_kind_of_masks_is_a_source_of_them(kind):
    source = masks.Source(kind, 32)
    assert np.array_equal(source.of_index(4), masks.of_index(kind, 32, 4))
    assert np.array_equal(source.draw(np.random.RandomState(3)), masks.draw(kind, 32, np.random.RandomState(3)))

def test_files_that_are_no_masks_get_a_sentence(tmp_path):
    with pytest.raises(ValueError, match='has no images in it.'):
        masks.Source(str(tmp_path), 8)
    with pytest.raises(ValueError, match='cannot be read: No such file or directory.'):
        masks.Source(str(tmp_path / 'nowhere'), 8)
    path = tmp_path / 'mask.png'
    for level, sentence in [(0, 'mask.png\' has no hole.'), (255, 'mask.png\' is all hole.')]:
        PIL.Image.new('L', (8, 8), level).save(path)
        with pytest.raises(ValueError, match=sentence):
            masks.Source(str(tmp_path), 8)
    path.write_bytes(b'mask')
    with pytest.raises(ValueError, match='is not an image'):
        masks.read(str(path))
    few = np.ones([64, 64], dtype=bool)
    few[5, 5] = False
    PIL.Image.fromarray(few).save(path)
    with pytest.raises(ValueError, match="mask.png' at 16x16 is all hole."):
        masks.Source(str(tmp_path), 16)

#----------------------------------------------------------------------------
