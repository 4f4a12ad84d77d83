"""A projection: the codes and noise maps with which a generator makes a given image, and the file that keeps them.

projected_w.npz holds `w`, as that of upstream's projector does, and under names of their own what other tools do not
look at:

    w               [N, num_ws, w_dim]
    noise.b8.conv0  [8, 8], and so on, one noise map per layer; the network's own where there is none
    target          [H, W, 3], uint8, the image that was projected
"""

import contextlib
import dataclasses

import numpy as np
import torch

from sarigan_plugin.errors import first_line
from sarigan_plugin.snapshots import rebuild
from sarigan_plugin.support import files

#----------------------------------------------------------------------------

def noise_layers(G):
    """The layers of a generator that add noise: {name: layer}, such as 'b8.conv0'."""
    return {name: layer for name, layer in G.synthesis.named_modules()
        if getattr(layer, 'noise_const', None) is not None}

@contextlib.contextmanager
def noise_put_in(G, noise):
    """Inside the `with`, G's constant noise is that of {layer name: [H, W]};
    layers that are not there keep their own."""
    layers = noise_layers(G)
    own = {name: layers[name].noise_const for name in noise}
    try:
        for name, noise_map in noise.items():
            layers[name].noise_const = noise_map
        yield
    finally:
        for name, noise_map in own.items():
            layers[name].noise_const = noise_map

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Projection:
    """What a generator needs to make an image again.

    Made elsewhere, by upstream's projector for one, it has codes alone.
    """
    ws:     torch.Tensor                                                # [N, num_ws, w_dim] codes.
    noise:  dict            = dataclasses.field(default_factory=dict)   # {layer name: [H, W]}, see noise_put_in().
    target: np.ndarray      = None                                      # uint8 [H, W, 3], the image that was projected.

    def synthesize(self, G):
        """Images [N, C, H, W], about [-1, 1]."""
        with noise_put_in(G, self.noise):
            return G.synthesis(self.ws, noise_mode='const')

    def write(self, path):
        arrays = {'w': self.ws, **{f'noise.{name}': noise_map for name, noise_map in self.noise.items()}}
        arrays = {name: tensor.cpu().numpy() for name, tensor in arrays.items()}
        with files.atomic_open(path) as f:
            np.savez(f, **arrays, **(dict(target=self.target) if self.target is not None else {}))

    @staticmethod
    def read(path, G):
        """A projection for this generator, on its device. Raises ValueError, with one sentence, for what is none."""
        try:
            with np.load(path) as arrays:
                ws = torch.from_numpy(arrays['w'])
                noise = {name.removeprefix('noise.'): torch.from_numpy(arrays[name])
                    for name in arrays if name.startswith('noise.')}
                target = arrays.get('target')
        except Exception as error: # Who knows what a broken file leads to.
            raise ValueError(f'{path!r} is not an .npz file with an array w ({first_line(error)}).') from None
        if not ws.is_floating_point() or ws.ndim != 3 or len(ws) == 0 or ws.shape[1:] != (G.num_ws, G.w_dim):
            raise ValueError(f'{path!r} holds w as {rebuild.describe(ws)}; '
                f'the network takes float32 [N, {G.num_ws}, {G.w_dim}].')
        layers = noise_layers(G)
        for name, noise_map in noise.items():
            if name not in layers:
                raise ValueError(f'{path!r} holds noise for {name[:40]!r}; '
                    f'the layers with noise are {", ".join(layers) or "none"}.')
            if not noise_map.is_floating_point() or noise_map.shape != layers[name].noise_const.shape:
                raise ValueError(f'{path!r} holds noise for {name} as {rebuild.describe(noise_map)}; '
                    f'the network takes {rebuild.describe(layers[name].noise_const)}.')
        if not all(x.isfinite().all() for x in [ws, *noise.values()]):
            raise ValueError(f'{path!r} holds numbers that are not finite.')
        if target is not None and (target.dtype != np.uint8 or target.shape != (G.img_resolution, G.img_resolution, 3)):
            raise ValueError(f'{path!r} holds a target that is no image of {G.img_resolution}x{G.img_resolution}.')
        device = next(G.parameters()).device
        return Projection(ws.to(device, torch.float32),
            {name: noise_map.to(device, torch.float32) for name, noise_map in noise.items()}, target)

#----------------------------------------------------------------------------
