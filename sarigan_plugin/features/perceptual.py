"""Perceptual distance: how far apart two images are to a network that has learnt to recognise things.

    from sarigan_plugin.features import perceptual

    features = perceptual.load('lite0')
    distances = perceptual.distance(features(images), features(others))    # [N], differentiable in the images
"""

import os

import torch

from sarigan_plugin.errors import first_line
from sarigan_plugin.features import detectors
from sarigan_plugin.upstream import tree as upstream

import dnnlib

VGG_URL = 'https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/vgg16.pt'
CHOICES = ('auto', 'vgg', 'lite0', 'none')

#----------------------------------------------------------------------------

def distance(features, others):
    """Perceptual distance of images whose features are given: [N, F], [N, F] -> [N]."""
    return (features - others).square().sum(dim=1)

def stack_maps(maps):
    """One vector per image, of feature maps of several stages, so that distance() tells where images differ.

    maps: list of [N, C, h, w], one per stage. Every pixel becomes a unit vector over the channels, as in LPIPS but with
    no learned weights. The squared distance of two images is then the mean over stages and pixels, from 0 to 4. Returns
    [N, F].
    """
    vectors = []
    for x in maps:
        unit = x * (x.square().sum(dim=1, keepdim=True) + 1e-8).rsqrt()
        vectors.append(unit.flatten(1) / (x.shape[2] * x.shape[3] * len(maps)) ** 0.5)
    return torch.cat(vectors, dim=1)

class Features(torch.nn.Module):
    """A detector network, frozen: images [N, 1 or 3, H, W] in [-1, 1] -> features [N, F] for distance()."""
    def __init__(self,
        name,       # What to call it.
        detector,   # RGB [N, 3, H, W] in [0, 255] -> features [N, F] for distance(), or maps for stack_maps().
    ):
        super().__init__()
        self.name = name
        self.detector = detector
        self.eval().requires_grad_(False)

    def forward(self, images):
        maps = self.detector((detectors.fit(images.expand(-1, 3, -1, -1)) + 1) * 127.5)
        return maps if isinstance(maps, torch.Tensor) else stack_maps(maps)

#----------------------------------------------------------------------------
# Detectors.

class Lite0(torch.nn.Module):
    """EfficientNet-Lite0 of ImageNet: what four of its stages give, at 1/2, 1/4, 1/8 and 1/16 of the side.

    Needs no download.
    """
    last_blocks = (0, 2, 4, 10) # Of stages; those after them are too coarse to say where anything is.

    def __init__(self):
        super().__init__()
        self.network = detectors.lite0_network()

    def forward(self, images):
        """RGB [N, 3, H, W] in [0, 255] -> list of four feature maps."""
        net = self.network
        x = net._swish(net._bn0(net._conv_stem((images - 127) / 128)))
        maps = []
        for index, block in enumerate(net._blocks[: self.last_blocks[-1] + 1]):
            x = block(x)
            if index in self.last_blocks:
                maps.append(x)
        return maps

class Scripted(torch.nn.Module):
    """A TorchScript file: NVIDIA's VGG16, or anything that makes one feature map or a list of them of RGB images in
    [0, 255]."""
    def __init__(self, file):
        super().__init__()
        self.network = torch.jit.load(file, map_location='cpu')
        arguments = [argument.name for argument in self.network.forward.schema.arguments]
        # [N, F], weighted by its authors.
        self.options = dict(resize_images=False, return_lpips=True) if 'return_lpips' in arguments else {}

    def forward(self, images):
        """RGB [N, 3, H, W] in [0, 255] -> [N, F] or a list of maps, see Features."""
        out = self.network(images, **self.options)
        return [out] if isinstance(out, torch.Tensor) and not self.options else out

#----------------------------------------------------------------------------

def load(choice='auto', device='cpu'):
    """Features by name.

    choice: 'vgg', NVIDIA's VGG16 that upstream's projector downloads as well (550 MB); 'lite0', EfficientNet-Lite0 from
    the packages of the extra `features`, ImageNet weights inside; path of a TorchScript file; 'auto', the first of vgg
    and lite0 that is here already; or 'none'. Returns Features, or None for none. Raises ValueError with one sentence.
    """
    if choice == 'auto':
        choice = 'vgg' if upstream.is_cached(VGG_URL) else detectors.default() or 'none'
    if choice == 'none':
        return None
    if choice == 'lite0':
        return Features('lite0', Lite0()).to(device)
    return _load_scripted(choice).to(device)

def _load_scripted(choice):
    try:
        with dnnlib.util.open_url(VGG_URL, num_attempts=1) if choice == 'vgg' else open(choice, 'rb') as f:
            features = Features('vgg' if choice == 'vgg' else os.path.basename(choice), Scripted(f))
        found = features(torch.zeros(2, 3, detectors.MIN_SIZE, detectors.MIN_SIZE))
    except FileNotFoundError:
        raise ValueError(f'{choice!r} is neither one of {", ".join(CHOICES)} nor a TorchScript file.') from None
    except OSError as error:
        raise ValueError(f'{choice!r} cannot be read ({first_line(error)}).') from None
    except Exception as error: # Who knows what a broken file leads to.
        raise ValueError(f'{choice!r} is not a TorchScript file that makes feature maps of images '
            f'({first_line(error)}).') from None
    if found.ndim != 2 or len(found) != 2 or not found.is_floating_point():
        raise ValueError(f'{choice!r} makes no feature maps [N, C, H, W] of images.')
    return features

#----------------------------------------------------------------------------
