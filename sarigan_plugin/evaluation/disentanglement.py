"""How well the units of a generator separate what is in its images: selectivity of attributes, locality,
what codes decide and Q reads back, path length.

    >>> import numpy as np
    >>> from sarigan_plugin.evaluation import disentanglement
    >>> from sarigan_plugin.steering import sampling
    >>> from sarigan_plugin.snapshots import reading
    >>> from sarigan_plugin.steering import units
    >>> G = reading.load('network.pkl', 'network')
    >>> ws = sampling.sample_ws(G, seeds=range(64), trunc=1)
    >>> groups = [unit for unit in units.find(G, ws) if unit.kind == 'inter']
    >>> figures = disentanglement.locality(disentanglement.turn(G, ws[:4], groups))(np.ones(4))
    >>> print(f'Where groups are active: {figures["inter", "inside"]:.0%} of the squared change')
    Where groups are active: ...% of the squared change

Measures are functions of weights [N], one for each image: ones give the figure itself,
and those that bootstrap() draws its interval.

Index letters: N images, U units, A attributes, B bins, K dimensions of a code.
"""

import dataclasses
import functools

import numpy as np
import scipy.special
import torch

from sarigan_plugin.features import perceptual
from sarigan_plugin.losses.sarigan import info_targets
from sarigan_plugin.model.grouped import captured_features, code_styles, grouped_layers
from sarigan_plugin.model.networks import split_codes
from sarigan_plugin.steering.attention import batches_of
from sarigan_plugin.steering.directions import GREY_LEVELS, locus
from sarigan_plugin.steering.units import styled_layers
from sarigan_plugin.support import pictures

BINS        = 10    # Of a unit's values, each with as many images as the next.
HALF        = 0.5   # Share of the squared change that its area holds.
EPSILON     = 1e-4  # Between two codes whose images are compared, as a share of the way from one image's to another's.
                    # Upstream's.
MIN_SHARE   = 0.01  # Of the images of each network that an attribute is in, and that it isn't in, at least.
MIN_TOLD    = 0.25  # Of these images in which a factor can be told at least: of few, chance tells much.
SAME        = 0.8   # Correlation from which an attribute only repeats another, as female does male.
OUTLIERS    = (0.01, 0.99) # Quantiles outside of which path lengths are left out. Upstream's.
ROUNDS      = 200   # Of the bootstrap.
DEVIATIONS  = 1.96  # To either side of a figure: 95% lie within.

#----------------------------------------------------------------------------
# Intervals.

@dataclasses.dataclass(frozen=True)
class Figure:
    """A number, and half the width of its 95% interval."""
    value:  float
    margin: float

    def over(self, other):
        """The ratio of two figures of different networks, errors to first order; None where the other may be zero."""
        if other.value <= other.margin:
            return None
        ratio = self.value / other.value
        return Figure(ratio, np.hypot(self.margin, ratio * other.margin) / other.value)

def bootstrap(measure, count, seed=0):
    """What a measure says of all images, and how much that would vary with other images of the same network.

    measure: weights [N] -> {name: number}, N = count; a weight is how often the image was drawn, with replacement. The
    margin is DEVIATIONS times the standard deviation over ROUNDS draws, and not from their quantiles: to an entropy
    repeated images look like information, so that numbers of draws lie higher than the one they are for. Returns {name:
    Figure}.
    """
    random = np.random.RandomState(seed)
    drawn = [measure(random.multinomial(count, np.full(count, 1 / count)).astype(np.float64))
        for _round in range(ROUNDS)]
    return {name: Figure(float(value), float(DEVIATIONS * np.std([numbers[name] for numbers in drawn])))
        for name, value in measure(np.ones(count)).items()}

def _of_kinds(units):
    """{kind: bool [U]}."""
    kinds = np.array([unit.kind for unit in units])
    return {kind: kinds == kind for kind in dict.fromkeys(kinds.tolist())}

def _halves(measure, weights):
    """What a measure says of every second image, and of the others."""
    even = np.arange(len(weights)) % 2 == 0
    return measure(weights * even), measure(weights * ~even)

def _two_largest(halves, axis):
    """The largest of some values along an axis, and the one after it, without what chance adds to the largest of many.

    halves: the values by one half of the images, and by the other. Which two are largest is found in one half, and what
    they are in the other; then the other way round. Returns (first, second), means of both ways. Raises IndexError
    where there are not two values.
    """
    first, second = 0, 0
    for found_in, measured_in in [halves, halves[::-1]]:
        found = np.take_along_axis(measured_in, np.argsort(-found_in, axis=axis, kind='stable'), axis=axis)
        first, second = first + found.take(0, axis=axis) / 2, second + found.take(1, axis=axis) / 2
    return first, second

#----------------------------------------------------------------------------
# What units have to do with attributes, while nothing is turned.

def entropy(counts):
    """Entropy in nats of the distribution that counts [..., K] were drawn from, by Miller and Madow (1955).

    H = -sum_k p_k ln p_k + (m - 1) / 2n, with p = counts / n, and m the number of counts that aren't zero: the entropy
    of the p_k themselves is too small by about the last term.
    """
    total = counts.sum(axis=-1, keepdims=True)
    return scipy.special.entr(counts / total).sum(axis=-1) + ((counts > 0).sum(axis=-1) - 1) / (2 * total[..., 0])

def quantile_bins(values):
    """Which tenth of its values each value is in, equal ones in order: [U, N] -> int8 [U, N] in [0, BINS)."""
    ranks = values.argsort(axis=1, kind='stable').argsort(axis=1, kind='stable')
    return (ranks * BINS // values.shape[1]).astype(np.int8)

def mutual_information(bins, present, weights):
    """I(u; a) = H(u) + H(a) - H(u, a) in nats, of a unit's bin and of whether an attribute is present;
    about 0 if they are independent.

    bins: [U, N] of quantile_bins(); present: bool [N, A]; weights: [N]. Returns [U, A].
    See entropy() for what corrects its bias.
    """
    drawn = weights > 0
    bins, present, weights = bins[:, drawn], present[drawn], weights[drawn] # Less to count.
    counted = np.concatenate([present, np.ones([len(present), 1])], axis=1) * weights[:, None] # [N, A + 1]
    # [U, A + 1, B], whole numbers.
    counts = np.stack([(bins == bin_).astype(np.float32) @ counted.astype(np.float32) for bin_ in range(BINS)], axis=2)
    with_it, of_bins = counts[:, :-1], counts[:, -1:]
    joint = np.stack([with_it, of_bins - with_it], axis=2).astype(np.float64) # [UA2B]
    return entropy(of_bins.astype(np.float64)) + entropy(joint.sum(axis=3)) - entropy(
        joint.reshape(*joint.shape[:2], -1))

def countable_factors(scores):
    """The factors that can be told in enough images of every network, and of which each draws two values often enough.

    scores: a list of {factor: int [N]} of the images of one network each, below 0 = can't be told. Returns names.
    """
    def varies(values):
        told = values[values >= 0]
        return (len(told) >= MIN_TOLD * len(values)
            and (np.bincount(told, minlength=2) >= MIN_SHARE * len(values)).sum() > 1)
    return [name for name in scores[0] if all(varies(of_network[name]) for of_network in scores)]

def chance_to_differ(values):
    """How likely a factor differs in two images of those where it can be told, 1 - sum p_k^2: of changes, the most that
    chance makes. int [N] -> float."""
    told = values[values >= 0]
    return 1 - np.square(np.bincount(told) / max(len(told), 1)).sum()

def countable(scores):
    """The attributes that every network draws often enough to be measured by, without those that repeat an earlier one.

    scores: a list of {attribute: [N] probabilities} of the images of one network each. An attribute is there where its
    probability is above a half. Returns names.
    """
    present = [{name: values > 0.5 for name, values in of_network.items()} for of_network in scores]
    common = [name for name in present[0] if all(MIN_SHARE <= of_network[name].mean() <= 1 - MIN_SHARE
        for of_network in present)]
    kept = []
    for name in common:
        if all(abs(np.corrcoef(of_network[name], of_network[other])[0, 1]) < SAME for of_network in present
                for other in kept):
            kept.append(name)
    return kept

def told_of_factors(bins, factors, weights):
    """R(u, a) = I(u; a) / H(a) of a unit's bin and of which of its values a factor has, over the images where that can
    be told; 0 where a factor has one value alone.

    bins: [U, N] of quantile_bins(); factors: int [N, A], below 0 = can't be told; weights: [N]. Returns [U, A].
    """
    kinds = factors.max(axis=0) + 1
    columns = np.concatenate([factor[:, None] == np.arange(kind) for factor, kind in zip(factors.T, kinds)], axis=1)
    counted = (columns * weights[:, None]).astype(np.float32) # [N, all values of all factors]
    counts = np.stack([(bins == bin_).astype(np.float32) @ counted for bin_ in range(BINS)], axis=2).astype(np.float64)
    told = np.zeros([len(bins), len(kinds)])
    for index, joint in enumerate(np.split(counts, np.cumsum(kinds)[:-1], axis=1)): # [U, values, B]
        of_factor = joint.sum(axis=2)
        if (of_factor[0] > 0).sum() > 1:
            of_bins, whole = joint.sum(axis=1), joint.reshape(len(bins), -1)
            told[:, index] = 1 + (entropy(of_bins) - entropy(whole)) / entropy(of_factor)
    return told

def observe(units, present):
    """A measure of how much single units tell about single attributes, over images that are left as they are.

    With R(u, a) = I(u; a) / H(a), the share of what there is to know about attribute a that the value of unit u tells:

        told    mean over units of max_a R(u, a)
        gap     mean over units of max_a R(u, a) less the second largest: about one attribute and no other
        apart   gap / told: 1 if units told about one attribute alone, 0 if as much about another
        mig     mean over attributes of max_u R(u, a) less the second largest: the mutual information gap of Chen et al.
                (NeurIPS 2018);
                the more units of one code there are, the smaller

    units: their values are those in the N images. present: bool [N, A], two attributes at least; or int [N, A], which
    of its values each factor has, see told_of_factors(). Returns a measure, see bootstrap(), with keys (kind, name).
    """
    bins = quantile_bins(np.stack([unit.values.cpu().numpy() for unit in units]))
    kinds = _of_kinds(units)

    def told(weights):
        if present.dtype != bool:
            return told_of_factors(bins, present, weights)
        share = np.stack([present, ~present], axis=2).swapaxes(0, 2) @ weights # [2A]
        return mutual_information(bins, present, weights) / entropy(share.T)

    def measure(weights):
        halves = _halves(told, weights)
        numbers = dict()
        for kind, chosen in kinds.items():
            of_kind = [half[chosen] for half in halves]
            first, second = _two_largest(of_kind, axis=1)
            numbers[kind, 'told'], numbers[kind, 'gap'] = first.mean(), (first - second).mean()
            numbers[kind, 'apart'] = numbers[kind, 'gap'] / max(numbers[kind, 'told'], 1e-30)
            if chosen.sum() > 1:
                first, second = _two_largest(of_kind, axis=0)
                numbers[kind, 'mig'] = (first - second).mean()
        return numbers
    return measure

#----------------------------------------------------------------------------
# What turning units does.

@dataclasses.dataclass(frozen=True)
class Effects:
    """What happens to N images when each of U units is turned down and up."""
    units:  list
    change: np.ndarray  # [U, N], the squared change of the pixels, from -1 to 1, mean of both turns.
    inside: np.ndarray  # [U, N], the share of it in the locus of the unit's channels:
                        # the fifth of the pixels where they are highest.
    area:   np.ndarray  # [U, N], the share of the pixels that half of it is in, the fewest that will do.
    moves:  np.ndarray  # [U, N, A], how much each attribute changes from down to up; A = 0 without scorer.

@torch.no_grad()
def turn(G, ws, units, scorer=None, strength=2, progress=lambda jobs: jobs,
        difference=lambda down, up: np.abs(up - down)):
    """Turn every unit down and up, and see what changes.

    ws:       [N, num_ws, w_dim], the images that it is done to.
    scorer:   Called with images, uint8 [N, H, W, 3]; returns [N, A].
    strength: Standard deviations by which units are turned.
    progress: Wraps the list of jobs, e.g. in a progress bar.
    difference: How much scores change from down to up, both [N, A]; by default by how much numbers do.
    """
    rows = {unit: [] for unit in units}
    seen = None
    for batch, unit in progress([(batch, unit) for batch in batches_of(G, ws) for unit in units]):
        if seen is not batch:
            with captured_features(G.synthesis, styled_layers(G)) as features:
                images = G.synthesis(batch, noise_mode='const')
            seen = batch
        turned = []
        for d in [-strength, strength]:
            with unit.turned(d):
                turned.append(G.synthesis(batch, noise_mode='const'))
        change = sum((after - images).square().mean(dim=1) for after in turned) / 2 # [NHW]
        place = locus(unit.attention(features), images.shape[2:])
        total = change.sum(dim=[1,2]).clamp(min=1e-30)
        down, up = [scorer(pictures.to_uint8(after)) for after in turned] if scorer is not None else np.zeros(
            [2, len(batch), 0])
        rows[unit].append([change.mean(dim=[1,2]).cpu().numpy(), ((change * place).sum(dim=[1,2]) / total).cpu()
            .numpy(), half_area(change).cpu().numpy(), difference(down, up).astype(np.float64)])
    return Effects(list(units), *(np.stack([np.concatenate(parts) for parts in columns])
        for columns in zip(*(zip(*of_unit) for of_unit in rows.values()))))

def half_area(change):
    """The smallest share of an image's pixels that has HALF of the change in it. [N, H, W] -> [N]."""
    sums = change.flatten(1).sort(dim=1, descending=True).values.double().cumsum(dim=1)
    return ((sums < HALF * sums[:, -1:]).sum(dim=1) + 1) / sums.shape[1]

def best_for_factors(effects, kind):
    """The unit of a kind for each factor: that which changes it in most images more than it changes any other factor.

    Found in every second image, and measured in the others, so that it is not the luckiest of many. Returns for each
    factor (index of the unit, share of the images that change in the factor, share in the next factor, which factor
    that is), or None where there is no such unit.
    """
    members = [index for index, unit in enumerate(effects.units) if unit.kind == kind]
    seen, fresh = effects.moves[members, ::2].mean(axis=1), effects.moves[members, 1::2].mean(axis=1) # [U, A]
    best = []
    for factor in range(effects.moves.shape[2]) if members else []:
        others = np.delete(np.arange(effects.moves.shape[2]), factor)
        unit = (seen[:, factor] - seen[:, others].max(axis=1)).argmax()
        following = others[fresh[unit, others].argmax()]
        best.append((members[unit], float(fresh[unit, factor]), float(fresh[unit, following]), int(following)))
    return best

def _weighted_mean(values, weights):
    """Of [U, N] values over N, or of [U] over U; 0 where nothing has weight."""
    return (values * weights).sum(axis=-1) / np.maximum(weights.sum(axis=-1), 1e-30)

def locality(effects):
    """A measure of where images change when units are turned: means over units,
    each counting as much as it changes pixels.

        strength    root mean square change of the pixels in grey levels of 255, here all units count the same
        inside      share of the squared change inside the locus; directions.LOCUS if it were anywhere
        area        share of the pixels that half of the squared change is in; 0.5 if all changed alike

    Returns a measure, see bootstrap(), with keys (kind, name).
    """
    kinds = _of_kinds(effects.units)

    def measure(weights):
        squared = effects.change * weights # [UN]
        strength = np.sqrt(squared.sum(axis=1) / weights.sum()) # [U]
        inside, area = _weighted_mean(effects.inside, squared), _weighted_mean(effects.area, squared)
        numbers = dict()
        for kind, chosen in kinds.items():
            numbers[kind, 'strength'] = strength[chosen].mean() * GREY_LEVELS
            numbers[kind, 'inside'] = _weighted_mean(inside[chosen], strength[chosen])
            numbers[kind, 'area'] = _weighted_mean(area[chosen], strength[chosen])
        return numbers
    return measure

def attribute_moves(effects, spread, weights):
    """M(u, a), the mean over images of how much attribute a changes when unit u is turned,
    over the attribute's spread [A]: [U, A]."""
    # Of few images bootstrap() may draw none of one half.
    return np.tensordot(effects.moves, weights, axes=(1, 0)) / max(weights.sum(), 1) / spread

def selectivity(effects, spread):
    """A measure of whether turning a unit changes one attribute and no other.

    With M(u, a) of attribute_moves(), and first and second the attributes that a unit changes most,

        moved           mean over units of M(u, first)
        moved share     sum_u M(u, first) / sum_ua M(u, a): 1 if units moved one attribute alone, 1/A if all alike
        moved apart     sum_u (M(u, first) - M(u, second)) / sum_u M(u, first): 1 if one alone, 0 if another as much

    so that each unit counts as much as it moves. Unlike observe() this can't be fooled by units that vary together,
    nor by two attributes
    that do. spread: [A], the standard deviation of each attribute's score over images. Returns a measure,
    see bootstrap(), with keys (kind, name).
    """
    kinds = _of_kinds(effects.units)

    def measure(weights):
        moves = attribute_moves(effects, spread, weights)
        first, second = _two_largest(_halves(functools.partial(attribute_moves, effects, spread), weights), axis=1)
        numbers = dict()
        for kind, chosen in kinds.items():
            numbers[kind, 'moved'] = first[chosen].mean()
            numbers[kind, 'moved share'] = first[chosen].sum() / max(moves[chosen].sum(), 1e-30)
            numbers[kind, 'moved apart'] = (first - second)[chosen].sum() / max(first[chosen].sum(), 1e-30)
        return numbers
    return measure

#----------------------------------------------------------------------------
# Codes.

def r_squared(predicted, codes, weights):
    """1 - sum (c - q)^2 / sum (c - mean of c)^2 for each dimension of a code: 1 = Q reads it back,
    0 = it knows the mean and no more.

    predicted, codes: [N, K]; weights: [N]. Returns [K].
    """
    centred = codes - np.average(codes, axis=0, weights=weights)
    return 1 - weights @ np.square(codes - predicted) / np.maximum(weights @ np.square(centred), 1e-30)

@torch.no_grad()
def read_back(G, D, ws, c, progress=lambda jobs: jobs):
    """What Q says of the images of some codes. c: [N, c_dim], for a conditional D.

    Returns {name: (predicted, actual)}, [N, K] each:

        inter, intra                the codes in w; not there where Q was trained to predict styles
        inter styles, intra styles  what the layers of a network with groups make of them (paper: h and z),
                                    see grouped.code_styles(). What a Q
                                    that predicts w says is put through the same affine maps:
                                    so these compare networks of both kinds

    D compares the images of a batch, in the groups that it was trained with: those that fill no group are left out.
    """
    together = getattr(D.b4.mbstd, 'group_size', None) or 1
    size = max(len(batches_of(G, ws)[0]) // together, 1) * together
    whole = len(ws) // together * together
    ws, c = ws[:whole], c[:whole]
    of_codes = torch.cat([D(G.synthesis(w, noise_mode='const'), label, return_codes=True)[1]
        for w, label in progress(list(zip(ws.split(size), c.split(size))))])
    pairs = dict()
    q_features = getattr(D, 'q_features', None) # Of older pickles none.
    if q_features is None:
        pairs.update(zip(['inter', 'intra'], zip(split_codes(of_codes), info_targets(ws))))
    if grouped_layers(G.synthesis):
        of_styles = of_codes.split(q_features, dim=1) if q_features is not None else code_styles(G.synthesis,
            of_codes[:, None].expand(-1, ws.shape[1], -1))
        pairs.update(zip(['inter styles', 'intra styles'], zip(of_styles, code_styles(G.synthesis, ws))))
    return {name: tuple(numbers.cpu().double().numpy() for numbers in pair) for name, pair in pairs.items()}

@torch.no_grad()
def exchanged(G, first, second, progress=lambda jobs: jobs):
    """How much images change when they get one code of others, or both.

    first, second: [N, num_ws, w_dim], codes of the images and of the others. Returns {'inter', 'intra', 'both': [N]},
    squared changes of the pixels, from -1 to 1.
    """
    changes = dict(inter=[], intra=[], both=[])
    for own, other in progress(list(zip(batches_of(G, first), batches_of(G, second)))):
        (inter, intra), (other_inter, other_intra) = split_codes(own), split_codes(other)
        images = G.synthesis(own, noise_mode='const')
        for name, codes in dict(inter=[other_inter, intra], intra=[inter, other_intra],
                both=[other_inter, other_intra]).items():
            changes[name].append((G.synthesis(torch.cat(codes, dim=2), noise_mode='const') - images).square()
                .mean(dim=[1,2,3]))
    return {name: torch.cat(parts).cpu().double().numpy() for name, parts in changes.items()}

def deciding(changes):
    """A measure of how much of an image each code decides: the squared change of exchanged(), over that of both codes.

    Means over images of one, by means of the other. Where the codes' effects add up, so do these, to 1. Returns a
    measure, see bootstrap(), with keys 'inter decides' and 'intra decides'.
    """
    return lambda weights: {f'{code} decides': changes[code] @ weights / max(changes['both'] @ weights, 1e-30)
        for code in ['inter', 'intra']}

@torch.no_grad()
def path_lengths(synthesize, features, first, second, epsilon=EPSILON):
    """Squared perceptual speed of images at one end of straight paths between codes: d(G(w_0), G(lerp(w_0, w_1,
    eps))) / eps^2.

    StyleGAN2's path length in W (its ppl_wend) is the mean of them, see trimmed().
    It does not depend on the scale of W.

    synthesize: codes [N, num_ws, w_dim] -> images; features: of images, see perceptual.load(); first, second: codes.
    Returns [N].
    """
    images = synthesize(torch.cat([first, first.lerp(second, epsilon)]))
    return perceptual.distance(*features(images).chunk(2)) / epsilon ** 2

def trimmed(lengths):
    """A measure: the mean of [N] without those outside of the quantiles OUTLIERS, as upstream has it. Key: 'length'."""
    low, high = np.quantile(lengths, OUTLIERS[0], method='lower'), np.quantile(lengths, OUTLIERS[1], method='higher')
    kept = (lengths >= low) & (lengths <= high)
    return lambda weights: dict(length=np.average(lengths, weights=np.where(kept, weights, 0)))

#----------------------------------------------------------------------------
