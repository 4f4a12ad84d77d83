"""What sets of channels change by products of single channels' changes, and sets that change one place each."""

import contextlib

import pytest
import torch

from painting import SIDE, Toy, everything, painter_of
from sarigan_plugin.steering import channel_effects, channel_products, groupings, regrouping, units
from sarigan_plugin.steering.sampling import sample_ws
from sarigan_plugin.steering.styles import layer_styles, restyled, styled_layers
from small_networks import plain_networks

CELLS = SIDE ** 2

def toy(patterns):
    """A generator, each layer of which paints the patterns of channels [C, CELLS]."""
    return Toy(patterns.view(-1, 1, SIDE, SIDE))

def codes(count):
    return torch.randn(count, 1, 6).expand(-1, 6, -1)

def exchanged(G, own, other, members):
    """[N, CELLS], squared changes of images if channels, bool [of all layers], get the styles of others."""
    layers = styled_layers(G)
    with contextlib.ExitStack() as stack:
        before = G.synthesis(own, noise_mode='const')
        for layer, mask in zip(layers.values(), members.split([layer.weight.shape[1] for layer in layers.values()])):
            theirs = layer_styles(layer, other[:, 0])
            stack.enter_context(restyled(layer, lambda styles, mask=mask, theirs=theirs:
                torch.where(mask, theirs, styles)))
        return channel_effects.cells((G.synthesis(own, noise_mode='const') - before).square()).double()

def of_all_partners(G, ws, partners, members):
    """[N, CELLS], the mean over partners."""
    return torch.stack([exchanged(G, ws, other[None].expand_as(ws), members) for other in partners]).mean(dim=0)

#----------------------------------------------------------------------------

def test_products_say_what_every_set_changes_where_images_are_linear_in_styles():
    G, ws, partners = toy(torch.randn(5, CELLS)), codes(4), codes(3)
    products = channel_products.products(G, ws, partners, everything(G))
    count = len(products[0])
    weights = 1 / sum(of_all_partners(G, ws, partners, torch.arange(count) == channel).sum(dim=1)
        for channel in range(count))
    for _set in range(5): # Some of these channels cancel others.
        members = torch.rand(count) < 0.4
        expected = (of_all_partners(G, ws, partners, members) * weights[:, None]).mean(dim=0) * (1 / weights).mean()
        torch.testing.assert_close(channel_products.changes_of_sets(products, members[None])[0], expected, rtol=1e-3,
            atol=1e-4)

@pytest.mark.parametrize('which', ['ours', 'upstreams'])
def test_to_first_order_products_see_what_exchanging_sets_does(make_generator, which):
    G = plain_networks()['G_ema'] if which == 'upstreams' else make_generator(grouping='blocks').requires_grad_(False)
    ws = sample_ws(G, range(7), trunc=1)
    ws = ws.mean(dim=0) + (ws - ws.mean(dim=0)) * 0.05 # Small steps.
    products = channel_products.products(G, ws[:4], ws[4:], everything(G))
    members = torch.rand(2, len(products[0])) < 0.3
    alone = of_all_partners(G, ws[:4], ws[4:], torch.ones(len(products[0]), dtype=torch.bool)).sum(dim=1)
    for changes, mask in zip(channel_products.changes_of_sets(products, members), members):
        expected = of_all_partners(G, ws[:4], ws[4:], mask)
        # Images count alike in the one and not in the other.
        assert changes.sum().item() == pytest.approx(expected.sum(dim=1).mean().item(), rel=0.3)
        cosine = torch.nn.functional.cosine_similarity(changes, (expected / alone[:, None]).mean(dim=0), dim=0)
        assert cosine > 0.95

def test_changes_of_large_images_are_sketched_and_their_products_stay():
    changes = torch.randn(4, 3, 128, 128)
    changes[2:] += changes[:2] # Not at right angles.
    small = channel_products.sketched(changes)
    assert small.shape == (4, 3, 64, 64)
    exact, found = (torch.einsum('kchw,lchw->kl', x, x) / x[0].numel() for x in [changes, small])
    # The mean of 12,288 products of a deviation of about 2, the largest length's square: five of its deviations.
    torch.testing.assert_close(found, exact, rtol=0, atol=5 * 2 * 2 ** 0.5 / 12288 ** 0.5)
    assert torch.equal(channel_products.sketched(small), small)

#----------------------------------------------------------------------------

def worth(products, group, number, least):
    """What gather() makes as large as it can, written out."""
    total = 0
    for index in range(number):
        members = (group == index).double()
        changes = torch.stack([members @ cell @ members for cell in products])
        total += changes.max() / changes.sum() * min(changes.sum() / least, 1)
    return float(total)

def test_no_channel_could_move_for_the_better():
    vectors = torch.randn(CELLS, 14, 3, dtype=torch.float64)
    products = vectors @ vectors.transpose(1, 2)
    start = torch.arange(14) % 3
    least = 0.1 * products.sum()
    group = channel_products.gather(products, start, least)
    best = worth(products, group, 3, least)
    assert best > worth(products, start, 3, least) + 0.1
    for channel in range(14):
        for index in range(4):
            other = group.clone()
            other[channel] = index
            if all((other == kept).any() for kept in range(3)):
                assert worth(products, other, 3, least) <= best + 1e-8

def test_channels_that_cancel_each_other_elsewhere_are_found_to_be_of_one_place():
    """Squared changes of single channels cannot tell: in each of a pair two places change alike."""
    patterns = torch.zeros(12, CELLS, dtype=torch.float64)
    for channel in range(12):
        own, other = [(0, 5), (3, 6), (15, 10)][channel % 3]
        patterns[channel, own] = 1
        patterns[channel, other] = 1 if channel < 6 else -1
    products = torch.einsum('kc,lc->ckl', patterns, patterns)
    squares = channel_effects.unit(patterns.square())
    assert regrouping.selectivity(squares) < 0.51
    start = (torch.arange(12) + torch.arange(12) // 3) % 3 # Four of each place in all three.
    group = channel_products.gather(products, start, 0.03 * products.sum())
    members = torch.nn.functional.one_hot(group, 4).t()[:3]
    assert regrouping.selectivity(channel_products.changes_of_sets(products, members)) > 0.9

#----------------------------------------------------------------------------

PLACES = [0, 3, 15, None, 0, 3, 15, None, 0, 3] # Cells that channels paint; None: all of them alike, lighter or darker.

@pytest.fixture
def found():
    """(generator, what regroup() finds)."""
    random = torch.Generator().manual_seed(0)
    G = painter_of(PLACES, random)
    w = torch.randn(92, 1, 6, generator=random).expand(-1, 6, -1)
    return G, regrouping.regroup(G, w[:6], w[6:12], num_groups=3, partners=w[12:])

def test_channels_that_change_no_place_in_particular_are_left_over_and_last(found):
    G, sets = found
    assert [group.rest for group in sets.sets] == [False, False, False, True] and sets.sets[-1].name == 'rest'
    assert {group.name for group in sets.sets[:3]} == {'top left', 'top right', 'bottom right'}
    for group in sets.sets:
        cells = {PLACES[channel] for of_layer in group.channels.values() for channel in of_layer}
        assert len(cells) == 1 and (None in cells) == group.rest
    assert sum(len(channels) for group in sets.sets for channels in group.channels.values()) == 60 - 20
    figures = sets.measured['on_other_images']
    assert figures['place']['groups'] == pytest.approx(1) and figures['place']['random'] < 0.5
    assert 0.5 < figures['held'] < 0.95
    assert len(sets.measured['groups']) == 4

def test_what_is_left_over_is_no_unit_and_random_sets_are_of_all_channels(found):
    G, sets = found
    groupings.attach(G, sets)
    linked = groupings.linked(G)
    assert linked.num_groups == 4 and linked.num_found == 3
    assert [unit.index for unit in units.find(G, codes(8)) if unit.kind == 'linked'] == [0, 1, 2]

#----------------------------------------------------------------------------
