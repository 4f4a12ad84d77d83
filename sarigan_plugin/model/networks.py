"""SariGAN's generator: upstream's with a few layers exchanged.

Upstream pickles a network as the source text of its module and runs that text again when the pickle is loaded. So this
file imports nothing but torch, numpy and what every StyleGAN tool carries (dnnlib, torch_utils), and asks for
upstream's own layers and for ours in grouping.py by name while building: each of them brings its own source. The
pickles then load with no plugin installed. So it is with the files discriminator.py and inpainting.py; what only
looks at networks, or trains them, is in others beside, which no pickle holds.

Index letters in shape comments: N batch, C channels, O output channels, I input channels, g groups, k kernel size.
"""

import importlib

import numpy as np
import torch

import dnnlib
from torch_utils import misc, persistence
from torch_utils.ops import bias_act, conv2d_resample, fma, upfirdn2d

# What was in this file once -> the file beside it that has it now. People's code and run records ask for it here.
_MOVED = dict(Discriminator='discriminator', captured_features='grouped', code_styles='grouped',
    follow_inter_codes='running_figures', grouped_layers='grouped', inter_positions='grouped',
    GroupedLayer='grouped', styles_at_once='styles_at_once')

def __getattr__(name):
    if name not in _MOVED or not __package__: # The source in a pickle belongs to no package.
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__package__}.{_MOVED[name]}'), name)

#----------------------------------------------------------------------------
# Semantic-aware embedding (Section 3.2).

def split_codes(ws):
    """The two codes (inter-group, intra-group; paper: h, z) of ws, [..., 2 * code_dim]: [..., code_dim] each."""
    return ws.chunk(2, dim=-1)

OWN_CHANNELS_EPS = 0.1 # Where a group's own channels are its norm, those of small z may fade out.

def group_styles(intra_styles, inter_styles, membership, intra_shifts=None, inter_shifts=None, own_channels=False):
    """Fold both codes into one style per channel (Eq. 5; paper: f), or one style and one shift (Eq. 3-4).

    f_j = h_a(j) z_j / sqrt(1/C * sum_{k in group a(j)} z_k^2), where a(j) is the group of channel j.

    After Group AdaIN (Eq. 3) channel k has exactly the mean z_b,k and the standard deviation z_s,k, so AdaGN's
    statistics of a group (Eq. 4) need no look at the features: its mean is that of its z_b, and its variance, over all
    C channels as in Eq. 5, is 1/C * sum_k (z_s,k^2 + (z_b,k - mean)^2).

    The fewer channels a group has, the louder each of them is, and of a group of one channel f has but the sign of z.
    With own_channels the mean is over the c channels of the group, f_j = h z_j / sqrt(1/c * sum_k z_k^2 + 0.1): how
    loud a group is, h alone says.

    intra_styles: [N, C] per-channel scales from the intra-group code (paper: z, z_s).
    inter_styles: [N, g] per-group scales from the inter-group code (paper: h, h_s).
    membership:   [C, g] one-hot rows. An empty group contributes nothing.
    intra_shifts: [N, C] per-channel means (paper: z_b), None in the weight form, as
    inter_shifts: [N, g] per-group means (paper: h_b).
    Returns styles [N, C] in the weight form, (styles, shifts), [N, C] each, in the feature form. For several layers at
    once, in the weight form, all have one more dimension in front.
    """
    power = intra_styles.square()
    sizes = membership.sum(dim=0).clamp(min=1) if own_channels or intra_shifts is not None else None # [g]
    if intra_shifts is not None:
        means = intra_shifts @ (membership / sizes) # [Ng]
        centred = intra_shifts - means @ membership.t() # [NC]
        power = power + centred.square()
    # 1e-8 is for empty groups.
    floor = misc.constant(OWN_CHANNELS_EPS if own_channels else 1e-8, dtype=power.dtype, device=power.device)
    counted = sizes if own_channels else membership.shape[-2]
    product = torch.addmm if membership.ndim == 2 else torch.baddbmm
    scale = inter_styles * product(floor, power, membership / counted).rsqrt() # [Ng]
    scale = scale @ membership.mT # [NC]
    if intra_shifts is None:
        return intra_styles * scale
    return intra_styles * scale, centred * scale + inter_shifts @ membership.t()

TINY = 1e-8 # What all zeros are divided by: kernels that are pruned, styles of a layer whose groups are all turned off.

def prepare_kernels(weight, dtype):
    """All of modulated_conv2d() that depends on weights alone, for features of a dtype.

    weight: [O, I, k, k]. Returns (kernels [O, I, k, k], their squares [O, Ikk]), both of the weights' dtype.
    """
    if dtype == torch.float16: # Demodulation cancels any scale of kernels: use that to stay inside the range of fp16.
        # Without gradient: that through a scale is zero, all in all.
        largest = weight.detach().norm(float('inf'), dim=[1,2,3], keepdim=True)
        weight = weight / (largest.clamp(min=TINY) * np.sqrt(weight[0].numel()))
    return weight, weight.square().flatten(1)

def modulated_conv2d(
    x,                      # Input features of shape [N, I, H, W].
    weight,                 # Kernels of shape [O, I, k, k].
    styles,                 # One style per input channel, of shape [N, I].
    noise           = None, # Noise to add to the output, broadcastable to [N, O, H, W].
    squares         = None, # Of prepare_kernels(), where `weight` came from there; None = it is called here.
    **resampling,           # up: integer factor; padding: of the upsampled features; resample_filter: low-pass filter
                            # from upfirdn2d.setup_filter(); flip_weight: True = correlation, False = convolution.
):
    """Modulate, convolve, demodulate (Eq. 6) without ever forming one kernel per sample.

    The factor of output o is d_o = 1/sqrt(sum_ikk s_i^2 w_oikk^2 + eps), one matrix product [N, Ikk] x [Ikk, O]; the
    styles scale the features before the convolution and d scales them after it.
    """
    if squares is None:
        weight, squares = prepare_kernels(weight, x.dtype)
    x, demodulation = _convolved_and_factors(x, weight, styles, squares, **resampling)
    return _demodulated(x, demodulation, noise)

def _convolved_and_factors(x, weight, styles, squares, **resampling):
    """What modulated_conv2d() multiplies in the end: features [N, O, H, W] and their factors [N, O]."""
    batch_size, in_channels = styles.shape
    misc.assert_shape(weight, [None, in_channels, None, None]) # [OIkk]
    misc.assert_shape(x, [batch_size, in_channels, None, None]) # [NIHW]
    if x.dtype == torch.float16: # As with kernels.
        styles = styles / styles.detach().norm(float('inf'), dim=1, keepdim=True).clamp(min=TINY)

    # [N, Ikk]: summing over kk first takes a CPU twice as long.
    powers = styles.square().repeat_interleave(weight[0, 0].numel(), dim=1)
    eps = misc.constant(1e-8, dtype=powers.dtype, device=x.device)
    demodulation = torch.addmm(eps, powers, squares.t()).rsqrt() # [NO]
    x = x * styles.to(x.dtype)[:, :, None, None]
    return resampling_conv2d(x, weight, **resampling), demodulation

def _demodulated(x, demodulation, noise):
    demodulation = demodulation.to(x.dtype)[:, :, None, None]
    return x * demodulation if noise is None else fma.fma(x, demodulation, noise.to(x.dtype))

def demodulated_activation(x, demodulation, noise, noise_strength, bias, activation, gain, clamp):
    """What a layer does after its convolution, gain * activation(x * demodulation + noise + bias), clamped.

    x: [N, C, H, W]; demodulation: [N, C]; noise: [N, 1, H, W], [H, W] or None; noise_strength: []; bias: [C].
    On a CPU there is a faster form, see acceleration/activations.py.
    """
    x = _demodulated(x, demodulation, None if noise is None else noise * noise_strength)
    return bias_act.bias_act(x, bias.to(x.dtype), act=activation, gain=gain, clamp=clamp)

def normalized_conv2d(
    x,                      # Input features of shape [N, I, H, W].
    weight,                 # Kernels of shape [O, I, k, k].
    styles,                 # Standard deviation of each input channel, of shape [N, I].
    shifts,                 # Mean of each input channel, of shape [N, I].
    noise           = None, # Noise to add to the output, broadcastable to [N, O, H, W].
    eps             = 1e-5, # Keeps flat channels flat.
    **resampling,           # up, padding, resample_filter and flip_weight, as in modulated_conv2d().
):
    """Normalise every channel of the features, give it a new mean and deviation (Eq. 3-4), convolve."""
    features = x.to(torch.float32) if x.dtype == torch.float16 else x # Squares of fp16 overflow.
    variance, mean = torch.var_mean(features, dim=[2,3], keepdim=True, correction=0)
    features = (features - mean) * (variance + eps).rsqrt() * styles[:, :, None, None] + shifts[:, :, None, None]
    weight = weight / np.sqrt(weight[0].numel())
    x = resampling_conv2d(features.to(x.dtype), weight, **resampling)
    return x if noise is None else x + noise.to(x.dtype)

def resampling_conv2d(x, weight, up=1, padding=0, resample_filter=None, flip_weight=True):
    """Upstream's conv2d_resample() with what is resampled here. On a CPU there is a shorter form, see layers.py."""
    return conv2d_resample.conv2d_resample(x=x, w=weight.to(x.dtype), f=resample_filter, up=up, padding=padding,
        flip_weight=flip_weight)

#----------------------------------------------------------------------------
# Generator.

# Options of earlier versions, and the only value that is left of each: old pickles and exports still give it.
RETIRED = dict(norm_channels='layer', norm_eps=0, inter_gain=1, info_variance='unit')

def drop_retired(options):
    """Take the options of earlier versions out of a dict. Raises ValueError where one of them asks for what is gone."""
    for name, left in RETIRED.items():
        value = options.pop(name, left)
        if value != left:
            raise ValueError(f'{name} is retired and must be {left!r}, its old default, not {value!r}')

def _upstream(name, *args, **kwargs):
    """Build one of upstream's layers by name, so that it is pickled with upstream's source and not with this file."""
    return dnnlib.util.construct_class_by_name(*args, class_name=f'training.networks.{name}', **kwargs)

@persistence.persistent_class
class IntraAffine(torch.nn.Module):
    """Styles from the intra-group code alone, for layers that are not grouped."""
    _known = None # Its styles, while styles_at_once() has made them.

    def __init__(self,
        code_dim,       # Dimensionality of each of the two codes in w.
        out_features,   # Number of styles.
    ):
        super().__init__()
        self.code_dim = code_dim
        self.affine = _upstream('FullyConnectedLayer', code_dim, out_features, bias_init=1)

    def forward(self, w):
        """w: [N, 2 * code_dim]. Returns [N, out_features]."""
        if self._known is not None:
            return self._known
        _inter_code, intra_code = split_codes(w)
        return self.affine(intra_code)

BETA    = 0.5   # At the start.
MAX_LOG = 4             # Of inter-group styles, nearly six deviations: ToRGB has no demodulation, and fp16 overflows.

@persistence.persistent_class
class ExpAffine(torch.nn.Module):
    """Inter-group styles h = exp(beta * (affine - mean) / deviation) with the running mean and deviation of each group.

    They are positive, relative to what is usual, and free of the drift of means: of h that is affine in the code,
    demodulation cancels what all groups share, and that is most of it. Training says what is usual, see
    running_figures.py; forward() changes nothing, in training mode too. Gradients have no say in beta, which they would
    turn down until the code decides nothing: training keeps what the code decides, see losses/inter_share.py.
    """
    def __init__(self,
        code_dim,       # Dimensionality of the inter-group code.
        num_groups,     # Number of styles.
        beta = BETA,    # Standard deviation of log h.
    ):
        super().__init__()
        self.affine = _upstream('FullyConnectedLayer', code_dim, num_groups, bias=False) # The mean would cancel it.
        # A parameter over weight_gain, since networks of before have learnt theirs so.
        self.slope = torch.nn.Parameter(torch.tensor(float(beta / self.affine.weight_gain)))
        self.register_buffer('mean', torch.zeros([num_groups]))
        self.register_buffer('variance', torch.ones([num_groups]))

    @property
    def beta(self):
        """Scalar tensor."""
        return self.slope * self.affine.weight_gain

    def forward(self, inter_code):
        """inter_code: [N, code_dim]. Returns [N, g]."""
        standard = (self.affine(inter_code) - self.mean) * (self.variance + TINY).rsqrt()
        beta = self.beta.detach() + 0 * self.slope # DistributedDataParallel waits for a gradient of each parameter.
        return (beta * standard).clamp(-MAX_LOG, MAX_LOG).exp()

    @torch.no_grad()
    def join(self, kept, gone, share):
        """One group of two: log h is the mean of theirs, by channels, until the running deviation is the new one's."""
        for rows in [self.affine.weight, self.mean]:
            first, second = [rows[group] * (self.variance[group] + TINY).rsqrt() for group in [kept, gone]]
            rows[kept] = first.lerp(second, share)
        self.variance[kept] = 1

@persistence.persistent_class
class GroupedAffine(IntraAffine):
    """Styles of a ToRGB layer from both codes: its channels are in the groups that the next layer has for them.

    Both read the same code, so whatever turns a group of that layer turns it here. There is no demodulation after it,
    so the norm is that of a group's own channels, which starts as loud as styles of the intra-group code alone.
    """
    def __init__(self, code_dim, out_features):
        super().__init__(code_dim, out_features)
        self._next = [] # In a list, so that it is no child: it has a place of its own.

    def read_groups_of(self, layer):
        """layer: the SynthesisLayer that reads the same features."""
        self._next = [layer]

    def forward(self, w):
        """w: [N, 2 * code_dim]. Returns [N, out_features]."""
        inter_code, intra_code = split_codes(w)
        layer, = self._next
        return group_styles(self.affine(intra_code), layer.group_affine(inter_code), layer.grouping(),
            own_channels=True)

@persistence.persistent_class
class SynthesisLayer(torch.nn.Module):
    """Takes the place of upstream's SynthesisLayer; its input channels are grouped and both codes style them."""
    _known = None # Its styles, while styles_at_once() has made them.

    def __init__(self,
        in_channels,                    # Number of input channels (paper: c).
        out_channels,                   # Number of output channels.
        code_dim,                       # Dimensionality of each of the two codes in w.
        resolution,                     # Resolution of this layer, pixels.
        num_groups      = 16,           # Number of channel groups (paper: g), or 'auto', see make_grouping().
        grouping        = 'similarity', # See make_grouping(), or 'none': the intra-group code alone.
        threshold       = 'auto',       # Of a learned grouping, see ChannelGrouping; as is
        inertia         = 3,            # how much it keeps to its groups.
        norm            = 'weight',     # Normalise weights (Eq. 5-6) or the grouped 'feature' maps (Eq. 3-4).
        inter_form      = 'affine',     # h is 'affine' in its code (Eq. 5), or 'exp', see ExpAffine.
        kernel_size     = 3,            # Convolution kernel size.
        up              = 1,            # Integer upsampling factor.
        use_noise       = True,         # Enable noise input?
        activation      = 'lrelu',      # Activation function: 'relu', 'lrelu', etc.
        resample_filter = [1,3,3,1],    # Low-pass filter to apply when resampling activations.
        conv_clamp      = None,         # Clamp the output of the convolution to +-X, None = disable clamping.
        channels_last   = False,        # Use channels_last format for the weights?
    ):
        super().__init__()
        if norm not in ['weight', 'feature']:
            raise ValueError(f"norm must be 'weight' or 'feature', not {norm!r}")
        if inter_form not in ['affine', 'exp']:
            raise ValueError(f"inter_form must be 'affine' or 'exp', not {inter_form!r}")
        self.code_dim = code_dim
        self.resolution = resolution
        self.up = up
        self.use_noise = use_noise
        self.activation = activation
        self.conv_clamp = conv_clamp
        self.norm = norm if grouping != 'none' else 'weight'
        self.padding = kernel_size // 2
        self.shared_weights = None # dtype -> weight_parts(dtype), where a training shares them between calls.
        self.act_gain = bias_act.activation_funcs[activation].def_gain
        self.register_buffer('resample_filter', upfirdn2d.setup_filter(resample_filter))

        self.affine = _upstream('FullyConnectedLayer', code_dim, in_channels, bias_init=1)
        self.grouping = None
        if grouping != 'none':
            # By name, as upstream's layers: pickled with its own source.
            self.grouping = dnnlib.util.call_func_by_name(grouping, in_channels, num_groups,
                func_name='sarigan_plugin.grouping.make_grouping', threshold=threshold, inertia=inertia)
            if inter_form == 'exp':
                self.group_affine = ExpAffine(code_dim, self.grouping.num_groups)
            else:
                self.group_affine = _upstream('FullyConnectedLayer', code_dim, self.grouping.num_groups, bias_init=1)
            if norm == 'feature':
                self.shift = _upstream('FullyConnectedLayer', code_dim, in_channels)
                self.group_shift = _upstream('FullyConnectedLayer', code_dim, self.grouping.num_groups)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        weight = torch.randn([out_channels, in_channels, kernel_size, kernel_size])
        self.weight = torch.nn.Parameter(weight.to(memory_format=memory_format))
        self.bias = torch.nn.Parameter(torch.zeros([out_channels]))
        if use_noise:
            self.register_buffer('noise_const', torch.randn([resolution, resolution]))
            self.noise_strength = torch.nn.Parameter(torch.zeros([]))

    def weight_parts(self, dtype):
        """All of forward() that depends on weights alone, for features of a dtype.

        Returns (kernels [O, I, k, k], their squares [O, Ikk], membership of the groups [C, g]); None where not needed.
        """
        kernels = prepare_kernels(self.weight, dtype) if self.norm == 'weight' else (self.weight, None)
        return *kernels, self.grouping() if self.grouping is not None and self._known is None else None

    def styles(self, w, membership=None):
        """What both codes say of every input channel. w: [N, 2 * code_dim], inter-group code first.

        membership: [C, g], where that is known. Returns styles [N, C] in the weight form, (styles, shifts) in the
        feature form; see group_styles().
        """
        inter_code, intra_code = split_codes(w)
        styles = self.affine(intra_code)
        if self.grouping is None:
            return styles
        shifts = dict()
        if self.norm == 'feature':
            shifts = dict(intra_shifts=self.shift(intra_code), inter_shifts=self.group_shift(inter_code))
        styles = self.grouping.attach(styles)
        membership = self.grouping() if membership is None else membership
        return group_styles(styles, self.group_affine(inter_code), membership, **shifts,
            own_channels=hasattr(self.group_affine, 'variance'))

    @torch.no_grad()
    def merge_groups(self, kernels, average=None):
        """Merge groups that are one cluster by the kernels that produce the input channels, [C, ...];
        see MergingGrouping.

        average: the same layer of G_ema, whose weights are to go on as the average of what they would have been with
        these groups merged all along; None = there is none.
        """
        for kept, gone, share in self.grouping.merge(kernels):
            for layer in [self, average]:
                if layer is not None:
                    layer._join_groups(kept, gone, share)

    def _join_groups(self, kept, gone, share):
        """Give channels of the group `gone` to `kept`; gone had that share of the channels that they have together.

        By Eq. 5 channels of equal z in a group of c have the style h / sqrt(c / C). So that the mean style of two
        groups that merge stays as it is, sqrt(c_1 + c_2) h = sqrt(c_1) h_1 + sqrt(c_2) h_2.
        """
        self.grouping.join(kept, gone)
        if hasattr(self.group_affine, 'join'):
            self.group_affine.join(kept, gone, share)
        else:
            for rows in self.group_affine.parameters():
                rows[kept] = rows[kept] * (1 - share) ** 0.5 + rows[gone] * share ** 0.5
        if self.norm == 'feature':
            for rows in self.group_shift.parameters():
                rows[kept] = rows[kept] * (1 - share) + rows[gone] * share

    def forward(self, x, w, noise_mode='random', fused_modconv=None, gain=1):
        """x: [N, I, H, W], w: [N, 2 * code_dim]. Returns [N, O, H * up, W * up].

        fused_modconv is what upstream's blocks pass; there is one form here, faster than both of theirs.
        """
        assert noise_mode in ['random', 'const', 'none']
        _ = fused_modconv
        in_resolution = self.resolution // self.up
        misc.assert_shape(x, [None, self.weight.shape[1], in_resolution, in_resolution])

        noise, strength = None, self.noise_strength if self.use_noise else None
        if self.use_noise and noise_mode == 'random':
            noise = torch.randn([x.shape[0], 1, self.resolution, self.resolution], device=x.device)
        if self.use_noise and noise_mode == 'const':
            noise = self.noise_const

        resampling = dict(up=self.up, padding=self.padding, resample_filter=self.resample_filter,
            flip_weight=(self.up == 1)) # As upstream: flips when upsampling.
        kernels, squares, membership = (self.shared_weights or self.weight_parts)(x.dtype)
        styles = self.styles(w, membership) if self._known is None else self._known
        clamp = self.conv_clamp * gain if self.conv_clamp is not None else None
        gain = self.act_gain * gain
        if self.norm == 'weight':
            x, factors = _convolved_and_factors(x, kernels, styles, squares, **resampling)
            return demodulated_activation(x, factors, noise, strength, self.bias, self.activation, gain, clamp)
        x = normalized_conv2d(x, kernels, *styles, noise=None if noise is None else noise * strength, **resampling)
        return bias_act.bias_act(x, self.bias.to(x.dtype), act=self.activation, gain=gain, clamp=clamp)

def convolutions(synthesis):
    """(name, layer) of each convolution, in the order of the codes that they read."""
    blocks = [(res, getattr(synthesis, f'b{res}')) for res in synthesis.block_resolutions]
    return [(f'b{res}.{conv}', getattr(block, conv))
        for res, block in blocks for conv in ['conv0', 'conv1'] if hasattr(block, conv)]

def groups_of_layers(num_groups, names):
    """{layer: number of groups} of those layers, called e.g. 'b16.conv0', that have one.

    num_groups: one number, or 'auto', for all layers, or {layer or resolution: number} with keys such as 'b16.conv0',
    '16' or 16, where a layer goes before its resolution.
    """
    if not isinstance(num_groups, dict):
        return dict.fromkeys(names, num_groups)
    numbers = {str(place): number for place, number in num_groups.items()}
    places = {name: name if name in numbers else name.split('.', maxsplit=1)[0][1:] for name in names}
    return {name: numbers[place] for name, place in places.items() if place in numbers}

@persistence.persistent_class
class Generator(torch.nn.Module):
    """Upstream's generator over two codes: ws [N, num_ws, 2 * code_dim] = [inter-group (paper: h) | intra-group (z)].

    Every convolution after the first (4x4) is grouped; the first and the ToRGB layers read the intra-group code alone
    (Section 4.1), unless group_torgb says otherwise. To tools, w is one opaque vector: truncation, style mixing and
    projection work as ever.
    """
    def __init__(self,
        z_dim,                      # Input latent (Z) dimensionality.
        c_dim,                      # Conditioning label (C) dimensionality, 0 = unconditional.
        img_resolution,             # Output resolution, pixels, a power of two.
        img_channels,               # Number of output color channels.
        code_dim            = 512,  # Dimensionality of each of the two codes.
        num_groups          = 16,   # Channel groups per layer (paper: g), a number, 'auto', or see groups_of_layers().
        grouping            = 'similarity', # How channels come to their groups, see SynthesisLayer.
        threshold           = 'auto',       # How similar kernels of one group are, see ChannelGrouping.
        inertia             = 3,            # How much channels keep to their groups, see ChannelGrouping.
        norm                = 'weight',     # What is normalised, see SynthesisLayer, as is
        inter_form          = 'affine',     # what becomes of the inter-group code.
        group_torgb         = False,        # Do ToRGB layers read both codes too? See GroupedAffine.
        mapping_kwargs      = {},   # Arguments for upstream's MappingNetwork.
        synthesis_kwargs    = {},   # Arguments for upstream's SynthesisNetwork.
        **retired,                  # See RETIRED.
    ):
        super().__init__()
        drop_retired(retired)
        if retired:
            raise TypeError(f'Generator takes no argument {next(iter(retired))!r}')
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = 2 * code_dim
        self.code_dim = code_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.num_groups = num_groups
        self.synthesis = _upstream('SynthesisNetwork', w_dim=self.w_dim, img_resolution=img_resolution,
            img_channels=img_channels, **synthesis_kwargs)
        self._group_channels(dict(grouping=grouping, threshold=threshold, inertia=inertia, norm=norm,
            inter_form=inter_form))
        if group_torgb:
            self.group_torgb = True # Others do without it, so that they are as ever to those who compare networks.
            self._group_torgb()
        self.num_ws = self.synthesis.num_ws
        widths = dict(layer_features=code_dim, embed_features=code_dim) # Only the last layer is as wide as both codes.
        self.mapping = _upstream('MappingNetwork', z_dim=z_dim, c_dim=c_dim, w_dim=self.w_dim, num_ws=self.num_ws,
            **{**widths, **mapping_kwargs})

    def _group_channels(self, how):
        """Exchange upstream's layers for ours, in place, with the same geometry."""
        _first, *grouped = [name for name, _layer in convolutions(self.synthesis)]
        numbers = groups_of_layers(self.num_groups, grouped)
        for name in grouped:
            if name not in numbers:
                raise ValueError(f'num_groups has neither {name} nor {name.split(".", maxsplit=1)[0][1:]}')
        for res in self.synthesis.block_resolutions:
            block = getattr(self.synthesis, f'b{res}')
            for conv in ['conv0', 'conv1']:
                if hasattr(block, conv):
                    name = f'b{res}.{conv}'
                    of_layer = dict(how, num_groups=numbers[name]) if name in numbers else dict(grouping='none')
                    setattr(block, conv, self._grouped(getattr(block, conv), block.channels_last, of_layer))
            if hasattr(block, 'torgb'):
                block.torgb.affine = IntraAffine(self.code_dim, block.torgb.weight.shape[1])

    def _group_torgb(self):
        """Let ToRGB layers read both codes, but for the last one, whose channels no other layer reads."""
        blocks = [getattr(self.synthesis, f'b{res}') for res in self.synthesis.block_resolutions]
        for block, following in zip(blocks, blocks[1:]):
            if hasattr(block, 'torgb') and following.conv0.grouping is not None:
                block.torgb.affine = GroupedAffine(self.code_dim, block.torgb.weight.shape[1])
                block.torgb.affine.read_groups_of(following.conv0)

    def _grouped(self, layer, channels_last, how):
        out_channels, in_channels, kernel_size, _ = layer.weight.shape
        ours = SynthesisLayer(in_channels, out_channels, self.code_dim, layer.resolution, kernel_size=kernel_size,
            up=layer.up, use_noise=layer.use_noise, activation=layer.activation, conv_clamp=layer.conv_clamp,
            channels_last=channels_last, **how)
        ours.resample_filter.copy_(layer.resample_filter)
        return ours

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, **synthesis_kwargs):
        """z: [N, z_dim], c: [N, c_dim]. Returns images [N, img_channels, H, W], about [-1, 1]."""
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        return self.synthesis(ws, **synthesis_kwargs)

#----------------------------------------------------------------------------
