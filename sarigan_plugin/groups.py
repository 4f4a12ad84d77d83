"""What the channel groups of a generator attend to (Fig. 3), how good they are, and what each one moves."""

import os

import click
import numpy as np
import torch

from sarigan_plugin import names
from sarigan_plugin import pictures
from sarigan_plugin import snapshot
from sarigan_plugin.cli import UserError
from sarigan_plugin.edit import Edit, edited
from sarigan_plugin.generate import Number, NumberRange, sample_ws
from sarigan_plugin.grouping import channel_responses, cosine_similarity
from sarigan_plugin.networks import captured_features, grouped_layers

NUM_SHUFFLES = 8 # Random groups that the coherence of attention maps is compared with.

#----------------------------------------------------------------------------

def capture_features(G, ws):
    """Run the generator and keep what each grouped layer gets. Returns (images [N, C, H, W], {layer name: [N, C, h, w]})."""
    with captured_features(G.synthesis) as features:
        images = G.synthesis(ws, noise_mode='const')
    return images, {name: x.float() for name, x in features.items()}

def group_maps(features, membership):
    """The mean of the feature maps of each group. [N, C, h, w], [C, g] one-hot -> [N, g, h, w], zero for an empty group."""
    return torch.einsum('nchw,cg->nghw', features, membership / membership.sum(dim=0).clamp(min=1))

def attention_maps(G, ws):
    """The mean of the feature maps of each group, at the input of each grouped layer (Fig. 3).

    ws: [N, num_ws, w_dim]. Returns (images [N, C, H, W], {layer name: [N, g, h, w]}). An empty group's map is zero.
    """
    images, features = capture_features(G, ws)
    return images, {name: group_maps(features[name], layer.grouping()) for name, layer, _source in grouped_layers(G.synthesis)}

def spatial_coherence(maps):
    """Correlation of each map with itself, shifted right or down by 1/16 of its side, a pixel at least: Moran's I at that lag.

    maps: [N, K, h, w]. Returns [K], over the pixels of all N images less the mean of each: near 1 for one large blob, about 0
    for noise, negative where neighbours differ. nan for a map that is flat in every image.
    """
    lag = max(maps.shape[-1] // 16, 1)
    maps = maps - maps.mean(dim=[2,3], keepdim=True)
    right = (maps[..., lag:] * maps[..., :-lag]).mean(dim=[0,2,3])
    down = (maps[..., lag:, :] * maps[..., :-lag, :]).mean(dim=[0,2,3])
    return (right + down) / 2 / maps.square().mean(dim=[0,2,3])

def _coherence_of_groups(features, assignment, num_groups):
    """Mean over the groups that have channels. [N, C, h, w], [C] -> float."""
    membership = torch.nn.functional.one_hot(assignment, num_groups).to(features.dtype)
    return spatial_coherence(group_maps(features, membership)).nanmean().item()

def cluster_quality(G, ws):
    """How alike channels are inside a group, and between groups: their kernels (Eq. 1), and where in images they respond;
    and how smooth the attention maps are.

    ws: [N, num_ws, w_dim], the images to look at.
    Returns {layer name: dict of kernel_within, kernel_between, response_within, response_between, coherence,
    coherence_random}: mean cosine of the kernels, and mean correlation of the feature maps over the pixels of all images, of two
    channels of one group and of two groups, nan where there is no such pair; the mean spatial_coherence() of the groups'
    attention maps, and that of random groups of the same sizes.
    """
    _images, features = capture_features(G, ws)
    quality = dict()
    for name, layer, source in grouped_layers(G.synthesis):
        assignment = layer.grouping.assignment
        same = assignment[:, None] == assignment
        pairs = dict(within=same & ~torch.eye(len(assignment), dtype=torch.bool, device=same.device), between=~same)
        similarity = dict(kernel=cosine_similarity(source.weight), response=cosine_similarity(channel_responses(features[name])))
        quality[name] = {f'{what}_{where}': matrix[mask].mean().item() for what, matrix in similarity.items() for where, mask in pairs.items()}
        random = torch.Generator().manual_seed(0)
        shuffled = [assignment[torch.randperm(len(assignment), generator=random).to(assignment.device)] for _shuffle in range(NUM_SHUFFLES)]
        coherence = [_coherence_of_groups(features[name], any_groups, layer.grouping.num_groups) for any_groups in [assignment, *shuffled]]
        quality[name].update(coherence=coherence[0], coherence_random=float(np.mean(coherence[1:])))
    return quality

def group_effects(G, ws, inter_scale=0):
    """How much each group moves one part of the image and leaves the rest, when its inter code is scaled.

    With a the mean change of the quarter of pixels that change most, and b that of the others: (a - b)^2 / a, which is a
    where the rest stays as it is, and nothing where all changes alike. Returns {(layer name, group): effect}.
    """
    before = G.synthesis(ws, noise_mode='const')
    effects = dict()
    for name, layer, _source in grouped_layers(G.synthesis):
        for group in layer.grouping.live_groups.tolist():
            with edited(G, [Edit(name, group, inter_scale)]):
                change = (G.synthesis(ws, noise_mode='const') - before).abs().mean(dim=1).flatten(1) # [N, HW]
            ranked = change.sort(dim=1, descending=True).values
            quarter = ranked.shape[1] // 4
            inside, outside = ranked[:, :quarter].mean(), ranked[:, quarter:].mean()
            effects[name, group] = ((inside - outside).square() / inside.clamp(min=1e-12)).item()
    return effects

#----------------------------------------------------------------------------

def draw_groups(G, ws, known=names.Names(), size=64):
    """One block per layer: the images, then every group's attention map laid over them. known: names.Names. Returns an image."""
    images, maps = attention_maps(G, ws)
    images = pictures.to_uint8(images)
    blocks = []
    for name, layer, _source in grouped_layers(G.synthesis):
        live = layer.grouping.live_groups.tolist()
        sizes = layer.grouping.assignment.bincount(minlength=layer.grouping.num_groups).tolist()
        rows = [images, *[pictures.heat_overlay(images, maps[name][:, group]) for group in live]]
        tiles = [pictures.enlarge(row, size) for row in rows]
        block = pictures.sheet(np.concatenate(tiles), columns=len(images))
        row_labels = ['images', *[f'{known.label(name, group)}: {sizes[group]}' for group in live]]
        blocks.append(pictures.caption(block, f'{name}: {sum(sizes)} channels in {len(live)} groups, mean feature map of each', row_labels, tiles[0].shape[1] + 2))
    return pictures.mosaic(blocks, columns=min(len(blocks), 2))

def draw_strip(G, ws, layer_name, group, known=names.Names(), scales=(-2, -1, 0, 0.5, 1, 1.5, 2, 3), size=96):
    """One row per image: the inter code of one group scaled, everything else kept (Fig. 5). Returns an image."""
    columns = []
    for scale in scales:
        with edited(G, [Edit(layer_name, group, inter_scale=scale)]):
            columns.append(pictures.to_uint8(G.synthesis(ws, noise_mode='const')))
    return pictures.strip(columns, f'{layer_name}, {known.label(layer_name, group)}: inter-group code times {", ".join(f"{s:g}" for s in scales)}', size=size)

#----------------------------------------------------------------------------

@click.command()
@click.argument('network', metavar='PKL')
@click.option('--outdir', help='Where to save the pictures', required=True, metavar='DIR')
@click.option('--seeds',  help='Random seeds of the images', type=NumberRange(), default='0-5', show_default=True)
@click.option('--trunc',  help='Truncation psi', type=Number(), default=0.7, show_default=True)
@snapshot.trust_option
def groups(network, outdir, seeds, trunc, trust):
    """Draw what every channel group of a SariGAN attends to (groups.png), and what the one does
    that moves one part of the image most (strip.png); print how good the groups are."""
    G = snapshot.load_grouped(network, 'PKL', trust=trust)
    known = names.load(network, G)
    try:
        os.makedirs(outdir, exist_ok=True)
        for path in draw_all(G, outdir, seeds, trunc, known):
            click.echo(click.format_filename(path))
        _print_quality(cluster_quality(G, sample_ws(G, seeds, trunc)))
    except OSError as error:
        raise UserError(f'--outdir: {outdir} cannot be written to: {error.strerror}.') from None

def _print_quality(quality):
    click.echo('\nHow alike two channels are   kernels (cosine)      responses (correlation)   Coherence of maps')
    click.echo('in one group | in two:       within   between      within   between          groups    random')
    for name, row in quality.items():
        click.echo(f'  {name:<24}{row["kernel_within"]:9.3f}{row["kernel_between"]:10.3f}{row["response_within"]:12.3f}{row["response_between"]:10.3f}'
            f'{row["coherence"]:16.3f}{row["coherence_random"]:10.3f}')

def draw_all(G, outdir, seeds, trunc=0.7, known=names.Names()):
    """Write groups.png and strip.png into an existing folder. Returns their paths."""
    ws = sample_ws(G, seeds, trunc)
    effects = group_effects(G, ws)
    strongest = max(effects, key=effects.get)
    paths = []
    for name, picture in [('groups.png', draw_groups(G, ws, known)), ('strip.png', draw_strip(G, ws, *strongest, known))]:
        paths.append(os.path.join(outdir, name))
        pictures.save(picture, paths[-1])
    return paths

#----------------------------------------------------------------------------
