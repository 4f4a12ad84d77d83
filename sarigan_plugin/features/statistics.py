"""Features of real and generated images: by which detector, of how many images, and what to keep.

All metrics of upstream get their features from two functions of metric_utils, which prepare() wraps; so
calc_metrics.py, training and `sarigan metrics` measure alike. Every metric draws random numbers of its own: the same
network has the same value each time, and a training goes on as if nothing had been measured.
"""

import contextlib
import copy
import dataclasses

import numpy as np
import torch

from sarigan_plugin.datasets import listing, loading
from sarigan_plugin.features import detectors
from sarigan_plugin.support import files
from sarigan_plugin.upstream.exchanges import exchange

import dnnlib

# Real images whose features are all kept, in memory and in the cache; as many as upstream's precision and recall take.
MAX_KEPT = 200000

#----------------------------------------------------------------------------
# What a metric is asked to do differently.

@dataclasses.dataclass(frozen=True)
class Orders:
    """What differs from what a metric asks for by itself."""
    detector:   str | None = None   # Another detector: a name, a URL or a path, see detectors.address().
    num_real:   int | None = None   # So many real images, drawn at random; metrics take the first, or all.
    num_made:   int | None = None   # So many generated images.
    features:   tuple | None = None # Features of real and of generated images, [M, F] and [N, F]: nothing is looked at.
    kept:       'Kept | None' = None # Takes the features of all images, so that each is looked at once.

class Kept:
    """Features of real and of generated images, as upstream's FeatureStats: those asked for last, and all before."""
    def __init__(self):
        self.real = None
        self.made = None
        self.opts = None    # Those that the real ones were asked for with.
        self.known = dict()

    def once(self, key, make):
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]

_orders = Orders()

@contextlib.contextmanager
def using(**changes):
    """Inside the `with`, metrics of this process have these Orders, besides those that they have already."""
    global _orders # Upstream's metrics hand nothing through.
    before = _orders
    _orders = dataclasses.replace(before, **changes)
    try:
        yield
    finally:
        _orders = before

def orders():
    """Those of now."""
    return _orders

#----------------------------------------------------------------------------
# Wrapped functions of upstream.

def prepare():
    """Let upstream's metrics follow orders()."""
    exchange('metrics.metric_utils', 'get_feature_detector', _any_detector,
        'metric_utils.py:40 knows detectors by their URLs alone')
    exchange('metrics.metric_utils', 'compute_feature_stats_for_dataset', _of_dataset,
        'metric_utils.py:180 takes the first images, and knows what it keeps by a path, whatever is there')
    exchange('metrics.metric_utils', 'compute_feature_stats_for_generator', _of_generator,
        'metric_utils.py:232 makes images anew for each metric')
    exchange('metrics.metric_main', 'calc_metric', _with_its_own_random_numbers,
        "metric_main.py:39 draws the training's random numbers")

CPU = torch.device('cpu')

def _any_detector(get_feature_detector):
    """NVIDIA's by their URLs, as ever, and those of detectors.py."""
    def wrapper(url, device=CPU, **kwargs):
        if dnnlib.util.is_url(url):
            return get_feature_detector(str(url), device, **kwargs)
        return detectors.load(str(url), device)
    return wrapper

def _of_dataset(compute):
    def wrapper(opts, detector_url, detector_kwargs, max_items=None, **kwargs):
        orders = _orders
        if orders.features is not None:
            return stats_of(orders.features[0])
        if orders.kept is not None:
            orders.kept.opts = opts
        opts, url = _with_num_real(opts, orders), _url(detector_url, orders)
        count = count_images(opts.dataset_kwargs)
        max_items = None if orders.num_real is not None or (max_items or count) >= count else max_items
        data = opts.dataset_kwargs.path
        opts.dataset_kwargs.path = Stamped(data, files.fingerprint(data), max_items, *listing.left_out(data))
        kwargs.setdefault('data_loader_kwargs', _loading(opts.device))
        if orders.kept is not None and (max_items or count) <= MAX_KEPT:
            kwargs.update(capture_all=True, capture_mean_cov=True)
        def made():
            with torch.random.fork_rng(devices=[]): # Loading draws a number, a look into the cache does not.
                return compute(opts, Stamped(url, files.fingerprint(url)), detector_kwargs,
                    max_items=max_items, **kwargs)
        if orders.kept is None:
            return made()
        orders.kept.real = orders.kept.once(('real', url, repr(opts.dataset_kwargs)), made)
        return orders.kept.real
    return wrapper

def _of_generator(compute):
    def wrapper(opts, detector_url, detector_kwargs, max_items=None, **kwargs):
        orders = _orders
        if orders.features is not None:
            return stats_of(orders.features[1])
        opts, url = _with_num_real(opts, orders), _url(detector_url, orders)
        max_items = orders.num_made or max_items
        if orders.kept is None:
            return compute(opts, url, detector_kwargs, max_items=max_items, **kwargs)
        kwargs.update(capture_all=True, capture_mean_cov=True)
        made = lambda: (compute(opts, url, detector_kwargs, max_items=max_items, **kwargs), np.random.get_state())
        orders.kept.made, state = orders.kept.once(('made', url, max_items, repr(opts.dataset_kwargs)), made)
        np.random.set_state(state) # As if they had been made again.
        return orders.kept.made
    return wrapper

def _with_num_real(opts, orders):
    """Options of a metric, with as many real images as ordered: for labels as well."""
    opts = copy.copy(opts)
    opts.dataset_kwargs = dnnlib.EasyDict(opts.dataset_kwargs)
    if orders.num_real is not None and orders.num_real < count_images(opts.dataset_kwargs):
        # Upstream's first images may be all of one class.
        opts.dataset_kwargs.update(max_size=orders.num_real, random_seed=0)
    return opts

def _url(url, orders):
    return detectors.address(orders.detector or url)

def _loading(device):
    """Arguments of the DataLoader. On a CPU it is the detector that takes the time."""
    if torch.device(device).type == 'cpu':
        return dict(num_workers=0)
    return dict(pin_memory=True, num_workers=3, prefetch_factor=2, worker_init_fn=loading.beginning_to_load())

def _with_its_own_random_numbers(calc_metric):
    def wrapper(metric, seed=0, num_gpus=1, rank=0, device=None, **kwargs):
        state = np.random.get_state()
        devices = [device] if device is not None and device.type == 'cuda' else []
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            torch.manual_seed(seed * num_gpus + rank)
            np.random.seed((seed * num_gpus + rank) % 2 ** 32)
            try:
                return calc_metric(metric, num_gpus=num_gpus, rank=rank, device=device, **kwargs)
            finally:
                np.random.set_state(state)
    return wrapper

#----------------------------------------------------------------------------

def stats_of(features):
    """Upstream's FeatureStats of features [N, F]."""
    from metrics import metric_utils
    stats = metric_utils.FeatureStats(capture_all=True, capture_mean_cov=True)
    stats.append(features)
    return stats

def of_real(num_real):
    """FeatureStats of another number of a metric's real images, inside the `with` that kept their features."""
    from metrics import metric_utils
    with using(num_real=num_real):
        return metric_utils.compute_feature_stats_for_dataset(_orders.kept.opts, _orders.detector,
            dict(return_features=True))

def label_length(dataset_kwargs):
    with contextlib.closing(dnnlib.util.construct_class_by_name(**dataset_kwargs)) as dataset:
        return dataset.label_dim

def count_images(dataset_kwargs):
    with contextlib.closing(dnnlib.util.construct_class_by_name(**dataset_kwargs)) as dataset:
        return len(dataset)

#----------------------------------------------------------------------------
# Statistics of a data set are in upstream's cache under the repr() of what they were made of: a path,
# whatever it held then.

class Stamped(str):
    """A string whose repr() is of other things: those that the statistics in the cache depend on."""
    def __new__(cls, text, *stamp):
        self = super().__new__(cls, text)
        self.stamp = stamp
        return self

    def __repr__(self):
        return repr(self.stamp)

    def __reduce__(self):
        return Stamped, (str(self), *self.stamp)

#----------------------------------------------------------------------------
