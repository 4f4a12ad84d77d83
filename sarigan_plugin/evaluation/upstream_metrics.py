"""Upstream's metrics on current packages, on this machine's device, and told what statistics.Orders say."""

import warnings

import numpy as np
import torch

from sarigan_plugin.evaluation import snapshot_metrics
from sarigan_plugin.features import statistics
from sarigan_plugin.upstream import host
from sarigan_plugin.upstream.exchanges import Overlay, exchange

#----------------------------------------------------------------------------

def prepare(device_type, local_rank=None):
    """Make upstream's metrics run in this process; call it before using them.

    device_type: 'cuda' or 'cpu'.
    local_rank:  index of this process's GPU in a training; None = whichever a tool names.
    """
    distributed = _watched_distributed()
    exchange('metrics.metric_utils', 'torch',
        lambda _torch: host.stand_in(device_type, local_rank, distributed=distributed),
        'metric_utils.py:29 wants CUDA by rank, :265 page-locked memory, and :46, '
        '102 and 198 wait for processes that have failed')
    exchange('metrics.perceptual_path_length', 'torch',
        lambda _torch: host.stand_in(device_type, local_rank, distributed=distributed),
        'perceptual_path_length.py:113 wants page-locked memory, and :118 waits for processes that have failed')
    exchange('metrics.metric_main', 'torch', lambda torch: Overlay(torch, distributed=distributed),
        'metric_main.py:52 waits for processes that have failed')
    exchange('metrics.precision_recall', 'torch', lambda torch: Overlay(torch, cdist=_cdist, distributed=distributed),
        'precision_recall.py:26 takes fp16, which the CPU refuses for few images; '
        ':30 waits for processes that have failed')
    exchange('metrics.perceptual_path_length', 'np', _with_old_percentile,
        'perceptual_path_length.py:126 names an argument that NumPy 2.4 removed')
    statistics.prepare()

    # The covariance of fewer images than features; the trace, which is all that counts, is right to 1e-7 of it.
    warnings.filterwarnings('ignore', message='Matrix is singular')

def _watched_distributed():
    watched = {name: snapshot_metrics.watched(getattr(torch.distributed, name))
        for name in snapshot_metrics.COLLECTIVES}
    return Overlay(torch.distributed, **watched)

def _with_old_percentile(np):
    return Overlay(np, percentile=_percentile)

def _percentile(a, q, interpolation='linear', **kwargs):
    return np.percentile(a, q, method=interpolation, **kwargs)

def _cdist(x1, x2):
    """The CPU is slow with fp16 for many images, too."""
    return torch.cdist(x1.float(), x2.float()).to(x1.dtype) if x1.device.type == 'cpu' else torch.cdist(x1, x2)

#----------------------------------------------------------------------------
