"""The groups of channels (Section 3.1).

They are learned from the similarity of kernels, as many as are asked for or as there are, found by what channels change
in images, or, to compare with, fixed or found by k-means.

Imports nothing but torch and torch_utils, since its source travels in every pickle; see networks.py.

Index letters in shape comments: C channels, g groups.
"""

import torch

from torch_utils import persistence

# Below 0.2 the groups of kernels that are still random harden until nothing moves them: without this limit, kernels
# that cluster from step 2000 to 4000 ended at an adjusted Rand index of 0.34-0.46 (C=64), with it at 1.00.
MIN_TEMPERATURE = 0.2
MAX_TEMPERATURE = 5 # Upper end of the learnable temperature; the paper reports that it settles near 0.3.
STEP_SLOPE = 50 # Of the soft step that learns a threshold, in the released code.
STEP_WEIGHT = 5 # Of the term that learns it, in the released code.
INERTIA_STEPS = 4000 # Training steps after which the inertia has reached half its value.
INERTIA_ROUNDS = 16 # The same for groups by effects, rounds of measuring.
MAX_GROUPS = 32 # From which the number of groups is found; the most that the paper tries (Table 3).
# Training steps without merging. Groups still mix clusters before, and of 24 only 19-21 would be left.
MERGE_AFTER = 1000
# Groups merge whose channels are so much as alike as those of one group; 1 for halves of a cluster, 0 for two clusters.
MERGE_RATIO = 0.6
# And more alike than chance by so many deviations, since random kernels have groups that are no clusters.
MERGE_DEVIATIONS = 4
# Of a feature map, at most so many rows and columns are compared: thousands of pixels per image are enough.
RESPONSE_SIDE = 64
# How much tighter new k-means groups must be to take over; on random kernels most pairs of starts differ by less.
KMEANS_GAIN = 0.01

#----------------------------------------------------------------------------
# Similarity of kernels (Eq. 1-2).

def cosine_similarity(kernels):
    """Cosine of the angle between every two kernels (Eq. 1; paper: S).

    kernels: [C, ...] one kernel per channel, flattened here to [C, d].
    Returns [C, C], symmetric, values in [-1, 1]. A kernel of zeros is similar to nothing, itself included.
    """
    rows = torch.nn.functional.normalize(kernels.flatten(1), dim=1)
    return rows @ rows.t()

def channel_responses(features):
    """Where in a batch each channel responds: takes the place of its kernel where groups go by responses.

    features: [N, C, H, W].
    Returns [C, N*h*w] fp32, each row less its mean, so that the cosines of Eq. 1 are correlations.
    No gradient into the features.
    """
    stride = max(features.shape[-1] // RESPONSE_SIDE, 1)
    rows = features.detach()[:, :, ::stride, ::stride].to(torch.float32).transpose(0, 1).flatten(1)
    return rows - rows.mean(dim=1, keepdim=True)

def similarity_noise(similarity):
    """Standard deviation of the cosines between unrelated kernels.

    From the median deviation, which clusters hardly change. similarity: [C, C]. Returns a scalar tensor.
    """
    return 1.4826 * (similarity - similarity.median()).abs().median() # The factor is that of a Gaussian.

def similarity_threshold(similarity, num_groups):
    """The threshold that leaves every channel C/g similar ones on average (Section 4.1; paper: r).

    That is the (1 - 1/g) quantile of all C*C similarities, the diagonal included, so that `similarity >= threshold`
    holds for C*C/g pairs. similarity: [C, C]. Returns a scalar tensor.
    """
    total = similarity.numel()
    kept = round(total / num_groups)
    return similarity.flatten().kthvalue(total - kept + 1).values

def soft_step(similarity, threshold, num_groups):
    """A step H(S - r) that is smooth in r, and how far its number of ones is from C*C/g, as in the released code.

    similarity: [C, C]. threshold: scalar tensor (paper: r).
    Returns (similar [C, C] in (0, 1), excess), excess being the squared difference between the share of ones and 1/g.
    """
    similar = (STEP_SLOPE * (similarity - threshold)).sigmoid()
    return similar, (similar.mean() - 1 / num_groups).square()

def grouping_loss(probabilities, similar):
    """Mean squared error between the groups' and the kernels' similarity (Eq. 2; paper: L_g).

    probabilities: [..., C, g] rows of N(G/t), of several layers at once where there are more dimensions.
    similar:       [..., C, C] zero-one matrix H(S - r), or a soft one in [0, 1].
    Returns [...]. Expands |P P^T - H|^2 as |P^T P|^2 - 2 <P, H P> + |H|^2, which needs no [C, C] matrix of its own
    in the backward pass.
    """
    overlap = probabilities.mT @ probabilities # [gg]
    agreement = (probabilities * (similar @ probabilities)).sum(dim=[-2,-1])
    errors = overlap.square().sum(dim=[-2,-1]) - 2 * agreement + similar.square().sum(dim=[-2,-1])
    return errors / similar.shape[-1] ** 2

def bounded_temperature(logit):
    """Any number, of any shape -> a temperature (paper: t) in (0.2, 5)."""
    return MIN_TEMPERATURE + (MAX_TEMPERATURE - MIN_TEMPERATURE) * logit.sigmoid()

def soft_assignment(logits, temperature):
    """N(G/t). logits: [..., C, g], temperature: [...]. Returns [..., C, g]."""
    return (logits / temperature[..., None, None]).softmax(dim=-1)

class WithoutGradient(torch.autograd.Function):
    """Returns x as it is, and sends zeros to parameters that have no part in it.

    DistributedDataParallel waits for a gradient of each of them.
    """
    @staticmethod
    def forward(ctx, x, *parameters):
        ctx.save_for_backward(*parameters)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, dx):
        return dx, *[torch.zeros_like(parameter) for parameter in ctx.saved_tensors]

@persistence.persistent_class
class Grouping(torch.nn.Module):
    """What all groupings share: the group of each channel is `assignment`, [C] int64, which a subclass has."""
    def __init__(self,
        num_channels,   # Number of channels to group (paper: c).
        num_groups,     # Number of groups (paper: g).
    ):
        if not 1 <= num_groups <= num_channels:
            raise ValueError(
                f'num_groups must be between 1 and the {num_channels} channels of the layer, not {num_groups}')
        super().__init__()
        self.num_channels = num_channels
        self.num_groups = num_groups

    @property
    def live_groups(self):
        """int64 indices of the groups that channels may join: all of them, but where a subclass merges some."""
        return torch.arange(self.num_groups, device=self.assignment.device)

    def forward(self):
        """[C, g] one-hot rows of the hard assignment. No gradient goes through it."""
        assignment = self.assignment
        membership = torch.zeros([self.num_channels, self.num_groups], device=assignment.device)
        return membership.scatter_(1, assignment[:, None], 1)

    def attach(self, x):
        """Returns x, whose gradient gives all parameters of the grouping one: images send none, see WithoutGradient."""
        return WithoutGradient.apply(x, *self.parameters())

@persistence.persistent_class
class ChannelGrouping(Grouping):
    """The group of each channel, learned from the kernels that produce the channels (Section 3.1).

    `logits` (paper: G) start near zero, where the softmax is smooth enough for every channel to change its mind; the
    temperature is learnable and in (0.2, 5) by construction.

    Kernels in training turn slowly, and their similarities are mostly small: the best groups by Eq. 2 change all the
    time, and each channel that changes group jumps to another style. Hence the inertia: channels that are in one group
    count as more similar by so many deviations of the cosines between unrelated kernels. Groups give way to clusters
    that stand out, not to noise. It grows as steps / (steps + 4000), so that the first groups are found freely.
    Measured with the networks of configs/tiny.toml on 32x32 faces, mean over three layers: 19-46% of the channels
    changed group in 1000 steps after step 2000 without inertia, 4-8% and falling with a constant one of 1.5, 1% from
    step 4500 on with 3 that grows like this. The mean cosine inside groups was 0.058, 0.048 and 0.057, between groups
    0.002 or less. These are the recorded kernels of one training, replayed; trained anew with 3, all channels together,
    6% changed group up to step 2000, 2% to 3000, 1% to 5000.
    """
    def __init__(self,
        num_channels,               # Number of channels to group (paper: c).
        num_groups,                 # Number of groups (paper: g).
        threshold           = 'auto', # Cosine from which two kernels are alike (paper: r): a number in [-1, 1], 'auto'
                                    # (see similarity_threshold()) or 'learned' (see soft_step()).
        inertia             = 3,    # Bonus for the present groups, deviations of the cosines between unrelated kernels.
        temperature         = 0.3,  # Initial softmax temperature (paper: t), in (0.2, 5).
        init_std            = 0.01, # Standard deviation of the initial logits.
    ):
        super().__init__(num_channels, num_groups)
        if threshold not in ['auto', 'learned'] and not (isinstance(threshold, (int, float)) and -1 <= threshold <= 1):
            raise ValueError(f"threshold must be 'auto', 'learned' or a number in [-1, 1], not {threshold!r}")
        if not inertia >= 0:
            raise ValueError(f'inertia must be non-negative, not {inertia}')
        self.threshold = threshold
        self.inertia = inertia
        self.register_buffer('steps', torch.zeros([])) # Of training, counted by whoever trains.
        self.learned_threshold = None # The paper's r.
        if threshold == 'learned':
            self.learned_threshold = torch.nn.Parameter(torch.tensor(0.1))
        self.logits = torch.nn.Parameter(torch.randn([num_channels, num_groups]) * init_std)
        share = (temperature - MIN_TEMPERATURE) / (MAX_TEMPERATURE - MIN_TEMPERATURE)
        self.temperature_logit = torch.nn.Parameter(torch.logit(torch.tensor(share)))

    @property
    def temperature(self):
        """Scalar tensor in (0.2, 5)."""
        return bounded_temperature(self.temperature_logit)

    @property
    def assignment(self):
        """[C] int64: the group of each channel, the argmax of its logits."""
        return self.logits.argmax(dim=1)

    def probabilities(self):
        """[C, g]: the soft assignment N(G/t)."""
        return soft_assignment(self.logits, self.temperature)

    @torch.no_grad()
    def target(self, kernels):
        """What the kernels that produce these channels, [C, ...], ask of loss(); good while they hardly change.

        Returns (similar [C, C], r): the zero-one matrix H(S - r) and the threshold. Where that is learned, S and None.
        """
        similarity = cosine_similarity(kernels)
        if self.inertia > 0:
            together = self.assignment[:, None] == self.assignment
            inertia = self.inertia * self.steps / (self.steps + INERTIA_STEPS)
            similarity = similarity + inertia * similarity_noise(similarity) * together
        if self.threshold == 'learned':
            return similarity, None
        if self.threshold == 'auto':
            threshold = similarity_threshold(similarity, len(self.live_groups))
        else:
            threshold = similarity.new_tensor(self.threshold)
        return (similarity >= threshold).to(self.logits.dtype), threshold

    def loss(self, target):
        """Eq. 2 for a target() of the kernels. Returns (L_g, r), with the term that learns r where that is learned."""
        similar, threshold = target
        if threshold is not None:
            return grouping_loss(self.probabilities(), similar), threshold
        similar, excess = soft_step(similar, self.learned_threshold, len(self.live_groups))
        return grouping_loss(self.probabilities(), similar.detach()) + STEP_WEIGHT * excess, self.learned_threshold

    def forward(self):
        return super().forward().to(self.logits.dtype)

@persistence.persistent_class
class MergingGrouping(ChannelGrouping):
    """Learns the number of groups too (Section 5, future work): starts with many, merges those that are one cluster.

    Merging joins columns of N(G/t) and leaves the logits alone, so that an average of networks whose groups merge stays
    an average. Planted clusters (cosine 0.5), 8, 16 or 24 of them in 64 or 512 channels, are found to +-1 from 32.
    """
    def __init__(self,
        num_channels,       # Number of channels to group (paper: c).
        max_groups,         # Number of groups at the start.
        **learning,         # Threshold, inertia and so on, see ChannelGrouping.
    ):
        super().__init__(num_channels, max_groups, **learning)
        # The group that now has the channels of each group.
        self.register_buffer('merged_into', torch.arange(max_groups))

    @property
    def live_groups(self):
        return self.merged_into.unique()

    @property
    def assignment(self):
        return self.probabilities().detach().argmax(dim=1)

    def probabilities(self):
        """[C, g], zero for groups that are merged into others."""
        merged = torch.nn.functional.one_hot(self.merged_into, self.num_groups).to(self.logits.dtype)
        return super().probabilities() @ merged

    @torch.no_grad()
    def merge(self, kernels):
        """Merge all pairs of groups that are one cluster by the kernels that produce these channels, [C, ...].

        Two groups are if a channel of one and a channel of the other are, on average, nearly as alike as two channels
        of the tighter one. An empty group joins the one that shares most channels with it, and a group of strays the
        one it is most alike to; the grouping loss then sends each of them home. Uses no random numbers: ranks stay
        alike. Returns a list of (kept, gone, share): group `gone` had that share of the channels they have together.
        """
        similarity = cosine_similarity(kernels)
        noise = similarity_noise(similarity)
        merged = []
        while (pair := self._most_alike(similarity, noise)) is not None:
            self.join(*pair[:2])
            merged.append(pair)
        return merged

    def join(self, kept, gone):
        """Give all channels of the group `gone` to `kept`."""
        self.merged_into[self.merged_into == gone] = kept

    def _most_alike(self, similarity, noise):
        """The two groups to merge next, as merge() returns them, or None."""
        live = self.live_groups
        if len(live) == 1:
            return None
        membership = self.forward()[:, live] # [Cg], here and below g counts live groups.
        sizes = membership.sum(dim=0)
        if sizes.min() == 0:
            empty = sizes.argmin()
            overlap = self.probabilities()[:, live].t() @ self.probabilities()[:, live[empty]]
            overlap[empty] = -1
            return live[overlap.argmax()].item(), live[empty].item(), 0.0

        # [gg] over the pairs of channels of two groups, or of one and the same.
        sums = membership.t() @ similarity @ membership
        pairs = sizes[:, None] * sizes
        pairs_inside = sizes * (sizes - 1)
        sums_inside = sums.diagonal() - sizes # A channel and itself are no pair.
        mean_inside = sums_inside.sum() / pairs_inside.sum().clamp(min=1) # Stands in for groups of one channel.
        inside = torch.where(pairs_inside > 0, sums_inside / pairs_inside.clamp(min=1), mean_inside)
        between = sums / pairs
        ratio = between / torch.maximum(inside[:, None], inside).clamp(min=1e-6)

        # A group of strays, no more alike than chance, each of which is alike to a group that is none, goes as well.
        loose = (pairs_inside > 0) & (inside < MERGE_DEVIATIONS * noise / (pairs_inside / 2).clamp(min=1).sqrt())
        affinity = similarity @ membership / sizes # [Cg]
        at_home = (affinity >= MERGE_RATIO * inside) & (affinity >= MERGE_DEVIATIONS * noise / sizes.sqrt()) & ~loose
        strays = loose & (membership.t() @ (~at_home.any(dim=1)).to(membership.dtype) == 0)
        ratio = torch.where(strays[:, None] | strays, 1 + between, ratio)

        ratio[between < MERGE_DEVIATIONS * noise / pairs.sqrt()] = -1
        ratio.fill_diagonal_(-1)
        if ratio.max() < MERGE_RATIO:
            return None
        first, second = divmod(ratio.argmax().item(), len(live))
        kept, gone = (first, second) if sizes[first] >= sizes[second] else (second, first)
        return live[kept].item(), live[gone].item(), (sizes[gone] / (sizes[kept] + sizes[gone])).item()

def equal_blocks(num_channels, num_groups):
    """[C] int64: groups of consecutive channels, equal in size up to one."""
    return torch.arange(num_channels) * num_groups // num_channels

@persistence.persistent_class
class FixedGrouping(Grouping):
    """Groups of equal size that are not learned, to compare with: `blocks` of consecutive channels or `random` ones."""
    def __init__(self,
        num_channels,   # Number of channels to group (paper: c).
        num_groups,     # Number of groups (paper: g).
        kind,           # 'blocks' or 'random'.
    ):
        super().__init__(num_channels, num_groups)
        assignment = equal_blocks(num_channels, num_groups)
        self.register_buffer('assignment', assignment if kind == 'blocks' else assignment[torch.randperm(num_channels)])

@persistence.persistent_class
class EffectGrouping(Grouping):
    """Groups of channels that change the same things in images. Whoever trains measures that, and calls take().

    Until then they are blocks of consecutive channels. As in ChannelGrouping the inertia grows, so that the first
    groups are found freely: while a network learns to draw, what its channels change is soon something else.
    """
    def __init__(self,
        num_channels,       # Number of channels to group (paper: c).
        num_groups,         # Number of groups (paper: g).
        inertia     = 3,    # What staying in its group is worth to a channel, deviations of what is measured.
    ):
        super().__init__(num_channels, num_groups)
        self.full_inertia = inertia
        self.register_buffer('rounds', torch.zeros([])) # In which groups were found.
        self.register_buffer('assignment', equal_blocks(num_channels, num_groups))

    @property
    def is_settled(self):
        """Whether anybody has found these groups, in this training or before."""
        return bool(self.rounds > 0)

    @property
    def inertia(self):
        """What it is by now."""
        return self.full_inertia * (self.rounds / (self.rounds + INERTIA_ROUNDS)).item()

    @torch.no_grad()
    def take(self, assignment, rounds=1):
        """Let channels be in these groups, [C]. rounds: as many have found them."""
        self.assignment.copy_(assignment)
        self.rounds += rounds

@persistence.persistent_class
class KMeansGrouping(Grouping):
    """Groups found by k-means on the directions of the kernels, to compare with; refresh() follows kernels that move.

    All channels are in the first group until the first refresh(). From then on no group is empty, nor larger than twice
    the average.
    """
    def __init__(self,
        num_channels,       # Number of channels to group (paper: c).
        num_groups,         # Number of groups (paper: g).
        iterations  = 20,   # Most rounds of assigning channels and moving centres in one refresh().
    ):
        super().__init__(num_channels, num_groups)
        self.iterations = iterations
        self.register_buffer('assignment', torch.zeros([num_channels], dtype=torch.int64))

    @property
    def is_settled(self):
        """Whether refresh() has made these groups, in this training or before."""
        return self.num_groups == 1 or bool(self.assignment.any())

    @torch.no_grad()
    def refresh(self, kernels):
        """Group again by the kernels that produce these channels, [C, ...]. Uses no random numbers: ranks stay alike.

        k-means starts twice, at the centres of the present groups and at kernels far from each other. The present
        groups go on unless the others are clearly tighter, which then take over the names of those that they share most
        channels with.
        """
        similarity = cosine_similarity(kernels.double())
        start = self.assignment if self.is_settled else equal_blocks(self.num_channels, self.num_groups).to(
            self.assignment.device)
        ours = self._cluster(similarity, start)
        fresh = self._cluster(similarity, self._farthest_first(similarity))
        before, after = [tightness(similarity, groups, self.num_groups) for groups in [ours, fresh]]
        if after > before * (1 + KMEANS_GAIN):
            ours = renamed_groups(fresh, ours, self.num_groups)
        self.assignment.copy_(ours)

    def _farthest_first(self, similarity):
        """[C] groups around kernels each as unlike the ones before as can be; the first is the most typical."""
        seeds = [similarity.sum(dim=1).argmax()]
        for _index in range(1, self.num_groups):
            nearest = similarity[:, torch.stack(seeds)].amax(dim=1)
            nearest[torch.stack(seeds)] = float('inf')
            seeds.append(nearest.argmin())
        seeds = torch.stack(seeds)
        assignment = similarity[:, seeds].argmax(dim=1)
        assignment[seeds] = torch.arange(self.num_groups, device=seeds.device) # Kernels of zeros are unlike themselves.
        return assignment

    def _cluster(self, similarity, assignment):
        """Rounds of k-means from the groups of `assignment`, [C], none of them empty; until nothing changes."""
        capacity = 2 * self.num_channels // self.num_groups
        for _round in range(self.iterations):
            affinity = centre_similarity(similarity, assignment, self.num_groups)
            proposed = _assign_with_capacity(affinity, capacity)
            for group in (proposed.bincount(minlength=self.num_groups) == 0).nonzero().flatten().tolist():
                fit = affinity.gather(1, proposed[:, None])[:, 0]
                fit[proposed.bincount(minlength=self.num_groups)[proposed] == 1] = float('inf')
                proposed[fit.argmin()] = group # The channel that fits worst where it is.
            if torch.equal(proposed, assignment):
                break
            assignment = proposed
        return assignment

def centre_similarity(similarity, assignment, num_groups):
    """Cosine of each kernel with the mean direction of each group: [C, C], [C] -> [C, g], -inf for an empty group."""
    membership = torch.nn.functional.one_hot(assignment, num_groups).to(similarity.dtype) # [Cg]
    sums = similarity @ membership
    lengths = (membership * sums).sum(dim=0).sqrt() # Of the sum of the group's unit kernels.
    return torch.where(membership.sum(dim=0) > 0, sums / lengths.clamp(min=1e-12), -float('inf'))

def tightness(similarity, assignment, num_groups):
    """Mean cosine between a kernel and the centre of its group, what k-means on directions maximises. Scalar tensor."""
    return centre_similarity(similarity, assignment, num_groups).gather(1, assignment[:, None]).mean()

def renamed_groups(assignment, previous, num_groups):
    """`assignment` [C] with its groups renumbered so that they share many channels with those of `previous` [C].

    Pairs of groups are matched greedily, most shared channels first.
    """
    one_hot = torch.nn.functional.one_hot
    shared = one_hot(assignment, num_groups).t() @ one_hot(previous, num_groups) # [gg]
    names = torch.empty_like(assignment[:1].expand(num_groups))
    for _pair in range(num_groups):
        group, name = divmod(shared.argmax().item(), num_groups)
        names[group] = name
        shared[group], shared[:, name] = -1, -1
    return names[assignment]

def _assign_with_capacity(affinity, capacity):
    """[C, g] -> [C]: a channel joins the group it likes best of those that keep it; these keep the `capacity` best."""
    affinity = affinity.clone()
    while True:
        assignment = affinity.argmax(dim=1)
        crowded = (assignment.bincount(minlength=affinity.shape[1]) > capacity).nonzero().flatten().tolist()
        if not crowded:
            return assignment
        for group in crowded:
            members = (assignment == group).nonzero().flatten()
            order = affinity[members, group].argsort(descending=True, stable=True)
            affinity[members[order[capacity:]], group] = -float('inf')

def grouping_losses(groupings, targets):
    """Eq. 2 for the learned groupings of several layers. Returns their L_g, [L] for L layers, in their order.

    targets: what each one's target() gave. Layers of equal shapes share their operations: a GPU, and a small network on
    a CPU, takes as long for one layer as for all of them.
    """
    alike = dict() # {shape: indices of layers}
    for index, (grouping, (_similar, threshold)) in enumerate(zip(groupings, targets)):
        plain = type(grouping) is ChannelGrouping and threshold is not None # Subclasses may have other probabilities.
        alike.setdefault(tuple(grouping.logits.shape) if plain else index, []).append(index)
    losses = dict()
    for indices in alike.values():
        if len(indices) == 1:
            losses[indices[0]], _threshold = groupings[indices[0]].loss(targets[indices[0]])
            continue
        logits = torch.stack([groupings[index].logits for index in indices])
        temperature_logits = torch.stack([groupings[index].temperature_logit for index in indices])
        probabilities = soft_assignment(logits, bounded_temperature(temperature_logits))
        similar = torch.stack([targets[index][0] for index in indices])
        losses.update(zip(indices, grouping_loss(probabilities, similar).unbind()))
    return torch.stack([losses[index] for index in range(len(groupings))])

def initial_groups(num_groups, num_channels):
    """With how many groups a layer starts: num_groups, or where that is 'auto' MAX_GROUPS, of two channels at least."""
    return max(min(MAX_GROUPS, num_channels // 2), 1) if num_groups == 'auto' else num_groups

def make_grouping(kind, num_channels, num_groups, **learning):
    """The module that groups channels: 'similarity' (learned, see ChannelGrouping), 'effects', 'kmeans', 'blocks' or
    'random'.

    num_groups: a number or, for 'similarity', 'auto': found by merging, see initial_groups(). Raises ValueError.
    """
    if kind not in ['similarity', 'effects', 'kmeans', 'blocks', 'random']:
        raise ValueError("grouping must be 'similarity', 'effects', 'kmeans', 'blocks', 'random' or 'none', "
            f'not {kind!r}')
    if num_groups == 'auto':
        if kind != 'similarity':
            raise ValueError(f'num_groups must be a number for {kind} groups, not auto')
        return MergingGrouping(num_channels, initial_groups(num_groups, num_channels), **learning)
    if kind == 'similarity':
        return ChannelGrouping(num_channels, num_groups, **learning)
    if kind == 'effects':
        return EffectGrouping(num_channels, num_groups, inertia=learning.get('inertia', 3))
    if kind == 'kmeans':
        return KMeansGrouping(num_channels, num_groups)
    return FixedGrouping(num_channels, num_groups, kind)

#----------------------------------------------------------------------------
