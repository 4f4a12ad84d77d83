"""What comes along when images get one linked group of other images: which attributes change, and which stay.

    >>> from sarigan_plugin.datasets import drawn
    >>> from sarigan_plugin.evaluation import exchanges
    >>> from sarigan_plugin.steering import groupings, sampling
    >>> G = groupings.load('drawn16', 'network')    # With its linked groups.
    >>> ws = sampling.sample_ws(G, seeds=range(32), trunc=1)
    >>> found = exchanges.measure(G, ws, drawn.read, {name: len(values) for name, values in drawn.FACTORS.items()})
    >>> found.changed().shape                       # A share for each group and attribute.
    (10, 10)
    >>> found.separated()                           # {attribute: the group that changes it and little else}
    {...}

Index letters: N images, S groups, A attributes.
"""

import dataclasses

import numpy as np
import torch

from sarigan_plugin.evaluation.disentanglement import chance_to_differ
from sarigan_plugin.steering import channel_effects, groupings
from sarigan_plugin.support import pictures

MIN_PAIRS   = 20    # Images in which an attribute can be told before and after: a share of fewer says nothing.
OWN         = 0.5   # What a group changes in so many of them is its own,
OTHERS      = 0.1   # if it changes any other attribute in fewer than so many.
OF_DIFFERS  = 0.9   # Both are less for an attribute that is there or not, see enough().

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Exchanges:
    """What could be told before and after: which of its values an attribute has, below 0 = can't be told."""
    attributes: dict        # {name: how many values it may have}
    before:     np.ndarray  # int [N, A].
    after:      np.ndarray  # int [S, N, A], with the group of another image.

    def pairs(self):
        """int [S, A]: in how many images the attribute can be told before and after."""
        return self._in_both().sum(axis=1)

    def changed(self):
        """[S, A]: in what share of these it changes; nan where they are fewer than MIN_PAIRS."""
        count = self.pairs()
        differs = (self._in_both() & (self.after != self.before)).sum(axis=1)
        return np.where(count >= MIN_PAIRS, differs / np.maximum(count, 1), np.nan)

    def told(self):
        """[A]: in what share of the images an attribute can be told before."""
        return (self.before >= 0).mean(axis=0)

    def differs(self):
        """[A]: how likely it differs in two of these, the most that a group can change: 1 - sum p^2 of its values; nan
        where they are fewer than MIN_PAIRS."""
        return np.array([chance_to_differ(values) if (values >= 0).sum() >= MIN_PAIRS else np.nan
            for values in self.before.T])

    def enough(self):
        """[A]: in what share of the images a group has to change an attribute that is its own: OWN. One that is there
        or not differs in half of two images at most: OF_DIFFERS of how likely it does."""
        most = np.nan_to_num(self.differs()) * OF_DIFFERS
        return np.where((np.array(list(self.attributes.values())) == 2) & (most > 0), most, OWN)

    def lost(self):
        """[S]: of all that can be told before, of all attributes, the share that can't be after."""
        before = self.before >= 0
        return (before & (self.after < 0)).sum(axis=(1, 2)) / max(before.sum(), 1)

    def separated(self):
        """{attribute: the group, by index, that changes it in OWN of the images at least, and any other one in less
        than OTHERS}, or in the same parts of enough(). Attributes that can be told too seldom don't count."""
        found, names, relative = dict(), list(self.attributes), np.nan_to_num(self.changed()) / self.enough()
        for group, of_group in enumerate(relative):
            first = int(of_group.argmax())
            if of_group[first] >= 1 and (np.delete(of_group, first) < OTHERS / OWN).all():
                found.setdefault(names[first], group)
        return {name: found[name] for name in names if name in found}

    def _in_both(self):
        return (self.before >= 0) & (self.after >= 0)

@torch.no_grad()
def measure(G, ws, reader, attributes, progress=lambda jobs: jobs):
    """Give each image one group after the other of the image before it. Returns Exchanges.

    G:          With linked groups, see groupings.attach().
    ws:         [N, num_ws, w_dim], the images.
    reader:     Called with images, uint8 [N, H, W, 3]; returns int [N, A].
    attributes: {name: how many values it may have} of the A.
    progress:   Wraps the list of jobs, e.g. in a progress bar.
    """
    others, sets = channel_effects.exchanged_styles(G, ws), _sets(G)
    parts = channel_effects.batches(G, ws, *others.values())
    seen = [[] for _set in sets]
    for (own, *theirs), index in progress([(part, index) for part in parts for index in range(len(sets))]):
        images = _with(G, own, sets[index], dict(zip(others, theirs)))
        seen[index].append(reader(pictures.to_uint8(images)))
    before, *after = map(np.concatenate, seen)
    return Exchanges(dict(attributes), before, np.stack(after))

def _sets(G):
    """{layer: bool [C]} of no group, and then of each."""
    return [dict(), *groupings.linked(G).masks]

def _with(G, ws, masks, others):
    """Images with some channels {layer: bool [C]} of others, whose styles are {layer: [N, C]}."""
    with channel_effects.exchanging(groupings.linked(G).layers, masks, others):
        return G.synthesis(ws, noise_mode='const')

@torch.no_grad()
def draw(G, ws, known):
    """Images as they are, and below with one group after the other of the image on their left: a PIL image. known:
    GroupNames."""
    others = channel_effects.exchanged_styles(G, ws)
    tiles = np.stack([pictures.to_uint8(_with(G, ws, masks, others)) for masks in _sets(G)], axis=1) # [N, 1+S, H, W, 3]
    return pictures.strip(list(tiles), 'Each image with one group of the image on its left',
        ['as they are', *labels(G, known)], size=48)

def labels(G, known):
    """The name of each linked group among the GroupNames of a network, or its number."""
    return [known.of(groupings.LINKED, index) or f'group {index}' for index in groupings.linked(G).live]

#----------------------------------------------------------------------------
