"""Inpainting: what is known stays, what is hidden stays hidden, and upstream's loop trains it."""

import json
import os
import pickle
import signal

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

import commands
import limits
import small_training
import unmodified
from ddp_steps import assert_equal_on_both_ranks, assert_trained_alike, run as run_ddp
from sarigan_plugin import cli
from sarigan_plugin.acceleration import cpu, cpu_formats
from sarigan_plugin.datasets import masks
from sarigan_plugin.datasets.inpainting import InpaintingDataset
from sarigan_plugin.errors import UserError
from sarigan_plugin.losses.inpainting import InpaintingLoss, hole_errors
from sarigan_plugin.model import inpainting, networks
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.model.inpainting import join_condition, split_condition
from sarigan_plugin.snapshots import exported, reading
from sarigan_plugin.trainer import arguments, recipes, transfer, upstream_loop
from trainings import assert_equal_runs, finish, last_run, start

from metrics import metric_utils
from training import training_loop

SIZE = dict(channel_base=256, channel_max=16)

def make_generator(img_channels=3, synthesis_kwargs=SIZE, **kwargs):
    return inpainting.Generator(z_dim=32, c_dim=(img_channels + 1) * 32 * 32, img_resolution=32,
        img_channels=img_channels, code_dim=32, num_groups=4,
        mapping_kwargs=dict(num_layers=2), synthesis_kwargs=synthesis_kwargs, **kwargs).eval()

def make_discriminator(img_channels=3, **kwargs):
    return inpainting.Discriminator(c_dim=(img_channels + 1) * 32 * 32, img_resolution=32, img_channels=img_channels,
        code_dim=32, **SIZE, **kwargs).eval()

def make_task(num=4, img_channels=3):
    """Images [N, C, 32, 32] and holes [N, 1, 32, 32]."""
    images = torch.randint(256, [num, img_channels, 32, 32]) / 127.5 - 1
    holes = np.stack([masks.draw('mixed', 32, np.random.RandomState(index)) for index in range(num)])
    return images, torch.from_numpy(holes).unsqueeze(1)

def known(images, hole):
    return torch.where(hole, torch.zeros_like(images), images)

#----------------------------------------------------------------------------
# The condition.

def test_a_condition_comes_apart_into_what_it_was_joined_from():
    images, hole = make_task()
    image, mask = split_condition(join_condition(images, hole), 3, 32)
    assert torch.equal(mask, hole) and torch.equal(image, known(images, hole))

@pytest.mark.parametrize('grouping', ['similarity', 'none'])
def test_nothing_under_the_hole_reaches_the_output(grouping):
    G, (images, hole), z = make_generator(grouping=grouping), make_task(), torch.randn(4, 32)
    other = torch.where(hole, torch.randn_like(images), images)
    before = G(z, join_condition(images, hole), noise_mode='const')
    assert torch.equal(before, G(z, join_condition(other, hole), noise_mode='const'))
    careless = torch.cat([other, hole.float()], dim=1).flatten(1) # Not even where a label still holds the truth.
    assert torch.equal(before, G(z, careless, noise_mode='const'))

#----------------------------------------------------------------------------
# Generator.

@pytest.mark.parametrize('num_fp16_res', [0, 2])
@pytest.mark.parametrize('img_channels', [1, 3])
def test_known_pixels_come_back_bit_by_bit(img_channels, num_fp16_res):
    G = make_generator(img_channels, synthesis_kwargs=dict(SIZE, num_fp16_res=num_fp16_res, conv_clamp=256))
    images, hole = make_task(img_channels=img_channels)
    completed = G(torch.randn(4, 32), join_condition(images, hole))
    assert completed.shape == images.shape and completed.dtype == torch.float32
    assert torch.equal(known(completed, hole), known(images, hole))
    assert (completed != images)[hole.expand_as(images)].all()
    assert G.synthesis.b32.use_fp16 == (G.synthesis.encoder.fp16_resolution <= 32) == (num_fp16_res == 2)

def test_fp16_completes_as_fp32_does():
    cpu.prepare()
    exact, half = make_generator(), make_generator(synthesis_kwargs=dict(SIZE, num_fp16_res=2, conv_clamp=256))
    half.load_state_dict(exact.state_dict())
    z, c = torch.randn(4, 32), join_condition(*make_task())
    expected = exact(z, c, noise_mode='const')
    # As for the unconditional generator.
    assert (half(z, c, noise_mode='const') - expected).norm() < 1e-2 * expected.norm()
    assert torch.equal(half(z, c, noise_mode='const', force_fp32=True), expected)

def test_an_image_without_a_hole_is_itself_and_one_that_is_all_hole_is_generated():
    G, (images, hole) = make_generator(), make_task()
    nothing, everything = torch.zeros_like(hole), torch.ones_like(hole)
    z = torch.randn(4, 32)
    assert torch.equal(G(z, join_condition(images, nothing)), images)
    assert torch.equal(G(z, join_condition(images, everything), noise_mode='const'),
        G(z, join_condition(-images, everything), noise_mode='const'))

def test_z_and_the_known_pixels_both_decide_what_fills_the_hole():
    G, (images, hole), z = make_generator(), make_task(), torch.randn(4, 32)
    def filled(z, images):
        return G(z, join_condition(images, hole), noise_mode='const') * hole
    assert not torch.equal(filled(z, images), filled(-z, images))
    assert not torch.equal(filled(z, images), filled(z, -images))

def test_with_silent_encoders_the_blocks_are_those_of_the_unconditional_generator():
    """Without features each second convolution reads its input at half the variance,
    which demodulation cancels but for noise and bias."""
    cpu.prepare()
    G = make_generator(synthesis_kwargs=dict(SIZE, use_noise=False))
    with torch.no_grad():
        for parameter in G.synthesis.encoder.parameters():
            parameter.zero_()
    ws, (images, _hole) = torch.randn(4, G.num_ws, G.w_dim), make_task()
    x = img = None
    with cpu_formats.as_in_forward(G.synthesis, ws.device):
        for res, first in zip(G.synthesis.block_resolutions, [0, 1, 3, 5]):
            block = getattr(G.synthesis, f'b{res}')
            hook = block.conv1.register_forward_pre_hook(lambda _layer, args: (args[0] * np.sqrt(0.5), *args[1:]))
            x, img = block(x, img, ws[:, first : first + block.num_conv + block.num_torgb])
            hook.remove()
    torch.testing.assert_close(G.synthesis(ws, join_condition(images, torch.ones(4, 1, 32, 32, dtype=torch.bool))),
        img, rtol=0, atol=0)

@pytest.mark.parametrize('res', [4, 8, 16, 32])
def test_features_of_each_resolution_enter_the_block_of_that_resolution(res):
    G, c = make_generator(), join_condition(*make_task(1))
    ws = torch.randn(1, G.num_ws, G.w_dim)
    reads = dict()
    for r in G.synthesis.block_resolutions:
        getattr(G.synthesis, f'b{r}').conv1.register_forward_hook(
            lambda _layer, args, _out, r=r: reads.update({r: args[0]}))
    G.synthesis(ws, c, noise_mode='const')
    before = dict(reads)
    G.synthesis.encoder.register_forward_hook(lambda _encoder, _args, features: [f + 1 if f.shape[-1] == res else f
        for f in features])
    G.synthesis(ws, c, noise_mode='const')
    for r in G.synthesis.block_resolutions:
        assert torch.equal(reads[r], before[r]) == (r < res), r
    torch.testing.assert_close(reads[res], before[res] + np.sqrt(0.5))

def test_its_layers_are_grouped_as_elsewhere_and_the_baseline_has_none():
    assert [name for name, _layer, _source in grouped_layers(make_generator().synthesis)] == [f'b{res}.{conv}'
        for res in [8, 16, 32] for conv in ['conv0', 'conv1']]
    assert grouped_layers(make_generator(grouping='none').synthesis) == []

def test_the_mapping_network_is_upstreams_and_truncates():
    G, c = make_generator(), join_condition(*make_task())
    z = torch.randn(4, 32)
    ws = G.mapping(z, c)
    assert ws.shape == (4, G.num_ws, G.w_dim)
    assert torch.equal(G.mapping(z, c, truncation_psi=0), torch.zeros_like(ws)) # w_avg at the start.
    torch.testing.assert_close(G.mapping(z, c, truncation_psi=0.5), ws / 2)

#----------------------------------------------------------------------------
# Discriminator.

def test_the_discriminator_sees_the_mask_and_not_what_the_label_shows_of_the_image():
    D, (images, hole) = make_discriminator(), make_task()
    logits, codes = D(images, join_condition(images, hole), return_codes=True)
    assert logits.shape == (4, 1) and codes.shape == (4, 64)
    assert torch.equal(D(images, join_condition(-images, hole)), logits)
    assert not torch.equal(D(images, join_condition(images, ~hole)), logits)

#----------------------------------------------------------------------------
# Loss.

def test_l1_is_that_of_brute_force_on_the_hole_alone():
    (truth, hole), img = make_task(), torch.randn(4, 3, 32, 32)
    errors = hole_errors(img, truth, hole)
    for n in range(4):
        places = [(y, x) for y in range(32) for x in range(32) if hole[n, 0, y, x]]
        total = sum((img[n, :, y, x] - truth[n, :, y, x]).abs().sum().item() for y, x in places)
        assert errors[n].item() == pytest.approx(total / (3 * len(places)), rel=1e-5)
    elsewhere = torch.where(hole, img, img + 9)
    assert torch.equal(hole_errors(elsewhere, truth, hole), errors)

def test_l1_of_an_image_without_a_hole_is_zero():
    assert hole_errors(torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4),
        torch.zeros(1, 1, 4, 4, dtype=torch.bool)).item() == 0

def test_a_negative_weight_is_refused():
    G, D = make_generator(), make_discriminator()
    with pytest.raises(ValueError, match='lambda_l1 must be non-negative, not -1'):
        InpaintingLoss('cpu', G.mapping, G.synthesis, D, lambda_l1=-1)

def run_phase(phase, grouping='similarity', **kwargs):
    """Gradients {name: tensor} of G and D that one phase leaves, with labels that must not matter."""
    torch.manual_seed(0)
    np.random.seed(0)
    G, D = make_generator(grouping=grouping), make_discriminator()
    loss = InpaintingLoss('cpu', G.mapping, G.synthesis, D, **kwargs)
    module = G if phase.startswith('G') else D
    for network in [G, D]:
        network.train().requires_grad_(network is module)
    images, _hole = make_task()
    loss.accumulate_gradients(phase=phase, real_img=images, real_c=torch.zeros(4, 0), gen_z=torch.randn(4, 32),
        gen_c=torch.zeros(4, 0), sync=True, gain=1)
    return {name: parameter.grad for name, parameter in module.named_parameters()}

@pytest.mark.parametrize('grouping', ['similarity', 'none'])
@pytest.mark.parametrize('phase', ['Gmain', 'Greg', 'Gboth', 'Dmain', 'Dreg', 'Dboth'])
def test_every_parameter_gets_a_gradient_in_every_phase_as_ddp_requires(phase, grouping):
    gradients = run_phase(phase, grouping, style_mixing_prob=0.9)
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert all(gradient.isfinite().all() for gradient in gradients.values())

def test_the_gradient_of_g_moves_with_the_weight_of_l1_and_that_of_d_does_not():
    light, heavy = run_phase('Gmain', lambda_l1=0), run_phase('Gmain', lambda_l1=10)
    assert not torch.equal(light['synthesis.b32.torgb.weight'], heavy['synthesis.b32.torgb.weight'])
    assert all(torch.equal(a, b) for a, b in zip(run_phase('Dboth', lambda_l1=0).values(),
        run_phase('Dboth', lambda_l1=10).values()))

#----------------------------------------------------------------------------
# Pickles.

def save_network(path, **kwargs):
    G = make_generator(**kwargs).requires_grad_(False)
    path.write_bytes(pickle.dumps(dict(G=G, D=make_discriminator().requires_grad_(False), G_ema=G, augment_pipe=None,
        training_set_kwargs=dict(class_name='sarigan_plugin.inpainting_data.InpaintingDataset', path='x',
            mask_source='centre'))))
    return G

@pytest.mark.parametrize('grouping', ['similarity', 'none'])
def test_a_pickle_is_read_without_running_what_is_in_it(tmp_path, grouping):
    G = save_network(tmp_path / 'network.pkl', grouping=grouping)
    data = reading.load_all(str(tmp_path / 'network.pkl'), '--network')
    z, c = torch.randn(4, 32), join_condition(*make_task())
    assert torch.equal(data['G_ema'](z, c, noise_mode='const'), G(z, c, noise_mode='const'))
    assert data['D'](torch.zeros(4, 3, 32, 32), c).shape == (4, 1)
    assert data['training_set_kwargs']['mask_source'] == 'centre'

def test_an_exported_folder_holds_the_same_network(tmp_path):
    G = save_network(tmp_path / 'network.pkl')
    (tmp_path / 'folder').mkdir()
    exported.write(reading.load_all(str(tmp_path / 'network.pkl'), '--network'), tmp_path / 'folder')
    z, c = torch.randn(4, 32), join_condition(*make_task())
    assert torch.equal(reading.load(str(tmp_path / 'folder'), '--network')(z, c, noise_mode='const'),
        G(z, c, noise_mode='const'))

@pytest.mark.parametrize('arguments', [['generate', '--network={}', '--seeds=0', '--class=0'], ['groups', '{}'],
    ['edit', '{}', '--layer=b8.conv1', '--group=0', '--inter=2']])
def test_tools_that_generate_from_nothing_name_the_one_that_completes(arguments, tmp_path):
    save_network(tmp_path / 'network.pkl')
    done = CliRunner().invoke(cli.main,
        [*[argument.format(tmp_path / 'network.pkl') for argument in arguments], f'--outdir={tmp_path / "out"}'])
    assert (done.exit_code, done.stderr) == (2, 'Error: The network completes images: `sarigan inpaint` fills their '
        'holes with it, `sarigan explore` on a page, and both edit the groups of what fills them.\n')
    assert not (tmp_path / 'out').exists()

@pytest.mark.parametrize('from_inpainting', [False, True])
def test_training_goes_on_from_a_network_of_its_own_kind_only(from_inpainting):
    unconditional = networks.Generator(z_dim=32, c_dim=0, img_resolution=32, img_channels=3, code_dim=32, num_groups=4,
        mapping_kwargs=dict(num_layers=2), synthesis_kwargs=SIZE)
    source, target = (make_generator(), unconditional) if from_inpainting else (unconditional, make_generator())
    with pytest.raises(UserError) as error:
        transfer.copy_with_report(source, target)
    assert (str(error.value) == '--resume: one of the two networks completes images, '
        'that of the pickle or that of the --cfg; they must be of one kind.')

def test_training_goes_on_from_another_network_of_inpainting():
    for source, target in [(make_generator(), make_generator()), (make_discriminator(), make_discriminator())]:
        transfer.copy_with_report(source, target)
        assert all(torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values()))

READ_PICKLE = """
import hashlib
import sys
import torch
import legacy
with open(sys.argv[1], 'rb') as f:
    data = legacy.load_network_pkl(f)
torch.manual_seed(0)
c = torch.cat([torch.randn(2, 3, 32, 32), (torch.rand(2, 1, 32, 32) < 0.5).float()], dim=1).flatten(1)
img = data['G_ema'](torch.ones(2, 32), c, truncation_psi=0.5, noise_mode='const')
print(hashlib.sha256(img.numpy().tobytes() + data['D'](img, c).numpy().tobytes()).hexdigest())
"""

def test_pickle_completes_images_in_an_unmodified_checkout_without_the_plugin(any_tree, tmp_path):
    save_network(tmp_path / 'network.pkl')
    outside = unmodified.run(any_tree, READ_PICKLE, tmp_path / 'network.pkl')
    inside = commands.finished(commands.start('-c', f'import sarigan_plugin\n{READ_PICKLE}', tmp_path / 'network.pkl'))
    assert outside.split()[-1] == inside.stdout.split()[-1]

#----------------------------------------------------------------------------
# Data.

@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """A folder of twenty-four 16x16 images."""
    folder = tmp_path_factory.mktemp('inpainting') / 'images'
    small_training.write_images(folder)
    return str(folder)

def test_the_label_of_an_image_is_the_image_without_its_own_hole_and_the_same_every_time(images):
    dataset = InpaintingDataset(images, mask_source='mixed', xflip=True)
    assert (dataset.label_dim, dataset.has_labels, len(dataset)) == (4 * 16 * 16, False, 48)
    for index in [0, 5, 29]: # 29 is 5 mirrored.
        image, label = dataset[index]
        shown, hole = split_condition(torch.from_numpy(label)[np.newaxis], 3, 16)
        assert torch.equal(shown[0], known(torch.from_numpy(image) / 127.5 - 1, hole[0]))
        assert np.array_equal(hole[0, 0].numpy(), masks.of_index('mixed', 16, index % 24))
        assert np.array_equal(label, InpaintingDataset(images, mask_source='mixed', xflip=True).get_label(index))

def test_a_split_of_a_data_set_has_its_images_and_the_holes_that_they_have_in_the_whole(images):
    whole = InpaintingDataset(images)
    train, held_out = [InpaintingDataset(images, split=split) for split in ['train', 'held-out']]
    assert (len(train), len(held_out)) == (22, 2) # A tenth of 24 is two.
    for dataset, index, of_whole in [(train, 0, 0), (train, 21, 21), (held_out, 0, 22), (held_out, 1, 23)]:
        for part, expected in zip(dataset[index], whole[of_whole], strict=True):
            assert np.array_equal(part, expected)
    some = InpaintingDataset(images, split='train', max_size=5, xflip=True, random_seed=3)
    assert len(some) == 10 and all(any(np.array_equal(some[index][0], train[other][0]) for other in range(22))
        for index in range(5))

def test_holes_of_the_data_set_and_of_training_may_come_from_a_folder(images, tmp_path):
    drawn = [masks.of_index('rectangle', 32, index) for index in range(3)]
    for index, mask in enumerate(drawn):
        PIL.Image.fromarray(mask).save(tmp_path / f'{index}.png')
    small = [masks.resized(mask, 16, 16) for mask in drawn]
    dataset = InpaintingDataset(images, mask_source=str(tmp_path))
    for index in [0, 1, 5]:
        _shown, hole = split_condition(torch.from_numpy(dataset.get_label(index))[np.newaxis], 3, 16)
        assert np.array_equal(hole[0, 0].numpy(), small[index % 3])
    loss = InpaintingLoss(torch.device('cpu'), None, None, None, mask_source=str(tmp_path))
    np.random.seed(0)
    holes = loss._draw_holes(torch.zeros([30, 3, 16, 16]))[:, 0].numpy()
    assert (all(any(np.array_equal(hole, mask) for mask in small) for hole in holes)
        and len(np.unique(holes, axis=0)) == 3)

def test_training_pays_for_no_label_and_the_network_knows_its_length(images):
    dataset = InpaintingDataset(images)
    dataset.without_conditions()
    assert dataset.get_label(0).shape == dataset[0][1].shape == (0,) and dataset.label_dim == 1024

class Corners(torch.nn.Module):
    """A detector for upstream's metrics: the four corners, which no centre square hides."""
    def forward(self, img):
        return img[:, :, ::15, ::15].to(torch.float32).flatten(1)

@pytest.mark.filterwarnings('ignore:.torch.jit') # Upstream loads detectors so.
def test_upstreams_metrics_are_about_completed_images_of_the_data_set(images, tmp_path):
    upstream_loop.prepare('cpu')
    torch.jit.script(Corners()).save(str(tmp_path / 'corners.pt'))
    dataset = dict(class_name='sarigan_plugin.inpainting_data.InpaintingDataset', path=images, mask_source='centre',
        max_size=1, use_labels=False, xflip=False)
    G = inpainting.Generator(z_dim=8, c_dim=1024, img_resolution=16, img_channels=3, code_dim=8, num_groups=2,
        synthesis_kwargs=dict(channel_base=64, channel_max=8))
    opts = metric_utils.MetricOptions(G=G.eval(), dataset_kwargs=dataset, device=torch.device('cpu'), cache=False)
    detector = dict(detector_url=str(tmp_path / 'corners.pt'), detector_kwargs={}, capture_all=True)
    real = metric_utils.compute_feature_stats_for_dataset(opts, **detector,
        data_loader_kwargs=dict(num_workers=0)).get_all()
    made = metric_utils.compute_feature_stats_for_generator(opts, **detector, batch_size=4, max_items=4).get_all()
    assert real.shape == (1, 12) and made.shape == (4, 12) and (made == real).all()

def test_a_sample_sheet_may_have_more_images_than_the_data_set(images):
    labels = InpaintingDataset(images).conditions(np.zeros([30, 3, 16, 16], dtype=np.uint8), range(30)) # Of 24.
    assert np.array_equal(labels[:6], labels[24:]) and not np.array_equal(labels[0], labels[1])

def test_a_sample_sheet_shows_input_output_and_truth(images, tmp_path):
    upstream_loop.prepare('cpu', grid=(2, 3))
    dataset = InpaintingDataset(images, mask_source='centre')
    dataset.without_conditions()
    size, truth, labels = training_loop.setup_snapshot_image_grid(training_set=dataset)
    assert size == (2, 3) and labels.shape == (6, 1024)
    training_loop.save_image_grid(truth, str(tmp_path / 'reals.png'), drange=[0, 255], grid_size=size)
    training_loop.save_image_grid(np.ones([6, 3, 16, 16]), str(tmp_path / 'fakes.png'), drange=[-1, 1], grid_size=size)
    upstream_loop.prepare('cpu')
    reals, fakes = [np.asarray(PIL.Image.open(tmp_path / f'{name}.png')) for name in ['reals', 'fakes']]
    assert reals.shape == (48, 32, 3) and fakes.shape == (48, 96, 3)
    shown, output, real = fakes[:16, 48:64], fakes[:16, 64:80], fakes[:16, 80:96] # Of the second sample.
    assert np.array_equal(real, reals[:16, 16:]) and (output == 255).all()
    hole = masks.draw('centre', 16, np.random.RandomState(0))
    assert (shown[hole] == 128).all() and np.array_equal(shown[~hole], real[~hole])

#----------------------------------------------------------------------------
# Config.

def test_the_configs_of_inpainting_say_so_to_every_part(images):
    desc, args = arguments.training_options(data=images, cfg='tiny-inpaint', masks='centre', lambda_l1=3.0,
        grouping='none')
    assert (args.training_set_kwargs.class_name.endswith('InpaintingDataset')
        and args.training_set_kwargs.mask_source == args.loss_kwargs.mask_source == 'centre')
    assert args.loss_kwargs.lambda_l1 == 3 and args.G_kwargs.grouping == 'none'
    assert desc == 'images-tiny-inpaint-groupingnone-maskscentre-lambdal13.0'
    assert (args.training_set_kwargs.split, args.training_set_kwargs.max_size) == ('train', 22)
    _desc, args = arguments.training_options(data=images, cfg='sarigan-inpaint', gpus=8)
    assert (args.G_kwargs.class_name == 'sarigan_plugin.inpainting.Generator'
        and args.D_kwargs.class_name == 'sarigan_plugin.inpainting.Discriminator')

@pytest.mark.parametrize('options, sentence', [
    (dict(cfg='tiny-inpaint', aug='ada'), '--aug must be noaug for inpainting, not ada: '
        'image and mask would have to move together'),
    (dict(cfg='tiny-inpaint', masks='oval'), "--masks: 'oval' cannot be read: No such file or directory. "
        "It may be a folder, or one of centre, rectangle, free-form, mixed"),
    (dict(cfg='tiny-inpaint', masks=''), "--masks must be a text, not ''"),
    (dict(cfg='tiny-inpaint', split='held-out'), "--split must be one of train, all, not 'held-out'"),
    (dict(cfg='tiny-inpaint', subset=23), '--subset must be between 1 and 22, as --split=train has it, not 23'),
    (dict(cfg='tiny', split='all'), '--split: only for the configs of inpainting, sarigan-inpaint, tiny-inpaint'),
    (dict(cfg='tiny-inpaint', lambda_l1=-1.0), '--lambda-l1 must be at least 0, not -1.0'),
    (dict(cfg='tiny-inpaint', metrics=['ppl2_wend']), '--metrics=ppl2_wend: '
        'the path length is not defined for inpainting, where the images of a path share their known pixels'),
    (dict(cfg='tiny', masks='centre'), '--masks: only for the configs of inpainting, sarigan-inpaint, tiny-inpaint'),
    (dict(cfg='auto', lambda_l1=1.0), '--lambda-l1: only for the configs of inpainting, sarigan-inpaint, tiny-inpaint'),
])
def test_options_that_make_no_sense_get_a_sentence(images, options, sentence):
    with pytest.raises(UserError) as error:
        arguments.training_options(data=images, **options)
    assert str(error.value) == sentence

def test_inpainting_without_a_method_is_refused(tmp_path):
    path = tmp_path / 'odd.toml'
    path.write_text(small_training.config(method=None, inpainting={}))
    with pytest.raises(UserError, match=r'\[inpainting\] needs the table \[method\]; '
            r'grouping = "none" is the baseline'):
        recipes.read_recipe(path)

#----------------------------------------------------------------------------
# Training.

CONFIG = small_training.config(inpainting=dict(masks='mixed'))

@pytest.fixture(scope='module')
def command(images, tmp_path_factory):
    path = tmp_path_factory.mktemp('config') / 'small.toml'
    path.write_text(CONFIG)
    return ['train', f'--cfg={path}', f'--data={images}', '--metrics=none', '--device=cpu', '--checkpoint-minutes=0.01']

def test_the_command_line_trains_it_in_upstreams_loop(command, tmp_path):
    finish(start(command, tmp_path))
    run = last_run(tmp_path)
    assert json.loads((run / 'stats.jsonl').read_text().splitlines()[-1])['Loss/l1']['num'] > 0
    assert np.asarray(PIL.Image.open(run / 'fakes000001.png')).shape == (2 * 16, 2 * 3 * 16, 3)
    G = reading.load(str(run / 'network-snapshot-000001.pkl'), '--network')
    assert G.c_dim == 1024 and G.mapping.w_avg.abs().max() > 0

@pytest.mark.slow
def test_an_interrupted_training_ends_as_one_that_was_not(command, tmp_path):
    finish(start(command, tmp_path / 'whole'))
    process = start(command, tmp_path / 'parts')
    limits.wait_until(lambda: list(tmp_path.glob('parts/*/training-state-*.pt')), 'a training state')
    os.kill(process.pid, signal.SIGTERM)
    assert 'Stopped by SIGTERM' in finish(process)
    assert 'Going on with' in finish(start(command, tmp_path / 'parts'))
    assert_equal_runs(last_run(tmp_path / 'parts'), last_run(tmp_path / 'whole'))

def test_two_processes_train_what_one_process_trains(tmp_path):
    states = run_ddp(tmp_path, 'inpainting', [(0, 1, 'alone'), (0, 2, 'first'), (1, 2, 'second')])
    assert_equal_on_both_ranks(states)
    assert_trained_alike(states['first'], states['alone'])

@pytest.mark.slow
def test_two_processes_of_the_command_line_agree(command, tmp_path):
    out = finish(start(command, tmp_path, '--gpus=2')) # check_ddp_consistency() is in upstream's loop.
    assert 'Exiting...' in out and list(tmp_path.glob('*/network-snapshot-000001.pkl'))

#----------------------------------------------------------------------------
