"""Linked groups of any StyleGAN2 or SariGAN: channels of all layers that change the same things, in one set.

    >>> from sarigan_plugin.steering import regrouping
    >>> from sarigan_plugin.steering import sampling
    >>> from sarigan_plugin.snapshots import reading
    >>> G = reading.load('network.pkl', 'network')
    >>> ws = sampling.sample_ws(G, seeds=range(8), trunc=1)
    >>> found = regrouping.regroup(G, ws[:4], ws[4:], num_groups=4)
    >>> [group.rest for group in found.sets]
    [False, False, False, False, True]
"""

import dataclasses
import itertools

import torch

from sarigan_plugin.steering import channel_effects, channel_products, channel_trials, groupings
from sarigan_plugin.steering.channel_sets import (
    MAX_LETTERS,
    ChannelSet,
    ChannelSets,
    check_name,
    weights_hash,
)
from sarigan_plugin.steering.styles import styled_layers

KINDS = {
    'effects':      'what each changes',
    'responses':    'where each responds',
    'kernels':      'the kernels that make them, each layer by itself',
}
NUMBERS     = range(6, 17)  # Of groups, from which 'auto' chooses.
SCREENED    = 16            # Images that channels are screened in.
SHUFFLES    = 4             # Random sets of each group's size, that groups are compared with,
FEW         = 1             # and as many where channels are screened.
LIFT        = 1.5           # Times the share that random sets have, from which a group is named after an attribute.
EXCESS      = 0.1           # Share of the squared change that is elsewhere than in random sets, for it to have a place.
REST        = 'rest'        # The name of what is left over.

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Plan:
    """What regroup() is going to do."""
    screened:   bool    # Whether all channels are screened first, so that
    single:     dict    # {layer: int64 [K]} those channels are exchanged; how many of each layer then shows.
    tried:      bool    # Whether groups are improved by trials.
    shuffles:   int     # Random sets that each group is compared with.

def plan(G, ws, trials=None):
    """Of groups by effects. ws, trials: as for regroup()."""
    counts = {name: layer.weight.shape[1] for name, layer in styled_layers(G).items()}
    most, total = channel_effects.affordable(G, len(ws)), sum(counts.values())
    share = min(most / total, 1)
    return Plan(total > most, {name: torch.arange(round(count * share)) for name, count in counts.items()},
        trials is not None and channel_trials.affordable(G, len(trials)), FEW if total > most else SHUFFLES)

def seconds(G, ws, num_groups='auto', scorer=None, trials=None):
    """How long measuring effects will take here, found by doing a little of it. Arguments as for regroup().

    Of others it counts on as many as of ws.
    """
    planned = plan(G, ws, trials)
    screening = channel_effects.screening_seconds(G, ws[:SCREENED]) if planned.screened else 0
    number = NUMBERS[len(NUMBERS) // 2] if num_groups == 'auto' else num_groups
    trying = channel_trials.images(len(trials), number) if planned.tried else 0
    telling = len(ws) * (number * (planned.shuffles + 1) + 4) # See _compared(): groups, random ones, rest, both, none.
    return (screening + channel_effects.seconds(G, ws, planned.single, scorer)
        + (trying + telling) * channel_effects.image_seconds(G, ws, scorer))

def regroup(G, ws, others, by='effects', num_groups='auto', scorer=None, progress=lambda jobs, label=None: jobs,
        how=None, partners=None, trials=None):
    """Find linked groups. Returns ChannelSets, the one that changes most first and what is left over last.

    ws:         [N, num_ws, w_dim], the images that they are found in.
    others:     The same of other images, in which is measured what groups change.
    by:         One of KINDS.
    num_groups: How many; of each layer, by kernels. 'auto' = the number of NUMBERS with the largest silhouette.
    scorer:     Called with images, uint8 [N, H, W, 3]; returns {attribute: [N]}.
    progress:   Wraps the list of jobs, e.g. in a progress bar; of a label, where they are not channels.
    how:        What else the file is to say of how they were found.
    partners:   [M, num_ws, w_dim], the more the better: those whose styles ws may get. None = ws.
    trials:     [T, num_ws, w_dim], images that groups by places are tried in, and so improved. None = they are not.

    Raises ValueError, one sentence, where there is nothing to go by.
    """
    by_places, planned = by == 'effects' and scorer is None, plan(G, ws, trials)
    trials = trials if by_places and planned.tried else None
    if by_places:
        sets, rest = _by_places(G, ws, ws if partners is None else partners, num_groups, trials, progress)
    else:
        find = dict(effects=_by_effects, responses=_by_responses, kernels=_by_kernels)[by]
        sets, rest = find(G, ws, num_groups, scorer, progress), {}
    layers = styled_layers(G)
    masks = [groupings.masks_of(layers, channels) for channels in [*sets, rest] if channels]
    changes, held, shuffled = _compared(G, others, masks, len(sets), planned.shuffles, scorer, progress)
    order = changes.grid[:len(sets)].sum(dim=1).argsort(descending=True).tolist()
    ordered, left = _some(changes, order), _some(changes, range(len(sets), len(masks)))
    names = _names(ordered, shuffled)
    found = [ChannelSet(name, sets[index]) for name, index in zip(names, order)]
    if rest:
        found.append(ChannelSet(_free(REST, names), rest, rest=True))
    measured = dict(how or {}, by=by, num_images=len(ws), num_trials=0 if trials is None else len(trials),
        num_channels=sum(len(c) for s in sets for c in s.values()),
        on_other_images=dict(figures(ordered, shuffled), held=round(held, 4)),
        groups=[*_facts(ordered), *_facts(left)])
    return ChannelSets(found, weights_hash(G), measured)

def _compared(G, ws, masks, number, shuffles, scorer, progress):
    """What sets change, the first `number` of which are groups: the Effects of all, how much all groups change
    together, of what all sets do, and a list of Effects of random sets as large as groups."""
    together = [groupings.united(masks[:number]), groupings.united(masks)]
    random = [groupings.shuffled(masks, seed)[:number] for seed in range(shuffles)]
    changes = channel_effects.exchange_sets(G, ws, [*masks, *together, *itertools.chain(*random)], scorer,
        lambda jobs: progress(jobs, 'Comparing groups'))
    first = len(masks) + len(together)
    held, everything = changes.grid[len(masks):first].sum(dim=1).tolist()
    starts = range(first, len(changes.grid), number)
    return (_some(changes, range(len(masks))), held / max(everything, 1e-30),
        [_some(changes, range(start, start + number)) for start in starts])

def _some(changes, indices):
    """Effects of some of the sets."""
    indices = list(indices)
    return dataclasses.replace(changes, grid=changes.grid[indices], labels=changes.labels[indices])

def _sets(places, group):
    """[(layer, channel)], [K] -> a list of {layer: channels}."""
    sets = [dict() for _group in range(int(group.max()) + 1)]
    for (layer, channel), index in zip(places, group.tolist()):
        sets[index].setdefault(layer, []).append(channel)
    return [{layer: tuple(sorted(channels)) for layer, channels in of_set.items()} for of_set in sets]

def _clustered(rows, num_groups):
    """int64 [K]."""
    number = channel_effects.best_number(rows, NUMBERS) if num_groups == 'auto' else min(num_groups, len(rows))
    return channel_effects.cluster(rows, number)

def _measured(G, ws, progress):
    """Which channels are exchanged one by one, {layer: int64 [K]}, and what channel_effects.screen() says if not all
    are, or None."""
    if not plan(G, ws).screened:
        return {name: torch.arange(layer.weight.shape[1]) for name, layer in styled_layers(G).items()}, None
    screened = channel_effects.screen(G, ws[:SCREENED], progress)
    return channel_effects.strongest(screened, channel_effects.affordable(G, len(ws))), screened

def _by_places(G, ws, partners, num_groups, trials, progress):
    """Groups that each change one place, as far as they can, and what is left over: a list of {layer: channels}, and
    one of them, which may be empty."""
    single, screened = _measured(G, ws, progress)
    products = channel_products.products(G, ws, partners, single, progress)
    effects = channel_products.effects(products, single)
    kept = effects.busy()
    effects, products = effects.some(kept), products[:, kept][:, :, kept]
    places = effects.places()
    if not places:
        raise ValueError('no channel changes anything in its images.')
    group, number = _gathered(G, effects, products, num_groups, trials, progress)
    if screened is not None: # What was not exchanged is in no group.
        more = _unexchanged(screened, single)
        places, group = places + more, torch.cat([group, torch.full([len(more)], number)])
    sets = _sets(places, group)
    return sets[:number], sets[number] if len(sets) > number else {}

def _gathered(G, effects, products, num_groups, trials, progress):
    """(the group of each channel, int64 [K], and how many groups there are; what is in none has the next index)."""
    rows, places = effects.rows(), effects.places()
    start = _clustered(rows, num_groups)
    number = int(start.max()) + 1
    least = channel_products.SHARE / number * products.sum()
    if trials is None:
        return channel_products.gather(products, start, least), number
    start = channel_effects.cluster(rows, min(channel_trials.SPARE * number, len(rows)))
    group = channel_products.gather(products, start, least)
    candidates = torch.nn.functional.one_hot(group, int(start.max()) + 2).t()[:-1].bool()
    number = min(number, len(candidates))
    return channel_trials.improve(G, trials, places, products, candidates, number, progress), number

def _unexchanged(screened, single):
    """[(layer, channel)] of the channels that were screened only, and change something."""
    return [(name, channel) for name, rows in screened.items()
        for channel in sorted(set(range(len(rows))) - set(single[name].tolist())) if rows[channel].sum() > 0]

def _by_effects(G, ws, num_groups, scorer, progress):
    single, screened = _measured(G, ws, progress)
    effects = channel_effects.exchange(G, ws, single, scorer, progress).without_idle()
    places = effects.places()
    if not places:
        raise ValueError('no channel changes anything in its images.')
    group = _clustered(effects.rows(), num_groups)
    if screened is not None: # The others join the group that changes the same places.
        rest = _unexchanged(screened, single)
        centres = torch.nn.functional.normalize(torch.zeros([int(group.max()) + 1, effects.grid.shape[1]],
            dtype=torch.float64).index_add_(0, group, channel_effects.unit(effects.grid)), dim=1)
        rows = channel_effects.unit(torch.stack([screened[name][channel] for name, channel in rest]))
        places, group = places + rest, torch.cat([group, (rows @ centres.t()).argmax(dim=1)])
    return _sets(places, group)

def _by_responses(G, ws, num_groups, _scorer, _progress):
    found = channel_effects.responses(G, ws)
    places = [(name, channel) for name, rows in found.items() for channel in range(len(rows))]
    return _sets(places, _clustered(torch.nn.functional.normalize(torch.cat(list(found.values())), dim=1), num_groups))

def _by_kernels(G, _ws, num_groups, _scorer, _progress):
    sets = []
    for name, rows in channel_effects.kernels(G).items():
        group = _clustered(torch.nn.functional.normalize(rows, dim=1), num_groups)
        sets += _sets([(name, channel) for channel in range(len(rows))], group)
    return sets

#----------------------------------------------------------------------------
# What groups change, in numbers and in words.

def selectivity(rows):
    """The share of a set's changes that is in the one thing which it changes most, mean of sets that change anything.

    rows: [sets, K]. 0 where none does.
    """
    total = rows.sum(dim=1)
    shares = rows[total > 0].amax(dim=1) / total[total > 0]
    return shares.mean().item() if len(shares) > 0 else 0.0

def figures(changes, shuffled):
    """{'place', 'attribute': {'groups': selectivity, 'random': that of random sets}}, attributes only where there are.

    changes: Effects of the groups; shuffled: a list of those of random sets.
    """
    def both(rows_of):
        return dict(groups=round(selectivity(rows_of(changes)), 4),
            random=round(sum(selectivity(rows_of(other)) for other in shuffled) / len(shuffled), 4))
    found = dict(place=both(lambda effects: effects.grid))
    if changes.names:
        found['attribute'] = both(lambda effects: effects.labels)
    return found

def _facts(changes):
    """What the file says of each group."""
    return [_facts_of(changes, index) for index in range(len(changes.grid))]

def _facts_of(changes, index):
    facts = dict(strength=round(changes.grid[index].mean().sqrt().item() * 127.5, 3),
        place=round((changes.grid[index].max() / changes.grid[index].sum().clamp(min=1e-30)).item(), 4))
    if changes.names:
        shares = changes.labels[index] / changes.labels[index].sum().clamp(min=1e-30)
        most = int(shares.argmax())
        facts.update(attribute=changes.names[most], attribute_share=round(shares[most].item(), 4))
    return facts

def _names(changes, shuffled):
    """A name for each group, after the attribute that it changes more than random sets do, or after the place."""
    names = []
    places, usual_places = _shares(changes.grid), sum(_shares(other.grid).mean(dim=0) for other in shuffled)
    if changes.names:
        usual = sum(_shares(other.labels).mean(dim=0) for other in shuffled) / len(shuffled)
        lifts = _shares(changes.labels) / usual.clamp(min=1e-12)
    for index, shares in enumerate(places):
        words = place_of(shares, usual_places / len(shuffled))
        if changes.names:
            most = int(changes.labels[index].argmax())
            if lifts[index, most] >= LIFT:
                words = changes.names[most]
        names.append(_free(words, names))
    return names

def _shares(rows):
    return rows / rows.sum(dim=1, keepdim=True).clamp(min=1e-30)

def place_of(shares, usual):
    """Where a set changes more than is usual, in words. shares, usual: [GRID^2], each of sum 1."""
    side = channel_effects.GRID
    excess = (shares - usual).clamp(min=0).view(side, side)
    if excess.sum() < EXCESS:
        return 'everywhere'
    excess = excess / excess.sum()
    steps = (torch.arange(side, dtype=excess.dtype) + 0.5) / side
    across, down = (excess.sum(dim=0) @ steps).item(), (excess.sum(dim=1) @ steps).item()
    third = lambda at, words: words[0] if at < 0.42 else words[2] if at > 0.58 else words[1]
    words = [third(down, ['top', '', 'bottom']), third(across, ['left', '', 'right'])]
    inner = 'middle' if excess[1:-1, 1:-1].sum() >= 0.5 else 'around'
    return ' '.join(filter(None, words)) or inner

def _free(words, taken):
    """The words as a name that no other has: without commas, short, and with a number where they are taken."""
    words = ' '.join(words.replace(',', ' ').split())[:MAX_LETTERS - 4].strip()
    try:
        check_name(words)
    except ValueError:
        words = f'attribute {words}'[:MAX_LETTERS - 4].strip()
    names = [words, *(f'{words} {number}' for number in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)

#----------------------------------------------------------------------------
