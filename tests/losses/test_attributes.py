"""Groups that have one attribute each: mixtures of images, and what is to come along with which group."""

import itertools
import math

import pytest
import torch

from sarigan_plugin.losses.attributes import AttributeLoss, followed, num_mixtures
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.model.styles_at_once import groups_exchanged, styles_at_once
from sarigan_plugin.steering.channel_effects import exchanged_styles, exchanging
from sarigan_plugin.steering.styles import styled_layers

@pytest.fixture
def G(make_generator):
    return make_generator(grouping='blocks', num_groups=2).requires_grad_(False)

def codes(G, count):
    return torch.randn(count, 1, G.w_dim).repeat(1, G.num_ws, 1)

def brightness(images):
    """Is it bright, is it red? Logits [N, 2]."""
    means = images.mean(dim=[2, 3])
    return torch.stack([means.mean(dim=1), means[:, 0] - means[:, 2]], dim=1) * 10

def make_loss(G, D=None, **options):
    options = dict(dict(reader=brightness, attribute_of=[0, 1], num_groups=2, style_mixing_prob=0, lambda_info=0),
        **options)
    return AttributeLoss('cpu', G.mapping, G.synthesis, D, **options)

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
    logits = torch.tensor([[2., -1], [-3, 4], [0.5, -0.25], [1, 1]], requires_grad=True) # Two images, two mixtures.
    others, taken = torch.tensor([1, 0]), torch.tensor([[True, False], [False, True]])
    losses = followed(logits, others, taken, torch.tensor([0, 1]))
    # The first mixture has attribute 0 of image 1, not there, and attribute 1 of image 0, not there; the second has
    # attribute 0 of image 1, not there, and attribute 1 of image 0, not there.
    wanted = [[math.log(1 + math.exp(0.5)), math.log(1 + math.exp(-0.25))], [math.log(1 + math.e)] * 2]
    torch.testing.assert_close(losses, torch.tensor(wanted))
    losses.sum().backward()
    assert logits.grad[:2].abs().max() == 0 and logits.grad[2:].abs().min() > 0

def test_a_group_is_asked_only_for_what_both_images_show():
    # Is it bright; is its hat red, is it green: the second image has no hat, the third one a green hat.
    read = torch.tensor([[1., 2, -2], [-1, -3, -2], [1, -2, 3], *[[0.5, 0.5, 0.5]] * 3])
    taken = torch.tensor([[True, True], [False, True], [True, False]])
    losses = followed(read, torch.tensor([2, 0, 1]), taken, torch.tensor([0, 1, 1]))
    there, absent = math.log(1 + math.exp(-0.5)), math.log(1 + math.exp(0.5))
    torch.testing.assert_close(losses, torch.tensor([[there, absent, there], [absent, 0, 0], [absent, 0, 0]]))

def test_an_attribute_without_a_group_is_to_stay_as_it_is_in_the_first_image():
    read = torch.tensor([[1., 1], [-1, -1], [0.5, 0.5], [0.5, 0.5]]) # Is it bright; is it red, which has no group.
    losses = followed(read, torch.tensor([1, 0]), torch.ones(2, 1, dtype=torch.bool), torch.tensor([0, 1]))
    there, absent = math.log(1 + math.exp(-0.5)), math.log(1 + math.exp(0.5))
    torch.testing.assert_close(losses, torch.tensor([[absent, there], [there, absent]]))

@pytest.mark.parametrize('number', [1, 2, 5, 8])
def test_half_of_the_images_are_mixtures(G, number):
    loss, z = make_loss(G), torch.randn(number, G.z_dim)
    images, ws = loss.generate(z, torch.zeros(number, 0), sync=True)
    own = number - num_mixtures(number)
    assert images.shape[0] == ws.shape[0] == number and loss.others.tolist() == [
        (index - 1) % own for index in range(number - own)]
    torch.testing.assert_close(ws[:own], G.mapping(z[:own], torch.zeros(own, 0)))
    assert torch.equal(ws[own:], ws[:number - own])
    assert loss.taken.shape == (number - own, 2)

@pytest.mark.parametrize('attribute_of, num_with, num_without', [
    ([0, 1, 1, 0], 2, 0), # Two attributes of two values each, and two groups.
    ([2, 0, 3, 1], 2, 2),
    ([2, 0, 2, 1], 2, 1)])
def test_the_weighted_loss_is_the_mean_over_mixtures_and_attributes(G, attribute_of, num_with, num_without):
    torch.manual_seed(0)
    reader = lambda images: brightness(images).repeat(1, 2)
    loss = make_loss(G, reader=reader, attribute_of=attribute_of, num_groups=num_with, lambda_attributes=0.5)
    images, _ws = loss.generate(torch.randn(8, G.z_dim), torch.zeros(8, 0), sync=True)
    of_values = followed(reader(images), loss.others, loss.taken, loss.attribute_of).mean(dim=0)
    has_group = torch.tensor(attribute_of) < num_with
    wanted = of_values[has_group].sum() / num_with + of_values[~has_group].sum() / max(num_without, 1)
    assert loss._image_loss(images, None).item() == pytest.approx(0.5 * wanted.item()) and wanted > 0

def test_training_makes_an_attribute_follow_its_group(make_generator):
    """G alone, by this loss: brightness comes to be decided by group 0, redness by group 1."""
    torch.manual_seed(0)
    G = make_generator(grouping='blocks', num_groups=2).train().requires_grad_(True)
    loss = make_loss(G)
    optimizer = torch.optim.Adam(G.parameters(), lr=0.003, betas=(0.0, 0.99))
    def right(rounds=20):
        hits = []
        with torch.no_grad():
            for _round in range(rounds):
                images, _ws = loss.generate(torch.randn(16, G.z_dim), torch.zeros(16, 0), sync=True)
                there = brightness(images) > 0
                wanted = torch.where(loss.taken[:, loss.attribute_of], there[loss.others], there[:8])
                hits.append((there[8:] == wanted).float().mean())
        return torch.stack(hits).mean().item()
    before = right()
    for _step in range(150):
        images, _ws = loss.generate(torch.randn(16, G.z_dim), torch.zeros(16, 0), sync=True)
        spread = brightness(images[:8]).var(dim=0).clamp(max=4).sum() # Keeps the images different.
        optimizer.zero_grad()
        (loss._image_loss(images, None) - 0.1 * spread).backward()
        optimizer.step()
    assert right() > 0.9 > before + 0.05

def test_all_phases_run_and_a_mixture_has_the_label_of_its_first_image(make_generator, make_discriminator):
    G, D = make_generator(grouping='blocks', num_groups=2, c_dim=3), make_discriminator(c_dim=3)
    seen = []
    class Loss(AttributeLoss):
        def discriminate(self, batches, c, sync):
            seen.append(c[0])
            return super().discriminate(batches, c, sync)
    loss = Loss('cpu', G.mapping, G.synthesis, D, reader=brightness, attribute_of=[0, 1], num_groups=2)
    c = torch.eye(3)[torch.tensor([0, 1, 2, 1, 2, 1, 0, 2])]
    for phase in ['Gmain', 'Greg', 'Dmain', 'Dreg', 'Gboth', 'Dboth']:
        for module in [G, D]:
            module.requires_grad_(True)
        loss.accumulate_gradients(phase, torch.zeros(8, 3, G.img_resolution, G.img_resolution), c,
            torch.randn(8, G.z_dim), c, sync=True, gain=1)
        assert all(parameter.grad is None or parameter.grad.isfinite().all()
            for parameter in itertools.chain(G.parameters(), D.parameters()))
    assert torch.equal(seen[0], torch.eye(3)[torch.tensor([0, 1, 2, 1, 0, 1, 2, 1])])

def test_q_is_asked_about_images_of_one_code_alone(G, make_discriminator):
    loss = make_loss(G, make_discriminator(), lambda_info=1)
    ws = codes(G, 6)
    predicted = torch.randn(6, G.w_dim)
    whole = loss._info_loss(predicted, ws)
    predicted[3:] += 100
    assert loss._info_loss(predicted, ws) == whole

def test_refuses_a_negative_weight(G):
    with pytest.raises(ValueError, match='lambda_attributes must be non-negative, not -1'):
        make_loss(G, lambda_attributes=-1)
