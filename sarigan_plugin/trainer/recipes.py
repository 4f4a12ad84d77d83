"""From the command line and configs/*.toml to the keyword arguments of upstream's training_loop().

A `Recipe` holds what one --cfg name means. Upstream's six are listed here, ours are one TOML file each; the same code
turns either into keyword arguments, so upstream's names give exactly upstream's training options.
"""

import dataclasses
import difflib
import inspect
import math
import os
import re
from typing import Literal, Optional, get_args, get_origin

import dnnlib

from sarigan_plugin.datasets import check as dataset_check
from sarigan_plugin.datasets import mending
from sarigan_plugin.datasets import splits
from sarigan_plugin.datasets.masks import KINDS as MASKS, Source as MaskSource
from sarigan_plugin.errors import UserError
from sarigan_plugin.snapshots import exported
from sarigan_plugin.support.files import expanded
from sarigan_plugin.upstream import tree as upstream

try:
    import tomllib
except ImportError: # Python 3.10
    import tomli as tomllib

#----------------------------------------------------------------------------
# Recipes: what a --cfg name means.

GROUPINGS = ('similarity', 'kmeans', 'blocks', 'random', 'none')
SIMILARITIES = ('kernels', 'responses')
NORMS = ('weight', 'feature')
NORM_CHANNELS = ('layer', 'group')
INFO_VARIANCES = ('unit', 'learned')
INFO_TARGETS = ('codes', 'styles')
INFO_MIXINGS = ('mean', 'skip')
AUGMENTATIONS = ('noaug', 'ada', 'fixed')
TRAINING_SPLITS = ('train', 'all') # Of splits.SPLITS.

def as_threshold(what, value):
    """'auto', 'learned' or a number in [-1, 1], also as text. Raises UserError naming `what`."""
    if value in ['auto', 'learned']:
        return value
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not -1 <= number <= 1:
        raise UserError(f'{what} must be auto, learned or a number in [-1, 1], not {value!r}')
    return number

def as_num_groups(what, value):
    """An integer, 'auto', or {resolution or layer: integer}; as text '8', 'auto' or '8:16,16:8,b32.conv0:4'.

    Raises UserError naming `what`.
    """
    if value == 'auto':
        return value
    given = value
    if isinstance(value, str):
        pairs = [pair.strip().rpartition(':') for pair in value.split(',')]
        value = {place: _integer(number) for place, _colon, number in pairs} if ':' in value else _integer(value)
    if isinstance(value, str) or (isinstance(value, dict) and not all(re.fullmatch(r'\d+|b\d+\.conv[01]', place) for place in value)):
        raise UserError(f"{what} must be an integer, auto, or RESOLUTION:INTEGER or LAYER:INTEGER pairs as in 8:16,16:8,b32.conv0:4, not {given!r}")
    if isinstance(value, dict):
        return {place: typed(f'{what} of {place}', int, number) for place, number in value.items()}
    return typed(what, int, value)

def as_path(what, value):
    """The name of a file or folder, or a word in its place, as the command line takes it. Raises UserError naming `what`."""
    try:
        return expanded(typed(what, str, value))
    except ValueError as error:
        raise UserError(f'{what}: {error}') from None

def as_cpu_bf16(what, value):
    """'auto', true or false -> 'auto', '1' or '0'. Raises UserError naming `what`."""
    if value != 'auto' and not isinstance(value, bool):
        raise UserError(f'{what} must be "auto", true or false, not {value!r}')
    return value if value == 'auto' else str(int(value))

def _integer(text):
    """'8' -> 8; other text as it is."""
    return int(text) if re.fullmatch(r'\s*[+-]?\d+\s*', text) else text

@dataclasses.dataclass(frozen=True)
class Method:
    """[method]: what makes it SariGAN."""
    grouping:       Literal[GROUPINGS]  = 'similarity'  # How channels come to their groups.
    norm:           Literal[NORMS]      = 'weight'      # Eq. 5-6 or Eq. 3-4.
    norm_channels:  Literal[NORM_CHANNELS] = 'layer'    # What the norm of a group's styles counts; Eq. 5 has all of the layer's.
    norm_eps:       float               = 0.0           # Keeps that norm from zero; Eq. 5 has none.
    inter_gain:     float               = 1.0           # Of the initial weights that make styles of the inter-group code.
    num_groups:     as_num_groups       = 16            # Groups per layer (paper: g), 'auto', or a table of {resolution or layer: groups}.
    lambda_group:   float               = 2.0           # Weight of the grouping loss (paper: lambda_1).
    lambda_info:    float               = 10.0          # Weight of the info loss (paper: lambda_2).
    info_variance:  Literal[INFO_VARIANCES] = 'unit'    # Of Q's Gaussian (Eq. 8).
    info_target:    Literal[INFO_TARGETS] = 'codes'     # What Q predicts: w, or the styles that layers make of it.
    info_mixing:    Literal[INFO_MIXINGS] = 'mean'      # What Q aims at under style mixing.
    code_dim:       int                 = 512           # Dimensionality of each code, and of z.
    similarity:     Literal[SIMILARITIES] = 'kernels'   # What is alike in learned groups: Eq. 1, or where channels respond.
    threshold:      as_threshold        = 'auto'        # Cosine from which kernels are alike (paper: r).
    inertia:        float               = 3.0           # How much channels keep to their groups, in deviations of unrelated cosines.
    regroup_kimg:   float               = 4.0           # Thousands of images between two rounds of k-means, or of merging groups.

@dataclasses.dataclass(frozen=True)
class Inpainting:
    """[inpainting]: what makes it complete images (Section 4.3). --masks, --split and --lambda-l1 on the command line."""
    masks:          as_path             = 'mixed'       # Of the holes: one of MASKS, or a folder.
    split:          Literal[TRAINING_SPLITS] = 'train' # The images to train with, see splits.py.
    lambda_l1:      float               = 10.0          # Weight of the mean absolute error in the hole.

@dataclasses.dataclass(frozen=True)
class Networks:
    """[networks]: their size. None = upstream's default."""
    channel_base:   int                                 # Channels at resolution R: channel_base / R ...
    mapping_layers: int                                 # Layers of the mapping network.
    mbstd_group:    int                                 # Images that the minibatch standard deviation compares.
    channel_max:    int                 = 512           # ... but no more than this.
    num_fp16_res:   int                 = 4             # Resolutions, from the highest, that run in fp16 on CUDA, and in bf16 on CPUs.
    architecture:   Optional[Literal['orig', 'skip', 'resnet']] = None # Of the discriminator.

@dataclasses.dataclass(frozen=True)
class Training:
    """[training]: how long, how fast, how regularised. None = upstream's default."""
    kimg:           int                                 # Length, in thousands of real images shown to D.
    batch:          int                                 # Images per iteration.
    learning_rate:  float                               # Adam's, for both networks.
    r1_gamma:       float                               # Weight of the R1 penalty.
    ema_kimg:       float                               # Half-life of the averaged generator, thousands of images.
    batch_gpu:      Optional[int]       = None          # Most images that a GPU takes at a time; None = all its share.
    ref_gpus:       Optional[int]       = None          # Upstream's own rule: batch / ref_gpus at a time, however many GPUs.
    ema_rampup:     Optional[float]     = None          # The half-life is at most this share of the images so far.
    aug:            Literal[AUGMENTATIONS] = 'ada'      # Augmentation of D's images.
    style_mixing:   Optional[float]     = None          # Probability of mixing two styles.
    pl_weight:      Optional[float]     = None          # Weight of the path length penalty.
    G_reg_interval: Optional[int]       = None          # Iterations between path length penalties.
    D_reg_interval: Optional[int]       = None          # Iterations between R1 penalties.
    kimg_per_tick:  Optional[int]       = None          # Thousands of images between status lines.
    snap:           int                 = 50            # Ticks between snapshots.
    grid:           Optional[list]      = None          # [columns, rows] of the sample sheets.
    cpu_bf16:       as_cpu_bf16         = 'auto'        # See cpu_formats.py.
    workers:        int                 = 3             # Processes that load images; 0 = the one that trains.

@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that a --cfg name fixes. `method` is None for plain StyleGAN2-ADA, `inpainting` for unconditional images."""
    networks:       Networks
    training:       Training
    method:         Optional[Method]    = None
    inpainting:     Optional[Inpainting] = None
    summary:        str                 = ''

def _upstream_recipe(summary, kimg, mb, mbstd, fmaps, lrate, gamma, ema, ramp, layers, ref_gpus, **training):
    architecture = training.pop('architecture', None)
    return Recipe(summary=summary,
        networks=Networks(channel_base=int(fmaps * 32768), mapping_layers=layers, mbstd_group=mbstd, architecture=architecture),
        training=Training(kimg=kimg, batch=mb, learning_rate=lrate, r1_gamma=gamma, ema_kimg=ema, ema_rampup=ramp, ref_gpus=ref_gpus, **training))

def _auto_recipe(resolution, gpus):
    """Upstream's --cfg=auto, from the resolution and the number of GPUs."""
    batch = max(min(gpus * min(4096 // resolution, 32), 64), gpus)
    return _upstream_recipe('', kimg=25000, mb=batch, mbstd=min(batch // gpus, 4), fmaps=1 if resolution >= 512 else 0.5,
        lrate=0.002 if resolution >= 1024 else 0.0025, gamma=0.0002 * resolution ** 2 / batch, ema=batch * 10 / 32, ramp=0.05,
        layers=2, ref_gpus=gpus)

UPSTREAM_RECIPES = {
    'auto':      None, # Made by _auto_recipe().
    'stylegan2': _upstream_recipe('StyleGAN2 config F, 1024x1024.',    kimg=25000,  mb=32, mbstd=4,  fmaps=1,   lrate=0.002,  gamma=10,   ema=10,  ramp=None, layers=8, ref_gpus=8),
    'paper256':  _upstream_recipe('ADA paper, FFHQ and LSUN Cat, 256x256.', kimg=25000, mb=64, mbstd=8, fmaps=0.5, lrate=0.0025, gamma=1, ema=20, ramp=None, layers=8, ref_gpus=8),
    'paper512':  _upstream_recipe('ADA paper, BreCaHAD and AFHQ, 512x512.', kimg=25000, mb=64, mbstd=8, fmaps=1, lrate=0.0025, gamma=0.5, ema=20,  ramp=None, layers=8, ref_gpus=8),
    'paper1024': _upstream_recipe('ADA paper, MetFaces, 1024x1024.',   kimg=25000,  mb=32, mbstd=4,  fmaps=1,   lrate=0.002,  gamma=2,    ema=10,  ramp=None, layers=8, ref_gpus=8),
    'cifar':     _upstream_recipe('ADA paper, CIFAR-10, 32x32.',       kimg=100000, mb=64, mbstd=32, fmaps=1,   lrate=0.0025, gamma=0.01, ema=500, ramp=0.05, layers=2, ref_gpus=2,
                                  pl_weight=0, style_mixing=0, architecture='orig'),
}

#----------------------------------------------------------------------------
# Reading TOML.

def config_dir():
    """The folder of configs/*.toml."""
    return upstream.root() / 'configs'

def our_configs():
    """{name: path} of our own configs, sorted."""
    return {path.stem: path for path in sorted(config_dir().glob('*.toml'), key=lambda path: path.stem)}

def read_recipe(path):
    """Read one TOML file. Raises UserError naming the file and the key for anything that a recipe can't have."""
    tables = _inherit(path, read_toml(path))
    check_names(path, 'the file', tables, ['base', 'summary', 'method', 'inpainting', 'networks', 'training'])
    if not isinstance(tables.get('summary', ''), str):
        raise UserError(f'{path}: summary must be a string')
    parts = {name: _read_table(path, name, cls, tables[name]) for name, cls in [('method', Method), ('inpainting', Inpainting), ('networks', Networks), ('training', Training)] if name in tables}
    for name in ['networks', 'training']:
        if name not in parts:
            raise UserError(f'{path}: the table [{name}] is missing')
    if 'inpainting' in parts and 'method' not in parts:
        raise UserError(f'{path}: [inpainting] needs the table [method]; grouping = "none" is the baseline')
    return Recipe(summary=tables.get('summary', ''), **parts)

def read_toml(path):
    """The tables of a TOML file. Raises UserError."""
    try:
        with open(path, 'rb') as f:
            return tomllib.load(f)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f'{path} is not valid TOML: {error}') from None

def _inherit(path, tables):
    """Where a file says `base = NAME`, what it leaves out is as in our config of that name, which has no base itself."""
    tables = dict(tables)
    name = tables.pop('base', None)
    if name is None:
        return tables
    bases = {stem: read_toml(file) for stem, file in our_configs().items()}
    bases = {stem: base for stem, base in bases.items() if 'base' not in base}
    if name not in list(bases): # A list, as a name of the wrong type may not be hashable.
        raise UserError(f'{path}: base must be one of {", ".join(bases)}, not {name!r}')
    base = bases[name]
    both = {key: {**base[key], **tables[key]} for key in base.keys() & tables.keys() if isinstance(base[key], dict) and isinstance(tables[key], dict)}
    return {**base, **tables, **both}

def _read_table(path, name, cls, table):
    if not isinstance(table, dict):
        raise UserError(f'{path}: {name} must be a table, [{name}]')
    return read_fields(path, f'[{name}]', cls, table)

def read_fields(path, where, cls, table):
    """A dataclass of what a table of a file says; the types of its fields are those that typed() knows. Raises UserError."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    check_names(path, where, table, fields)
    for key, field in fields.items():
        if key not in table and field.default is dataclasses.MISSING:
            raise UserError(f'{path}: {where} lacks {key}')
    return cls(**{key: typed(f'{path}: {key}', fields[key].type, value) for key, value in table.items()})

def check_names(path, where, given, known):
    """Raise UserError, with a hint, for a name that the table `where` of a file doesn't have."""
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f'did you mean {close[0]}?' if close else f'it takes {", ".join(known)}'
            raise UserError(f'{path}: unknown key {name!r} in {where}; {hint}')

def typed(what, kind, value):
    """`value` as the type of its field, or UserError saying what `what` takes."""
    if inspect.isfunction(kind):
        return kind(what, value)
    kinds = get_args(kind) if get_origin(kind) is not Literal else ()
    kind = kinds[0] if type(None) in kinds else kind # Optional[X] -> X
    if get_origin(kind) is Literal:
        choices = [c for arg in get_args(kind) for c in (arg if isinstance(arg, tuple) else (arg,))]
        if value not in choices:
            raise UserError(f'{what} must be one of {", ".join(choices)}, not {value!r}')
        return value
    if kind is list:
        if not (isinstance(value, list) and len(value) == 2 and all(type(v) is int and v >= 1 for v in value)):
            raise UserError(f'{what} must be two positive integers, not {value!r}')
        return value
    if kind is str:
        if not (isinstance(value, str) and value):
            raise UserError(f'{what} must be a text, not {value!r}')
        return value
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise UserError(f'{what} must be {"an integer" if kind is int else "a number"}, not {value!r}')
    least = 1 if kind is int and not what.endswith(('num_fp16_res', 'workers')) else 0
    if value < least:
        raise UserError(f'{what} must be at least {least}, not {value!r}')
    return value

#----------------------------------------------------------------------------
# Keyword arguments of training_loop().

AUGMENT_PIPES = { # As upstream's --augpipe names them, each built on the one before.
    'blit':   ['xflip', 'rotate90', 'xint'],
    'geom':   ['scale', 'rotate', 'aniso', 'xfrac'],
    'color':  ['brightness', 'contrast', 'lumaflip', 'hue', 'saturation'],
    'filter': ['imgfilter'],
    'noise':  ['noise'],
    'cutout': ['cutout'],
}
AUGMENT_PIPES['bg'] = AUGMENT_PIPES['blit'] + AUGMENT_PIPES['geom']
AUGMENT_PIPES['bgc'] = AUGMENT_PIPES['bg'] + AUGMENT_PIPES['color']
AUGMENT_PIPES['bgcf'] = AUGMENT_PIPES['bgc'] + AUGMENT_PIPES['filter']
AUGMENT_PIPES['bgcfn'] = AUGMENT_PIPES['bgcf'] + AUGMENT_PIPES['noise']
AUGMENT_PIPES['bgcfnc'] = AUGMENT_PIPES['bgcfn'] + AUGMENT_PIPES['cutout']

_TRANSFER_URL = 'https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/transfer-learning-source-nets/'
TRANSFER_SOURCES = { # As upstream's --resume names them.
    'ffhq256':     _TRANSFER_URL + 'ffhq-res256-mirror-paper256-noaug.pkl',
    'ffhq512':     _TRANSFER_URL + 'ffhq-res512-mirror-stylegan2-noaug.pkl',
    'ffhq1024':    _TRANSFER_URL + 'ffhq-res1024-mirror-stylegan2-noaug.pkl',
    'celebahq256': _TRANSFER_URL + 'celebahq-res256-mirror-paper256-kimg100000-ada-target0.5.pkl',
    'lsundog256':  _TRANSFER_URL + 'lsundog-res256-paper256-kimg100000-noaug.pkl',
}

def find_recipe(cfg, resolution, gpus):
    """The recipe of a --cfg: a name of upstream's, one of ours, or the path of a TOML file."""
    if cfg == 'auto':
        return _auto_recipe(resolution, gpus)
    if cfg in UPSTREAM_RECIPES:
        return UPSTREAM_RECIPES[cfg]
    if cfg in our_configs():
        return read_recipe(our_configs()[cfg])
    if cfg.endswith('.toml'):
        return read_recipe(cfg)
    raise UserError(f'--cfg must be one of {", ".join([*our_configs(), *UPSTREAM_RECIPES])}, or the path of a .toml file, not {cfg!r}')

def training_options(
    data,               # Training data: directory or zip.
    gpus        = None, # Number of GPUs, a power of two [1].
    snap        = None, # Ticks between snapshots [the recipe's].
    metrics     = None, # Names of metrics to evaluate at each snapshot [fid50k_full].
    seed        = None, # Random seed [0].
    cond        = None, # Class-conditional? [False]
    subset      = None, # Train with so many images [all].
    mirror      = None, # Add the mirror image of each image? [False]
    cfg         = None, # Name of the recipe [auto].
    gamma       = None, # R1 weight [the recipe's].
    kimg        = None, # Length [the recipe's].
    batch       = None, # Images per iteration [the recipe's].
    aug         = None, # 'ada', 'noaug' or 'fixed' [the recipe's].
    p           = None, # Augmentation probability, for aug='fixed' only.
    target      = None, # ADA's target, for aug='ada' only [0.6].
    augpipe     = None, # Name of the augmentation pipe ['bgc'].
    resume      = None, # Network pickle to start from: name, path or URL.
    freezed     = None, # Discriminator layers to freeze [0].
    fp32        = None, # No mixed precision? [False]
    cpu_bf16    = None, # Mixed precision on CPUs: 'auto', '1' or '0' [the recipe's].
    nhwc        = None, # Channels-last memory format with fp16? [False]
    allow_tf32  = None, # Let PyTorch use TF32? [False]
    nobench     = None, # No cuDNN benchmarking? [False]
    workers     = None, # Processes that load images [the recipe's].
    skip_bad_images = None, # Leave out images that can't be read? [False]
    sparse_labels = None, # Train with classes that no image has? [False]
    summary     = None, # What datasets.check.check() says of the data [it is looked at].
    masks       = None, # Kind of masks or a folder of them, for inpainting only [the recipe's].
    split       = None, # 'train' or 'all': the images to train with, for inpainting only [the recipe's].
    lambda_l1   = None, # Weight of the error in the hole, for inpainting only [the recipe's].
    **method,           # SariGAN's own: any field of Method.
):
    """Keyword arguments for training_loop(). None = the default in brackets.

    Returns (desc, args): desc names the run's folder, args is an EasyDict that JSON can hold; args.grid, which is ours,
    is the size of the sample sheets. Raises UserError.
    """
    args = dnnlib.EasyDict()
    _general(args, 1 if gpus is None else gpus, metrics, seed)
    summary = look_at(data, skip_bad_images) if summary is None else summary
    desc, count = _data_set(args, summary, cond, subset, mirror, sparse_labels)
    cfg = cfg if cfg is not None else 'auto'
    recipe = find_recipe(cfg, args.training_set_kwargs.resolution, args.num_gpus)
    desc += f'-{os.path.splitext(os.path.basename(cfg))[0]}' + (f'{args.num_gpus}' if cfg == 'auto' else '')
    method = {name: value for name, value in method.items() if value is not None}
    desc += _networks(args, recipe, method)
    desc += _inpainting(args, recipe, count, cond, aug, {name: value for name, value in dict(masks=masks, split=split, lambda_l1=lambda_l1).items() if value is not None})
    desc += _training(args, recipe, snap, gamma, kimg, batch)
    desc += _augmentation(args, aug, recipe.training.aug, p, target, augpipe)
    desc += _transfer(args, resume, freezed)
    _performance(args, fp32, recipe.training.cpu_bf16 if cpu_bf16 is None else cpu_bf16, nhwc, allow_tf32, nobench, workers)
    return desc.lstrip('-'), args

def _require(condition, sentence):
    if not condition:
        raise UserError(sentence)

def _general(args, gpus, metrics, seed):
    from metrics import metric_main # Here, as upstream's tree may come to sys.path late.
    _require(gpus >= 1 and gpus & (gpus - 1) == 0, f'--gpus must be a power of two, not {gpus}')
    from sarigan_plugin.evaluation import quality
    quality.register()
    metrics = ['fid50k_full'] if metrics is None else metrics
    for metric in metrics:
        _require(metric_main.is_valid_metric(metric), f'--metrics takes none, or of {", ".join(metric_main.list_valid_metrics())}, not {metric!r}')
    if any(metric.endswith('_lite0') for metric in metrics):
        quality.require_detector('lite0', '--metrics')
    largest_seed = 2 ** 32 // gpus - 1 # NumPy's limit, and each process has its own.
    _require(seed is None or 0 <= seed <= largest_seed, f'--seed must be between 0 and {largest_seed}, not {seed}')
    args.num_gpus = gpus
    args.metrics = metrics
    args.random_seed = 0 if seed is None else seed

def look_at(data, skip_bad_images=False, known=None):
    """The DatasetSummary of a data set, see datasets.check.check(). Raises UserError."""
    try:
        return dataset_check.check(data, skip_bad_images, known)
    except ValueError as error:
        raise UserError(f'--data: {error}') from None

def _data_set(args, summary, cond, subset, mirror, sparse_labels):
    _check_labels(summary, cond, sparse_labels)
    _require(subset is None or 1 <= subset <= summary.count, f'--subset must be between 1 and {summary.count}, not {subset}')
    args.training_set_kwargs = dnnlib.EasyDict(class_name='training.dataset.ImageFolderDataset', path=summary.path,
        use_labels=bool(cond), max_size=summary.count, xflip=bool(mirror), resolution=summary.resolution)
    args.data_loader_kwargs = dnnlib.EasyDict(pin_memory=True, num_workers=3, prefetch_factor=2)
    if subset is not None and subset < summary.count:
        args.training_set_kwargs.update(max_size=subset, random_seed=args.random_seed)
    if summary.stamp is not None:
        args.left_out = dict(of=summary.stamp, images=list(summary.left_out))
    return summary.name + ('-cond' if cond else '') + (f'-subset{subset}' if subset is not None else '') + ('-mirror' if mirror else ''), summary.count

def _check_labels(summary, cond, sparse_labels):
    if not cond:
        _require(not sparse_labels, '--sparse-labels: only with --cond=1, which trains with labels')
        return
    if not summary.has_labels:
        folders = mending.has_folders_of_classes(summary.path)
        raise UserError('--cond=True requires labels specified in dataset.json'
            + (dataset_check.mending(summary.path, 'a data set with folders for classes', labels='folders') if folders else ''))
    if summary.missing_class is not None and not sparse_labels:
        raise UserError(f'--cond=True: the images of {summary.path} use {summary.used_classes:,} of {summary.num_classes:,} classes, and none is of '
            f'class {summary.missing_class}: number them in dataset.json without gaps, or train with all by --sparse-labels')

def leave_out(args, names):
    """Let args train without these images of the data set, and with all others, as a run that goes on began."""
    data = args.training_set_kwargs
    args.left_out = dict(of=None, images=list(names)) # No look has found just these.
    if 'random_seed' not in data: # --subset is as large as before.
        count = dataset_check.images_without(data.path, names)
        data.max_size = len(splits.indices(count, data.get('split', 'all')))

def _networks(args, recipe, overrides):
    size = recipe.networks
    channels = dict(channel_base=size.channel_base, channel_max=size.channel_max, num_fp16_res=size.num_fp16_res, conv_clamp=256) # Against fp16 overflow.
    args.G_kwargs = dnnlib.EasyDict(class_name='training.networks.Generator', z_dim=512, w_dim=512,
        mapping_kwargs=dnnlib.EasyDict(num_layers=size.mapping_layers), synthesis_kwargs=dnnlib.EasyDict(channels))
    args.D_kwargs = dnnlib.EasyDict(class_name='training.networks.Discriminator', block_kwargs=dnnlib.EasyDict(), mapping_kwargs=dnnlib.EasyDict(),
        epilogue_kwargs=dnnlib.EasyDict(mbstd_group_size=size.mbstd_group), **channels)
    args.loss_kwargs = dnnlib.EasyDict(class_name='training.loss.StyleGAN2Loss')
    _put(args.D_kwargs, architecture=size.architecture)

    if recipe.method is None:
        grouped = [name for name, path in our_configs().items() if read_recipe(path).method is not None]
        _require(not overrides, f'{", ".join(map(_flag, overrides))}: only for the configs of SariGAN, {", ".join(grouped)}')
        return ''

    method = _overruled(recipe.method, overrides)
    layers = _grouped_layers(method, size, args.training_set_kwargs.resolution)
    args.G_kwargs.class_name = 'sarigan_plugin.networks.Generator'
    del args.G_kwargs.w_dim # Twice code_dim.
    args.G_kwargs.update(z_dim=method.code_dim, code_dim=method.code_dim, num_groups=method.num_groups, grouping=method.grouping, norm=method.norm,
        norm_channels=method.norm_channels, norm_eps=method.norm_eps, inter_gain=method.inter_gain, threshold=method.threshold, inertia=method.inertia)
    args.D_kwargs.update(class_name='sarigan_plugin.networks.Discriminator', code_dim=method.code_dim, info_variance=method.info_variance)
    args.loss_kwargs.update(class_name='sarigan_plugin.loss.SariGANLoss', lambda_group=method.lambda_group, lambda_info=method.lambda_info,
        similarity=method.similarity, info_mixing=method.info_mixing)
    if method.info_target == 'styles' and method.grouping != 'none': # Without groups there is no h to predict.
        args.loss_kwargs.info_target = method.info_target
        of_each = 2 if method.norm == 'feature' else 1 # Deviations, and means.
        args.D_kwargs.q_features = [of_each * sum(numbers) for numbers in zip(*layers.values())]
    _require(method.similarity == 'kernels' or method.grouping == 'similarity', f'--similarity={method.similarity} needs --grouping=similarity, not {method.grouping}')
    _require(method.similarity == 'kernels' or method.num_groups != 'auto', f'--similarity={method.similarity} needs a number for --num-groups, not auto')
    if method.grouping == 'kmeans' or method.num_groups == 'auto':
        _require(method.regroup_kimg > 0, f'--regroup-kimg must be more than 0, not {method.regroup_kimg:g}')
        args.loss_kwargs.regroup_kimg = method.regroup_kimg
    return _described(method, overrides)

def _inpainting(args, recipe, count, cond, aug, overrides):
    if recipe.inpainting is None:
        inpainting = [name for name, path in our_configs().items() if read_recipe(path).inpainting is not None]
        _require(not overrides, f'{", ".join(map(_flag, overrides))}: only for the configs of inpainting, {", ".join(inpainting)}')
        return ''

    _require(not cond, '--cond: inpainting has the masked image for its condition, and no classes')
    _require((aug or recipe.training.aug) == 'noaug', f'--aug must be noaug for inpainting, not {aug or recipe.training.aug}: image and mask would have to move together')
    unfit = [metric for metric in args.metrics if metric.startswith('ppl')]
    _require(not unfit, f'--metrics={",".join(unfit)}: the path length is not defined for inpainting, where the images of a path share their known pixels')
    inpainting = _overruled(recipe.inpainting, overrides)
    try:
        MaskSource(inpainting.masks, args.training_set_kwargs.resolution)
    except ValueError as error:
        raise UserError(f'--masks: {error} It may be a folder, or one of {", ".join(MASKS)}') from None
    _use_split(args.training_set_kwargs, count, inpainting.split)
    args.training_set_kwargs.update(class_name='sarigan_plugin.inpainting_data.InpaintingDataset', mask_source=inpainting.masks)
    args.G_kwargs.class_name = 'sarigan_plugin.inpainting.Generator'
    args.D_kwargs.class_name = 'sarigan_plugin.inpainting.Discriminator'
    args.loss_kwargs.update(class_name='sarigan_plugin.inpainting_loss.InpaintingLoss', mask_source=inpainting.masks, lambda_l1=inpainting.lambda_l1)
    return _described(inpainting, overrides)

def _use_split(data, count, split):
    """Let a data set, which has `count` images, be the images of the split alone."""
    try:
        images = len(splits.indices(count, split))
    except ValueError as error:
        raise UserError(f'--split={split}: {error}') from None
    _require('random_seed' not in data or data.max_size <= images, f'--subset must be between 1 and {images}, as --split={split} has it, not {data.max_size}')
    data.update(max_size=min(data.max_size, images), split=split)

def _flag(name):
    return f'--{name.replace("_", "-")}'

def _overruled(table, overrides):
    """A table of a recipe with what the command line says instead."""
    kinds = {field.name: field.type for field in dataclasses.fields(table)}
    return dataclasses.replace(table, **{name: typed(_flag(name), kinds[name], value) for name, value in overrides.items()})

def _described(table, names):
    """What the command line overruled, for the name of the run's folder."""
    return ''.join(f'-{name.replace("_", "")}{_in_a_file_name(getattr(table, name))}' for name in names)

def _in_a_file_name(value):
    if isinstance(value, dict):
        return '_'.join(f'{place}x{number}' for place, number in value.items())
    return os.path.basename(os.path.normpath(value)) if isinstance(value, str) else value # Paths too.

def _grouped_layers(method, size, resolution):
    """{layer: (groups, channels)}, with as many groups as it starts with.

    Every grouped layer has a number of groups, no larger than that of its input channels; every number has a layer.
    """
    _require(method.num_groups != 'auto' or method.grouping == 'similarity', f'--num-groups=auto: only with --grouping=similarity, not {method.grouping}')
    from sarigan_plugin.model.grouping import initial_groups # Here, as upstream's tree may come to sys.path late.
    from sarigan_plugin.model.networks import layer_num_groups
    resolutions = [2 ** power for power in range(resolution.bit_length() - 1, 2, -1)] # The narrowest layers first.
    layers = {f'b{res}.{conv}': source for res in resolutions for conv, source in [('conv1', res), ('conv0', res // 2)]} # Where the input is made.
    if isinstance(method.num_groups, dict):
        for place in method.num_groups:
            _require(place in layers or place in map(str, resolutions), f'--num-groups: {place} is none of the resolutions '
                f'{", ".join(map(str, reversed(resolutions)))}, nor a layer such as {next(reversed(layers))}')
    found = dict()
    for name, source in layers.items():
        channels = min(size.channel_base // source, size.channel_max)
        try:
            number = initial_groups(layer_num_groups(method.num_groups, name), channels)
        except ValueError:
            raise UserError(f'--num-groups must have a number for each of the resolutions {", ".join(map(str, reversed(resolutions)))}, '
                f'or for both layers of one; {name} has none') from None
        _require(number <= channels, f'--num-groups must be between 1 and {channels}, the channels of the layers at {source}x{source}, not {number}')
        found[name] = number, channels
    return found

def _training(args, recipe, snap, gamma, kimg, batch):
    plan = recipe.training
    snap = plan.snap if snap is None else snap
    _require(snap >= 1, f'--snap must be at least 1, not {snap}')
    _require(gamma is None or gamma >= 0, f'--gamma must be non-negative, not {gamma}')
    _require(kimg is None or kimg >= 1, f'--kimg must be at least 1, not {kimg}')
    _require(batch is None or (batch >= 1 and batch % args.num_gpus == 0), f'--batch must be at least 1 and divisible by --gpus, not {batch}')

    args.image_snapshot_ticks = args.network_snapshot_ticks = snap
    for name in ['G_opt_kwargs', 'D_opt_kwargs']:
        args[name] = dnnlib.EasyDict(class_name='torch.optim.Adam', lr=plan.learning_rate, betas=[0, 0.99], eps=1e-8)
        if recipe.method is not None:
            args[name].fused = True # One pass over memory; upstream's recipes keep upstream's options.
    args.loss_kwargs.r1_gamma = plan.r1_gamma if gamma is None else gamma
    _put(args.loss_kwargs, pl_weight=plan.pl_weight, style_mixing_prob=plan.style_mixing)
    args.total_kimg = plan.kimg if kimg is None else kimg
    args.batch_size = plan.batch if batch is None else batch
    if batch is None and plan.ref_gpus is not None:
        args.batch_gpu = plan.batch // plan.ref_gpus
    else:
        _require(args.batch_size % args.num_gpus == 0, f'--gpus must divide the batch of {args.batch_size}, not be {args.num_gpus}; --batch sets another')
        args.batch_gpu = args.batch_size // args.num_gpus
        if batch is None and plan.batch_gpu is not None:
            args.batch_gpu = min(args.batch_gpu, plan.batch_gpu)
    mbstd_group = min(recipe.networks.mbstd_group, args.batch_gpu) # Upstream's D fails where images are left over.
    _require(args.batch_gpu % mbstd_group == 0, f'--batch must give each GPU a multiple of {mbstd_group} images, which the minibatch standard deviation compares, not {args.batch_gpu}')
    args.ema_kimg = plan.ema_kimg
    args.ema_rampup = plan.ema_rampup
    args.data_loader_kwargs.num_workers = plan.workers
    _put(args, G_reg_interval=plan.G_reg_interval, D_reg_interval=plan.D_reg_interval, kimg_per_tick=plan.kimg_per_tick, grid=plan.grid)
    return ''.join([f'-gamma{gamma:g}' if gamma is not None else '', f'-kimg{kimg}' if kimg is not None else '', f'-batch{batch}' if batch is not None else ''])

def _put(kwargs, **values):
    """Set those that are not None: the others keep the default of whoever takes the arguments."""
    kwargs.update({name: value for name, value in values.items() if value is not None})

def _augmentation(args, given, default, p, target, augpipe):
    aug = default if given is None else given
    _require(aug in AUGMENTATIONS, f'--aug must be one of {", ".join(AUGMENTATIONS)}, not {aug!r}')
    _require(aug != 'fixed' or p is not None, '--aug=fixed requires specifying --p')
    _require(p is None or aug == 'fixed', '--p can only be specified with --aug=fixed')
    _require(p is None or 0 <= p <= 1, f'--p must be between 0 and 1, not {p}')
    _require(target is None or aug == 'ada', '--target can only be specified with --aug=ada')
    _require(target is None or 0 <= target <= 1, f'--target must be between 0 and 1, not {target}')
    _require(augpipe is None or aug != 'noaug', '--augpipe cannot be specified with --aug=noaug')
    _require(augpipe is None or augpipe in AUGMENT_PIPES, f'--augpipe must be one of {", ".join(AUGMENT_PIPES)}, not {augpipe!r}')

    if aug == 'ada':
        args.ada_target = 0.6 if target is None else target
    if p is not None:
        args.augment_p = p
    if aug != 'noaug':
        args.augment_kwargs = dnnlib.EasyDict(class_name='training.augment.AugmentPipe', **dict.fromkeys(AUGMENT_PIPES[augpipe or 'bgc'], 1))
    return ''.join([f'-{given}' if given is not None else '', f'-p{p:g}' if p is not None else '',
        f'-target{target:g}' if target is not None else '', f'-{augpipe}' if augpipe is not None else ''])

def _transfer(args, resume, freezed):
    desc = ''
    if resume is not None and resume != 'noresume':
        known = resume in TRANSFER_SOURCES
        args.resume_pkl = TRANSFER_SOURCES[resume] if known else resume
        _require(known or dnnlib.util.is_url(resume, allow_file_urls=True) or os.path.isfile(resume) or exported.is_exported(resume),
            f'--resume must be a network pickle\'s path or URL, or one of {", ".join(TRANSFER_SOURCES)}, not {resume!r}')
        args.ada_kimg = 100 # ADA reacts faster at the beginning ...
        args.ema_rampup = None # ... and the average starts from good weights.
        desc += f'-resume{resume if known else "custom"}'
    elif resume is not None:
        desc += '-noresume'
    if freezed is not None:
        _require(freezed >= 0, f'--freezed must be non-negative, not {freezed}')
        args.D_kwargs.block_kwargs.freeze_layers = freezed
        desc += f'-freezed{freezed}'
    return desc

def _performance(args, fp32, cpu_bf16, nhwc, allow_tf32, nobench, workers):
    _require(workers is None or workers >= 0, f'--workers must be at least 0, not {workers}')
    if fp32:
        for kwargs in [args.G_kwargs.synthesis_kwargs, args.D_kwargs]:
            kwargs.update(num_fp16_res=0, conv_clamp=None)
    _require(not (fp32 and cpu_bf16 == '1'), '--fp32=1 and --cpu-bf16=1: one of them alone')
    if cpu_bf16 != 'auto':
        args.cpu_bf16 = cpu_bf16
    if nhwc:
        args.G_kwargs.synthesis_kwargs.fp16_channels_last = args.D_kwargs.block_kwargs.fp16_channels_last = True
    if nobench:
        args.cudnn_benchmark = False
    if allow_tf32:
        args.allow_tf32 = True
    if workers is not None:
        args.data_loader_kwargs.num_workers = workers

#----------------------------------------------------------------------------
