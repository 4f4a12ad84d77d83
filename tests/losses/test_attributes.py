"""Groups that have one attribute each: mixtures of images, and what is to come along with which group."""

import itertools
import math

import pytest
import torch

from sarigan_plugin.losses.attributes import AttributeLoss, arranged, followed, second_images
from sarigan_plugin.losses.sarigan import SariGANLoss
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.model.styles_at_once import groups_exchanged, styles_at_once
from sarigan_plugin.steering.channel_effects import exchanged_styles, exchanging
from sarigan_plugin.steering.styles import styled_layers

from training import networks as upstream_networks

@pytest.fixture
def G(make_generator):
    return make_generator(grouping='blocks', num_groups=2).requires_grad_(False)

def codes(G, count):
    return torch.randn(count, 1, G.w_dim).repeat(1, G.num_ws, 1)

def brightness(images):
    """Is it bright, is it red? Logits [N, 2]."""
    means = images.mean(dim=[2, 3])
    return torch.stack([means.mean(dim=1), means[:, 0] - means[:, 2]], dim=1) * 10

def make_loss(G, D, **options):
    options = dict(dict(reader=brightness, group_of=[0, 1], style_mixing_prob=0, lambda_info=0),
        **options)
    return AttributeLoss('cpu', G.mapping, G.synthesis, D, **options)

def fakes(loss, G, count, c=None):
    return loss.fakes(torch.randn(count, G.z_dim), torch.zeros(count, 0) if c is None else c, sync=True)

@pytest.mark.parametrize('options', [{}, dict(norm='feature'), dict(inter_form='exp')], ids=str)
@pytest.mark.parametrize('at_once', [False, True])
def test_an_image_has_some_groups_of_another_one(make_generator, options, at_once):
    G = make_generator(grouping='blocks', num_groups=4, **options).requires_grad_(False)
    ws = codes(G, 3)
    ws[:, 2:] = codes(G, 3)[:, 2:] # As under style mixing.
    others, taken = torch.tensor([2, 0, 1]), torch.tensor([[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1]]).bool()
    wanted = []
    for n in range(3): # Image by image, layer by layer, by the styles of the other one.
        both = torch.stack([ws[n], ws[others[n]]])
        def mix(layer, n=n):
            channels = taken[n, layer.grouping.assignment]
            return lambda style: torch.stack([torch.where(channels, style[1], style[0]), style[1]])
        def styles_of(layer):
            own, change = layer.styles, mix(layer)
            return lambda w, *rest: (lambda out: tuple(map(change, out)) if isinstance(out, tuple) else change(out))(
                own(w, *rest))
        layers = [layer for _name, layer, _source in grouped_layers(G.synthesis)]
        for layer in layers:
            layer.styles = styles_of(layer)
        wanted.append(G.synthesis(both, noise_mode='const')[0])
        for layer in layers:
            del layer.styles
    before = G.synthesis(ws, noise_mode='const')
    with styles_at_once(G.synthesis) if at_once else torch.no_grad(), groups_exchanged(G.synthesis, others, taken):
        mixed = G.synthesis(ws, noise_mode='const')
        assert torch.equal(mixed, G.synthesis(ws, noise_mode='const'))
    torch.testing.assert_close(mixed, torch.stack(wanted), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(mixed, before)
    assert torch.equal(G.synthesis(ws, noise_mode='const'), before)

def test_exchanging_one_group_is_what_tools_exchange(G):
    ws, taken = codes(G, 4), torch.zeros(4, 2, dtype=torch.bool)
    taken[:, 1] = True
    with groups_exchanged(G.synthesis, torch.arange(4).sub(1) % 4, taken):
        mixed = G.synthesis(ws, noise_mode='const')
    layers = styled_layers(G)
    masks = {name: layer.grouping.assignment == 1 for name, layer in layers.items()}
    with exchanging(layers, masks, exchanged_styles(G, ws)):
        torch.testing.assert_close(G.synthesis(ws, noise_mode='const'), mixed)

def test_what_is_read_in_mixtures_is_to_be_what_was_read_where_their_groups_come_from():
    read = torch.tensor([[2., -1], [-3, 4]], requires_grad=True)
    mixed = torch.tensor([[0.5, -0.25], [1, 1]], requires_grad=True)
    second, taken = torch.tensor([1, 0]), torch.tensor([[True, False], [False, True]])
    losses = followed(read, mixed, second, taken, torch.tensor([0, 1]))
    # The first mixture has attribute 0 of image 1, not there, and attribute 1 of image 0, not there; the second has
    # attribute 0 of image 1, not there, and attribute 1 of image 0, not there.
    wanted = [[math.log(1 + math.exp(0.5)), math.log(1 + math.exp(-0.25))], [math.log(1 + math.e)] * 2]
    torch.testing.assert_close(losses, torch.tensor(wanted))
    losses.sum().backward()
    assert read.grad is None and mixed.grad.abs().min() > 0

THERE, ABSENT = math.log(1 + math.exp(-0.5)), math.log(1 + math.exp(0.5)) # Of a logit of 0.5.

def test_a_group_is_asked_only_for_what_both_images_show():
    # Is it bright; is its hat red, is it green: the second image has no hat, the third one a green hat.
    read, mixed = torch.tensor([[1., 2, -2], [-1, -3, -2], [1, -2, 3]]), torch.full([3, 3], 0.5)
    taken = torch.tensor([[True, True], [False, True], [True, False]])
    losses = followed(read, mixed, torch.tensor([2, 0, 1]), taken, torch.tensor([0, 1, 1]))
    torch.testing.assert_close(losses, torch.tensor([[THERE, ABSENT, THERE], [ABSENT, 0, 0], [ABSENT, 0, 0]]))

@pytest.mark.parametrize('num_images, compared', [(8, 4), (16, 4), (32, 4), (16, 8), (16, 2), (12, 4)])
def test_upstreams_discriminator_compares_no_mixture_with_what_it_is_made_of(num_images, compared):
    layer = upstream_networks.MinibatchStdLayer(group_size=compared)
    images = torch.randn(num_images, 1, 2, 2, requires_grad=True)
    deviation = layer(images)[:, 1].sum(dim=[1, 2])
    together = torch.stack([torch.autograd.grad(of_one, images, retain_graph=True)[0].flatten(1).any(dim=1)
        for of_one in deviation]) # [N, N]
    assert (together.sum(dim=1) == compared).all()
    own, mixed = arranged(num_images, compared, 'cpu')
    assert sorted([*own.tolist(), *mixed.tolist()]) == list(range(num_images))
    second, made_of = second_images(len(own), len(mixed), 'cpu'), dict()
    for index, place in enumerate(own.tolist()):
        made_of[place] = {index}
    for index, place in enumerate(mixed.tolist()):
        made_of[place] = {index, second[index].item()}
        assert len(made_of[place]) == 2
    for one, other in together.nonzero().tolist():
        if num_images % (2 * compared) == 0: # Otherwise one set has images of both kinds.
            assert len(made_of[one]) == len(made_of[other])
        if num_images >= 4 * compared and one != other:
            assert not made_of[one] & made_of[other]

@pytest.mark.parametrize('number', [1, 2, 5, 8, 16])
def test_half_of_the_images_are_mixtures_of_the_others_with_the_label_of_the_first(make_generator, make_discriminator,
        number):
    G = make_generator(grouping='blocks', num_groups=2, c_dim=3).requires_grad_(False)
    loss, z, c = make_loss(G, make_discriminator(c_dim=3)), torch.randn(number, G.z_dim), torch.eye(3)[
        torch.randint(3, [number])]
    images, ws, labels = loss.fakes(z, c, sync=True)
    (own, mixed), half = arranged(number, 4, 'cpu'), number - number // 2
    assert len(images) == len(ws) == len(labels) == number and len(own) == half
    codes = G.mapping(z[:half], c[:half])
    torch.testing.assert_close(ws[own], codes)
    assert torch.equal(ws[mixed], ws[own][:len(mixed)])
    assert torch.equal(labels[own], c[:half]) and torch.equal(labels[mixed], c[:len(mixed)])
    assert loss.taken.shape == (len(mixed), 2)
    for index, place in enumerate(mixed.tolist()):
        pair = codes[torch.tensor([index, loss.second[index]])]
        with groups_exchanged(G.synthesis, torch.tensor([1, 1]), loss.taken[[index, index]]):
            torch.testing.assert_close(G.synthesis(pair, noise_mode='const')[0], images[place], rtol=1e-4, atol=1e-4)

def test_the_weighted_loss_is_the_mean_over_mixtures_and_groups(G, make_discriminator):
    torch.manual_seed(0)
    reader = lambda images: brightness(images).repeat(1, 2) # Two attributes of two values each.
    loss = make_loss(G, make_discriminator(), reader=reader, group_of=[0, 1, 1, 0], lambda_attributes=0.5)
    images, _ws, _c = fakes(loss, G, 8)
    own, mixed = (reader(images[places]) for places in arranged(8, 4, 'cpu'))
    each = followed(own, mixed, loss.second, loss.taken, loss.group_of)
    assert loss._image_loss(images, None).item() == pytest.approx(0.5 * each.sum().item() / 4 / 2) and each.sum() > 0

def test_training_makes_an_attribute_follow_its_group(make_generator, make_discriminator):
    """G alone, by this loss: brightness comes to be decided by group 0, redness by group 1."""
    torch.manual_seed(0)
    G = make_generator(grouping='blocks', num_groups=2).train().requires_grad_(True)
    loss, (own, mixed) = make_loss(G, make_discriminator()), arranged(16, 4, 'cpu')
    optimizer = torch.optim.Adam(G.parameters(), lr=0.003, betas=(0.0, 0.99))
    def right(rounds=20):
        hits = []
        with torch.no_grad():
            for _round in range(rounds):
                images, _ws, _c = fakes(loss, G, 16)
                there = brightness(images[own]) > 0
                wanted = torch.where(loss.taken[:, loss.group_of], there[loss.second], there)
                hits.append(((brightness(images[mixed]) > 0) == wanted).float().mean())
        return torch.stack(hits).mean().item()
    before = right()
    for _step in range(150):
        images, _ws, _c = fakes(loss, G, 16)
        spread = brightness(images[own]).var(dim=0).clamp(max=4).sum() # Keeps the images different.
        optimizer.zero_grad()
        (loss._image_loss(images, None) - 0.1 * spread).backward()
        optimizer.step()
    assert right() > 0.9 > before + 0.05

@pytest.mark.parametrize('phase', ['Gmain', 'Greg', 'Dmain', 'Dreg', 'Gboth', 'Dboth'])
def test_all_phases_run_and_d_gets_the_labels_of_mixtures(make_generator, make_discriminator, phase):
    G, D = make_generator(grouping='blocks', num_groups=2, c_dim=3), make_discriminator(c_dim=3)
    seen = []
    class Loss(AttributeLoss):
        def discriminate(self, batches, c, sync):
            seen.append(c[0])
            return super().discriminate(batches, c, sync)
    loss = Loss('cpu', G.mapping, G.synthesis, D, reader=brightness, group_of=[0, 1])
    c = torch.eye(3)[torch.tensor([0, 1, 2, 1, 2, 1, 0, 2])]
    for module in [G, D]:
        module.requires_grad_(True)
    loss.accumulate_gradients(phase, torch.zeros(8, 3, G.img_resolution, G.img_resolution), c,
        torch.randn(8, G.z_dim), c, sync=True, gain=1)
    assert all(parameter.grad is None or parameter.grad.isfinite().all()
        for parameter in itertools.chain(G.parameters(), D.parameters()))
    own, mixed = arranged(8, 4, 'cpu')
    if phase in ['Gmain', 'Gboth', 'Dmain', 'Dboth']:
        assert torch.equal(seen[0][own], c[:4]) and torch.equal(seen[0][mixed], c[:4])

def test_path_lengths_are_those_of_unmixed_images(make_generator, make_discriminator):
    G, D = make_generator(grouping='blocks', num_groups=2), make_discriminator()
    plain = SariGANLoss('cpu', G.mapping, G.synthesis, D, style_mixing_prob=0)
    gradients, z = [], torch.randn(8, G.z_dim)
    for loss in [make_loss(G, D, pl_weight=2), plain]:
        G.requires_grad_(True).zero_grad()
        torch.manual_seed(0) # Of the noise.
        loss.accumulate_gradients('Greg', None, None, z, torch.zeros(8, 0), sync=True, gain=1)
        gradients.append({name: parameter.grad for name, parameter in G.named_parameters()})
    assert any(grad is not None and grad.abs().max() > 0 for grad in gradients[1].values())
    for name, grad in gradients[1].items():
        assert (grad is None) == (gradients[0][name] is None)
        if grad is not None:
            torch.testing.assert_close(gradients[0][name], grad)

def test_q_is_asked_about_images_of_one_code_alone(G, make_discriminator):
    loss = make_loss(G, make_discriminator(), lambda_info=1)
    (own, mixed), ws, predicted = arranged(6, 4, 'cpu'), codes(G, 6), torch.randn(6, G.w_dim)
    whole = loss._info_loss(predicted, ws)
    predicted[mixed] += 100
    assert loss._info_loss(predicted, ws) == whole
    predicted[own[0]] += 1
    assert loss._info_loss(predicted, ws) != whole

def test_refuses_a_negative_weight(G, make_discriminator):
    with pytest.raises(ValueError, match='lambda_attributes must be non-negative, not -1'):
        make_loss(G, make_discriminator(), lambda_attributes=-1)
