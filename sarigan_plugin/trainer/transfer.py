"""--resume: from the networks of a pickle to those of this run, which may be a SariGAN and the pickle's a plain
StyleGAN2.

A plain generator has one code w and one style per channel. A grouped generator that is to make the same images starts
with w for both codes. Its intra-group code then gives the source's styles s through the source's own affine layers, and
Eq. 5 turns them into f_j = h_i s_j / n_i for each channel j of group i, n_i = sqrt(1/C sum_{k in group i} s_k^2). So
h_i has to be n_i. That is no affine function of the inter-group code, and h_i is one: the closest, in least squares
over codes that the mapping network makes, is what group_affine starts as. Layers that are not grouped are copied
exactly. With norm = "feature" the same is done, but there features are normalised, the source's were not, and its
images don't stay.

All this holds for one grouping, and a fresh one would change with each of the first steps. So the groups are learned
first: the grouping loss needs the source's kernels alone. Groups by effects are those of what the source's channels
change.

Networks may grow: the pickle's may make smaller images. A block's name is its resolution, so blocks that the pickle has
are copied. New ones start afresh, but for ToRGB's kernels, which start at zero: the first images are the pickle's,
enlarged.
"""

import contextlib
import copy
import os
from collections.abc import Callable
from typing import Any

import torch

from sarigan_plugin.errors import UserError
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.model.grouping import INERTIA_ROUNDS, ChannelGrouping, KMeansGrouping
from sarigan_plugin.model.networks import OWN_CHANNELS_EPS, split_codes
from sarigan_plugin.snapshots import reading
from sarigan_plugin.trainer import effect_groups

import dnnlib

NUM_STEPS = 1000    # Of the grouping loss, at the training's learning rate: planted clusters are found by then.
NUM_CODES = 8192    # Codes that the styles are fitted to: 16 for each unknown at the usual 512 dimensions.
RIDGE     = 1e-3    # Share of the codes' mean variance, so that directions which hardly vary count for little.

#----------------------------------------------------------------------------
# Before training.

def examine(args: Any, trust: bool = False) -> str | None:
    """Read the networks that training is to start from, and see whether they fit.

    args:  from arguments.training_options(), with resume_pkl; gets ada_start, the p that ADA starts with,
           where it has a target.
    trust: see reading.read().
    Returns a sentence on p, or None. Raises UserError.
    """
    data = reading.to_train_on(reading.load_all(args.resume_pkl, '--resume', trust), args.resume_pkl, '--resume')
    with contextlib.closing(dnnlib.util.construct_class_by_name(**args.training_set_kwargs)) as dataset:
        kwargs = dict(c_dim=dataset.label_dim, img_resolution=dataset.resolution, img_channels=dataset.num_channels)
    targets = {name: dnnlib.util.construct_class_by_name(**args[f'{name}_kwargs'], **kwargs) for name in ['G', 'D']}
    for name, target in [*targets.items(), ('G_ema', targets['G'])]:
        fitting_tensors(data[name], target)
    if args.get('ada_target') is None:
        return None
    why_not = _why_p_starts_again(data, args.training_set_kwargs)
    if why_not is not None:
        return f"ADA's p starts again at 0: {why_not}."
    args.ada_start = float(data['augment_pipe'].p)
    return f"ADA's p starts at {args.ada_start:.3f}, where the pickle has it."

def _why_p_starts_again(data: dict[str, Any], training_set_kwargs: dict[str, Any]) -> str | None:
    """p is about one data set. Returns a sentence without a full stop, or None where the pickle's p is for this one."""
    if data.get('augment_pipe') is None:
        return 'the pickle was trained without augmentation'
    theirs, ours = _data_of(data.get('training_set_kwargs') or {}), _data_of(training_set_kwargs)
    if theirs != ours:
        return (f'the pickle was trained on other data ({theirs[1]} images of {theirs[0]}), '
            f'and here are {ours[1]} of {ours[0]}')
    return None

def _data_of(training_set_kwargs: dict[str, Any]) -> tuple[str, int | None]:
    """What tells data sets apart: (name of the folder or zip, number of images)."""
    return os.path.basename(os.path.normpath(str(training_set_kwargs.get('path')))), training_set_kwargs.get('max_size')

#----------------------------------------------------------------------------

def copying() -> Callable[..., None]:
    """A copy_with_report() that gives G_ema the same groups by effects as G, which upstream's loop copies before it."""
    by_effects: effect_groups.Layers = dict()
    return lambda source, target, require_all=False: copy_with_report(source, target, require_all, by_effects)

@torch.no_grad()
def copy_with_report(source: Any, target: Any, require_all: bool = False,
                     by_effects: effect_groups.Layers | None = None) -> None:
    """For upstream's misc.copy_params_and_buffers(), which says nothing of tensors that it can't find and fails in the
    midst of those that don't fit.

    source, target: two generators or two discriminators. by_effects: see settle_by_effects().
    Prints what was and wasn't copied. Raises UserError, with the target untouched, where they don't fit.
    """
    theirs, ours, kind = fitting_tensors(source, target), _tensors(target), type(target).__name__
    from_plain, two_codes = _is_from_plain(source, target), _gets_two_codes(source, target)
    missing = [name for name in ours if name not in theirs]
    assert not (require_all and missing)

    for name, tensor in ours.items():
        if name in theirs:
            tensor.copy_(theirs[name])
    if _is_sarigan(target) and source.img_resolution < target.img_resolution:
        _start_enlarged(source, target)
        print(f'{kind}: it grows from {source.img_resolution}x{source.img_resolution} '
            f'to {target.img_resolution}x{target.img_resolution}')
    if from_plain:
        print(f'{kind}: {len(ours) - len(missing)} of {len(ours)} tensors are copied from a plain '
            f'StyleGAN2{"; both codes start as its w" if two_codes else ""}')
    if two_codes and grouped_layers(target.synthesis):
        settle_groups(target)
        settle_by_effects(target, source, by_effects)
        print(f'{kind}: groups are settled and group_affine is fitted, '
            f'which keeps styles within {fit_group_styles(target):.1%}')
        missing = [name for name in missing if '.grouping.' not in name and '.group_affine.' not in name]
    if missing:
        print(f'{kind}: {len(missing)} of {len(ours)} tensors are not in the pickle and start afresh: '
            f'{", ".join(missing)}')
    unused = [name for name in theirs if name not in ours]
    if unused:
        print(f'{kind}: {len(unused)} tensors of the pickle have no place here: {", ".join(unused)}')

def _start_enlarged(source: Any, target: Any) -> None:
    """Let the new blocks add nothing to the image, where blocks add up to it ("skip")."""
    for block in target.modules():
        if (getattr(block, 'resolution', 0) > source.img_resolution and hasattr(block, 'torgb')
                and block.architecture == 'skip'):
            block.torgb.weight.zero_()

def fitting_tensors(source: Any, target: Any) -> dict[str, torch.Tensor]:
    """The source's tensors by their names in the target. Raises UserError where they don't fit."""
    theirs, ours = _tensors(source), _tensors(target)
    if _is_sarigan(target):
        _check_images(source, target)
    if _gets_two_codes(source, target):
        _check_codes(source, target)
        theirs = _for_two_codes(theirs, last_layer=f'mapping.fc{source.mapping.num_layers - 1}')
    for name, tensor in ours.items():
        if name in theirs and theirs[name].shape != tensor.shape:
            from_plain = _is_from_plain(source, target)
            advice = ('choose a --cfg that has the channels of the pickle' if from_plain
                else 'go on with the options that the pickle was trained with')
            shapes = f'{list(theirs[name].shape)} in the pickle and {list(tensor.shape)} here'
            raise UserError(f'--resume: {name} of {type(target).__name__} is {shapes}; {advice}.')
    return theirs

def _is_from_plain(source: torch.nn.Module, target: torch.nn.Module) -> bool:
    return _is_sarigan(target) and not _is_sarigan(source)

def _gets_two_codes(source: torch.nn.Module, target: torch.nn.Module) -> bool:
    return _is_from_plain(source, target) and hasattr(target, 'code_dim') # The discriminator has none.

def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict([*module.named_parameters(), *module.named_buffers()])

def _is_sarigan(module: torch.nn.Module) -> bool:
    # Generator, discriminator; a pickle's classes are not ours.
    return hasattr(module, 'code_dim') or hasattr(module, 'q')

def _check_images(source: Any, target: Any) -> None:
    if reading.completes_images(source) != reading.completes_images(target):
        raise UserError('--resume: one of the two networks completes images, that of the pickle or that of the --cfg; '
            'they must be of one kind.')
    may_grow = not reading.completes_images(target)
    if source.img_resolution > target.img_resolution or not may_grow:
        _check_equal('the resolution', source.img_resolution, target.img_resolution,
            'they may grow, not shrink' if may_grow else 'they must be equal')
    _check_equal('the number of color channels', source.img_channels, target.img_channels)
    _check_equal('the number of class labels', source.c_dim, target.c_dim)

def _check_codes(source: Any, target: Any) -> None:
    _check_equal('the dimensionality of z', source.z_dim, target.z_dim)
    _check_equal('the dimensionality of w, here that of each code,', source.w_dim, target.code_dim)
    _check_equal('the number of mapping layers', source.mapping.num_layers, target.mapping.num_layers)

def _check_equal(what: str, theirs: int, ours: int, rule: str = 'they must be equal') -> None:
    if theirs != ours:
        raise UserError(f'--resume: {what} is {theirs} in the pickle and {ours} here; {rule}.')

def _for_two_codes(tensors: dict[str, torch.Tensor], last_layer: str) -> dict[str, torch.Tensor]:
    """A plain generator's tensors under the names that they have in a SariGAN of equal size, with w for both codes."""
    def shape(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat([tensor, tensor]) if name in [f'{last_layer}.weight', f'{last_layer}.bias',
            'mapping.w_avg'] else tensor
    return {name.replace('.torgb.affine.', '.torgb.affine.affine.'): shape(name, tensor)
        for name, tensor in tensors.items()}

#----------------------------------------------------------------------------

def settle_by_effects(G: Any, source: Any, known: effect_groups.Layers | None = None) -> None:
    """Give a generator that groups by effects the groups of what the channels of a plain one change.

    known: those of another average of the same network, which it gets as well; or empty, and gets those that are found.
    """
    groupings = effect_groups.groupings_of(G)
    if not groupings:
        return
    groups = dict() if known is None else known
    if not groups:
        network = reading.put(copy.deepcopy(source), next(G.parameters()).device)
        ws = _sample_codes(network, effect_groups.NUM_IMAGES)[:, None].repeat(1, network.num_ws, 1)
        groups.update(effect_groups.new_groups(effect_groups.measured(network, ws), groupings))
    effect_groups.put(groups, G, rounds=INERTIA_ROUNDS) # They are a trained network's.

def settle_groups(G: Any) -> None:
    """Find the groups of the kernels that G has: by the grouping loss alone (Eq. 2), or by k-means.

    Others stay as they are.
    """
    for _name, layer, source in grouped_layers(G.synthesis):
        if isinstance(layer.grouping, KMeansGrouping):
            layer.grouping.refresh(source.weight)
    layers = [(layer.grouping, layer.grouping.target(source.weight))
        for _name, layer, source in grouped_layers(G.synthesis)
        # The kernels stay, and there is no inertia before training: one target for all steps.
        if isinstance(layer.grouping, ChannelGrouping)]
    parameters = [parameter for grouping, _target in layers for parameter in grouping.parameters()]
    if not parameters:
        return
    wanted_gradients = [parameter.requires_grad for parameter in parameters]
    with torch.enable_grad():
        for parameter in parameters:
            parameter.requires_grad_(True)
        optimizer = torch.optim.Adam(parameters, lr=0.002, betas=(0.0, 0.99))
        for _step in range(NUM_STEPS):
            loss = sum(grouping.num_channels * grouping.loss(target)[0] for grouping, target in layers)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for parameter, wanted in zip(parameters, wanted_gradients):
        parameter.requires_grad_(wanted)

@torch.no_grad()
def fit_group_styles(G: Any) -> float:
    """Choose each grouped layer's group_affine so that its styles (Eq. 5) are, nearly, those of its affine layer alone.

    G: Generator. The codes come from its mapping network; random numbers of one's own keep the caller's as they were.
    At least one layer must be grouped. Returns the relative error of the styles, root mean square over all layers.
    """
    device = next(G.parameters()).device
    codes = _sample_codes(G, NUM_CODES).double()
    inter, intra = split_codes(codes) # [ND]
    centred = inter - inter.mean(dim=0)
    covariance = centred.t() @ centred / len(codes)
    covariance += torch.eye(len(covariance), device=device) * covariance.diagonal().mean() * RIDGE
    solver = torch.linalg.solve(covariance, centred.t() / len(codes)) # [DN]

    errors = []
    for _name, layer, _source in grouped_layers(G.synthesis):
        membership = layer.grouping().double() # [Cg]
        sizes = membership.sum(dim=0) # [g]
        empty = sizes == 0
        power = layer.affine(intra).square()
        powers = power @ membership # [Ng]
        # Ready for the channels that may come, as many as others have.
        sizes[empty] = len(membership) / membership.shape[1]
        powers[:, empty] = power.mean(dim=1, keepdim=True) * sizes[empty]
        if hasattr(layer.group_affine, 'variance'):
            wanted = (powers / sizes + OWN_CHANNELS_EPS).sqrt() # [Ng]: n_i of a group's own channels.
            _fit_exp(layer.group_affine, inter, solver @ wanted.log())
        else:
            wanted = (powers / len(membership)).sqrt() # [Ng]: n_i.
            slope = solver @ wanted # [Dg]
            layer.group_affine.weight.copy_(slope.t() / layer.group_affine.weight_gain)
            layer.group_affine.bias.copy_(wanted.mean(dim=0) - inter.mean(dim=0) @ slope)
        error = (layer.group_affine(inter) - wanted)[:, ~empty]
        errors.append(error.square().sum() / wanted[:, ~empty].square().sum()) # |f - s|^2 / |s|^2
    for torgb in G.synthesis.modules():
        if hasattr(getattr(torgb, 'affine', None), 'read_groups_of'):
            _fit_torgb(torgb, codes.float())
    return torch.stack(errors).mean().sqrt().item()

def _fit_torgb(torgb: Any, codes: torch.Tensor) -> None:
    """Divide the kernels, as no demodulation follows, by how much louder each channel is on average with both codes."""
    intra = torgb.affine.affine(split_codes(codes)[1]) # [NC]: the source's styles.
    louder = (torgb.affine(codes) * intra).sum(dim=0) / intra.square().sum(dim=0)
    torgb.weight.div_(louder[None, :, None, None])

def _fit_exp(group_affine: Any, inter: torch.Tensor, slope: torch.Tensor) -> None:
    """Let log h be linear in the code. One beta is for all groups, and the mean of log h is 0 for each: the closest."""
    affine = inter @ slope # [Ng]
    variance = affine.var(dim=0, correction=0)
    group_affine.affine.weight.copy_(slope.t() / group_affine.affine.weight_gain)
    group_affine.mean.copy_(affine.mean(dim=0))
    group_affine.variance.copy_(variance)
    group_affine.slope.copy_(variance.mean().sqrt() / group_affine.affine.weight_gain)

def _sample_codes(G: Any, num: int) -> torch.Tensor:
    """[num, 2 * code_dim], with class labels drawn evenly."""
    random = torch.Generator().manual_seed(0)
    codes = []
    for z in torch.randn([num, G.z_dim], generator=random).split(256): # In parts, as each code comes num_ws times.
        c = (torch.eye(G.c_dim)[torch.randint(G.c_dim, [len(z)], generator=random)] if G.c_dim > 0
            else torch.zeros([len(z), 0]))
        device = next(G.parameters()).device
        codes.append(G.mapping(z.to(device), c.to(device), skip_w_avg_update=True)[:, 0].clone())
    return torch.cat(codes)

#----------------------------------------------------------------------------
