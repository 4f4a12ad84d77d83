"""From a recipe and the command line to the keyword arguments of upstream's training_loop().

The same code turns upstream's recipes and ours into them, so upstream's names give exactly upstream's training options.
"""

import dataclasses
import os
from collections.abc import Iterable
from typing import Any, get_args

from sarigan_plugin.datasets import check as dataset_check, mending, splits
from sarigan_plugin.datasets.masks import Source as MaskSource
from sarigan_plugin.errors import UserError
from sarigan_plugin.snapshots import exported
from sarigan_plugin.trainer import attribute_groups, left_out, options
from sarigan_plugin.trainer.options import (
    AUGMENT_PIPES,
    MASKS,
    TRANSFER_SOURCES,
    CommandLine,
    Inpainting,
    Method,
    Networks,
)
from sarigan_plugin.trainer.recipes import Recipe, find_recipe, our_configs, read_recipe

import dnnlib

#----------------------------------------------------------------------------

def training_options(summary: dataset_check.DatasetSummary | None = None, **given: Any) -> tuple[str, Any]:
    """Keyword arguments for training_loop().

    summary: what look_at() says of the data, None = it is looked at.
    given:   what the command line says: fields of CommandLine, and of Method and Inpainting what overrules the config.
             None = nothing.
    Returns (desc, args): desc names the run's folder, args is an EasyDict that JSON can hold; args.grid, which is ours,
    is the size of the sample sheets. Raises UserError.
    """
    said, method, inpainting = _by_class(given)
    args = dnnlib.EasyDict()
    _general(args, said)
    summary = look_at(said.data, said.skip_bad_images) if summary is None else summary
    desc, count = _data_set(args, summary, said)
    cfg = said.cfg if said.cfg is not None else 'auto'
    recipe = find_recipe(cfg, args.training_set_kwargs.resolution, args.num_gpus)
    _metrics(args, said, f'{cfg}: metrics', recipe.training.metrics)
    desc += f'-{os.path.splitext(os.path.basename(cfg))[0]}' + (f'{args.num_gpus}' if cfg == 'auto' else '')
    desc += _networks(args, recipe, method)
    desc += _inpainting(args, recipe, count, said, inpainting)
    desc += _training(args, recipe, said)
    desc += _augmentation(args, recipe.training.aug, said)
    desc += _transfer(args, said)
    _performance(args, recipe.training.cpu_bf16, said)
    return desc.lstrip('-'), args

def look_at(data: str, skip_bad_images: bool | None = False,
            known: dict[str, Any] | None = None) -> dataset_check.DatasetSummary:
    """The DatasetSummary of a data set, see datasets.check.check(). Raises UserError."""
    try:
        return dataset_check.check(data, skip_bad_images, known)
    except ValueError as error:
        raise UserError(f'--data: {error}') from None

def _by_class(given: dict[str, Any]) -> tuple[CommandLine, dict[str, Any], dict[str, Any]]:
    """(CommandLine, what overrules Method, what overrules Inpainting), the latter two dicts of what is not None."""
    given = dict(given)
    overrides: list[dict[str, Any]] = []
    for cls in [Method, Inpainting]:
        values = {field.name: given.pop(field.name, None) for field in dataclasses.fields(cls)}
        overrides.append({name: value for name, value in values.items() if value is not None})
    return CommandLine(**given), *overrides # type: ignore[return-value] # Two of them.

def _require(condition: object, sentence: str) -> None:
    if not condition:
        raise UserError(sentence)

def _put(kwargs: dict[str, Any], **values: Any) -> None:
    """Set those that are not None: the others keep the default of whoever takes the arguments."""
    kwargs.update({name: value for name, value in values.items() if value is not None})

#----------------------------------------------------------------------------

def _general(args: Any, said: CommandLine) -> None:
    gpus = 1 if said.gpus is None else said.gpus
    _require(gpus >= 1 and gpus & (gpus - 1) == 0, f'--gpus must be a power of two, not {gpus}')
    largest_seed = 2 ** 32 // gpus - 1 # NumPy's limit, and each process has its own.
    _require(said.seed is None or 0 <= said.seed <= largest_seed,
        f'--seed must be between 0 and {largest_seed}, not {said.seed}')
    args.num_gpus = gpus
    args.random_seed = 0 if said.seed is None else said.seed

def _metrics(args: Any, said: CommandLine, key: str, of_recipe: list[str] | None) -> None:
    """key: what sentences call the recipe's."""
    from sarigan_plugin.evaluation import quality

    from metrics import metric_main  # Here, as upstream's tree may come to sys.path late.
    quality.register()
    asked = {'--metrics': said.metrics, key: of_recipe, 'upstream': ['fid50k_full']}
    source, args.metrics = next((source, names) for source, names in asked.items() if names is not None)
    for metric in args.metrics:
        _require(metric_main.is_valid_metric(metric),
            f'{source} takes none, or of {", ".join(metric_main.list_valid_metrics())}, not {metric!r}')
    if any(metric.endswith('_lite0') for metric in args.metrics):
        quality.require_detector('lite0', source)

#----------------------------------------------------------------------------
# Images.

def _data_set(args: Any, summary: dataset_check.DatasetSummary, said: CommandLine) -> tuple[str, int]:
    """Returns (what the run's folder is called after, how many images there are)."""
    _check_labels(summary, said)
    _require(said.subset is None or 1 <= said.subset <= summary.count,
        f'--subset must be between 1 and {summary.count}, not {said.subset}')
    args.training_set_kwargs = dnnlib.EasyDict(class_name='training.dataset.ImageFolderDataset', path=summary.path,
        use_labels=bool(said.cond), max_size=summary.count, xflip=False, resolution=summary.resolution)
    args.data_loader_kwargs = dnnlib.EasyDict(pin_memory=True, num_workers=3, prefetch_factor=2)
    if said.subset is not None and said.subset < summary.count:
        args.training_set_kwargs.update(max_size=said.subset, random_seed=args.random_seed)
    if summary.stamp is not None:
        args.left_out = dict(of=summary.stamp, images=list(summary.left_out))
    desc = ''.join(['-cond' if said.cond else '', f'-subset{said.subset}' if said.subset is not None else '',
        '-mirror' if said.mirror else ''])
    return summary.name + desc, summary.count

def _check_labels(summary: dataset_check.DatasetSummary, said: CommandLine) -> None:
    if not said.cond:
        _require(not said.sparse_labels, '--sparse-labels: only with --cond=1, which trains with labels')
        return
    if not summary.has_labels:
        advice = ''
        if mending.has_folders_of_classes(summary.path):
            advice = dataset_check.mending(summary.path, 'a data set with folders for classes', labels='folders')
        raise UserError(f'--cond=True requires labels specified in dataset.json{advice}')
    if summary.missing_class is not None and not said.sparse_labels:
        raise UserError(f'--cond=True: the images of {summary.path} use {summary.used_classes:,} of '
            f'{summary.num_classes:,} classes, and none is of class {summary.missing_class}: number them in '
            'dataset.json without gaps, or train with all by --sparse-labels')

#----------------------------------------------------------------------------
# Networks and losses.

def _networks(args: Any, recipe: Recipe, overrides: dict[str, Any]) -> str:
    """Upstream's, or ours where the recipe has a method."""
    size = recipe.networks
    channels = dict(channel_base=size.channel_base, channel_max=size.channel_max, num_fp16_res=size.num_fp16_res,
        conv_clamp=256) # Against fp16 overflow.
    args.G_kwargs = dnnlib.EasyDict(class_name='training.networks.Generator', z_dim=512, w_dim=512,
        mapping_kwargs=dnnlib.EasyDict(num_layers=size.mapping_layers), synthesis_kwargs=dnnlib.EasyDict(channels))
    args.D_kwargs = dnnlib.EasyDict(class_name='training.networks.Discriminator', block_kwargs=dnnlib.EasyDict(),
        mapping_kwargs=dnnlib.EasyDict(), epilogue_kwargs=dnnlib.EasyDict(mbstd_group_size=size.mbstd_group),
        **channels)
    args.loss_kwargs = dnnlib.EasyDict(class_name='training.loss.StyleGAN2Loss')
    _put(args.D_kwargs, architecture=size.architecture)
    if recipe.method is None:
        _refuse(overrides, 'SariGAN', 'method')
        return ''
    method = options.overruled(recipe.method, overrides)
    if 'num_groups' in overrides: # What is typed counts everywhere.
        method = dataclasses.replace(method, channels_per_group=1)
    if method.grouping == 'attributes':
        method = _with_attributes(args, method, overrides)
    else:
        _require(method.attributes == 'all',
            f'--attributes: only with {attribute_groups.ASKED}, not --grouping={method.grouping}')
    _sarigan(args, method, _grouped_layers(method, size, args.training_set_kwargs.resolution))
    return _described(method, overrides)

def _with_attributes(args: Any, method: Method, overrides: dict[str, Any]) -> Method:
    """With the names of the attributes, and a group for each."""
    _require('num_groups' not in overrides, f'--num-groups: not with {attribute_groups.ASKED}, where there are as many '
        'groups as attributes')
    names = attribute_groups.choose(args.training_set_kwargs.path, method.attributes, left_out.names(args))
    return dataclasses.replace(method, attributes=names, num_groups=len(names))

def _sarigan(args: Any, method: Method, layers: dict[str, tuple[int, int]]) -> None:
    """Exchange upstream's networks and loss for ours. layers: of _grouped_layers()."""
    args.G_kwargs.class_name = 'sarigan_plugin.networks.Generator'
    del args.G_kwargs.w_dim # Twice code_dim.
    args.G_kwargs.update(z_dim=method.code_dim, **options.given_to('G', method))
    few = method.channels_per_group > 1 or method.grouping == 'attributes'
    if few and method.num_groups != 'auto' and method.grouping != 'none':
        numbers = {name: number for name, (number, _channels) in layers.items()}
        args.G_kwargs.num_groups = numbers if len(set(numbers.values())) > 1 else max(numbers.values())
    if method.grouping != 'none': # Given where they are of use: runs of before know no such options.
        args.G_kwargs.update({name: getattr(method, name) for name in ['inter_form', 'group_torgb']
            if getattr(method, name) != options.FIELDS[name].default})
        if method.inter_form == 'exp':
            _require(0 < method.inter_share < 1,
                f'{options.flag("inter_share")} must be between 0 and 1, not {method.inter_share:g}')
            args.loss_kwargs.inter_share = method.inter_share
    args.D_kwargs.update(class_name='sarigan_plugin.networks.Discriminator', **options.given_to('D', method))
    args.loss_kwargs.update(class_name='sarigan_plugin.loss.SariGANLoss', **options.given_to('loss', method))
    if method.info_target == 'styles' and method.grouping != 'none': # Without groups there is no h to predict.
        args.loss_kwargs.info_target = method.info_target
        of_each = 2 if method.norm == 'feature' else 1 # Deviations, and means.
        args.D_kwargs.q_features = [of_each * sum(numbers) for numbers in zip(*layers.values())]
    if method.grouping == 'attributes':
        _take_attributes(args, method, max(number for number, _channels in layers.values()))
    if method.similarity != 'kernels':
        asked = options.setting('similarity', method.similarity)
        _require(method.grouping == 'similarity', f'{asked} needs --grouping=similarity, not {method.grouping}')
        _require(method.num_groups != 'auto', f'{asked} needs a number for --num-groups, not auto')
    if method.grouping in ['effects', 'kmeans'] or method.num_groups == 'auto':
        _require(method.regroup_kimg > 0,
            f'{options.flag("regroup_kimg")} must be more than 0, not {method.regroup_kimg:g}')
        args.loss_kwargs.regroup_kimg = method.regroup_kimg

def _take_attributes(args: Any, method: Method, most: int) -> None:
    """Give every attribute a group, which is a block of channels in all layers; `most`: groups of the widest one."""
    names: Any = method.attributes
    _require(len(names) <= most, f'--attributes: the widest layers have room for {most} groups, and these are '
        f'{len(names)} attributes; choose of {", ".join(names)}')
    args.G_kwargs.grouping = 'blocks'
    args.loss_kwargs.update(class_name='sarigan_plugin.trainer.attribute_groups.make_loss',
        data=args.training_set_kwargs.path, attributes_of_groups=names,
        lambda_attributes=method.lambda_attributes)

def _grouped_layers(method: Method, size: Networks, resolution: int) -> dict[str, tuple[int, int]]:
    """{layer: (groups, channels)}, with as many groups as it starts with.

    Every grouped layer has a number of groups, no larger than that of its input channels; every number has a layer.
    """
    from sarigan_plugin.model.grouping import initial_groups  # Here, as upstream's tree may come to sys.path late.
    from sarigan_plugin.model.networks import groups_of_layers
    _require(method.num_groups != 'auto' or method.grouping == 'similarity',
        f'--num-groups=auto: only with --grouping=similarity, not {method.grouping}')
    resolutions = [2 ** power for power in range(resolution.bit_length() - 1, 2, -1)] # The narrowest layers first.
    layers = {f'b{res}.{conv}': source for res in resolutions
        for conv, source in [('conv1', res), ('conv0', res // 2)]} # Where the input is made.
    listed = ', '.join(map(str, reversed(resolutions)))
    if isinstance(method.num_groups, dict):
        for place in method.num_groups:
            _require(place in layers or place in map(str, resolutions), f'--num-groups: {place} is none of the '
                f'resolutions {listed}, nor a layer such as {next(reversed(layers))}')
    numbers, found = groups_of_layers(method.num_groups, layers), dict()
    for name, source in layers.items():
        _require(name in numbers, f'--num-groups must have a number for each of the resolutions {listed}, '
            f'or for both layers of one; {name} has none')
        channels = options.channels_at(size, source)
        number = initial_groups(numbers[name], channels)
        if numbers[name] != 'auto' and method.channels_per_group > 1:
            number = min(number, max(channels // method.channels_per_group, 1))
        if method.grouping == 'attributes':
            number = min(number, channels) # Narrow layers have the first attributes.
        _require(number <= channels, f'--num-groups must be between 1 and {channels}, the channels of the layers at '
            f'{source}x{source}, not {number}')
        found[name] = number, channels
    return found

def _inpainting(args: Any, recipe: Recipe, count: int, said: CommandLine, overrides: dict[str, Any]) -> str:
    if recipe.inpainting is None:
        _refuse(overrides, 'inpainting', 'inpainting')
        return ''
    aug = said.aug or recipe.training.aug
    _require('attributes_of_groups' not in args.loss_kwargs, f'{attribute_groups.ASKED}: not for networks that '
        'complete images, whose attributes the photo decides')
    _require(not said.cond, '--cond: inpainting has the masked image for its condition, and no classes')
    _require(aug == 'noaug',
        f'--aug must be noaug for inpainting, not {aug}: image and mask would have to move together')
    unfit = [metric for metric in args.metrics if metric.startswith('ppl')]
    _require(not unfit, f'--metrics={",".join(unfit)}: the path length is not defined for inpainting, where the images '
        'of a path share their known pixels')
    inpainting = options.overruled(recipe.inpainting, overrides)
    try:
        MaskSource(inpainting.masks, args.training_set_kwargs.resolution)
    except ValueError as error:
        raise UserError(f'--masks: {error} It may be a folder, or one of {", ".join(MASKS)}') from None
    _use_split(args.training_set_kwargs, count, inpainting.split)
    args.training_set_kwargs.update(class_name='sarigan_plugin.inpainting_data.InpaintingDataset',
        mask_source=inpainting.masks)
    args.G_kwargs.class_name = 'sarigan_plugin.inpainting.Generator'
    args.D_kwargs.class_name = 'sarigan_plugin.inpainting.Discriminator'
    args.loss_kwargs.update(class_name='sarigan_plugin.inpainting_loss.InpaintingLoss', mask_source=inpainting.masks,
        **options.given_to('loss', inpainting))
    return _described(inpainting, overrides)

def _use_split(data: Any, count: int, split: str) -> None:
    """Let a data set, which has `count` images, be the images of the split alone."""
    try:
        images = len(splits.indices(count, split))
    except ValueError as error:
        raise UserError(f'--split={split}: {error}') from None
    _require('random_seed' not in data or data.max_size <= images,
        f'--subset must be between 1 and {images}, as --split={split} has it, not {data.max_size}')
    data.update(max_size=min(data.max_size, images), split=split)

def _refuse(overrides: dict[str, Any], what: str, table: str) -> None:
    """Raise UserError where options are given that other configs are for, those with the table."""
    names = [name for name, path in our_configs().items() if getattr(read_recipe(path), table) is not None]
    flags = ', '.join(map(options.flag, overrides))
    _require(not overrides, f'{flags}: only for the configs of {what}, {", ".join(names)}')

def _described(table: Method | Inpainting, names: Iterable[str]) -> str:
    """What the command line overruled, for the name of the run's folder."""
    return ''.join(f'-{name.replace("_", "")}{_in_a_file_name(getattr(table, name))}' for name in names)

def _in_a_file_name(value: Any) -> Any:
    if isinstance(value, dict):
        return '_'.join(f'{place}x{number}' for place, number in value.items())
    if isinstance(value, list):
        return len(value) # Names may be many, and anything.
    return os.path.basename(os.path.normpath(value)) if isinstance(value, str) else value # Paths too.

#----------------------------------------------------------------------------
# How it is trained.

def _training(args: Any, recipe: Recipe, said: CommandLine) -> str:
    plan = recipe.training
    snap = plan.snap if said.snap is None else said.snap
    _require(snap >= 1, f'--snap must be at least 1, not {snap}')
    _require(said.gamma is None or said.gamma >= 0, f'--gamma must be non-negative, not {said.gamma}')
    _require(said.kimg is None or said.kimg >= 1, f'--kimg must be at least 1, not {said.kimg}')

    args.training_set_kwargs.xflip = bool(plan.mirror if said.mirror is None else said.mirror)
    args.image_snapshot_ticks = args.network_snapshot_ticks = snap
    for name in ['G_opt_kwargs', 'D_opt_kwargs']:
        args[name] = dnnlib.EasyDict(class_name='torch.optim.Adam', lr=plan.learning_rate, betas=[0, 0.99], eps=1e-8)
        if recipe.method is not None:
            args[name].fused = True # One pass over memory; upstream's recipes keep upstream's options.
    args.loss_kwargs.r1_gamma = plan.r1_gamma if said.gamma is None else said.gamma
    _put(args.loss_kwargs, pl_weight=plan.pl_weight, style_mixing_prob=plan.style_mixing)
    args.total_kimg = plan.kimg if said.kimg is None else said.kimg
    _batch(args, recipe, said.batch)
    args.ema_kimg = plan.ema_kimg
    args.ema_rampup = plan.ema_rampup
    args.data_loader_kwargs.num_workers = plan.workers
    _put(args, G_reg_interval=plan.G_reg_interval, D_reg_interval=plan.D_reg_interval, kimg_per_tick=plan.kimg_per_tick,
        grid=plan.grid)
    return ''.join([f'-gamma{said.gamma:g}' if said.gamma is not None else '',
        f'-kimg{said.kimg}' if said.kimg is not None else '', f'-batch{said.batch}' if said.batch is not None else ''])

def _batch(args: Any, recipe: Recipe, batch: int | None) -> None:
    """How many images an iteration takes, and a GPU at a time. batch: of the command line, or None."""
    plan = recipe.training
    _require(batch is None or (batch >= 1 and batch % args.num_gpus == 0),
        f'--batch must be at least 1 and divisible by --gpus, not {batch}')
    args.batch_size = plan.batch if batch is None else batch
    if batch is None and plan.ref_gpus is not None:
        args.batch_gpu = plan.batch // plan.ref_gpus
    else:
        _require(args.batch_size % args.num_gpus == 0,
            f'--gpus must divide the batch of {args.batch_size}, not be {args.num_gpus}; --batch sets another')
        args.batch_gpu = args.batch_size // args.num_gpus
        if batch is None and plan.batch_gpu is not None:
            args.batch_gpu = min(args.batch_gpu, plan.batch_gpu)
    if 'attributes_of_groups' in args.loss_kwargs:
        _let_mixtures_be_compared(args, recipe.networks.mbstd_group, batch)
    mbstd_group = min(recipe.networks.mbstd_group, args.batch_gpu) # Upstream's D fails where images are left over.
    _require(args.batch_gpu % mbstd_group == 0, f'--batch must give each GPU a multiple of {mbstd_group} images, which '
        f'the minibatch standard deviation compares, not {args.batch_gpu}')

def _let_mixtures_be_compared(args: Any, mbstd_group: int, batch: int | None) -> None:
    """Let each GPU take so many images at a time that D compares no mixture with what it is made of, see
    losses/attributes.py."""
    share, fewest = args.batch_size // args.num_gpus, 2 * mbstd_group
    if batch is None and args.batch_gpu < fewest <= share:
        args.batch_gpu = fewest # Fewer turns.
    _require(args.batch_gpu % fewest == 0, f'--batch must give each GPU a multiple of {fewest} images with '
        f'{attribute_groups.ASKED}, as half of them are mixtures, not {args.batch_gpu}; '
        f'choose --batch={max(share // fewest, 1) * fewest * args.num_gpus}')

def _augmentation(args: Any, default: str, said: CommandLine) -> str:
    aug, p, target, augpipe = default if said.aug is None else said.aug, said.p, said.target, said.augpipe
    known = get_args(options.Augmentation)
    _require(aug in known, f'--aug must be one of {", ".join(known)}, not {aug!r}')
    _require(aug != 'fixed' or p is not None, '--aug=fixed requires specifying --p')
    _require(p is None or aug == 'fixed', '--p can only be specified with --aug=fixed')
    _require(p is None or 0 <= p <= 1, f'--p must be between 0 and 1, not {p}')
    _require(target is None or aug == 'ada', '--target can only be specified with --aug=ada')
    _require(target is None or 0 <= target <= 1, f'--target must be between 0 and 1, not {target}')
    _require(augpipe is None or aug != 'noaug', '--augpipe cannot be specified with --aug=noaug')
    _require(augpipe is None or augpipe in AUGMENT_PIPES,
        f'--augpipe must be one of {", ".join(AUGMENT_PIPES)}, not {augpipe!r}')

    if aug == 'ada':
        args.ada_target = 0.6 if target is None else target
    if p is not None:
        args.augment_p = p
    if aug != 'noaug':
        pipe = dict.fromkeys(AUGMENT_PIPES[augpipe or 'bgc'], 1)
        args.augment_kwargs = dnnlib.EasyDict(class_name='training.augment.AugmentPipe', **pipe)
    return ''.join([f'-{said.aug}' if said.aug is not None else '', f'-p{p:g}' if p is not None else '',
        f'-target{target:g}' if target is not None else '', f'-{augpipe}' if augpipe is not None else ''])

def _transfer(args: Any, said: CommandLine) -> str:
    desc, resume = '', said.resume
    if resume is not None and resume != 'noresume':
        known = resume in TRANSFER_SOURCES
        args.resume_pkl = TRANSFER_SOURCES[resume] if known else resume
        is_there = os.path.isfile(resume) or exported.is_exported(resume)
        _require(known or is_there or dnnlib.util.is_url(resume, allow_file_urls=True),
            "--resume must be a network pickle's path or URL, or one of "
            f'{", ".join(TRANSFER_SOURCES)}, not {resume!r}')
        args.ada_kimg = 100 # ADA reacts faster at the beginning ...
        args.ema_rampup = None # ... and the average starts from good weights.
        desc += f'-resume{resume if known else "custom"}'
    elif resume is not None:
        desc += '-noresume'
    if said.freezed is not None:
        _require(said.freezed >= 0, f'--freezed must be non-negative, not {said.freezed}')
        args.D_kwargs.block_kwargs.freeze_layers = said.freezed
        desc += f'-freezed{said.freezed}'
    return desc

def _performance(args: Any, cpu_bf16: Any, said: CommandLine) -> None:
    """cpu_bf16: the recipe's."""
    _require(said.workers is None or said.workers >= 0, f'--workers must be at least 0, not {said.workers}')
    cpu_bf16 = cpu_bf16 if said.cpu_bf16 is None else said.cpu_bf16
    if said.fp32:
        for kwargs in [args.G_kwargs.synthesis_kwargs, args.D_kwargs]:
            kwargs.update(num_fp16_res=0, conv_clamp=None)
    _require(not (said.fp32 and cpu_bf16 == '1'), '--fp32=1 and --cpu-bf16=1: one of them alone')
    if cpu_bf16 != 'auto':
        args.cpu_bf16 = cpu_bf16
    if said.nhwc:
        args.G_kwargs.synthesis_kwargs.fp16_channels_last = args.D_kwargs.block_kwargs.fp16_channels_last = True
    if said.nobench:
        args.cudnn_benchmark = False
    if said.allow_tf32:
        args.allow_tf32 = True
    if said.workers is not None:
        args.data_loader_kwargs.num_workers = said.workers

#----------------------------------------------------------------------------
