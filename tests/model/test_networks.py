"""Equations 1-6 against brute force, our layers against upstream's, pickles in an unmodified checkout."""

import contextlib
import io
import math
import pickle
import re

import numpy as np
import pytest
import torch

import commands
import rounding
import unmodified
from sarigan_plugin.model import grouping as sgm, networks
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.model.grouping import ChannelGrouping, FixedGrouping
from sarigan_plugin.model.networks import SynthesisLayer, group_styles
from sarigan_plugin.model.styles_at_once import styles_at_once
from sarigan_plugin.steering import edits

import legacy
from training import networks as upstream_networks

F = torch.nn.functional

def in_double(layer):
    """A layer in float64, but for the filter, which upstream's resampling wants in float32."""
    layer.double()
    layer.resample_filter = layer.resample_filter.float()
    return layer

def one_hot(assignment, num_groups):
    return F.one_hot(torch.as_tensor(assignment), num_groups).double()

#----------------------------------------------------------------------------
# Equation 1.

def test_similarity_is_the_cosine_of_every_pair_of_kernels():
    kernels = torch.randn(5, 3, 3, 3, dtype=torch.double)
    similarity = sgm.cosine_similarity(kernels)
    for i in range(5):
        for j in range(5):
            a, b = kernels[i].flatten(), kernels[j].flatten()
            assert similarity[i, j].item() == pytest.approx((a @ b / (a.norm() * b.norm())).item(), abs=1e-12)

def test_similarity_ignores_the_length_of_kernels_and_survives_one_of_zeros():
    kernels = torch.randn(4, 9)
    scaled = kernels * torch.tensor([[1.0], [10.0], [0.1], [0.0]])
    similarity = sgm.cosine_similarity(scaled)
    torch.testing.assert_close(similarity[:3, :3], sgm.cosine_similarity(kernels)[:3, :3])
    assert similarity[3].abs().max() == 0

#----------------------------------------------------------------------------
# Equation 2 and the choice of r and t.

@pytest.mark.parametrize('num_groups', [1, 2, 3, 8, 24])
def test_threshold_leaves_each_channel_c_over_g_similar_ones_on_average(num_groups):
    similarity = sgm.cosine_similarity(torch.randn(24, 50))
    threshold = sgm.similarity_threshold(similarity, num_groups)
    passed = (similarity >= threshold).sum().item()
    assert abs(passed - 24 * 24 / num_groups) <= 1 # Off-diagonal values come in pairs: a tie may let one more pass.

def test_grouping_loss_is_the_mean_squared_error_of_equation_2():
    probabilities = torch.rand(10, 4, dtype=torch.double).softmax(dim=1)
    similar = (torch.rand(10, 10) < 0.3).double()
    expected = F.mse_loss(probabilities @ probabilities.t(), similar)
    torch.testing.assert_close(sgm.grouping_loss(probabilities, similar), expected, rtol=1e-12, atol=0)

def test_grouping_loss_has_the_gradient_of_the_mean_squared_error():
    logits = torch.randn(10, 4, dtype=torch.double, requires_grad=True)
    similar = (torch.rand(10, 10) < 0.3).double()
    fast, = torch.autograd.grad(sgm.grouping_loss(logits.softmax(1), similar), logits)
    probabilities = logits.softmax(1)
    slow, = torch.autograd.grad(F.mse_loss(probabilities @ probabilities.t(), similar), logits)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-14)

def test_grouping_loss_is_zero_for_the_true_groups_and_more_for_any_others():
    truth = one_hot([0, 0, 1, 1, 2, 2], 3)
    assert sgm.grouping_loss(truth, truth @ truth.t()).item() == 0
    assert sgm.grouping_loss(one_hot([0, 1, 1, 1, 2, 2], 3), truth @ truth.t()).item() > 0.1

def test_no_gradient_of_the_grouping_loss_reaches_the_kernels():
    grouping = ChannelGrouping(8, 2)
    kernels = torch.randn(8, 20, requires_grad=True)
    loss, _threshold = grouping.loss(grouping.target(kernels))
    loss.backward()
    assert kernels.grad is None
    assert grouping.logits.grad.abs().max() > 0
    assert grouping.temperature_logit.grad.abs() > 0

def test_temperature_starts_at_what_was_asked_for_and_stays_positive():
    grouping = ChannelGrouping(8, 2, temperature=0.3)
    assert grouping.temperature.item() == pytest.approx(0.3, rel=1e-5)
    with torch.no_grad():
        grouping.temperature_logit.fill_(-50)
    assert grouping.temperature.item() > 0

@pytest.mark.parametrize('num_groups', [0, -1, 9])
def test_impossible_number_of_groups_is_refused(num_groups):
    with pytest.raises(ValueError,
            match=f'num_groups must be between 1 and the 8 channels of the layer, not {num_groups}'):
        ChannelGrouping(8, num_groups)

@pytest.mark.parametrize('seed', [0, *[pytest.param(seed, marks=pytest.mark.slow) for seed in [1, 2]]])
def test_grouping_loss_alone_recovers_planted_clusters(seed):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(64) % 16
    centres = torch.randn(16, 576, generator=generator)
    kernels = centres[truth] + torch.randn(64, 576, generator=generator) # Cosine 0.5 inside a cluster, 0 between.
    torch.manual_seed(seed)
    grouping = ChannelGrouping(64, 16)
    optimizer = torch.optim.Adam(grouping.parameters(), lr=0.002, betas=(0.0, 0.99))
    for _step in range(1500):
        optimizer.zero_grad()
        loss, _threshold = grouping.loss(grouping.target(kernels))
        (2 * 64 * loss).backward() # lambda_1, and C as SariGANLoss weights it.
        optimizer.step()
    same_truth = truth[:, None] == truth
    same_group = grouping.assignment[:, None] == grouping.assignment
    assert torch.equal(same_truth, same_group)

@pytest.mark.parametrize('kind', ['blocks', 'random'])
def test_fixed_groups_are_of_equal_size_and_blocks_are_consecutive(kind):
    grouping = FixedGrouping(24, 6, kind)
    assert grouping.assignment.bincount().tolist() == [4] * 6
    assert (grouping.assignment.diff() >= 0).all() == (kind == 'blocks')

#----------------------------------------------------------------------------
# Equation 5, and 3-4.

def brute_force_styles(z, h, assignment, num_groups, eps=1e-8):
    """Equation 5 as it is written, group by group."""
    batch, channels = z.shape
    f = torch.zeros_like(z)
    for n in range(batch):
        for i in range(num_groups):
            members = [j for j in range(channels) if assignment[j] == i]
            sigma = torch.sqrt(sum((z[n, j] ** 2 for j in members), torch.zeros([], dtype=z.dtype)) / channels + eps)
            for j in members:
                f[n, j] = h[n, i] * z[n, j] / sigma
    return f

def test_group_styles_are_equation_5():
    z, h = torch.randn(3, 12, dtype=torch.double), torch.randn(3, 4, dtype=torch.double)
    assignment = torch.tensor([0, 0, 1, 3, 3, 3, 0, 1, 1, 0, 3, 3]) # Group 2 is empty.
    torch.testing.assert_close(group_styles(z, h, one_hot(assignment, 4)), brute_force_styles(z, h, assignment, 4),
        rtol=1e-10, atol=1e-12)

def test_the_norm_of_a_group_by_hand():
    z, h = torch.randn(3, 12, dtype=torch.double), torch.randn(3, 4, dtype=torch.double)
    assignment = torch.tensor([0, 0, 1, 3, 3, 3, 0, 0, 0, 0, 3, 3]) # Group 1 has one channel, group 2 none.
    styles = group_styles(z, h, one_hot(assignment, 4))
    for n, j in [(0, 0), (1, 2), (2, 11)]:
        of_group = assignment == assignment[j]
        mean_square = z[n, of_group].square().sum() / 12
        torch.testing.assert_close(styles[n, j], h[n, assignment[j]] * z[n, j] / mean_square.sqrt(), rtol=1e-4, atol=0)

def test_small_groups_are_louder():
    z, h, membership = torch.ones(1, 8).double(), torch.ones(1, 2).double(), one_hot([0] * 7 + [1], 2)
    torch.testing.assert_close(group_styles(z, h, membership)[0, -1] / group_styles(z, h, membership)[0, 0],
        torch.tensor(7 ** 0.5).double())

def test_styles_of_a_group_of_one_channel_jump():
    z, h = torch.tensor([[-1e-3, 1.0, 1.0, 1.0], [1e-3, 1.0, 1.0, 1.0]]).double(), torch.ones(2, 2).double()
    membership = one_hot([0, 1, 1, 1], 2)
    low, high = group_styles(z, h, membership)[:, 0]
    assert high - low > 3.9 # From -sqrt(C) h to sqrt(C) h.

def test_group_styles_have_first_and_second_derivatives():
    z, h = torch.randn(2, 6, dtype=torch.double, requires_grad=True), torch.randn(2, 3, dtype=torch.double,
        requires_grad=True)
    function = lambda z, h: group_styles(z, h, one_hot([0, 0, 1, 1, 2, 2], 3))
    assert torch.autograd.gradcheck(function, (z, h))
    assert torch.autograd.gradgradcheck(function, (z, h))

def test_inter_code_scales_whole_groups_and_intra_code_only_shares_inside_them():
    z, h, membership = torch.rand(1, 8).double() + 0.5, torch.ones(1, 2).double(), one_hot([0] * 4 + [1] * 4, 2)
    before = group_styles(z, h, membership)
    after = group_styles(z, h * torch.tensor([[3.0, 1.0]]), membership)
    torch.testing.assert_close(after, before * torch.tensor([[3.0] * 4 + [1.0] * 4]))
    louder = group_styles(torch.cat([z[:, :4] * 7, z[:, 4:]], dim=1), h, membership)
    torch.testing.assert_close(louder, before) # A common factor in a group is normalised away.

def brute_force_feature_form(x, z_s, z_b, h_s, h_b, assignment, num_groups, eps):
    """Equations 3 and 4 on the features themselves; a group's deviation is over all C channels, as in Equation 5."""
    batch, channels = x.shape[:2]
    out = torch.zeros_like(x)
    for n in range(batch):
        adain = torch.stack([z_s[n, j] * (x[n, j] - x[n, j].mean()) / (x[n, j].var(correction=0) + eps).sqrt()
            + z_b[n, j] for j in range(channels)])
        for i in range(num_groups):
            members = [j for j in range(channels) if assignment[j] == i]
            if members:
                group = adain[members]
                deviation = ((group - group.mean()).square().mean(dim=[1, 2]).sum() / channels).sqrt()
                for k, j in enumerate(members):
                    out[n, j] = h_s[n, i] * (group[k] - group.mean()) / deviation + h_b[n, i]
    return out

def test_feature_form_is_group_adain_followed_by_adagn():
    x = torch.randn(2, 6, 16, 16, dtype=torch.double)
    z_s, z_b = torch.rand(2, 6).double() + 0.5, torch.randn(2, 6).double()
    h_s, h_b = torch.rand(2, 4).double() + 0.5, torch.randn(2, 4).double()
    assignment = [0, 0, 1, 1, 1, 3]
    styles, shifts = group_styles(z_s, h_s, one_hot(assignment, 4), z_b, h_b)
    identity = torch.eye(6).double().reshape(6, 6, 1, 1) * math.sqrt(6) # Undoes the convolution's own gain.
    ours = networks.normalized_conv2d(x, identity, styles, shifts)
    expected = brute_force_feature_form(x, z_s, z_b, h_s, h_b, assignment, 4, eps=1e-5)
    # The closed form takes Group AdaIN's deviation for z_s itself: eps = 1e-5 off.
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=5e-5)

def test_adagn_has_the_mean_of_a_groups_own_channels_and_divides_their_variance_by_all():
    z_s, z_b = torch.tensor([[1, 2, 3]]).double(), torch.tensor([[4, 8, 5]]).double()
    h_s, h_b = torch.tensor([[2, 1]]).double(), torch.tensor([[10, 0]]).double()
    styles, shifts = group_styles(z_s, h_s, one_hot([0, 0, 1], 2), z_b, h_b)
    mean = (4 + 8) / 2 # Not 12 / 3, as with a zero for the third channel.
    variance = (1 + (4 - mean) ** 2 + 2 ** 2 + (8 - mean) ** 2) / 3 # Not that and mean^2 / 3, as with a zero.
    scale = 2 / variance ** 0.5
    torch.testing.assert_close(styles[0, :2], scale * torch.tensor([1, 2]).double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(shifts[0, :2], scale * torch.tensor([-2, 2]).double() + 10, rtol=1e-6, atol=0)

#----------------------------------------------------------------------------
# Equation 6 and the layer.

@pytest.mark.parametrize('up', [1, 2])
@pytest.mark.parametrize('fused', [True, False])
def test_modulated_convolution_equals_upstreams(up, fused):
    x, weight, styles = torch.randn(3, 8, 6, 6), torch.randn(5, 8, 3, 3), torch.randn(3, 8)
    noise = torch.randn(6 * up, 6 * up)
    resampling = dict(up=up, padding=1, resample_filter=torch.tensor([1., 3., 3., 1.])
        .outer(torch.tensor([1., 3., 3., 1.])) / 64, flip_weight=(up == 1))
    theirs = upstream_networks.modulated_conv2d(x, weight, styles, noise=noise, fused_modconv=fused, **resampling)
    ours = networks.modulated_conv2d(x, weight, styles, noise=noise, **resampling)
    rounding.assert_close(ours, theirs, terms=8 * 9, layers=2)

# Twenty times the eps of fp16, in which inputs, outputs and gradients are kept.
@pytest.mark.parametrize('half, tolerance', [(False, 1e-3), (True, 2e-2)], ids=['fp32', 'fp16'])
def test_modulated_convolution_has_the_gradients_of_upstreams(half, tolerance):
    inputs = [torch.randn(2, 4, 5, 5), torch.randn(3, 4, 3, 3), torch.randn(2, 4)]
    def gradients(function):
        x, weight, styles = [t.clone().requires_grad_(True) for t in inputs]
        first = torch.autograd.grad(function(x, weight, styles).float().square().sum(), [x, weight, styles],
            create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), [x, weight, styles])
        return [*first, *second]
    theirs = gradients(lambda x, w, s: upstream_networks.modulated_conv2d(x, w, s, padding=1, fused_modconv=False))
    ours = gradients(lambda x, w, s: networks.modulated_conv2d(x.half() if half else x, w, s, padding=1))
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * b.abs().max().item())

def test_modulated_convolution_in_fp16_neither_overflows_nor_drifts():
    x, weight, styles = torch.randn(2, 64, 8, 8), torch.randn(32, 64, 3, 3) * 100, torch.rand(2, 64) * 1000 + 1
    exact = networks.modulated_conv2d(x, weight, styles, padding=1)
    half = networks.modulated_conv2d(x.half(), weight, styles, padding=1)
    assert half.dtype == torch.float16 and half.isfinite().all()
    # Ten times the eps of fp16, for three values that are rounded to it.
    torch.testing.assert_close(half.float(), exact, rtol=1e-2, atol=1e-2)

def test_modulated_convolution_in_fp16_of_zeros_is_zero():
    x, weight, styles = torch.randn(2, 4, 8, 8).half(), torch.randn(3, 4, 3, 3), torch.randn(2, 4)
    styles[0] = 0 # All groups turned off in one image.
    weight[1] = 0 # A pruned output.
    y = networks.modulated_conv2d(x, weight, styles, padding=1)
    assert y.isfinite().all() and not y[0].any() and not y[:, 1].any() and y[1, 0].any()

@pytest.mark.parametrize('options, sentence', [
    (dict(grouping='kmean'),
        "grouping must be 'similarity', 'effects', 'kmeans', 'blocks', 'random' or 'none', not 'kmean'"),
    (dict(norm='weights'), "norm must be 'weight' or 'feature', not 'weights'"),
])
def test_unknown_names_are_refused(make_generator, options, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        make_generator(**options)

RETIRED = [(dict(norm_channels='layer', norm_eps=0.0, inter_gain=1.0), dict(norm_channels='group'), dict(norm_eps=0.3),
    dict(inter_gain=0)), (dict(info_variance='unit'), dict(info_variance='learned'))]

def test_options_of_earlier_versions_may_have_the_value_that_is_left(make_generator, make_discriminator):
    for make, (left, *gone) in zip([make_generator, make_discriminator], RETIRED):
        torch.manual_seed(0)
        with_them = make(**left)
        torch.manual_seed(0)
        without = make()
        assert all(torch.equal(a, b) for a, b in zip(with_them.parameters(), without.parameters()))
        for options in gone:
            (name, value), = options.items()
            with pytest.raises(ValueError, match=f'^{name} is retired and must be .*, its old default, not {value!r}$'):
                make(**options)

def test_a_generator_refuses_arguments_that_never_were(make_generator):
    with pytest.raises(TypeError, match="^Generator takes no argument 'xyzzy'$"):
        make_generator(xyzzy=1)

@pytest.mark.parametrize('norm', ['weight', 'feature'])
def test_generator_in_fp16_makes_the_images_of_fp32(make_generator, norm):
    size = dict(channel_base=256, channel_max=16, conv_clamp=256)
    exact, half = make_generator(norm=norm, synthesis_kwargs=size), make_generator(norm=norm,
        synthesis_kwargs=dict(num_fp16_res=2, **size))
    half.load_state_dict(exact.state_dict())
    ws = torch.randn(2, exact.num_ws, exact.w_dim)
    images = half.synthesis(ws, noise_mode='const')
    assert half.synthesis.b32.use_fp16 and not half.synthesis.b8.use_fp16
    expected = exact.synthesis(ws, noise_mode='const')
    assert (images - expected).norm() < 1e-2 * expected.norm() # fp16 keeps eleven bits, and single pixels may be worse.
    images.square().mean().backward() # A mean, as every loss is: sums over pixels leave the range of fp16.
    assert all(p.grad.isfinite().all() for p in half.synthesis.parameters())

@pytest.mark.parametrize('grouping', ['one group', 'none'])
def test_layer_with_one_group_and_inter_code_one_is_upstreams_layer(grouping):
    theirs = in_double(upstream_networks.SynthesisLayer(8, 6, w_dim=16, resolution=16, up=2))
    with torch.no_grad():
        theirs.noise_strength.fill_(0.3)
    how = dict(grouping='none') if grouping == 'none' else dict(grouping='similarity', num_groups=1)
    ours = in_double(SynthesisLayer(8, 6, code_dim=16, resolution=16, up=2, **how))
    ours.load_state_dict(theirs.state_dict(), strict=False)
    if grouping != 'none':
        ours.group_affine.weight.data.zero_() # Its bias of one is left: the inter code is one.
    x, w = torch.randn(3, 8, 8, 8).double(), torch.randn(3, 16).double()
    ws = torch.cat([torch.randn(3, 16).double(), w], dim=1) # [inter | intra]
    torch.testing.assert_close(ours(x, ws, noise_mode='const'), theirs(x, w, noise_mode='const', fused_modconv=False),
        rtol=1e-6, atol=1e-6)

def brute_force_layer(layer, x, w):
    """Equations 5 and 6 as they are written: a kernel for every sample, modulated and demodulated,
    and a plain convolution."""
    inter_code, intra_code = w.chunk(2, dim=1)
    f = brute_force_styles(layer.affine(intra_code), layer.group_affine(inter_code), layer.grouping.assignment,
        layer.grouping.num_groups)
    out = []
    for n in range(len(x)):
        modulated = f[n][None, :, None, None] * layer.weight
        demodulated = modulated / torch.sqrt(modulated.square().sum(dim=[1, 2, 3], keepdim=True) + 1e-8)
        out.append(F.conv2d(x[n : n + 1], demodulated, padding=1))
    x = torch.cat(out) + layer.bias[None, :, None, None]
    return F.leaky_relu(x, 0.2) * math.sqrt(2)

def test_layer_is_equations_5_and_6_with_the_gradients_of_brute_force():
    layer = in_double(SynthesisLayer(8, 6, code_dim=4, resolution=8, num_groups=3, use_noise=False))
    x, w = torch.randn(2, 8, 8, 8).double().requires_grad_(True), torch.randn(2, 8).double().requires_grad_(True)
    inputs = [x, w, *[p for name, p in layer.named_parameters() if not name.startswith('grouping.')]]
    ours, theirs = layer(x, w), brute_force_layer(layer, x, w)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    direction = torch.randn_like(ours)
    for a, b in zip(torch.autograd.grad((ours * direction).sum(), inputs),
            torch.autograd.grad((theirs * direction).sum(), inputs)):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)

@pytest.mark.parametrize('norm', ['weight', 'feature'])
def test_layer_has_the_second_derivatives_that_path_length_needs(norm):
    layer = in_double(SynthesisLayer(4, 2, code_dim=2, resolution=4, num_groups=2, norm=norm, use_noise=False))
    inputs = (torch.randn(1, 4, 4, 4).double().requires_grad_(True), torch.randn(1, 4).double().requires_grad_(True))
    assert torch.autograd.gradcheck(layer, inputs)
    assert torch.autograd.gradgradcheck(layer, inputs)

def test_both_forms_agree_on_features_of_unit_variance():
    x = torch.randn(4, 12, 64, 64).double()
    z, h, membership = (torch.rand(4, 12).double() + 0.5, torch.rand(4, 3).double() + 0.5,
        one_hot(torch.arange(12) % 3, 3))
    weight_form = x * group_styles(z, h, membership)[:, :, None, None] # What Eq. 6 convolves.
    styles, shifts = group_styles(z, h, membership, torch.zeros(4, 12).double(), torch.zeros(4, 3).double())
    feature_form = networks.normalized_conv2d(x,
        torch.eye(12).double().reshape(12, 12, 1, 1) * math.sqrt(12), styles, shifts)
    error = (feature_form - weight_form).square().mean().sqrt() / weight_form.square().mean().sqrt()
    # A channel's mean over HW pixels strays by 1/sqrt(HW), its deviation by 1/sqrt(2 HW): together sqrt(1.5 / HW).
    assert error == pytest.approx(math.sqrt(1.5 / 64 ** 2), rel=0.3)

def test_images_send_gradients_to_both_codes_and_none_to_the_grouping():
    layer = SynthesisLayer(8, 6, code_dim=4, resolution=8, num_groups=2)
    w = torch.randn(2, 8, requires_grad=True)
    layer(torch.randn(2, 8, 8, 8), w).square().sum().backward()
    assert (w.grad.abs().sum(dim=0) > 0).all()
    for parameter in layer.grouping.parameters():
        # There for DistributedDataParallel, but zero.
        assert parameter.grad is not None and parameter.grad.abs().max() == 0

#----------------------------------------------------------------------------
# Generator and discriminator.

def test_every_convolution_but_the_first_is_grouped_by_the_kernels_that_made_its_input(make_generator):
    synthesis = make_generator().synthesis
    found = [(name, source is getattr(getattr(synthesis, block), conv)) for (name, _layer, source), (block, conv) in
        zip(grouped_layers(synthesis),
            [('b4', 'conv1'), ('b8', 'conv0'), ('b8', 'conv1'), ('b16', 'conv0'), ('b16', 'conv1'), ('b32', 'conv0')])]
    assert found == [(f'b{res}.{conv}', True) for res in [8, 16, 32] for conv in ['conv0', 'conv1']]
    for _name, layer, source in grouped_layers(synthesis):
        assert layer.grouping.num_channels == layer.weight.shape[1] == source.weight.shape[0]

def test_first_and_torgb_layers_read_the_intra_code_alone(make_generator):
    G = make_generator()
    ws = torch.randn(2, G.num_ws, G.w_dim)
    other = ws.clone()
    other[:, :, :G.code_dim] = torch.randn(G.code_dim)
    x, img = G.synthesis.b4(None, None, ws[:, :2])
    x2, img2 = G.synthesis.b4(None, None, other[:, :2])
    assert G.synthesis.b4.conv1.noise_strength == 0 # So the two runs may be compared.
    assert torch.equal(x, x2) and torch.equal(img, img2)
    assert not torch.equal(G.synthesis(ws, noise_mode='const'), G.synthesis(other, noise_mode='const'))

def test_generator_with_no_grouping_is_upstreams_generator_given_its_weights(make_generator):
    G = make_generator(grouping='none')
    theirs = upstream_networks.Generator(z_dim=32, c_dim=0, w_dim=32, img_resolution=32, img_channels=3,
        synthesis_kwargs=dict(channel_base=256, channel_max=16)).eval()
    with torch.no_grad():
        for name, tensor in [*theirs.synthesis.named_parameters(), *theirs.synthesis.named_buffers()]:
            parts = name.replace('torgb.affine.', 'torgb.affine.affine.')
            dict([*G.synthesis.named_parameters(), *G.synthesis.named_buffers()])[parts].copy_(tensor)
    ws = torch.randn(2, G.num_ws, 32)
    both = torch.cat([torch.randn_like(ws), ws], dim=2)
    rounding.assert_close(G.synthesis(both, noise_mode='const'), theirs.synthesis(ws, noise_mode='const'),
        terms=16 * 9, layers=8)

@pytest.mark.parametrize('options', [dict(c_dim=3), dict(img_channels=1), dict(norm='feature'), dict(grouping='blocks'),
    dict(grouping='random')], ids=str)
def test_generator_of_every_kind_makes_finite_images(make_generator, options):
    G = make_generator(**options)
    img = G(torch.randn(2, G.z_dim), torch.zeros(2, G.c_dim), truncation_psi=0.7)
    assert img.shape == (2, G.img_channels, 32, 32) and img.isfinite().all()

def test_discriminator_gives_upstreams_logits_with_upstreams_weights(make_discriminator):
    for options in [dict(), dict(c_dim=4), dict(architecture='skip'), dict(architecture='orig')]:
        D = make_discriminator(**options)
        shape = dict(c_dim=0, img_resolution=32, img_channels=3, channel_base=256, channel_max=16)
        theirs = upstream_networks.Discriminator(**{**shape, **options}).eval()
        missing, unexpected = D.load_state_dict(theirs.state_dict(), strict=False)
        assert not unexpected and all(name.startswith('q.') for name in missing)
        img, c = torch.randn(4, 3, 32, 32), torch.randn(4, D.c_dim)
        rounding.assert_close(D(img, c), theirs(img, c), terms=16 * 9, layers=8)

def test_discriminator_returns_codes_only_when_asked(make_discriminator):
    D = make_discriminator()
    img, c = torch.randn(4, 3, 32, 32), torch.zeros(4, 0)
    logits, codes = D(img, c, return_codes=True)
    assert torch.equal(D(img, c), logits) and logits.shape == (4, 1) and codes.shape == (4, 64)

#----------------------------------------------------------------------------
# Styles of all layers at once.

def layers_with_styles(G):
    return [module for module in G.synthesis.modules() if hasattr(module, '_known')]

@pytest.mark.parametrize('options, together', [
    # Of 16 channels: five grouped layers, and the first one with three of ToRGB. Those of 8 channels are alone.
    (dict(), 9), (dict(grouping='blocks'), 9), (dict(grouping='kmeans'), 9), (dict(num_groups='auto'), 9),
    (dict(num_groups={8: 4, 16: 4, 32: 2}), 8), (dict(grouping='none'), 11),
    (dict(norm='feature'), 4), (dict(inter_form='exp'), 4), (dict(group_torgb=True), 5),
], ids=str)
def test_styles_made_at_once_are_those_that_layers_make_alone_and_so_are_all_gradients(make_generator, options,
        together):
    G = make_generator(**options).train().requires_grad_(True)
    ws = torch.randn(3, G.num_ws, G.w_dim, requires_grad=True) # Mixed everywhere.
    noise, found, made = torch.randn(3, 3, 32, 32) / 32, [], dict()
    for context in [contextlib.nullcontext(), styles_at_once(G.synthesis)]:
        G.zero_grad(set_to_none=True)
        with context:
            image = G.synthesis(ws, noise_mode='const')
            made = {layer: layer._known for layer in layers_with_styles(G) if layer._known is not None}
            slopes, = torch.autograd.grad((image * noise).sum(), ws, create_graph=True) # As of the path length.
            (image.square().mean() + slopes.square().sum()).backward()
        found.append([image, slopes, *[parameter.grad for parameter in G.synthesis.parameters()]])
    assert len(made) == together
    names = ['image', 'slopes', *dict(G.synthesis.named_parameters())]
    largest = max(one.abs().max() for one in found[0][2:]) # Some are differences of numbers as large.
    for name, one, other in zip(names, *found, strict=True):
        apart = rounding.bound(16 * 9, layers=16) * one.abs().max() + rounding.bound(16 * 9) * largest
        torch.testing.assert_close(other, one, rtol=0, atol=apart.item(), msg=lambda text, name=name: f'{name}: {text}')
    positions = {layer: index for index, (_name, layer) in enumerate(networks.convolutions(G.synthesis))}
    for layer in set(made) & set(positions):
        rounding.assert_close(made[layer], layer.styles(ws[:, positions[layer]]), terms=G.code_dim, layers=3)
    assert not any(layer._known is not None or '_known' in vars(layer) for layer in layers_with_styles(G))
    pickle.dumps(G)

def test_a_layer_whose_affine_maps_are_hooked_makes_its_styles_alone(make_generator):
    G = make_generator().requires_grad_(False)
    ws = torch.randn(2, G.num_ws, G.w_dim)
    with edits.edited(G, [edits.Edit('b16.conv0', 1, inter_scale=0)]):
        alone = G.synthesis(ws, noise_mode='const')
        with styles_at_once(G.synthesis):
            rounding.assert_close(G.synthesis(ws, noise_mode='const'), alone, terms=16 * 9, layers=8)
            assert G.synthesis.b16.conv0._known is None and G.synthesis.b16.conv1._known is not None

#----------------------------------------------------------------------------
# Pickles.

READ_PICKLE = """
import hashlib, sys
import torch
import legacy
with open(sys.argv[1], 'rb') as f:
    data = legacy.load_network_pkl(f)
G, D = data['G_ema'], data['D']
img = G(torch.ones(2, G.z_dim), torch.zeros(2, G.c_dim), truncation_psi=0.5, noise_mode='const')
mixed = G.mapping(torch.ones(2, G.z_dim), None)
mixed[:, 3:] = G.mapping(-torch.ones(2, G.z_dim), None)[:, 3:]
logits = D(G.synthesis(mixed, noise_mode='const'), torch.zeros(2, 0))
print(hashlib.sha256(img.numpy().tobytes() + logits.numpy().tobytes()).hexdigest())
"""

def test_pickle_loads_generates_and_mixes_in_an_unmodified_checkout_without_the_plugin(make_generator,
        make_discriminator, any_tree, tmp_path):
    torch.manual_seed(0)
    networks_dict = dict(G=make_generator(), D=make_discriminator(), G_ema=make_generator(), training_set_kwargs=None,
        augment_pipe=None)
    path = tmp_path / 'network.pkl'
    with open(path, 'wb') as f:
        pickle.dump({name: value.requires_grad_(False) if value is not None else None
            for name, value in networks_dict.items()}, f)

    outside = unmodified.run(any_tree, f'{READ_PICKLE}assert sys.modules["sarigan_plugin"] is None', path)
    inside = commands.finished(commands.start('-c', f'import sarigan_plugin\n{READ_PICKLE}', path))
    assert outside.split()[-1] == inside.stdout.split()[-1]

def test_legacy_loader_rebuilds_a_network_for_fp16(make_generator, make_discriminator):
    data = dict(G=make_generator(), D=make_discriminator(), G_ema=make_generator(), training_set_kwargs=None,
        augment_pipe=None)
    loaded = legacy.load_network_pkl(io.BytesIO(pickle.dumps(data)), force_fp16=True)
    assert loaded['G_ema'].synthesis.b32.use_fp16 and loaded['D'].b32.use_fp16
    for (name, a), (_name, b) in zip(loaded['G_ema'].named_parameters(), data['G_ema'].named_parameters()):
        assert np.array_equal(a.detach().numpy(), b.detach().numpy()), name

@pytest.mark.parametrize('mbstd_group_size', [2, 4, None])
def test_batches_that_the_discriminator_reads_at_once_have_statistics_of_their_own(make_discriminator,
        mbstd_group_size):
    D = make_discriminator(epilogue_kwargs=dict(mbstd_group_size=mbstd_group_size))
    batches = torch.randn(2, 4, 3, 32, 32)
    apart = [torch.cat(parts) for parts in zip(*[D(batch, None, return_codes=True) for batch in batches])]
    at_once = D(batches.flatten(0, 1), None, return_codes=True, num_batches=2)
    torch.testing.assert_close(list(at_once), apart, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(D(batches.flatten(0, 1), None), apart[0], rtol=1e-5, atol=1e-6)

#----------------------------------------------------------------------------
