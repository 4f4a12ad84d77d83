"""What upstream's untouched code needs on current PyTorch and on machines without CUDA.

Upstream was written for torch 1.7-1.9 and one CUDA device per process. Nothing here edits its files: names inside its
modules are exchanged while the program runs, each for a reason given beside it. Line numbers are those of the pinned
commit.
"""

import contextlib
import functools
import importlib
import itertools
import os
import signal
import sys
import time
import types
import warnings
import zipfile
import zlib

import numpy as np
import torch

from sarigan_plugin.acceleration import cpu
from sarigan_plugin.acceleration import ops
from sarigan_plugin.datasets import listing
from sarigan_plugin.snapshots import label_kind
from sarigan_plugin.snapshots import reading
from sarigan_plugin.support import files
from sarigan_plugin.support import picture_files
from sarigan_plugin.support import processes
from sarigan_plugin.support import streams
from sarigan_plugin.trainer import transfer

#----------------------------------------------------------------------------
# The device.

DEVICES = ('auto', 'cuda', 'cpu')
LAST_SECONDS = 3 # Of a process that loads images.

def resolve_device(name='auto'):
    """'auto', 'cuda' or 'cpu' -> 'cuda' or 'cpu'. Raises ValueError where CUDA is asked for and missing."""
    if name not in DEVICES:
        raise ValueError(f'must be one of {", ".join(DEVICES)}, not {name!r}')
    if name == 'cuda' and not torch.cuda.is_available():
        raise ValueError('cuda was asked for, but PyTorch finds no CUDA device here; use cpu or auto')
    if name == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    return name

def num_devices(device_type):
    """How many processes of one device each this machine can run: GPUs, or CPU cores."""
    if device_type == 'cuda':
        return torch.cuda.device_count()
    return processes.available_cores()

#----------------------------------------------------------------------------
# A stand-in for the name `torch` inside one of upstream's modules.

class _WallClockEvent:
    """torch.cuda.Event for the CPU, where work is done when the call returns (training_loop.py:213, 276, 294)."""
    def __init__(self, enable_timing=False):
        _ = enable_timing
        self.time = None

    def record(self, stream=None):
        _ = stream
        self.time = time.perf_counter()

    def synchronize(self):
        pass

    def elapsed_time(self, end):
        return (end.time - self.time) * 1e3 # Milliseconds.

class _Overlay(types.ModuleType):
    """A module with some names exchanged; the rest is looked up in the original."""
    def __init__(self, original, **exchanged):
        super().__init__(original.__name__)
        self.__dict__.update(exchanged, _original=original)

    def __getattr__(self, name):
        return getattr(self._original, name)

def _cpu_device(device, index=None):
    """torch.device() that sends CUDA devices to the CPU."""
    if str(device).startswith('cuda'):
        return torch.device('cpu')
    return torch.device(device) if index is None else torch.device(device, index)

def _local_cuda_device(local_rank):
    """torch.device() for a process whose GPU has the index local_rank, whatever its rank (training_loop.py:124)."""
    def device(device, index=None):
        if device == 'cuda' and index is not None:
            return torch.device('cuda', local_rank)
        return torch.device(device) if index is None else torch.device(device, index)
    return device

def _distributed_data_parallel(module, device_ids=None, **kwargs):
    """DistributedDataParallel as upstream expects it (training_loop.py:187).

    From torch 2.0 on, broadcast_buffers=False also skips the broadcast at the start, and every rank would keep its own
    noise_const; and a module on the CPU takes no device_ids.
    """
    for tensor in module.buffers():
        torch.distributed.broadcast(tensor, src=0)
    on_cuda = next(module.parameters()).is_cuda
    return torch.nn.parallel.DistributedDataParallel(module, device_ids=device_ids if on_cuda else None, **kwargs)

def stand_in(device_type, local_rank=None):
    """`torch` for upstream's modules: the real one, but for what this machine or this version lacks.

    local_rank: index of this process's GPU, which upstream takes to be its rank; None = outside training.
    """
    parallel = _Overlay(torch.nn.parallel, DistributedDataParallel=_distributed_data_parallel)
    exchanged = dict(nn=_Overlay(torch.nn, parallel=parallel))
    if device_type == 'cpu':
        exchanged.update(device=_cpu_device, cuda=_Overlay(torch.cuda,
            Event                   = _WallClockEvent,
            current_stream          = lambda device=None: None,
            max_memory_allocated    = lambda device=None: 0,     # training_loop.py:332
            reset_peak_memory_stats = lambda device=None: None,  # training_loop.py:333
        ))
    elif local_rank is not None:
        exchanged.update(device=_local_cuda_device(local_rank))
    return _Overlay(torch, **exchanged)

#----------------------------------------------------------------------------
# The exchanges.

def prepare(device_type, grid=None, local_rank=None, trust=False, skip_bad_images=False, left_out=None):
    """Make upstream's training loop, metrics and tools run here; call once per process, before using them.

    device_type:     'cuda' or 'cpu'.
    grid:            (columns, rows), the most images on a sample sheet; None = upstream's size.
    local_rank:      index of this process's GPU in a training; None = whichever a tool names.
    trust:           run the code inside the pickle that training starts from?
    skip_bad_images: take another image for one that goes bad? Otherwise it raises BadImage.
    left_out:        {path of a data set: names of images that are no part of it}.
    """
    misc = importlib.import_module('torch_utils.misc')
    training_loop = importlib.import_module('training.training_loop')
    inpainting_data = importlib.import_module('sarigan_plugin.datasets.inpainting') # As it imports upstream's.
    path_length = importlib.import_module('metrics.perceptual_path_length')
    precision_recall = importlib.import_module('metrics.precision_recall')
    metric_utils = importlib.import_module('metrics.metric_utils')
    feature_stats = importlib.import_module('sarigan_plugin.features.statistics') # As they use this module.
    quality = importlib.import_module('sarigan_plugin.evaluation.quality')
    snapshot_metrics = importlib.import_module('sarigan_plugin.evaluation.snapshot_metrics')

    skip_samples(0)
    ops.choose_at_first_use()
    list_data_sets(left_out)
    _watch_images(skip_bad_images)
    _exchange(misc, 'print_module_summary', _without_side_effects)
    _exchange(misc, 'copy_params_and_buffers', lambda _copy: transfer.copy_with_report)
    read_networks = lambda f: reading.read_to_train_on(f, getattr(f, 'name', '?'), '--resume', trust)
    _exchange(training_loop, 'legacy', lambda legacy: _Overlay(legacy, load_network_pkl=read_networks))
    _exchange(training_loop, 'dnnlib', lambda dnnlib: _Overlay(dnnlib, util=_Overlay(dnnlib.util, open_url=reading.open_any,
        construct_class_by_name=_constructing(dnnlib.util.construct_class_by_name))))
    _exchange(training_loop, 'torch', lambda torch: stand_in(device_type, local_rank))
    _exchange(training_loop, 'open', lambda _builtin: files.training_open)
    sheets = inpainting_data.sheets
    _exchange(training_loop, 'save_image_grid', lambda save: _saved_whole(sheets.saving(save)))
    _exchange(training_loop, 'setup_snapshot_image_grid', lambda setup: sheets.setting_up(setup if grid is None else _cut_grid(setup, *grid)))
    exchanges = {name: snapshot_metrics.watched(getattr(torch.distributed, name)) for name in snapshot_metrics.EXCHANGES}
    distributed = _Overlay(torch.distributed, **exchanges)
    _exchange(metric_utils, 'torch', lambda torch: _Overlay(stand_in(device_type, local_rank), distributed=distributed))
    for module in [importlib.import_module('metrics.metric_main'), path_length]:
        _exchange(module, 'torch', lambda torch: _Overlay(torch, distributed=distributed))
    feature_stats.install(_exchange)
    quality.register()
    _exchange(path_length, 'np', lambda np: _Overlay(np, percentile=_percentile))
    _exchange(precision_recall, 'torch', lambda torch: _Overlay(torch, cdist=_cdist, distributed=distributed))
    if not torch.cuda.is_available():
        torch.Tensor.pin_memory = lambda self, *args, **kwargs: self # Page-locked memory is CUDA's (training_loop.py:266).

    # Both fall back to the native operator, which has had the second derivatives they were written for since torch 1.10.
    warnings.filterwarnings('ignore', message='(conv2d|grid_sample)_gradfix not supported')
    # _distributed_data_parallel() knows, and older releases have no other name for it.
    warnings.filterwarnings('ignore', message='`broadcast_buffers` is deprecated')
    # The covariance of fewer images than features; the trace, which is all that counts, is right to 1e-7 of it.
    warnings.filterwarnings('ignore', message='Matrix is singular')
    # Rows and columns of length one have strides to choose from, and DistributedDataParallel minds which.
    warnings.filterwarnings('ignore', message='Grad strides do not match bucket view strides')

_originals = dict() # (module name, name) -> what stood there at first, so that preparing twice wraps once.

def _exchange(module, name, exchange):
    original = _originals.setdefault((module.__name__, name), getattr(module, name, None))
    setattr(module, name, exchange(original))

class _Sampler(torch.utils.data.Sampler):
    """misc.py:115 hands the data set to the base class, which takes no argument from torch 2.5 on."""
    def __init__(self, data_source=None): # pylint: disable=super-init-not-called
        _ = data_source

def _without_side_effects(print_module_summary):
    """training_loop.py:164 runs G in training mode on uninitialised memory, and w_avg keeps what comes out, NaN at times."""
    def wrapper(module, inputs, *args, **kwargs):
        saved = [(buffer, buffer.clone()) for buffer in module.buffers()]
        outputs = print_module_summary(module, [x.nan_to_num(0, 0, 0).clamp(-1, 1) for x in inputs], *args, **kwargs)
        for buffer, value in saved:
            buffer.copy_(value)
        return outputs
    return wrapper

def _constructing(construct_class_by_name):
    """What the loop's data set and networks are to know beyond upstream's.

    training_loop.py:265 draws a label for every fake of every phase; where labels are images, that would cost more than
    all else. Networks remember what the labels of the data set before them were, see label_kind.py.
    """
    kind = None
    def wrapper(*args, **kwargs):
        nonlocal kind
        made = construct_class_by_name(*args, **kwargs)
        if isinstance(made, torch.utils.data.Dataset):
            kind = label_kind.of_dataset(made)
        elif isinstance(made, torch.nn.Module) and hasattr(made, 'c_dim'):
            label_kind.remember(made, kind)
        if hasattr(made, 'without_conditions'):
            made.without_conditions()
        return made
    return wrapper

def _percentile(a, q, interpolation='linear', **kwargs):
    """perceptual_path_length.py:126 names an argument that NumPy 2.4 removed."""
    return np.percentile(a, q, method=interpolation, **kwargs)

def _cdist(x1, x2):
    """precision_recall.py:31 takes fp16, which the CPU refuses for few images and is slow with for many."""
    return torch.cdist(x1.float(), x2.float()).to(x1.dtype) if x1.device.type == 'cpu' else torch.cdist(x1, x2)

def _cut_grid(setup_snapshot_image_grid, columns, rows):
    """Cut the sample sheet to its first columns and rows: 1024 images of 32 pixels cost a CPU ten seconds a time."""
    def wrapper(training_set, **kwargs):
        (width, height), images, labels = setup_snapshot_image_grid(training_set, **kwargs)
        size = (min(columns, width), min(rows, height))
        kept = np.arange(height * width).reshape(height, width)[:size[1], :size[0]].ravel()
        return size, images[kept], labels[kept]
    return wrapper

_OF_THE_START = ('reals.png', 'fakes_init.png') # Sample sheets that a run which goes on has already.

def _saved_whole(save_image_grid):
    """Sample sheets appear when they are whole, and a full disk ends in a warning."""
    def wrapper(img, fname, **kwargs):
        if os.path.basename(fname) in _OF_THE_START and os.path.exists(fname):
            return
        unfinished = os.path.join(os.path.dirname(fname), f'.writing-{os.path.basename(fname)}')
        try:
            save_image_grid(img, unfinished, **kwargs)
            os.replace(unfinished, fname)
        except OSError as error:
            if os.path.exists(unfinished):
                os.unlink(unfinished)
            if error.errno not in files.OUT_OF_SPACE:
                raise
            files.warn_out_of_space(fname, error)
    return wrapper

def skip_samples(number):
    """The training loop that starts next takes so many images of the training set for seen, in each process."""
    misc = importlib.import_module('torch_utils.misc')
    _exchange(misc, 'InfiniteSampler', lambda sampler: _starting_at(sampler, number))

class BadImage(Exception):
    """An image of the training set can't be read. The text names it."""
    def __str__(self):
        return super().__str__().strip().splitlines()[-1].removeprefix(f'{__name__}.BadImage: ') # DataLoader's workers put their traceback before it.

_skip_bad_images = False # As this process was prepared.

def _watch_images(skip):
    """Let data sets name an image that can't be read, or show another one for it."""
    global _skip_bad_images # For the processes that load images. pylint: disable=global-statement
    _skip_bad_images = skip
    dataset = importlib.import_module('training.dataset')
    inpainting_data = importlib.import_module('sarigan_plugin.datasets.inpainting') # As it imports upstream's.
    _exchange(dataset.ImageFolderDataset, '__getitem__', lambda getitem: _named_if_bad(getitem, skip))
    _exchange(dataset.ImageFolderDataset, '__init__', lambda init: _knowing_its_resolution(init) if skip else init)
    _exchange(dataset.ImageFolderDataset, '_load_raw_image', lambda load: _of_any_good_image(load) if skip else load)
    _exchange(inpainting_data.InpaintingDataset, 'get_label', lambda get_label: _named_if_bad(get_label, skip))

_OF_BAD_IMAGES = (OSError, ValueError, SyntaxError, AssertionError, zipfile.BadZipFile, zlib.error)
TRIES = 100 # Images drawn for one that can't be read, before all are tried in turn.

def _named_if_bad(get, skip):
    """A method of upstream's data set that takes an index, for images that datasets/check.py did not find bad.

    The image that stands in for a bad one is drawn at random, always the same for the same index: the next one would be
    seen as often as there are bad ones before it.
    """
    told = set()
    def wrapper(dataset, index):
        for other in _and_stand_ins(index, len(dataset)): # Where there is no such index, it is an IndexError as ever.
            try:
                return get(dataset, other)
            except _OF_BAD_IMAGES as error:
                name = dataset._image_fnames[dataset._raw_idx[other]] # pylint: disable=protected-access
                problem = f'{name} cannot be read or has another size ({error or type(error).__name__})'
                if not skip:
                    raise BadImage(problem) from None
                if name not in told:
                    told.add(name)
                    print(f'Warning: --data: {problem}; another image is shown for it.', file=sys.stderr)
        raise BadImage('no image can be read')
    return wrapper

def _and_stand_ins(index, count):
    yield index
    yield from np.random.RandomState(index).randint(count, size=TRIES).tolist()
    yield from range(count)

def _knowing_its_resolution(init):
    """The constructor of a data set, which asks its first image for the shape of all: see _of_any_good_image()."""
    def wrapper(dataset, path, resolution=None, **kwargs):
        dataset._wanted = resolution # pylint: disable=protected-access
        init(dataset, path, resolution=resolution, **kwargs)
        del dataset._wanted # pylint: disable=protected-access
    return wrapper

def _of_any_good_image(load_raw_image):
    """Give the constructor the first image of the right size, as the very first one may have gone bad."""
    def wrapper(dataset, raw_idx):
        if getattr(dataset, '_wanted', None) is None: # It is made already, or does not say.
            return load_raw_image(dataset, raw_idx)
        for other in range(len(dataset._image_fnames)): # pylint: disable=protected-access
            with contextlib.suppress(*_OF_BAD_IMAGES):
                image = load_raw_image(dataset, other)
                if image.shape[1:] == (dataset._wanted, dataset._wanted): # pylint: disable=protected-access
                    return image
        raise BadImage('no image can be read')
    return wrapper

#----------------------------------------------------------------------------
# Which files are images.

def list_data_sets(left_out=None):
    """Let upstream's ImageFolderDataset list what datasets/check.py looks at: linked folders, no junk, and none left out.

    left_out: see prepare(). It lists by os.walk() and ZipFile.namelist(), and takes what PIL has an extension for
    (dataset.py:167).
    """
    listing.leave_out(left_out or dict())
    def listed(path, names):
        return listing.listed(names, listing.left_out(path))

    class Archive(zipfile.ZipFile):
        def namelist(self):
            return listed(self.filename, super().namelist())

    dataset = importlib.import_module('training.dataset')
    def walk(path):
        yield path, [], listed(path, picture_files.walk(path))
    _exchange(dataset, 'os', lambda os: _Overlay(os, walk=walk))
    _exchange(dataset, 'zipfile', lambda zipfile: _Overlay(zipfile, ZipFile=Archive))

#----------------------------------------------------------------------------
# Where a training starts in the data set.

def _starting_at(sampler_class, first):
    """misc.InfiniteSampler without its first elements, which were seen before the training was interrupted."""
    sampler_class.__bases__ = (_Sampler,)
    class Sampler(sampler_class):
        def __iter__(self):
            return itertools.islice(super().__iter__(), first, None)
    return Sampler

#----------------------------------------------------------------------------
# Options that the device decides.

def fit_to_device(args, device_type):
    """Adapt the training loop's keyword arguments, in place, to where they will run."""
    args.data_loader_kwargs.worker_init_fn = beginning_to_load()
    if args.data_loader_kwargs.get('num_workers') == 0: # PyTorch refuses to load ahead without workers.
        args.data_loader_kwargs.prefetch_factor = None
    for kwargs in [args.G_opt_kwargs, args.D_opt_kwargs]:
        kwargs.betas = [float(beta) for beta in kwargs.betas] # train.py:185 has an int, which torch 2 refuses beside a float.
    if device_type == 'cpu':
        args.data_loader_kwargs.pin_memory = False
        args.G_kwargs.synthesis_kwargs.num_fp16_res = args.D_kwargs.num_fp16_res = 0 # Eight to ten times slower than fp32 there.

def beginning_to_load():
    """What each process that loads images does first: the worker_init_fn of a DataLoader."""
    return functools.partial(_begin_loading, _skip_bad_images)

def _begin_loading(skip_bad_images, _worker):
    _watch_images(skip_bad_images) # With several GPUs it is a fresh process, and no copy of one that is prepared.
    # Forked processes share the place in an open file: of two that read a zip file at a time, one gets what the other was to have, "Bad CRC-32".
    torch.utils.data.get_worker_info().dataset.close() # Opened again by whoever reads.
    _leave_signals_to_the_parent()

def _leave_signals_to_the_parent():
    """Signals reach all processes of a terminal or a job, and the images that are being loaded are still wanted.

    After SIGTERM a worker stays for some seconds, as multiprocessing sends it too, to workers that it then waits for.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_args: os._exit(0)) # Any other exit would be an error in the parent. pylint: disable=protected-access
    signal.signal(signal.SIGTERM, lambda *_args: signal.alarm(LAST_SECONDS))

#----------------------------------------------------------------------------
# What the patches ask for.

def __getattr__(name):
    """`from sarigan_plugin.hooks import host_torch as torch`: prepares this process the moment a tool asks for it."""
    if name != 'host_torch':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    streams.show_everything()
    device_type = resolve_device()
    prepare(device_type)
    cpu.prepare()
    return stand_in(device_type)

#----------------------------------------------------------------------------
