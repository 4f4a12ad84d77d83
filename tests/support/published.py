"""Random checkpoints with the names and shapes of other people's code."""

import torch

F = torch.nn.functional

def published_generator(resolution=16, width=32, layers=8, channels=(16, 16, 8), groups=None):
    """A random state dict with the names and shapes of their Generator;
    of the released SariGAN's where there are groups."""
    shapes = dict()
    def dense(name, out, dims):
        shapes.update({f'{name}.weight': [out, dims], f'{name}.bias': [out]})
    for index in range(1, layers + 1 - (groups is not None)):
        dense(f'style.{index}', width, width)
    if groups is not None:
        dense('final_style', 2 * width, width)
    shapes['input.input'] = [1, channels[0], 4, 4]
    def layer(name, inputs, out, up, grouped):
        shapes.update({f'{name}.conv.weight': [1, out, inputs, 3, 3], f'{name}.noise.weight': [1],
            f'{name}.activate.bias': [out]})
        dense(f'{name}.conv.modulation', inputs, width)
        if up:
            shapes[f'{name}.conv.blur.kernel'] = 4
        if grouped:
            dense(f'{name}.conv.modulation_bases', groups, width)
            shapes.update({f'{name}.conv.cluster': [groups, inputs], f'{name}.conv.gate': [1],
                f'{name}.conv.tmpr': [1]})
    def to_rgb(name, inputs, up):
        shapes.update({f'{name}.conv.weight': [1, 3, inputs, 1, 1], f'{name}.bias': [1, 3, 1, 1]})
        dense(f'{name}.conv.modulation', inputs, width)
        if up:
            shapes[f'{name}.upsample.kernel'] = 4
    layer('conv1', channels[0], channels[0], up=False, grouped=False)
    to_rgb('to_rgb1', channels[0], up=False)
    shapes['noises.noise_0'] = [1, 1, 4, 4]
    for index, (inputs, out) in enumerate(zip(channels, channels[1:])):
        layer(f'convs.{2 * index}', inputs, out, up=True, grouped=groups is not None)
        layer(f'convs.{2 * index + 1}', out, out, up=False, grouped=groups is not None)
        to_rgb(f'to_rgbs.{index}', out, up=True)
        for number in [2 * index + 1, 2 * index + 2]:
            shapes[f'noises.noise_{number}'] = [1, 1, 8 * 2 ** index, 8 * 2 ** index]
    assert 4 * 2 ** (len(channels) - 1) == resolution
    return random_state(shapes)

def published_discriminator(channels=(16, 16, 8), codes=None):
    shapes = {'convs.0.0.weight': [channels[-1], 3, 1, 1], 'convs.0.1.bias': [channels[-1]]}
    for index, (inputs, out) in enumerate(zip(channels[::-1], channels[-2::-1]), start=1):
        shapes.update({f'convs.{index}.conv1.0.weight': [inputs, inputs, 3, 3], f'convs.{index}.conv1.1.bias': [inputs],
            f'convs.{index}.conv2.0.kernel': 1, f'convs.{index}.conv2.1.weight': [out, inputs, 3, 3],
            f'convs.{index}.conv2.2.bias': [out],
            f'convs.{index}.skip.0.kernel': 1, f'convs.{index}.skip.1.weight': [out, inputs, 1, 1]})
    last = channels[0]
    shapes.update({'final_conv.0.weight': [last, last + 1, 3, 3], 'final_conv.1.bias': [last]})
    first, second, outputs_ = ('final_linear.0', 'final_linear.1', 1) if codes is None else ('final_linear',
        'final_info_linear', 1 + codes)
    shapes.update({f'{first}.weight': [last, last * 16], f'{first}.bias': [last], f'{second}.weight': [outputs_, last],
        f'{second}.bias': [outputs_]})
    return random_state(shapes)

def random_state(shapes):
    taps = torch.tensor([1.0, 3, 3, 1])
    state = {name: taps[:, None] * taps / 64 * shape if isinstance(shape, int) else torch.randn(shape)
        for name, shape in shapes.items()}
    # No group is empty there, and no channel between two.
    for name in [name for name in state if name.endswith('.cluster')]:
        state[name] += 10 * F.one_hot(torch.arange(shapes[name][1]) % shapes[name][0]).t()
    # Learned at 0.01.
    return {name: tensor * 100 if name.startswith(('style.', 'final_style.')) else tensor
        for name, tensor in state.items()}

def plain_checkpoint():
    return dict(g=published_generator(), d=published_discriminator(), g_ema=published_generator(),
        latent_avg=torch.randn(32))

def released_checkpoint():
    return dict(g=published_generator(groups=4), d=published_discriminator(codes=64),
        g_ema=published_generator(groups=4), g_optim=dict(), d_optim=dict())
