"""The knobs of a generator: which there are, and what turning them does to the styles of a layer."""

import pytest
import torch

from sarigan_plugin.model.grouped import captured_features
from sarigan_plugin.steering import units
from sarigan_plugin.steering.sampling import sample_ws

import dnnlib

LAYER = 'b16.conv0'

@pytest.fixture
def G(make_generator):
    return make_generator(grouping='blocks').requires_grad_(False)

@pytest.fixture
def upstreams():
    return dnnlib.util.construct_class_by_name(class_name='training.networks.Generator', z_dim=32, c_dim=0, w_dim=32,
        img_resolution=32, img_channels=3,
        mapping_kwargs=dict(num_layers=2),
        synthesis_kwargs=dict(channel_base=256, channel_max=16)).eval().requires_grad_(False)

def in_layer(G, ws, kind, index):
    return next(unit for unit in units.find(G, ws) if (unit.kind, unit.layer, unit.index) == (kind, LAYER, index))

def styles_when_turned(G, ws, unit, d):
    layer = units.styled_layers(G)[LAYER]
    with unit.turned(d):
        return units.layer_styles(layer, ws[:, 0])

#----------------------------------------------------------------------------

def test_every_group_set_layer_and_channel_is_a_unit(G, upstreams):
    found = units.find(G, sample_ws(G, range(8)))
    count = lambda kind, found: sum(unit.kind == kind for unit in found)
    channels = sum(layer.weight.shape[1] for layer in units.styled_layers(G).values())
    assert [count(kind, found) for kind in units.KINDS] == [6 * 4, 6 * 4, 0, 0, 6 * 4, 6, channels]
    assert sum(unit.size for unit in found if unit.kind == 'random') == sum(unit.size
        for unit in found if unit.kind == 'inter') == channels

    plain = units.find(upstreams, sample_ws(upstreams, range(8)))
    assert [count(kind, plain) for kind in units.KINDS] == [0, 0, 0, 0, 0, 6, channels]
    controlled = units.find(upstreams, sample_ws(upstreams, range(8)), units.group_partitions(G))
    assert [unit.size for unit in controlled if unit.kind == 'random'] == [unit.size
        for unit in found if unit.kind == 'random']

def test_an_empty_group_is_no_unit(G):
    G.synthesis.b16.conv0.grouping.assignment.clamp_(min=1)
    found = units.find(G, sample_ws(G, range(8)))
    assert [unit.index for unit in found if unit.kind == 'inter' and unit.layer == LAYER] == [1, 2, 3]

def test_the_inter_group_code_is_turned_by_standard_deviations(G):
    ws = sample_ws(G, range(50))
    layer, unit = units.styled_layers(G)[LAYER], in_layer(G, ws, 'inter', 2)
    natural = layer.group_affine(ws[:, 0, :32])
    torch.testing.assert_close(unit.values, natural[:, 2])
    with unit.turned(-1.5):
        turned = layer.group_affine(ws[:, 0, :32])
    torch.testing.assert_close(turned[:, 2], natural[:, 2] - 1.5 * natural[:, 2].std(correction=0))
    assert torch.equal(turned[:, [0, 1, 3]], natural[:, [0, 1, 3]])

def test_the_gain_of_a_group_would_be_its_inter_group_code(G):
    ws = sample_ws(G, range(50))
    layer = units.styled_layers(G)[LAYER]
    channels = layer.grouping.assignment == 1
    gain = (units.layer_styles(layer, ws[:, 0]) * channels).square().mean(dim=1).sqrt()
    torch.testing.assert_close(gain, layer.group_affine(ws[:, 0, :32])[:, 1].abs(), rtol=1e-4, atol=1e-5)

def test_a_random_set_is_turned_by_its_gain_and_no_other_channel_is(G):
    ws = sample_ws(G, range(50))
    unit = in_layer(G, ws, 'random', 0)
    before, after = styles_when_turned(G, ws, unit, 0), styles_when_turned(G, ws, unit, 2)
    gain = lambda styles: (styles * unit.channels).square().mean(dim=1).sqrt()
    torch.testing.assert_close(gain(after), gain(before) + 2 * gain(before).std(correction=0))
    assert torch.equal(after[:, ~unit.channels], before[:, ~unit.channels])
    ratios = (after / before)[:, unit.channels]
    torch.testing.assert_close(ratios, ratios[:, :1].expand_as(ratios))

@pytest.mark.parametrize('which', ['ours', 'upstreams'])
def test_layers_and_channels_move_along_what_they_are_read_by(G, upstreams, which):
    G = G if which == 'ours' else upstreams
    ws = sample_ws(G, range(50))
    for kind, index in [('layer', 0), ('channel', 5)]:
        unit = in_layer(G, ws, kind, index)
        before, after = styles_when_turned(G, ws, unit, 0), styles_when_turned(G, ws, unit, 2)
        step = after - before
        torch.testing.assert_close(step.norm(dim=1), 2 * unit.values.std(correction=0).expand(50), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(((before - before.mean(dim=0)) * step).sum(dim=1) / step.norm(dim=1),
            unit.values - unit.values.mean(), rtol=1e-3, atol=1e-4)
        assert not step[:, ~unit.channels].any()

def test_the_intra_group_code_moves_its_own_groups_styles_alone(G):
    ws = sample_ws(G, range(50))
    unit = in_layer(G, ws, 'intra', 3)
    step = styles_when_turned(G, ws, unit, 2) - styles_when_turned(G, ws, unit, 0)
    torch.testing.assert_close(step[:, ~unit.channels], torch.zeros_like(step[:, ~unit.channels]))
    assert (step[:, unit.channels].abs().amax(dim=1) > 1e-4).all()

def test_the_principal_direction_is_the_one_that_was_planted():
    direction = torch.tensor([0.6, 0, -0.8])
    styles = torch.randn(500, 1) * direction * 3 + torch.randn(500, 3) * 0.1 + 5
    torch.testing.assert_close(units.principal_direction(styles), -direction, atol=0.02, rtol=0)

@pytest.mark.parametrize('norm', ['weight', 'feature'])
def test_turned_by_nothing_and_afterwards_images_are_as_they_were(make_generator, norm):
    G = make_generator(grouping='blocks', norm=norm).requires_grad_(False)
    ws = sample_ws(G, range(4))
    image = lambda: G.synthesis(ws, noise_mode='const')
    before = image()
    for unit in [unit for unit in units.find(G, ws) if unit.layer == LAYER and unit.index == 0]: # One of each kind.
        with unit.turned(0):
            torch.testing.assert_close(image(), before, atol=1e-5, rtol=1e-4)
        with unit.turned(3):
            assert (image() - before).abs().max() > 1e-5
        assert torch.equal(image(), before)

def test_features_of_layers_without_groups_are_captured_as_well(upstreams):
    with captured_features(upstreams.synthesis, units.styled_layers(upstreams)) as features:
        upstreams.synthesis(sample_ws(upstreams, [0]))
    assert list(features) == ['b8.conv0', 'b8.conv1', 'b16.conv0', 'b16.conv1', 'b32.conv0', 'b32.conv1']

#----------------------------------------------------------------------------
