"""A generator as ONNX, with all that edits change as inputs and its attention maps as outputs.

Inputs, float32 all of them; g groups and C channels of a layer, K images that codes are taken from, one at least:

    z                   [1, z_dim]          latent of the image
    truncation          [1]                 psi
    label               [1, c_dim]          of a conditional network: one-hot, or a label vector
    condition           [1, 1 + colours, H, W]  of a network that completes images: image, zero in the hole, and mask
    other_z             [K, z_dim]          latents of the images that codes of groups are taken from
    inter_scale.LAYER   [1, g]              the inter-group styles h of a layer become
    inter_shift.LAYER   [1, g]                  inter_scale h + inter_shift
    inter_share.LAYER   [K, g]                  + sum_k inter_share_k h_k, h_k being those of the other images;
    intra_share.LAYER   [K, g]              and the intra-group styles y of the channels of a group
    intra_step.LAYER    [g, code_dim]           (1 - sum_k intra_share_k) y + sum_k intra_share_k y_k + A intra_step,
                                            A being the matrix that makes styles of codes

Those from other_z on are there where channels are grouped. LAYER may be 'linked', if such groups are attached: their
h is the gain of their channels in each layer, see groupings.py, and the intra-group styles are all that there are.
Inputs of a layer's own groups come before those of linked ones. Outputs: image [1, colours, H, W], about [-1, 1], and
attention.LAYER [1, g, h, w], the mean of the feature maps of each group.
"""

import contextlib
import json
import logging
import warnings

import numpy as np
import torch

from sarigan_plugin.errors import UserError
from sarigan_plugin.model.grouped import captured_features
from sarigan_plugin.model.networks import split_codes
from sarigan_plugin.snapshots import label_kind, reading
from sarigan_plugin.steering import groupings
from sarigan_plugin.steering.styles import all_styles, hooked, restyled_by_code
from sarigan_plugin.upstream import exchanges

from torch_utils import misc

OPSET           = 18
LEAST_STORED    = 64    # Numbers that a tensor has to have for fp16 to be worth a Cast.
METADATA        = 'sarigan' # Key of the description that a file carries.

#----------------------------------------------------------------------------
# What the model computes.

def _in_layer(kind, name):
    """What inputs and outputs of one layer are called."""
    return f'{kind}.{name}'

def neutral(G):
    """All inputs as arrays, {name: float32}, for the image of z = 0 with no group edited."""
    arrays = dict(z=np.zeros([1, G.z_dim]), truncation=np.ones([1]))
    if reading.completes_images(G):
        arrays['condition'] = np.zeros([1, G.img_channels + 1, G.img_resolution, G.img_resolution])
    elif G.c_dim > 0:
        arrays['label'] = np.zeros([1, G.c_dim])
    places = groupings.of(G)
    if places:
        arrays['other_z'] = np.zeros([1, G.z_dim])
    for name, groups in places.items():
        arrays[_in_layer('inter_scale', name)] = np.ones([1, groups.num_groups])
        for kind in ['inter_shift', 'inter_share', 'intra_share']:
            arrays[_in_layer(kind, name)] = np.zeros([1, groups.num_groups])
        arrays[_in_layer('intra_step', name)] = np.zeros([groups.num_groups, _code_dim(groups)])
    return {name: array.astype(np.float32) for name, array in arrays.items()}

def _code_dim(groups):
    """Length of the code that makes the styles of groups, the intra-group one where there are two."""
    return next(iter(groups.layers.values())).affine.weight.shape[1]

class Steered(torch.nn.Module):
    """A generator from inputs as neutral() has them to (image, attention maps of each grouped layer)."""

    def __init__(self, G):
        super().__init__()
        self.G = G
        self.places = groupings.of(G)
        self.layers = {name: layer for groups in self.places.values() for name, layer in groups.layers.items()}
        self.output_names = ['image', *[_in_layer('attention', name) for name in self.places]]

    def forward(self, inputs):
        conditions = self._condition(inputs)
        w = self._codes(inputs['z'], inputs['truncation'], conditions)
        ws = w[:, None].repeat([1, self.G.num_ws, 1])
        extra = [conditions] if reading.completes_images(self.G) else []
        with self._edited(inputs, conditions), captured_features(self.G.synthesis, self.layers) as features:
            # Kernels that no style is folded into are constants, which runtimes prepare once.
            image = self.G.synthesis(ws, *extra, noise_mode='const', fused_modconv=False)
        return image, *[_linked_maps(groups, features) if name == groupings.LINKED else groups.maps(features)
            for name, groups in self.places.items()]

    def _condition(self, inputs):
        """What mapping and synthesis call c, [1, c_dim]."""
        if 'condition' in inputs:
            return inputs['condition'].flatten(1)
        return inputs.get('label')

    def _codes(self, z, truncation, c):
        """[N, w_dim]. As G.mapping() with truncation_psi, which is a Python number there."""
        w = self.G.mapping(z, c.expand(z.shape[0], -1) if c is not None else None)[:, 0]
        return self.G.mapping.w_avg.lerp(w, truncation) if hasattr(self.G.mapping, 'w_avg') else w

    @contextlib.contextmanager
    def _edited(self, inputs, c):
        """Inside the `with`, layers make their styles as the inputs say; as edits.edited(), all at once."""
        if not self.places:
            yield
            return
        others = self._codes(inputs['other_z'], inputs['truncation'], c) # [K, w_dim]
        contexts = []
        for name, groups in self.places.items():
            given = {kind: inputs[_in_layer(kind, name)]
                for kind in ['inter_scale', 'inter_shift', 'inter_share', 'intra_share', 'intra_step']}
            # What other images have is looked at before anything is changed.
            contexts += list((_linked if name == groupings.LINKED else _own)(groups, given, others))
        with groupings.all_of(contexts):
            yield

def _own(groups, given, others):
    """Contexts, inside of which a layer's own groups are as it is given. given: {kind of input: tensor}."""
    inter_codes, intra_codes = split_codes(others) # [K, code_dim] each.
    layer, membership = groups.layer, groups.layer.grouping() # [Cg]

    def change_inter(module):
        theirs = module.forward(inter_codes) # [Kg]
        return hooked(module, lambda _args, styles: _scaled(styles, theirs, given))

    def change_intra(module):
        theirs = module.forward(intra_codes) # [KC]
        moved = given['intra_step'] @ (module.weight * module.weight_gain).t() # [gC]
        return hooked(module, lambda _args, styles: _mixed(styles, theirs, membership, given)
            + (moved * membership.t()).sum(dim=0, keepdim=True))

    is_feature = layer.norm == 'feature'
    yield from map(change_inter, [layer.group_affine, layer.group_shift] if is_feature else [layer.group_affine])
    yield from map(change_intra, [layer.affine, layer.shift] if is_feature else [layer.affine])

def _linked(groups, given, others):
    """As _own(), of groupings.LinkedGroups; one context for each layer."""
    for name, membership in _memberships(groups).items():
        layer = groups.layers[name]
        yield restyled_by_code(layer, _linked_change(layer, membership, given, all_styles(layer, others)))

def _memberships(groups):
    """Of groupings.LinkedGroups: {layer: [C, g], one where a channel is in a group}, of layers that have some."""
    def of_layer(name):
        none = torch.zeros([groups.layers[name].weight.shape[1]], dtype=torch.bool)
        return torch.stack([masks.get(name, none) for masks in groups.masks], dim=1).to(torch.float32)

    return {name: of_layer(name) for name in groups.layers if any(name in masks for masks in groups.masks)}

def _linked_maps(groups, features):
    """As LinkedGroups.maps(), which asks what is in masks; exporters do not bear that. Returns [1, g, h, w]."""
    side = max(features[name].shape[-1] for name in groups.layers)
    sums = []
    for name, membership in _memberships(groups).items():
        x = features[name]
        x = (x - x.mean(dim=[1,2,3], keepdim=True)) / x.std(dim=[1,2,3], keepdim=True).clamp(min=groupings.TINY)
        of_groups = torch.einsum('nchw,cg->nghw', x, membership)
        sums.append(torch.nn.functional.interpolate(of_groups, size=[side, side], mode='bilinear'))
    return sum(sums) / torch.tensor(groups.sizes())[:, None, None]

def _linked_change(layer, membership, given, theirs):
    """What happens to the styles of one layer. theirs: its styles in other images, as of all_styles()."""
    def gains(styles): # [Ng]
        return (styles.square() @ membership / membership.shape[0]).sqrt()

    def change(own, w):
        step = given['intra_step']
        step = torch.nn.functional.pad(step, [w.shape[1] - step.shape[1], 0]) # [g, w_dim], the inter-group code first.
        moved = [((there - here) * membership.t()).sum(dim=0, keepdim=True)
            for there, here in zip(all_styles(layer, w + step), all_styles(layer, w))]
        new = [_mixed(styles, other, membership, given) + move for styles, other, move in zip(own, theirs, moved)]
        gain = gains(new[0])
        factor = _scaled(gain, gains(theirs[0]), given) / gain.clamp(min=groupings.TINY) # [1g]
        factor = factor @ membership.t() + (1 - membership.sum(dim=1)) # Of channels in no group it is one.
        return tuple(styles * factor for styles in new)
    return change

def _scaled(styles, theirs, given):
    """Inter-group styles [N, g] as they are given. theirs: [K, g], those of other images."""
    taken = (given['inter_share'] * theirs).sum(dim=0, keepdim=True)
    return styles * given['inter_scale'] + given['inter_shift'] + taken

def _mixed(styles, theirs, membership, given):
    """Styles [N, C] of channels with shares of those of other images, [K, C]. membership: [C, g]."""
    share = given['intra_share'] @ membership.t() # [KC]
    return styles * (1 - share.sum(dim=0, keepdim=True)) + (share * theirs).sum(dim=0, keepdim=True)

#----------------------------------------------------------------------------
# Files.

def require():
    """Raise UserError where a package is missing that writes ONNX."""
    try:
        import onnx as _onnx  # noqa: F401
        import onnxscript as _onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"ONNX needs the Python package {error.name}, which is not installed: "
            "pip install 'onnx>=1.17' 'onnxscript>=0.5'") from None

def described(G, known):
    """What a program has to know of a generator to use its ONNX file, fit for JSON. known: names.GroupNames.

    labels is the length of a label, 0 = it takes none; layers has the groups that have channels, their names, and
    notes on what they do.
    """
    places = groupings.of(G)
    layers = [dict(name=name, num_groups=groups.num_groups, groups=groups.live,
        names={group: text for of_layer, group, text in known if of_layer == name}, notes=groupings.notes(G, name))
        for name, groups in places.items()]
    is_inpainting = reading.completes_images(G)
    return dict(version=1, resolution=G.img_resolution, colours=G.img_channels, z_dim=G.z_dim,
        code_dim=_code_dim(next(iter(places.values()))) if places else None,
        labels=0 if is_inpainting else G.c_dim, label_kind=label_kind.of(G), condition=is_inpainting, layers=layers)

def as_bytes(G, description=None):
    """The content of an ONNX file.

    G:              generator of any kind, on the CPU, in eval mode, as reading.load() gives it.
    description:    see described(); goes into the metadata of the file, as JSON.
    Raises UserError where a package is missing.
    """
    require()
    program = _exported(G)
    _fold_constants(program.model)
    model = program.model_proto
    _strip(model)
    _widen_biases(model)
    if description is not None:
        entry = model.metadata_props.add()
        entry.key, entry.value = METADATA, json.dumps(description)
    return model.SerializeToString()

def _exported(G):
    """A torch.onnx.ONNXProgram."""
    inputs = {name: torch.from_numpy(array) for name, array in neutral(G).items()}
    others = torch.export.Dim('others', min=1)
    several = ['other_z', 'inter_share', 'intra_share']
    # Example values of 1 would be taken for constants.
    inputs |= {name: tensor.repeat([2, 1]) for name, tensor in inputs.items() if name.split('.')[0] in several}
    shapes = {name: {0: others} if name.split('.')[0] in several else {} for name in inputs}
    model = Steered(G).eval()
    # Upstream's own operations, which exporters know, and not ours for the CPU.
    with exchanges.undone(), _own_constants(), _quiet(), torch.no_grad():
        return torch.onnx.export(model, kwargs=dict(inputs=inputs), dynamic_shapes=dict(inputs=shapes),
            input_names=list(inputs), output_names=model.output_names, opset_version=OPSET, dynamo=True,
            verbose=False, optimize=False)

@contextlib.contextmanager
def _own_constants():
    """Inside the `with`, upstream's cache of constants is empty: exporting would leave tensors without values in it."""
    before = dict(misc._constant_cache)
    misc._constant_cache.clear()
    try:
        yield
    finally:
        misc._constant_cache.clear()
        misc._constant_cache.update(before)

@contextlib.contextmanager
def _quiet():
    """Inside the `with`, exporters keep their remarks on versions to themselves."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)

def _fold_constants(model):
    """Work out what depends on no input, in an onnx_ir.Model.

    Not by the optimizer of the exporter: it takes x + 1e-8, which keeps us from dividing by zero, for x.
    """
    from onnx_ir.passes import common
    from onnxscript import optimizer
    optimizer.inline(model)
    for _round in range(2): # Shapes that come to be known show more constants.
        optimizer.fold_constants(model)
        optimizer.remove_unused_nodes(model)
    # Runtimes open a third faster what is there once.
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.DeduplicateInitializersPass()(model)
    common.CommonSubexpressionEliminationPass()(model)
    optimizer.remove_unused_nodes(model)

def _strip(model):
    """Take out the lines of Python that every operation came from: a megabyte, with paths of this machine."""
    for entry in [*model.graph.node, *model.graph.value_info, *model.graph.initializer, *model.graph.input,
            *model.graph.output, model.graph, model]:
        del entry.metadata_props[:]
        entry.doc_string = ''

def _widen_biases(model):
    """Make scalars that Gemm adds vectors of one number: ONNX allows both, and ONNX Runtime aborts on WebGPU."""
    from onnx import TensorProto
    scalars = {tensor.name: tensor for tensor in model.graph.initializer if len(tensor.dims) == 0}
    added = dict()
    for node in model.graph.node:
        if node.op_type == 'Gemm' and len(node.input) == 3 and node.input[2] in scalars:
            name = f'{node.input[2]}.bias'
            if name not in added:
                added[name] = TensorProto()
                added[name].CopyFrom(scalars[node.input[2]])
                added[name].name = name
                added[name].dims.append(1)
            node.input[2] = name
    model.graph.initializer.extend(added.values())

def halved(content):
    """The content of an ONNX file of half the size: large tensors lie in it as fp16, and are cast to fp32 once, as a
    runtime loads it."""
    from onnx import ModelProto, TensorProto, helper, numpy_helper
    model, casts = ModelProto.FromString(content), []
    for tensor in model.graph.initializer:
        name, is_float = tensor.name, tensor.data_type == TensorProto.FLOAT
        values = numpy_helper.to_array(tensor) if is_float else np.zeros(0)
        if values.size < LEAST_STORED or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f'{name}.fp16'))
        casts.append(helper.make_node('Cast', [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model.SerializeToString()

#----------------------------------------------------------------------------
