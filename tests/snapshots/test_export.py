"""Exported networks and other people's checkpoints: there and back, with the same outputs."""

import json
import math
import os
from argparse import Namespace

import pytest
import safetensors.torch
import torch

import rounding
import unmodified
from commands import run, sentence
from published import plain_checkpoint, published_generator, released_checkpoint
from sarigan_plugin.snapshots import reading, rosinality
from sarigan_plugin.steering import groupings
from sarigan_plugin.steering.channel_sets import ChannelSet, ChannelSets, weights_hash
from sarigan_plugin.support import files
from small_networks import SIZE, assert_same, outputs, plain_networks, shaken, write

from training import augment

F = torch.nn.functional

@pytest.fixture
def sari_networks(make_generator, make_discriminator):
    """sari_networks(**overrides) -> a dict of networks as a pickle has it."""
    def make(**kwargs):
        return dict(G=shaken(make_generator(**kwargs)), D=shaken(make_discriminator()),
            G_ema=shaken(make_generator(**kwargs)),
            augment_pipe=None, training_set_kwargs=None)
    return make

#----------------------------------------------------------------------------
# Folders of safetensors.

def test_networks_come_back_from_a_folder_bit_for_bit(sari_networks, tmp_path):
    data = dict(sari_networks(), augment_pipe=augment.AugmentPipe(xflip=1, scale=1),
        training_set_kwargs=dict(class_name='training.dataset.ImageFolderDataset', path='punks.zip', max_size=2 ** 40,
            use_labels=False))
    write(data, tmp_path / 'network.pkl')
    assert run('export', tmp_path / 'network.pkl', f'--to={tmp_path / "folder"}').exit_code == 0
    assert sorted(os.listdir(tmp_path / 'folder')) == ['network.json', 'network.safetensors']
    done = run('import', tmp_path / 'folder', f'--to={tmp_path / "back.pkl"}')
    assert done.exit_code == 0, done.output

    back = reading.load_all(str(tmp_path / 'back.pkl'), 'PKL')
    assert back['training_set_kwargs'] == data['training_set_kwargs']
    for name in ['G', 'D', 'G_ema', 'augment_pipe']:
        assert_same(data[name], back[name])
    for ours, theirs in zip(outputs(data), outputs(back)):
        assert torch.equal(ours, theirs)

def test_linked_groups_come_along_there_and_back(sari_networks, tmp_path):
    write(sari_networks(), tmp_path / 'network.pkl')
    G = reading.load(str(tmp_path / 'network.pkl'), 'PKL')
    sets = ChannelSets([ChannelSet('hat', {'b8.conv1': (0, 3)}), ChannelSet(None, {'b16.conv0': (2,)})],
        weights_hash(G))
    sets.write(tmp_path / 'network.groups.json')
    assert run('export', tmp_path / 'network.pkl', f'--to={tmp_path / "folder"}').exit_code == 0
    assert run('import', tmp_path / 'folder', f'--to={tmp_path / "back.pkl"}').exit_code == 0
    for copy in ['folder', 'back.pkl']:
        linked = groupings.linked(groupings.load(str(tmp_path / copy), 'PKL'))
        assert linked is not None and linked.sets == sets, copy
    assert 'exists already' in sentence(run('import', tmp_path / 'folder', f'--to={tmp_path / "network.pkl"}'))
    os.unlink(tmp_path / 'network.pkl') # Its groups are still there.
    assert sentence(run('import', tmp_path / 'folder', f'--to={tmp_path / "network.pkl"}')) == (
        f'Error: --to: {tmp_path / "network.groups.json"} exists already; nothing is overwritten.')

def test_channels_last_networks_come_back_as_they_were(make_generator, make_discriminator, tmp_path):
    size = dict(num_fp16_res=2, conv_clamp=256)
    G = make_generator(synthesis_kwargs=dict(SIZE, fp16_channels_last=True, **size))
    data = dict(G=G, D=make_discriminator(block_kwargs=dict(fp16_channels_last=True, freeze_layers=2), **size), G_ema=G)
    write(data, tmp_path / 'network.pkl')
    assert run('export', tmp_path / 'network.pkl', f'--to={tmp_path / "folder"}').exit_code == 0
    back = reading.load_all(str(tmp_path / 'folder'), 'PKL')
    for name in ['G', 'D', 'G_ema']:
        assert_same(data[name], back[name])

OUTSIDE = """
import hashlib, sys, torch, legacy
for path in sys.argv[1:]:
    with open(path, 'rb') as f:
        data = legacy.load_network_pkl(f)
    torch.manual_seed(1)
    images = data['G_ema'](torch.randn(2, 32), torch.zeros([2, 0]), truncation_psi=0.7, noise_mode='const')
    logits = data['D'](images, torch.zeros([2, 0]))
    print(hashlib.sha256(images.numpy().tobytes() + logits.numpy().tobytes()).hexdigest())
"""

def test_imported_pickle_loads_in_an_unmodified_checkout_without_the_plugin(sari_networks, any_tree, tmp_path):
    write(sari_networks(), tmp_path / 'network.pkl')
    assert run('export', tmp_path / 'network.pkl', f'--to={tmp_path / "folder"}').exit_code == 0
    assert run('import', tmp_path / 'folder', f'--to={tmp_path / "back.pkl"}').exit_code == 0
    sums = unmodified.run(any_tree, OUTSIDE, tmp_path / 'network.pkl', tmp_path / 'back.pkl').split()[-2:]
    assert sums[0] == sums[1]

def test_every_command_takes_an_exported_folder(sari_networks, tmp_path):
    write(sari_networks(), tmp_path / 'network.pkl')
    run('export', tmp_path / 'network.pkl', f'--to={tmp_path / "folder"}')
    for source in ['network.pkl', 'folder']:
        done = run('generate', f'--network={tmp_path / source}', '--seeds=1',
            f'--outdir={tmp_path / "out" / source}', '--device=cpu')
        assert done.exit_code == 0, done.output
    assert (tmp_path / 'out/folder/seed0001.png').read_bytes() == (
        (tmp_path / 'out/network.pkl/seed0001.png').read_bytes())
    assert run('groups', tmp_path / 'folder', f'--outdir={tmp_path / "groups"}').exit_code == 0
    assert run('export', tmp_path / 'folder', f'--to={tmp_path / "copy"}').exit_code == 0
    assert (tmp_path / 'copy/network.json').read_text() == (tmp_path / 'folder/network.json').read_text()

#----------------------------------------------------------------------------

def test_nothing_is_overwritten_and_nothing_half_written(sari_networks, tmp_path):
    path = write(sari_networks(), tmp_path / 'network.pkl')
    (tmp_path / 'mine').mkdir()
    for command, dest in [('export', 'mine'), ('export', 'network.pkl'), ('import', 'network.pkl')]:
        assert (sentence(run(command, path, f'--to={tmp_path / dest}')) == 'Error: --to: '
            f'{tmp_path / dest} exists already; nothing is overwritten.')
    for command, dest in [('export', 'nowhere/folder'), ('export', 'nowhere/file.pt'), ('import', 'nowhere/back.pkl')]:
        assert (sentence(run(command, path, f'--to={tmp_path / dest}')) == 'Error: --to: '
            f'{tmp_path / dest} cannot be written to: No such file or directory.')
    assert sorted(os.listdir(tmp_path)) == ['mine', 'network.pkl'] and not os.listdir(tmp_path / 'mine')

def edited(folder, **changes):
    path = folder / 'network.json'
    description = json.loads(path.read_text())
    description.update({key: change(description[key]) for key, change in changes.items()})
    path.write_text(json.dumps(description))

def with_argument(name, **kwargs):
    """A change to the arguments of one network."""
    def change(networks):
        return {**networks, name: dict(networks[name], kwargs=dict(networks[name]['kwargs'], **kwargs))}
    return change

@pytest.mark.parametrize('changes, words', [
    (dict(format=lambda _old: 'another'), 'it was not written by `sarigan export`'),
    (dict(version=lambda _old: 2), 'its format is 2, and only 1 is known here'),
    (dict(networks=lambda old: dict(G=old['G'])), 'it has no G_ema'),
    (dict(networks=lambda old: {**old, 'G': dict(old['G'], class_name='os.system')}),
        "'os.system' is none of training.networks.Generator, "),
    (dict(networks=lambda old: {**old, 'G': dict(class_name='training.networks.Generator')}), 'args'),
    (dict(networks=with_argument('G', code_dim=16)),
        'mapping.fc0.bias is float32 [32] where its network has float32 [16]'),
    (dict(networks=with_argument('G', z_dim=10 ** 6)), 'its arguments are for a network much larger than the file'),
    (dict(networks=with_argument('G', z_dim=10 ** 9)), 'the argument 1000000000 is none that networks have'),
    (dict(networks=with_argument('G', mapping_kwargs=dict(num_layers=10 ** 6))),
        'its arguments are for a network much larger than the file'),
    (dict(networks=with_argument('G', synthesis_kwargs=dict(SIZE, resample_filter=[1] * 1000))),
        'the argument list is none that networks have'),
    (dict(networks=with_argument('G', mapping_kwargs=dict(class_name='os.system'))),
        'the argument dict is none that networks have'),
    (dict(networks=with_argument('G', magnitude_ema_beta=0.9)), "takes no argument 'magnitude_ema_beta'"),
    (dict(tensors_sha256=lambda old: old[::-1]), 'network.safetensors is not the file that it was written with'),
])
def test_a_folder_that_was_changed_is_refused_in_one_sentence(sari_networks, tmp_path, changes, words):
    write(sari_networks(), tmp_path / 'network.pkl')
    run('export', tmp_path / 'network.pkl', f'--to={tmp_path / "folder"}')
    edited(tmp_path / 'folder', **changes)
    told = sentence(run('import', tmp_path / 'folder', f'--to={tmp_path / "back.pkl"}'))
    assert told.startswith(f"Error: SOURCE: '{tmp_path / 'folder'}' is not a network pickle (") and words in told
    assert not (tmp_path / 'back.pkl').exists()

def test_a_folder_with_a_tensor_too_few_is_refused(sari_networks, tmp_path):
    write(sari_networks(), tmp_path / 'network.pkl')
    run('export', tmp_path / 'network.pkl', f'--to={tmp_path / "folder"}')
    path = tmp_path / 'folder' / 'network.safetensors'
    tensors = safetensors.torch.load_file(path)
    del tensors['G.synthesis.b8.conv0.weight']
    safetensors.torch.save_file(tensors, path)
    edited(tmp_path / 'folder', tensors_sha256=lambda _old: files.sha256(path))
    assert 'its tensor synthesis.b8.conv0.weight is missing' in sentence(run('import', tmp_path / 'folder',
        f'--to={tmp_path / "back.pkl"}'))

#----------------------------------------------------------------------------
# rosinality's networks, computed plainly from a checkpoint.

def blur(x, gain, pad):
    taps = torch.tensor([1.0, 3, 3, 1])
    kernel = (taps[:, None] * taps / 64 * gain).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, [*pad, *pad]), kernel, groups=x.shape[1])

def leaky(x, bias):
    return F.leaky_relu(x + bias.reshape(1, -1, *[1] * (x.ndim - 2)), 0.2) * math.sqrt(2)

def linear(state, name, x, lr=1.0):
    weight = state[f'{name}.weight']
    return x @ (weight * lr / math.sqrt(weight.shape[1])).t() + state[f'{name}.bias'] * lr

def styled(x, weight, styles, up=False, demodulate=True):
    """A kernel for each sample, scaled by its styles and by 1/sqrt(fan-in), then demodulated."""
    out = []
    for n in range(len(x)):
        kernel = weight[0] * styles[n][None, :, None, None] / math.sqrt(weight[0][0].numel())
        if demodulate:
            kernel = kernel / torch.sqrt(kernel.square().sum(dim=[1, 2, 3], keepdim=True) + 1e-8)
        image = x[n : n + 1]
        if up: # Every second pixel of a larger image, spread by the kernel as it is.
            out.append(blur(F.conv_transpose2d(image, kernel.transpose(0, 1), stride=2), 4, (1, 1)))
        else:
            out.append(F.conv2d(image, kernel, padding=kernel.shape[-1] // 2))
    return torch.cat(out)

def their_layer(state, name, x, w, noise, up):
    grouped = f'{name}.conv.cluster' in state
    half = w.shape[1] // 2 if 'final_style.weight' in state else 0
    styles = linear(state, f'{name}.conv.modulation', w[:, half:])
    if grouped:
        styles = released_styles(state, f'{name}.conv', styles,
            linear(state, f'{name}.conv.modulation_bases', w[:, :half]))
    x = styled(x, state[f'{name}.conv.weight'], styles, up=up)
    return leaky(x + state[f'{name}.noise.weight'] * noise, state[f'{name}.activate.bias'])

def released_styles(state, name, intra, inter):
    """The released SariGAN's: every group's share of the styles normalised to length one over channels,
    times the group's factor."""
    soft = (5 * state[f'{name}.tmpr'].sigmoid() * state[f'{name}.cluster']).softmax(dim=0) # [gC]
    members = (500 * soft).softmax(dim=0).round() + 1e-6
    shares = F.normalize(members[None] * intra[:, None, :], dim=2) # [NgC]
    return (shares * inter[:, :, None]).sum(dim=1)

def their_codes(state, z):
    w = z / torch.sqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
    names = [f'style.{index}' for index in range(1, 20) if f'style.{index}.weight' in state] + ['final_style'] * (
        'final_style.weight' in state)
    for name in names:
        w = F.leaky_relu(linear(state, name, w, lr=0.01), 0.2) * math.sqrt(2)
    return w

def their_generator(state, z):
    w = their_codes(state, z)
    half = w.shape[1] // 2 if 'final_style.weight' in state else 0
    def to_rgb(name, x, image):
        y = styled(x, state[f'{name}.conv.weight'], linear(state, f'{name}.conv.modulation', w[:, half:]),
            demodulate=False) + state[f'{name}.bias']
        if image is None:
            return y
        larger = torch.zeros([*image.shape[:2], 2 * image.shape[2], 2 * image.shape[3]])
        larger[:, :, ::2, ::2] = image
        return y + blur(larger, 4, (2, 1))
    x = state['input.input'].repeat(len(z), 1, 1, 1)
    x = their_layer(state, 'conv1', x, w, state['noises.noise_0'], up=False)
    image = to_rgb('to_rgb1', x, None)
    index = 0
    while f'to_rgbs.{index}.bias' in state:
        for number in [2 * index, 2 * index + 1]:
            x = their_layer(state, f'convs.{number}', x, w, state[f'noises.noise_{number + 1}'], up=(number % 2 == 0))
        image = to_rgb(f'to_rgbs.{index}', x, image)
        index += 1
    return image

def their_discriminator(state, image):
    def conv(name, x, **how):
        weight = state[f'{name}.weight']
        return F.conv2d(x, weight / math.sqrt(weight[0].numel()), **how)
    x = leaky(conv('convs.0.0', image), state['convs.0.1.bias'])
    index = 1
    while f'convs.{index}.skip.1.weight' in state:
        y = leaky(conv(f'convs.{index}.conv1.0', x, padding=1), state[f'convs.{index}.conv1.1.bias'])
        y = leaky(conv(f'convs.{index}.conv2.1', blur(y, 1, (2, 2)), stride=2), state[f'convs.{index}.conv2.2.bias'])
        x = (y + conv(f'convs.{index}.skip.1', blur(x, 1, (1, 1)), stride=2)) / math.sqrt(2)
        index += 1
    size = min(4, len(x))
    # Of groups of `size` images.
    deviation = x.reshape(size, -1, *x.shape[1:]).var(dim=0, correction=0).add(1e-8).sqrt().mean(dim=[1, 2, 3])
    x = torch.cat([x, deviation.repeat(size)[:, None, None, None].expand(-1, 1, 4, 4)], dim=1)
    x = leaky(conv('final_conv.0', x, padding=1), state['final_conv.1.bias']).flatten(1)
    if 'final_info_linear.weight' in state:
        x = linear(state, 'final_info_linear', F.leaky_relu(linear(state, 'final_linear', x), 0.2) * math.sqrt(2))
        return x[:, :1], x[:, 1:]
    return linear(state, 'final_linear.1', F.leaky_relu(linear(state, 'final_linear.0', x), 0.2) * math.sqrt(2)), None

#----------------------------------------------------------------------------
# Checkpoints made from the published names and shapes.

def assert_close(ours, theirs):
    rounding.assert_close(ours, theirs, terms=16 * 9, layers=10)

@pytest.mark.parametrize('make', [plain_checkpoint, released_checkpoint])
def test_imported_networks_compute_what_theirs_do(make, tmp_path):
    checkpoint = make()
    torch.save(checkpoint, tmp_path / 'theirs.pt')
    done = run('import', tmp_path / 'theirs.pt', f'--to={tmp_path / "network.pkl"}')
    assert done.exit_code == 0, done.output
    data = reading.load_all(str(tmp_path / 'network.pkl'), 'PKL')
    z, images = torch.randn(4, 32), torch.randn(8, 3, 16, 16)
    for ours, theirs in [('G', 'g'), ('G_ema', 'g_ema')]:
        assert_close(data[ours].mapping(z, None)[:, 0], their_codes(checkpoint[theirs], z))
        assert_close(data[ours](z, None, noise_mode='const'), their_generator(checkpoint[theirs], z))
    logits, codes = their_discriminator(checkpoint['d'], images)
    assert_close(data['D'](images, None), logits)
    if codes is not None:
        assert_close(data['D'](images, None, return_codes=True)[1], codes)

@pytest.mark.parametrize('make', [plain_checkpoint, released_checkpoint])
def test_their_checkpoints_come_back_from_a_pickle_under_the_same_names(make, tmp_path):
    checkpoint = make()
    torch.save(checkpoint, tmp_path / 'theirs.pt')
    assert run('import', tmp_path / 'theirs.pt', f'--to={tmp_path / "network.pkl"}').exit_code == 0
    assert run('export', tmp_path / 'network.pkl', f'--to={tmp_path / "back.pt"}').exit_code == 0
    back = torch.load(tmp_path / 'back.pt', weights_only=True)
    assert {name for name in checkpoint if not name.endswith('_optim')} | {'latent_avg'} == back.keys()
    for part in ['g', 'd', 'g_ema']:
        assert back[part].keys() == checkpoint[part].keys()
        for name, tensor in checkpoint[part].items():
            if name.endswith(('.tmpr', '.gate')):
                # Through two logistic functions.
                torch.testing.assert_close(back[part][name], tensor, rtol=1e-3, atol=1e-3)
            else:
                assert torch.equal(back[part][name], tensor), name

def test_exported_networks_give_the_same_images_in_theirs(tmp_path):
    data = plain_networks()
    write(data, tmp_path / 'network.pkl')
    done = run('export', tmp_path / 'network.pkl', f'--to={tmp_path / "theirs.pt"}')
    assert done.exit_code == 0, done.output
    checkpoint = torch.load(tmp_path / 'theirs.pt', weights_only=True)
    z, images = torch.randn(4, 32), torch.randn(8, 3, 32, 32)
    assert_close(their_generator(checkpoint['g_ema'], z), data['G_ema'](z, None, noise_mode='const'))
    assert_close(their_discriminator(checkpoint['d'], images)[0], data['D'](images, None))
    assert torch.equal(checkpoint['latent_avg'], data['G_ema'].mapping.w_avg)

def test_exported_sarigan_gives_the_same_images_in_the_released_code(sari_networks, tmp_path):
    data = sari_networks(threshold='learned')
    write(data, tmp_path / 'network.pkl')
    done = run('export', tmp_path / 'network.pkl', f'--to={tmp_path / "theirs.pt"}')
    assert done.exit_code == 0, done.output
    checkpoint = torch.load(tmp_path / 'theirs.pt', weights_only=True)
    z = torch.randn(4, 32)
    for state in [checkpoint['g'], checkpoint['g_ema']]:
        for name in [name for name in state if name.endswith('.cluster')]:
            state[name] *= 100 # No ties, which mean something else there.
    assert_close(their_generator(checkpoint['g_ema'], z), data['G_ema'](z, None, noise_mode='const'))
    assert lines_with(done.stdout, '16 in every layer') == 6

def lines_with(text, words):
    return sum(words in line for line in text.splitlines())

def test_what_is_not_converted_is_in_a_table(tmp_path):
    checkpoint = released_checkpoint()
    state = checkpoint['g_ema']
    state['convs.0.conv.cluster'][:, 3] = 1.5   # Channel 3 is in no group.
    state['convs.1.conv.cluster'][2] = -50      # Group 2 has no channels.
    state['convs.2.conv.tmpr'].fill_(-4)
    torch.save(checkpoint, tmp_path / 'theirs.pt')
    done = run('import', tmp_path / 'theirs.pt', f'--to={tmp_path / "network.pkl"}')
    assert done.exit_code == 0, done.output
    lines = [' '.join(line.split()) for line in done.stdout.splitlines()]
    assert 'G_ema: convs.0.conv.cluster 1 channels whose groups tie are in none there, in one of these here' in lines
    assert 'G_ema: convs.1.conv.cluster 1 empty groups style all channels there, none here' in lines
    assert 'G_ema: convs.2.conv.tmpr a temperature of 11.12; ours are below 5' in lines
    assert "g_optim the optimizer's state has no place in a network pickle" in lines
    assert 'w_avg is not there: the mean of 4096 codes' in lines

def test_a_checkpoint_of_an_averaged_generator_alone_is_enough(tmp_path):
    torch.save(dict(g_ema=published_generator(), args=Namespace(size=16)), tmp_path / 'theirs.pt')
    done = run('import', tmp_path / 'theirs.pt', f'--to={tmp_path / "network.pkl"}')
    assert done.exit_code == 0 and 'is not there: starts afresh' in done.stdout, done.output
    data = reading.load_all(str(tmp_path / 'network.pkl'), 'PKL')
    mean = data['G_ema'].mapping(torch.randn(4096, 32), None)[:, 0].mean(dim=0)
    assert (data['G_ema'].mapping.w_avg - mean).norm() < 0.2 * mean.norm()
    assert data['D'](data['G'](torch.randn(4, 32), None), None).shape == (4, 1)

def test_generators_that_theirs_cannot_be_are_refused(tmp_path):
    write(plain_networks(c_dim=2), tmp_path / 'network.pkl')
    told = sentence(run('export', tmp_path / 'network.pkl', f'--to={tmp_path / "theirs.pt"}'))
    assert 'the generator is conditional, and theirs are not' in told
    assert os.listdir(tmp_path) == ['network.pkl']

@pytest.mark.parametrize('options, words', [
    (dict(architecture='skip'), 'D left out: it has no b32.skip.weight, and theirs always have'),
    (dict(architecture='orig'), 'D left out: it has no b32.skip.weight, and theirs always have'),
    (dict(epilogue_kwargs=dict(mbstd_group_size=8)),
        'D left out: D has b4.mbstd.group_size = 8, and theirs can only have 4'),
])
def test_of_discriminators_that_theirs_cannot_be_the_generator_is_exported_alone(options, words, tmp_path):
    data = plain_networks(**options)
    write(data, tmp_path / 'network.pkl')
    done = run('export', tmp_path / 'network.pkl', f'--to={tmp_path / "theirs.pt"}')
    assert done.exit_code == 0 and words in [' '.join(line.split()) for line in done.stdout.splitlines()], done.output
    checkpoint = torch.load(tmp_path / 'theirs.pt', weights_only=True)
    assert set(checkpoint) == {'g', 'g_ema', 'latent_avg'}
    z = torch.randn(4, 32)
    for name in ['G', 'G_ema']:
        assert_close(their_generator(checkpoint[name.lower()], z), data[name](z, None, noise_mode='const'))
    assert run('import', tmp_path / 'theirs.pt', f'--to={tmp_path / "back.pkl"}').exit_code == 0

def test_the_averaged_generator_alone_makes_a_checkpoint(sari_networks):
    G = sari_networks(threshold='learned')['G_ema']
    checkpoint, remarks = rosinality.to_checkpoint(dict(G_ema=G))
    assert set(checkpoint) == {'g_ema', 'latent_avg'}
    assert ('G', 'not in the pickle') in remarks and ('D', 'left out: not in the pickle') in remarks
    back, _remarks = rosinality.from_checkpoint(checkpoint, file_size=2 ** 40)
    assert_same(back['G_ema'].mapping, G.mapping)

@pytest.mark.parametrize('options, words', [
    (dict(norm='feature'), 'shift.bias has no place in theirs'),
    (dict(grouping='blocks'), 'grouping.logits, and theirs always have'),
    (dict(inter_form='exp'), 'group_affine.'),
    (dict(group_torgb=True), "group_torgb"),
])
def test_sarigans_that_the_released_code_has_not_are_refused(sari_networks, options, words, tmp_path):
    write(sari_networks(**options), tmp_path / 'network.pkl')
    assert words in sentence(run('export', tmp_path / 'network.pkl', f'--to={tmp_path / "theirs.pt"}'))

@pytest.mark.parametrize('q_features', [[3, 61], [3, 5]]) # As many as w has, and not.
def test_a_q_that_predicts_styles_is_none_of_theirs(sari_networks, make_discriminator, q_features, tmp_path):
    write(dict(sari_networks(), D=make_discriminator(q_features=q_features)), tmp_path / 'network.pkl')
    done = run('export', tmp_path / 'network.pkl', f'--to={tmp_path / "theirs.pt"}')
    assert done.exit_code == 0
    assert 'left out: its style_mean has no place in theirs' in done.stdout
    assert 'd' not in torch.load(tmp_path / 'theirs.pt', weights_only=True)

class Evil:
    def __reduce__(self):
        return os.system, ('touch canary',)

def overlapping():
    return published_generator() | {'style.1.weight': torch.zeros(1).expand(2 ** 18, 2 ** 18)}

@pytest.mark.parametrize('content, words', [
    (Evil(), 'it holds more than tensors and plain values, or less'),
    (dict(g_ema=Evil()), 'it holds more than tensors and plain values, or less'),
    ([1, 2], 'it has no g_ema'),
    (dict(g_ema=dict()), 'it has no conv1.conv.weight of 5 dimensions'),
    (dict(g_ema={'style.1.weight': 3}), "'style.1.weight' is no tensor of numbers"),
    (dict(g_ema=overlapping()), "'style.1.weight' is larger than its data"),
    (dict(g_ema=published_generator() | {'extra': torch.zeros(1)}), "'extra' has no place in the network"),
    (dict(g_ema=published_generator() | {'conv1.noise.weight': torch.zeros(2)}),
        'conv1.noise.weight is [2] where [1] is expected'),
    (dict(g_ema=published_generator() | {'to_rgbs.0.upsample.kernel': torch.ones(4, 4)}),
        'to_rgbs.0.upsample.kernel is another filter than [1, 3, 3, 1]'),
    (dict(g_ema=published_generator(), latent_avg=torch.zeros(3)), 'latent_avg has 3 numbers, and w has 32'),
    (dict(g_ema=published_generator(channels=(16, 32, 8))), '16 channels at 4x4 are none of'),
])
def test_a_checkpoint_of_something_else_is_refused_and_runs_nothing(content, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(content, 'theirs.pt')
    told = sentence(run('import', 'theirs.pt', '--to=network.pkl'))
    assert told.startswith("Error: SOURCE: 'theirs.pt' is not a checkpoint") and words in told
    assert os.listdir(tmp_path) == ['theirs.pt']

#----------------------------------------------------------------------------
