"""A generator of which is known what each channel changes: each paints its pattern."""

import torch

from sarigan_plugin.steering.styles import styled_layers

SIDE = 4 # Of the toy's images: a pixel for each cell.

class Painter(torch.nn.Module):
    """Each channel paints its pattern, as bright as its style."""
    def __init__(self, patterns):
        super().__init__()
        self.affine = torch.nn.Linear(6, len(patterns))
        self.weight = torch.ones([1, len(patterns), 1, 1])
        self.patterns = patterns.clone() # [C, 1, SIDE, SIDE]

    def forward(self, w):
        return torch.einsum('nc,cdhw->ndhw', self.affine(w), self.patterns)

class Block(torch.nn.Module):
    def __init__(self, patterns, first):
        super().__init__()
        self.num_conv, self.num_torgb = 1 if first else 2, 1
        self.conv1 = Painter(patterns)
        if not first:
            self.conv0 = Painter(patterns)

    def forward(self, x, img, ws, noise_mode='random', fused_modconv=None): # As upstream's.
        _ = fused_modconv
        layers = [self.conv1] if x is None else [self.conv0, self.conv1]
        painted = sum(layer(w) for layer, w in zip(layers, ws.unbind(dim=1)))
        return painted, painted if img is None else img + painted

class Synthesis(torch.nn.Module):
    def __init__(self, patterns):
        super().__init__()
        self.block_resolutions = [4, 8, 16]
        for res in self.block_resolutions:
            setattr(self, f'b{res}', Block(patterns, first=res == 4))

    def forward(self, ws, **block_kwargs):
        x = img = None
        for index, res in enumerate(self.block_resolutions):
            x, img = getattr(self, f'b{res}')(x, img, ws[:, max(2 * index - 1, 0):][:, :3], **block_kwargs)
        return img

class Toy(torch.nn.Module):
    """A generator of which is known what each channel changes."""
    def __init__(self, patterns):
        super().__init__()
        self.synthesis = Synthesis(patterns)
        self.img_resolution = SIDE
        self.requires_grad_(False)

def in_step(G, kinds):
    """Make channels of one kind, int [C], never cancel each other: they go by the same number of w, all in one way."""
    for layer in styled_layers(G).values():
        layer.affine.weight.copy_(torch.nn.functional.one_hot(torch.tensor(kinds), layer.affine.in_features))
    return G

def painter_of(places, random):
    """A Toy whose channels paint a cell each, or, where the place is None, all cells, some lighter and some darker."""
    patterns = torch.stack([torch.randint(2, [SIDE ** 2], generator=random) - 0.5 if place is None
        else torch.nn.functional.one_hot(torch.tensor(place), SIDE ** 2).float() for place in places])
    kinds = list(dict.fromkeys(places))
    return in_step(Toy(patterns.view(-1, 1, SIDE, SIDE)), [kinds.index(place) for place in places])

def everything(G):
    """{layer: all its channels}."""
    return {name: torch.arange(layer.weight.shape[1]) for name, layer in styled_layers(G).items()}

#----------------------------------------------------------------------------
