"""Find codes and noise maps with which a generator makes a given image.

    >>> import torch
    >>> from sarigan_plugin.features import perceptual
    >>> from sarigan_plugin.steering import projector
    >>> from sarigan_plugin.snapshots import reading
    >>> G = reading.load('network.pkl', 'network')
    >>> target = torch.zeros([1, 3, 32, 32])                                            # In [-1, 1], at G's resolution.
    >>> found = projector.project(G, target, perceptual.load('lite0'), num_steps=2)       # NUM_STEPS will be better.
    >>> list(found)                                                                     # What each stage reached.
    ['w', 'w+', 'noise']
    >>> found['noise'].synthesize(G).shape
    torch.Size([1, 3, 32, 32])
    >>> found['noise'].write('projected_w.npz')     # For --projected-w of generate and edit.
"""

import dataclasses
import inspect
import time

import numpy as np
import torch
from torch.nn import functional as F

from sarigan_plugin.datasets import picture_conversion
from sarigan_plugin.features import perceptual
from sarigan_plugin.steering.projection import Projection, noise_layers
from sarigan_plugin.support import pictures

SPACES          = ('w', 'w+')   # One code for all layers, or one for each.
NUM_STEPS       = 400           # Of each stage.
MEAN_SAMPLES    = 10000         # Of W, for its mean and deviation.
LEARNING_RATE   = 0.1           # In deviations of W.
RAMP_UP         = 0.05          # Share of the steps in which the learning rate rises
RAMP_DOWN       = 0.25          # and in which it falls.
CODE_NOISE      = 1.0           # Deviations of W that the code of w is shaken by at first,
                                # so that it leaves local minima,
CODE_NOISE_END  = 0.75          # and the share of the steps until it is left alone.
PIXEL_WEIGHT    = 5.0           # Of the mean squared difference of pixels: about as large as perceptual distance then.
                                # 1 costs 1 dB for 7% less of it.
NOISE_WEIGHT    = 1.0           # Of noise_regularisation(): neighbours end less alike than in random noise.
                                # 100 leaves the image no say.
MEAN_WEIGHT     = 1e-3          # Of the mean squared distance from the mean of W, in deviations, and
SHARED_WEIGHT   = 1e-3          # of that of each layer's code from their mean. Of 0,
                                # 1e-3 and 1e-2 for both this came nearest, by 0.4 dB.

#----------------------------------------------------------------------------

def read_target(path, size, channels=3):
    """A photo as a generator would have made it: uint8 [size, size, 3], the three alike where channels is 1.

    It is turned as its EXIF data says, what is transparent is laid on white, 16 bits become 8, colours become sRGB by
    the profile in the file, and the largest square in the middle is resized. Raises ValueError with one sentence.
    """
    image = pictures.read(path)
    pictures.check_levels(image, path)
    target = picture_conversion.Target(size, grey=channels == 1, enlarge=True)
    return np.array(picture_conversion.squared(image, target, notes=[]).convert('RGB'))

def noise_regularisation(noise_map):
    """How alike neighbours in a noise map are, at all scales from its own down to 8x8: squares of its autocorrelation.

    [H, W] -> [].

    Without it the image would be drawn into the noise, and no code would have to explain it.
    """
    x = noise_map[None, None]
    total = 0
    while True:
        total = total + sum((x * x.roll(1, dims=dim)).mean().square() for dim in [2, 3])
        if x.shape[2] <= 8:
            return total
        x = F.avg_pool2d(x, 2) * 2 # Noise stays as strong.

@torch.no_grad()
def code_statistics(G, c=None, num_samples=MEAN_SAMPLES):
    """Mean and standard deviation of W, dimension by dimension, of one class where there are classes: [w_dim], [w_dim].

    c: [1, c_dim] label, None = zeros.
    """
    device = next(G.parameters()).device
    z = torch.from_numpy(np.random.RandomState(0).randn(num_samples, G.z_dim)).to(device, torch.float32)
    c = torch.zeros([1, G.c_dim], device=device) if c is None else c
    # The running average stays as it is. Networks of stylegan3's code leave it alone by themselves,
    # and have no such argument.
    takes_it = 'skip_w_avg_update' in inspect.signature(G.mapping.forward).parameters
    quietly = dict(skip_w_avg_update=True) if takes_it else {}
    w = torch.cat([G.mapping(part, c.expand(len(part), -1), **quietly)[:, 0] for part in z.split(1000)])
    return w.mean(dim=0), w.std(dim=0)

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Step:
    """Where an optimisation is."""
    stage:      str         # One of stages().
    index:      int         # From 0.
    seconds:    float       # Since the first step of this stage began.
    loss:       float       # Before this step.
    projection: Projection  # After it.

def stages(G, space='w+', fit_noise=True):
    """What is looked for in turn: the spaces up to the given one, and then noise, where the network has any.

    Noise comes last, when the codes are found. Looked for together, each relies on the other: on a pixel face they came
    to 23.8 dB, but the codes with the network's own noise to 20.1 dB, where codes alone reach 20.9.
    """
    return [*SPACES[: SPACES.index(space) + 1], *(['noise'] if fit_noise and noise_layers(G) else [])]

def steps(G, target, features=None, space='w+', num_steps=NUM_STEPS, fit_noise=True, seed=0, c=None):
    """Project an image step by step, and stage by stage, each from where the one before it came to.

    Yields a Step after each.

    G: a generator, in whatever mode; it is left as it is. target: [1, C, H, W] in [-1, 1], at its resolution.
    features: perceptual.Features, None = pixels alone. space, fit_noise: see stages(). num_steps: of each stage.
    seed: of what the code is shaken by. c: [1, c_dim] label, None = zeros.
    """
    assert target.shape == (1, G.img_channels, G.img_resolution, G.img_resolution)
    mean, std = code_statistics(G, c)
    target_features = features(target).detach() if features is not None else None
    picture = pictures.to_uint8(target)[0]
    random = torch.Generator(device=mean.device).manual_seed(seed)
    # [1, 1 or num_ws, w_dim] in deviations from the mean; {layer name: [H, W]}.
    code, noise = torch.zeros_like(mean)[None, None], {}

    for stage in stages(G, space, fit_noise):
        start = time.monotonic()
        if stage == 'noise':
            code, noise = code.detach(), {name: layer.noise_const.detach().clone().requires_grad_()
                for name, layer in noise_layers(G).items()}
            moments = {name: torch.var_mean(x.detach(), correction=0) for name, x in noise.items()}
        else:
            code = code.detach().expand(-1, 1 if stage == 'w' else G.num_ws, -1).clone().requires_grad_()
        parameters = list(noise.values()) or [code]
        optimizer = torch.optim.Adam(parameters, betas=(0.9, 0.999))

        for index in range(num_steps):
            optimizer.param_groups[0]['lr'] = _learning_rate((index + 0.5) / num_steps)
            shake = CODE_NOISE * max(0, 1 - index / num_steps / CODE_NOISE_END) ** 2 if stage == 'w' else 0
            shaken = code + shake * torch.randn(code.shape, generator=random, device=code.device)

            images = Projection((mean + std * shaken).expand(-1, G.num_ws, -1), noise).synthesize(G)
            loss = _image_loss(images, target, features, target_features) + _prior_loss(code, noise)
            optimizer.zero_grad()
            loss.backward(inputs=parameters) # G may be one whose weights collect gradients.
            optimizer.step()
            with torch.no_grad():
                for name, x in noise.items():
                    _give_moments(x, *moments[name])
                found = Projection((mean + std * code).expand(-1, G.num_ws, -1).clone(),
                    {name: x.clone() for name, x in noise.items()}, picture)
            yield Step(stage, index, time.monotonic() - start, loss.item(), found)

def _image_loss(images, target, features, target_features):
    loss = PIXEL_WEIGHT * (images - target).square().mean()
    return loss if features is None else loss + perceptual.distance(features(images), target_features).sum()

def _prior_loss(code, noise):
    """code: [1, num_ws, w_dim] or [1, 1, w_dim], in deviations from the mean; noise: {layer name: [H, W]}."""
    spread = code - code.mean(dim=1, keepdim=True)
    loss = MEAN_WEIGHT * code.square().mean() + SHARED_WEIGHT * spread.square().mean()
    return loss + NOISE_WEIGHT * sum(map(noise_regularisation, noise.values()))

def _learning_rate(t):
    """At t in (0, 1): up in a line, down in half a cosine."""
    down = 0.5 - 0.5 * np.cos(np.pi * min(1, (1 - t) / RAMP_DOWN))
    return LEARNING_RATE * down * min(1, t / RAMP_UP)

def _give_moments(x, variance, mean):
    """Shift and scale a noise map in place."""
    x -= x.mean()
    x *= (variance / x.square().mean()).sqrt()
    x += mean

def project(*args, **kwargs):
    """As steps(), to its end. Returns {stage: Projection}."""
    return {step.stage: step.projection for step in steps(*args, **kwargs)}

#----------------------------------------------------------------------------
