"""Precision and memory order of blocks on the CPU: bfloat16 where it pays, and no trace of it afterwards."""

import copy
import pickle

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from sarigan_plugin.acceleration import activations, cpu, cpu_formats
from sarigan_plugin.cli import COMMANDS, main
from sarigan_plugin.errors import UserError
from sarigan_plugin.losses.sarigan import SariGANLoss
from sarigan_plugin.model import inpainting
from sarigan_plugin.model.discriminator import Discriminator
from sarigan_plugin.model.networks import Generator
from sarigan_plugin.trainer import arguments, launch, recipes
from sarigan_plugin.upstream import exchanges

from torch_utils.ops import upfirdn2d
from training import networks as upstream_networks

EPS = 2 ** -8 # Of bfloat16: the largest relative error of one rounding.
SIZE = dict(channel_base=1024, channel_max=64, conv_clamp=256)

@pytest.fixture(autouse=True)
def prepared():
    cpu.prepare()

@pytest.fixture
def formats(monkeypatch):
    """What each block computed in, as it ran: a list of (resolution, dtype, memory format)."""
    seen = []
    for block in [upstream_networks.SynthesisBlock, upstream_networks.DiscriminatorBlock]:
        def forward(self, *args, reference=block.forward, **kwargs):
            x, img = reference(self, *args, **kwargs)
            seen.append((self.resolution, x.dtype, activations.memory_format(x)))
            return x, img
        monkeypatch.setattr(block, 'forward', forward)
    return seen

def make_both(**kwargs):
    size = dict(SIZE, **kwargs)
    torch.manual_seed(3)
    return Generator(64, 0, 32, 3, code_dim=64, num_groups=4, synthesis_kwargs=size), Discriminator(0, 32, 3,
        code_dim=64, epilogue_kwargs=dict(mbstd_group_size=4), **size)

def gradients(phase, choice, info=10, **size):
    """{name: gradient} of both networks' parameters after one phase, the same random numbers each time."""
    G, D = make_both(**size)
    trained = G if phase.startswith('G') else D
    for network in [G, D]:
        network.train().requires_grad_(network is trained)
    loss = SariGANLoss('cpu', G.mapping, G.synthesis, D, lambda_info=info)
    torch.manual_seed(0)
    with cpu_formats.using(choice):
        c = torch.zeros(8, 0)
        loss.accumulate_gradients(phase=phase, real_img=torch.rand(8, 3, 32, 32) * 2 - 1, real_c=c,
            gen_z=torch.randn(8, 64), gen_c=c, sync=True, gain=1)
    return {name: p.grad for name, p in trained.named_parameters()}

#----------------------------------------------------------------------------

def test_high_resolutions_compute_in_bf16_and_images_stay_in_fp32(formats):
    G, D = make_both()
    with cpu_formats.using('1', resolutions=2), torch.no_grad():
        img = G(torch.randn(4, 64), None)
        scores = D(img, None)
    assert {(res, dtype) for res, dtype, _order in formats} == {(4, torch.float32), (8, torch.float32),
        (16, torch.bfloat16), (32, torch.bfloat16)}
    assert all(order == torch.channels_last for _res, dtype, order in formats if dtype == torch.bfloat16)
    assert img.dtype == scores.dtype == torch.float32

@pytest.mark.parametrize('resolutions, lowest', [(1, 32), (2, 16), (3, 8), (4, 8), (9, 8)])
def test_resolutions_are_those_of_upstreams_fp16(resolutions, lowest):
    with cpu_formats.using('1', resolutions):
        ours = cpu_formats.lowest_in_bf16(32, channels=64)
    synthesis = upstream_networks.SynthesisNetwork(16, 32, 3, channel_base=64, num_fp16_res=resolutions)
    assert ours == lowest == min(res for res in synthesis.block_resolutions if getattr(synthesis, f'b{res}').use_fp16)

def test_nothing_computes_in_bf16_unless_asked_for(formats):
    G, _D = make_both()
    G(torch.randn(1, 64), None)
    with cpu_formats.using('1', resolutions=0):
        G.synthesis(ws=torch.randn(1, G.num_ws, G.w_dim))
    assert {dtype for _res, dtype, _order in formats} == {torch.float32}

@pytest.mark.parametrize('network_class', [upstream_networks.Generator, upstream_networks.Discriminator])
def test_upstreams_own_networks_compute_in_it_as_well(formats, network_class):
    G, D = upstream_networks.Generator(32, 0, 32, 32, 3,
        synthesis_kwargs=SIZE), upstream_networks.Discriminator(0, 32, 3, **SIZE)
    with cpu_formats.using('1', resolutions=1), torch.no_grad():
        _scores = D(torch.zeros(4, 3, 32, 32), None) if network_class is upstream_networks.Discriminator else G(
            torch.randn(1, 32), None)
    assert (32, torch.bfloat16) in [(res, dtype) for res, dtype, _order in formats]

def test_copies_and_pickles_show_nothing_of_it():
    G, D = make_both()
    before = [pickle.dumps(network) for network in [G.eval(), D]]
    with cpu_formats.using('1'):
        D(G(torch.randn(4, 64), None, noise_mode='const'), None)
        inside = [pickle.dumps(network) for network in [G, D]]
        assert not any(block.use_fp16 for block in copy.deepcopy(G.synthesis).children())
    assert inside == before

def test_blocks_forget_it_where_they_fail():
    G, _D = make_both()
    with cpu_formats.using('1'), pytest.raises(AssertionError):
        G.synthesis(torch.zeros(1, 3, 5))
    assert not any(block.use_fp16 or block.channels_last for block in G.synthesis.children())
    assert upstream_networks.torch.float16 == torch.float16

def test_networks_made_in_fp16_stay_in_it(formats):
    synthesis = upstream_networks.SynthesisNetwork(16, 16, 3, channel_base=128, channel_max=16, num_fp16_res=1)
    with cpu_formats.using('1'), torch.no_grad():
        synthesis(torch.randn(1, synthesis.num_ws, 16), noise_mode='const', fused_modconv=False)
    assert [dtype for _res, dtype, _order in formats] == [torch.float32, torch.float32, torch.float16]

#----------------------------------------------------------------------------
# When it pays.

@pytest.mark.parametrize('choice, channels, faster, expected', [
    ('auto', 64, True, 'Precision: bf16 from 8x8 to 32x32, fp32 elsewhere.'),
    ('auto', 64, False, 'Precision: fp32; this CPU is no faster in bf16.'),
    ('auto', 16, True, 'Precision: fp32; with 16 channels at 32x32, fewer than 32, bf16 would save nothing.'),
    ('1', 16, False, 'Precision: bf16 from 8x8 to 32x32, fp32 elsewhere.'),
    ('0', 64, True, 'Precision: fp32, as asked for.'),
])
def test_the_log_says_which_precision_and_why(monkeypatch, choice, channels, faster, expected):
    monkeypatch.setattr(cpu_formats, 'is_faster', lambda: faster)
    with cpu_formats.using(choice):
        assert cpu_formats.explained(32, channels) == expected

def test_whether_it_is_faster_is_measured_in_less_than_a_second_of_the_cpu():
    assert cpu_formats.is_faster() in [True, False]
    assert 0 < cpu_formats._seconds(torch.bfloat16) < 1

#----------------------------------------------------------------------------
# The numbers.

def test_images_are_those_of_fp32():
    G, _D = make_both()
    z = torch.randn(4, 64)
    with torch.no_grad():
        expected = G(z, None, noise_mode='const')
        with cpu_formats.using('1'):
            images = G(z, None, noise_mode='const')
    # Some forty roundings in a row, seven in each of six layers and those of weights and colours, of half an EPS at
    # most, add up as their root: 3.2 EPS; later layers average, but not on every CPU alike.
    assert 0 < (images - expected).norm() < 3.2 * EPS * expected.norm()

def test_who_forces_fp32_has_what_a_network_without_half_precision_has():
    (G, D), (half_G, half_D) = make_both(), make_both(num_fp16_res=2)
    z, c = torch.randn(4, 64), torch.zeros(4, 0)
    for choice in ['0', '1']:
        with torch.no_grad():
            images = G(z, c, noise_mode='const')
            with cpu_formats.using(choice):
                assert torch.equal(half_G(z, c, noise_mode='const', force_fp32=True), images)
                assert torch.equal(half_D(images, c, force_fp32=True)[0], D(images, c, force_fp32=True)[0])
                assert torch.equal(G(z, c, noise_mode='const', force_fp32=True), images)

@pytest.mark.parametrize('phase', ['Gmain', 'Greg', 'Dmain', 'Dreg'])
def test_gradients_are_those_of_fp32(phase):
    exact, rounded = gradients(phase, '0'), gradients(phase, '1')
    all_exact, all_rounded = [torch.cat([tensors[name].flatten() for name in exact]) for tensors in [exact, rounded]]
    # Some hundred roundings in a row, there and back, of half an EPS at most, add up as their root; five times that.
    assert 0 < (all_rounded - all_exact).norm() < 25 * EPS * all_exact.norm()

@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize('order', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('with_bias, clamp', [(True, None), (False, 0.5), (True, 0.5)])
def test_leaky_relu_in_any_order_and_precision(dtype, order, with_bias, clamp):
    x = torch.randn(3, 5, 6, 7, dtype=torch.float64)
    b = torch.randn(5, dtype=torch.float64) if with_bias else None
    def derivatives(function, x, b):
        x, b = x.detach().requires_grad_(), b.detach().requires_grad_() if b is not None else None
        y = function(x, b)
        dx, *db = torch.autograd.grad(y.square().sum(), [x] + ([b] if b is not None else []), create_graph=True)
        ddx, = torch.autograd.grad(dx.square().sum(), x)
        return [y, dx, ddx, *db]
    def unclamped(x, b):
        return F.leaky_relu(x + (b[:, None, None] if b is not None else 0), 0.2) * 1.5
    def reference(x, b):
        return unclamped(x, b).clamp(-clamp, clamp) if clamp is not None else unclamped(x, b)
    def leaky_relu(x, b):
        return activations.LeakyReLU.apply(x, b, 0.2, 1.5, float('inf') if clamp is None else clamp)
    x, b = x.to(dtype).double(), b.to(dtype).double() if b is not None else None # Both start from what dtype can hold.
    if clamp is not None: # At the bound itself, rounding decides whether there is a slope.
        x[(unclamped(x, b).abs() - clamp).abs() < 4 * EPS] = 0.01
    ours = derivatives(leaky_relu, x.to(dtype, memory_format=order), b.to(dtype) if b is not None else None)
    assert ours[0].is_contiguous(memory_format=order) and ours[0].dtype == dtype
    for name, mine, exact in zip(['y', 'dx', 'ddx', 'db'], ours, derivatives(reference, x, b)):
        scale = 4 * EPS if dtype == torch.bfloat16 else 16 * torch.finfo(dtype).eps
        assert (mine.double() - exact).abs().max() <= scale * exact.abs().max() * (len(x) * 42 if name == 'db'
            and dtype == torch.bfloat16 else 4), name

@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('order', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('down, padding, size', [(1, [2, 1, 2, 1], 8), (1, [1, 1, 1, 1], 9), (2, [1, 1, 1, 1], 8),
    (2, [1, 1, 1, 1], 9), (1, [4, 4, 4, 4], 5), (1, [-1, 0, 0, 2], 8)])
def test_filters_have_upstreams_values_and_gradients_in_any_order(dtype, order, down, padding, size):
    f = upfirdn2d.setup_filter([1, 3, 3, 1])
    x = torch.randn(2, 5, size, size).to(dtype)
    def outputs(x):
        x = x.detach().requires_grad_()
        y = upfirdn2d._upfirdn2d_ref(x, f, down=down, padding=padding, gain=2)
        dx, = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        ddx, = torch.autograd.grad(dx.pow(3).sum(), x)
        return y, dx, ddx
    with exchanges.undone():
        exact = outputs(x.double())
    # Sixteen products each, cubed and differentiated twice.
    bound = 16 * 6 * (EPS if dtype == torch.bfloat16 else torch.finfo(dtype).eps)
    for mine, expected in zip(outputs(x.to(memory_format=order)), exact):
        assert (mine.double() - expected).abs().max() <= bound * expected.abs().max()

#----------------------------------------------------------------------------
# Inpainting.

def test_inpainting_completes_as_fp32_does_and_its_encoder_forgets_as_well():
    torch.manual_seed(0)
    G = inpainting.Generator(64, 4 * 32 * 32, 32, 3, code_dim=64, num_groups=4, synthesis_kwargs=SIZE).eval()
    image, hole = torch.rand(2, 3, 32, 32) * 2 - 1, torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    hole[:, :, 8:24, 8:24] = True
    c = inpainting.join_condition(image * ~hole, hole)
    z, before = torch.randn(2, 64), G.synthesis.encoder.fp16_resolution
    with torch.no_grad():
        expected = G(z, c, noise_mode='const')
        with cpu_formats.using('1'):
            completed = G(z, c, noise_mode='const')
    assert 0 < (completed - expected).norm() < 3 * EPS * expected.norm() # The encoder rounds too.
    assert torch.equal(completed[(~hole).expand_as(completed)], image[(~hole).expand_as(image)])
    assert G.synthesis.encoder.fp16_resolution == before

#----------------------------------------------------------------------------
# The commands.

def of_networks():
    """Commands that run a network where --device says."""
    commands = {name: main.get_command(None, name) for name in COMMANDS}
    return {name: command for name, command in commands.items()
        if any('--device' in param.opts for param in command.params) and name not in ['demo', 'ablate']}

def test_every_command_that_runs_networks_takes_it():
    assert {'train', 'generate', 'project', 'explore', 'metrics', 'edit', 'inpaint'} <= of_networks().keys()
    for name, command in of_networks().items():
        option, = [param for param in command.params if '--cpu-bf16' in param.opts]
        assert name == 'train' or option.default == 'auto', name

@pytest.mark.parametrize('given, formats_seen', [('1', torch.bfloat16), ('true', torch.bfloat16), ('0', torch.float32)])
def test_a_command_draws_in_what_it_is_told_and_then_forgets(tmp_path, formats, given, formats_seen):
    G, _D = make_both()
    (tmp_path / 'network.pkl').write_bytes(pickle.dumps(dict(G_ema=G.eval())))
    result = CliRunner().invoke(main, ['generate', f'--network={tmp_path / "network.pkl"}', '--seeds=3',
        f'--outdir={tmp_path / "out"}', '--device=cpu', f'--cpu-bf16={given}'])
    assert result.exit_code == 0, result.output
    assert (32, formats_seen) in [(res, dtype) for res, dtype, _order in formats]
    z = torch.from_numpy(np.random.RandomState(3).randn(1, 64)).float()
    with torch.no_grad():
        # In fp32 again.
        expected = G(z, None, noise_mode='const')[0].mul(127.5).add(128).clamp(0, 255).permute(1, 2, 0).numpy()
    image = np.asarray(PIL.Image.open(tmp_path / 'out' / 'seed0003.png')).astype(float)
    # Single pixels may be worse.
    assert np.abs(image - expected).mean() <= (1 if formats_seen == torch.float32 else 2 * EPS * 255)

@pytest.fixture
def images(tmp_path):
    (tmp_path / 'images').mkdir()
    for i in range(8):
        PIL.Image.new('RGB', (32, 32), (i, 0, 0)).save(tmp_path / 'images' / f'{i}.png')
    return str(tmp_path / 'images')

def test_what_is_asked_for_is_in_the_options_and_auto_is_not(images):
    for given, stored in [(None, None), ('auto', None), ('1', '1'), ('0', '0')]:
        _desc, args = arguments.training_options(data=images, cfg='tiny', metrics=[], cpu_bf16=given)
        assert args.get('cpu_bf16') == stored

@pytest.mark.parametrize('cfg, given, expected', [('tiny', None, 8), ('tiny', '0', None), ('tiny-inpaint', None, None),
    ('tiny-inpaint', '1', 8)])
def test_trainings_of_tiny_take_it_where_it_is_faster_and_images_do_not(images, monkeypatch, cfg, given, expected):
    monkeypatch.setattr(cpu_formats, 'is_faster', lambda: True)
    _desc, args = arguments.training_options(data=images, cfg=cfg, metrics=[], cpu_bf16=given)
    with cpu_formats.using(*launch.cpu_precision(args)):
        assert cpu_formats.lowest_in_bf16(32, channels=16) == expected
    with cpu_formats.using('auto'):
        assert cpu_formats.lowest_in_bf16(32, channels=16) is None

def test_two_precisions_at_once_are_refused(images):
    with pytest.raises(UserError, match='--fp32=1 and --cpu-bf16=1: one of them alone'):
        arguments.training_options(data=images, cfg='tiny', metrics=[], fp32=True, cpu_bf16='1')

@pytest.mark.parametrize('value, stored', [('true', '1'), ('false', '0'), ('"auto"', 'auto')])
def test_configs_have_it_as_well(tmp_path, value, stored):
    (tmp_path / 'mine.toml').write_text(f'base = "tiny"\n[training]\ncpu_bf16 = {value}\n')
    assert recipes.read_recipe(tmp_path / 'mine.toml').training.cpu_bf16 == stored

@pytest.mark.parametrize('value', ['1', '"yes"', '0.5', '[]'])
def test_other_values_in_configs_are_refused(tmp_path, value):
    (tmp_path / 'mine.toml').write_text(f'base = "tiny"\n[training]\ncpu_bf16 = {value}\n')
    with pytest.raises(UserError, match='cpu_bf16 must be "auto", true or false, not '):
        recipes.read_recipe(tmp_path / 'mine.toml')

#----------------------------------------------------------------------------
