"""The moving picture of docs/groups-by-effect.md: groups of a boxed network turned off and up again, one after another.

    python examples/turning.py docs/turning.gif
"""

import math
import sys

import numpy as np
import PIL.Image
import torch

from sarigan_plugin.steering import groupings, names, sampling
from sarigan_plugin.steering.edits import Edit, edited
from sarigan_plugin.support import pictures

NETWORK = 'drawn64'
GROUPS  = ['hat', 'eyes', 'skin', 'tie']    # Their names.
SEEDS   = [2, 3, 5, 8, 12]
STEPS   = 8                         # Frames for each group.
SIZE    = 96                        # Width of an image.

def scales():
    """From as it is to none, to twice as much, and back."""
    return [1 - math.sin(2 * math.pi * step / STEPS) for step in range(STEPS)]

@torch.no_grad()
def frames():
    """Yields pictures: a row of images, and what is done to them."""
    G = groupings.load(NETWORK, 'NETWORK')
    known = names.load(NETWORK, G)
    ws = sampling.sample_ws(G, SEEDS, trunc=0.8)
    for name in GROUPS:
        layer, group = known.find(name)
        for scale in scales():
            with edited(G, [Edit(layer, group, inter_scale=scale)]):
                images = pictures.to_uint8(G.synthesis(ws, noise_mode='const'))
            row = pictures.sheet(pictures.enlarge(images, SIZE), columns=len(SEEDS))
            yield pictures.caption(row, f'{name}: {round(100 * scale)}%')

def main(path):
    """Write the frames as a GIF that goes round for ever."""
    first, *rest = [frame.convert('RGB').quantize(64, dither=PIL.Image.Dither.NONE) for frame in frames()]
    first.save(path, save_all=True, append_images=rest, duration=150, loop=0)
    print(f'{path}: {np.prod(first.size) * (len(rest) + 1):,} pixels')

if __name__ == '__main__':
    main(sys.argv[1])
