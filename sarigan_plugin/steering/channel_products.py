"""What sets of channels change, from what single ones do; and sets that each change one place.

    >>> from sarigan_plugin.steering import channel_effects, channel_products
    >>> from sarigan_plugin.steering import sampling
    >>> from sarigan_plugin.steering.styles import styled_layers
    >>> from sarigan_plugin.snapshots import reading
    >>> G = reading.load('network.pkl', 'network')
    >>> ws = sampling.sample_ws(G, seeds=range(64), trunc=1)
    >>> strongest = channel_effects.strongest(channel_effects.screen(G, ws[:4]), 10)
    >>> products = channel_products.products(G, ws[:4], ws, strongest)
    >>> start = channel_effects.cluster(channel_products.effects(products, strongest).rows(), num_groups=2)
    >>> channel_products.gather(products, start, least=0.01 * products.sum()).shape
    torch.Size([10])

Squared changes of channels do not add up: channels strengthen or cancel each other. Changes themselves add up to first
order, so that products of two channels' changes say what every set does.
"""

import torch

from sarigan_plugin.steering.channel_effects import (
    GRID,
    Effects,
    Rendering,
    batches,
    block_of,
)
from sarigan_plugin.steering.styles import layer_styles, restyled, styled_layers

SIDE        = 64        # Changes of larger images are sketched in so many rows and columns.
MAX_VALUES  = 2 ** 26   # Of changes that are kept at once.
SHARE       = 0.08      # Of the change of everything: what groups are to have at least, equal parts of it each.
SWEEPS      = 50        # Over all channels, at most, that change places.
LEAST_GAIN  = 1e-9      # In selectivity, for which a channel moves.

#----------------------------------------------------------------------------

@torch.no_grad()
def products(G, ws, partners, channels, progress=lambda jobs: jobs):
    """Of each two channels the expected product of their changes: float64 [GRID^2, K, K].

    If d_ik is the change of image i for a step of 1 of channel k's style, and all channels of a set S get the styles
    of another image j, image i changes by the sum of (s_jk - s_ik) d_ik over S, to first order. So the mean over i and
    j of its squared change in a cell is the sum of P_kl over k and l in S, with

        P_kl = mean over i of  d_ik . d_il  (covariance_kl + (mean_k - s_ik) (mean_l - s_il))

    of the styles of the images j. Images count alike: P_kl of each is over the sum of all channels' P_kk in it, times
    the mean of these sums. d is found with one step, as large as an exchange is, root mean square.

    ws:       [N, num_ws, w_dim], the images.
    partners: [M, num_ws, w_dim], those whose styles are exchanged for. No images are made of them: take many.
    channels: {layer: int64 [K]}.
    progress: Wraps the list of jobs, e.g. in a progress bar.
    """
    layers = styled_layers(G)
    places = Effects(channels, None, None, []).places()
    mean, covariance = _moments(_styles(layers, channels, partners))
    values = min(G.img_resolution, SIDE) ** 2 * 4 * len(places)
    parts = [part for batch, in batches(G, ws) for part in batch.split(max(MAX_VALUES // values, 1))]
    total, weights, seen = torch.zeros([GRID ** 2, len(places), len(places)], dtype=torch.float64), [], None
    for part, index in progress([(part, index) for part in range(len(parts)) for index in range(len(places))]):
        if seen != part:
            seen, rendering, slopes = part, Rendering(G, parts[part]), []
            away = mean - _styles(layers, channels, parts[part]) # [n, K]
            steps = (covariance.diagonal() + away.square()).sqrt().copysign(away)
        name, channel = places[index]
        with restyled(layers[name], _with_step(channel, steps[:, index])):
            change = rendering.again(block_of(name)) - rendering.images
        slopes.append(sketched(change) / _nonzero(steps[:, index]).to(change)[:, None, None, None])
        if len(slopes) == len(places):
            for slopes_of_image, to_mean in zip(torch.stack(slopes, dim=1), away):
                of_image = _cell_products(slopes_of_image) * (covariance + to_mean.outer(to_mean))
                weights.append(of_image.diagonal(dim1=1, dim2=2).sum().item())
                total += of_image / max(weights[-1], 1e-30)
    return total * sum(weights) / len(weights) ** 2

def _styles(layers, channels, ws):
    """float64 [N, K], on the CPU."""
    return torch.cat([layer_styles(layers[name], ws[:, 0])[:, of_layer.to(ws.device)]
        for name, of_layer in channels.items()], dim=1).double().cpu()

def _moments(styles):
    """(mean [K], covariance [K, K]) of [M, K], over M."""
    mean = styles.mean(dim=0)
    return mean, (styles - mean).t() @ (styles - mean) / len(styles)

def _nonzero(steps):
    return torch.where(steps == 0, torch.ones_like(steps), steps)

def _with_step(channel, steps):
    """What moves one channel of styles [N, C] by steps [N]."""
    def change(own):
        own = own.clone()
        own[:, channel] += steps.to(own)
        return own
    return change

def _cell_products(slopes):
    """[K, C, H, W] -> float64 [GRID^2, K, K], means over the values of each cell."""
    count, colours, height, width = slopes.shape
    of_cells = slopes.view(count, colours, GRID, height // GRID, GRID, width // GRID).permute(2, 4, 0, 1, 3, 5)
    of_cells = of_cells.reshape(GRID ** 2, count, -1)
    return (of_cells @ of_cells.transpose(1, 2) / of_cells.shape[2]).double().cpu()

def sketched(changes):
    """Changes [N, C, H, W] in at most SIDE x SIDE values, the mean product of which is expected to be the same.

    Sums over blocks with random signs, always the same ones, over the root of how many values a block has.
    """
    block = changes.shape[-1] // SIDE
    if block <= 1:
        return changes
    random = torch.Generator().manual_seed(0)
    signs = torch.randint(2, changes.shape[1:], generator=random).to(changes) * 2 - 1
    return torch.nn.functional.avg_pool2d(changes * signs, block) * block

def effects(products, channels):
    """The Effects of single channels that products [GRID^2, K, K] tell of."""
    grid = products.diagonal(dim1=1, dim2=2).t().contiguous()
    return Effects(channels, grid, grid.new_zeros([len(grid), 0]), [])

#----------------------------------------------------------------------------

def changes_of_sets(products, members):
    """Expected squared changes [sets, GRID^2] of sets, members bool or float [sets, K]."""
    members = members.to(products)
    return torch.einsum('sk,ckl,sl->sc', members, products, members)

def worth(changes, least):
    """What a group is worth: the share of its change that is in the one cell where it is largest.

    Less in proportion if all of its change is less than `least`. changes: [..., GRID^2].
    """
    total = changes.sum(dim=-1).clamp(min=1e-30)
    return changes.amax(dim=-1) / total * (total / least).clamp(max=1)

def gather(products, start, least):
    """Move channels from group to group, or to none, as long as groups become more selective, see worth().

    What is in no group counts nothing.

    products: [GRID^2, K, K]. start: int64 [K], in [0, num_groups), none of them empty. least: What a group is to
    change. Returns int64 [K], in [0, num_groups], the last of which are in no group.
    """
    group, number = start.clone(), int(start.max()) + 1
    members = torch.nn.functional.one_hot(group, number + 1).t().to(products)
    shared = torch.einsum('ckl,gl->gck', products, members) # What each channel has in common with each group.
    changes = torch.einsum('gck,gk->gc', shared, members)
    alone = products.diagonal(dim1=1, dim2=2).t() # [K, GRID^2]
    random = torch.Generator().manual_seed(0)

    for _sweep in range(SWEEPS):
        before = group.clone()
        for channel in torch.randperm(len(group), generator=random).tolist():
            own = int(group[channel])
            if own < number and members[own].sum() == 1:
                continue
            without = changes[own] - 2 * shared[own, :, channel] + alone[channel]
            joined = changes + 2 * shared[:, :, channel] + alone[channel]
            gains = worth(joined, least) - worth(changes, least)
            gains[number] = 0
            loss = worth(changes[own], least) - worth(without, least) if own < number else 0
            gains = gains - loss
            gains[own] = LEAST_GAIN
            best = int(gains.argmax())
            if best == own:
                continue
            members[own, channel], members[best, channel] = 0, 1
            shared[own] -= products[:, :, channel]
            shared[best] += products[:, :, channel]
            changes[own], changes[best] = without, joined[best]
            group[channel] = best
        if torch.equal(before, group):
            break
    return group

#----------------------------------------------------------------------------
