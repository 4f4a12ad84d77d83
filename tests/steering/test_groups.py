"""Attention maps, how good groups are, generated images: what the tools make of a network pickle."""

import html.parser
import json
import os
import pickle

import numpy as np
import PIL.Image
import pytest
import torch

from commands import run
from sarigan_plugin.errors import UserError
from sarigan_plugin.model.grouped import captured_features, grouped_layers
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import attention, groupings
from sarigan_plugin.steering.edits import Edit, edited
from sarigan_plugin.steering.sampling import latents
from sarigan_plugin.support import pictures

def last_line(result):
    return result.stderr.strip().splitlines()[-1]

#----------------------------------------------------------------------------

def test_attention_map_of_a_group_is_the_mean_of_its_feature_maps(make_generator):
    G = make_generator().requires_grad_(False)
    ws = torch.randn(2, G.num_ws, G.w_dim)
    features = dict()
    for name, layer, _source in grouped_layers(G.synthesis):
        layer.register_forward_pre_hook(lambda _layer, args, name=name: features.update({name: args[0]}))
    images, maps = attention.attention_maps(G, ws)
    assert torch.equal(images, G.synthesis(ws, noise_mode='const'))
    for name, layer, _source in grouped_layers(G.synthesis):
        for group in range(layer.grouping.num_groups):
            members = [c for c in range(layer.grouping.num_channels) if layer.grouping.assignment[c] == group]
            if members:
                torch.testing.assert_close(maps[name][:, group], features[name][:, members].mean(dim=1),
                    rtol=1e-4, atol=1e-5)

def test_quality_is_one_inside_groups_of_equal_channels_and_zero_between(make_generator):
    G = make_generator(grouping='blocks').requires_grad_(False)
    with torch.no_grad(): # Four blocks of four channels: equal kernels and biases inside a block, orthogonal between.
        kernels = torch.linalg.qr(torch.randn(16 * 9, 4)).Q.t().reshape(4, 16, 3, 3)
        G.synthesis.b8.conv0.weight.copy_(kernels.repeat_interleave(4, dim=0))
    quality = attention.survey(G, torch.randn(3, G.num_ws, G.w_dim)).quality['b8.conv1'] # Its input channels.
    assert quality['kernel_within'] == pytest.approx(1, abs=1e-5) and quality['kernel_between'] == pytest.approx(0,
        abs=1e-5)
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
    assert attention.spatial_coherence(checkerboard(side)).item() == pytest.approx(-1)
    stripes = checkerboard(side)[:, :, :1].expand(1, 1, side, side) # 1 downwards, -1 to the right.
    assert attention.spatial_coherence(stripes).item() == pytest.approx(0)

def test_coherence_of_noise_is_nothing_however_bright_its_images_are():
    brightness = torch.tensor([-100.0, 0.0, 30.0, 70.0])[:, None, None, None]
    noise = torch.randn(4, 5, 64, 64)
    # Standard deviation: 1/sqrt(4 * 64 * 60 * 2) = 0.006.
    assert attention.spatial_coherence(brightness + noise).abs().max() < 0.03

def test_coherence_of_a_blob_is_high_the_same_at_every_resolution_and_scale_and_falls_with_noise():
    smooth = {side: attention.spatial_coherence(blob(side)).item() for side in [16, 32, 64, 128]}
    assert min(smooth.values()) > 0.85 and max(smooth.values()) - min(smooth.values()) < 0.02
    assert attention.spatial_coherence(7 - 3 * blob(64)).item() == pytest.approx(smooth[64], abs=1e-4)
    noisy = blob(64) + blob(64).std() * torch.randn(1, 1, 64, 64) # Half of the variance is noise.
    assert attention.spatial_coherence(noisy).item() == pytest.approx(smooth[64] / 2, abs=0.05)

def test_coherence_of_a_flat_map_is_no_number():
    assert (attention.spatial_coherence(torch.cat([torch.ones(2, 1, 8, 8), blob(8).expand(2, 1, 8, 8)], dim=1)).isnan()
        .tolist() == [True, False])

def test_groups_of_like_channels_are_more_coherent_than_random_ones_and_empty_groups_do_not_count(make_generator,
        monkeypatch):
    G = make_generator(grouping='blocks', num_groups=5).requires_grad_(False)
    layer = {name: layer for name, layer, _source in grouped_layers(G.synthesis)}['b16.conv1']
    layer.grouping.assignment.copy_(torch.arange(16) // 8) # Groups 2 to 4 are empty.
    signs = torch.tensor([1.0, -1.0]).repeat(4)
    features = {name: torch.randn(2, other.grouping.num_channels, 16, 16)
        for name, other, _source in grouped_layers(G.synthesis)}
    features['b16.conv1'] = torch.cat([blob(16).expand(2, 8, 16, 16),
        signs[:, None, None] * checkerboard(16) + blob(16).expand(2, 8, 16, 16)], dim=1)
    monkeypatch.setattr(attention, 'capture_features', lambda _G, _ws: (torch.zeros(2, 3, 16, 16), features))
    state = torch.get_rng_state()
    quality = attention.survey(G, torch.zeros(2, G.num_ws, G.w_dim)).quality['b16.conv1']
    assert torch.equal(torch.get_rng_state(), state)
    assert quality['coherence'] == pytest.approx(attention.spatial_coherence(blob(16)).item(), abs=1e-5)
    assert quality['coherence_random'] < quality['coherence'] - 0.05
    assert [group['size'] for group in quality['groups']] == [8, 8, 0, 0, 0]
    assert quality['groups'][0]['coherence'] == pytest.approx(quality['coherence'], abs=1e-5) and np.isnan(
        quality['groups'][2]['coherence'])

def test_where_all_channels_are_one_group_random_groups_are_the_same(make_generator):
    G = make_generator(num_groups=1).requires_grad_(False)
    for row in attention.survey(G, torch.randn(2, G.num_ws, G.w_dim)).quality.values():
        assert row['coherence'] == pytest.approx(row['coherence_random'], abs=1e-5)

def test_means_over_pairs_are_those_of_a_loop_over_all_pairs():
    matrix, assignment = torch.randn(7, 7), [0, 0, 0, 1, 1, 3, 3] # Group 2 is empty.
    matrix = matrix + matrix.t()
    pairs = [(i, j) for i in range(7) for j in range(7) if i != j]
    def mean(chosen):
        values = [matrix[pair].item() for pair in chosen]
        return np.mean(values) if values else np.nan
    within, between = attention.pair_means(matrix, torch.nn.functional.one_hot(torch.tensor(assignment), 5).float())
    same = [pair for pair in pairs if assignment[pair[0]] == assignment[pair[1]]]
    others = [pair for pair in pairs if pair not in same]
    assert within.tolist() == pytest.approx([mean(same),
        *[mean([pair for pair in same if assignment[pair[0]] == group]) for group in range(5)]], abs=1e-5, nan_ok=True)
    assert between.tolist() == pytest.approx([mean(others),
        *[mean([pair for pair in others if assignment[pair[0]] == group]) for group in range(5)]],
        abs=1e-5, nan_ok=True)

def test_images_are_looked_at_a_few_at_a_time_and_nothing_changes(make_generator, monkeypatch):
    G = make_generator().requires_grad_(False)
    ws = torch.randn(3, G.num_ws, G.w_dim)
    together, images = attention.survey(G, ws), pictures.to_uint8(G.synthesis(ws, noise_mode='const'))
    sizes, capture = [], attention.capture_features
    monkeypatch.setattr(attention, 'capture_features', lambda G, ws: (sizes.append(len(ws)), capture(G, ws))[1])
    monkeypatch.setattr(attention, 'MAX_PIXELS', 2 * 32 * 32)
    monkeypatch.setattr(attention, 'MAX_SIDE', 16)
    apart = attention.survey(G, ws)
    assert sizes == [2, 1] and together.images.shape == (3, 32, 32, 3) and apart.images.shape == (3, 16, 16, 3)
    # Rounded; and other batches, other rounding.
    assert np.abs(apart.images.astype(int) - images.reshape(3, 16, 2, 16, 2, 3).mean(axis=(2, 4))).max() <= 2
    for name, maps in attention.attention_maps(G, ws)[1].items():
        torch.testing.assert_close(together.maps[name], maps, rtol=1e-4, atol=1e-5)
        assert apart.maps[name].shape[2:] == (min(maps.shape[2], 16),) * 2
        torch.testing.assert_close(apart.maps[name].mean(dim=[2, 3]), maps.mean(dim=[2, 3]), rtol=1e-4, atol=1e-5)
        ours, theirs = apart.quality[name], together.quality[name]
        assert ours.keys() == theirs.keys()
        assert [ours[key] for key in ours if key != 'groups'] == pytest.approx(
            [theirs[key] for key in ours if key != 'groups'], abs=1e-4)
        for group, row in enumerate(ours['groups']):
            assert row == pytest.approx(theirs['groups'][group], abs=1e-4, nan_ok=True)
            coherence = attention.spatial_coherence(maps)[group].item()
            assert row['coherence'] == pytest.approx(coherence, abs=1e-4, nan_ok=True)

def test_of_large_features_little_is_kept(make_generator):
    groups = groupings.of(make_generator())['b8.conv0']
    layer = groups.layer
    look = attention._LayerSurvey(groups)
    look.add({'b8.conv0': torch.randn(1, layer.grouping.num_channels, 256, 256)})
    # And not a view of them all.
    assert look.responses[0].untyped_storage().nbytes() == layer.grouping.num_channels * 64 * 64 * 4
    assert look.maps[0].shape == (1, 4, 128, 128)

def test_looking_at_a_network_leaves_no_hooks_behind(make_generator):
    G = make_generator().requires_grad_(False)
    ws = torch.randn(1, G.num_ws, G.w_dim)
    attention.attention_maps(G, ws)
    with pytest.raises(ZeroDivisionError), captured_features(G.synthesis):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), edited(G, [Edit('b8.conv0', 0, intra_seed=1)]):
        raise ZeroDivisionError
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in G.modules())

def test_effect_of_scaling_a_group_by_one_is_nothing(make_generator):
    G = make_generator().requires_grad_(False)
    ws = torch.randn(1, G.num_ws, G.w_dim)
    assert max(attention.group_effects(G, ws, inter_scale=1).values()) < 1e-6
    effects = attention.group_effects(G, ws, inter_scale=0)
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

def test_shrinking_takes_the_mean_of_blocks_and_leaves_small_images_alone():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    assert np.array_equal(pictures.shrink(images, 4), images) and np.array_equal(pictures.shrink(images, 100), images)
    assert np.array_equal(pictures.shrink(images, 2)[0, 0, 1],
        (images[0, 0, 2:].astype(int) + images[0, 1, 2:]).sum(axis=0) // 4)
    assert pictures.shrink(images, 1).shape == (2, 1, 1, 3)

def test_groups_command_draws_both_pictures(network, tmp_path):
    done = run('groups', network, f'--outdir={tmp_path / "out"}', '--seeds=1-3')
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stdout.splitlines()[-6:]] == [f'b{res}.{conv}' for res in [8, 16, 32]
        for conv in ['conv0', 'conv1']]
    assert all(len(line.split()) == 7 for line in done.stdout.splitlines()[-6:]) # The name, and six figures.
    for name in ['groups.png', 'strip.png']:
        picture = np.asarray(PIL.Image.open(tmp_path / 'out' / name))
        assert min(picture.shape[:2]) > 200 and picture.std() > 10

class Page(html.parser.HTMLParser):
    """What a browser would make of the page: elements, and the text of each kind of element."""
    def __init__(self, path):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(path.read_text(encoding='ascii'))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open += [tag] * (tag not in ['meta', 'img'])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else None, data))

    def values(self, key):
        return [attributes[key] for _tag, attributes in self.elements if key in attributes]

def test_the_page_has_every_group_with_its_picture_name_and_figures_and_needs_nothing_else(network, tmp_path):
    name = '<script>alert("1")</script> & co.'
    weird = network.rename(tmp_path / '<b>&".pkl')
    assert run('name', weird, '--layer=b16.conv0', '--group=0', f'--as={name}').exit_code == 0
    done = run('groups', weird, f'--outdir={tmp_path / "out"}', '--seeds=1,2')
    assert done.exit_code == 0, done.output
    page = Page(tmp_path / 'out' / 'index.html')
    tags = ('html head meta title style body header main section h1 h2 p details summary dl dt dd nav ul ol li a '
        'figure figcaption img div table thead tbody tr th td')
    assert page.open == [] and {tag for tag, _attributes in page.elements} <= set(tags.split())
    assert ('h1', 'Channel groups of <b>&".pkl') in page.texts and ('th', f'group 0 "{name}"') in page.texts
    sources, links, ids = page.values('src'), page.values('href'), page.values('id')
    assert all((tmp_path / 'out' / source).is_file() for source in sources) and len(ids) == len(set(ids)) == 6 + 6 * 4
    assert {link.removeprefix('#') for link in links} == set(ids) # The navigation and the bars.
    assert 'http' not in (tmp_path / 'out' / 'index.html').read_text()

    figures = json.loads((tmp_path / 'out' / 'attention.json').read_text(), parse_constant=pytest.fail)
    assert (figures['network'], figures['seeds'], figures['class_idx']) == ('<b>&".pkl', [1, 2], None)
    layers = {name: layer for name, layer, _source in grouped_layers(reading.load(str(weird), 'PKL').synthesis)}
    assert [layer['name'] for layer in figures['layers']] == list(layers)
    for layer in figures['layers']:
        grouping = layers[layer['name']].grouping
        assert (layer['temperature'] == pytest.approx(grouping.temperature.item(), abs=1e-5)
            and -1 <= layer['threshold'] <= 1)
        assert [group['size'] for group in layer['groups']] == grouping.assignment.bincount(minlength=4).tolist()
        for group in layer['groups']:
            assert (group['name'] == name) == ((layer['name'], group['group']) == ('b16.conv0', 0))
            drawn = f'groups/{layer["name"]}-{group["group"]}.png' in sources
            assert drawn == (group['size'] > 0) and ('td', f'{group["effect"]:.3f}') in page.texts
    _effect, *strongest = max((group['effect'], layer['name'], group['group']) for layer in figures['layers']
        for group in layer['groups'])
    assert list(figures['strongest'].values()) == strongest

def test_groups_that_are_not_learned_and_classes_are_on_the_page_as_well(make_generator, make_discriminator, tmp_path):
    G = make_generator(grouping='blocks', c_dim=3, img_channels=1).requires_grad_(False)
    G.synthesis.b16.conv0.grouping.assignment.copy_(torch.arange(16) // 8) # Groups 2 and 3 are empty.
    path = tmp_path / 'blocks.pkl'
    path.write_bytes(pickle.dumps(dict(G=G, D=make_discriminator(c_dim=3, img_channels=1), G_ema=G,
        training_set_kwargs=None, augment_pipe=None)))
    for class_idx, out in [(0, 'zero'), (2, 'two')]:
        assert run('groups', path, f'--outdir={tmp_path / out}', '--seeds=1', f'--class={class_idx}').exit_code == 0
    figures = json.loads((tmp_path / 'two' / 'attention.json').read_text(), parse_constant=pytest.fail)
    assert (figures['class_idx'] == 2
        and figures['layers'][2]['temperature'] is figures['layers'][2]['threshold'] is None)
    assert figures['layers'][2]['groups'][3]['kernel_within'] is None
    texts = Page(tmp_path / 'two' / 'index.html').texts
    assert (texts.count(('td', 'It has no channels.')) == 2 and ('dt', 'Temperature') not in texts
        and ('td', '\N{EN DASH}') in texts)
    assert (tmp_path / 'zero' / 'groups' / 'images.png').read_bytes() != (
        (tmp_path / 'two' / 'groups' / 'images.png').read_bytes())
    done = run('groups', path, f'--outdir={tmp_path / "out"}', '--class=3')
    assert (done.exit_code == 2 and last_line(done) == 'Error: --class: 3 is out of range: the classes are 0 to 2.'
        and not (tmp_path / 'out').exists())

#----------------------------------------------------------------------------

def test_generated_image_is_the_one_that_upstreams_tool_makes(network, tmp_path):
    done = run('generate', f'--network={network}', '--seeds=3,5-6', '--trunc=0.5',
        f'--outdir={tmp_path / "out"}', '--device=cpu')
    assert done.exit_code == 0, done.output
    assert sorted(os.listdir(tmp_path / 'out')) == ['seed0003.png', 'seed0005.png', 'seed0006.png']
    G = reading.load(str(network), 'network')
    z = torch.from_numpy(np.random.RandomState(5).randn(1, G.z_dim))
    img = (G(z, None, truncation_psi=0.5, noise_mode='const').permute(0, 2, 3, 1) * 127.5 + 128).clamp(0,
        255).to(torch.uint8)[0]
    assert np.array_equal(np.asarray(PIL.Image.open(tmp_path / 'out' / 'seed0005.png')), img.numpy())

def test_projected_w_is_rendered(network, tmp_path):
    G = reading.load(str(network), 'network')
    np.savez(tmp_path / 'w.npz', w=G.mapping(latents(G, [0, 1]), None).numpy())
    done = run('generate', f'--network={network}', f'--projected-w={tmp_path / "w.npz"}',
        f'--outdir={tmp_path / "out"}')
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

@pytest.mark.parametrize('w',
    [np.zeros([1, 8, 64], int), np.zeros([0, 8, 64]), np.zeros([8, 64]), np.zeros([1, 8, 63]), np.array('w')])
def test_a_projection_of_another_kind_gets_a_sentence(network, tmp_path, w):
    np.savez(tmp_path / 'w.npz', w=w)
    done = run('generate', f'--network={network}', f'--projected-w={tmp_path / "w.npz"}',
        f'--outdir={tmp_path / "out"}')
    assert done.exit_code == 2 and last_line(done).startswith('Error: --projected-w: '), done.output

def test_a_picture_replaces_a_link_and_not_what_it_points_to(network, tmp_path):
    before = network.read_bytes()
    (tmp_path / 'seed0000.png').symlink_to(network)
    assert run('generate', f'--network={network}', '--seeds=0', f'--outdir={tmp_path}').exit_code == 0
    assert network.read_bytes() == before and not (tmp_path / 'seed0000.png').is_symlink()

@pytest.mark.parametrize('content',
    [b'', b'not a pickle', pickle.dumps(3), pickle.dumps(dict(G=1)), b'\x80\x04cnowhere\nnothing\n.'])
def test_what_is_no_network_pickle_gets_a_sentence(tmp_path, content):
    path = tmp_path / 'broken.pkl'
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'--network: .*broken\.pkl. is not a network pickle(.* \(.+\)|.*: it is )'):
        reading.load(str(path), '--network')

def test_groups_need_a_generator_that_has_them(make_generator, make_discriminator, tmp_path):
    G = make_generator(grouping='none')
    path = tmp_path / 'plain.pkl'
    path.write_bytes(pickle.dumps(dict(G=G, D=make_discriminator(), G_ema=G)))
    done = run('groups', path, f'--outdir={tmp_path / "out"}')
    assert done.exit_code == 2 and 'holds a generator without channel groups.' in last_line(done)

#----------------------------------------------------------------------------
