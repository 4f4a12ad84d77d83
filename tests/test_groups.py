"""Attention maps, how good groups are, generated images: what the tools make of a network pickle."""

import os
import pickle

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

from sarigan_plugin import groups
from sarigan_plugin import pictures
from sarigan_plugin import snapshot
from sarigan_plugin.cli import UserError, main
from sarigan_plugin.edit import Edit, edited
from sarigan_plugin.generate import latents
from sarigan_plugin.networks import captured_features, grouped_layers

def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])

def last_line(result):
    return result.stderr.strip().splitlines()[-1]

#----------------------------------------------------------------------------

def test_attention_map_of_a_group_is_the_mean_of_its_feature_maps(make_generator):
    G = make_generator().requires_grad_(False)
    ws = torch.randn(2, G.num_ws, G.w_dim)
    features = dict()
    for name, layer, _source in grouped_layers(G.synthesis):
        layer.register_forward_pre_hook(lambda _layer, args, name=name: features.update({name: args[0]}))
    images, maps = groups.attention_maps(G, ws)
    assert torch.equal(images, G.synthesis(ws, noise_mode='const'))
    for name, layer, _source in grouped_layers(G.synthesis):
        for group in range(layer.grouping.num_groups):
            members = [c for c in range(layer.grouping.num_channels) if layer.grouping.assignment[c] == group]
            if members:
                torch.testing.assert_close(maps[name][:, group], features[name][:, members].mean(dim=1), rtol=1e-4, atol=1e-5)

def test_cluster_quality_is_one_inside_groups_of_equal_channels_and_zero_between(make_generator):
    G = make_generator(grouping='blocks').requires_grad_(False)
    with torch.no_grad(): # Four blocks of four channels: equal kernels and biases inside a block, orthogonal between.
        kernels = torch.linalg.qr(torch.randn(16 * 9, 4)).Q.t().reshape(4, 16, 3, 3)
        G.synthesis.b8.conv0.weight.copy_(kernels.repeat_interleave(4, dim=0))
    quality = groups.cluster_quality(G, torch.randn(3, G.num_ws, G.w_dim))['b8.conv1'] # Its input channels.
    assert quality['kernel_within'] == pytest.approx(1, abs=1e-5) and quality['kernel_between'] == pytest.approx(0, abs=1e-5)
    assert quality['response_within'] == pytest.approx(1, abs=1e-4) and quality['response_between'] < 0.9

def checkerboard(side):
    """[1, 1, side, side] in -1 and 1, cells of 1/16 of the side, at least a pixel."""
    cell = (torch.arange(side) // max(side // 16, 1)) % 2
    return (2.0 * (cell[:, None] ^ cell) - 1)[None, None]

def blob(side, width=0.15):
    """[1, 1, side, side]: a Gaussian in the middle, `width` of the side wide."""
    profile = (-((torch.arange(side) + 0.5) / side - 0.5).square() / (2 * width ** 2)).exp()
    return (profile[:, None] * profile)[None, None]

@pytest.mark.parametrize('side', [8, 16, 64])
def test_coherence_is_minus_one_for_a_checkerboard_and_zero_for_its_first_row_as_stripes(side):
    assert groups.spatial_coherence(checkerboard(side)).item() == pytest.approx(-1)
    stripes = checkerboard(side)[:, :, :1].expand(1, 1, side, side) # 1 downwards, -1 to the right.
    assert groups.spatial_coherence(stripes).item() == pytest.approx(0)

def test_coherence_of_noise_is_nothing_however_bright_its_images_are():
    brightness = torch.tensor([-100.0, 0.0, 30.0, 70.0])[:, None, None, None]
    noise = torch.randn(4, 5, 64, 64)
    assert groups.spatial_coherence(brightness + noise).abs().max() < 0.03 # Standard deviation: 1/sqrt(4 * 64 * 60 * 2) = 0.006.

def test_coherence_of_a_blob_is_high_the_same_at_every_resolution_and_scale_and_falls_with_noise():
    smooth = {side: groups.spatial_coherence(blob(side)).item() for side in [16, 32, 64, 128]}
    assert min(smooth.values()) > 0.85 and max(smooth.values()) - min(smooth.values()) < 0.02
    assert groups.spatial_coherence(7 - 3 * blob(64)).item() == pytest.approx(smooth[64], abs=1e-4)
    noisy = blob(64) + blob(64).std() * torch.randn(1, 1, 64, 64) # Half of the variance is noise.
    assert groups.spatial_coherence(noisy).item() == pytest.approx(smooth[64] / 2, abs=0.05)

def test_coherence_of_a_flat_map_is_no_number():
    assert groups.spatial_coherence(torch.cat([torch.ones(2, 1, 8, 8), blob(8).expand(2, 1, 8, 8)], dim=1)).isnan().tolist() == [True, False]

def test_groups_of_like_channels_are_more_coherent_than_random_ones_and_empty_groups_do_not_count(make_generator, monkeypatch):
    G = make_generator(grouping='blocks', num_groups=5).requires_grad_(False)
    layer = dict((name, layer) for name, layer, _source in grouped_layers(G.synthesis))['b16.conv1']
    layer.grouping.assignment.copy_(torch.arange(16) // 8) # Groups 2 to 4 are empty.
    signs = torch.tensor([1.0, -1.0]).repeat(4)
    features = {name: torch.randn(2, other.grouping.num_channels, 16, 16) for name, other, _source in grouped_layers(G.synthesis)}
    features['b16.conv1'] = torch.cat([blob(16).expand(2, 8, 16, 16), signs[:, None, None] * checkerboard(16) + blob(16).expand(2, 8, 16, 16)], dim=1)
    monkeypatch.setattr(groups, 'capture_features', lambda _G, _ws: (None, features))
    state = torch.get_rng_state()
    quality = groups.cluster_quality(G, None)['b16.conv1']
    assert torch.equal(torch.get_rng_state(), state)
    assert quality['coherence'] == pytest.approx(groups.spatial_coherence(blob(16)).item(), abs=1e-5)
    assert quality['coherence_random'] < quality['coherence'] - 0.05

def test_where_all_channels_are_one_group_random_groups_are_the_same(make_generator):
    G = make_generator(num_groups=1).requires_grad_(False)
    for row in groups.cluster_quality(G, torch.randn(2, G.num_ws, G.w_dim)).values():
        assert row['coherence'] == pytest.approx(row['coherence_random'], abs=1e-5)

def test_looking_at_a_network_leaves_no_hooks_behind(make_generator):
    G = make_generator().requires_grad_(False)
    ws = torch.randn(1, G.num_ws, G.w_dim)
    groups.attention_maps(G, ws)
    with pytest.raises(ZeroDivisionError), captured_features(G.synthesis):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), edited(G, [Edit('b8.conv0', 0, intra_seed=1)]):
        raise ZeroDivisionError
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in G.modules()) # pylint: disable=protected-access

def test_effect_of_scaling_a_group_by_one_is_nothing(make_generator):
    G = make_generator().requires_grad_(False)
    ws = torch.randn(1, G.num_ws, G.w_dim)
    assert max(groups.group_effects(G, ws, inter_scale=1).values()) < 1e-6
    effects = groups.group_effects(G, ws, inter_scale=0)
    assert len(effects) == 6 * 4 and max(effects.values()) > 1e-3

#----------------------------------------------------------------------------

def test_heat_overlay_is_red_where_the_map_is_high_and_grey_where_it_is_low():
    images = np.full([1, 8, 8, 3], 200, dtype=np.uint8)
    heat = torch.zeros(1, 8, 8)
    heat[:, :, 4:] = 1
    overlay = pictures.heat_overlay(images, heat)[0]
    red, green, blue = overlay[4, 7].astype(int)
    assert red > green + 100 and red > blue + 100
    assert np.ptp(overlay[4, 0]) == 0

def test_sheet_puts_images_row_by_row():
    images = np.stack([np.full([4, 4, 3], value, dtype=np.uint8) for value in [10, 20, 30]])
    sheet = np.asarray(pictures.sheet(images, columns=2, gap=1))
    assert sheet.shape == (11, 11, 3)
    assert [sheet[1, 1, 0], sheet[1, 6, 0], sheet[6, 1, 0], sheet[6, 6, 0]] == [10, 20, 30, 255]

def test_groups_command_draws_both_pictures(network, tmp_path):
    done = run('groups', network, f'--outdir={tmp_path / "out"}', '--seeds=1-3')
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stdout.splitlines()[-6:]] == [f'b{res}.{conv}' for res in [8, 16, 32] for conv in ['conv0', 'conv1']]
    assert all(len(line.split()) == 7 for line in done.stdout.splitlines()[-6:]) # The name, and all of cluster_quality().
    for name in ['groups.png', 'strip.png']:
        picture = np.asarray(PIL.Image.open(tmp_path / 'out' / name))
        assert min(picture.shape[:2]) > 200 and picture.std() > 10

#----------------------------------------------------------------------------

def test_generated_image_is_the_one_that_upstreams_tool_makes(network, tmp_path):
    done = run('generate', f'--network={network}', '--seeds=3,5-6', '--trunc=0.5', f'--outdir={tmp_path / "out"}', '--device=cpu')
    assert done.exit_code == 0, done.output
    assert sorted(os.listdir(tmp_path / 'out')) == ['seed0003.png', 'seed0005.png', 'seed0006.png']
    G = snapshot.load(str(network), 'network')
    z = torch.from_numpy(np.random.RandomState(5).randn(1, G.z_dim))
    img = (G(z, None, truncation_psi=0.5, noise_mode='const').permute(0, 2, 3, 1) * 127.5 + 128).clamp(0, 255).to(torch.uint8)[0]
    assert np.array_equal(np.asarray(PIL.Image.open(tmp_path / 'out' / 'seed0005.png')), img.numpy())

def test_projected_w_is_rendered(network, tmp_path):
    G = snapshot.load(str(network), 'network')
    np.savez(tmp_path / 'w.npz', w=G.mapping(latents(G, [0, 1]), None).numpy())
    done = run('generate', f'--network={network}', f'--projected-w={tmp_path / "w.npz"}', f'--outdir={tmp_path / "out"}')
    assert done.exit_code == 0, done.output
    assert sorted(os.listdir(tmp_path / 'out')) == ['proj00.png', 'proj01.png']

@pytest.mark.parametrize('arguments, sentence', [
    (['--seeds=a'], "Invalid value for '--seeds': 'a' is neither numbers, as in 1,5,7, nor a range, as in 0-3"),
    (['--seeds=3-1'], "Invalid value for '--seeds': '3-1' is no range of numbers from 0 to 4294967295"),
    (['--seeds=4294967296'], "Invalid value for '--seeds': '4294967296' is no range of numbers from 0 to 4294967295"),
    (['--seeds=5,0-999999'], "Invalid value for '--seeds': '5,0-999999' is more than 1000000 numbers"),
    ([], '--seeds is required where there is no --projected-w.'),
    (['--projected-w=nowhere.npz'], "--projected-w: 'nowhere.npz' is not an .npz file with an array w"),
    (['--seeds=0', '--outdir=/dev/null/x'], '--outdir: /dev/null/x cannot be written to: Not a directory.'),
    (['--seeds=0', '--network=nowhere.pkl'], "--network: there is no file 'nowhere.pkl'."),
])
def test_generate_names_the_option_that_is_wrong(network, tmp_path, arguments, sentence):
    done = run('generate', f'--network={network}', f'--outdir={tmp_path / "out"}', *arguments)
    assert done.exit_code == 2 and sentence in last_line(done)
    assert not (tmp_path / 'out').exists()

@pytest.mark.parametrize('w', [np.zeros([1, 8, 64], int), np.zeros([0, 8, 64]), np.zeros([8, 64]), np.zeros([1, 8, 63]), np.array('w')])
def test_a_projection_of_another_kind_gets_a_sentence(network, tmp_path, w):
    np.savez(tmp_path / 'w.npz', w=w)
    done = run('generate', f'--network={network}', f'--projected-w={tmp_path / "w.npz"}', f'--outdir={tmp_path / "out"}')
    assert done.exit_code == 2 and last_line(done).startswith('Error: --projected-w: '), done.output

def test_a_picture_replaces_a_link_and_not_what_it_points_to(network, tmp_path):
    before = network.read_bytes()
    (tmp_path / 'seed0000.png').symlink_to(network)
    assert run('generate', f'--network={network}', '--seeds=0', f'--outdir={tmp_path}').exit_code == 0
    assert network.read_bytes() == before and not (tmp_path / 'seed0000.png').is_symlink()

@pytest.mark.parametrize('content', [b'', b'not a pickle', pickle.dumps(3), pickle.dumps(dict(G=1)), b'\x80\x04cnowhere\nnothing\n.'])
def test_what_is_no_network_pickle_gets_a_sentence(tmp_path, content):
    path = tmp_path / 'broken.pkl'
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'--network: .*broken\.pkl. is not a network pickle.* \(.+\)'):
        snapshot.load(str(path), '--network')

def test_groups_need_a_generator_that_has_them(make_generator, make_discriminator, tmp_path):
    G = make_generator(grouping='none')
    path = tmp_path / 'plain.pkl'
    path.write_bytes(pickle.dumps(dict(G=G, D=make_discriminator(), G_ema=G)))
    done = run('groups', path, f'--outdir={tmp_path / "out"}')
    assert done.exit_code == 2 and 'holds a generator without channel groups.' in last_line(done)

#----------------------------------------------------------------------------
