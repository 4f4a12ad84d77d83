"""Upstream's training loop, and all else of upstream's with it, on current PyTorch and on this machine's device."""

import itertools
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from sarigan_plugin.acceleration import cpu, ops
from sarigan_plugin.datasets import loading
from sarigan_plugin.evaluation import quality, upstream_metrics
from sarigan_plugin.snapshots import label_kind, reading
from sarigan_plugin.support import files, streams
from sarigan_plugin.trainer import transfer, updates
from sarigan_plugin.upstream import host, mistakes
from sarigan_plugin.upstream.exchanges import Overlay, exchange

LOOP = 'training.training_loop'

#----------------------------------------------------------------------------

def prepare(device_type: str, grid: tuple[int, int] | list[int] | None = None, local_rank: int | None = None,
            trust: bool = False, skip_bad_images: bool = False, left_out: dict[str, Any] | None = None) -> None:
    """Make upstream's training loop, metrics and tools run here; call once per process, before using them.

    device_type:     'cuda' or 'cpu'.
    grid:            (columns, rows), the most images on a sample sheet; None = upstream's size.
    local_rank:      index of this process's GPU in a training; None = whichever a tool names.
    trust:           run the code inside the pickle that training starts from?
    skip_bad_images, left_out: see loading.prepare().
    """
    ops.choose_at_first_use()
    loading.prepare(skip_bad_images, left_out)
    upstream_metrics.prepare(device_type, local_rank)
    quality.register()
    skip_samples(0)
    _show_samples(grid)
    exchange(LOOP, 'torch', lambda _torch: host.stand_in(device_type, local_rank),
        'training_loop.py:124 wants CUDA by rank, :187 the DistributedDataParallel of before, :213 CUDA events, '
        ':266 page-locked memory')
    exchange(LOOP, 'legacy', lambda legacy: Overlay(legacy, load_network_pkl=_reader(trust)),
        'training_loop.py:158 runs the code inside a pickle')
    exchange(LOOP, 'dnnlib', _with_our_util,
        'training_loop.py:157 opens no exported folder; '
        ':136 and :150 make data sets and networks that are to know more, :206 an Adam that is slow on a CPU')
    exchange(LOOP, 'open', lambda _builtin: files.training_open,
        'training_loop.py:237 and 366 end where a disk is full')
    exchange('torch_utils.misc', 'print_module_summary', _without_side_effects,
        'training_loop.py:164 runs G in training mode on uninitialised memory, '
        'and w_avg keeps what comes out, NaN at times')
    exchange('torch_utils.misc', 'copy_params_and_buffers', lambda _copy: transfer.copying(),
        'training_loop.py:160 skips what is missing without a word')

    # Both fall back to the native operator, which has the second derivatives they were written for since torch 1.10.
    warnings.filterwarnings('ignore', message='(conv2d|grid_sample)_gradfix not supported')
    # host.stand_in() knows, and older releases have no other name for it.
    warnings.filterwarnings('ignore', message='`broadcast_buffers` is deprecated')
    # Rows and columns of length one have strides to choose from, and DistributedDataParallel minds which.
    warnings.filterwarnings('ignore', message='Grad strides do not match bucket view strides')

def __getattr__(name: str) -> Any:
    """`from sarigan_plugin.hooks import host_torch as torch`: prepares this process the moment a tool asks for it."""
    if name != 'host_torch':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    streams.show_everything()
    mistakes.tell()
    device_type = host.resolve_device()
    prepare(device_type)
    cpu.prepare()
    return host.stand_in(device_type)

#----------------------------------------------------------------------------
# Where networks come from.

def _reader(trust: bool) -> Callable[[Any], Any]:
    return lambda f: reading.read_to_train_on(f, getattr(f, 'name', '?'), '--resume', trust)

def _with_our_util(dnnlib: Any) -> Overlay:
    construct = _constructing(dnnlib.util.construct_class_by_name)
    return Overlay(dnnlib, util=Overlay(dnnlib.util, open_url=reading.open_any, construct_class_by_name=construct))

def _constructing(construct_class_by_name: Callable[..., Any]) -> Callable[..., Any]:
    """What the loop's data set and networks are to know beyond upstream's, and the optimizer that is the same sooner.

    training_loop.py:265 draws a label for every fake of every phase; where labels are images, that would cost more than
    all else. Networks remember what the labels of the data set before them were, see label_kind.py.
    """
    kind: Any = None
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal kind
        if kwargs.get('class_name') == 'torch.optim.Adam' and kwargs.get('fused'): # As the options of all runs have it.
            kwargs['class_name'] = f'{updates.__name__}.Adam'
        made = construct_class_by_name(*args, **kwargs)
        if isinstance(made, torch.utils.data.Dataset):
            kind = label_kind.of_dataset(made)
        elif isinstance(made, torch.nn.Module) and hasattr(made, 'c_dim'):
            label_kind.remember(made, kind)
        if hasattr(made, 'without_conditions'):
            made.without_conditions()
        return made
    return wrapper

def _without_side_effects(print_module_summary: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(module: torch.nn.Module, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        saved = [(buffer, buffer.clone()) for buffer in module.buffers()]
        outputs = print_module_summary(module, [x.nan_to_num(0, 0, 0).clamp(-1, 1) for x in inputs], *args, **kwargs)
        for buffer, value in saved:
            buffer.copy_(value)
        return outputs
    return wrapper

#----------------------------------------------------------------------------
# Sample sheets.

def _show_samples(grid: tuple[int, int] | list[int] | None) -> None:
    from sarigan_plugin.datasets.inpainting import sheets  # Here, as upstream's tree may come to sys.path late.
    exchange(LOOP, 'save_image_grid', lambda save: _saved_whole(sheets.saving(save)),
        'training_loop.py:350 leaves half a sheet where it is killed and ends where a disk is full; '
        ':223 makes those of a run that goes on again')
    exchange(LOOP, 'setup_snapshot_image_grid',
        lambda setup: sheets.setting_up(setup if grid is None else _cut_grid(setup, *grid)),
        'training_loop.py:222 shows up to 1024 images, which cost a CPU ten seconds a time, and knows no inpainting')

def _cut_grid(setup_snapshot_image_grid: Callable[..., Any], columns: int, rows: int) -> Callable[..., Any]:
    """Cut the sample sheet to its first columns and rows."""
    def wrapper(training_set: Any, **kwargs: Any) -> Any:
        (width, height), images, labels = setup_snapshot_image_grid(training_set, **kwargs)
        size = (min(columns, width), min(rows, height))
        kept = np.arange(height * width).reshape(height, width)[:size[1], :size[0]].ravel()
        return size, images[kept], labels[kept]
    return wrapper

_OF_THE_START = ('reals.png', 'fakes_init.png') # Sample sheets that a run which goes on has already.

def _saved_whole(save_image_grid: Callable[..., Any]) -> Callable[..., None]:
    """Sample sheets appear when they are whole, and a full disk ends in a warning."""
    def wrapper(img: np.ndarray, fname: str, **kwargs: Any) -> None:
        if os.path.basename(fname) in _OF_THE_START and os.path.exists(fname):
            return
        unfinished = os.path.join(os.path.dirname(fname), f'.writing-{os.path.basename(fname)}')
        with files.out_of_space_warns(fname):
            try:
                save_image_grid(img, unfinished, **kwargs)
                os.replace(unfinished, fname)
            finally:
                if os.path.exists(unfinished):
                    os.unlink(unfinished)
    return wrapper

#----------------------------------------------------------------------------
# Where a training starts in the data set.

def skip_samples(number: int) -> None:
    """The training loop that starts next takes so many images of the training set for seen, in each process."""
    exchange('torch_utils.misc', 'InfiniteSampler', lambda sampler: _starting_at(sampler, number),
        'misc.py:115 hands the data set to its base class, which takes no argument from torch 2.5 on; '
        'and it starts at the first image')

class _Sampler(torch.utils.data.Sampler):
    """The base class as upstream knows it."""
    def __init__(self, data_source: Any = None) -> None:
        _ = data_source
        super().__init__()

def _starting_at(sampler_class: Any, first: int) -> type:
    """misc.InfiniteSampler without its first elements, which were seen before the training was interrupted."""
    class Sampler(sampler_class, _Sampler):
        def __iter__(self) -> Iterator[int]:
            return itertools.islice(super().__iter__(), first, None)
    return Sampler

#----------------------------------------------------------------------------
# Options that the device decides.

def fit_to_device(args: Any, device_type: str) -> None:
    """Adapt the training loop's keyword arguments, in place, to where they will run."""
    args.data_loader_kwargs.worker_init_fn = loading.beginning_to_load()
    if args.data_loader_kwargs.get('num_workers') == 0: # PyTorch refuses to load ahead without workers.
        args.data_loader_kwargs.prefetch_factor = None
    for kwargs in [args.G_opt_kwargs, args.D_opt_kwargs]:
        # train.py:185 has an int, which torch 2 refuses beside a float.
        kwargs.betas = [float(beta) for beta in kwargs.betas]
    if device_type == 'cpu':
        args.data_loader_kwargs.pin_memory = False
        # Eight to ten times slower than fp32 there.
        args.G_kwargs.synthesis_kwargs.num_fp16_res = args.D_kwargs.num_fp16_res = 0

#----------------------------------------------------------------------------
