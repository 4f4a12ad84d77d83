"""How near generated images are to real ones, as sets: Fréchet distance, kernel distance,
precision and recall of a detector's features.

    from sarigan_plugin.evaluation import quality

    quality.measure('network.pkl', 'punks.zip', ['fd10k_lite0'])
    # {'fd10k_lite0': {'value': ..., 'floor': ..., 'low': ..., 'high': ..., 'num_samples': 10000}}

All values come from upstream's metric_main, with FID's formulas; with Inception alone they are called so. register()
adds those of EfficientNet-Lite0 there, for training and calc_metrics.py.
"""

import contextlib
import dataclasses

import numpy as np
import scipy.linalg
import torch

from sarigan_plugin.acceleration import cpu, ops
from sarigan_plugin.datasets import bad_images, check as dataset_check, loading
from sarigan_plugin.errors import UserError
from sarigan_plugin.evaluation import upstream_metrics
from sarigan_plugin.features import detectors, perceptual, statistics as feature_stats
from sarigan_plugin.snapshots import reading

COUNT       = 10000     # Images of our metrics, as many of each kind where there are so many.
MIN_COUNT   = 10        # Fewer say nothing.
RESAMPLES   = 1000      # Of the bootstrap,
CONFIDENCE  = 0.95      # and how often its interval holds what it is for.
NEIGHBOURS  = 3         # Of precision and recall.
GROUPS      = 20        # Of generated images, each of which is left out once for the interval of the recall,
MOST_NEIGHBOURS = 24    # and so many neighbours are looked at for one outside the group.
LANDMARKS   = 10000     # Images of each kind that the kernel is averaged over for the interval.

#----------------------------------------------------------------------------
# The metrics.

@dataclasses.dataclass(frozen=True)
class Metric:
    """One that has a floor and an interval."""
    name:       str
    kind:       str         # 'frechet', 'kernel' or 'manifold'.
    registered: str         # What metric_main calls it.
    count:      int         # Of generated images.
    detector:   str         # See detectors.address().
    any_detector: bool = False # May it be another one?
    all_real:   bool = False # All real images, however many are generated.

STEMS = {'fd10k': 'frechet', 'kd': 'kernel', 'pr': 'manifold'} # Of our metrics' names.
UPSTREAMS = {'fid': ('frechet', '50k', detectors.INCEPTION_URL), 'kid': ('kernel', '50k', detectors.INCEPTION_URL),
    'pr': ('manifold', '50k3', perceptual.VGG_URL)}

METRICS = {metric.name: metric for metric in [
    *(Metric(f'{stem}_lite0', kind, f'{stem}_lite0', COUNT, 'lite0') for stem, kind in STEMS.items()),
    *(Metric(stem, kind, f'{stem}_lite0', COUNT, 'lite0', any_detector=True) for stem, kind in STEMS.items()),
    *(Metric(f'{stem}{size}{full}', kind, f'{stem}{size}{full}', 50000, url, all_real=full != '')
        for full in ['_full', ''] for stem, (kind, size, url) in UPSTREAMS.items()),
]}

def register():
    """Make our metrics known to metric_main."""
    from metrics import metric_main  # Here, as upstream's tree may come to sys.path late.
    for stem, kind in STEMS.items():
        metric_main.register_metric(_registrable(f'{stem}_lite0', kind))

def _prepare(device_type):
    ops.choose_at_first_use()
    upstream_metrics.prepare(device_type)
    register()

def _registrable(name, kind):
    def metric(opts):
        opts.dataset_kwargs.update(max_size=None, xflip=False)
        orders = feature_stats.orders()
        with feature_stats.using(detector=orders.detector or 'lite0', num_real=orders.num_real or COUNT):
            found = _COMPUTE[kind](opts)
        return {name + suffix: value for suffix, value in found.items()}
    metric.__name__ = name
    return metric

def _frechet(opts):
    from metrics import frechet_inception_distance
    return {'': frechet_inception_distance.compute_fid(opts, max_real=None, num_gen=COUNT)}

def _kernel(opts):
    from metrics import kernel_inception_distance
    return {'': kernel_inception_distance.compute_kid(opts, max_real=None, num_gen=COUNT, num_subsets=100,
        max_subset_size=1000)}

def _manifold(opts):
    from metrics import precision_recall
    precision, recall = precision_recall.compute_pr(opts, max_real=None, num_gen=COUNT, nhood_size=NEIGHBOURS,
        row_batch_size=10000, col_batch_size=10000)
    return {'_precision': precision, '_recall': recall}

_COMPUTE = dict(frechet=_frechet, kernel=_kernel, manifold=_manifold)

def find(names, detector=None):
    """The Metrics of these names. Raises UserError."""
    found = []
    for name in names:
        if name not in METRICS:
            raise UserError(f'--metrics takes of {", ".join(METRICS)}, not {name!r}; '
                'others, as path lengths, are for calc_metrics.py.')
        metric = METRICS[name]
        if detector is not None and not metric.any_detector:
            raise UserError(f'--detector goes with --metrics={",".join(STEMS)}, not with {name}, which has its own.')
        found.append(dataclasses.replace(metric, detector=detector or metric.detector))
    if not found:
        raise UserError(f'--metrics: give one at least, of {", ".join(METRICS)}.')
    return found

def grows_with_fewer(name):
    """Whether the expected value depends on the number of images, as that of a Fréchet distance does."""
    return name in METRICS and METRICS[name].kind == 'frechet'

#----------------------------------------------------------------------------
# Measuring a network.

@dataclasses.dataclass(frozen=True)
class Measurement:
    """A value with what it has to be seen beside."""
    value:          float
    floor:          float   # The same between real images, see _disjoint().
    low:            float   # Bootstrap interval of the value, see interval().
    high:           float
    num_samples:    int     # Generated images,
    num_real:       int     # and real ones that they are compared with.
    num_features:   int     # Of the detector.
    floor_samples:  int     # Real images on either side of what the floor comes from.

def measure(network, data, metrics, num_samples=None, detector=None, seed=0, device='cpu', trust=False):
    """Measure the images of a network.

    network:     path of a pickle or an exported folder.
    data:        the real images, a zip or a folder; None = those that it was trained on, as the pickle says.
    metrics:     names in METRICS.
    num_samples: generated images; None = as the metric's name says. Where a metric takes as many real images,
    they are so many as well, drawn
                 at random, or all where there are fewer.
    detector:    for fd10k, kd and pr: see detectors.load(); None = lite0.
    seed:        of the generated images: the same one, the same value.
    Returns {name: {'value', 'floor', 'low', 'high', 'num_samples'}}; precision and recall have a name each,
    pr_lite0_precision and pr_lite0_recall.
    Raises UserError.
    """
    return {name: _reported(found) for name, found in measurements(network, data, metrics, num_samples, detector,
        seed, device, trust)}

def measurements(network, data, metrics, num_samples=None, detector=None, seed=0, device='cpu',
        trust=False, progress=None, skip_bad_images=False):
    """As measure(), but (name, Measurement) one after the other. progress: a ProgressMonitor of upstream,
    or what is used like one. skip_bad_images: leave out real images that can't be read, or of another shape."""
    device = torch.device(device)
    _prepare(device.type)
    cpu.prepare()
    chosen = find(metrics, detector)
    if num_samples is not None and num_samples < MIN_COUNT:
        raise UserError(f'--num-samples must be {MIN_COUNT} at least, not {num_samples}.')
    content = reading.load_all(network, 'PKL', trust)
    G = reading.averaged(content, device)
    dataset_kwargs, left_out = _data_set(G, content['training_set_kwargs'], data, skip_bad_images)
    loading.prepare(skip_bad_images, {dataset_kwargs['path']: left_out})
    del content # D takes as much memory as G.
    num_all = feature_stats.count_images(dataset_kwargs)
    if num_all < MIN_COUNT:
        raise UserError(f'--data: {dataset_kwargs["path"]} has {num_all} images; {MIN_COUNT} are needed at least.')
    for metric in chosen:
        require_detector(metric.detector, '--metrics' if detector is None else '--detector')

    with _naming_bad_images(dataset_kwargs['path']):
        kept = feature_stats.Kept()
        for metric in chosen:
            num_made = num_samples or metric.count
            num_real = num_all if metric.all_real else min(num_made, num_all)
            with feature_stats.using(detector=metric.detector, num_made=num_samples, kept=kept,
                    num_real=None if metric.all_real or num_samples is None else num_samples): # Else the metric knows.
                values = _calculate(metric, seed, device, G=G, dataset_kwargs=dataset_kwargs, progress=progress)
                real, made = kept.real, kept.made.get_all()
                if reading.completes_images(G):
                    pair = _resampled(real.get_all(), num_made)
                else:
                    pair = _disjoint(
                        feature_stats.of_real(min(2 * _balanced(num_made, num_real), feature_stats.MAX_KEPT)).get_all(),
                        num_made, num_real)
            yield from _judged(metric, values, real, made, pair, seed, device)

@contextlib.contextmanager
def _naming_bad_images(path):
    """Inside the `with`, an image that can't be read, and that dataset_check did not look at,
    is a mistake in --data."""
    try:
        yield
    except bad_images.BadImage as error:
        raise UserError(f'--data: {dataset_check.ended(f"{error}{dataset_check.mending(path)}")}') from None

def compare(images, others, detector='lite0', seed=0, device='cpu'):
    """The Fréchet distance of two sets of images, uint8 [N, H, W, 1 or 3], in the features of a detector;
    see detectors.load().

    Returns {'value', 'floor', 'low', 'high', 'num_samples'} as measure() does, with `images` in the place of generated
    ones and `others` in that of real ones. Raises ValueError.
    """
    network = detectors.load(detector, device)
    made, real = (detectors.features_of(network, batch, device) for batch in [images, others])
    found, = _judged(METRICS['fd10k'], {'fd10k': frechet_distance(real, made, device)}, feature_stats.stats_of(real),
        made, _disjoint(real, len(made), len(real)), seed, device)
    return _reported(found[1])

def frechet_floor(real, device='cpu'):
    """What the Fréchet distance of two sets of as many real features is, [N, F], by that of two halves;
    see _disjoint()."""
    first, second, factor = _disjoint(real, len(real), len(real))
    return frechet_distance(first, second, device) * factor

def frechet_distance(real, made, device='cpu'):
    """The Fréchet distance of two sets of features, [M, F] and [N, F]."""
    _prepare(torch.device(device).type)
    with feature_stats.using(features=(real, made)):
        return _calculate(METRICS['fd10k'], 0, device)['fd10k']

def _calculate(metric, seed, device, **kwargs):
    """{name: value}, by metric_main."""
    from metrics import metric_main
    results = metric_main.calc_metric(metric=metric.registered, seed=seed, device=torch.device(device),
        **kwargs).results
    return {name.replace(metric.registered, metric.name, 1): value for name, value in results.items()}

def _judged(metric, values, real, made, pair, seed, device):
    """(name, Measurement) of each value of a metric. real: FeatureStats; made: [N, F]; pair: of real features,
    with a factor, see _disjoint()."""
    *pair, factor = pair
    with feature_stats.using(features=pair):
        floors = _calculate(metric, seed, device)
    for name, value in values.items():
        low, high = interval(value, _contributions(metric, name, value, real, made), seed)
        if metric.kind == 'manifold': # Shares.
            low, high = max(low, 0.0), min(high, 1.0)
        floor = floors[name] * (factor if metric.kind == 'frechet' else 1)
        yield name, Measurement(value, floor, low, high, len(made), real.num_items, made.shape[1], len(pair[1]))

def _reported(measurement):
    return {field: getattr(measurement, field) for field in ['value', 'floor', 'low', 'high', 'num_samples']}

#----------------------------------------------------------------------------
# What may be measured.

def _data_set(G, trained_on, data, skip_bad_images):
    """(keyword arguments of the data set, as in calc_metrics.py; names of images that are left out of it).

    Raises UserError where it does not fit the network.

    trained_on: the training_set_kwargs of the network, or None.
    """
    if data is None and trained_on is None:
        raise UserError('--data is required: the pickle does not say what its network was trained on.')
    if data is None:
        kwargs = dict(trained_on)
    elif reading.completes_images(G): # Its labels are images with holes.
        kwargs = dict(class_name='sarigan_plugin.inpainting_data.InpaintingDataset', path=data,
            mask_source=(trained_on or {}).get('mask_source', 'mixed'))
    else:
        kwargs = dict(class_name='training.dataset.ImageFolderDataset', path=data)
    try:
        summary = dataset_check.check(kwargs['path'], skip_bad_images)
    except ValueError as error:
        raise UserError(f'--data: {dataset_check.ended(error)}') from None
    for what, theirs, ours in [('pixels', summary.resolution, G.img_resolution),
            ('channels', summary.channels, G.img_channels)]:
        if theirs != ours:
            problem = (f'{summary.path} has images of {theirs} {what}, '
                f'but the network makes images of {ours}{_as_made_by(G, summary)}')
            raise UserError(f'--data: {dataset_check.ended(problem)}')
    kwargs.update(resolution=G.img_resolution, use_labels=G.c_dim != 0, max_size=None) # As calc_metrics.py does.
    _check_labels(G, kwargs, summary)
    return kwargs, summary.left_out

def _as_made_by(G, summary):
    """The end of a sentence: how to make a data set like a generator's images of another one,
    unless its images are too small."""
    if summary.resolution < G.img_resolution:
        return ''
    colour = {1: 'grey', 3: 'rgb'}[G.img_channels]
    return dataset_check.mending(summary.path, 'a data set like these', resolution=G.img_resolution, colour=colour)

def _check_labels(G, kwargs, summary):
    if G.c_dim == 0 or reading.completes_images(G):
        return
    if not summary.has_labels:
        raise UserError(f'--data: {summary.path} has no labels, which a conditional network needs.')
    length = feature_stats.label_length(kwargs)
    if length != G.c_dim:
        raise UserError(f'--data: {summary.path} has labels of {length} numbers, but the network needs {G.c_dim}.')

def require_detector(choice, option='--detector'):
    """Raise UserError, naming the option, unless a detector is here or can be downloaded."""
    try:
        if detectors.is_url(choice):
            detectors.fetch(detectors.address(choice)).close()
        else:
            detectors.load(choice)
    except ValueError as error:
        raise UserError(f'{option}: {error}') from None

#----------------------------------------------------------------------------
# The floor: what the value would be of a network that makes images which are real in all but that they are not those of
# the data set.

def _balanced(num_made, num_real):
    """Images on either side that, by the bias of the Fréchet distance, are as good as num_made and num_real."""
    return round(2 / (1 / num_made + 1 / num_real))

def _disjoint(features, num_made, num_real):
    """Two sets of real features that share none, and the factor by which a Fréchet distance between more of them would
    be smaller.

    The sets are as large as _balanced() says, or halves where there are too few. The distance between samples of the
    same distribution goes down as 1 / size from about as many images as there are features on.
    """
    wanted = _balanced(num_made, num_real)
    size = min(wanted, len(features) // 2)
    order = np.random.RandomState(0).permutation(len(features))
    return features[order[:size]], features[order[size : 2 * size]], size / wanted

def _resampled(features, num_made):
    """As _disjoint(), for a network that completes images: a perfect one would give back the real images of the
    conditions that are drawn."""
    return features, features[np.random.RandomState(0).randint(len(features), size=num_made)], 1

#----------------------------------------------------------------------------
# The interval: where the values of other seeds are, with the real images as they are.

def interval(value, contributions, seed=0):
    """Bootstrap interval of a value whose generated images each contribute so much to it, [N]: (low, high).

    The contributions of as many images are drawn with replacement, RESAMPLES times.
    The values of whole resampled sets would all be too
    high: a set with repetitions is a smaller set to a Fréchet distance.
    """
    random = np.random.RandomState(seed % 2 ** 32)
    centred = contributions - contributions.mean()
    means = [centred[random.randint(len(centred), size=len(centred))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(value + low), float(value + high)

def _contributions(metric, name, value, real, made):
    if metric.kind == 'frechet':
        return frechet_contributions(made, *real.get_mean_cov())
    if metric.kind == 'kernel':
        return kernel_contributions(made, real.get_all())
    if name.endswith('_precision'): # A share of the generated images.
        return np.arange(len(made)) < round(value * len(made))
    return recall_contributions(made, real.get_all())

def frechet_contributions(made, mean, cov):
    """What each generated image adds to the Fréchet distance, to first order: its influence function. made: [N, F].

    Returns [N].

    With d the difference of means, y the features without their mean and T the linear map that takes the Gaussian of
    generated images to that of real ones, it is 2 d.y + y.y - y.Ty, up to a constant.
    """
    made_mean, made_cov = made.mean(axis=0, dtype=np.float64), np.cov(made, rowvar=False, bias=True, dtype=np.float64)
    values, vectors = scipy.linalg.eigh(cov)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    values, vectors = scipy.linalg.eigh(root @ made_cov @ root)
    seen = values > values[-1] * 1e-10 # Of fewer images than features the rest is noise.
    y = made - made_mean
    mapped = np.square(y @ (root @ vectors[:, seen])) / np.sqrt(values[seen])
    return 2 * y @ (made_mean - mean) + np.square(y).sum(axis=1) - mapped.sum(axis=1)

def kernel_contributions(made, real):
    """What each generated image adds to the kernel distance, to first order. made: [N, F], real: [M, F].

    Returns [N].
    """
    made, real = (torch.from_numpy(features) for features in [made, real])
    to_made, to_real = (torch.cat([_kernel_of(batch, others[:LANDMARKS]).mean(dim=1) for batch in made.split(1000)])
        for others in [made, real])
    return 2 * (to_made - to_real).numpy()

@torch.no_grad()
def recall_contributions(made, real):
    """What each of GROUPS groups of generated images adds to the recall: what it would be without them.

    Returns [GROUPS].

    A generated image covers real ones that are no further than its NEIGHBOURS-th neighbour. Few of them may cover many.
    """
    made, real = (torch.from_numpy(features) for features in [made, real])
    count = min(GROUPS, len(made) - NEIGHBOURS)
    group = torch.arange(len(made)) % count
    # [N, GROUPS]
    radii = torch.cat([_radii(made[rows], made, group, count) for rows in torch.arange(len(made)).split(1000)])
    radii[torch.arange(len(made)), group] = -1 # It covers nothing where it is not there.
    covered = torch.zeros([count])
    for batch in real.split(1000):
        distances = torch.cdist(batch, made)
        covered += torch.stack([(distances <= radii[:, index]).any(dim=1).sum() for index in range(count)])
    return (1 - count) * (covered / len(real)).numpy()

def _radii(rows, made, group, count):
    """Distance of the NEIGHBOURS-th neighbour of images that are among those made, without each group:
    [rows, groups]."""
    near = torch.cdist(rows, made).topk(min(MOST_NEIGHBOURS, len(made)), largest=False)
    radii = []
    for index in range(count):
        distances = near.values.masked_fill(group[near.indices] == index, np.inf)
        radii.append(distances.kthvalue(NEIGHBOURS + 1).values) # Itself is the first.
    return torch.stack(radii, dim=1)

def _kernel_of(x, y):
    return (x @ y.T / x.shape[1] + 1) ** 3

#----------------------------------------------------------------------------
