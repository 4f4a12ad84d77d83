"""Upstream's data sets as the plugin loads them, in this process and in those that a DataLoader starts."""

import functools
import os
import signal

import torch

from sarigan_plugin.datasets import bad_images, listing

LAST_SECONDS = 3 # Of a process that loads images.

def prepare(skip_bad_images=False, left_out=None):
    """Let upstream's data sets list what datasets/check.py looks at, and name images that can't be read.

    skip_bad_images: take another image for one that goes bad? Otherwise it raises bad_images.BadImage.
    left_out:        {path of a data set: names of images that are no part of it}.
    """
    listing.serve_upstream(left_out)
    bad_images.watch(skip_bad_images)

def beginning_to_load():
    """What each process that loads images does first: the worker_init_fn of a DataLoader."""
    return functools.partial(_begin_loading, bad_images.are_skipped())

def _begin_loading(skip_bad_images, _worker):
    bad_images.watch(skip_bad_images) # With several GPUs it is a fresh process, and no copy of one that is prepared.
    # Forked processes share the place in an open file: of two that read a zip file at a time, one gets what the other
    # was to have, "Bad CRC-32". Whoever reads opens it again.
    torch.utils.data.get_worker_info().dataset.close()
    _leave_signals_to_the_parent()

def _leave_signals_to_the_parent():
    """Signals reach all processes of a terminal or a job, and the images that are being loaded are still wanted.

    After SIGTERM a worker stays for some seconds, as multiprocessing sends it too, to workers that it then waits for.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_args: os._exit(0)) # Any other exit would be an error in the parent.
    signal.signal(signal.SIGTERM, lambda *_args: signal.alarm(LAST_SECONDS))

#----------------------------------------------------------------------------
