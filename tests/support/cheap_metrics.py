"""A training with metrics that cost nothing and fail in all ways: python cheap_metrics.py ARGUMENTS OF SARIGAN TRAIN.

The metric `endless` doesn't end when a process evaluates it for the $SARIGAN_TEST_HANG-th time: it makes the file
$SARIGAN_TEST_MARKER and waits.
"""

import itertools
import os
import sys
import time

import torch

import sarigan_plugin  # noqa: F401 # Finds upstream's tree.
from sarigan_plugin.commands.train import main

from metrics import metric_main, metric_utils

def exchanged(opts, count=8):
    """What upstream's metrics do: each process has features, and all get those of all."""
    stats = metric_utils.FeatureStats(capture_all=True, max_items=count)
    while not stats.is_full():
        z = torch.randn([2, opts.G.z_dim])
        features = opts.G(z, torch.zeros([2, opts.G.c_dim])).flatten(1)[:, :3]
        stats.append_torch(features, num_gpus=opts.num_gpus, rank=opts.rank)
    return float(stats.get_all().mean())

def fail_if(condition):
    if condition:
        raise RuntimeError('no luck')

@metric_main.register_metric
def mean(opts):
    return dict(mean=exchanged(opts))

@metric_main.register_metric
def fails(opts):
    fail_if(True)
    return dict(fails=exchanged(opts))

@metric_main.register_metric
def fails_in_first(opts):
    fail_if(opts.rank == 0)
    return dict(fails_in_first=exchanged(opts))

@metric_main.register_metric
def fails_in_second(opts):
    exchanged(opts)
    fail_if(opts.rank == 1)
    return dict(fails_in_second=exchanged(opts))

calls = itertools.count(1)

@metric_main.register_metric
def endless(opts):
    progress = opts.progress.sub(num_items=10 ** 9, flush_interval=0)
    if next(calls) == int(os.environ.get('SARIGAN_TEST_HANG', 0)):
        exchanged(opts)
        open(os.environ['SARIGAN_TEST_MARKER'], 'w', encoding='utf-8').close()
        for count in itertools.count():
            time.sleep(0.01)
            exchanged(opts)
            progress.update(count)
    return dict(endless=exchanged(opts))

if __name__ == '__main__':
    sys.exit(main())
