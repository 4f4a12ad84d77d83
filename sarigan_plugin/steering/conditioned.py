"""Networks that complete images, for what measures generators: as ones that make images of codes alone.

    >>> import torch
    >>> from sarigan_plugin.model import inpainting
    >>> from sarigan_plugin.snapshots import reading
    >>> from sarigan_plugin.steering import channel_effects, sampling
    >>> from sarigan_plugin.steering.conditioned import Conditioned
    >>> G = reading.load('inpainting.pkl', 'network')
    >>> hole = torch.zeros([4, 1, 32, 32], dtype=torch.bool)
    >>> hole[..., 8:24, 8:24] = True
    >>> c = inpainting.join_condition(torch.zeros([4, 3, 32, 32]), hole)
    >>> codes = Conditioned(G).codes(G.mapping(sampling.latents(G, range(4)), c), c)
    >>> channel_effects.screen(Conditioned(G), codes)['b8.conv0'].shape[1]
    16

Each code has the photo and its hole as further rows, so that whatever goes through codes in batches takes them along.
"""

import contextlib

import torch

from sarigan_plugin.acceleration import cpu_formats
from sarigan_plugin.model.inpainting import joined_features, split_condition

#----------------------------------------------------------------------------

class Conditioned:
    """A generator of inpainting whose codes hold the condition, see codes(). All else is the generator's."""

    def __init__(self, G):
        self.G = G
        self.synthesis = _Synthesis(G.synthesis)

    def __getattr__(self, name):
        return getattr(self.G, name)

    def codes(self, ws, c):
        """[N, num_ws, w_dim] and conditions [N, c_dim], see inpainting.join_condition() -> [N, rows, w_dim]."""
        padded = torch.nn.functional.pad(c, [0, -c.shape[1] % ws.shape[2]])
        return torch.cat([ws, padded.unflatten(1, [-1, ws.shape[2]])], dim=1)

class _Synthesis:
    def __init__(self, synthesis):
        self.synthesis = synthesis

    def __getattr__(self, name):
        return getattr(self.synthesis, name)

    def __call__(self, codes, **kwargs):
        """Completed images [N, C, R, R]."""
        return self.synthesis(codes[:, :self.num_ws], self.condition(codes), **kwargs)

    def condition(self, codes):
        length = (self.img_channels + 1) * self.img_resolution ** 2
        return codes[:, self.num_ws:].flatten(1)[:, :length]

#----------------------------------------------------------------------------

class Known:
    """What the blocks of a generator read beside codes and each other, and what images have of it: here nothing."""

    def __init__(self, synthesis, codes):
        self.synthesis, self.device = synthesis, codes.device

    def joined(self):
        """Inside the `with`, blocks read it, and compute as they do within the whole network."""
        return cpu_formats.as_in_forward(self.synthesis, self.device)

    def pasted(self, images):
        """Images [N, C, R, R] of the last block, as the network returns them."""
        return images

class KnownPixels(Known):
    """The same of photos with holes, for the codes of a Conditioned; encoded once, however often images are made."""

    def __init__(self, conditioned, codes):
        synthesis = conditioned.synthesis
        super().__init__(synthesis, codes)
        self.image, self.hole = split_condition(conditioned.condition(codes), synthesis.img_channels,
            synthesis.img_resolution)
        self.layers = [getattr(synthesis, f'b{res}').conv1 for res in synthesis.block_resolutions]
        with super().joined():
            self.features = synthesis.encoder(self.image, self.hole)

    @contextlib.contextmanager
    def joined(self):
        with super().joined(), joined_features(self.layers, self.features):
            yield

    def pasted(self, images):
        return torch.where(self.hole, images, self.image)

def known(G, codes):
    """The Known of a generator, or of a Conditioned."""
    return (KnownPixels if isinstance(G, Conditioned) else Known)(G.synthesis, codes)

#----------------------------------------------------------------------------
