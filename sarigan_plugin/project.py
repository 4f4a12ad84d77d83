"""Find codes and noise maps with which a generator makes a given image.

    from sarigan_plugin import perceptual, project

    found = project.project(G, target, perceptual.load('lite0'))       # target: [1, C, H, W] in [-1, 1]
    found['w'].synthesize(G), found['w+'].synthesize(G)                 # one code for all layers; one for each
    found['w+'].write('projected_w.npz')                                # for --projected-w of generate and edit
"""

import dataclasses
import time

import numpy as np
import torch
from torch.nn import functional as F

from sarigan_plugin import perceptual
from sarigan_plugin import pictures
from sarigan_plugin.projection import Projection, noise_layers

SPACES          = ('w', 'w+')   # One code for all layers, or one for each.
NUM_STEPS       = 500           # Of each space.
MEAN_SAMPLES    = 10000         # Of W, for its mean and deviation.
LEARNING_RATE   = 0.1           # In deviations of W.
RAMP_UP         = 0.05          # Share of the steps in which the learning rate rises
RAMP_DOWN       = 0.25          # and in which it falls.
CODE_NOISE      = 1.0           # Deviations of W that the code of w is shaken by at first, so that it leaves local minima,
CODE_NOISE_END  = 0.75          # and the share of the steps until it is left alone.
PIXEL_WEIGHT    = 1.0           # Of the mean squared difference of pixels.
NOISE_WEIGHT    = 1e2           # Of noise_regularisation().
MEAN_WEIGHT     = 1e-3          # Of the mean squared distance from the mean of W, in deviations.
SHARED_WEIGHT   = 1e-3          # Of the mean squared distance of each layer's code from their mean.

#----------------------------------------------------------------------------

def noise_regularisation(noise_map):
    """How alike neighbours in a noise map are, at all scales from its own down to 8x8: squares of its autocorrelation. [H, W] -> [].

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
    w = torch.cat([G.mapping(part, c.expand(len(part), -1), skip_w_avg_update=True)[:, 0] for part in z.split(1000)])
    return w.mean(dim=0), w.std(dim=0)

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Step:
    """Where an optimisation is."""
    space:      str         # 'w' or 'w+'.
    index:      int         # From 0.
    num_steps:  int         # In this space.
    seconds:    float       # Since the first step in this space began.
    loss:       float       # Before this step.
    projection: Projection  # After it.

def steps(G, target, features=None, space='w+', num_steps=NUM_STEPS, fit_noise=True, seed=0, c=None):
    """Project an image step by step: first into W, then, from there, into W+. Yields a Step after each.

    G: a generator, in whatever mode; it is left as it is. target: [1, C, H, W] in [-1, 1], at its resolution.
    features: perceptual.Features, None = pixels alone. space: the last of SPACES to go to. fit_noise: look for noise maps as well.
    seed: of the noise on the code. c: [1, c_dim] label, None = zeros.
    """
    assert target.shape == (1, G.img_channels, G.img_resolution, G.img_resolution)
    mean, std = code_statistics(G, c)
    noise = {name: layer.noise_const.detach().clone().requires_grad_() for name, layer in noise_layers(G).items()} if fit_noise else {}
    moments = {name: torch.var_mean(x.detach(), correction=0) for name, x in noise.items()}
    target_features = features(target).detach() if features is not None else None
    picture = pictures.to_uint8(target)[0]
    random = torch.Generator(device=mean.device).manual_seed(seed)
    code = torch.zeros_like(mean)[None, None] # [1, 1, w_dim] in deviations from the mean.

    for stage in SPACES[: SPACES.index(space) + 1]:
        rows = 1 if stage == 'w' else G.num_ws
        start = time.monotonic()
        code = code.detach().expand(-1, rows, -1).clone().requires_grad_()
        optimizer = torch.optim.Adam([code, *noise.values()], betas=(0.9, 0.999))
        for index in range(num_steps):
            optimizer.param_groups[0]['lr'] = _learning_rate(index / num_steps)
            shake = CODE_NOISE * max(0, 1 - index / num_steps / CODE_NOISE_END) ** 2 if stage == 'w' else 0
            shaken = code + shake * torch.randn(code.shape, generator=random, device=code.device)

            images = Projection((mean + std * shaken).expand(-1, G.num_ws, -1), noise).synthesize(G)
            loss = PIXEL_WEIGHT * (images - target).square().mean()
            if features is not None:
                loss = loss + perceptual.distance(features(images), target_features).sum()
            loss = loss + NOISE_WEIGHT * sum(map(noise_regularisation, noise.values()))
            loss = loss + MEAN_WEIGHT * code.square().mean() + SHARED_WEIGHT * (code - code.mean(dim=1, keepdim=True)).square().mean()

            optimizer.zero_grad()
            loss.backward(inputs=[code, *noise.values()]) # G may be one whose weights collect gradients.
            optimizer.step()
            with torch.no_grad():
                for name, x in noise.items():
                    _give_moments(x, *moments[name])
                found = Projection((mean + std * code).expand(-1, G.num_ws, -1).clone(), {name: x.clone() for name, x in noise.items()}, picture)
            yield Step(stage, index, num_steps, time.monotonic() - start, loss.item(), found)

def _learning_rate(t):
    """At t in [0, 1): up in a line, down in half a cosine."""
    down = 0.5 - 0.5 * np.cos(np.pi * min(1, (1 - t) / RAMP_DOWN))
    return LEARNING_RATE * down * min(1, t / RAMP_UP)

def _give_moments(x, variance, mean):
    """Shift and scale a noise map in place."""
    x -= x.mean()
    x *= (variance / x.square().mean()).sqrt()
    x += mean

def project(*args, **kwargs):
    """As steps(), to its end. Returns {space: Projection}."""
    return {step.space: step.projection for step in steps(*args, **kwargs)}

#----------------------------------------------------------------------------
