"""What single channels change in images, and which of them change the same things.

    >>> from sarigan_plugin.steering import channel_effects
    >>> from sarigan_plugin.steering import sampling
    >>> from sarigan_plugin.snapshots import reading
    >>> G = reading.load('network.pkl', 'network')
    >>> ws = sampling.sample_ws(G, seeds=range(4), trunc=1)
    >>> strongest = channel_effects.strongest(channel_effects.screen(G, ws), 10)
    >>> effects = channel_effects.exchange(G, ws, strongest)
    >>> channel_effects.cluster(effects.rows(), num_groups=3).shape
    torch.Size([10])

A channel's style is exchanged for the one of another image, all else stays, and what changes is the channel's effect.
The images' partners are the images before them.
"""

import contextlib
import dataclasses
import time

import torch

from sarigan_plugin.model.grouped import captured_features
from sarigan_plugin.steering.conditioned import known
from sarigan_plugin.steering.styles import layer_styles, restyled, styled_layers
from sarigan_plugin.support import pictures

GRID        = 4         # Squared change is averaged over so many rows and columns of cells.
MAX_PIXELS  = 2 ** 16   # Of the images that are made at once.
MAX_WORK    = 2.4e13    # Multiplications that exchanges may take: minutes at 64x64 with 512 channels, on two cores.
MIN_SINGLE  = 64        # Channels that are exchanged one by one, whatever it takes.
IDLE        = 1e-8  # Share of the strongest channel's change.
TIMED       = 4     # Images by which it is told how long all take.
STARTS      = 8         # Of k-means, of which the best is kept,
STEPS       = 50        # and the steps of each, at most.
SIDE        = 8         # Of feature maps, for responses.
SHARED      = dict(noise_mode='const', fused_modconv=False) # Images share their kernels: faster than one for each.

def partners(x):
    """For each image, what the one before it has."""
    return x.roll(1, dims=0)

def batches(G, *tensors):
    """Tensors [N, ...] in parts of the images that are made at once: a list of tuples."""
    size = max(MAX_PIXELS // G.img_resolution ** 2, 1)
    return list(zip(*(x.split(size) for x in tensors)))

def exchanged_styles(G, ws):
    """{layer: [N, C], the styles of the images' partners}."""
    return {name: partners(layer_styles(layer, ws[:, 0])) for name, layer in styled_layers(G).items()}

#----------------------------------------------------------------------------
# Images from some block on.

class Rendering:
    """The images of some codes, and what each block read while they were made, to go on from there."""

    def __init__(self, G, ws):
        """ws: [N, num_ws, w_dim]."""
        self.synthesis = G.synthesis
        self.ws = {}
        first = 0
        for res in G.synthesis.block_resolutions:
            block = getattr(G.synthesis, f'b{res}')
            self.ws[f'b{res}'] = ws[:, first : first + block.num_conv + block.num_torgb].to(torch.float32)
            first += block.num_conv
        self.known = known(G, ws)
        self.inputs = {}
        self.images = self._run(list(self.ws), None, None, keep=True)

    def again(self, block):
        """The images once more, from a block such as 'b8' on. Returns [N, C, H, W]."""
        names = list(self.ws)
        return self._run(names[names.index(block):], *self.inputs[block])

    def exchanged(self, layers, masks, others):
        """The images with some channels of others, see exchanging(); from the first block on that has any."""
        blocks = list(self.ws)
        with exchanging(layers, masks, others):
            return self.again(min(map(block_of, masks), key=blocks.index))

    def _run(self, names, x, img, keep=False):
        with self.known.joined():
            for name in names:
                if keep:
                    self.inputs[name] = x, img
                x, img = getattr(self.synthesis, name)(x, img, self.ws[name], **SHARED)
        return self.known.pasted(img)

def block_of(layer):
    """'b8.conv1' -> 'b8'."""
    return layer.split('.', maxsplit=1)[0]

def cells(change):
    """Squared changes of pixels [N, C, H, W], averaged over channels and in GRID x GRID cells: [N, GRID^2]."""
    return torch.nn.functional.adaptive_avg_pool2d(change.mean(dim=1, keepdim=True), GRID).flatten(1)

#----------------------------------------------------------------------------
# What channels change.

def screen(G, ws, progress=lambda jobs: jobs):
    """To first order, the squared change of each cell where a channel's style is exchanged: {layer: [C, GRID^2]}.

    With v of random signs in one cell and zero elsewhere, E (v . dx/ds_k)^2 = sum of the squares of dx/ds_k in the
    cell, so that one pass backward says something of all channels of all layers at once. ws: [N, num_ws, w_dim].
    """
    layers, others = styled_layers(G), exchanged_styles(G, ws)
    sums = {name: torch.zeros([x.shape[1], GRID ** 2], dtype=torch.float64) for name, x in others.items()}
    random = torch.Generator().manual_seed(0)
    parts = batches(G, ws, *others.values())
    seen = None
    for part, cell in progress([(part, cell) for part in range(len(parts)) for cell in range(GRID ** 2)]):
        if seen != part:
            seen, (own, *theirs) = part, parts[part]
            images, leaves = _differentiable(G, layers, own)
        signs = (torch.randint(2, images.shape, generator=random) * 2 - 1).to(images)
        slopes = torch.autograd.grad((images * signs * _mask(images, cell)).sum(), leaves, retain_graph=True)
        for name, slope, leaf, other in zip(layers, slopes, leaves, theirs):
            sums[name][:, cell] += (slope * (other - leaf.detach())).square().sum(dim=0).double().cpu()
    return {name: total * GRID ** 2 / (len(ws) * images[0].numel()) for name, total in sums.items()}

def _differentiable(G, layers, ws):
    """Images of which the styles of all layers are leaves: (images, [leaf [N, C] of each layer])."""
    leaves = [layer_styles(layer, ws[:, 0]).detach().clone().requires_grad_() for layer in layers.values()]
    with torch.enable_grad(), contextlib.ExitStack() as stack:
        for layer, leaf in zip(layers.values(), leaves):
            stack.enter_context(restyled(layer, lambda _own, leaf=leaf: leaf))
        return G.synthesis(ws, **SHARED), leaves

def _mask(images, cell):
    """1 in one of the cells of [N, C, H, W], 0 elsewhere: [H, W]."""
    mask = torch.zeros([GRID ** 2], device=images.device)
    mask[cell] = 1
    return torch.nn.functional.interpolate(mask.view(1, 1, GRID, GRID), size=images.shape[2:])[0, 0]

def affordable(G, num_images):
    """How many channels are exchanged one by one, at most: as many as MAX_WORK allows, but MIN_SINGLE at least."""
    work = 0
    for name, layer in styled_layers(G).items():
        work += layer.weight.numel() * int(block_of(name)[1:]) ** 2
    return max(int(MAX_WORK / max(work * num_images, 1)), MIN_SINGLE)

def strongest(screened, most):
    """{layer: indices of channels}, those of the largest screened changes, `most` at most; ties go to earlier ones."""
    totals = torch.cat([of_layer.sum(dim=1) for of_layer in screened.values()])
    kept = torch.zeros_like(totals, dtype=torch.bool)
    kept[totals.argsort(descending=True, stable=True)[:most]] = True
    of_layers = kept.split([len(of_layer) for of_layer in screened.values()])
    return {name: of_layer.nonzero()[:, 0] for name, of_layer in zip(screened, of_layers)}

@dataclasses.dataclass
class Effects:
    """What exchanging single channels changes; means over images."""
    channels:   dict            # {layer: int64 [K], the channels that were exchanged}; None: sets of them.
    grid:       torch.Tensor    # [sum of K, GRID^2], layer by layer: squared change in each cell, of pixels in [-1, 1].
    labels:     torch.Tensor    # [sum of K, A]: changes() of each attribute; A = 0 without scorer.
    names:      list            # Of the attributes.

    def places(self):
        """[(layer, channel)] of the rows."""
        return [(name, channel) for name, of_layer in self.channels.items() for channel in of_layer.tolist()]

    def busy(self):
        """bool [sum of K]: not those that change next to nothing, IDLE of what the strongest does."""
        total = self.grid.sum(dim=1)
        return total > IDLE * total.max()

    def without_idle(self):
        """The same without channels that change next to nothing."""
        return self.some(self.busy())

    def some(self, kept):
        """The same of some channels. kept: bool [sum of K]."""
        of_layers = kept.split([len(of_layer) for of_layer in self.channels.values()])
        channels = {name: of_layer[mask] for (name, of_layer), mask in zip(self.channels.items(), of_layers)}
        return Effects(channels, self.grid[kept], self.labels[kept], self.names)

    def rows(self):
        """What channels are clustered by: [sum of K, features], each of length 1.

        Where there are attributes, they are one half and the grid the other. Attributes that change often count no
        more than others.
        """
        parts = [self.grid]
        if self.labels.shape[1] > 0:
            parts.append(self.labels / self.labels.mean(dim=0).clamp(min=1e-12))
        return unit(torch.cat([unit(part) for part in parts], dim=1))

def unit(rows):
    """Rows of length 1; those of zeros get the same in all places."""
    tiny = 1e-6 * rows.norm(dim=1).max().clamp(min=1e-30)
    return torch.nn.functional.normalize(rows + tiny, dim=1)

def exchange(G, ws, channels, scorer=None, progress=lambda jobs: jobs):
    """Exchange single channels. Returns Effects.

    ws:       [N, num_ws, w_dim], the images.
    channels: {layer: int64 [K]}, those to exchange.
    scorer:   Called with images, uint8 [N, H, W, 3]; returns {attribute: [N]}.
    progress: Wraps the list of jobs, e.g. in a progress bar.
    """
    sets = [{name: torch.arange(styled_layers(G)[name].weight.shape[1]) == channel}
        for name, channel in Effects(channels, None, None, []).places()]
    return dataclasses.replace(exchange_sets(G, ws, sets, scorer, progress), channels=channels)

@torch.no_grad()
def exchange_sets(G, ws, sets, scorer=None, progress=lambda jobs: jobs):
    """Exchange all channels of each of some sets at once. Returns Effects, whose rows are the sets.

    sets: A list of {layer: bool [C]}. The others as for exchange().
    """
    layers, others = styled_layers(G), exchanged_styles(G, ws)
    parts = batches(G, ws, *others.values())
    grid, labels, attributes, seen = torch.zeros([len(sets), GRID ** 2], dtype=torch.float64), None, [], None
    for part, index in progress([(part, index) for part in range(len(parts)) for index in range(len(sets))]):
        if seen != part:
            seen, (own, *theirs) = part, parts[part]
            rendering, theirs = Rendering(G, own), dict(zip(others, theirs))
            before = scorer(pictures.to_uint8(rendering.images)) if scorer is not None else {}
            if labels is None:
                attributes, labels = list(before), torch.zeros([len(sets), len(before)], dtype=torch.float64)
        after = rendering.exchanged(layers, sets[index], theirs)
        grid[index] += cells((after - rendering.images).square()).sum(dim=0).double().cpu()
        if attributes:
            labels[index] += changes(before, scorer(pictures.to_uint8(after))).sum(dim=0)
    return Effects(None, grid / len(ws), labels / len(ws), attributes)

def changes(before, after):
    """How much each attribute changed, {attribute: [N]} twice: [N, A].

    Of whole numbers, which say what something is, whether it is another; not where one is negative: it can't be told.
    """
    return torch.stack([_change(torch.as_tensor(before[name]), torch.as_tensor(after[name])) for name in before], dim=1)

def _change(before, after):
    if before.is_floating_point():
        return (after.double() - before.double()).abs()
    return ((before != after) & (before >= 0) & (after >= 0)).double()

@contextlib.contextmanager
def exchanging(layers, masks, others):
    """Inside the `with`, channels {layer: bool [C]} have the styles of others, {layer: [N, C]}."""
    with contextlib.ExitStack() as stack:
        for name, mask in masks.items():
            stack.enter_context(restyled(layers[name], lambda styles, mask=mask, other=others[name]:
                torch.where(mask.to(styles.device), other, styles)))
        yield

@torch.no_grad()
def seconds(G, ws, channels, scorer=None):
    """How long exchange() will take, from how long single steps of it take."""
    count = {}
    for name, of_layer in channels.items():
        count[block_of(name)] = count.get(block_of(name), 0) + len(of_layer)
    rendering = Rendering(G, batches(G, ws)[0][0][:TIMED])
    return len(ws) * sum(_image_seconds(rendering, block, scorer) * number for block, number in count.items() if number)

@torch.no_grad()
def image_seconds(G, ws, scorer=None):
    """How long an image takes in which channels of all layers are exchanged. Arguments as for exchange()."""
    return _image_seconds(Rendering(G, batches(G, ws)[0][0][:TIMED]), block_of(next(iter(styled_layers(G)))), scorer)

def _image_seconds(rendering, block, scorer):
    """How long one takes from a block on, and to be looked at."""
    rendering.again(block)
    started = time.monotonic()
    images = rendering.again(block)
    if scorer is not None:
        scorer(pictures.to_uint8(images))
    return (time.monotonic() - started) / len(images)

def screening_seconds(G, ws):
    """How long screen() will take, from one image."""
    started = time.monotonic()
    images, leaves = _differentiable(G, styled_layers(G), ws[:1])
    made = time.monotonic()
    torch.autograd.grad(images.sum(), leaves)
    return len(ws) * (made - started + GRID ** 2 * (time.monotonic() - made))

#----------------------------------------------------------------------------
# What else channels may be alike in.

@torch.no_grad()
def responses(G, ws):
    """Where each channel responds: {layer: [C, N * cells], less the mean over images}."""
    layers = styled_layers(G)
    parts = {name: [] for name in layers}
    for part, in batches(G, ws):
        with captured_features(G.synthesis, layers) as features:
            G.synthesis(part, **SHARED)
        for name, x in features.items():
            pooled = torch.nn.functional.adaptive_avg_pool2d(x.float(), SIDE)
            parts[name].append(pooled.permute(1, 0, 2, 3).flatten(1).cpu().double())
    return {name: (lambda x: x - x.mean(dim=1, keepdim=True))(torch.cat(found, dim=1)) for name, found in parts.items()}

def kernels(G):
    """{layer: [C, weights], the kernels that make each of the channels that it reads}."""
    first = getattr(G.synthesis, f'b{G.synthesis.block_resolutions[0]}').conv1
    sources = [first, *styled_layers(G).values()]
    return {name: source.weight.detach().flatten(1).cpu().double() for name, source in zip(styled_layers(G), sources)}

#----------------------------------------------------------------------------
# Clusters.

def cluster(rows, num_groups, starts=STARTS):
    """Spherical k-means. rows: [K, features], of length 1. Returns int64 [K], in [0, num_groups), none of them empty.

    Each start takes a row at random, then again and again the row that is farthest from all centres.
    """
    best = (-float('inf'), None)
    for start in range(starts):
        random = torch.Generator().manual_seed(start)
        centres = rows[torch.randint(len(rows), [1], generator=random)]
        while len(centres) < num_groups:
            centres = torch.cat([centres, rows[(rows @ centres.t()).amax(dim=1).argmin()][None]])
        group = None
        for _step in range(STEPS):
            previous, group = group, (rows @ centres.t()).argmax(dim=1)
            if previous is not None and torch.equal(previous, group):
                break
            sums = torch.zeros_like(centres).index_add_(0, group, rows)
            found = sums.norm(dim=1, keepdim=True) > 0
            centres = torch.where(found, torch.nn.functional.normalize(sums, dim=1), centres)
        fit = (rows * centres[group]).sum().item()
        if fit > best[0]:
            best = (fit, group)
    return torch.unique(best[1], return_inverse=True)[1]

def best_number(rows, numbers):
    """The number of clusters with the largest silhouette(). rows: [K, features], of length 1."""
    numbers = [number for number in numbers if number < len(rows)] or [1]
    return max(numbers, key=lambda number: silhouette(rows, cluster(rows, number)))

def silhouette(rows, group):
    """How much nearer rows are to the centre of their own group than to the next one's: the mean of cosines.

    rows: [K, features], of length 1; group: [K]. 0 for a single group.
    """
    if group.max() == 0:
        return 0.0
    centres = torch.nn.functional.normalize(torch.zeros([int(group.max()) + 1, rows.shape[1]],
        dtype=rows.dtype).index_add_(0, group, rows), dim=1)
    near = (rows @ centres.t()).topk(2, dim=1).values
    own = (rows * centres[group]).sum(dim=1)
    distance, other = 1 - own, 1 - torch.where(near[:, 0] > own + 1e-9, near[:, 0], near[:, 1])
    return ((other - distance) / torch.maximum(other, distance).clamp(min=1e-12)).mean().item()

#----------------------------------------------------------------------------
