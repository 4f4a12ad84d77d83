"""Classical ways to fill holes, to compare networks with: they have learnt nothing.

    >>> import numpy as np
    >>> from sarigan_plugin.evaluation import classical
    >>> from sarigan_plugin.datasets import masks
    >>> image = np.full([32, 32, 3], 77, dtype=np.uint8)
    >>> filled = classical.fill('telea', image, masks.of_index('centre', 32, 0))
"""

import importlib

import numpy as np

RADIUS  = 3     # Of the neighbourhood that OpenCV looks at, pixels.

# The package that each method is of, if any: (module, what to install).
OPENCV, SCIKIT_IMAGE = ('cv2', 'opencv-python-headless'), ('skimage.restoration', 'scikit-image')
METHODS = {'mean': None, 'telea': OPENCV, 'navier-stokes': OPENCV, 'biharmonic': SCIKIT_IMAGE}

class MissingPackage(ValueError):
    """A method whose package is not installed; says what to install."""

def fill(method, image, hole):
    """Fill the hole of an image by one of the METHODS.

    mean:           the mean colour of the known pixels.
    telea:          fast marching from the edge of the hole inwards (Telea, 2004), OpenCV's.
    navier-stokes:  lines of equal brightness go on (Bertalmio et al., CVPR 2001), OpenCV's.
    biharmonic:     the smoothest surface that fits the edge (Damelin and Hoang, 2018), scikit-image's.

    image: uint8 [H, W, 1 or 3]. hole: bool [H, W], not everything. Returns uint8 [H, W, C] whose known pixels are those
    of the image. Raises MissingPackage.
    """
    module = _module(method)
    known_only = np.where(hole[..., None], 0, image).astype(np.uint8) # Nothing of the truth must get through.
    if method == 'mean':
        filled = np.broadcast_to(np.rint(image[~hole].mean(axis=0)), image.shape)
    elif METHODS[method] is OPENCV:
        flag = module.INPAINT_TELEA if method == 'telea' else module.INPAINT_NS
        filled = module.inpaint(known_only, hole.astype(np.uint8), RADIUS, flag).reshape(image.shape)
    else:
        filled = np.rint(module.inpaint_biharmonic(known_only / 255, hole, channel_axis=2).clip(0, 1) * 255)
    return np.where(hole[..., None], filled, image).astype(np.uint8)

def _module(method):
    """The module that has the method, None where none is needed.

    Raises MissingPackage, ValueError for a method that is not there.
    """
    if method not in METHODS:
        raise ValueError(f'{method!r} is not a classical method; they are {", ".join(METHODS)}.')
    if METHODS[method] is None:
        return None
    name, package = METHODS[method]
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingPackage(f'{method} needs the Python package {package}, which is not installed: '
            f'pip install {package}') from None

def check(method):
    """Raise what fill() would raise for every image."""
    _module(method)

#----------------------------------------------------------------------------
