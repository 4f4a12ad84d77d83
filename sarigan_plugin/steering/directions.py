"""Which channel groups matter: what each of them does to the image, where,
and how far it spills out of what it attends to.

    >>> from sarigan_plugin.steering import directions
    >>> from sarigan_plugin.steering import sampling
    >>> from sarigan_plugin.snapshots import reading
    >>> G = reading.load('network.pkl', 'network')
    >>> effects = directions.measure(G, sampling.sample_ws(G, seeds=range(4)))
    >>> strongest = effects[0]
    >>> print(f'{strongest.layer}, group {strongest.group}: {strongest.inside:.0%} of the change is where it is active')
    b..., group ...: ...% of the change is where it is active
"""

import dataclasses

import numpy as np
import scipy.ndimage
import torch

from sarigan_plugin.steering import groupings
from sarigan_plugin.steering.attention import attention_maps, batches_of
from sarigan_plugin.steering.edits import Edit, edited
from sarigan_plugin.support import pictures

LOCUS           = 0.2       # Share of the pixels that are a group's locus: those that it attends to most.
                            # Chance for Effect.inside.
GREY_LEVELS     = 127.5     # In a unit of G's images, which are in [-1, 1].
COLUMNS         = 5         # Of draw(), for each image.

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Effect:
    """What turning the inter-group code of one group down and up does to the image;
    means over images and both turns."""
    layer:      str         # E.g. 'b16.conv0'.
    group:      int         # Index in [0, g).
    channels:   int         # In the group.
    strength:   float       # Root mean square change of the pixels, in grey levels of 255.
    inside:     float       # Share of the squared change inside the group's locus; LOCUS if it were anywhere.
    elsewhere:  float       # The same inside the loci of the layer's other groups, their mean; nan for an only group.
    spill:      float       # Mean distance of the squared change from the locus, in widths of the image.
    centre:     tuple       # (x, y) of the squared change, from (0, 0) top left to (1, 1).
    moves:      dict        # {attribute: change of its score from down to up}; {} without scorer.

    @property
    def place(self):
        return self.layer, self.group

    @property
    def strongest_moves(self):
        """The attributes that it moves, those that it moves most first: [(name, change)]."""
        return sorted(self.moves.items(), key=lambda item: -abs(item[1]))

def locus(maps, size):
    """Where a group attends: the LOCUS of the pixels of each image with the highest values of its map.

    maps: [..., h, w], enlarged to size = [H, W] first. Returns bool [..., H, W].
    """
    maps = torch.nn.functional.interpolate(maps.flatten(0, -3)[:, None].float(), size=size,
        mode='bilinear')[:, 0].unflatten(0, maps.shape[:-2])
    pixels = maps.flatten(-2)
    top = pixels.topk(max(round(LOCUS * pixels.shape[-1]), 1), dim=-1).indices
    return torch.zeros_like(pixels, dtype=torch.bool).scatter_(-1, top, True).view_as(maps)

class _Sums:
    """Adds up what Effect has the means of, image by image."""
    def __init__(self):
        self.pixels, self.change, self.inside, self.elsewhere, self.spill = 0, 0, 0, 0, 0
        self.centre = np.zeros(2)
        self.scores = {'down': [], 'up': []} # Of each batch, {attribute: [N]}.

    def add(self, change, loci, group, others, distance):
        """change: [NHW] squared; loci: bool [NgHW]; others: the layer's other groups; distance:
        [NHW] from the group's locus."""
        height, width = change.shape[1:]
        total = change.sum(dtype=torch.float64).item()
        self.pixels += change.numel()
        self.change += total
        self.inside += (change * loci[:, group]).sum(dtype=torch.float64).item()
        self.elsewhere += (np.mean([(change * loci[:, other]).sum(dtype=torch.float64).item() for other in others])
            if others else np.nan)
        self.spill += (change * distance).sum(dtype=torch.float64).item() / width
        columns, rows = (change.sum(dim=[0,1], dtype=torch.float64).cpu().numpy(),
            change.sum(dim=[0,2], dtype=torch.float64).cpu().numpy())
        self.centre += [columns @ (np.arange(width) + 0.5) / width, rows @ (np.arange(height) + 0.5) / height]

    def effect(self, layer, group, channels):
        total = max(self.change, 1e-30)
        return Effect(layer, group, channels, strength=(self.change / self.pixels) ** 0.5 * GREY_LEVELS,
            inside=self.inside / total,
            elsewhere=self.elsewhere / total, spill=self.spill / total, centre=tuple((self.centre / total).tolist()),
            moves=self._moves())

    def _moves(self):
        down, up = (_joined(batches) for batches in [self.scores['down'], self.scores['up']])
        return {name: float((up[name] - down[name]).mean()) for name in up}

def _joined(batches):
    """[{name: [N]}] -> {name: [N of all]}."""
    return {name: np.concatenate([batch[name] for batch in batches]) for name in (batches[0] if batches else {})}

@torch.no_grad()
def measure(G, ws, down=0, up=2, scorer=None, layers=None, progress=lambda jobs: jobs):
    """The Effect of every channel group that has channels, the strongest first.

    ws:       [N, num_ws, w_dim], the images to look at.
    down, up: what the group's inter-group code is multiplied by.
    scorer:   Called with images, uint8 [N, H, W, 3]; returns {attribute: [N]}.
    layers:   Names of the layers to look at, None = all.
    progress: Wraps the list of jobs, e.g. in a progress bar.
    """
    chosen = {name: groups for name, groups in groupings.of(G).items() if layers is None or name in layers}
    batches = batches_of(G, ws)
    sums = {(name, group): _Sums() for name, groups in chosen.items() for group in groups.live}
    seen = dict()
    for batch, (name, group) in progress([(batch, place) for batch in batches for place in sums]):
        if seen.get('batch') is not batch:
            images, maps = attention_maps(G, batch)
            seen = dict(batch=batch)
        if seen.get('layer') != name:
            loci = locus(maps[name], images.shape[2:]) # Of one layer at a time: they are as large as images.
            seen['layer'] = name
        distance = _distance_from(loci[:, group])
        others = [other for layer, other in sums if layer == name and other != group]
        for turn, scale in [('down', down), ('up', up)]:
            with edited(G, [Edit(name, group, inter_scale=scale)]):
                changed = G.synthesis(batch, noise_mode='const')
            sums[name, group].add((changed - images).square().mean(dim=1), loci, group, others, distance)
            if scorer is not None:
                sums[name, group].scores[turn].append(scorer(pictures.to_uint8(changed)))

    channels = {name: groups.sizes() for name, groups in chosen.items()}
    effects = [of_group.effect(name, group, channels[name][group]) for (name, group), of_group in sums.items()]
    return sorted(effects, key=lambda effect: -effect.strength)

def _distance_from(loci):
    """Of each pixel to the nearest one in the locus. bool [NHW] -> [NHW], pixels."""
    distance = [scipy.ndimage.distance_transform_edt(~of_image) for of_image in loci.cpu().numpy()]
    return torch.from_numpy(np.stack(distance)).to(loci.device, torch.float32)

#----------------------------------------------------------------------------
# Pictures.

@torch.no_grad()
def draw(G, ws, effects, down=0, up=2, label=None, size=64):
    """One row per Effect: for each of the images what the group attends to,
    the image with the group turned down and up, and
    what changed. ws: [N, num_ws, w_dim]; label: Effect -> text. Returns an image."""
    blocks = []
    for w in ws.split(1): # One at a time: the features of all layers are large.
        image, maps = attention_maps(G, w)
        tiles = np.concatenate([_draw_effect(G, w, image, maps[effect.layer][:, effect.group], effect, down, up)
            for effect in effects])
        blocks.append(pictures.sheet(pictures.enlarge(tiles, size), columns=COLUMNS))
    title = (f'For {len(ws)} images: attention | inter-group code times {down:g} | as it is | times {up:g} '
        '| what changes')
    labels = [(label or describe)(effect) for effect in effects]
    return pictures.caption(pictures.mosaic(blocks, columns=len(blocks)), title, labels,
        blocks[0].height // len(effects))

def _draw_effect(G, w, image, attention, effect, down, up):
    """The columns of one image and group. image: [1CHW]; attention: [1hw]. Returns uint8 [COLUMNS, H, W, 3]."""
    turned = []
    for scale in [down, up]:
        with edited(G, [Edit(*effect.place, inter_scale=scale)]):
            turned.append(G.synthesis(w, noise_mode='const'))
    change = sum((after - image).square().mean(dim=1) for after in turned).sqrt()
    before = pictures.to_uint8(image)
    return np.concatenate([pictures.heat_overlay(before, attention), pictures.to_uint8(turned[0]), before,
        pictures.to_uint8(turned[1]),
        pictures.heat_overlay(before, change)])

def describe(effect):
    return f'{effect.layer}, group {effect.group}'

#----------------------------------------------------------------------------
