"""--grouping=effects: groups of channels that change the same places of images, found anew while a network trains.

The channels of all grouped layers are clustered together, so that a group has one index wherever it has channels. What
a channel changes is estimated as `sarigan regroup` does for large networks, by channel_effects.screen(), in the images
of fixed seeds of the averaged network: a few passes backward, however many channels there are.

Index letters in shape comments: K channels of all layers, C of one, g groups.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.model.grouping import EffectGrouping
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import channel_effects, sampling
from sarigan_plugin.steering.conditioned import Conditioned
from sarigan_plugin.trainer.agreement import Agreement

NUM_IMAGES = 64 # In which effects are measured, or as many as give each process four.

MUCH = 0.05 # Of a training's time, from which it is said how to make it less.

Layers = dict[str, torch.Tensor] # Of each layer a tensor, whose first dimension is that of its channels.

#----------------------------------------------------------------------------
# When.

class EffectGroups:
    """Groups the channels of the generator that this process trains; idle where its groups are not by effects."""
    def __init__(self,
        agreement:  Agreement,  # With the other processes: each measures in images of its own.
        rank:       int,        # This process; the first one prints.
    ) -> None:
        self.agreement = agreement
        self.rank = rank
        self.started: tuple[float, int] | None = None # Time and images when this process began to train.
        self.told = False # Has the first process said how long it takes?

    def iteration_done(self, loop: dict[str, Any]) -> None:
        """Group again if it is time. loop: the local variables of upstream's training_loop(), in all processes."""
        if not groupings_of(loop['G']):
            return
        nimg, interval, began = loop['cur_nimg'], loop['loss'].regroup_nimg, time.monotonic()
        self.started = self.started or (began, nimg)
        if is_due(nimg, loop['batch_size'], interval):
            self.regroup(loop['G'], loop['G_ema'], loop['training_set'])
            self._tell_cost(time.monotonic() - began, began - self.started[0], nimg - self.started[1], interval)

    def regroup(self, G: Any, G_ema: Any, training_set: Any) -> None:
        """Group the channels of G, and those of G_ema likewise, by what those of G_ema change."""
        peers = self.agreement.num_processes
        images, ws = sample(G_ema, training_set, max(NUM_IMAGES, 4 * peers))
        of_processes = self.agreement.values_of_all(measured(images, ws[self.rank::peers]))
        parts = [part for of_process in of_processes for part in of_process]
        groups = new_groups(parts, groupings_of(G))
        groups = self.agreement.values_of_all(groups)[0] # Machines may round in ways of their own.
        for network in [G, G_ema]:
            put(groups, network)

    def _tell_cost(self, seconds: float, trained: float, num_images: int, interval: float) -> None:
        """Say once how much of the time it takes. trained: seconds for so many images, with nothing measured."""
        if self.rank == 0 and num_images > 0 and not self.told:
            self.told = True
            share = seconds / (seconds + trained / num_images * interval)
            print(f'Groups by effects: measured in {seconds:.1f} s, every {interval / 1000:g} kimg, '
                f'which is {share:.1%} of the time'
                + ('; a larger regroup_kimg makes it less' if share > MUCH else ''))

def is_due(nimg: int, batch_size: int, interval: float) -> bool:
    """Whether it is time after the batch that ended at nimg images: halfway through each interval.

    So the snapshots, which are made after whole ones, show networks that have trained with the groups that they have.
    """
    halfway = [(images + interval / 2) // interval for images in [nimg - batch_size, nimg]]
    return halfway[0] < halfway[1]

def groupings_of(G: Any) -> dict[str, Any]:
    """{layer: its grouping} of a generator's layers that are grouped by effects; empty for any other."""
    return {name: layer.grouping for name, layer, _source in grouped_layers(G.synthesis)
        if isinstance(layer.grouping, EffectGrouping)}

def put(groups: Layers, G: Any, rounds: int = 1) -> None:
    """Give a generator these groups, of new_groups(). rounds: see EffectGrouping.take()."""
    groupings = groupings_of(G)
    for name, group in groups.items():
        groupings[name].take(group, rounds)

#----------------------------------------------------------------------------
# What is measured.

def sample(G: Any, training_set: Any, number: int) -> tuple[Any, torch.Tensor]:
    """(what makes images of codes alone, codes [number, rows, w_dim]), of the same seeds each time.

    With labels of the training set where it has some. A network that completes images completes those of the training
    set, whose holes are always the same, see Conditioned.
    """
    indices = torch.linspace(0, len(training_set) - 1, number).long().tolist()
    z = sampling.latents(G, range(number))
    completes = reading.completes_images(G)
    labels = (training_set.conditions(np.stack([training_set[index][0] for index in indices]), indices) if completes
        else np.stack([training_set.get_label(index) for index in indices]))
    c = torch.from_numpy(labels).to(z.device)
    with torch.no_grad():
        ws = G.mapping(z, c)
        return (Conditioned(G), Conditioned(G).codes(ws, c)) if completes else (G, ws)

def measured(G: Any, ws: torch.Tensor) -> list[Layers]:
    """What each channel changes in both halves of the images of sample(), {layer: [C, places]} of each."""
    with torch.enable_grad(): # Wherever this is called.
        return [channel_effects.screen(G, half) for half in ws.chunk(2)]

#----------------------------------------------------------------------------
# Which groups follow.

def new_groups(parts: Sequence[Mapping[str, torch.Tensor]], groupings: Mapping[str, Any]) -> Layers:
    """The group of each channel, [C] int64 for each layer; none where something is not finite.

    parts:     of measured(), several, of equally many images.
    groupings: those of the layers. Layers with fewer groups than others have the first ones.

    Channels join groups whose centres are near their rows. The present group counts for inertia deviations more: the
    cosines in the parts tell how large one is. Centres are those of the present groups or, where all this adds up to
    more with them, of new clusters. Uses no random numbers.
    """
    present = {name: grouping.assignment.cpu() for name, grouping in groupings.items()}
    numbers = {name: grouping.num_groups for name, grouping in groupings.items()}
    number = max(numbers.values())
    of_parts = [torch.cat([part[name] for name in groupings]) for part in parts]
    rows, rows_of_parts = channel_effects.unit(sum(of_parts)), torch.stack([channel_effects.unit(x) for x in of_parts])
    if not (rows.isfinite().all() and rows_of_parts.isfinite().all()):
        return dict()
    cluster, before = channel_effects.cluster(rows, number), torch.cat(list(present.values()))
    if not any(grouping.is_settled for grouping in groupings.values()):
        narrow = torch.cat([torch.full([len(x)], numbers[name] < number) for name, x in present.items()])
        return _seated(rows @ centres_of(rows, _ordered(cluster, narrow, number), number).t(), present, numbers)[0]
    own, fresh = [centres_of(rows, group, number) for group in [before, _renamed(cluster, before, number)]]
    deviation = deviation_of_mean(rows_of_parts @ own.t())
    inertia = torch.cat([torch.full([len(x), 1], float(groupings[name].inertia)) for name, x in present.items()])
    staying = inertia * deviation * _one_hot(before, number) # [Kg]
    found = [_seated(rows @ centres.t() + staying, present, numbers) for centres in [own, fresh]]
    return max(found, key=lambda groups_and_worth: groups_and_worth[1])[0]

def _ordered(cluster: torch.Tensor, narrow: torch.Tensor, number: int) -> torch.Tensor:
    """Clusters renumbered: those that most channels of narrow layers, bool [K], are in come first."""
    order = cluster[narrow].bincount(minlength=number).argsort(descending=True, stable=True)
    return order.argsort()[cluster]

def _renamed(cluster: torch.Tensor, before: torch.Tensor, number: int) -> torch.Tensor:
    """Clusters renumbered so that they share as many channels as can be with the groups before."""
    shared = _one_hot(cluster, number).t() @ _one_hot(before, number) # [gg]
    _clusters, names = linear_sum_assignment(shared.numpy(), maximize=True)
    return torch.from_numpy(names)[cluster]

def _seated(affinity: torch.Tensor, present: Layers, numbers: Mapping[str, int]) -> tuple[Layers, float]:
    """[Kg] -> (the groups of seated() for each layer, the sum of their affinities)."""
    groups, worth = dict(), 0.0
    for (name, number), of_layer in zip(numbers.items(), affinity.split([len(x) for x in present.values()])):
        groups[name] = seated(of_layer[:, :number])
        worth += of_layer.gather(1, groups[name][:, None]).sum().item()
    return groups, worth

def centres_of(rows: torch.Tensor, group: torch.Tensor, number: int) -> torch.Tensor:
    """[K, places], [K] -> [g, places]: the mean direction of each group's rows, zeros for an empty one."""
    return torch.nn.functional.normalize(_one_hot(group, number).t() @ rows, dim=1)

def deviation_of_mean(samples: torch.Tensor) -> float:
    """[P, ...], P samples of each of many numbers -> the standard deviation of a mean of P, root mean square of all."""
    return samples.var(dim=0).mean().div(len(samples)).sqrt().item()

def seated(affinity: torch.Tensor) -> torch.Tensor:
    """[C, g] -> [C]: the groups with the largest sum of affinities of all in which none is too large or too small.

    By Eq. 5 a channel is the louder, the fewer its group has. So a group has a quarter of the average at least, and one
    channel, and twice the average at most.
    """
    count, number = affinity.shape
    least, most = max(count // (4 * number), 1), 2 * count // number
    seats = affinity.repeat_interleave(most, dim=1)
    taken_first = torch.arange(number * most) % most < least # Worth more than any change of places.
    seats = seats + taken_first * 2 * (affinity.max() - affinity.min() + 1)
    _channels, chosen = linear_sum_assignment(seats.numpy(), maximize=True)
    return torch.from_numpy(chosen) // most

def _one_hot(group: torch.Tensor, number: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(group, number).double()

#----------------------------------------------------------------------------
