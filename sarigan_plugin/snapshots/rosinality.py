"""Networks to and from the checkpoints of rosinality's stylegan2-pytorch,
and of the code released with the SariGAN paper.

The latter is built on the former: same layers, same names, a few more. Their networks compute what upstream's do, with
kernels that need no flipping (both hand an upsampling layer's kernel to a transposed convolution as it is) and with the
same gains; tensors differ in name and in dimensions of one. Only demodulation divides by a little more in theirs, as
its epsilon meets kernels that are already scaled by 1/sqrt(fan-in).

A SariGAN's grouped layer has there: `modulation_bases` (our group_affine), `cluster` [g, C] (our logits, transposed),
`tmpr`, whose 5 sigmoid(tmpr) multiplies logits as our temperature divides them, and `gate`, whose sigmoid is the
learned threshold. w is [inter-group code | intra-group code] in both. The discriminator's last layer is one with Q's.
"""

import re

import torch

from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.model.grouping import MAX_TEMPERATURE, MIN_TEMPERATURE
from sarigan_plugin.snapshots import rebuild

FILTER    = [1, 3, 3, 1] # Of all resampling in their networks.
NUM_CODES = 4096         # Codes whose mean stands for w_avg where a checkpoint has none, as their generate.py does.

UNLIMITED = 2 ** 40      # For networks of our own making.

# Attributes that change no result, or that only training minds, or that a remark tells of.
UNSEEN_ATTRIBUTES = ('conv_clamp', 'use_fp16', 'channels_last', 'w_avg_beta', 'threshold',
    'learned_threshold', 'inertia')

#----------------------------------------------------------------------------
# Names. A pair is (their name, our name, how their shape comes from ours).

_SHAPES = {
    'same':   lambda shape: [*shape],
    'batch':  lambda shape: [1, *shape],
    'noise':  lambda shape: [1, 1, *shape],
    'scalar': lambda shape: [1],
    'image':  lambda shape: [1, *shape, 1, 1],
}

def _linear(theirs, ours):
    return [(f'{theirs}.{part}', f'{ours}.{part}', 'same') for part in ['weight', 'bias']]

def _generator_pairs(resolution, num_layers, grouped):
    pairs = []
    for index in range(num_layers):
        is_last = grouped and index == num_layers - 1
        pairs += _linear('final_style' if is_last else f'style.{index + 1}', f'mapping.fc{index}')
    pairs += [('input.input', 'synthesis.b4.const', 'batch')]
    for index, (theirs, ours) in enumerate(_layers(resolution)):
        pairs += [(f'{theirs}.conv.weight', f'{ours}.weight', 'batch'),
            (f'{theirs}.noise.weight', f'{ours}.noise_strength', 'scalar'),
            (f'{theirs}.activate.bias', f'{ours}.bias', 'same'),
            (f'noises.noise_{index}', f'{ours}.noise_const', 'noise')]
        pairs += _linear(f'{theirs}.conv.modulation', f'{ours}.affine')
        if grouped and index > 0:
            pairs += _linear(f'{theirs}.conv.modulation_bases', f'{ours}.group_affine')
            pairs += [(f'{theirs}.conv.{name}', f'{ours}.grouping.{name}', 'same')
                for name in ['logits', 'temperature_logit', 'learned_threshold']]
    for index, res in enumerate(_resolutions(resolution)):
        theirs, ours = 'to_rgb1' if index == 0 else f'to_rgbs.{index - 1}', f'synthesis.b{res}.torgb'
        pairs += [(f'{theirs}.conv.weight', f'{ours}.weight', 'batch'), (f'{theirs}.bias', f'{ours}.bias', 'image')]
        pairs += _linear(f'{theirs}.conv.modulation', f'{ours}.affine.affine' if grouped else f'{ours}.affine')
    return pairs

def _layers(resolution):
    """[(their name, our name)] of all layers with a style and noise."""
    names = [('conv1', 'synthesis.b4.conv1')]
    for index, res in enumerate(_resolutions(resolution)[1:]):
        names += [(f'convs.{2 * index + number}', f'synthesis.b{res}.conv{number}') for number in [0, 1]]
    return names

def _resolutions(resolution):
    return [2 ** i for i in range(2, resolution.bit_length())]

def _discriminator_pairs(resolution, grouped):
    pairs = [('convs.0.0.weight', f'b{resolution}.fromrgb.weight', 'same'),
        ('convs.0.1.bias', f'b{resolution}.fromrgb.bias', 'same')]
    for index, res in enumerate(_resolutions(resolution)[:0:-1], start=1):
        theirs, ours = f'convs.{index}', f'b{res}'
        pairs += [(f'{theirs}.conv1.0.weight', f'{ours}.conv0.weight', 'same'),
            (f'{theirs}.conv1.1.bias', f'{ours}.conv0.bias', 'same'),
            (f'{theirs}.conv2.1.weight', f'{ours}.conv1.weight', 'same'),
            (f'{theirs}.conv2.2.bias', f'{ours}.conv1.bias', 'same'),
            (f'{theirs}.skip.1.weight', f'{ours}.skip.weight', 'same')]
    pairs += [('final_conv.0.weight', 'b4.conv.weight', 'same'), ('final_conv.1.bias', 'b4.conv.bias', 'same')]
    if grouped:
        return pairs + _linear('final_linear', 'b4.fc') + _linear('out', 'b4.out') + _linear('q', 'q')
    return pairs + _linear('final_linear.0', 'b4.fc') + _linear('final_linear.1', 'b4.out')

def _filters(kind, resolution):
    """{their name: gain} of the copies of the resampling filter."""
    steps = range(len(_resolutions(resolution)) - 1)
    if kind == 'd':
        return {f'convs.{index + 1}.{part}.0.kernel': 1 for index in steps for part in ['conv2', 'skip']}
    return {name: 4 for index in steps
        for name in [f'convs.{2 * index}.conv.blur.kernel', f'to_rgbs.{index}.upsample.kernel']}

def _filter(gain):
    taps = torch.tensor(FILTER, dtype=torch.float32)
    return taps.outer(taps) / taps.sum() ** 2 * gain

#----------------------------------------------------------------------------
# To their checkpoints.

_THEIR_NAMES = dict(G='g', G_ema='g_ema')

def to_checkpoint(data):
    """Their checkpoint {'g', 'd', 'g_ema': state dict, 'latent_avg'} for networks as reading.read() has,
    or G_ema alone.

    Returns (checkpoint, remarks), remarks being [(what, what became of it)] for all that could not be kept, such as a
    discriminator that theirs can't be. Raises ValueError for generators that theirs can't be.
    """
    grouped = hasattr(data['G_ema'], 'code_dim')
    networks = {name: data[name] for name in ['G', 'G_ema'] if data.get(name) is not None}
    checkpoint = {_THEIR_NAMES[name]: _generator_state(G, grouped) for name, G in networks.items()}
    checkpoint['latent_avg'] = data['G_ema'].mapping.w_avg.clone()
    _check_all_same(networks, checkpoint)
    remarks = [('g_optim, d_optim', 'not in a network pickle; their train.py wants them to go on')]
    remarks += [('G', 'not in the pickle')] * ('G' not in networks)
    try:
        checkpoint = _with_discriminator(checkpoint, data.get('D'), grouped)
        networks['D'] = data['D']
    except ValueError as error:
        remarks.append(('D', f'left out: {error}'))
    return checkpoint, remarks + _losses(networks, data.get('augment_pipe'))

def _with_discriminator(checkpoint, D, grouped):
    """The checkpoint with a discriminator. Raises ValueError where there is none, or none that theirs can be."""
    if D is None:
        raise ValueError('not in the pickle')
    checkpoint = dict(checkpoint, d=_discriminator_state(D, grouped))
    _check_all_same(dict(D=D), checkpoint)
    return checkpoint

def _losses(networks, augment_pipe):
    """[(what, what became of it)] of what these networks have and a checkpoint has not."""
    remarks = []
    for name, network in networks.items():
        clamps = {module.conv_clamp for module in network.modules() if getattr(module, 'conv_clamp', None) is not None}
        if clamps:
            remarks.append((f'{name}: conv_clamp={max(clamps)}',
                'theirs never clamp: same results as long as nothing reaches it'))
        if any(getattr(module, 'use_fp16', False) for module in network.modules()):
            remarks.append((f'{name}: fp16', 'theirs compute in fp32'))
    if augment_pipe is not None:
        remarks.append(('augment_pipe', 'they keep none'))
    G_ema = networks['G_ema']
    if 'G' in networks and not torch.equal(networks['G'].mapping.w_avg, G_ema.mapping.w_avg):
        remarks.append(('G: w_avg', 'they keep one, that of G_ema'))
    groupings = [(name, layer.grouping) for name, layer, _source in grouped_layers(G_ema.synthesis)]
    remarks += [(f'{name}: threshold={grouping.threshold}', 'theirs is learned, and starts afresh')
        for name, grouping in groupings if grouping.threshold != 'learned']
    remarks += [(f'{name}: {grouping.num_groups} groups', 'their code has 16 in every layer; change g in it')
        for name, grouping in groupings if grouping.num_groups != 16]
    return remarks

def _check_all_same(networks, checkpoint):
    """Raise ValueError where a network can't be expressed: what doesn't come back."""
    back, _remarks = from_checkpoint(checkpoint, file_size=UNLIMITED)
    for name, network in networks.items():
        _check_same(name, network, back[name])

def _check_same(kind, network, back):
    for (name, ours), (_name, theirs) in zip(network.named_modules(), back.named_modules()):
        for key, value in vars(ours).items():
            if (not key.startswith('_') and key not in ('training', *UNSEEN_ATTRIBUTES)
                    and getattr(theirs, key, None) != value):
                raise ValueError(f'{kind} has {".".join([name, key]).strip(".")} = {value!r}, '
                    f'and theirs can only have {getattr(theirs, key, None)!r}')
    for name, tensor in network.named_buffers():
        if name.endswith('resample_filter') and not torch.equal(tensor, back.get_buffer(name)):
            raise ValueError(f'{kind} has another filter than {FILTER} in {name}')

def _generator_state(G, grouped):
    if not hasattr(G, 'synthesis') or G.c_dim > 0 or grouped != hasattr(G, 'code_dim'):
        raise ValueError('the generator is conditional, and theirs are not' if hasattr(G, 'c_dim') and G.c_dim > 0
            else 'its networks are of two kinds')
    state = _state(G, _generator_pairs(G.img_resolution, G.mapping.num_layers, grouped), 'g')
    for name in [name for name in state if name.endswith('.logits')]:
        layer = name.removesuffix('.logits')
        share = state.pop(f'{layer}.temperature_logit').sigmoid()
        temperature = MIN_TEMPERATURE + (MAX_TEMPERATURE - MIN_TEMPERATURE) * share
        threshold = state.pop(f'{layer}.learned_threshold', None)
        state[f'{layer}.cluster'] = state.pop(name).t().contiguous()
        state[f'{layer}.tmpr'] = (1 / temperature / 5).clamp(1e-6, 1 - 1e-6).logit().reshape(1)
        state[f'{layer}.gate'] = (threshold.clamp(1e-6, 1 - 1e-6).logit().reshape(1) if threshold is not None
            else -torch.ones(1))
    return state

def _discriminator_state(D, grouped):
    if grouped != hasattr(D, 'q'):
        raise ValueError('its generator and its discriminator are of two kinds')
    state = _state(D, _discriminator_pairs(D.img_resolution, grouped), 'd')
    for part in ['weight', 'bias'] if grouped else []:
        state[f'final_info_linear.{part}'] = torch.cat([state.pop(f'out.{part}'), state.pop(f'q.{part}')])
    return state

def _state(network, pairs, kind):
    tensors = dict([*network.named_parameters(), *network.named_buffers()])
    missing = [ours for _theirs, ours, _shape in pairs if ours not in tensors
        and not ours.endswith('learned_threshold')]
    if missing:
        raise ValueError(f'it has no {missing[0]}, and theirs always have')
    unknown = tensors.keys() - {ours for _theirs, ours, _shape in pairs}
    unknown = sorted(name for name in unknown if not name.endswith(('resample_filter', 'w_avg', 'grouping.steps')))
    if unknown:
        raise ValueError(f'its {unknown[0]} has no place in theirs')
    state = {theirs: tensors[ours].detach().reshape(_SHAPES[shape](tensors[ours].shape))
        .clone(memory_format=torch.contiguous_format)
        for theirs, ours, shape in pairs if ours in tensors}
    return {**state, **{name: _filter(gain) for name, gain in _filters(kind, network.img_resolution).items()}}

#----------------------------------------------------------------------------
# From their checkpoints.

def from_checkpoint(checkpoint, file_size):
    """Networks as from reading.read() for one of their checkpoints.

    checkpoint: {'g_ema': state dict, and, where they are there, 'g', 'd' and 'latent_avg'}.
    file_size:  bytes that it was read from, see rebuild.construct().
    Returns (data, remarks) as to_checkpoint(). Raises ValueError for what is none of their checkpoints.
    """
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get('g_ema'), dict):
        raise ValueError('it has no g_ema')
    grouped = 'final_style.weight' in checkpoint['g_ema']
    remarks = [(name, 'the optimizer\'s state has no place in a network pickle')
        for name in ['g_optim', 'd_optim'] if name in checkpoint]
    data = dict(training_set_kwargs=None, augment_pipe=None)
    data['G_ema'] = _generator(checkpoint['g_ema'], grouped, file_size, 'G_ema', remarks)
    if 'g' in checkpoint:
        data['G'] = _generator(checkpoint['g'], grouped, file_size, 'G', remarks)
    else:
        data['G'] = _generator(checkpoint['g_ema'], grouped, file_size, 'G', [])
        remarks.append(('G', 'is not there: a copy of G_ema'))
    _set_average(data, checkpoint.get('latent_avg'), remarks)
    if 'd' in checkpoint:
        data['D'] = _discriminator(checkpoint['d'], grouped, file_size)
    else:
        data['D'] = rebuild.fresh_discriminator(data['G'])
        remarks.append(('D', 'is not there: starts afresh'))
    return data, remarks

def _tensors(state):
    """A copy of a state dict of theirs, with every tensor looked at."""
    for name, tensor in state.items():
        if (type(name) is not str or type(tensor) not in (torch.Tensor, torch.nn.Parameter)
                or tensor.layout != torch.strided or tensor.device.type != 'cpu'):
            raise ValueError(f'{rebuild.shorten(name)} is no tensor of numbers')
        if tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
            raise ValueError(f'{rebuild.shorten(name)} is larger than its data')
    return {name: tensor.detach() for name, tensor in state.items()}

def _shape(state, name, dims):
    if name not in state or state[name].ndim != dims:
        raise ValueError(f'it has no {name} of {dims} dimensions')
    return state[name].shape

def _count(state, pattern):
    return sum(re.fullmatch(pattern, name) is not None for name in state)

def _channel_sizes(channels):
    """{resolution: channels} -> upstream's two numbers for it. Raises ValueError where there are none."""
    last = max(channels)
    sizes = dict(channel_base=channels[last] * last, channel_max=max(channels.values()))
    for res, number in channels.items():
        if number != min(sizes['channel_base'] // res, sizes['channel_max']):
            raise ValueError(f'{number} channels at {res}x{res} are none of channel_base={sizes["channel_base"]} and '
                f'channel_max={sizes["channel_max"]}')
    return sizes

def _generator(state, grouped, file_size, kind, remarks):
    state = _tensors(state)
    num_layers = _count(state, r'style\.\d+\.weight') + grouped
    resolution = 4 * 2 ** min(_count(state, r'convs\.\d+\.conv\.weight') // 2, 16)
    channels = {int(re.search(r'b(\d+)', ours)[1]): _shape(state, f'{theirs}.conv.weight', 5)[1]
        for theirs, ours in _layers(resolution)}
    w_dim, z_dim = _shape(state, 'style.1.weight', 2)
    images = dict(c_dim=0, img_resolution=resolution, img_channels=_shape(state, 'to_rgb1.conv.weight', 5)[1])
    sizes = dict(z_dim=z_dim, mapping_kwargs=dict(num_layers=num_layers), synthesis_kwargs=_channel_sizes(channels))
    if grouped:
        _to_our_grouping(state, kind, remarks)
        how = dict(num_groups=_shape(state, 'convs.0.conv.logits', 2)[1], threshold='learned', inertia=0)
        G = rebuild.construct('sarigan_plugin.networks.Generator', [],
            dict(images, **sizes, **how, code_dim=w_dim), file_size)
    else:
        G = rebuild.construct('training.networks.Generator', [], dict(images, **sizes, w_dim=w_dim), file_size)
    _fill(G, state, _generator_pairs(resolution, num_layers, grouped), _filters('g', resolution))
    return G

def _to_our_grouping(state, kind, remarks):
    """cluster, tmpr and gate -> logits, temperature_logit and learned_threshold, in place."""
    for name in [name for name in state if name.endswith('.cluster')]:
        layer = name.removesuffix('.cluster')
        if not all(_shape(state, f'{layer}.{part}', 1) == (1,) for part in ['tmpr', 'gate']):
            raise ValueError(f'{rebuild.shorten(layer)} has no tmpr and gate of one number')
        _shape(state, name, 2)
        logits, factor = state.pop(name).t(), 5 * state.pop(f'{layer}.tmpr').sigmoid()
        temperature = 1 / factor
        if temperature > MAX_TEMPERATURE:
            remarks.append((f'{kind}: {layer}.tmpr',
                f'a temperature of {temperature.item():.2f}; ours are below {MAX_TEMPERATURE}'))
        share = ((temperature - MIN_TEMPERATURE) / (MAX_TEMPERATURE - MIN_TEMPERATURE)).clamp(1e-6, 1 - 1e-6)
        state[f'{layer}.logits'] = logits
        state[f'{layer}.temperature_logit'] = share.logit().reshape([])
        state[f'{layer}.learned_threshold'] = state.pop(f'{layer}.gate').sigmoid().reshape([])
        chosen = (500 * (factor * logits).softmax(dim=1)).softmax(dim=1) > 0.5
        loose, empty = (~chosen.any(dim=1)).sum().item(), (~chosen.any(dim=0)).sum().item()
        if loose:
            remarks.append((f'{kind}: {layer}.cluster',
                f'{loose} channels whose groups tie are in none there, in one of these here'))
        if empty:
            remarks.append((f'{kind}: {layer}.cluster', f'{empty} empty groups style all channels there, none here'))

def _set_average(data, average, remarks):
    if average is not None:
        average = _tensors(dict(latent_avg=average))['latent_avg'].flatten()
        if average.shape != data['G_ema'].mapping.w_avg.shape:
            raise ValueError(f'latent_avg has {len(average)} numbers, and w has {data["G_ema"].w_dim}')
    else:
        remarks.append(('w_avg', f'is not there: the mean of {NUM_CODES} codes'))
    z = torch.randn([NUM_CODES, data['G_ema'].z_dim], generator=torch.Generator().manual_seed(0))
    for name in ['G', 'G_ema']:
        mapping = data[name].mapping
        mapping.w_avg.copy_(average if average is not None else mapping(z, None)[:, 0].mean(dim=0))

def _discriminator(state, grouped, file_size):
    state = _tensors(state)
    if grouped:
        for part in ['weight', 'bias']:
            both = state.pop(f'final_info_linear.{part}', torch.empty(1))
            state.update({f'out.{part}': both[:1], f'q.{part}': both[1:]})
    resolution = 4 * 2 ** min(_count(state, r'convs\.\d+\.conv1\.0\.weight'), 16)
    places = {4: 'final_conv.0',
        **{res: f'convs.{index}.conv1.0' for index, res in enumerate(_resolutions(resolution)[:0:-1], start=1)}}
    channels = {res: _shape(state, f'{place}.weight', 4)[0] for res, place in places.items()}
    kwargs = dict(c_dim=0, img_resolution=resolution, img_channels=_shape(state, 'convs.0.0.weight', 4)[1],
        **_channel_sizes(channels))
    if grouped:
        kwargs.update(code_dim=len(state['q.weight']) // 2)
    D = rebuild.construct(f'{"sarigan_plugin" if grouped else "training"}.networks.Discriminator', [],
        kwargs, file_size)
    _fill(D, state, _discriminator_pairs(resolution, grouped), _filters('d', resolution))
    return D

def _fill(network, state, pairs, filters):
    """Move their tensors into our fresh network; every one of both must find its other half."""
    ours = dict([*network.named_parameters(), *network.named_buffers()])
    tensors = {name: tensor for name, tensor in ours.items() if name.endswith(('resample_filter', 'w_avg'))}
    for name, gain in filters.items():
        if name in state and not (state[name].shape == (4, 4)
                and torch.allclose(state.pop(name), _filter(gain), rtol=1e-3)):
            raise ValueError(f'{name} is another filter than {FILTER}')
    for theirs, name, shape in pairs:
        wanted = _SHAPES[shape](ours[name].shape)
        if theirs not in state or list(state[theirs].shape) != wanted:
            raise ValueError(f'{theirs} is {list(state[theirs].shape)} where {wanted} is expected' if theirs in state
                else f'it has no {theirs}')
        tensors[name] = state.pop(theirs).reshape(ours[name].shape)
    if state:
        raise ValueError(f'{rebuild.shorten(min(state))} has no place in the network')
    rebuild.fill(network, tensors)

#----------------------------------------------------------------------------
