"""The objective of Eq. 7-8, phase by phase, beside upstream's own loss."""

import copy
import math

import pytest
import torch

import rounding
from sarigan_plugin.losses.sarigan import TARGET_STEPS, SariGANLoss, info_losses, info_targets
from sarigan_plugin.losses.shared_weights import SharedWeights
from sarigan_plugin.losses.upstream import UpstreamLoss
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.model.networks import SynthesisLayer
from sarigan_plugin.model.running_figures import follow_styles
from sarigan_plugin.model.styles_at_once import styles_at_once
from small_networks import SIZE

from torch_utils import training_stats
from training.loss import StyleGAN2Loss

PHASES = ['Gmain', 'Greg', 'Gboth', 'Dmain', 'Dreg', 'Dboth']

def run_phase(loss_class, G, D, phase, rounds=1, seed=0, **kwargs):
    """Gradients {name: tensor} that one phase leaves in its module, and the loss object."""
    loss = loss_class('cpu', G.mapping, G.synthesis, D, **kwargs)
    module = G if phase.startswith('G') else D
    for network in [G, D]:
        network.train().requires_grad_(network is module).zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    c = torch.zeros(4, 0)
    for i in range(rounds):
        loss.accumulate_gradients(phase=phase, real_img=torch.rand(4, 3, 32, 32) * 2 - 1, real_c=c,
            gen_z=torch.randn(4, G.z_dim), gen_c=c, sync=(i == rounds - 1), gain=1)
    return {name: p.grad for name, p in module.named_parameters()}, loss

def train(loss, G, D, steps):
    """So many steps of G's main and regularising phase, the same numbers every time. Returns the last gradients."""
    G.train().requires_grad_(True)
    torch.manual_seed(1)
    c = torch.zeros(4, 0)
    for _step in range(steps):
        G.zero_grad(set_to_none=True)
        for phase in ['Gmain', 'Greg']:
            loss.accumulate_gradients(phase=phase, real_img=torch.zeros(4, 3, 32, 32), real_c=c,
                gen_z=torch.randn(4, G.z_dim), gen_c=c, sync=True, gain=1)
    return {name: parameter.grad for name, parameter in G.named_parameters()}

#----------------------------------------------------------------------------

@pytest.mark.parametrize('phase', PHASES)
def test_without_its_own_terms_the_loss_is_upstreams(make_generator, make_discriminator, phase):
    G, D = make_generator(), make_discriminator()
    G2, D2 = copy.deepcopy(G), copy.deepcopy(D)
    ours, our_loss = run_phase(SariGANLoss, G, D, phase, lambda_group=0, lambda_info=0)
    theirs, their_loss = run_phase(StyleGAN2Loss, G2, D2, phase)
    torch.testing.assert_close(our_loss.pl_mean, their_loss.pl_mean, rtol=1e-6, atol=0)
    for name, gradient in theirs.items():
        if gradient is not None: # Upstream's loss never reaches Q.
            # Sums of fakes and reals in another order, through both networks.
            rounding.assert_close(ours[name], gradient, terms=16 * 9, layers=16, name=name)
        else:
            assert name.startswith('q.') and ours[name].abs().max() == 0

@pytest.mark.parametrize('phase', PHASES)
def test_every_parameter_gets_a_gradient_in_every_phase_as_ddp_requires(make_generator, make_discriminator, phase):
    gradients, _loss = run_phase(SariGANLoss, make_generator(), make_discriminator(), phase)
    assert [name for name, gradient in gradients.items() if gradient is None] == []

def test_each_layers_threshold_is_reported(make_generator, make_discriminator):
    collector = training_stats.Collector(regex='Grouping/.*/threshold')
    run_phase(SariGANLoss, make_generator(), make_discriminator(), 'Gmain')
    collector.update()
    assert collector.names() == [f'Grouping/b{res}.{conv}/threshold' for res in [8, 16, 32]
        for conv in ['conv0', 'conv1']]
    assert all(0 < collector.mean(name) < 1 for name in collector.names()) # A quarter of all pairs is more alike.

#----------------------------------------------------------------------------
# Info loss (Eq. 8).

def test_info_loss_is_the_squared_error_of_each_code():
    predicted, codes = torch.randn(3, 10), torch.randn(3, 1, 10).repeat(1, 7, 1)
    inter, intra = info_losses(predicted, info_targets(codes))
    torch.testing.assert_close(inter, (predicted - codes[:, 0])[:, :5].square().mean(dim=1))
    torch.testing.assert_close(intra, (predicted - codes[:, 0])[:, 5:].square().mean(dim=1))

def test_info_loss_is_minus_log_q_for_each_dimension_of_a_code(make_generator, make_discriminator):
    G, D = make_generator(), make_discriminator() # Codes of 32.
    loss = SariGANLoss('cpu', G.mapping, G.synthesis, D, lambda_info=7)
    predicted, codes = torch.randn(5, 64), torch.randn(5, 1, 64).expand(-1, G.num_ws, -1)
    log_q = torch.distributions.Normal(predicted, 1).log_prob(codes[:, 0]).sum(dim=1) # Of both codes.
    expected = -(log_q + 32 * math.log(2 * math.pi)) / 32 # Less its constant.
    rounding.assert_close(loss._info_loss(predicted, codes), 7 * math.sqrt(32 / 512) * expected.mean(),
        terms=64, layers=2)

@pytest.mark.parametrize('norm', ['weight', 'feature'])
def test_styles_that_q_predicts_are_those_that_every_layer_makes_of_its_own_codes(make_generator, norm):
    G = make_generator(norm=norm).requires_grad_(False)
    ws = torch.randn(3, G.num_ws, G.w_dim) # Mixed everywhere.
    seen = dict(group_affine=[], affine=[], group_shift=[], shift=[])
    for _name, layer, _source in grouped_layers(G.synthesis):
        for name, outputs in seen.items():
            if hasattr(layer, name):
                getattr(layer, name).register_forward_hook(
                    lambda _module, _args, out, outputs=outputs: outputs.append(out))
    G.synthesis(ws)
    made = {name: list(outputs) for name, outputs in seen.items()}
    inter, intra = info_targets(ws, G.synthesis)
    layers = range(len(made['affine']))
    assert len(layers) == 6 and bool(made['shift']) == (norm == 'feature')
    assert torch.equal(inter,
        torch.cat([made[name][i] for i in layers for name in ['group_affine', 'group_shift'] if made[name]], dim=1))
    assert torch.equal(intra,
        torch.cat([made[name][i] for i in layers for name in ['affine', 'shift'] if made[name]], dim=1))
    assert all(numbers.shape == (3,) for numbers in info_losses(torch.zeros(3, inter.shape[1] + intra.shape[1]),
        (inter, intra)))

def test_styles_are_read_in_every_phase_and_not_pulled_towards_the_guess(make_generator, make_discriminator):
    for phase in PHASES:
        G = make_generator()
        q_features = [part.shape[1] for part in info_targets(torch.zeros(1, G.num_ws, G.w_dim), G.synthesis)]
        D = make_discriminator(q_features=q_features)
        gradients, _loss = run_phase(SariGANLoss, G, D, phase, info_target='styles')
        assert [name for name, gradient in gradients.items() if gradient is None] == []
        if phase == 'Dmain':
            assert gradients['q.weight'].abs().max() > 0
        if phase == 'Gmain': # With an image that tells Q nothing, nothing of the loss is left to G.
            with torch.no_grad():
                D.q.weight.zero_()
            with_info, without = (run_phase(SariGANLoss, G, D, phase, info_target='styles', lambda_info=weight)[0]
                for weight in [10, 0])
            assert all(torch.equal(with_info[name], without[name]) for name in with_info)

def test_info_loss_of_mixed_styles_has_the_gradient_of_the_likelihood_averaged_over_layers():
    predicted = torch.randn(3, 10, requires_grad=True)
    codes = torch.randn(3, 1, 10).repeat(1, 7, 1)
    codes[:, 4:] = torch.randn(3, 1, 10)
    ours, = torch.autograd.grad(torch.cat(info_losses(predicted, info_targets(codes))).sum(), predicted)
    likelihood = (predicted[:, None] - codes).square().mean(dim=1) # [N, 10], mean over layers.
    theirs, = torch.autograd.grad(likelihood.sum() / 5, predicted)
    torch.testing.assert_close(ours, theirs)

def test_mixed_codes_that_no_layer_reads_are_no_target(make_generator):
    G = make_generator().requires_grad_(False)
    ws = torch.randn(2, G.num_ws, G.w_dim)
    image = G.synthesis(ws, noise_mode='const')
    read = [] # Positions whose code of one kind changes the image, for the inter- and the intra-group code.
    for half in [slice(None, G.code_dim), slice(G.code_dim, None)]:
        others = [ws.clone() for _position in range(G.num_ws)]
        for position, other in enumerate(others):
            other[:, position, half] = torch.randn(2, G.code_dim)
        read.append([position for position, other in enumerate(others)
            if not torch.equal(G.synthesis(other, noise_mode='const'), image)])
    assert read == [[1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6, 7]]
    predicted = torch.randn(2, G.w_dim)
    loss = SariGANLoss('cpu', G.mapping, G.synthesis, torch.nn.Module(), lambda_info=1)
    inter = sum(ws[:, position, :G.code_dim] for position in read[0]) / len(read[0])
    intra = sum(ws[:, position, G.code_dim:] for position in read[1]) / len(read[1])
    expected = math.sqrt(G.code_dim / 512) * (predicted - torch.cat([inter, intra], dim=1)).square().mean()
    rounding.assert_close(loss._info_loss(predicted, ws), expected, terms=G.w_dim, layers=2)

#----------------------------------------------------------------------------
# Styles that Q predicts, by how much they vary.

@pytest.fixture
def make_pair(make_generator, make_discriminator):
    """make_pair() -> (G, a D whose Q predicts its styles)."""
    def make():
        G = make_generator()
        numbers = [part.shape[1] for part in info_targets(torch.zeros(1, G.num_ws, G.w_dim), G.synthesis)]
        return G, make_discriminator(q_features=numbers)
    return make

def test_the_running_figures_of_styles_are_those_of_all_images_the_older_the_less(make_pair):
    _G, D = make_pair()
    batches = [3 + torch.randn(size, sum(D.q_features)) * 0.2 for size in [400, 16, 200]]
    for batch in batches:
        follow_styles(D, batch.split(D.q_features, dim=1))
    left = [0.5 ** (sum(len(batch) for batch in batches[number:]) / 1000) for number in range(4)]
    # The start, of mean 0 and variance 1, and then each batch counts by what it has not left to others.
    shares = [left[number + 1] - left[number] for number in range(3)]
    mean = sum(share * batch.mean(dim=0) for share, batch in zip(shares, batches))
    square = left[0] + sum(share * batch.square().mean(dim=0) for share, batch in zip(shares, batches))
    rounding.assert_close(D.style_mean, mean, terms=400)
    rounding.assert_close(D.style_variance, square - mean.square(), terms=400, layers=4)
    before = D.style_mean.clone()
    follow_styles(D, (batches[0] * float('nan')).split(D.q_features, dim=1))
    assert torch.equal(D.style_mean, before)

def test_qs_last_layer_says_by_how_many_deviations_styles_are_off_their_mean(make_pair):
    G, D = make_pair()
    img, c = torch.randn(4, 3, 32, 32), torch.zeros(4, 0)
    raw = D(img, c, return_codes=True)[1]
    assert torch.equal(raw, D.q(D.features(img))) # Of a new network, or one of an earlier version.
    D.style_mean.normal_()
    D.style_variance.uniform_(0.5, 2)
    predicted = D(img, c, return_codes=True)[1]
    torch.testing.assert_close(predicted, raw * D.style_variance.sqrt() + D.style_mean)
    ws = torch.randn(4, G.num_ws, G.w_dim)
    loss = SariGANLoss('cpu', G.mapping, G.synthesis, D, lambda_info=1, info_target='styles')
    inter, intra = ((raw - (torch.cat(info_targets(ws, G.synthesis), dim=1) - D.style_mean)
        / D.style_variance.sqrt()) ** 2).split(D.q_features, dim=1)
    expected = math.sqrt(G.code_dim / 512) * (inter.mean() + intra.mean()) / 2
    rounding.assert_close(loss._info_loss(predicted, ws), expected, terms=sum(D.q_features), layers=2)

def test_the_info_loss_of_styles_and_its_pull_at_d_are_the_same_however_far_they_spread(make_pair):
    # A gradient that grows as styles vary less left D nothing else to learn, and images of one kind alone.
    G, D = make_pair()
    ws = torch.randn(500, 1, G.w_dim).expand(-1, G.num_ws, -1)
    found = []
    for spread in [1, 0.1]:
        with torch.no_grad():
            for _name, layer, _source in grouped_layers(G.synthesis):
                layer.affine.weight.mul_(spread)
                layer.group_affine.weight.mul_(spread)
            for _time in range(30):
                follow_styles(D, info_targets(ws, G.synthesis))
        loss = SariGANLoss('cpu', G.mapping, G.synthesis, D, lambda_info=1, info_target='styles')
        features = torch.zeros(500, D.q.weight.shape[1], requires_grad=True)
        value = loss._info_loss(D.q(features) * D.style_deviation() + D.style_mean, ws)
        found.append((value.item(), torch.autograd.grad(value, features)[0].norm().item()))
    assert found[0][0] == pytest.approx(math.sqrt(G.code_dim / 512), rel=1e-2)
    assert found[1] == pytest.approx(found[0], rel=1e-2)

def test_a_training_whose_q_predicts_styles_goes_on_exactly_and_states_of_before_open(make_pair):
    G, D = make_pair()
    first, second = [SariGANLoss('cpu', G.mapping, G.synthesis, D, info_target='styles') for _ in range(2)]
    train(first, G, D, steps=2)
    state = copy.deepcopy([first.state_dict(), G.state_dict(), D.state_dict()])
    expected = train(first, G, D, steps=1)
    assert not torch.equal(D.style_mean, state[2]['style_mean'])
    for network, tensors in [(G, state[1]), (D, state[2])]:
        network.load_state_dict(tensors)
    second.load_state_dict(state[0])
    found = train(second, G, D, steps=1)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    _G, fresh = make_pair()
    fresh.load_state_dict({name: tensor for name, tensor in state[2].items() if 'style_' not in name})
    assert fresh.style_mean.abs().max() == 0 and torch.equal(fresh.q.weight, state[2]['q.weight'])
    with pytest.raises(RuntimeError, match='q.weight'):
        fresh.load_state_dict({name: tensor for name, tensor in state[2].items() if name != 'q.weight'})

def test_info_loss_does_not_pull_the_codes_towards_the_guess():
    codes = torch.randn(3, 7, 10, requires_grad=True)
    predicted = torch.randn(3, 10, requires_grad=True)
    torch.cat(info_losses(predicted, info_targets(codes))).sum().backward()
    assert codes.grad is None and predicted.grad is not None

@pytest.mark.parametrize('mixing', [0, 1])
def test_info_loss_works_in_every_step_with_and_without_style_mixing(make_generator, make_discriminator, mixing):
    G, D = make_generator(), make_discriminator()
    with_info, _loss = run_phase(SariGANLoss, G, D, 'Dmain', style_mixing_prob=mixing)
    assert with_info['q.weight'].abs().max() > 0
    of_G, _loss = run_phase(SariGANLoss, G, D, 'Gmain', style_mixing_prob=mixing, lambda_info=10)
    without, _loss = run_phase(SariGANLoss, G, D, 'Gmain', style_mixing_prob=mixing, lambda_info=0)
    assert not torch.allclose(of_G['synthesis.b32.conv1.weight'], without['synthesis.b32.conv1.weight'])

def test_info_loss_can_skip_mixed_styles_as_the_released_code_does(make_generator, make_discriminator):
    G, D = make_generator(), make_discriminator()
    mixed, _loss = run_phase(SariGANLoss, G, D, 'Dmain', style_mixing_prob=1, info_mixing='skip')
    assert mixed['q.weight'].abs().max() == 0
    pure, _loss = run_phase(SariGANLoss, G, D, 'Dmain', style_mixing_prob=0, info_mixing='skip')
    same, _loss = run_phase(SariGANLoss, G, D, 'Dmain', style_mixing_prob=0, info_mixing='mean')
    assert torch.equal(pure['q.weight'], same['q.weight']) and pure['q.weight'].abs().max() > 0

def test_info_loss_pulls_equally_at_the_shared_features_whatever_the_width_of_the_codes(make_generator):
    def pull(code_dim):
        synthesis = make_generator(code_dim=code_dim, grouping='none').synthesis
        loss = SariGANLoss('cpu', None, synthesis, torch.nn.Module(), lambda_info=10)
        q = torch.randn(2 * code_dim, 64) / 8 # Upstream's fully connected layers at their start.
        # What is still wrong has nothing to do with them, as after training.
        features = torch.zeros(256, 64, requires_grad=True)
        ws = torch.randn(256, 1, 2 * code_dim).repeat(1, 4, 1)
        return torch.autograd.grad(loss._info_loss(features @ q.t(), ws), features)[0].norm()
    for code_dim in [64, 128]:
        # Without the normalisation: 2.8 and 2 times as much.
        assert pull(code_dim) == pytest.approx(pull(512).item(), rel=0.1)

@pytest.mark.parametrize('lambda_info, low, high', [(0, 0, 0), (1, 0.01, 0.99), (1e6, 0.999, 1)])
def test_share_of_ds_gradient_that_is_infos_is_reported(make_generator, make_discriminator, lambda_info, low, high):
    training_stats.report('Loss/info/share', [])
    collector = training_stats.Collector(regex='Loss/info/share')
    run_phase(SariGANLoss, make_generator(), make_discriminator(), 'Dmain', lambda_info=lambda_info)
    collector.update()
    assert low <= collector.mean('Loss/info/share') <= high and collector.num('Loss/info/share') == 1

@pytest.mark.parametrize('grouping', ['similarity', 'blocks', 'none'])
def test_share_is_looked_at_in_one_of_sixteen_steps_whatever_the_groups(make_generator, make_discriminator, grouping):
    loss = SariGANLoss('cpu', None, make_generator(grouping=grouping).synthesis, make_discriminator())
    due = []
    for _step in range(2 * TARGET_STEPS):
        loss._grouping_loss(None)
        due.append(loss.steps_to_targets == 0)
    assert sum(due) == 2

@pytest.mark.parametrize('options, sentence', [
    (dict(similarity='kernel'), "similarity must be 'kernels' or 'responses', not 'kernel'"),
    (dict(info_target='w'), "info_target must be 'codes' or 'styles', not 'w'"),
    (dict(info_mixing='none'), "info_mixing must be 'mean' or 'skip', not 'none'"),
])
def test_unknown_names_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        SariGANLoss('cpu', None, None, torch.nn.Module(), **options)

def test_info_gradients_grow_with_lambda_info(make_generator, make_discriminator):
    G, D = make_generator(), make_discriminator()
    one, _loss = run_phase(SariGANLoss, G, D, 'Dmain', lambda_info=1)
    three, _loss = run_phase(SariGANLoss, G, D, 'Dmain', lambda_info=3)
    torch.testing.assert_close(three['q.weight'], 3 * one['q.weight'], rtol=1e-4, atol=1e-7)

#----------------------------------------------------------------------------
# Grouping loss (Eq. 2).

def test_grouping_learns_from_its_own_loss_alone_and_once_per_step(make_generator, make_discriminator):
    G, D = make_generator(), make_discriminator()
    gradients, _loss = run_phase(SariGANLoss, G, D, 'Gmain', rounds=3, lambda_group=2)
    for name, layer, source in grouped_layers(G.synthesis):
        loss, _threshold = layer.grouping.loss(layer.grouping.target(source.weight))
        expected, = torch.autograd.grad(2 * layer.grouping.num_channels * loss, layer.grouping.logits)
        # All pairs of channels.
        rounding.assert_close(gradients[f'synthesis.{name}.grouping.logits'], expected, terms=16 * 16, layers=2)

def test_grouping_gets_no_gradient_from_path_length(make_generator, make_discriminator):
    gradients, _loss = run_phase(SariGANLoss, make_generator(), make_discriminator(), 'Greg')
    assert all(g.abs().max() == 0 for name, g in gradients.items() if '.grouping.' in name)

def test_fixed_groups_train_without_a_grouping_loss(make_generator, make_discriminator):
    gradients, _loss = run_phase(SariGANLoss, make_generator(grouping='blocks'), make_discriminator(), 'Gmain')
    assert not any('.grouping.' in name for name in gradients)
    assert all(g is not None for g in gradients.values())

@pytest.mark.parametrize('name', ['lambda_group', 'lambda_info', 'r1_gamma', 'pl_weight'])
def test_negative_weights_are_refused(name):
    with pytest.raises(ValueError, match=f'{name} must be non-negative, not -1'):
        SariGANLoss('cpu', None, None, None, **{name: -1})

#----------------------------------------------------------------------------
# Rounds of a step.

@pytest.fixture
def unshared(monkeypatch):
    """A function: from then on every round makes for itself what depends on weights alone."""
    return lambda: monkeypatch.setattr(SharedWeights, 'round',
        lambda self, G_synthesis, last: styles_at_once(G_synthesis))

@pytest.mark.parametrize('phase', PHASES)
@pytest.mark.parametrize('half', [False, True], ids=['fp32', 'fp16'])
def test_rounds_that_share_what_depends_on_weights_alone_have_the_same_gradients(make_generator, make_discriminator,
        unshared, phase, half):
    G, D = make_generator(synthesis_kwargs=dict(SIZE, num_fp16_res=int(half))), make_discriminator()
    shared, _loss = run_phase(SariGANLoss, G, D, phase, rounds=3)
    shared = {name: gradient.clone() for name, gradient in shared.items()}
    unshared()
    expected, _loss = run_phase(SariGANLoss, G, D, phase, rounds=3)
    for name, gradient in expected.items():
        scale = gradient.abs().max().clamp(min=1e-8) # Sums in another order.
        torch.testing.assert_close(shared[name] / scale, gradient / scale, rtol=0, atol=1e-4 if half else 1e-5,
            msg=lambda text, name=name: f'{name}: {text}')

@pytest.mark.parametrize('phase, times',
    [('Gmain', 1), ('Greg', 1), ('Gboth', 1), ('Dmain', 1), ('Dreg', 0), ('Dboth', 1)])
def test_what_depends_on_weights_alone_is_made_once_per_step_and_not_kept(make_generator, make_discriminator,
        monkeypatch, phase, times):
    G, D = make_generator(), make_discriminator()
    made = []
    original = SynthesisLayer.weight_parts
    monkeypatch.setattr(SynthesisLayer, 'weight_parts', lambda self, dtype: made.append(self) or original(self, dtype))
    _gradients, loss = run_phase(SariGANLoss, G, D, phase, rounds=3)
    layers = [module for module in G.synthesis.modules() if isinstance(module, SynthesisLayer)]
    assert len(made) == times * len(layers) and set(made) <= set(layers)
    assert not loss.shared_weights.made and not loss.shared_weights.cut
    assert all(layer.shared_weights is None for layer in layers)
    assert copy.deepcopy(G) is not None # As snapshots do.

#----------------------------------------------------------------------------
# What a loss remembers.

@pytest.mark.parametrize('make_loss',
    [SariGANLoss, lambda *networks, **_options: UpstreamLoss(StyleGAN2Loss(*networks))],
    ids=['ours', 'upstreams'])
def test_a_loss_with_the_state_of_another_goes_on_as_that_one(make_generator, make_discriminator, make_loss):
    def start():
        torch.manual_seed(0)
        G, D = make_generator(grouping='kmeans'), make_discriminator()
        return make_loss('cpu', G.mapping, G.synthesis, D, regroup_kimg=0.01), G, D
    first, G, D = start()
    train(first, G, D, steps=2) # Of 4 images: after 10 of them groups are found anew.
    second, G2, _D = start()
    G2.load_state_dict(G.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    expected, found = train(first, G, D, steps=2), train(second, G2, D, steps=2)
    for name in expected:
        assert torch.equal(found[name], expected[name]), name
    assert all(torch.equal(ours.layer.grouping.assignment, theirs.layer.grouping.assignment)
        for ours, theirs in zip(grouped_layers(G.synthesis), grouped_layers(G2.synthesis)))
    assert second.state_dict() == first.state_dict()

def test_targets_of_the_grouping_loss_go_on(make_generator, make_discriminator):
    G, D = make_generator(), make_discriminator()
    first, second = [SariGANLoss('cpu', G.mapping, G.synthesis, D) for _ in range(2)]
    train(first, G, D, steps=2)
    second.load_state_dict(first.state_dict())
    for _name, _layer, source in grouped_layers(G.synthesis):
        source.weight.data.normal_() # Other targets would be made of these.
    state = copy.deepcopy(G.state_dict())
    expected = train(first, G, D, steps=1)
    G.load_state_dict(state)
    found = train(second, G, D, steps=1)
    assert all(torch.equal(found[name], expected[name]) for name in expected)

#----------------------------------------------------------------------------
