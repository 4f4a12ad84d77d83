"""What upstream's networks and tools can do, with ours in their place."""

import io
import json
import os
import pickle
import shutil
import sys

import numpy as np
import PIL.Image
import projector
import pytest
import style_mixing
import torch

import skips
import trees
from commands import sarigan
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.model.networks import Generator
from sarigan_plugin.snapshots import label_kind
from sarigan_plugin.upstream import host
from small_networks import SIZE, mixed_image
from trainings import stats

def train(cfg, data, outdir, *options):
    """Train 1 kimg as a user would; returns the run's folder."""
    done = sarigan('train', f'--cfg={cfg}', f'--data={data}', f'--outdir={outdir}', '--metrics=none',
        '--device=cpu', *options)
    assert done.returncode == 0, done.stderr
    folder, = outdir.iterdir()
    return folder

def last_snapshot(folder):
    with open(folder / 'network-snapshot-000001.pkl', 'rb') as f:
        return pickle.load(f)

def tensors(module):
    return dict([*module.named_parameters(), *module.named_buffers()])

#----------------------------------------------------------------------------
# Data of other kinds.

def test_labels_and_grey_images_train_a_class_conditional_network_of_one_channel(images, cfg, tmp_path):
    data = shutil.copytree(images, tmp_path / 'grey')
    names = sorted(path.name for path in data.iterdir())
    for name in names:
        PIL.Image.open(data / name).convert('L').save(data / name)
    (data / 'dataset.json').write_text(json.dumps(dict(labels=[[name, i % 3] for i, name in enumerate(names)])))
    folder = train(cfg, data, tmp_path / 'out', '--cond=1')
    assert np.isfinite(stats(folder)[-1]['Loss/info/inter']['mean'])

    networks = last_snapshot(folder)
    G, D = networks['G_ema'], networks['D']
    assert (G.c_dim, D.c_dim, G.img_channels, D.img_channels) == (3, 3, 1, 1)
    assert label_kind.of(G) == 'classes'
    img = G(torch.ones(3, G.z_dim), torch.eye(3), noise_mode='const')
    assert img.shape == (3, 1, 16, 16) and not torch.allclose(img[0], img[1]) # The class alone makes them differ.
    logits, codes = D(img[:1].repeat(3, 1, 1, 1), torch.eye(3), return_codes=True)
    assert logits.unique().numel() == 3 and torch.equal(codes[0], codes[1]) # D judges by class, Q does not know it.

def test_both_codes_depend_on_the_class(make_generator):
    G = make_generator(c_dim=2)
    a, b = G.mapping(torch.ones(2, 32), torch.eye(2))[:, 0]
    assert all((a.chunk(2)[i] - b.chunk(2)[i]).abs().min() > 0 for i in [0, 1])

#----------------------------------------------------------------------------
# Memory formats and frozen layers.

@pytest.mark.parametrize('norm', ['weight', 'feature'])
def test_channels_last_changes_where_numbers_lie_and_not_what_they_are(make_generator, norm):
    # --nhwc=1 acts on fp16 layers alone, and those only run on CUDA in training; the layers themselves run anywhere.
    planar, interleaved = (make_generator(norm=norm,
        synthesis_kwargs=dict(num_fp16_res=2, conv_clamp=256, fp16_channels_last=last, **SIZE))
        for last in [False, True])
    interleaved.load_state_dict(planar.state_dict())
    for name, layer, _source in grouped_layers(interleaved.synthesis):
        assert layer.weight.is_contiguous(memory_format=torch.channels_last) == (name[:3] in ['b16', 'b32']), name
    seen = dict()
    for _name, layer, _source in grouped_layers(interleaved.synthesis):
        layer.register_forward_hook(lambda layer, _inputs, x: seen.update(
            {layer.resolution: x.is_contiguous(memory_format=torch.channels_last)}))
    ws = planar.mapping(torch.randn(4, 32), None)
    wanted = planar.synthesis(ws, noise_mode='const')
    # fp16 keeps eleven bits, and single pixels may be worse.
    assert (interleaved.synthesis(ws, noise_mode='const') - wanted).norm() < 0.01 * wanted.norm()
    assert seen == {8: False, 16: True, 32: True}

def test_freeze_d_trains_all_of_the_discriminator_but_its_first_layers(run, images, cfg, tmp_path):
    start = run[1] / 'network-snapshot-000001.pkl'
    after = last_snapshot(train(cfg, images, tmp_path / 'out', '--freezed=2', f'--resume={start}'))['D']
    before = tensors(last_snapshot(run[1])['D'])
    frozen = ['b16.fromrgb', 'b16.conv0'] # As upstream counts.
    assert {name for name, _buffer in after.named_buffers() if name.endswith('weight')} == {f'{name}.weight'
        for name in frozen}
    for name, tensor in tensors(after).items():
        moved = not torch.equal(tensor, before[name])
        assert moved == (not name.startswith(tuple(frozen)) and not name.endswith('resample_filter')), name

#----------------------------------------------------------------------------
# Upstream's tools, as they are. Their device is the one thing exchanged, as by patches/tools.patch.

@pytest.fixture(scope='module')
def snapshot_of_sarigan(tmp_path_factory):
    """(generator, path of its pickle)."""
    torch.manual_seed(0)
    G = Generator(z_dim=32, c_dim=0, img_resolution=32, img_channels=3, code_dim=32, num_groups=4,
        mapping_kwargs=dict(num_layers=2), synthesis_kwargs=SIZE)
    G = G.eval().requires_grad_(False)
    G.mapping.w_avg.copy_(G.mapping(torch.randn(1000, 32), None)[:, 0].mean(dim=0))
    path = tmp_path_factory.mktemp('snapshot') / 'network.pkl'
    # The tools don't look at D.
    path.write_bytes(pickle.dumps(dict(G=G, D=G, G_ema=G, training_set_kwargs=None, augment_pipe=None)))
    return G, path

def test_style_mixing_and_truncation_work_in_upstreams_tool(snapshot_of_sarigan, tmp_path, monkeypatch):
    G, path = snapshot_of_sarigan
    monkeypatch.setattr(style_mixing, 'torch', host.stand_in('cpu'))
    style_mixing.generate_style_mix.main([f'--network={path}', '--rows=1,2', '--cols=3,4', '--styles=0-3',
        '--trunc=0.5', f'--outdir={tmp_path}'], standalone_mode=False)
    assert PIL.Image.open(tmp_path / 'grid.png').size == (96, 96)
    for row, col in [(1, 3), (2, 4)]:
        made = np.array(PIL.Image.open(tmp_path / f'{row}-{col}.png')).astype(int)
        # The tool's batches round differently.
        assert np.abs(made - mixed_image(G, row, col, [0, 1, 2, 3], psi=0.5)).max() <= 1
        assert np.abs(made - mixed_image(G, row, col, [], psi=0.5)).max() > 16
        assert np.abs(made - mixed_image(G, row, col, [0, 1, 2, 3], psi=1)).max() > 16

class Pixels(torch.nn.Module):
    """For the VGG features, which would be downloaded: 4x4 averages of the image."""
    def forward(self, x, resize_images: bool, return_lpips: bool):
        return torch.nn.functional.avg_pool2d(x, 4).flatten(1) / 255 # resize_images and return_lpips mean nothing here.

@pytest.mark.filterwarnings('ignore:.*torch.jit', 'ignore:Converting a tensor') # Upstream's tool and torch 2.13.
def test_projection_of_a_generated_image_comes_near_it_in_upstreams_projector(snapshot_of_sarigan, monkeypatch):
    G, _path = snapshot_of_sarigan
    detector = io.BytesIO()
    torch.jit.save(torch.jit.script(Pixels()), detector)
    monkeypatch.setattr(projector.dnnlib.util, 'open_url', lambda url: io.BytesIO(detector.getvalue()))
    target = torch.from_numpy(mixed_image(G, 5, 5, [], psi=0.7)).permute(2, 0, 1)
    steps = projector.project(G, target=target, num_steps=80, w_avg_samples=500, device=torch.device('cpu'))
    assert steps.shape == (80, G.num_ws, G.w_dim)

    features = Pixels()
    def distance(ws):
        return (features((G.synthesis(ws, noise_mode='const') + 1) * (255 / 2), False, True)
            - features(target[None].float(), False, True)).square().sum().item()
    assert distance(steps[-1:]) < 0.2 * distance(G.mapping.w_avg.repeat(1, G.num_ws, 1))

#----------------------------------------------------------------------------
# Pickles in stylegan3, whose tools are the ones that people use today.

@pytest.fixture
def stylegan3():
    tree = os.environ.get('SARIGAN_STYLEGAN3')
    if tree is None:
        pytest.skip(skips.NO_STYLEGAN3)
    return tree

@pytest.mark.parametrize('options', [dict(), dict(norm='feature'), dict(grouping='blocks'), dict(c_dim=3)], ids=str)
def test_unmodified_stylegan3_loads_generates_and_mixes_without_the_plugin(stylegan3, make_generator,
        make_discriminator, options, tmp_path):
    G = make_generator(**options).requires_grad_(False)
    D = make_discriminator(c_dim=G.c_dim).requires_grad_(False)
    G.mapping.w_avg.normal_()
    (tmp_path / 'network.pkl').write_bytes(pickle.dumps(dict(G=G, D=D, G_ema=G, training_set_kwargs=None,
        augment_pipe=None)))
    label = 1 if G.c_dim > 0 else None
    done = trees.run([sys.executable, '-I', trees.SUPPORT / 'stylegan3_tools.py', stylegan3, tmp_path / 'network.pkl',
        tmp_path, *([label] if label is not None else [])], tmp_path)
    assert done.returncode == 0, done.stderr

    c = torch.eye(3)[[label]] if label is not None else None
    for seed in [1, 2]:
        made = np.array(PIL.Image.open(tmp_path / f'seed{seed:04d}.png')).astype(int)
        assert np.abs(made - mixed_image(G, seed, seed, [], psi=0.5, c=c)).max() <= 1
    seen = np.load(tmp_path / 'seen.npz')
    assert seen['captured'].shape == (16, 16, 3)
    z = torch.from_numpy(np.random.RandomState(1).randn(1, G.z_dim))
    np.testing.assert_allclose(seen['logits'], D(G(z, c, noise_mode='const'), c), rtol=1e-3)
    if label is None: # The renderer draws classes of its own.
        assert np.abs(seen['rendered'].astype(int) - mixed_image(G, 1, 2, [0, 1, 2], psi=1)).max() <= 1

#----------------------------------------------------------------------------
