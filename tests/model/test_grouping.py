"""Whether groups find the clusters of kernels, follow them when they move, and otherwise stay as they are."""

import copy

import PIL.Image
import pytest
import torch
from click.testing import CliRunner

from sarigan_plugin.commands.train import main
from sarigan_plugin.errors import UserError
from sarigan_plugin.losses.sarigan import TARGET_STEPS, SariGANLoss
from sarigan_plugin.model import grouping as sgm
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.model.grouping import ChannelGrouping, KMeansGrouping, MergingGrouping
from sarigan_plugin.support.toml import typed
from sarigan_plugin.trainer.options import NumGroups, Threshold

LEARNING_RATE = 0.002 # The paper's training.

def adjusted_rand_index(a, b):
    """Agreement of two partitions, [C] each: 1 = equal up to names,
    0 = as expected by chance (Hubert and Arabie 1985)."""
    table = torch.nn.functional.one_hot(a).double().t() @ torch.nn.functional.one_hot(b).double()
    pairs = lambda counts: (counts * (counts - 1) / 2).sum()
    both, in_a, in_b, total = pairs(table), pairs(table.sum(dim=1)), pairs(table.sum(dim=0)), len(a) * (len(a) - 1) / 2
    chance = in_a * in_b / total
    return ((both - chance) / ((in_a + in_b) / 2 - chance)).item()

class Planted:
    """Kernels [C, 9C] in clusters: cosine w^2 / (1 + w^2) inside a cluster, so 0.5 at w = 1, and 0 between them."""
    def __init__(self, num_channels, num_clusters, seed):
        generator = torch.Generator().manual_seed(seed)
        self.truth = torch.arange(num_channels) % num_clusters
        self.centres = torch.randn(num_clusters, 9 * num_channels, generator=generator)
        self.noise = torch.randn(num_channels, 9 * num_channels, generator=generator)

    def kernels(self, weight=1.0):
        return self.noise + weight * self.centres[self.truth]

def same_angles(kernels):
    """[C, d] -> [C, C] with the same cosines, which is all that the grouping reads, in less time."""
    return torch.linalg.cholesky((kernels @ kernels.t()).double()).float()

class Trainer:
    """The grouping loss alone, as SariGANLoss weights and counts it."""
    def __init__(self, grouping, lambda_group=2):
        self.grouping = grouping
        self.lambda_group = lambda_group
        self.optimizer = torch.optim.Adam(grouping.parameters(), lr=LEARNING_RATE, betas=(0.0, 0.99))

    def train(self, kernels, steps):
        for step in range(steps):
            self.grouping.steps.add_(1)
            if step % TARGET_STEPS == 0:
                target = self.grouping.target(kernels)
            loss, _threshold = self.grouping.loss(target)
            self.optimizer.zero_grad()
            (self.lambda_group * self.grouping.num_channels * loss).backward()
            self.optimizer.step()

def sizes(grouping):
    return grouping.assignment.bincount(minlength=grouping.num_groups)

def learn_planted(num_channels, seed, **options):
    """Train for 3000 steps or until the clusters are found. Returns (adjusted Rand index, steps, grouping)."""
    planted = Planted(num_channels, 16, seed)
    torch.manual_seed(seed)
    trainer = Trainer(ChannelGrouping(num_channels, 16, **options))
    kernels = same_angles(planted.kernels())
    for step in range(250, 3001, 250):  # noqa: B007
        trainer.train(kernels, 250)
        index = adjusted_rand_index(trainer.grouping.assignment, planted.truth)
        if index >= 0.99:
            break
    return index, step, trainer.grouping

#----------------------------------------------------------------------------
# The measure itself.

def test_rand_index_is_one_for_renamed_groups_and_the_textbooks_number_for_others():
    assert adjusted_rand_index(torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([2, 2, 0, 0, 1, 1])) == pytest.approx(1)
    # 1 - 1/3 over 3/2 - 1/3.
    assert adjusted_rand_index(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 2])) == pytest.approx(4 / 7)
    assert adjusted_rand_index(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])) == pytest.approx(-1 / 2)

#----------------------------------------------------------------------------
# Learned groups.

@pytest.mark.parametrize('threshold', ['auto', 0.25, 'learned'])
def test_every_way_to_set_the_threshold_recovers_planted_clusters(threshold):
    for seed in range(3):
        index, _step, grouping = learn_planted(64, seed, threshold=threshold)
        assert index >= 0.99
        assert sizes(grouping).min() > 0 and sizes(grouping).max() <= 2 * 64 / 16

@pytest.mark.slow
@pytest.mark.parametrize('num_channels', [64, 512])
def test_all_of_fifteen_seeds_recover_planted_clusters(num_channels):
    found = [learn_planted(num_channels, seed) for seed in range(15)]
    print(f'C={num_channels}: lowest index {min(f[0] for f in found):.3f}, most steps {max(f[1] for f in found)}')
    for index, _step, grouping in found:
        assert index >= 0.99
        assert sizes(grouping).min() > 0 and sizes(grouping).max() <= 2 * num_channels / 16

@pytest.mark.parametrize('num_channels, seeds',
    [(64, 1), *[pytest.param(channels, 3, marks=pytest.mark.slow) for channels in [64, 512]]])
def test_random_kernels_leave_no_group_empty_or_huge(num_channels, seeds):
    for seed in range(seeds):
        torch.manual_seed(seed)
        trainer = Trainer(ChannelGrouping(num_channels, 16))
        trainer.train(same_angles(torch.randn(num_channels, 9 * num_channels)), 3000)
        print(f'C={num_channels}: sizes {sizes(trainer.grouping).min()} to {sizes(trainer.grouping).max()}')
        assert sizes(trainer.grouping).min() > 0 and sizes(trainer.grouping).max() <= 3 * num_channels / 16

def drift(trainer, planted, random_steps):
    """Random kernels for so many steps, clusters that grow over 2000 more, 1000 with the clusters.

    Churn of the last 1000.
    """
    trainer.train(same_angles(planted.kernels(0)), random_steps)
    for index in range(100):
        trainer.train(same_angles(planted.kernels((index + 1) / 100)), 20)
    before = trainer.grouping.assignment
    trainer.train(same_angles(planted.kernels()), 1000)
    return (trainer.grouping.assignment != before).float().mean().item()

@pytest.mark.parametrize('num_channels, random_steps',
    [(64, 2000), *[pytest.param(*sizes, marks=pytest.mark.slow) for sizes in [(64, 0), (512, 0), (512, 2000)]]])
def test_groups_follow_kernels_that_drift_from_random_to_clustered_and_then_stay(num_channels, random_steps):
    planted = Planted(num_channels, 16, seed=1)
    trainer = Trainer(ChannelGrouping(num_channels, 16))
    churn = drift(trainer, planted, random_steps)
    index = adjusted_rand_index(trainer.grouping.assignment, planted.truth)
    print(f'C={num_channels}, {random_steps} random steps: index {index:.3f}, churn {churn:.3f}')
    assert index >= 0.99
    assert churn < 0.02

def test_the_weight_of_the_grouping_loss_changes_nothing_under_adam():
    kernels = same_angles(Planted(64, 16, seed=0).kernels(weight=0.5))
    found = []
    for weight in [2, 20, 200]:
        torch.manual_seed(0)
        trainer = Trainer(ChannelGrouping(64, 16), weight)
        trainer.train(kernels, 500)
        found.append(trainer.grouping.assignment)
    assert torch.equal(found[0], found[1]) and torch.equal(found[1], found[2])

def test_inertia_keeps_groups_while_unrelated_kernels_turn():
    churn = dict()
    for inertia in [0, 3]:
        torch.manual_seed(0)
        trainer = Trainer(ChannelGrouping(64, 16, inertia=inertia))
        trainer.grouping.steps.fill_(20000) # Late in a training.
        kernels = torch.randn(64, 576)
        trainer.train(kernels, 500)
        before = trainer.grouping.assignment
        for _turn in range(50): # By 45 degrees in all.
            kernels = kernels + torch.randn_like(kernels) / 50 ** 0.5
            trainer.train(kernels, 20)
        churn[inertia] = (trainer.grouping.assignment != before).float().mean().item()
    assert churn[0] > 0.5 and churn[3] < 0.2

def test_inertia_grows_with_the_steps_of_training_and_monitoring_does_not_count():
    grouping = ChannelGrouping(16, 4)
    kernels = torch.randn(16, 50)
    fresh = grouping.loss(grouping.target(kernels))[1].item()
    assert grouping.loss(grouping.target(kernels))[1].item() == fresh == (
        sgm.similarity_threshold(sgm.cosine_similarity(kernels), 4).item())
    grouping.steps.fill_(4000)
    assert grouping.loss(grouping.target(kernels))[1].item() > fresh

def test_a_training_step_counts_once_however_many_rounds_it_takes(make_generator, make_discriminator):
    G, D = make_generator().train(), make_discriminator().train()
    loss = SariGANLoss('cpu', G.mapping, G.synthesis, D)
    train_steps(loss, G, steps=3, rounds=2)
    assert {layer.grouping.steps.item() for _name, layer, _source in grouped_layers(G.synthesis)} == {3}

def train_steps(loss, G, steps, rounds=1):
    """The generator's main phase, batches of 4 images a round; nothing is updated but what the loss itself updates."""
    c = torch.zeros(4, 0)
    for _step in range(steps):
        for index in range(rounds):
            loss.accumulate_gradients(phase='Gmain', real_img=torch.zeros(4, 3, 32, 32), real_c=c,
                gen_z=torch.randn(4, G.z_dim), gen_c=c, sync=(index == rounds - 1), gain=1)

#----------------------------------------------------------------------------
# Responses in the place of kernels.

def test_cosines_of_responses_are_the_correlations_of_feature_maps():
    features = torch.randn(3, 5, 8, 8, requires_grad=True) + 10 * torch.arange(5)[:, None, None]
    responses = sgm.channel_responses(features)
    assert responses.shape == (5, 3 * 64) and not responses.requires_grad
    torch.testing.assert_close(sgm.cosine_similarity(responses),
        torch.corrcoef(features.detach().transpose(0, 1).flatten(1)), rtol=1e-4, atol=1e-5)

def test_of_large_feature_maps_every_so_many_pixels_are_compared():
    features = torch.randn(2, 3, 256, 256, dtype=torch.float16)
    responses = sgm.channel_responses(features)
    assert responses.shape == (3, 2 * 64 * 64) and responses.dtype == torch.float32
    torch.testing.assert_close(responses[1] + features[:, 1, ::4, ::4].float().mean(),
        features[:, 1, ::4, ::4].flatten().float(), rtol=1e-4, atol=1e-4)

def test_channels_that_respond_in_the_same_places_form_groups():
    truth = torch.arange(64) % 16
    trainer = Trainer(ChannelGrouping(64, 16))
    for _step in range(10): # Other images each time, in which other places are alike.
        features = torch.randn(4, 16, 16, 16)[:, truth] + torch.randn(4, 64, 16, 16)
        trainer.train(same_angles(sgm.channel_responses(features)), 150)
    assert adjusted_rand_index(trainer.grouping.assignment, truth) >= 0.99

@pytest.mark.parametrize('similarity', ['kernels', 'responses'])
def test_targets_are_made_anew_every_few_steps_from_what_the_config_names(make_generator, make_discriminator,
        monkeypatch, similarity):
    shown, look = [], ChannelGrouping.target
    monkeypatch.setattr(ChannelGrouping, 'target',
        lambda self, kernels: (shown.append(kernels), look(self, kernels))[1])
    G, D = make_generator().train(), make_discriminator().train()
    read = dict()
    for name, layer, _source in grouped_layers(G.synthesis):
        layer.register_forward_pre_hook(lambda _layer, args, name=name: read.update({name: args[0]}))
    loss = SariGANLoss('cpu', G.mapping, G.synthesis, D, similarity=similarity)
    for steps in [1, TARGET_STEPS]: # The first target of all, and the next.
        train_steps(loss, G, steps=steps, rounds=2)
        for kernels, (name, _layer, source) in zip(shown, grouped_layers(G.synthesis)):
            # Of the last round.
            assert torch.equal(kernels, source.weight if similarity == 'kernels' else sgm.channel_responses(read[name]))
        assert len(shown) == 6
        shown.clear()
    assert all(layer.grouping.logits.grad.abs().max() > 0 for _name, layer, _source in grouped_layers(G.synthesis))

def test_groups_by_responses_send_images_no_gradient(make_generator, make_discriminator):
    gradients = []
    for weight in [0, 2]:
        torch.manual_seed(0)
        G, D = make_generator().train(), make_discriminator().train()
        train_steps(SariGANLoss('cpu', G.mapping, G.synthesis, D, similarity='responses',
            lambda_group=weight), G, steps=1)
        gradients.append({name: p.grad for name, p in G.named_parameters() if '.grouping.' not in name})
    assert all(torch.equal(gradient, gradients[1][name]) for name, gradient in gradients[0].items())

def test_the_loss_knows_two_similarities(make_generator, make_discriminator):
    G, D = make_generator(), make_discriminator()
    with pytest.raises(ValueError, match="similarity must be 'kernels' or 'responses', not 'taps'"):
        SariGANLoss('cpu', G.mapping, G.synthesis, D, similarity='taps')

#----------------------------------------------------------------------------
# Several layers at once.

def test_layers_have_together_the_losses_and_gradients_that_each_has_alone():
    groupings = [*[ChannelGrouping(16, 4) for _ in range(3)], ChannelGrouping(24, 4), MergingGrouping(16, 4),
        *[ChannelGrouping(16, 4, threshold='learned') for _ in range(2)],
        ChannelGrouping(16, 4, threshold=0.1)]
    groupings[4].merged_into[3] = 1
    targets = []
    for grouping in groupings:
        with torch.no_grad():
            grouping.double().logits.copy_(torch.randn_like(grouping.logits))
            grouping.temperature_logit.copy_(torch.randn([]))
        targets.append(grouping.target(torch.randn(grouping.num_channels, 90).double()))
    parameters = [p for grouping in groupings for p in grouping.parameters()]
    weights = torch.linspace(1, 2, len(groupings)).double()
    together = sgm.grouping_losses(groupings, targets)
    alone = torch.stack([grouping.loss(target)[0] for grouping, target in zip(groupings, targets)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=0)
    for ours, theirs in zip(*[torch.autograd.grad((weights * losses).sum(), parameters)
            for losses in [together, alone]], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)

#----------------------------------------------------------------------------
# Thresholds.

def test_fixed_threshold_is_used_as_it_is():
    kernels = torch.randn(16, 50)
    grouping = ChannelGrouping(16, 4, threshold=0.1)
    loss, threshold = grouping.loss(grouping.target(kernels))
    similar = (sgm.cosine_similarity(kernels) >= 0.1).float()
    assert threshold.item() == pytest.approx(0.1)
    torch.testing.assert_close(loss, sgm.grouping_loss(grouping.probabilities(), similar))

def test_learned_threshold_comes_to_where_c_over_g_channels_are_similar():
    similarity = sgm.cosine_similarity(torch.randn(64, 576))
    grouping = ChannelGrouping(64, 16, threshold='learned', inertia=0)
    with torch.no_grad():
        grouping.learned_threshold.fill_(-0.1)
    Trainer(grouping).train(torch.linalg.cholesky(similarity.double()).float(), 1500)
    ones = sgm.soft_step(similarity, grouping.learned_threshold, 16)[0].sum().item()
    assert ones == pytest.approx(64 * 64 / 16, rel=0.1) # One step of Adam, 0.002, changes the number by 9%.

def test_the_soft_step_is_the_hard_one_away_from_the_threshold():
    similarity = torch.tensor([[1.0, -0.2], [-0.2, 1.0]])
    similar, excess = sgm.soft_step(similarity, torch.tensor(0.4), 4)
    torch.testing.assert_close(similar, torch.eye(2), atol=1e-6, rtol=0)
    assert excess.item() == pytest.approx((1 / 2 - 1 / 4) ** 2)

def test_images_send_the_learned_threshold_a_gradient_of_zero_as_ddp_requires():
    grouping = ChannelGrouping(8, 2, threshold='learned')
    styles = torch.randn(3, 8, requires_grad=True)
    attached = grouping.attach(styles)
    assert torch.equal(attached, styles)
    attached.square().sum().backward()
    assert torch.equal(styles.grad, 2 * styles)
    assert all(p.grad is not None and p.grad.abs().max() == 0 for p in grouping.parameters())
    assert not grouping().requires_grad

@pytest.mark.parametrize('value, expected', [('auto', 'auto'), ('learned', 'learned'), ('0.1', 0.1), (-1, -1.0)])
def test_threshold_is_read_from_text_or_number(value, expected):
    assert typed('threshold', Threshold, value) == expected

@pytest.mark.parametrize('value', ['best', '1.5', 'nan', True, None])
def test_a_wrong_threshold_is_answered_with_the_choices(value):
    with pytest.raises(UserError, match=r'^threshold must be auto, learned or a number in \[-1, 1\], not '):
        typed('threshold', Threshold, value)
    with pytest.raises(ValueError, match="threshold must be 'auto', 'learned' or a number in"):
        ChannelGrouping(8, 2, threshold='1.5')

#----------------------------------------------------------------------------
# k-means.

@pytest.mark.parametrize('num_channels', [64, 512])
def test_kmeans_finds_planted_clusters_of_any_size_up_to_twice_the_average(num_channels):
    for seed in range(5):
        planted = Planted(num_channels, 16, seed)
        unequal = torch.tensor([num_channels // 32] * 8 + [3 * num_channels // 32] * 8)
        for truth in [planted.truth, torch.repeat_interleave(torch.arange(16), unequal)]:
            planted.truth = truth
            grouping = KMeansGrouping(num_channels, 16)
            grouping.refresh(planted.kernels())
            assert adjusted_rand_index(grouping.assignment, planted.truth) == pytest.approx(1)

def test_kmeans_groups_are_never_empty_nor_more_than_twice_the_average():
    for kernels in [torch.randn(64, 576), torch.zeros(64, 576), torch.ones(64, 576), torch.eye(64)]:
        grouping = KMeansGrouping(64, 16)
        grouping.refresh(kernels)
        assert sizes(grouping).min() > 0 and sizes(grouping).max() <= 8

def test_kmeans_follows_kernels_that_cluster_and_keeps_the_names_of_groups():
    planted = Planted(64, 16, seed=0)
    grouping = KMeansGrouping(64, 16)
    for weight in [0, 0.4, 0.8]:
        grouping.refresh(planted.kernels(weight))
    assert adjusted_rand_index(grouping.assignment, planted.truth) == pytest.approx(1)
    before = grouping.assignment.clone()
    grouping.refresh(planted.kernels() + 0.1 * torch.randn(64, 576))
    assert torch.equal(grouping.assignment, before)
    planted.truth = planted.truth.clone()
    planted.truth[:4] = planted.truth[:4].roll(1) # Four channels change places.
    grouping.refresh(planted.kernels())
    assert (grouping.assignment != before).nonzero().flatten().tolist() == [0, 1, 2, 3]

def test_renamed_groups_take_the_names_of_those_they_share_most_channels_with():
    previous = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    found = torch.tensor([2, 2, 2, 2, 0, 1, 1, 1])
    assert sgm.renamed_groups(found, previous, 3).tolist() == [0, 0, 0, 0, 1, 2, 2, 2]

def test_kmeans_draws_no_random_numbers_so_that_ranks_agree():
    kernels = torch.randn(64, 576)
    first, second = KMeansGrouping(64, 16), KMeansGrouping(64, 16)
    state = torch.get_rng_state()
    first.refresh(kernels)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(123)
    second.refresh(kernels)
    assert torch.equal(first.assignment, second.assignment)

def test_kmeans_is_refreshed_by_the_first_step_and_then_every_so_many_images(make_generator,
        make_discriminator, monkeypatch):
    calls = []
    monkeypatch.setattr(KMeansGrouping, 'refresh', lambda self, kernels: calls.append(len(kernels)))
    G, D = make_generator(grouping='kmeans'), make_discriminator()
    G.synthesis.train()
    loss = SariGANLoss('cpu', G.mapping, G.synthesis, D, regroup_kimg=0.016)
    counts = []
    for _step in range(7): # Of 8 images each.
        train_steps(loss, G, steps=1, rounds=2)
        counts.append(len(calls) // len(grouped_layers(G.synthesis)))
    assert counts == [1, 1, 2, 2, 3, 3, 4]

def test_kmeans_groups_of_a_network_that_goes_on_stay_until_so_many_images(make_generator, make_discriminator):
    G, D = make_generator(grouping='kmeans'), make_discriminator()
    first, *others = [layer.grouping for _name, layer, _source in grouped_layers(G.synthesis)]
    for _name, layer, source in grouped_layers(G.synthesis)[1:]:
        layer.grouping.refresh(source.weight)
        source.weight.data.normal_() # The next refresh finds other groups.
    found = [grouping.assignment.clone() for grouping in others]
    stay = lambda: [torch.equal(grouping.assignment, before) for grouping, before in zip(others, found)]
    loss = SariGANLoss('cpu', G.mapping, G.synthesis.train(), D, regroup_kimg=0.008)
    train_steps(loss, G, steps=2) # Of 4 images each.
    assert all(stay()) and first.is_settled # Nobody had found this layer's.
    train_steps(loss, G, steps=1)
    assert stay().count(False) >= 4 # Random kernels two to a group are as good in these groups as in others.

def test_kmeans_groups_live_in_the_pickle(make_generator):
    G = make_generator(grouping='kmeans')
    for _name, layer, source in grouped_layers(G.synthesis):
        layer.grouping.refresh(source.weight)
    again = copy.deepcopy(make_generator(grouping='kmeans'))
    again.load_state_dict(G.state_dict())
    ws = torch.randn(1, G.num_ws, G.w_dim)
    assert torch.equal(again.synthesis(ws, noise_mode='const'), G.synthesis(ws, noise_mode='const'))

#----------------------------------------------------------------------------
# The number of groups, learned.

def find_number(grouping, planted, steps):
    """As SariGANLoss does it: the grouping loss, and merging every 250 steps."""
    trainer = Trainer(grouping)
    kernels = same_angles(planted.kernels())
    for step in range(250, steps + 1, 250):
        trainer.train(kernels, 250)
        if step >= sgm.MERGE_AFTER:
            grouping.merge(kernels)
    return len(grouping.live_groups)

@pytest.mark.parametrize('num_channels, seeds',
    [(64, 1), pytest.param(64, 10, marks=pytest.mark.slow), pytest.param(512, 2, marks=pytest.mark.slow)])
@pytest.mark.parametrize('num_clusters', [8, pytest.param(16, marks=pytest.mark.slow), 24])
def test_merging_finds_the_number_of_planted_clusters_from_32(num_channels, num_clusters, seeds):
    for seed in range(seeds):
        torch.manual_seed(seed)
        grouping = MergingGrouping(num_channels, 32)
        planted = Planted(num_channels, num_clusters, seed)
        found = find_number(grouping, planted, steps=2500)
        index = adjusted_rand_index(grouping.assignment, planted.truth)
        print(f'C={num_channels}, {num_clusters} clusters, seed {seed}: {found} groups, index {index:.3f}')
        assert abs(found - num_clusters) <= 1 and index > 0.8 # 0.84 where two of eight clusters are one group.
        assert set(grouping.assignment.tolist()) == set(grouping.live_groups.tolist())

def test_random_kernels_of_wide_layers_keep_all_groups():
    grouping = MergingGrouping(256, 32)
    kernels = same_angles(torch.randn(256, 2304))
    Trainer(grouping).train(kernels, 100)
    grouping.merge(kernels)
    assert len(grouping.live_groups) >= 30

def test_halves_of_a_cluster_merge_and_clusters_do_not():
    grouping = MergingGrouping(12, 6)
    truth = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2])
    kernels = torch.eye(3)[truth] + 0.1 * torch.eye(12)[:, :3]
    with torch.no_grad(): # The second cluster in halves, the third in a part and a single channel; one group is empty.
        grouping.logits.copy_(5 * torch.nn.functional.one_hot(torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 4]), 6))
    merged = grouping.merge(kernels)
    assert {frozenset(pair[:2]): pair[2] for pair in merged if 5 not in pair[:2]} == {frozenset([1, 2]): 0.5,
        frozenset([3, 4]): 0.25}
    assert len(grouping.live_groups) == 3 and 5 not in grouping.live_groups
    assert adjusted_rand_index(grouping.assignment, truth) == 1
    assert grouping.merge(kernels) == []

def test_groups_that_merged_have_the_probabilities_of_both():
    grouping = MergingGrouping(8, 4)
    apart = grouping.probabilities()
    grouping.merged_into[3] = 1
    together = grouping.probabilities()
    torch.testing.assert_close(together,
        torch.stack([apart[:, 0], apart[:, 1] + apart[:, 3], apart[:, 2], torch.zeros(8)], dim=1))
    similarity = sgm.cosine_similarity(kernels := torch.randn(8, 50))
    assert grouping.loss(grouping.target(kernels))[1] == sgm.similarity_threshold(similarity, 3)

@pytest.fixture
def make_halved(make_generator):
    """make_halved(**options) -> a generator in whose first grouped layer eight groups of four channels are four
    clusters."""
    def make(**options):
        G = make_generator(num_groups='auto', synthesis_kwargs=dict(channel_base=512, channel_max=32),
            **options).requires_grad_(False)
        _name, layer, source = grouped_layers(G.synthesis)[0]
        layer.grouping.logits.copy_(5 * torch.nn.functional.one_hot(torch.arange(32) // 4, 16))
        source.weight.copy_(torch.nn.functional.one_hot(torch.arange(32) // 8, 32)[:, :, None, None]
            + 0.01 * torch.randn_like(source.weight))
        layer.affine.weight.zero_() # All intra styles equal one.
        if options.get('norm') == 'feature':
            layer.shift.weight.zero_()
        return G
    return make

def assert_styles_stay(layer, merge, w):
    """merge() leaves the mean style, and shift, of each of the four clusters as it is."""
    means = lambda: [numbers.unflatten(1, [4, 8]).mean(dim=2)
        for numbers in torch.stack([*layer.styles(w)]).view(-1, len(w), 32)]
    before = means()
    merge()
    assert len(layer.grouping.live_groups) == 4
    for old, new in zip(before, means(), strict=True):
        torch.testing.assert_close(new, old)

@pytest.mark.parametrize('norm', ['weight', 'feature'])
def test_styles_change_little_where_equal_groups_merge(make_halved, norm):
    G = make_halved(norm=norm)
    name, layer, source = grouped_layers(G.synthesis)[0]
    assert name == 'b8.conv0'
    assert_styles_stay(layer, lambda: layer.merge_groups(source.weight), torch.randn(5, G.w_dim))

@pytest.mark.parametrize('norm', ['weight', 'feature'])
def test_the_average_of_networks_whose_groups_merge_keeps_its_styles_as_well(make_halved, make_discriminator, norm):
    # Upstream's average takes buffers at once, and so what has merged, but of weights a part.
    G = make_halved(norm=norm)
    G_ema = copy.deepcopy(G)
    for rows in grouped_layers(G.synthesis)[0][1].group_affine.parameters():
        rows.add_(torch.randn_like(rows)) # The average lags behind.
    layer, average = [grouped_layers(network.synthesis)[0][1] for network in [G, G_ema]]
    layer.grouping.steps.fill_(sgm.MERGE_AFTER)
    loss = SariGANLoss('cpu', G.mapping, G.synthesis.train().requires_grad_(True), make_discriminator(),
        regroup_kimg=0.001)
    loss.set_average(G_ema)
    def step(share):
        train_steps(loss, G, steps=1)
        with torch.no_grad(): # As training_loop.py does after each iteration.
            for ours, theirs in zip(G_ema.parameters(), G.parameters()):
                ours.lerp_(theirs, share)
            for ours, theirs in zip(G_ema.buffers(), G.buffers()):
                ours.copy_(theirs)
    assert_styles_stay(average, lambda: step(0), torch.randn(5, G.w_dim))
    step(1)
    assert torch.equal(average.group_affine.weight, layer.group_affine.weight)

def test_training_merges_from_the_thousandth_step_and_every_so_many_images(make_generator,
        make_discriminator, monkeypatch):
    calls = []
    monkeypatch.setattr(MergingGrouping, 'merge', lambda self, kernels: calls.append(len(kernels)) or [])
    G, D = make_generator(num_groups='auto').train(), make_discriminator()
    loss = SariGANLoss('cpu', G.mapping, G.synthesis, D, regroup_kimg=0.008)
    layers = grouped_layers(G.synthesis)
    for _name, layer, _source in layers:
        layer.grouping.steps.fill_(sgm.MERGE_AFTER - 3)
    counts = []
    for _step in range(6): # Of 4 images each.
        train_steps(loss, G, steps=1)
        counts.append(len(calls) // len(layers))
    assert counts == [0, 0, 1, 1, 2, 2]

def test_merged_groups_live_in_the_pickle_and_images_send_gradients_of_zero(make_generator):
    G = make_generator(num_groups='auto')
    for _name, layer, _source in grouped_layers(G.synthesis):
        assert layer.grouping.num_groups == layer.grouping.num_channels // 2
        layer.grouping.merged_into[1] = 0
    again = make_generator(num_groups='auto')
    again.load_state_dict(G.state_dict())
    ws = torch.randn(1, G.num_ws, G.w_dim)
    assert torch.equal(again.synthesis(ws, noise_mode='const'), G.synthesis(ws, noise_mode='const'))
    G.requires_grad_(True).synthesis(ws).sum().backward()
    assert all(p.grad is not None for p in G.synthesis.parameters())

#----------------------------------------------------------------------------
# Numbers of groups by layer.

def test_number_of_groups_goes_by_layer_then_by_resolution(make_generator):
    for number in [{8: 2, 16: 4, 32: 8, 'b32.conv1': 3}, {'8': 2, '16': 4, '32': 8, 'b32.conv1': 3}]:
        G = make_generator(num_groups=number, synthesis_kwargs=dict(channel_base=512, channel_max=16))
        found = {name: (layer.grouping.num_groups, layer.group_affine.weight.shape[0])
            for name, layer, _source in grouped_layers(G.synthesis)}
        assert found == {'b8.conv0': (2, 2), 'b8.conv1': (2, 2), 'b16.conv0': (4, 4), 'b16.conv1': (4, 4),
            'b32.conv0': (8, 8), 'b32.conv1': (3, 3)}
        assert G(torch.randn(1, G.z_dim), None).isfinite().all()

def test_a_layer_without_a_number_of_groups_is_named(make_generator):
    with pytest.raises(ValueError, match='num_groups has neither b32.conv0 nor 32'):
        make_generator(num_groups={8: 2, 16: 4, 'b32.conv1': 3})

@pytest.mark.parametrize('value, expected', [(8, 8), ('8', 8), ('auto', 'auto'),
    ('8:16, 16:8,b32.conv0:4', {'8': 16, '16': 8, 'b32.conv0': 4}), ({'8': 4}, {'8': 4})])
def test_number_of_groups_is_read_from_text_integer_or_table(value, expected):
    assert typed('--num-groups', NumGroups, value) == expected

#----------------------------------------------------------------------------
# What a user types.

KMEANS = 'grouping = "kmeans"\n'
EFFECTS = 'grouping = "effects"\n'
RESPONSES = 'similarity = "responses"\n'

@pytest.mark.parametrize('option, method, sentence', [
    ('--num-groups=8:4,16', '', "--num-groups must be an integer, auto, "
        "or RESOLUTION:INTEGER or LAYER:INTEGER pairs as in 8:16,16:8,b32.conv0:4, not '8:4,16'"),
    ('--num-groups=8:4,16:4,32:4', '', '--num-groups must have a number for each of the resolutions 8, 16, 32, 64, '
        'or for both layers of one; b64.conv1 has none'),
    ('--num-groups=8:0,16:4,32:4,64:4', '', '--num-groups of 8 must be at least 1, not 0'),
    ('--num-groups=8:4,16:4,32:4,64:9', '',
        '--num-groups must be between 1 and 8, the channels of the layers at 64x64, not 9'),
    ('--num-groups=8:4,16:4,32:99,64:4', '',
        '--num-groups must be between 1 and 16, the channels of the layers at 32x32, not 99'),
    ('--num-groups=8:4,16:4,32:4,64:4,128:4', '',
        '--num-groups: 128 is none of the resolutions 8, 16, 32, 64, nor a layer such as b8.conv0'),
    ('', 'num_groups = "auto"\n' + KMEANS, '--num-groups=auto: only with --grouping=similarity, not kmeans'),
    ('--num-groups=auto', RESPONSES, 'similarity=responses needs a number for --num-groups, not auto'),
    ('', KMEANS + RESPONSES, 'similarity=responses needs --grouping=similarity, not kmeans'),
    ('', KMEANS + 'regroup_kimg = 0\n', 'regroup_kimg must be more than 0, not 0'),
    ('', EFFECTS + 'regroup_kimg = 0\n', 'regroup_kimg must be more than 0, not 0'),
    ('--num-groups=auto', EFFECTS, '--num-groups=auto: only with --grouping=similarity, not effects'),
    ('--grouping=effects', RESPONSES, 'similarity=responses needs --grouping=similarity, not effects'),
    ('', 'similarity = "effects"\n', "{cfg}: similarity must be one of kernels, responses, not 'effects'"),
    ('', 'threshold = "best"\n', "{cfg}: threshold must be auto, learned or a number in [-1, 1], not 'best'"),
    ('', 'threshold = 2\n', '{cfg}: threshold must be auto, learned or a number in [-1, 1], not 2'),
    ('', 'inertia = -1\n', '{cfg}: inertia must be at least 0, not -1.0'),
])
def test_a_mistake_gets_one_sentence_and_exit_code_2(tmp_path, option, method, sentence):
    (tmp_path / 'images').mkdir()
    for index in range(2):
        PIL.Image.new('RGB', (64, 64), (index, 0, 0)).save(tmp_path / 'images' / f'{index}.png')
    cfg = tmp_path / 'mine.toml'
    cfg.write_text(f'base = "tiny"\n[method]\n{method}')
    done = CliRunner().invoke(main, [f'--cfg={cfg}', f'--data={tmp_path / "images"}', f'--outdir={tmp_path / "out"}',
        *option.split()])
    assert done.exit_code == 2
    assert done.stderr.strip().splitlines()[-1] == f'Error: {sentence.format(cfg=cfg)}'
    assert not (tmp_path / 'out').exists()

#----------------------------------------------------------------------------
