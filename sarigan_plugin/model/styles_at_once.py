"""Styles of all layers of equal shapes made together, which a GPU, or a small network on a CPU, does as fast as one."""

import contextlib

import torch

from sarigan_plugin.model.networks import IntraAffine, convolutions, group_styles, split_codes

#----------------------------------------------------------------------------

def _alike(synthesis):
    """Layers whose styles can be made together, as lists of [(layer or IntraAffine, its affine map, position in ws)].

    Those of a list have equal shapes and numbers of groups. Left out are layers that are alone, or of other forms, or
    whose affine maps somebody has hooked.
    """
    convs = convolutions(synthesis)
    readers = [(layer, layer.affine, index) for index, (_name, layer) in enumerate(convs)]
    ends = [index for index, (name, _layer) in enumerate(convs, start=1) if name.endswith('conv1')] # Of blocks.
    torgbs = [getattr(getattr(synthesis, f'b{res}'), 'torgb', None) for res in synthesis.block_resolutions]
    readers += [(torgb.affine, torgb.affine.affine, index) for torgb, index in zip(torgbs, ends)
        if type(getattr(torgb, 'affine', None)) is IntraAffine]
    alike = dict()
    for reader in readers:
        layer, affine, _index = reader
        grouping, of_groups = getattr(layer, 'grouping', None), getattr(layer, 'group_affine', affine)
        if (hasattr(layer, '_known') and getattr(layer, 'norm', 'weight') == 'weight'
                and all(hasattr(module, 'weight') and not module._forward_hooks for module in [affine, of_groups])):
            num_groups = None if grouping is None else grouping.num_groups
            alike.setdefault((tuple(affine.weight.shape), num_groups), []).append(reader)
    return [readers for readers in alike.values() if len(readers) > 1]

def _affine_at_once(modules, codes):
    """What fully connected layers of one shape make of a code each, L of them: [N, code_dim]. Returns [L, N, C]."""
    codes = torch.stack(codes) * modules[0].weight_gain
    weights, biases = [torch.stack([getattr(module, name) for module in modules]) for name in ['weight', 'bias']]
    return torch.baddbmm(biases[:, None], codes, weights.mT)

@contextlib.contextmanager
def styles_at_once(synthesis):
    """Inside the `with`, layers of equal shapes have their styles made together, before the network runs.

    A GPU, and a small network on a CPU, takes as long for one layer as for all. Numbers are the same up to rounding.
    """
    alike = _alike(synthesis)
    def make(_synthesis, args):
        inter_codes, intra_codes = [codes.unbind(dim=1) for codes in split_codes(args[0].to(torch.float32))]
        for readers in alike:
            layers, affines, positions = zip(*readers)
            styles = _affine_at_once(affines, [intra_codes[index] for index in positions])
            if getattr(layers[0], 'grouping', None) is not None:
                inter = _affine_at_once([layer.group_affine for layer in layers],
                    [inter_codes[index] for index in positions])
                styles = WithoutGradientAtOnce.apply(styles,
                    *[parameter for layer in layers for parameter in layer.grouping.parameters()])
                styles = group_styles(styles, inter, _memberships([layer.grouping for layer in layers]))
            for layer, known in zip(layers, styles.unbind()):
                layer._known = known
    handle = synthesis.register_forward_pre_hook(make)
    try:
        yield
    finally:
        handle.remove()
        for readers in alike:
            for layer, _affine, _index in readers:
                layer.__dict__.pop('_known', None)

@contextlib.contextmanager
def groups_exchanged(synthesis, others, taken):
    """Inside the `with`, some groups of an image have the styles that they have in another image of the batch.

    In all grouped layers, the groups of one index together. It may be inside of styles_at_once().
    others: [N], for each image the index of the other one. taken: bool [N, g], which groups have its styles; layers of
    fewer groups have the first ones.
    """
    layers = [(index, layer) for index, (_name, layer) in enumerate(convolutions(synthesis))
        if getattr(layer, 'grouping', None) is not None]
    def exchange(_synthesis, args):
        codes = args[0].to(torch.float32).unbind(dim=1)
        for index, layer in layers:
            own = layer.styles(codes[index]) if layer._known is None else layer._known
            channels = taken[:, layer.grouping.assignment] # [NC]
            mix = lambda styles, channels=channels: torch.where(channels, styles[others], styles)
            layer._known = tuple(map(mix, own)) if isinstance(own, tuple) else mix(own) # Shifts too.
    def forget(*_call):
        for _index, layer in layers:
            layer.__dict__.pop('_known', None)
    handles = [synthesis.register_forward_pre_hook(exchange), synthesis.register_forward_hook(forget)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        forget() # Where it failed.

def _memberships(groupings):
    """[L, C, g]: the one-hot rows of groupings of one shape."""
    if all(type(grouping).__name__ == 'ChannelGrouping' for grouping in groupings): # Others may have other argmaxes.
        assignments = torch.stack([grouping.logits.detach() for grouping in groupings]).argmax(dim=2)
    else:
        assignments = torch.stack([grouping.assignment for grouping in groupings])
    membership = torch.zeros([*assignments.shape, groupings[0].num_groups], device=assignments.device)
    return membership.scatter_(2, assignments[:, :, None], 1)

class WithoutGradientAtOnce(torch.autograd.Function):
    """As WithoutGradient of grouping.py, for the parameters of several groupings, whose zeros are one tensor's."""
    @staticmethod
    def forward(ctx, x, *parameters):
        ctx.shapes = [parameter.shape for parameter in parameters]
        return x.view_as(x)

    @staticmethod
    def backward(ctx, dx):
        zeros = dx.new_zeros(sum(shape.numel() for shape in ctx.shapes))
        parts = zeros.split([shape.numel() for shape in ctx.shapes])
        return dx, *[part.view(shape) for part, shape in zip(parts, ctx.shapes)]

#----------------------------------------------------------------------------
