"""Groups that are better by trial: all of a group's channels are exchanged at once, with one more or one less.

    >>> from sarigan_plugin.steering import channel_effects, channel_products, channel_trials, sampling
    >>> from sarigan_plugin.snapshots import reading
    >>> G = reading.load('network.pkl', 'network')
    >>> ws = sampling.sample_ws(G, seeds=range(64), trunc=1)
    >>> strongest = channel_effects.strongest(channel_effects.screen(G, ws[:4]), 10)
    >>> products = channel_products.products(G, ws[:4], ws, strongest)
    >>> places = channel_products.effects(products, strongest).places()
    >>> channel_trials.improve(G, ws, places, products, torch.eye(4, 10) > 0, num_groups=2).shape
    torch.Size([10])

Products of single channels' changes tell what a set does to first order, and in the images that they were measured in.
Trials tell what it does, but one set at a time.
"""

import torch

from sarigan_plugin.steering import channel_effects, groupings
from sarigan_plugin.steering.channel_effects import (
    GRID,
    Rendering,
    batches,
    cells,
    exchanged_styles,
)
from sarigan_plugin.steering.channel_products import SHARE, changes_of_sets, worth
from sarigan_plugin.steering.styles import styled_layers

SPARE           = 2     # Times as many groups are tried as are kept.
JOINING         = 12    # Channels that are tried in each group, of those in none; by products they promise the most.
LEAST_GAIN      = 1e-4  # In worth, for which a channel goes or comes.
LEAST_CHANNELS  = 2     # Of a group; one channel alone is none.
PER_SET         = 20    # Changes of each set that are tried, more or less.
MOST_SETS       = 600   # What is tried in all, with 16 groups: larger networks than allow it are left out.

#----------------------------------------------------------------------------

class Trials:
    """Images that sets of channels are tried in."""

    def __init__(self, G, ws, places):
        """ws: [N, num_ws, w_dim]. places: [(layer, channel)] of K channels."""
        self.layers, self.places = styled_layers(G), places
        others = exchanged_styles(G, ws)
        self.parts = [(Rendering(G, own), dict(zip(others, theirs)))
            for own, *theirs in batches(G, ws, *others.values())]

    @torch.no_grad()
    def changes(self, members):
        """What exchanging all of a set changes, float64 [GRID^2], mean of images. members: bool [K]."""
        channels = {}
        for index in members.nonzero()[:, 0].tolist():
            layer, channel = self.places[index]
            channels.setdefault(layer, []).append(channel)
        masks = groupings.masks_of(self.layers, channels)
        total, count = torch.zeros([GRID ** 2], dtype=torch.float64), 0
        for rendering, others in self.parts:
            after = rendering.exchanged(self.layers, masks, others)
            total += cells((after - rendering.images).square()).sum(dim=0).double().cpu()
            count += len(after)
        return total / count

#----------------------------------------------------------------------------

def improve(G, ws, places, products, sets, num_groups, progress=lambda jobs, label: jobs):
    """The best of some sets, without channels that they are better without, and with some that they are better with.

    All sets are tried in the first half of the images, and those worth most, see channel_products.worth(), again in
    all images. Returns int64 [K], in [0, num_groups], the last of which are in no group.

    ws:         [N, num_ws, w_dim], the images.
    places:     [(layer, channel)] of K channels.
    products:   [GRID^2, K, K], see channel_products.products().
    sets:       bool [num_groups or more, K].
    progress:   Wraps the list of jobs, e.g. in a progress bar of that label.
    """
    for images, label in [(ws[:(len(ws) + 1) // 2], 'Trying groups'), (ws, 'Trying the best')]:
        trials, sets = Trials(G, images, places), sets.clone()
        least = SHARE / num_groups * trials.changes(torch.ones(len(places), dtype=torch.bool)).sum()
        values = [_improve_set(trials, products, sets, index, num_groups, least)
            for index in progress(list(range(len(sets))), label)]
        sets = sets[torch.tensor(values).argsort(descending=True)[:num_groups]]
    return torch.cat([sets, ~sets.any(dim=0, keepdim=True)]).int().argmax(dim=0)

def _improve_set(trials, products, sets, index, num_groups, least):
    """Change one of the sets, bool [sets, K], by channels of its own and of none. Returns what it is worth then."""
    own, none = sets[index], ~sets.any(dim=0)
    best = worth(trials.changes(own), least).item() if own.sum() >= LEAST_CHANNELS else 0
    for channel in [*own.nonzero()[:, 0].tolist(), *_promising(products, own, none, num_groups)]:
        own[channel] = ~own[channel]
        value = worth(trials.changes(own), least).item() if own.sum() >= LEAST_CHANNELS else 0
        if value > best + LEAST_GAIN:
            best = value
        else:
            own[channel] = ~own[channel]
    return best

def _promising(products, own, none, num_groups):
    """Up to JOINING channels of those in no set, with which the set would be worth most by products."""
    joined = own | torch.eye(len(own), dtype=torch.bool)
    values = worth(changes_of_sets(products, joined), SHARE / num_groups * products.sum())
    return values.where(none, -1).argsort(descending=True)[:min(JOINING, int(none.sum()))].tolist()

def images(num_images, num_groups):
    """How many images improve() makes, more or less, where sets are tried in num_images."""
    return round(num_groups * PER_SET * (SPARE / 2 + 1) * num_images)

def affordable(G, num_images):
    """Whether that is within what exchanges may take."""
    return channel_effects.affordable(G, num_images) >= MOST_SETS
