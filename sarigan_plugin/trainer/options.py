"""All options of a training that a config or the command line has, each declared once.

Here are the type of each, its default, its help and, where the paper has one, its symbol. The flags of `sarigan train`,
what TOML files may say, and what networks and losses are given are taken from here.
"""

import dataclasses
import math
import re
from typing import Annotated, Any, Literal, Optional, TypeVar

from pydantic import PlainValidator

from sarigan_plugin.datasets.masks import KINDS as MASKS
from sarigan_plugin.support.toml import Count, Flag, Number, Path, Whole, typed

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

#----------------------------------------------------------------------------
# Types that one option alone has.

def _threshold(value: Any) -> str | float:
    if value in ['auto', 'learned']:
        return value
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not -1 <= number <= 1:
        raise ValueError(f' must be auto, learned or a number in [-1, 1], not {value!r}')
    return number

def _num_groups(value: Any) -> Any:
    if value == 'auto':
        return value
    given = value
    if isinstance(value, str):
        pairs = [pair.strip().rpartition(':') for pair in value.split(',')]
        value = {place: _integer(number) for place, _colon, number in pairs} if ':' in value else _integer(value)
    places = value if isinstance(value, dict) else []
    if isinstance(value, str) or not all(re.fullmatch(r'\d+|b\d+\.conv[01]', place) for place in places):
        raise ValueError(' must be an integer, auto, or RESOLUTION:INTEGER or LAYER:INTEGER pairs as in '
            f'8:16,16:8,b32.conv0:4, not {given!r}')
    for place, number in value.items() if isinstance(value, dict) else [('', value)]:
        of_place = f' of {place}' if place else ''
        if type(number) is not int:
            raise ValueError(f'{of_place} must be an integer, not {number!r}')
        if number < 1:
            raise ValueError(f'{of_place} must be at least 1, not {number}')
    return value

def _integer(text: str) -> int | str:
    """'8' -> 8; other text as it is."""
    return int(text) if re.fullmatch(r'\s*[+-]?\d+\s*', text) else text

def _cpu_bf16(value: object) -> str:
    if value != 'auto' and not isinstance(value, bool):
        raise ValueError(f' must be "auto", true or false, not {value!r}')
    return value if value == 'auto' else str(int(value))

def _names(value: Any) -> Any:
    if value in ['all', ['all']]:
        return 'all'
    names = [name.strip() for name in value.split(',')] if isinstance(value, str) else value
    if not (isinstance(names, list) and names and all(isinstance(name, str) and name for name in names)):
        raise ValueError(f' must be all, or names with commas between them, not {value!r}')
    if len(set(names)) < len(names):
        raise ValueError(f' must name each once, not {value!r}')
    return names

def _grid(value: object) -> list[int]:
    if not (isinstance(value, list) and len(value) == 2 and all(type(v) is int and v >= 1 for v in value)):
        raise ValueError(f' must be two positive integers, not {value!r}')
    return value

def _metric_names(value: object) -> list[str]:
    if not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        raise ValueError(f' must be a list of names, as in ["fd10k_lite0"], or [] for none, not {value!r}')
    return value

Threshold = Annotated[object, PlainValidator(_threshold)]   # 'auto', 'learned' or a number in [-1, 1], also as text.
NumGroups = Annotated[object, PlainValidator(_num_groups)]  # An integer, 'auto', or {resolution or layer: integer};
                                                            # as text '8', 'auto' or '8:16,16:8,b32.conv0:4'.
CPUBF16   = Annotated[object, PlainValidator(_cpu_bf16)]    # 'auto', true or false -> 'auto', '1' or '0'.
Names     = Annotated[object, PlainValidator(_names)]       # 'all' or a list, as text of names with commas.
Grid      = Annotated[list, PlainValidator(_grid)]          # [columns, rows]
Metrics   = Annotated[list, PlainValidator(_metric_names)]  # Names, see evaluation.quality.

Augmentation = Literal['noaug', 'ada', 'fixed']

#----------------------------------------------------------------------------

def knob(default: Any = dataclasses.MISSING, help: str = '', symbol: str | None = None, to: tuple[str, ...] = (),
         section: str | None = None, metavar: str | None = None, typed_choices: tuple[str, ...] | None = None) -> Any:
    """An option, a field of one of the classes below.

    help:    what it does for the user. symbol: what the paper calls it.
    to:      which of G, D and the loss are given it under its own name.
    section: of the help of `sarigan train`; None = it has no flag and is a key of TOML files alone.
    metavar: what stands for its value in the help. typed_choices: those of its choices that the flag takes.
    """
    about = dict(help=help if symbol is None else f'{help} (paper: {symbol})', meaning=help, symbol=symbol, to=to,
        section=section, metavar=metavar, typed_choices=typed_choices)
    return dataclasses.field(default=default, metadata=about)

UPSTREAM, SARIGAN, INPAINTING, MORE = 'Options', 'SariGAN', 'Inpainting', 'More options' # Sections.

@dataclasses.dataclass(frozen=True)
class Method:
    """[method]: what makes it SariGAN."""
    num_groups: NumGroups = knob(16, 'Channel groups per layer; auto; or pairs as in 8:16,16:8',
        symbol='g', to=('G',), section=SARIGAN, metavar='INT')
    grouping: Literal['similarity', 'effects', 'attributes', 'kmeans', 'blocks', 'random', 'none'] = knob('similarity',
        'Groups: similarity (learned), effects, attributes, blocks, random or none',
        to=('G',), section=SARIGAN, metavar='NAME',
        typed_choices=('similarity', 'effects', 'attributes', 'blocks', 'random', 'none'))
    attributes: Names = knob('all', 'By --grouping=attributes: which get a group each, or all',
        section=SARIGAN, metavar='NAMES')
    lambda_group: Number = knob(2.0, 'Weight of the grouping loss', symbol='lambda_1', to=('loss',), section=SARIGAN)
    lambda_info: Number = knob(10.0, 'Weight of the info loss', symbol='lambda_2', to=('loss',), section=SARIGAN)
    code_dim: Count = knob(512, 'Width of each of the two codes, and of z', to=('G', 'D'))
    norm: Literal['weight', 'feature'] = knob('weight', 'Normalise weights (Eq. 5-6) or features (Eq. 3-4)', to=('G',))
    threshold: Threshold = knob('auto', 'Cosine above which two kernels are alike: auto, learned or a number',
        symbol='r', to=('G',))
    inertia: Number = knob(3.0, 'How strongly channels stay in their group, in deviations of the cosines between '
        'unrelated kernels, or by effects of what is measured; 0 as in the paper', to=('G',))
    similarity: Literal['kernels', 'responses'] = knob('kernels',
        'Group channels by their kernels (Eq. 1) or by their responses to images', to=('loss',))
    info_target: Literal['codes', 'styles'] = knob('codes',
        'What Q predicts: the codes in w, or the styles that grouped layers make of them')
    info_mixing: Literal['mean', 'skip'] = knob('mean',
        'Under style mixing, Q aims at the mean of the codes, or skips', to=('loss',))
    regroup_kimg: Number = knob(4.0, 'Thousands of images between two rounds of k-means, of merging groups, or of '
        'measuring effects')
    channels_per_group: Count = knob(1, 'Fewest channels that a group has on average: narrow layers have fewer groups, '
        'unless --num-groups is typed')
    inter_form: Literal['affine', 'exp'] = knob('affine',
        'Inter-group styles (paper: h): affine in their code (Eq. 5), or exp of that, standardised')
    inter_share: Number = knob(0.3, 'How much of an image the inter-group code is to decide, between 0 and 1, where '
        'inter_form is exp')
    lambda_attributes: Number = knob(0.3, 'Weight of the loss by which attributes follow their groups')
    group_torgb: Flag = knob(False, "Whether ToRGB layers read both codes, by the next layer's groups")

@dataclasses.dataclass(frozen=True)
class Inpainting:
    """[inpainting]: what makes it complete images (Section 4.3)."""
    masks: Path = knob('mixed', f'Holes: {", ".join(MASKS)}, or a folder of masks',
        section=INPAINTING, metavar='KIND|DIR')
    split: Literal['train', 'all'] = knob('train', 'Images to train on; train keeps the last tenth for measuring',
        section=INPAINTING) # Of datasets.splits.SPLITS.
    lambda_l1: Number = knob(10.0, 'Weight of the absolute error in the holes', to=('loss',), section=INPAINTING)

@dataclasses.dataclass(frozen=True)
class Networks:
    """[networks]: their size. None = upstream's default."""
    channel_base:   Count                               # Channels at resolution R: channel_base / R.
    mapping_layers: Count                               # Layers of the mapping network.
    mbstd_group:    Count                               # Images that the minibatch standard deviation compares.
    channel_max:    Count               = 512           # Most channels at any resolution.
    num_fp16_res:   Whole               = 4             # How many high resolutions compute in 16 bits, see cpu_bf16.
    architecture:   Optional[Literal['orig', 'skip', 'resnet']] = None # Of the discriminator.

def channels_at(size: Any, resolution: int) -> int:
    """How many channels networks have at a resolution. size: Networks, or keyword arguments with the same names."""
    return min(size.channel_base // resolution, size.channel_max)

@dataclasses.dataclass(frozen=True)
class Training:
    """[training]: how long, how fast, how regularised. None = upstream's default."""
    kimg:           Count                               # Length, in thousands of real images shown to D.
    batch:          Count                               # Images per iteration.
    learning_rate:  Number                              # Adam's, for both networks.
    r1_gamma:       Number                              # Weight of the R1 penalty.
    ema_kimg:       Number                              # Half-life of the averaged generator, thousands of images.
    batch_gpu:      Optional[Count]     = None          # Most images that a GPU takes at a time; None = all its share.
    ref_gpus:       Optional[Count]     = None          # Upstream's rule: batch / ref_gpus at a time, always.
    ema_rampup:     Optional[Number]    = None          # The half-life is at most this share of the images so far.
    aug:            Augmentation        = 'ada'         # Augmentation of D's images.
    mirror:         Flag                = False         # Show half of the images flipped, unless --mirror says.
    style_mixing:   Optional[Number]    = None          # Probability of mixing two styles.
    pl_weight:      Optional[Number]    = None          # Weight of the path length penalty.
    G_reg_interval: Optional[Count]     = None          # Iterations between path length penalties.
    D_reg_interval: Optional[Count]     = None          # Iterations between R1 penalties.
    kimg_per_tick:  Optional[Count]     = None          # Thousands of images between status lines.
    snap:           Count               = 50            # Ticks between snapshots.
    metrics:        Optional[Metrics]   = None          # Of each snapshot, [] for none; None = fid50k_full.
    grid:           Optional[Grid]      = None          # [columns, rows] of the sample sheets.
    cpu_bf16:       CPUBF16             = 'auto'        # Whether CPUs take bf16 where GPUs take fp16; auto: if faster.
    workers:        Whole               = 3             # Processes that load images; 0 = the one that trains.

@dataclasses.dataclass(frozen=True)
class CommandLine:
    """What the command line says of a training beside Method and Inpainting. None = nothing."""
    data: Path = knob(help='Training data (directory or zip)', section=UPSTREAM, metavar='PATH')
    cfg: Optional[Path] = knob(None, 'Base config, or your own FILE.toml [default: auto]', section=UPSTREAM,
        metavar='NAME|TOML')
    gpus: Optional[Count] = knob(None, "Number of GPUs [default: 1, or torchrun's: docs/many-machines.md]",
        section=UPSTREAM)
    snap: Optional[Count] = knob(None, 'Ticks between snapshots [default: 50]', section=UPSTREAM)
    metrics: Optional[Metrics] = knob(None, 'Metrics of snapshots, as in a,b, or none '
        "[default: the config's, fid50k_full]", section=UPSTREAM)
    seed: Optional[Whole] = knob(None, 'Random seed [default: 0]', section=UPSTREAM)
    cond: Optional[Flag] = knob(None, 'Train a conditional model on the labels of the data set [default: false]',
        section=UPSTREAM)
    subset: Optional[Count] = knob(None, 'Use only N images [default: all]', section=UPSTREAM)
    mirror: Optional[Flag] = knob(None, 'Also show mirror images [default: false]', section=UPSTREAM)
    gamma: Optional[Number] = knob(None, "Weight of the R1 penalty [default: the config's]", section=UPSTREAM)
    kimg: Optional[Count] = knob(None, "Length, in thousands of images shown to D [default: the config's]",
        section=UPSTREAM)
    batch: Optional[Count] = knob(None, "Images per iteration, on all GPUs together [default: the config's]",
        section=UPSTREAM)
    aug: Optional[Augmentation] = knob(None, 'Augmentation mode [default: ada; noaug for SariGAN]', section=UPSTREAM)
    p: Optional[Number] = knob(None, 'Augmentation probability for --aug=fixed', section=UPSTREAM)
    target: Optional[Number] = knob(None, 'ADA target value for --aug=ada', section=UPSTREAM)
    augpipe: Optional[Literal[tuple(AUGMENT_PIPES)]] = knob(None, # type: ignore[valid-type] # Read as the program runs.
        f'Augmentations: {", ".join(AUGMENT_PIPES)} [default: bgc]', section=UPSTREAM, metavar='NAME')
    resume: Optional[Path] = knob(None, 'Start from a pickle, folder, URL, '
        f'{", ".join(TRANSFER_SOURCES)}; or continue a run: its folder or latest; noresume: a new run',
        section=UPSTREAM, metavar='PKL|RUN')
    freezed: Optional[Whole] = knob(None, 'Layers of D to freeze, from its input on [default: 0]', section=UPSTREAM)
    fp32: Optional[Flag] = knob(None, 'Train in fp32 alone [default: false]', section=UPSTREAM)
    nhwc: Optional[Flag] = knob(None, 'Use channels-last memory with fp16 [default: false]', section=UPSTREAM)
    nobench: Optional[Flag] = knob(None, 'Turn off cuDNN benchmarking [default: false]', section=UPSTREAM)
    allow_tf32: Optional[Flag] = knob(None, 'Let PyTorch use TF32 [default: false]', section=UPSTREAM)
    workers: Optional[Whole] = knob(None, "Processes that load images [default: the config's, 3]", section=UPSTREAM)
    cpu_bf16: Optional[CPUBF16] = knob(None, 'Train high resolutions in bf16 on a CPU, as in fp16 on a GPU; '
        'auto: where that is faster [default: auto]', section=MORE)
    sparse_labels: Flag = knob(False, 'With --cond=1, accept classes in dataset.json that no image has',
        section=MORE)
    skip_bad_images: Optional[Flag] = knob(None, "Skip images that can't be read, or of another size or colours than "
        'most; all are checked first [default: false]', section=MORE)

#----------------------------------------------------------------------------

Table = TypeVar('Table', Method, Inpainting)

FIELDS = {field.name: field for cls in [CommandLine, Method, Inpainting] for field in dataclasses.fields(cls)}

def flag(name: str) -> str:
    """What sentences call an option: its flag, or its name where it is a key of TOML files alone."""
    return f'--{name.replace("_", "-")}' if FIELDS[name].metadata['section'] is not None else name

def setting(name: str, value: Any) -> str:
    """An option and its value as they are typed."""
    if FIELDS[name].metadata['section'] is None:
        return f'{name}={value}'
    if isinstance(value, dict):
        value = ','.join(f'{place}:{number}' for place, number in value.items())
    return f'{flag(name)}={value:g}' if isinstance(value, float) else f'{flag(name)}={value}'

def overruled(table: Table, overrides: dict[str, Any]) -> Table:
    """A table of a recipe with what is said instead. Raises UserError naming the flag."""
    checked = {name: typed(flag(name), FIELDS[name].type, value) for name, value in overrides.items()}
    return dataclasses.replace(table, **checked)

def given_to(whom: str, table: Any) -> dict[str, Any]:
    """The keyword arguments that one of 'G', 'D' and 'loss' gets of a table of a recipe."""
    fields = [field for field in dataclasses.fields(table) if whom in field.metadata['to']]
    return {field.name: getattr(table, field.name) for field in fields}

#----------------------------------------------------------------------------
