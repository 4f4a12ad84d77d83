"""Groups that are improved by exchanging all of their channels at once, with one more or one less."""

import pytest
import torch

from painting import everything, painter_of
from sarigan_plugin.steering import channel_effects, channel_products, channel_trials, groupings, regrouping
from sarigan_plugin.steering.sampling import sample_ws
from sarigan_plugin.steering.styles import styled_layers
from small_networks import plain_networks

PLACES = [0, 3, 15, None, 0, 3, 15, None, 0, 3] # Cells that channels paint; None: all, lighter or darker.

@pytest.fixture
def toy():
    """(generator, codes)."""
    random = torch.Generator().manual_seed(0)
    return painter_of(PLACES, random), torch.randn(24, 1, 6, generator=random).expand(-1, 6, -1)

def places_of(G):
    return channel_effects.Effects(everything(G), None, None, []).places()

def painted(G, group):
    """Which cells the channels of a set paint. group: bool [K]."""
    return [PLACES[channel] for (_layer, channel), mine in zip(places_of(G), group.tolist()) if mine]

def sets_of(G, cells):
    """bool [sets, K]: the channels that paint each of the cells."""
    return torch.tensor([[PLACES[channel] == cell for _layer, channel in places_of(G)] for cell in cells])

def improved(G, ws, sets, num_groups):
    products = channel_products.products(G, ws[:6], ws, everything(G))
    return channel_trials.improve(G, ws, places_of(G), products, sets, num_groups)

#----------------------------------------------------------------------------

@pytest.mark.parametrize('which', ['ours', 'upstreams'])
def test_a_trial_is_an_exchange_of_all_channels_of_a_set(make_generator, which, monkeypatch):
    G = plain_networks()['G_ema'] if which == 'upstreams' else make_generator(grouping='blocks').requires_grad_(False)
    monkeypatch.setattr(channel_effects, 'MAX_PIXELS', 2 * G.img_resolution ** 2) # In batches, the last one smaller.
    ws, layers, places = sample_ws(G, range(5), trunc=1), styled_layers(G), places_of(G)
    trials = channel_trials.Trials(G, ws, places)
    early = torch.rand(len(places)) < 0.2
    late = early & torch.tensor([layer == places[-1][0] for layer, _channel in places])
    assert late.any() # Blocks before are not run again.
    for members in [early, late]:
        sets = regrouping._sets([place for place, mine in zip(places, members.tolist()) if mine],
            torch.zeros(int(members.sum()), dtype=torch.int64))
        exchanged = channel_effects.exchange_sets(G, ws, [groupings.masks_of(layers, of_set) for of_set in sets])
        torch.testing.assert_close(trials.changes(members), exchanged.grid[0], rtol=1e-4, atol=1e-9)

def test_channels_go_that_a_group_is_better_without(toy):
    G, ws = toy
    sets = sets_of(G, [0, 3, 15])
    strangers = torch.nonzero(sets_of(G, [None])[0])[:3, 0]
    sets[range(3), strangers] = True
    group = improved(G, ws, sets, 3)
    assert group.shape == sets[0].shape and (group[strangers] == 3).all()
    assert sorted(set(painted(G, group == index)) == {cell} for index in range(3) for cell in [0, 3, 15]) \
        == [False] * 6 + [True] * 3

def test_channels_come_that_a_group_is_better_with(toy, monkeypatch):
    G, ws = toy
    monkeypatch.setattr(channel_trials, 'SHARE', 1) # The more a group changes, the better.
    sets = sets_of(G, [0, 3, 15])
    missing = [torch.nonzero(members)[-1, 0] for members in sets]
    sets[range(3), missing] = False
    group = improved(G, ws, sets, 3)
    assert {group[channel].item() for channel in missing} == {0, 1, 2}

def test_the_sets_that_are_worth_most_are_kept(toy):
    G, ws = toy
    group = improved(G, ws, sets_of(G, [None, 3, 15]), 2) # The first one acts in all places.
    assert {cell for index in range(2) for cell in painted(G, group == index)} == {3, 15}

def test_where_images_are_not_linear_in_styles_no_group_gets_worse_in_images_of_trials():
    G = plain_networks()['G_ema']
    ws, places = sample_ws(G, range(12), trunc=1), places_of(G)
    products = channel_products.products(G, ws[:4], ws, everything(G))
    keep = lambda sets: [channel_products.worth(trials.changes(members), least).item() for members in sets]
    trials = channel_trials.Trials(G, ws, places)
    least = channel_products.SHARE / 2 * trials.changes(torch.ones(len(places), dtype=torch.bool)).sum()
    start = torch.arange(len(places)) % 8
    sets = torch.nn.functional.one_hot(start).t().bool()[:2]
    group = channel_trials.improve(G, torch.cat([ws, ws]), places, products, sets, num_groups=2) # Half of it is ws.
    assert sum(keep([group == 0, group == 1])) > sum(keep(sets)) + 0.01
    assert all((group == index).sum() >= channel_trials.LEAST_CHANNELS for index in range(2))

def test_regroup_says_in_how_many_images_groups_were_tried_and_leaves_large_networks_out(toy, monkeypatch):
    G, ws = toy
    found = regrouping.regroup(G, ws[:4], ws[4:8], num_groups=3, partners=ws, trials=ws[8:])
    assert found.measured['num_trials'] == 16 and regrouping.plan(G, ws[:4], ws[8:]).tried
    assert regrouping.seconds(G, ws[:4], 3, trials=ws[8:]) > regrouping.seconds(G, ws[:4], 3)
    assert [group.rest for group in found.sets] == [False, False, False, True]
    assert found.measured['on_other_images']['place']['groups'] == pytest.approx(1)
    assert regrouping.regroup(G, ws[:4], ws[4:8], num_groups=3).measured['num_trials'] == 0
    monkeypatch.setattr(channel_effects, 'MAX_WORK', 0)
    assert not regrouping.plan(G, ws[:4], ws[8:]).tried

@pytest.mark.parametrize('work', [channel_effects.MAX_WORK, 0]) # All exchanged; some screened only.
def test_the_estimate_counts_the_images_in_which_groups_are_compared(toy, work, monkeypatch):
    G, ws = toy
    monkeypatch.setattr(channel_effects, 'MAX_WORK', work)
    monkeypatch.setattr(channel_effects, 'MIN_SINGLE', 12)
    jobs = {}
    def progress(todo, label=None):
        jobs[label] = len(todo)
        return todo
    assert regrouping.regroup(G, ws[:4], ws[4:8], num_groups=3, progress=progress).sets[-1].rest
    for name, told in [('screening_seconds', 0), ('seconds', 0), ('image_seconds', 1)]:
        monkeypatch.setattr(channel_effects, name, lambda *_args, told=told: told)
    assert regrouping.seconds(G, ws[:4], 3) == 4 * (jobs['Comparing groups'] + 1) # And as they are.

#----------------------------------------------------------------------------
