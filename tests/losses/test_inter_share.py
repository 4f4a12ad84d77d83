"""How much of an image the inter-group code decides, and beta, which follows it."""

import math

import pytest
import torch

from sarigan_plugin.evaluation import disentanglement
from sarigan_plugin.losses import inter_share
from sarigan_plugin.losses.inpainting import InpaintingLoss
from sarigan_plugin.losses.inter_share import decided, steer
from sarigan_plugin.losses.sarigan import TARGET_STEPS, SariGANLoss
from sarigan_plugin.model import running_figures
from small_networks import make_inpainter
from worlds import together

@pytest.fixture
def G(make_generator):
    return make_generator(inter_form='exp', grouping='blocks').requires_grad_(False)

def codes(G, count):
    return torch.randn(count, 1, G.w_dim).repeat(1, G.num_ws, 1)

def share_of(G, ws):
    return decided(lambda codes: G.synthesis(codes, noise_mode='const'), ws)

def exp_affines(synthesis):
    return list(running_figures.exp_affines(synthesis).values())

def betas(G):
    return [of_groups.beta.item() for of_groups in exp_affines(G.synthesis)]

def steps(loss, G, count, phase='Gmain', num_images=8, c_dim=0):
    for _step in range(count):
        loss.accumulate_gradients(phase=phase, real_img=torch.zeros(num_images, 3, G.img_resolution, G.img_resolution),
            real_c=torch.zeros(num_images, c_dim), gen_z=torch.randn(num_images, G.z_dim),
            gen_c=torch.zeros(num_images, c_dim), sync=True, gain=1)

def test_the_share_of_images_that_are_linear_in_their_codes_is_that_of_squares():
    ws = torch.randn(6, 1, 8).double()
    matrices = torch.randn(2, 4, 12).double() # Of the inter-group code and the other one, to 3 x 2 x 2 numbers.
    images = lambda codes: torch.einsum('nck,ckp->np', codes[:, 0].unflatten(1, [2, 4]), matrices).view(-1, 3, 2, 2)
    inter, both = 0, 0
    for n in range(6):
        away = (ws[n - 1] - ws[n])[0].unflatten(0, [2, 4])
        inter += (away[0] @ matrices[0]).square().sum()
        both += (away[0] @ matrices[0] + away[1] @ matrices[1]).square().sum()
    torch.testing.assert_close(decided(images, ws).double(), inter / both)

def test_the_share_is_the_one_that_disentanglement_tells(G):
    ws = codes(G, 8)
    changes = disentanglement.exchanged(G, ws, ws.roll(1, dims=0))
    told = disentanglement.deciding(changes)(torch.ones(8).double().numpy())['inter decides']
    assert share_of(G, ws).item() == pytest.approx(told, rel=1e-4) and 0.01 < told < 1

@pytest.mark.parametrize('share, step', [(0.0, 1), (0.15, 0.5), (0.3, 0), (0.6, -1), (10.0, -3), (float('nan'), 0),
    (float('inf'), -3)])
def test_beta_follows_the_share_by_how_far_it_is_off(G, share, step):
    wanted = pytest.approx(0.5 * math.exp(inter_share.STEP * step))
    assert steer(exp_affines(G.synthesis), torch.tensor(share), 0.3).item() == wanted
    assert all(beta == wanted for beta in betas(G))

@pytest.mark.parametrize('share, end', [(0, inter_share.HIGHEST), (1, inter_share.LOWEST)])
def test_beta_has_limits(G, share, end):
    for _look in range(400):
        steer(exp_affines(G.synthesis), torch.tensor(float(share)), 0.3)
    assert betas(G) == pytest.approx([end] * 6)

@pytest.mark.parametrize('target', [0.15, 0.4])
def test_the_share_comes_to_its_target(G, target):
    for _look in range(100):
        steer(exp_affines(G.synthesis), share_of(G, codes(G, 8)), target)
    assert share_of(G, codes(G, 256)).item() == pytest.approx(target, rel=0.2)

def test_one_image_says_nothing(G):
    assert share_of(G, codes(G, 1)).isnan()

def test_a_look_is_every_sixteenth_step_of_the_main_phase_and_moves_nothing_else(G, make_discriminator):
    G.train()
    loss = SariGANLoss('cpu', G.mapping, G.synthesis, make_discriminator(), inter_share=0.9, style_mixing_prob=0)
    seen = betas(G)[:1]
    for _step in range(2 * TARGET_STEPS):
        steps(loss, G.requires_grad_(True), 1)
        seen.append(betas(G)[0])
    looks = [step + 1 for step, (before, after) in enumerate(zip(seen, seen[1:])) if before != after]
    assert looks == [TARGET_STEPS, 2 * TARGET_STEPS]
    assert 0.5 < seen[-1] < 0.5 * math.exp(2 * inter_share.STEP)
    w_avg, random_state = G.mapping.w_avg.clone(), torch.get_rng_state()
    loss._keep_share(torch.randn(4, G.z_dim, generator=torch.Generator().manual_seed(0)), torch.zeros(4, 0))
    assert torch.equal(torch.get_rng_state(), random_state) and torch.equal(G.mapping.w_avg, w_avg)
    loss.steps_to_targets = 1
    for phase in ['Greg', 'Dmain', 'Dreg']:
        before = betas(G)
        steps(loss, G, 1, phase)
        assert betas(G) == before

def test_completed_images_count_by_what_is_in_their_holes():
    G = make_inpainter(img_resolution=16, inter_form='exp')
    loss = InpaintingLoss('cpu', G.mapping, G.synthesis, None, mask_source='centre', inter_share=0.9)
    c = torch.randn(4, G.c_dim)
    before = betas(G)
    loss._keep_share(torch.randn(4, G.z_dim), c)
    after = betas(G)
    assert all(new > old for new, old in zip(after, before))
    c[:, -16 * 16:] = 0 # No hole.
    loss._keep_share(torch.randn(4, G.z_dim), c)
    assert betas(G) == after

def test_other_generators_are_left_alone(make_generator):
    G = make_generator().requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in G.state_dict().items()}
    SariGANLoss('cpu', None, G.synthesis, None)._keep_share(None, None) # Maps nothing.
    assert all(torch.equal(tensor, before[name]) for name, tensor in G.state_dict().items())

def test_processes_find_the_share_of_all_images(G, tmp_path):
    ws = codes(G, 8)
    def changes(part):
        of_part = disentanglement.exchanged(G, part, part.roll(1, dims=0))
        return of_part['inter'].mean(), of_part['both'].mean()
    (inter, both), (other_inter, other_both) = map(changes, ws.chunk(2))

    def work(world):
        torch.distributed.init_process_group('gloo', rank=world.rank, world_size=2,
            init_method=f'file://{tmp_path / "rendezvous"}')
        torch.set_num_threads(1)
        torch.save(share_of(G, ws.chunk(2)[world.rank]), tmp_path / f'{world.rank}.pt')
        torch.distributed.destroy_process_group()

    assert together(tmp_path, 2, work) == [0, 0]
    for rank in range(2):
        assert torch.load(tmp_path / f'{rank}.pt').item() == pytest.approx((inter + other_inter) / (both + other_both),
            rel=1e-4)

@pytest.mark.parametrize('share', [0, 1, -0.2, float('nan')])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=f'inter_share must be between 0 and 1, not {share}'):
        SariGANLoss('cpu', None, None, None, inter_share=share)
