"""Inter-group styles that are exp of the standardised code, and ToRGB layers that read both codes."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch

import rounding
import unmodified
from commands import run
from sarigan_plugin.losses.sarigan import SariGANLoss
from sarigan_plugin.model import networks
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.model.networks import ExpAffine, SynthesisLayer
from sarigan_plugin.model.running_figures import follow_inter_codes
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering.edits import Edit, edited
from small_networks import SIZE

F = torch.nn.functional

BOTH = dict(inter_form='exp', group_torgb=True)

def settled(G):
    """As after training: the running figures are no longer those of the start."""
    for _name, layer, _source in grouped_layers(G.synthesis):
        layer.group_affine.mean.normal_()
        layer.group_affine.variance.uniform_(0.5, 2)
        layer.group_affine.slope.data.fill_(0.7 / layer.group_affine.affine.weight_gain)
    return G

@pytest.fixture
def G(make_generator):
    return settled(make_generator(grouping='blocks', **BOTH)).requires_grad_(False)

def brute_force_styles(layer, affine, w):
    """[N, C]: h z / sqrt(mean of the group's z^2 + 0.1), channel by channel. affine: what makes z."""
    inter_code, intra_code = w.chunk(2, dim=1)
    z, of_groups, assignment = affine(intra_code), layer.group_affine, layer.grouping.assignment.tolist()
    u = inter_code @ (of_groups.affine.weight * of_groups.affine.weight_gain).t()
    rows = []
    for n in range(len(w)):
        row = []
        for j, group in enumerate(assignment):
            deviation = (of_groups.variance[group] + 1e-8).sqrt()
            h = torch.exp(of_groups.beta * (u[n, group] - of_groups.mean[group]) / deviation)
            members = [k for k, other in enumerate(assignment) if other == group]
            mean_square = sum(z[n, k] ** 2 for k in members) / len(members)
            row.append(h * z[n, j] / torch.sqrt(mean_square + 0.1))
        rows.append(torch.stack(row))
    return torch.stack(rows)

def double_layer(channels, out_channels, code_dim, resolution, num_groups):
    layer = SynthesisLayer(channels, out_channels, code_dim=code_dim, resolution=resolution, num_groups=num_groups,
        inter_form='exp', use_noise=False).double()
    layer.resample_filter = layer.resample_filter.float()
    layer.group_affine.mean.normal_()
    layer.group_affine.variance.uniform_(0.5, 2)
    return layer

#----------------------------------------------------------------------------
# The formula.

def test_layer_is_the_formula_with_the_gradients_of_brute_force():
    layer = double_layer(8, 6, 4, 8, num_groups=3)
    x, w = torch.randn(2, 8, 8, 8).double(), torch.randn(2, 8).double().requires_grad_(True)
    inputs = [w, layer.weight, layer.affine.weight, layer.affine.bias, layer.group_affine.affine.weight]
    f, expected = brute_force_styles(layer, layer.affine, w), []
    for n in range(2):
        modulated = f[n][None, :, None, None] * layer.weight
        kernel = modulated / torch.sqrt(modulated.square().sum(dim=[1, 2, 3], keepdim=True) + 1e-8)
        expected.append(F.conv2d(x[n : n + 1], kernel, padding=1))
    expected = F.leaky_relu(torch.cat(expected) + layer.bias[None, :, None, None], 0.2) * math.sqrt(2)
    ours = layer(x, w)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    direction = torch.randn_like(ours)
    for a, b in zip(torch.autograd.grad((ours * direction).sum(), inputs),
            torch.autograd.grad((expected * direction).sum(), inputs)):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)

def test_layer_has_the_second_derivatives_that_path_length_needs():
    layer = double_layer(4, 2, 2, 4, num_groups=2)
    inputs = (torch.randn(1, 4, 4, 4).double().requires_grad_(True), torch.randn(1, 4).double().requires_grad_(True))
    assert torch.autograd.gradcheck(layer, inputs)
    assert torch.autograd.gradgradcheck(layer, inputs)

def test_the_feature_form_has_deviations_of_a_groups_own_channels():
    z_s, z_b, h_s, h_b = [torch.randn(3, size).double() for size in [8, 8, 2, 2]]
    assignment = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1])
    styles, shifts = networks.group_styles(z_s, h_s, F.one_hot(assignment).double(), z_b, h_b, own_channels=True)
    for group in range(2):
        of_group = assignment == group
        mean = z_b[:, of_group].mean(dim=1, keepdim=True)
        power = (z_s[:, of_group] ** 2 + (z_b[:, of_group] - mean) ** 2).mean(dim=1, keepdim=True)
        scale = h_s[:, [group]] / (power + 0.1).sqrt()
        torch.testing.assert_close(styles[:, of_group], z_s[:, of_group] * scale)
        torch.testing.assert_close(shifts[:, of_group], (z_b[:, of_group] - mean) * scale + h_b[:, [group]])

def test_a_group_is_as_loud_as_h_says_however_many_channels_it_has_and_an_empty_one_is_harmless():
    z, h = torch.ones(1, 8).double(), torch.tensor([[1.0, 3.0, 5.0]]).double()
    styles = networks.group_styles(z, h, F.one_hot(torch.tensor([0] * 7 + [1]), 3).double(), own_channels=True)
    torch.testing.assert_close(styles[0, -1] / styles[0, 0], torch.tensor(3.0).double())
    assert styles.isfinite().all()

def test_torgb_reads_the_groups_of_the_next_layer_and_the_last_one_none(G):
    w = torch.randn(3, G.w_dim)
    for res, following in [(4, 8), (8, 16), (16, 32)]:
        torgb, layer = getattr(G.synthesis, f'b{res}').torgb, getattr(G.synthesis, f'b{following}').conv0
        rounding.assert_close(torgb.affine(w), brute_force_styles(layer, torgb.affine.affine, w), terms=32, layers=3)
    other = torch.cat([torch.randn(3, G.code_dim), w[:, G.code_dim:]], dim=1)
    assert torch.equal(G.synthesis.b32.torgb.affine(w), G.synthesis.b32.torgb.affine(other))

@pytest.mark.parametrize('options', [dict(inter_form='exp'), dict(group_torgb=True), BOTH, dict(BOTH, norm='feature'),
    dict(BOTH, num_groups='auto'), dict(BOTH, grouping='none')], ids=str)
def test_every_parameter_gets_a_gradient_in_every_phase_as_ddp_requires(make_generator, make_discriminator, options):
    G, D = make_generator(**options).train(), make_discriminator().requires_grad_(False)
    loss = SariGANLoss('cpu', G.mapping, G.synthesis, D)
    for phase in ['Gmain', 'Greg']:
        G.zero_grad(set_to_none=True)
        loss.accumulate_gradients(phase=phase, real_img=torch.zeros(4, 3, 32, 32), real_c=torch.zeros(4, 0),
            gen_z=torch.randn(4, G.z_dim), gen_c=torch.zeros(4, 0), sync=True, gain=1)
        assert [name for name, parameter in G.named_parameters() if parameter.grad is None] == []
    assert all(parameter.grad.isfinite().all() for parameter in G.parameters())

def test_fp16_computes_what_fp32_does_and_its_gradients(make_generator):
    torch.manual_seed(0)
    half = settled(make_generator(synthesis_kwargs=dict(SIZE, num_fp16_res=2), **BOTH))
    exact = make_generator(synthesis_kwargs=SIZE, **BOTH)
    exact.load_state_dict(half.state_dict())
    ws = torch.randn(4, half.num_ws, half.w_dim)
    images = half.synthesis(ws, noise_mode='const'), exact.synthesis(ws, noise_mode='const')
    assert half.synthesis.b32.use_fp16 and (images[0] - images[1]).norm() < 1e-2 * images[1].norm()
    for image in images:
        image.square().mean().backward()
    gradients = [torch.cat([parameter.grad.flatten() for name, parameter in G.synthesis.named_parameters()
        if 'group_affine' in name]) for G in [half, exact]]
    assert (gradients[0] - gradients[1]).norm() < 3e-2 * gradients[1].norm()
    far = half.synthesis(ws * 30, noise_mode='const') # As a projection may come to.
    assert far.isfinite().all()

#----------------------------------------------------------------------------
# Running figures.

def figures(synthesis):
    return [(layer.group_affine.mean.clone(), layer.group_affine.variance.clone())
        for _name, layer, _source in grouped_layers(synthesis)]

def test_running_figures_are_those_of_all_images_the_older_the_less(make_generator):
    G = make_generator(inter_form='exp').requires_grad_(False)
    batches = [torch.randn(size, G.num_ws, G.w_dim) + 1 for size in [400, 16, 200]]
    for ws in batches:
        follow_inter_codes(G.synthesis, ws)
    sizes = [len(ws) for ws in batches]
    for index, (_name, layer, _source) in enumerate(grouped_layers(G.synthesis), start=1):
        seen = [layer.group_affine.affine(ws[:, index, :G.code_dim]).double() for ws in batches]
        left = [0.5 ** (sum(sizes[number:]) / 1000) for number in range(4)] # Of what was there before each.
        # The start, of mean 0 and variance 1, and then each batch counts by what it has not left to others.
        shares = [left[0], *[left[number + 1] - left[number] for number in range(3)]]
        mean = sum(share * a.mean(dim=0) for share, a in zip(shares[1:], seen))
        square = shares[0] + sum(share * a.square().mean(dim=0) for share, a in zip(shares[1:], seen))
        torch.testing.assert_close(layer.group_affine.mean.double(), mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.group_affine.variance.double(), square - mean.square(), rtol=1e-4, atol=1e-5)

@pytest.mark.parametrize('value', [float('nan'), 1e38])
def test_running_a_network_in_training_mode_leaves_them_alone_and_so_do_numbers_that_are_not_finite(make_generator,
        value):
    # Upstream's summary runs G in training mode on memory that nobody has written to.
    G = settled(make_generator(**BOTH)).train()
    before = figures(G.synthesis)
    G(torch.full([2, G.z_dim], value), torch.zeros(2, 0))
    follow_inter_codes(G.synthesis, torch.full([2, G.num_ws, G.w_dim], float('nan')))
    for ours, theirs in zip(figures(G.synthesis), before):
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])

def test_only_the_generators_main_phase_moves_them_and_a_restored_training_goes_on_exactly(make_generator,
        make_discriminator):
    G, D = make_generator(**BOTH).train(), make_discriminator().train()
    loss = SariGANLoss('cpu', G.mapping, G.synthesis, D)
    def run(phase):
        before = figures(G.synthesis)
        loss.accumulate_gradients(phase=phase, real_img=torch.zeros(4, 3, 32, 32), real_c=torch.zeros(4, 0),
            gen_z=torch.randn(4, G.z_dim), gen_c=torch.zeros(4, 0), sync=True, gain=1)
        return not torch.equal(before[0][0], figures(G.synthesis)[0][0])
    assert [phase for phase in ['Gmain', 'Greg', 'Dmain', 'Dreg'] if run(phase)] == ['Gmain']
    saved = copy.deepcopy(dict(G=G.state_dict(), loss=loss.state_dict()))
    torch.manual_seed(3)
    run('Gmain')
    expected = figures(G.synthesis)
    G.load_state_dict(saved['G'])
    loss.load_state_dict(saved['loss'])
    torch.manual_seed(3)
    run('Gmain')
    for ours, theirs in zip(figures(G.synthesis), expected):
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])

def test_the_average_makes_the_images_of_weights_that_stay(make_generator, G):
    G_ema = make_generator(grouping='blocks', **BOTH).requires_grad_(False)
    for ours, theirs in zip(G_ema.parameters(), G.parameters()): # As upstream's training_loop.py:306 does.
        ours.copy_(theirs.lerp(ours, 0))
    for ours, theirs in zip(G_ema.buffers(), G.buffers()):
        ours.copy_(theirs)
    ws = torch.randn(2, G.num_ws, G.w_dim)
    assert torch.equal(G_ema.synthesis(ws, noise_mode='const'), G.synthesis(ws, noise_mode='const'))

def test_equal_channels_keep_the_mean_of_log_h_when_groups_merge():
    of_groups = ExpAffine(8, 3).requires_grad_(False)
    of_groups.mean.normal_()
    of_groups.variance.uniform_(0.5, 2)
    codes = torch.randn(5, 8)
    log_h = of_groups(codes).log()
    of_groups.join(0, 2, share=0.25)
    torch.testing.assert_close(of_groups(codes).log()[:, 0], 0.75 * log_h[:, 0] + 0.25 * log_h[:, 2])
    assert torch.equal(of_groups(codes).log()[:, 1], log_h[:, 1])

#----------------------------------------------------------------------------
# Edits and files.

def test_a_group_turned_off_is_in_nothing_that_reads_it_and_turned_on_again_no_bit_differs(G):
    ws = torch.randn(2, G.num_ws, G.w_dim)
    before = G.synthesis(ws, noise_mode='const')
    layer, torgb = G.synthesis.b16.conv0, G.synthesis.b8.torgb
    of_group = layer.grouping.assignment == 1
    seen = [layer.styles(ws[:, 3]), torgb.affine(ws[:, 3])]
    for scale in [0, 2]:
        with edited(G, [Edit('b16.conv0', 1, inter_scale=scale)]):
            for styles, own in zip([layer.styles(ws[:, 3]), torgb.affine(ws[:, 3])], seen):
                torch.testing.assert_close(styles[:, of_group], scale * own[:, of_group])
                assert torch.equal(styles[:, ~of_group], own[:, ~of_group])
            assert not torch.equal(G.synthesis(ws, noise_mode='const'), before)
    with edited(G, [Edit('b16.conv0', 1)]):
        assert torch.equal(G.synthesis(ws, noise_mode='const'), before)
    assert torch.equal(G.synthesis(ws, noise_mode='const'), before)

def test_h_of_another_seed_takes_its_place(G):
    ws, layer = torch.randn(2, G.num_ws, G.w_dim), G.synthesis.b16.conv0
    other = G.mapping(torch.from_numpy(np.random.RandomState(5).randn(1, G.z_dim)), None, truncation_psi=0.7)
    with edited(G, [Edit('b16.conv0', 1, inter_seed=5)]):
        h = layer.group_affine(ws[:, 3, :G.code_dim])
    rounding.assert_close(h[:, 1], layer.group_affine(other[:, 0, :G.code_dim])[:, 1].expand(2), terms=32)

def data_of(G, make_discriminator):
    return dict(G=G, D=make_discriminator().requires_grad_(False), G_ema=copy.deepcopy(G), training_set_kwargs=None,
        augment_pipe=None)

def test_pickles_are_read_by_us_and_exported_and_copied(G, make_discriminator, tmp_path):
    (tmp_path / 'network.pkl').write_bytes(pickle.dumps(data_of(G, make_discriminator)))
    copies = [reading.load(str(tmp_path / 'network.pkl'), 'PKL'), copy.deepcopy(G)]
    for command, source, end in [('export', 'network.pkl', 'folder'), ('import', 'folder', 'back.pkl')]:
        assert run(command, tmp_path / source, f'--to={tmp_path / end}').exit_code == 0
        copies.append(reading.load(str(tmp_path / end), 'PKL'))
    ws = torch.randn(2, G.num_ws, G.w_dim)
    expected = G.synthesis(ws, noise_mode='const')
    for again in copies:
        assert torch.equal(again.synthesis(ws, noise_mode='const'), expected)
        assert again.synthesis.b8.torgb.affine._next[0] is again.synthesis.b16.conv0
        assert [*again.state_dict()] == [*G.state_dict()]

def test_a_pickle_makes_its_images_in_an_unmodified_checkout_without_the_plugin(G, make_discriminator, pypi_tree,
        tmp_path):
    (tmp_path / 'network.pkl').write_bytes(pickle.dumps(data_of(G, make_discriminator)))
    code = """if True:
        import legacy, sys, torch
        G = legacy.load_network_pkl(open(sys.argv[1], 'rb'))['G_ema']
        torch.save(G.synthesis(torch.ones(2, G.num_ws, G.w_dim), noise_mode='const'), sys.argv[2])
    """
    unmodified.run(pypi_tree, code, tmp_path / 'network.pkl', tmp_path / 'images')
    theirs = torch.load(tmp_path / 'images')
    rounding.assert_close(theirs, G.synthesis(torch.ones(2, G.num_ws, G.w_dim), noise_mode='const'), terms=144,
        layers=8)

def test_networks_without_these_options_have_the_tensors_and_the_start_of_before(make_generator):
    torch.manual_seed(0)
    plain = make_generator()
    torch.manual_seed(0)
    named = make_generator(inter_form='affine', group_torgb=False)
    assert [*plain.state_dict()] == [*named.state_dict()]
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), named.state_dict().values()))
    assert not any(word in name for name in plain.state_dict() for word in ['slope', 'variance', 'group_affine.mean'])

def test_gradients_have_no_say_in_beta():
    of_groups = ExpAffine(64, 3)
    assert of_groups.beta.item() == pytest.approx(0.5)
    before = of_groups.slope.detach().clone(), of_groups.affine.weight.detach().clone()
    optimizer = torch.optim.Adam(of_groups.parameters(), lr=0.004, betas=(0.0, 0.99))
    of_groups(torch.randn(8, 64)).sum().backward()
    assert of_groups.slope.grad == 0 # And not None: several processes wait for it.
    optimizer.step()
    assert torch.equal(of_groups.slope, before[0]) and not torch.equal(of_groups.affine.weight, before[1])
    assert all(parameter.dtype == torch.float32 for parameter in of_groups.parameters())

def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="inter_form must be 'affine' or 'exp', not 'tanh'"):
        SynthesisLayer(8, 8, code_dim=4, resolution=8, num_groups=2, inter_form='tanh')
