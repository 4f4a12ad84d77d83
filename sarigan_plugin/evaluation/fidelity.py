"""How near completed images are to the true ones: the per-pixel error of Table 5, PSNR and SSIM.

Images are uint8 [N, H, W, C]; each measure has one figure per image, [N].

    >>> import numpy as np
    >>> from sarigan_plugin.evaluation import fidelity
    >>> truth = np.zeros([1, 16, 16, 3], dtype=np.uint8)
    >>> fidelity.mean_absolute_error(truth + np.uint8(51), truth)
    array([0.2])
"""

import numpy as np
import scipy.ndimage

WINDOW  = 11            # Width of SSIM's Gaussian window, pixels,
SIGMA   = 1.5           # and its standard deviation.
K1, K2  = 0.01, 0.03    # Its constants, which keep flat and dark windows from dividing by zero.

def mean_absolute_error(images, truth, holes=None):
    """Mean absolute difference of levels in [0, 1], over the whole image (Table 5), or over the pixels of holes,
    bool [N, H, W]."""
    errors = np.abs(images.astype(np.float64) - truth).mean(axis=3) / 255
    return (np.stack([error[hole].mean() for error, hole in zip(errors, holes)]) if holes is not None
        else errors.mean(axis=(1, 2)))

def mean_squared_error(images, truth):
    """Mean squared difference of levels in [0, 1]."""
    return np.square(images.astype(np.float64) - truth).mean(axis=(1, 2, 3)) / 255 ** 2

def psnr(mse):
    """Peak signal-to-noise ratio in dB of mean squared errors of levels in [0, 1]; infinite where there is no error."""
    with np.errstate(divide='ignore'):
        return -10 * np.log10(mse)

def ssim(images, truth):
    """Structural similarity (Wang et al., TIP 2004), 1 for equal images:
    mean over channels and over the windows that lie in the image.

    Raises ValueError where no window does.
    """
    if min(images.shape[1:3]) < WINDOW:
        raise ValueError(f'images of {images.shape[2]}x{images.shape[1]} are smaller than the window of SSIM, '
            f'{WINDOW}x{WINDOW}.')
    x, y = images / 255, truth / 255
    mean_x, mean_y = _window_means(x), _window_means(y)
    variance_x, variance_y = _window_means(x * x) - mean_x ** 2, _window_means(y * y) - mean_y ** 2
    covariance = _window_means(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + K1 ** 2) * (2 * covariance + K2 ** 2)
    similarity /= (mean_x ** 2 + mean_y ** 2 + K1 ** 2) * (variance_x + variance_y + K2 ** 2)
    return similarity.mean(axis=(1, 2, 3))

def _window_means(x):
    """Weighted means over the windows in images [N, H, W, C]."""
    weights = np.exp(-0.5 * np.square((np.arange(WINDOW) - WINDOW // 2) / SIGMA))
    for axis in [1, 2]:
        x = scipy.ndimage.correlate1d(x, weights / weights.sum(), axis)
    margin = slice(WINDOW // 2, -(WINDOW // 2))
    return x[:, margin, margin]

#----------------------------------------------------------------------------
