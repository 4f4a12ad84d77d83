"""What the channel groups of a generator attend to (Fig. 3), how good they are, and what each one moves."""

import contextlib
import dataclasses
import functools
import math
import os

import numpy as np
import torch

from sarigan_plugin.model.grouped import captured_features
from sarigan_plugin.model.grouping import RESPONSE_SIDE, channel_responses, cosine_similarity
from sarigan_plugin.steering import attention_page, groupings, names
from sarigan_plugin.steering.edits import Edit, edited
from sarigan_plugin.steering.groupings import group_maps
from sarigan_plugin.steering.sampling import sample_ws
from sarigan_plugin.support import files, pictures
from sarigan_plugin.support.bars import progressbar

NO_NAMES        = names.GroupNames()
NUM_SHUFFLES    = 8         # Random groups that the coherence of attention maps is compared with.
MAX_PIXELS      = 2 ** 19   # Of the images that are made at once: features of one at 1024x1024 take 400 MB.
MAX_SIDE        = 128       # Of the images and attention maps that are kept for pictures.

#----------------------------------------------------------------------------
# Attention.

def capture_features(G, ws, **synthesis_kwargs):
    """Run the generator and keep what each layer with groups gets.

    Returns (images [N, C, H, W], {layer name: [N, C, h, w]}).
    """
    layers = {name: layer for groups in groupings.of(G).values() for name, layer in groups.layers.items()}
    with captured_features(G.synthesis, layers) as features:
        images = G.synthesis(ws, noise_mode='const', **synthesis_kwargs)
    return images, {name: x.float() for name, x in features.items()}

def attention_maps(G, ws, **synthesis_kwargs):
    """The mean of the feature maps of each group, at the input of each grouped layer (Fig. 3).

    ws: [N, num_ws, w_dim]. synthesis_kwargs: such as the condition c of inpainting. Returns (images [N, C, H, W],
    {layer name: [N, g, h, w]}). An empty group's map is zero; of linked groups see LinkedGroups.maps().
    """
    images, features = capture_features(G, ws, **synthesis_kwargs)
    return images, {name: groups.maps(features) for name, groups in groupings.of(G).items()}

#----------------------------------------------------------------------------
# How good groups are.

def _neighbour_products(maps):
    """What spatial_coherence() is made of, for each image: [N, K, h, w] -> ([N, K], [N, K])."""
    lag = max(maps.shape[-1] // 16, 1)
    maps = maps - maps.mean(dim=[2,3], keepdim=True)
    right = (maps[..., lag:] * maps[..., :-lag]).mean(dim=[2,3])
    down = (maps[..., lag:, :] * maps[..., :-lag, :]).mean(dim=[2,3])
    return (right + down) / 2, maps.square().mean(dim=[2,3])

def spatial_coherence(maps):
    """Correlation of each map with itself, shifted right or down by 1/16 of its side, a pixel at least:
    Moran's I at that lag.

    maps: [N, K, h, w]. Returns [K], over the pixels of all N images less the mean of each: near 1 for one large blob,
    about 0 for noise, negative where neighbours differ. nan for a map that is flat in every image.
    """
    near, same = _neighbour_products(maps)
    return near.mean(dim=0) / same.mean(dim=0)

def pair_means(matrix, membership):
    """Means of a [C, C] matrix over pairs of different channels: two of one group,
    and one of it and one of another group.

    membership: [C, g] one-hot. Returns (within, between), [1 + g] each: for all groups together, then for each of them.
    nan where there is no such pair.
    """
    def means(totals, counts):
        totals, counts = (torch.cat([of_groups.sum()[None], of_groups]) for of_groups in [totals, counts])
        return torch.where(counts > 0, totals / counts, torch.nan)

    sizes = membership.sum(dim=0)
    sums = membership.t() @ matrix @ membership # [gg]
    within = means(sums.diagonal() - membership.t() @ matrix.diagonal(), sizes * (sizes - 1))
    return within, means(sums.sum(dim=1) - sums.diagonal(), sizes * (len(matrix) - sizes))

class _LayerSurvey:
    """What there is to see of the groups of one layer, gathered a few images at a time."""
    def __init__(self, groups):
        """groups: groupings.LayerGroups."""
        assignment, num_groups = groups.assignment, groups.num_groups
        random = torch.Generator().manual_seed(0)
        shuffled = [assignment[torch.randperm(len(assignment), generator=random).to(assignment.device)]
            for _shuffle in range(NUM_SHUFFLES)]
        # [Cg]
        self.memberships = [torch.nn.functional.one_hot(groups_, num_groups).to(torch.float32)
            for groups_ in [assignment, *shuffled]]
        self.name = groups.name
        self.kernels = groups.source.weight
        self.maps = []
        self.responses = []
        self.products = [[] for _membership in self.memberships]

    def add(self, features):
        """features: {layer: [N, C, h, w]}."""
        features = features[self.name]
        stride = max(features.shape[-1] // RESPONSE_SIDE, 1)
        # All that channel_responses() looks at; a copy, so that the rest can go.
        self.responses.append(features[:, :, ::stride, ::stride].contiguous())
        for index, (membership, products) in enumerate(zip(self.memberships, self.products)):
            maps = group_maps(features, membership)
            products.append(_neighbour_products(maps))
            if index == 0:
                self.maps.append(_kept(maps))

    def quality(self):
        """See Survey."""
        coherence = [] # [g] of the groups, then of random ones.
        for products in self.products:
            near, same = (torch.cat(part).mean(dim=0) for part in zip(*products))
            coherence.append(near / same)
        columns = dict(coherence=torch.cat([coherence[0].nanmean()[None], coherence[0]]))
        for what, matrix in [('kernel', cosine_similarity(self.kernels)),
                ('response', cosine_similarity(channel_responses(torch.cat(self.responses))))]:
            columns[f'{what}_within'], columns[f'{what}_between'] = pair_means(matrix, self.memberships[0])
        columns = {key: values.tolist() for key, values in columns.items()}
        quality = {key: values[0] for key, values in columns.items()}
        quality['coherence_random'] = float(np.mean([of_groups.nanmean().item() for of_groups in coherence[1:]]))
        sizes = self.memberships[0].sum(dim=0).int().tolist()
        quality['groups'] = [dict(size=size, **{key: values[1 + group] for key, values in columns.items()})
            for group, size in enumerate(sizes)]
        return quality

class _LinkedSurvey:
    """The same of linked groups, whose channels are of many layers: coherence alone can be told of them."""
    def __init__(self, groups):
        """groups: groupings.LinkedGroups."""
        self.groups = groups
        self.maps = []
        self.products = []

    def add(self, features):
        maps = self.groups.maps(features)
        self.products.append(_neighbour_products(maps))
        self.maps.append(_kept(maps))

    def quality(self):
        near, same = (torch.cat(part).mean(dim=0) for part in zip(*self.products))
        coherence = near / same
        none = dict.fromkeys(['kernel_within', 'kernel_between', 'response_within', 'response_between'], math.nan)
        return dict(none, coherence=coherence[:self.groups.num_found].nanmean().item(),
            coherence_random=math.nan, groups=[dict(none, size=size, coherence=of_group)
                for size, of_group in zip(self.groups.sizes(), coherence.tolist())])

def _kept(maps):
    return torch.nn.functional.adaptive_avg_pool2d(maps, min(maps.shape[-1], MAX_SIDE)).cpu()

def _surveyed_by(groups):
    return _LinkedSurvey(groups) if groups.name == groupings.LINKED else _LayerSurvey(groups)

@dataclasses.dataclass
class Survey:
    """What the groups of all layers do on some images.

    quality says how alike channels are inside a group, and between groups: their kernels (Eq. 1), and where in images
    they respond; and how smooth the attention maps are. For each layer it has kernel_within, kernel_between,
    response_within and response_between: mean cosine of the kernels, and mean correlation of the feature maps over the
    pixels of all images, of two channels of one group and of two groups, nan where there is no such pair; coherence and
    coherence_random: the mean spatial_coherence() of the groups' attention maps, and that of random groups of the same
    sizes; and groups: a list with the first five and the size of each group.
    """
    images:     np.ndarray  # uint8 [N, H, W, 3], at most MAX_SIDE wide.
    maps:       dict        # {layer name: attention maps [N, g, h, w]}, at most MAX_SIDE wide.
    quality:    dict        # {layer name: dict}.

def survey(G, ws, bar=contextlib.nullcontext):
    """Look at all groups. ws: [N, num_ws, w_dim]. bar: shows how far a list is, like progressbar. Returns a Survey."""
    layers = {name: _surveyed_by(groups) for name, groups in groupings.of(G).items()}
    images = []
    with bar(batches_of(G, ws)) as batches:
        for batch in batches:
            rendered, features = capture_features(G, batch)
            images.append(pictures.shrink(pictures.to_uint8(rendered), MAX_SIDE))
            for layer in layers.values():
                layer.add(features)
    return Survey(np.concatenate(images), {name: torch.cat(layer.maps) for name, layer in layers.items()},
        {name: layer.quality() for name, layer in layers.items()})

def batches_of(G, ws):
    """ws [N, num_ws, w_dim] in parts whose images are made at once."""
    return ws.split(max(MAX_PIXELS // G.img_resolution ** 2, 1))

#----------------------------------------------------------------------------
# What groups move.

def group_effects(G, ws, inter_scale=0, bar=contextlib.nullcontext):
    """How much each group moves one part of the image and leaves the rest, when its inter code is scaled.

    With a the mean change of the quarter of pixels that change most, and b that of the others: (a - b)^2 / a, which is
    a where the rest stays as it is, and nothing where all changes alike. bar: see survey(). Returns {(layer name,
    group): effect}.
    """
    before = G.synthesis(ws, noise_mode='const')
    effects = dict()
    with bar([(name, group) for name, groups in groupings.of(G).items() for group in groups.shown]) as places:
        for place in places:
            with edited(G, [Edit(*place, inter_scale)]):
                change = (G.synthesis(ws, noise_mode='const') - before).abs().mean(dim=1).flatten(1) # [N, HW]
            ranked = change.sort(dim=1, descending=True).values
            quarter = ranked.shape[1] // 4
            inside, outside = ranked[:, :quarter].mean(), ranked[:, quarter:].mean()
            effects[place] = ((inside - outside).square() / inside.clamp(min=1e-12)).item()
    return effects

#----------------------------------------------------------------------------
# Pictures and figures.

def draw_overlays(surveyed):
    """Every group's attention maps laid over the images: {layer name: [uint8 [N, H, W, 3] for each group]}."""
    return {name: [pictures.heat_overlay(surveyed.images, of_group) for of_group in maps.unbind(dim=1)]
        for name, maps in surveyed.maps.items()}

def draw_groups(surveyed, layers, overlays, size=64):
    """One block per layer: the images, then the overlays of every group. layers: see describe(). Returns an image."""
    images = pictures.enlarge(surveyed.images, size)
    blocks = []
    for layer in layers:
        rows = [images, *[pictures.enlarge(overlays[layer['name']][group['group']], size) for group in layer['groups']]]
        labels = ['images', *[f'{group["label"]}: {group["size"]}' for group in layer['groups']]]
        title = (f'{layer["name"]}: {layer["channels"]} channels in {len(layer["groups"])} groups, '
            'mean feature map of each')
        blocks.append(pictures.caption(pictures.sheet(np.concatenate(rows), columns=len(images)), title, labels,
            images.shape[1] + 2))
    return pictures.mosaic(blocks, columns=min(len(blocks), 2))

def draw_strip(G, ws, layer_name, group, known=NO_NAMES, scales=(-2, -1, 0, 0.5, 1, 1.5, 2, 3), size=96):
    """One row per image: the inter code of one group scaled, everything else kept (Fig. 5). Returns an image."""
    columns = []
    for scale in scales:
        with edited(G, [Edit(layer_name, group, inter_scale=scale)]):
            columns.append(np.concatenate([pictures.shrink(pictures.to_uint8(G.synthesis(batch, noise_mode='const')),
                2 * size) for batch in batches_of(G, ws)]))
    return pictures.strip(columns, f'{layer_name}, {known.label(layer_name, group)}: '
        f'inter-group code times {", ".join(f"{s:g}" for s in scales)}', size=size)

def describe(G, surveyed, effects, known):
    """All figures, for people and for attention.json: a list of layers, each with a list of its groups.

    None stands for nan, and for the temperature and threshold of groups that are not learned.
    """
    layers = []
    for name, groups in groupings.of(G).items():
        quality = dict(surveyed.quality[name])
        of_groups = quality.pop('groups')
        layers.append(_rounded(dict(name=name, **groups.facts(), **quality)))
        layers[-1]['groups'] = [_rounded(dict(group=group, name=known.of(name, group), label=known.label(name, group),
            effect=effects[name, group], **of_groups[group])) for group in groups.shown]
    return layers

def _rounded(row):
    return {key: (None if math.isnan(value) else round(value, 6)) if isinstance(value, float) else value
        for key, value in row.items()}

#----------------------------------------------------------------------------

def draw_all(G, network, outdir, seeds, trunc=0.7, class_idx=0, known=NO_NAMES):
    """Write all that the command leaves into an existing folder. network: what to call it. Returns (paths, Survey)."""
    ws = sample_ws(G, seeds, trunc, class_idx)
    surveyed = survey(G, ws, functools.partial(progressbar, label='Looking at groups'))
    # One run for each group: few images will do.
    effects = group_effects(G, batches_of(G, ws)[0], bar=functools.partial(progressbar, label='Turning groups off'))
    strongest = max(effects, key=effects.get)
    layers = describe(G, surveyed, effects, known)
    overlays = draw_overlays(surveyed)
    figures = dict(version=1, network=files.printable(os.path.basename(os.path.normpath(network))), seeds=list(seeds),
        trunc=trunc, class_idx=class_idx if G.c_dim > 0 else None,
        strongest=dict(layer=strongest[0], group=strongest[1]), layers=layers)

    paths = [os.path.join(outdir, name) for name in ['index.html', 'attention.json', 'groups.png', 'strip.png']]
    pictures.save(draw_groups(surveyed, layers, overlays), paths[2])
    pictures.save(draw_strip(G, ws, *strongest, known), paths[3])
    files.write_json(paths[1], figures)
    attention_page.write(paths[0], figures, surveyed.images, overlays)
    return paths, surveyed

#----------------------------------------------------------------------------
