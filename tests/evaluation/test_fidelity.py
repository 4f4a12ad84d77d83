"""Measures of completed images against closed forms and other implementations, and the classical ways to fill holes."""

import importlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from sarigan_plugin.datasets import masks
from sarigan_plugin.evaluation import classical, fidelity

def noise(*shape, seed=0):
    return np.random.RandomState(seed).randint(256, size=shape).astype(np.uint8)

def smooth(size, channels=3):
    """uint8 [size, size, channels], each channel a slope of its own."""
    y, x = np.indices([size, size]) / (size - 1)
    return np.rint(255 * np.stack([x, y, (x + y) / 2], axis=-1)[..., :channels]).astype(np.uint8)

#----------------------------------------------------------------------------
# Measures.

def test_equal_images_have_no_error_and_similarity_one():
    images = noise(2, 16, 16, 3)
    assert np.array_equal(fidelity.mean_absolute_error(images, images), [0, 0])
    assert np.array_equal(fidelity.mean_absolute_error(images, images, np.ones([2, 16, 16], dtype=bool)), [0, 0])
    assert np.array_equal(fidelity.psnr(fidelity.mean_squared_error(images, images)), [np.inf, np.inf])
    np.testing.assert_allclose(fidelity.ssim(images, images), 1, rtol=1e-12)

def test_a_difference_everywhere_is_the_error():
    truth = np.full([1, 16, 16, 3], 100, dtype=np.uint8)
    for shifted in [truth + np.uint8(51), truth - np.uint8(51)]:
        assert fidelity.mean_absolute_error(shifted, truth) == pytest.approx([0.2])
        assert fidelity.psnr(fidelity.mean_squared_error(shifted, truth)) == pytest.approx([20 * np.log10(5)])
    assert fidelity.psnr(fidelity.mean_squared_error(truth * 0, truth * 0 + np.uint8(255))) == pytest.approx([0])

def test_an_error_in_the_hole_is_diluted_over_the_image_by_its_area():
    truth = noise(3, 16, 16, 3)
    holes = np.stack([masks.of_index('rectangle', 16, index) for index in range(3)])
    images = np.where(holes[..., None], noise(3, 16, 16, 3, seed=1), truth)
    inside = fidelity.mean_absolute_error(images, truth, holes)
    np.testing.assert_allclose(inside * holes.mean(axis=(1, 2)), fidelity.mean_absolute_error(images, truth))
    assert (inside > 0.2).all() # A third, for uniform noise.
    images[~holes] ^= 255
    assert np.array_equal(fidelity.mean_absolute_error(images, truth, holes), inside) # Known pixels don't matter there.

@hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
@hypothesis.given(seed=strategies.integers(0, 10**6), height=strategies.integers(11, 20),
    width=strategies.integers(11, 20), channels=strategies.sampled_from([1, 3]))
def test_measures_are_symmetric_and_those_of_scikit_image(seed, height, width, channels):
    from skimage import metrics  # Slow to import.
    truth = noise(1, height, width, channels, seed=seed)
    images = (truth * 0.6 + noise(1, height, width, channels, seed=seed + 1) * 0.4).astype(np.uint8)
    theirs = metrics.structural_similarity(images[0], truth[0], channel_axis=2, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False)
    np.testing.assert_allclose(fidelity.ssim(images, truth), theirs, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fidelity.psnr(fidelity.mean_squared_error(images, truth)),
        metrics.peak_signal_noise_ratio(truth, images))
    for measure in [fidelity.mean_absolute_error, fidelity.mean_squared_error, fidelity.ssim]:
        np.testing.assert_allclose(measure(images, truth), measure(truth, images))

def test_similarity_is_that_of_the_formula_in_a_single_window():
    x, y = noise(11, 11) / 255, noise(11, 11, seed=1) / 255
    distance = np.square(np.indices([11, 11]) - 5).sum(axis=0)
    weights = np.exp(-distance / (2 * 1.5 ** 2))
    weights /= weights.sum()
    mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
    covariance = lambda a, b: (weights * (a - (weights * a).sum()) * (b - (weights * b).sum())).sum()
    expected = (2 * mean_x * mean_y + 1e-4) * (2 * covariance(x, y) + 9e-4) / (
        (mean_x ** 2 + mean_y ** 2 + 1e-4) * (covariance(x, x) + covariance(y, y) + 9e-4))
    images, truth = (np.rint(255 * a).astype(np.uint8)[None, ..., None] for a in [x, y])
    assert fidelity.ssim(images, truth) == pytest.approx([expected])

def test_flat_images_differ_by_their_luminance_alone():
    dark, light = (np.full([1, 12, 12, 1], level, dtype=np.uint8) for level in [51, 102])
    assert fidelity.ssim(dark, light) == pytest.approx([(2 * 0.2 * 0.4 + 1e-4) / (0.2 ** 2 + 0.4 ** 2 + 1e-4)])

def test_images_without_room_for_a_window_are_refused():
    with pytest.raises(ValueError, match='images of 32x10 are smaller than the window of SSIM, 11x11.'):
        fidelity.ssim(noise(1, 10, 32, 3), noise(1, 10, 32, 3))

#----------------------------------------------------------------------------
# Classical methods.

def filled(method, image, hole):
    return classical.fill(method, image, hole)

@pytest.mark.parametrize('method', classical.METHODS)
@pytest.mark.parametrize('channels', [1, 3])
def test_known_pixels_stay_and_what_was_in_the_hole_does_not_matter(method, channels):
    hole = masks.of_index('free-form', 32, 0)
    image = noise(32, 32, channels)
    done = filled(method, image, hole)
    assert done.dtype == np.uint8 and done.shape == image.shape and np.array_equal(done[~hole], image[~hole])
    other = np.where(hole[..., None], 255 - image, image).astype(np.uint8)
    assert np.array_equal(filled(method, other, hole), done)

@pytest.mark.parametrize('method', classical.METHODS)
def test_one_colour_goes_on_in_the_hole(method):
    image = np.full([32, 32, 3], [10, 200, 77], dtype=np.uint8)
    hole = masks.of_index('centre', 32, 0)
    # It rounds at every pixel on its way in.
    assert np.abs(filled(method, image, hole).astype(int) - image).max() <= (3 if method == 'telea' else 0)

def test_a_slope_goes_on_in_the_hole_in_all_methods_but_the_mean():
    image, hole = smooth(32), masks.of_index('centre', 32, 0)
    errors = {method: fidelity.mean_absolute_error(filled(method, image, hole)[None], image[None], hole[None])[0]
        for method in classical.METHODS}
    assert (errors['biharmonic'] < 0.003 and errors['telea'] < errors['mean'] / 2
        and errors['navier-stokes'] < errors['mean'] / 2), errors

@pytest.mark.parametrize('method, package',
    [('telea', 'opencv-python-headless'), ('navier-stokes', 'opencv-python-headless'), ('biharmonic', 'scikit-image')])
def test_a_package_that_is_missing_is_named(monkeypatch, method, package):
    def none_such(name):
        raise ModuleNotFoundError(name)
    monkeypatch.setattr(importlib, 'import_module', none_such)
    for do in [lambda: classical.check(method),
            lambda: classical.fill(method, smooth(32), masks.of_index('centre', 32, 0))]:
        with pytest.raises(classical.MissingPackage) as caught:
            do()
        assert (str(caught.value) == f'{method} needs the Python package {package}, which is not installed: '
            f'pip install {package}')
    classical.check('mean')

def test_a_method_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="'magic' is not a classical method; "
            "they are mean, telea, navier-stokes, biharmonic."):
        classical.check('magic')

#----------------------------------------------------------------------------
