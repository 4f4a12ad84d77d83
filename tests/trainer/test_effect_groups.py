"""--grouping=effects: which channels are grouped, when, and that a training with them goes on as it was."""

import itertools
import pickle
import re
import types

import pytest
import torch

import rounding
import small_training
import unmodified
from sarigan_plugin.datasets.inpainting import InpaintingDataset
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.model.grouping import EffectGrouping, equal_blocks
from sarigan_plugin.trainer import effect_groups
from sarigan_plugin.trainer.agreement import Agreement
from sarigan_plugin.trainer.effect_groups import EffectGroups, groupings_of, is_due, measured, new_groups, seated
from small_networks import make_inpainter
from trainings import assert_equal_runs, cut_back, finish, last_run, start
from worlds import together

from training import dataset

CORNERS = torch.tensor([0, 3, 12, 15]) # Of 4x4 places.

@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    """Enough for what is planted."""
    monkeypatch.setattr(effect_groups, 'NUM_IMAGES', 8)

class Images:
    """A training set without labels."""
    def __len__(self):
        return 7

    def get_label(self, index):
        return torch.zeros([0])

def planted_generator(make_generator, **options):
    """(generator, [16]): all that its channels hold is in one corner of the image, whose number is the second.

    The constant is bright in one corner of each channel, and convolutions mix channels of one corner alone.
    """
    return plant(make_generator(grouping='effects', **options).requires_grad_(False))

def plant(G):
    random = torch.Generator().manual_seed(0)
    corner = torch.arange(16).fmod(4)[torch.randperm(16, generator=random)]
    G.synthesis.b4.const.zero_().flatten(1)[torch.arange(16), CORNERS[corner]] = 3
    for weight in [G.synthesis.b4.conv1.weight, *(layer.weight for _name, layer, _from in grouped_layers(G.synthesis))]:
        makes, reads = [corner[:count] for count in weight.shape[:2]]
        weight.zero_()[:, :, 1, 1] = (makes[:, None] == reads) * torch.rand(weight.shape[:2], generator=random)
    return G, corner

def same_partition(a, b):
    return torch.equal(a[:, None] == a, b[:, None] == b)

def rows_of(group, number, noise=0.0, seed=0):
    """[C, number]: of length 1, each near the axis of its group."""
    rows = torch.nn.functional.one_hot(group, number).double()
    rows = rows + noise * torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed)).abs()
    return torch.nn.functional.normalize(rows, dim=1)

def groups(G):
    return {name: grouping.assignment for name, grouping in groupings_of(G).items()}

def regrouped(G, G_ema=None, agreement=None, rank=0, training_set=None):
    agreement = Agreement(1) if agreement is None else agreement
    EffectGroups(agreement, rank).regroup(G, G if G_ema is None else G_ema, training_set or Images())

#----------------------------------------------------------------------------
# Which groups.

@pytest.mark.parametrize('options', [{}, dict(inter_form='exp', group_torgb=True)], ids=str)
def test_channels_that_change_one_place_are_one_group(make_generator, options):
    G, corner = planted_generator(make_generator, **options)
    regrouped(G)
    found = torch.cat(list(groups(G).values())) # One index in all layers.
    assert same_partition(found, torch.cat([corner[:len(group)] for group in groups(G).values()]))
    assert all(grouping.is_settled for grouping in groupings_of(G).values())

def test_the_feature_form_has_such_groups_too(make_generator):
    G = make_generator(grouping='effects', norm='feature').requires_grad_(False)
    regrouped(G)
    assert all(grouping.is_settled for grouping in groupings_of(G).values())

def test_classes_are_those_of_the_training_set(make_generator, tmp_path):
    small_training.write_images(tmp_path / 'images', count=4)
    (tmp_path / 'images' / 'dataset.json').write_text(
        '{"labels": [["00.png", 1], ["01.png", 0], ["02.png", 1], ["03.png", 0]]}')
    G, corner = planted_generator(make_generator, c_dim=2)
    with_labels = dataset.ImageFolderDataset(path=str(tmp_path / 'images'), use_labels=True)
    regrouped(G, training_set=with_labels)
    assert same_partition(groups(G)['b8.conv0'], corner)
    images, seen = effect_groups.sample(G, with_labels, 4)
    assert images is G
    z = torch.cat([effect_groups.sampling.latents(G, [seed]) for seed in range(4)])
    torch.testing.assert_close(seen, G.mapping(z, torch.eye(2)[[1, 0, 1, 0]]))

@pytest.fixture
def holes(tmp_path):
    """A training set of inpainting, whose holes are the same each time."""
    small_training.write_squares(tmp_path / 'photos', 9)
    made = InpaintingDataset(path=str(tmp_path / 'photos'))
    made.without_conditions() # As upstream's loop has it.
    return made

def test_channels_that_change_one_place_of_the_holes_are_one_group(holes, monkeypatch):
    monkeypatch.setattr(effect_groups, 'NUM_IMAGES', 32) # A hole in each corner.
    G, corner = plant(make_inpainter(img_resolution=16, grouping='effects'))
    for parameter in G.synthesis.encoder.parameters():
        parameter.zero_() # Its features know no corners.
    regrouped(G, training_set=holes)
    assert same_partition(torch.cat(list(groups(G).values())),
        torch.cat([corner[:len(group)] for group in groups(G).values()]))

def test_photos_and_holes_are_those_of_the_training_set(holes):
    G = make_inpainter(img_resolution=16, grouping='effects')
    completing, codes = effect_groups.sample(G, holes, 3)
    holes.has_conditions = True
    c = torch.stack([torch.from_numpy(holes.get_label(index)) for index in [0, 4, 8]])
    assert torch.equal(completing.synthesis.condition(codes), c)
    assert torch.equal(completing.synthesis(codes, noise_mode='const'), G(effect_groups.sampling.latents(G, range(3)),
        c, noise_mode='const'))

@pytest.mark.parametrize('count, number, least, most', [(6, 3, 1, 4), (7, 2, 1, 7), (8, 2, 1, 8), (5, 3, 1, 3)])
def test_seats_are_taken_as_brute_force_finds(count, number, least, most):
    for seed in range(3):
        affinity = torch.rand([count, number], generator=torch.Generator().manual_seed(seed)).double()
        affinity[:, 0] += seed # Everyone likes the first group best.
        fitting = [choice for choice in itertools.product(range(number), repeat=count)
            if all(least <= choice.count(group) <= most for group in range(number))]
        worth = [sum(affinity[channel, group] for channel, group in enumerate(choice)) for choice in fitting]
        assert seated(affinity).tolist() == list(fitting[worth.index(max(worth))])

def test_groups_have_a_quarter_of_the_average_at_least_and_twice_that_at_most():
    affinity = torch.zeros([64, 4]).double()
    affinity[:, 0] = 1
    affinity[:, 1] = 0.9
    assert seated(affinity).bincount().tolist() == [32, 24, 4, 4]

def test_a_group_has_one_index_in_all_layers_and_narrow_layers_have_the_first_ones():
    truth = dict(wide=torch.tensor([0, 1, 2, 3] * 4), other=torch.tensor([3, 2, 1, 0] * 4),
        narrow=torch.tensor([3, 1] * 4))
    groupings = dict(wide=EffectGrouping(16, 4), other=EffectGrouping(16, 4), narrow=EffectGrouping(8, 2))
    found = new_groups([{name: rows_of(group, 4) for name, group in truth.items()}] * 2, groupings)
    assert same_partition(torch.cat(list(found.values())), torch.cat(list(truth.values())))
    assert found['narrow'].max() == 1

#----------------------------------------------------------------------------
# Inertia.

def settled(group, number, inertia=3):
    grouping = EffectGrouping(len(group), number, inertia=inertia)
    grouping.take(group, rounds=10 ** 9) # The inertia is all there.
    return grouping

def test_indices_stay_where_channels_do():
    truth = torch.tensor([2, 0, 1, 2, 0, 1, 1, 2, 0])
    grouping = settled(truth, 3)
    for seed in range(3):
        parts = [dict(layer=rows_of(truth, 3, noise=0.2, seed=2 * seed + part)) for part in range(2)]
        assert torch.equal(new_groups(parts, dict(layer=grouping))['layer'], truth)
    moved = truth.clone()
    moved[:2] = torch.tensor([0, 2]) # Two of them change places.
    assert torch.equal(new_groups([dict(layer=rows_of(moved, 3))] * 2, dict(layer=grouping))['layer'], moved)

def test_clusters_that_are_clearly_better_take_over_with_the_indices_of_groups_that_they_share_most_with():
    truth = torch.arange(24) % 3
    before = torch.where(truth == 2, 2, 0) # Groups 0 and 2 share clusters 0, 1 and 2; group 1 has a part of the last.
    before[truth == 2] = torch.tensor([1, 2, 2, 2, 2, 2, 1, 1])
    kernels = lambda noise, part: rows_of(truth, 3, noise, seed=part)
    found = new_groups([dict(layer=kernels(0, part)) for part in range(2)], dict(layer=settled(before, 3)))['layer']
    assert same_partition(found, truth) and (found == before).sum() == 8 + 5
    for noise, inertia, stays in [(0.5, 0, False), (0.5, 30, True)]:
        parts = [dict(layer=kernels(noise, part)) for part in range(2)]
        found = new_groups(parts, dict(layer=settled(before, 3, inertia)))['layer']
        assert torch.equal(found, before) == stays

def test_the_more_inertia_the_fewer_channels_leave_their_group():
    truth = torch.arange(48) % 4
    before = torch.where(torch.arange(48) < 12, (truth + 1) % 4, truth) # A quarter would rather be elsewhere.
    parts = [dict(layer=rows_of(truth, 4, noise=0.6, seed=part)) for part in range(2)]
    moved = [(new_groups(parts, dict(layer=settled(before, 4, inertia)))['layer'] != before).sum().item()
        for inertia in [0, 2, 4, 8, 16]]
    assert moved == sorted(moved, reverse=True) and moved[0] > 8 and moved[-1] == 0 and len(set(moved)) > 2

def test_the_deviation_of_means_is_that_of_means():
    samples = torch.randn([4, 20000], generator=torch.Generator().manual_seed(0)).double() * 3
    assert effect_groups.deviation_of_mean(samples) == pytest.approx(3 / 2, rel=0.01)
    assert effect_groups.deviation_of_mean(samples) == pytest.approx(samples.mean(dim=0).std().item(), rel=0.02)

def test_inertia_grows_so_that_the_first_groups_are_found_freely():
    grouping = EffectGrouping(8, 4, inertia=3)
    assert grouping.inertia == 0 and not grouping.is_settled
    for rounds in range(1, 49):
        grouping.take(torch.arange(8) % 4)
        assert grouping.inertia == pytest.approx(3 * rounds / (rounds + 16))
    assert grouping.inertia == pytest.approx(2.25) and grouping.is_settled

def test_numbers_that_are_not_finite_leave_groups_as_they_are():
    grouping = settled(torch.tensor([1, 0, 1, 0]), 2)
    parts = [dict(layer=torch.tensor([[1.0, 0], [0, 1], [1, float('nan')], [0, 1]]).double())] * 2
    assert new_groups(parts, dict(layer=grouping)) == {}

#----------------------------------------------------------------------------
# When, and where.

def test_it_is_time_halfway_through_each_interval():
    due = [nimg for nimg in range(8, 200, 8) if is_due(nimg, 8, 64)]
    assert due == [32, 96, 160]
    assert [nimg for nimg in range(24, 300, 24) if is_due(nimg, 24, 64)] == [48, 96, 168, 240, 288]
    assert all(is_due(nimg, 32, 8) for nimg in range(32, 200, 32)) # As often as there are batches, at most.

def test_groups_are_found_by_the_average_and_both_generators_get_them(make_generator, capsys):
    G_ema, corner = planted_generator(make_generator)
    G = make_generator(grouping='effects')
    loop = dict(G=G, G_ema=G_ema, training_set=Images(), batch_size=8, cur_nimg=8,
        loss=types.SimpleNamespace(regroup_nimg=32))
    keeper, random_state = EffectGroups(Agreement(1), rank=0), torch.get_rng_state()
    keeper.iteration_done(loop)
    assert torch.equal(groups(G)['b8.conv0'], equal_blocks(16, 4))
    keeper.iteration_done(dict(loop, cur_nimg=16))
    for name, group in groups(G).items():
        assert torch.equal(group, groups(G_ema)[name])
    assert same_partition(groups(G)['b8.conv0'], corner)
    keeper.iteration_done(dict(loop, cur_nimg=48)) # Says no more.
    assert re.fullmatch(r'Groups by effects: measured in \d+\.\d s, every 0.032 kimg, which is (\d+\.\d)% of the time'
        r'(; a larger regroup_kimg makes it less)?\n', capsys.readouterr().out)
    assert torch.equal(torch.get_rng_state(), random_state)

def test_other_groupings_are_left_alone(make_generator):
    G = make_generator(grouping='blocks')
    EffectGroups(Agreement(1), rank=0).iteration_done(dict(G=G)) # Asks the loop for nothing else.

def test_all_processes_have_the_same_groups_measured_in_images_of_each(make_generator, tmp_path):
    G, _corner = planted_generator(make_generator)
    _images, ws = effect_groups.sample(G, Images(), effect_groups.NUM_IMAGES)
    expected = new_groups([*measured(G, ws[0::2]), *measured(G, ws[1::2])], groupings_of(G))

    def work(world):
        torch.distributed.init_process_group('gloo', rank=world.rank, world_size=2,
            init_method=f'file://{tmp_path / "rendezvous"}')
        torch.set_num_threads(1)
        G.mapping.w_avg.fill_(world.rank) # Each process has its own.
        regrouped(G, agreement=Agreement(2), rank=world.rank)
        torch.save(groups(G), tmp_path / f'{world.rank}.pt')
        torch.distributed.destroy_process_group()

    assert together(tmp_path, 2, work) == [0, 0]
    for rank in range(2):
        for name, group in torch.load(tmp_path / f'{rank}.pt').items():
            assert torch.equal(group, expected[name]), name

#----------------------------------------------------------------------------
# Trainings, and what they leave.

def test_a_pickle_makes_its_images_in_an_unmodified_checkout_without_the_plugin(make_generator, make_discriminator,
        pypi_tree, tmp_path):
    G, _corner = planted_generator(make_generator)
    regrouped(G)
    data = dict(G=G, D=make_discriminator(), G_ema=G, training_set_kwargs=None, augment_pipe=None)
    (tmp_path / 'network.pkl').write_bytes(pickle.dumps(data))
    code = """if True:
        import legacy, sys, torch
        G = legacy.load_network_pkl(open(sys.argv[1], 'rb'))['G_ema']
        images = G.synthesis(torch.ones(2, G.num_ws, G.w_dim), noise_mode='const')
        torch.save([images, G.synthesis.b8.conv0.grouping.assignment], sys.argv[2])
    """
    unmodified.run(pypi_tree, code, tmp_path / 'network.pkl', tmp_path / 'seen')
    images, assignment = torch.load(tmp_path / 'seen')
    assert torch.equal(assignment, groups(G)['b8.conv0'])
    rounding.assert_close(images, G.synthesis(torch.ones(2, G.num_ws, G.w_dim), noise_mode='const'), terms=144,
        layers=8)

@pytest.mark.parametrize('inpainting', [None, dict(masks='centre')], ids=['images', 'holes'])
@pytest.mark.parametrize('gpus', [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path, gpus, inpainting):
    """Upstream itself compares the buffers of two processes, groups among them, where it saves a network.

    The last of the sixteen steps steers beta as well.
    """
    small_training.write_images(tmp_path / 'images')
    (tmp_path / 'small.toml').write_text(small_training.config(
        method=dict(grouping='effects', regroup_kimg=0.256, inter_form='exp'),
        training=dict(kimg=1, ema_rampup=0.05, batch=64), inpainting=inpainting))
    command = ['train', f'--cfg={tmp_path / "small.toml"}', f'--data={tmp_path / "images"}', '--metrics=none',
        '--device=cpu', f'--gpus={gpus}', '--checkpoint-minutes=0.0001', '--keep-states=99']
    finish(start(command, tmp_path / 'out'))
    run = last_run(tmp_path / 'out')
    again = cut_back(run, tmp_path / 'again', images=512)
    out = finish(start(command, again.parent))
    assert 'Going on from' in out and 'Inter/beta' in (again / 'stats.jsonl').read_text()
    assert_equal_runs(again, run)

#----------------------------------------------------------------------------
