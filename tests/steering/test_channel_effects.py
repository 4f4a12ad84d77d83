"""What single channels change: in a generator whose channels paint planted places, and in real ones."""

import math

import pytest
import torch

from painting import SIDE, Toy, everything, in_step
from sarigan_plugin.acceleration import cpu
from sarigan_plugin.model.inpainting import join_condition
from sarigan_plugin.steering import channel_effects, channel_products, regrouping
from sarigan_plugin.steering.channel_effects import SHARED
from sarigan_plugin.steering.conditioned import Conditioned
from sarigan_plugin.steering.sampling import latents, sample_ws
from sarigan_plugin.steering.styles import restyled, styled_layers
from small_networks import make_inpainter, plain_networks, shaken

PLACES = [0, 3, 15, 0, 3, 15, 15, 3, 0, 0] # The cell that each channel of each layer paints.

@pytest.fixture
def toy():
    """(generator, codes of 12 images)."""
    patterns = torch.nn.functional.one_hot(torch.tensor(PLACES), SIDE ** 2).float() * torch.linspace(1, 3, 10)[:, None]
    return Toy(patterns.view(-1, 1, SIDE, SIDE)), torch.randn(12, 1, 6).expand(-1, 6, -1)

#----------------------------------------------------------------------------

def test_the_effect_of_a_channel_is_the_square_of_what_it_paints_differently(toy):
    G, ws = toy
    effects = channel_effects.exchange(G, ws, everything(G))
    row = 0
    for layer in styled_layers(G).values():
        styles = layer.affine(ws[:, 0])
        steps = (styles.roll(1, dims=0) - styles).square().mean(dim=0).double()
        for channel, place in enumerate(PLACES):
            expected = torch.zeros(16, dtype=torch.float64)
            expected[place] = steps[channel] * (1 + channel * 2 / 9) ** 2
            torch.testing.assert_close(effects.grid[row], expected, rtol=1e-4, atol=1e-6)
            row += 1
    assert row == len(effects.grid) and effects.labels.shape == (row, 0)

def test_screening_is_exact_where_images_are_linear_in_styles(toy):
    G, ws = toy
    screened = channel_effects.screen(G, ws)
    torch.testing.assert_close(torch.cat(list(screened.values())),
        channel_effects.exchange(G, ws, everything(G)).grid, rtol=1e-4, atol=1e-6)

def test_the_strongest_channels_are_kept():
    screened = dict(a=torch.tensor([[1.0, 1], [5, 0], [0, 0]]), b=torch.tensor([[3.0, 3], [0, 2]]))
    assert {name: kept.tolist() for name, kept in channel_effects.strongest(screened, 3).items()} == dict(a=[0, 1],
        b=[0])
    assert sum(map(len, channel_effects.strongest(screened, 99).values())) == 5

def test_channels_of_all_layers_that_paint_one_place_are_one_linked_group(toy):
    G, ws = toy
    in_step(G, [[0, 3, 15].index(place) for place in PLACES])
    found = regrouping.regroup(G, ws[:6], ws[6:], num_groups=3)
    groups = {group.name: group.channels for group in found.sets}
    assert groups == {name: {layer: tuple(index for index, cell in enumerate(PLACES) if cell == place)
        for layer in styled_layers(G)} for name, place in [('top left', 0), ('top right', 3), ('bottom right', 15)]}
    assert found.measured['on_other_images']['place']['groups'] == 1 # All that a group changes is in one place.
    assert found.measured['on_other_images']['place']['random'] < 0.7

def test_channels_that_are_screened_only_are_left_over(toy, monkeypatch):
    G, ws = toy
    monkeypatch.setattr(channel_effects, 'MAX_WORK', 0)
    monkeypatch.setattr(channel_effects, 'MIN_SINGLE', 12)
    in_step(G, [[0, 3, 15].index(place) for place in PLACES])
    assert regrouping.plan(G, ws).screened
    *groups, rest = regrouping.regroup(G, ws[:6], ws[6:], num_groups=3).sets
    count = lambda sets: sum(len(channels) for group in sets for channels in group.channels.values())
    assert rest.rest and count(groups) <= 12 and count([*groups, rest]) == 40
    assert all(len({PLACES[channel] for of_layer in group.channels.values() for channel in of_layer}) == 1
        for group in groups)

@pytest.mark.parametrize('work', [channel_effects.MAX_WORK, 0]) # All exchanged; some screened only.
def test_groups_go_by_attributes_and_are_named_after_them(toy, work, monkeypatch):
    G, ws = toy
    monkeypatch.setattr(channel_effects, 'MAX_WORK', work)
    monkeypatch.setattr(channel_effects, 'MIN_SINGLE', 12)
    G.synthesis.b8.conv0.patterns[:] = 0 # Channels that change nothing are no trouble.
    scorer = lambda images: {name: images[:, place // 4, place % 4, 0] / 255.0
        for name, place in [('hat', 0), ('nose', 3), ('tie, red', 15)]}
    found = regrouping.regroup(G, ws[:6] * 0.2, ws[6:] * 0.2, num_groups=3, scorer=scorer)
    assert {group.name for group in found.sets} == {'hat', 'nose', 'tie red'}
    assert all(facts['attribute_share'] == 1 for facts in found.measured['groups'])
    assert not any('b8.conv0' in group.channels for group in found.sets)

def test_a_generator_whose_images_are_all_alike_has_no_groups(toy):
    G, ws = toy
    for layer in styled_layers(G).values():
        layer.patterns[:] = 0
    with pytest.raises(ValueError, match='no channel changes anything'):
        regrouping.regroup(G, ws, ws)

#----------------------------------------------------------------------------

def uneven(styles):
    """Each channel's style times something else; demodulation would cancel what is the same for all."""
    return styles * torch.linspace(0, 2, styles.shape[1])

@pytest.mark.parametrize('which', ['ours', 'upstreams'])
def test_images_from_some_block_on_are_the_same_to_the_bit(make_generator, which):
    cpu.prepare()
    G = make_generator(grouping='blocks').requires_grad_(False) if which == 'ours' else plain_networks()['G_ema']
    ws = sample_ws(G, range(3))
    rendering = channel_effects.Rendering(G, ws)
    assert torch.equal(rendering.images, G.synthesis(ws, **SHARED))
    torch.testing.assert_close(rendering.images, G.synthesis(ws, noise_mode='const'), rtol=0, atol=1e-5)
    for name, layer in styled_layers(G).items():
        with restyled(layer, uneven):
            again = rendering.again(channel_effects.block_of(name))
            assert torch.equal(again, G.synthesis(ws, **SHARED)) and not torch.equal(again, rendering.images)

@pytest.fixture
def completed():
    """(generator of inpainting, three codes, their conditions, whose holes are different)."""
    G = shaken(make_inpainter())
    hole = torch.zeros([3, 1, 32, 32], dtype=torch.bool)
    hole[0, :, :20], hole[1, :, 8:, 4:28], hole[2, :, :, 16:] = True, True, True
    c = join_condition(torch.rand([3, 3, 32, 32]) * 2 - 1, hole)
    return G, G.mapping(latents(G, range(3)), c), c

def test_codes_take_photos_along_through_batches_and_blocks(completed, monkeypatch):
    cpu.prepare()
    G, ws, c = completed
    conditioned = Conditioned(G)
    codes = conditioned.codes(ws, c)
    assert torch.equal(conditioned.synthesis.condition(codes), c)
    assert torch.equal(conditioned.synthesis(codes, noise_mode='const'), G.synthesis(ws, c, noise_mode='const'))
    same = lambda images: torch.testing.assert_close(images, G.synthesis(ws, c, **SHARED), rtol=0, atol=0)
    rendering = channel_effects.Rendering(conditioned, codes)
    same(rendering.images)
    for name, layer in styled_layers(conditioned).items():
        with restyled(layer, uneven):
            same(rendering.again(channel_effects.block_of(name)))
            assert (rendering.images - rendering.again(channel_effects.block_of(name))).abs().max() > 1e-2
    together = channel_effects.exchange(conditioned, codes, everything(conditioned)).grid
    monkeypatch.setattr(channel_effects, 'MAX_PIXELS', 1) # Batches of one image.
    torch.testing.assert_close(channel_effects.exchange(conditioned, codes, everything(conditioned)).grid, together)

def test_what_channels_change_of_photos_is_in_their_holes(completed):
    G, ws, c = completed
    conditioned = Conditioned(G)
    codes = conditioned.codes(ws[:2], c[[0, 0]]) # The lowest fourth is known in both.
    exchanged = channel_effects.exchange(conditioned, codes, everything(conditioned)).grid.view(-1, 4, 4)
    screened = torch.cat(list(channel_effects.screen(conditioned, codes).values())).view(-1, 4, 4)
    products = channel_products.products(conditioned, codes, ws, everything(conditioned))
    for of_channels in [exchanged, screened, products.diagonal(dim1=1, dim2=2).t().view(-1, 4, 4)]:
        assert of_channels[:, 3].abs().sum() == 0 and of_channels[:, :3].sum(dim=0).min() > 0
    different = conditioned.codes(ws[:2], c[:2])
    assert channel_effects.exchange(conditioned, different, everything(conditioned)).grid.sum(dim=0).min() > 0

@pytest.mark.parametrize('which', ['ours', 'feature', 'upstreams'])
def test_to_first_order_screening_sees_what_exchanging_does(make_generator, which):
    G = plain_networks()['G_ema'] if which == 'upstreams' else make_generator(grouping='blocks',
        norm='feature' if which == 'feature' else 'weight').requires_grad_(False)
    ws = sample_ws(G, range(16), trunc=1)
    ws = ws.mean(dim=0) + (ws - ws.mean(dim=0)) * 0.05 # Small steps.
    screened = torch.cat(list(channel_effects.screen(G, ws).values())).sum(dim=1)
    exchanged = channel_effects.exchange(G, ws, everything(G)).grid.sum(dim=1)
    # Of 16 images and 16 cells, each with one probe: an estimate with a deviation of sqrt(2 / 16) or less.
    ratios = (screened / exchanged.clamp(min=1e-20))[exchanged > exchanged.max() * 1e-4]
    assert len(ratios) > 10 and 0.7 < ratios.median() < 1.4

def test_sets_are_exchanged_as_their_channels_together_are(toy):
    G, ws = toy
    masks = {name: torch.tensor(PLACES) == 3 for name in styled_layers(G)}
    effects = channel_effects.exchange_sets(G, ws, [masks], lambda images: dict(flat=images[:, 0, 0, 0] * 0.0))
    steps = sum(((layer.affine(ws[:, 0]).roll(1, dims=0) - layer.affine(ws[:, 0])) * layer.patterns.amax(dim=(1, 2, 3)))
        [:, masks[name]].sum(dim=1) for name, layer in styled_layers(G).items())
    assert effects.grid[0, 3].item() == pytest.approx(steps.square().mean().item(), rel=1e-4)
    assert effects.grid.sum() == effects.grid[0, 3] and effects.labels.tolist() == [[0]]

def test_labels_change_or_not_where_they_can_be_told_and_scores_by_how_much():
    before = dict(hat=torch.tensor([0, 1, -1, 2]), smile=torch.tensor([0.1, 0.5, 0.9, 1.0]))
    after = dict(hat=torch.tensor([0, 3, 1, -1]), smile=torch.tensor([0.4, 0.5, 0.0, 1.0]))
    torch.testing.assert_close(channel_effects.changes(before, after),
        torch.tensor([[0, 0.3], [1, 0], [0, 0.9], [0, 0]], dtype=torch.float64), rtol=0, atol=1e-6)

#----------------------------------------------------------------------------

def planted(number, spread, count=30):
    """(rows of length 1, the cluster of each)."""
    centres = torch.nn.functional.normalize(torch.randn(number, 20, dtype=torch.float64), dim=1)
    group = torch.arange(number * count) % number
    rows = centres[group] + spread * torch.randn(number * count, 20, dtype=torch.float64) / math.sqrt(20)
    return torch.nn.functional.normalize(rows, dim=1), group

def test_planted_clusters_are_found_and_their_number_is():
    rows, group = planted(6, spread=0.3)
    found = channel_effects.cluster(rows, 6)
    assert torch.equal(found[:, None] == found, group[:, None] == group)
    assert channel_effects.best_number(rows, range(4, 12)) == 6
    assert channel_effects.best_number(rows[:2], range(4, 12)) == 1

def test_the_silhouette_of_two_points_is_one_and_of_one_group_nothing():
    rows = torch.tensor([[1.0, 0], [1, 0], [0, 1]])
    assert channel_effects.silhouette(rows, torch.tensor([0, 0, 1])) == pytest.approx(1)
    assert channel_effects.silhouette(rows, torch.tensor([0, 0, 0])) == 0
    # Centres (1, 1) / sqrt 2 and (1, 0): the first row is in the wrong group, -1, the others have 1 and 1 / sqrt 2.
    assert channel_effects.silhouette(rows, torch.tensor([0, 1, 0])) == pytest.approx(0.5 ** 0.5 / 3)

def test_selectivity_is_the_share_of_what_a_set_changes_most_of_sets_that_change_anything():
    rows = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1], [0, 3, 1, 0], [0, 0, 0, 0]])
    assert regrouping.selectivity(rows) == pytest.approx((1 + 0.25 + 0.75) / 3)
    assert regrouping.selectivity(rows[3:]) == 0

AROUND = [0, 1, 2, 3, 4, 7, 8, 11, 12, 13, 14, 15]

@pytest.mark.parametrize('cells, words', [([0], 'top left'), ([1, 2], 'top'), ([5, 6, 9, 10], 'middle'),
    ([12, 13, 14, 15], 'bottom'), ([7, 11], 'right'), (range(16), 'everywhere'), (AROUND, 'around')])
def test_places_have_names(cells, words):
    grid = torch.zeros(16)
    grid[list(cells)] = 1
    usual = torch.full([16], 1 / 16)
    assert regrouping.place_of(grid / grid.sum(), usual) == words
    assert regrouping.place_of(grid / grid.sum(), grid / grid.sum()) == 'everywhere' # As random sets do.

#----------------------------------------------------------------------------
