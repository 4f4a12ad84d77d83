"""Numbers and images that go wrong in the midst of training."""

import collections
import json
import re
import shutil
import textwrap
import zipfile

import numpy as np
import PIL.Image
import pytest
import torch

import commands
import small_training
from sarigan_plugin.datasets import bad_images, loading
from sarigan_plugin.features import statistics as feature_stats
from sarigan_plugin.losses.sarigan import SariGANLoss
from sarigan_plugin.trainer import arguments, soundness, upstream_loop
from trainings import CONFIG

import dnnlib
from torch_utils import misc, training_stats
from training import dataset

@pytest.fixture
def watch(make_generator, make_discriminator):
    G, D = make_generator(), make_discriminator()
    return soundness.GradientWatch(torch.device('cpu'), dict(G=[G.mapping, G.synthesis], D=[D]),
        max_bad_iterations=3), G, D

def give_gradients(module, poison=None, value=float('nan')):
    """Gradients of ones; of the parameter named `poison` one element is `value`."""
    for name, parameter in module.named_parameters():
        parameter.grad = torch.ones_like(parameter)
        if name == poison:
            parameter.grad.flatten()[0] = value

def iterate(watch, *networks, poison=None, value=float('nan')):
    for phase, module in zip(['Gmain', 'Dmain'], networks):
        give_gradients(module, poison, value)
        watch.look(phase)
    watch.end_iteration()

@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_bad_gradients_are_counted_and_their_layers_and_losses_named(watch, value):
    watch, G, D = watch
    iterate(watch, G, D)
    assert watch.report(dict) is None and watch.is_sound()
    iterate(watch, G, D, poison='synthesis.b16.conv1.weight', value=value)
    iterate(watch, G, D, poison='b8.conv0.weight', value=value)
    assert not watch.is_sound()
    report = watch.report(lambda: {'Loss/G/loss': value, 'Loss/D/loss': 1.0})
    assert (report == '2 iterations had gradients that are not finite, in SynthesisNetwork.b16.conv1.weight, '
        f'Discriminator.b8.conv0.weight; Loss/G/loss is {value:g}')
    iterate(watch, G, D)
    assert watch.report(dict) is None and watch.is_sound()

@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_what_is_said_of_a_phases_gradients_is_said_of_the_last_phase(watch, value):
    watch, G, D = watch
    assert not watch.are_finite, 'nobody has looked'
    for poison in [None, 'b4.out.bias', None]:
        give_gradients(D, poison, value)
        watch.look('Dmain')
        assert watch.are_finite == (poison is None)
    watch.look('Gmain')
    assert not watch.are_finite, 'of no gradients nothing is known'

def test_a_phase_without_gradients_is_no_trouble(watch):
    watch, _G, _D = watch
    watch.look('Greg')
    watch.end_iteration()
    assert watch.report(dict) is None

def test_large_but_finite_gradients_are_not_bad(watch):
    watch, G, D = watch
    iterate(watch, G, D, poison='mapping.fc0.weight', value=3e38)
    assert watch.report(dict) is None

def test_infinities_that_would_cancel_are_bad(watch):
    watch, G, D = watch
    give_gradients(G)
    G.mapping.fc0.weight.grad.flatten()[:2] = torch.tensor([float('inf'), -float('inf')])
    watch.look('Gmain')
    watch.end_iteration()
    assert watch.report(dict).startswith('1 iterations had gradients that are not finite, in MappingNetwork.fc0.weight')

def test_only_a_run_of_bad_iterations_is_the_end(watch):
    watch, G, D = watch
    for _time in range(3):
        iterate(watch, G, D, poison='b4.out.bias')
        iterate(watch, G, D, poison='b4.out.bias')
        iterate(watch, G, D)
    assert watch.report(dict).startswith('6 iterations had gradients')
    for _time in range(3):
        iterate(watch, G, D, poison='b4.out.bias')
    with pytest.raises(soundness.Diverged, match=r'^3 iterations .*; 3 of them in a row$'):
        watch.report(dict)

def test_an_overflow_of_fp16_is_noticed_and_named(make_generator, make_discriminator):
    size = dict(channel_base=256, channel_max=16, num_fp16_res=1, conv_clamp=None) # The clamp is there to prevent it.
    G, D = make_generator(synthesis_kwargs=size).train(), make_discriminator(num_fp16_res=0)
    with torch.no_grad():
        G.synthesis.b32.conv1.bias.fill_(60000) # Times its gain this is more than fp16 holds.
    loss = SariGANLoss('cpu', G.mapping, G.synthesis, D)
    watch = soundness.GradientWatch(torch.device('cpu'), dict(G=[G.mapping, G.synthesis], D=[D]), max_bad_iterations=9)
    losses = training_stats.Collector(regex='Loss/G/loss')
    c = torch.zeros(4, 0)
    G.requires_grad_(True)
    loss.accumulate_gradients(phase='Gmain', real_img=torch.zeros(4, 3, 32, 32), real_c=c,
        gen_z=torch.randn(4, G.z_dim), gen_c=c, sync=True, gain=1)
    watch.look('Gmain')
    watch.end_iteration()
    losses.update()
    report = watch.report(lambda: {'Loss/G/loss': losses.mean('Loss/G/loss')})
    assert re.fullmatch(r'1 iterations had gradients that are not finite, in MappingNetwork\.fc0\.weight, '
        r'.* and \d+ more; Loss/G/loss is (nan|inf)', report)

#----------------------------------------------------------------------------
# A training that diverges.

POISONED = textwrap.dedent('''
    import sys
    import sarigan_plugin
    from sarigan_plugin.commands import train
    from sarigan_plugin.losses.sarigan import SariGANLoss

    # Spoils the gradients of the discriminator in these iterations of the process.
    spoiled = eval(sys.argv.pop(1))
    accumulate, calls = SariGANLoss.accumulate_gradients, dict(Dmain=0)
    def accumulate_gradients(self, phase, **kwargs):
        accumulate(self, phase=phase, **kwargs)
        if phase == 'Dmain':
            calls['Dmain'] += 1
            if calls['Dmain'] in spoiled:
                next(self.D.parameters()).grad.fill_(float('nan'))
    SariGANLoss.accumulate_gradients = accumulate_gradients
    train.main()
''')

@pytest.fixture
def poisoned(tmp_path):
    """poisoned(iterations, *options) -> the finished process; runs go to tmp_path/out."""
    (tmp_path / 'small.toml').write_text(CONFIG)
    small_training.write_images(tmp_path / 'images')
    def run(iterations, *options):
        return commands.finished(commands.start('-c', POISONED, str(iterations), f'--cfg={tmp_path / "small.toml"}',
            f'--data={tmp_path / "images"}',
            '--metrics=none', '--device=cpu', f'--outdir={tmp_path / "out"}', '--max-bad-iterations=4',
            '--augpipe=blit', *options))
    return run

def ticks(tmp_path):
    run, = (tmp_path / 'out').iterdir()
    return [json.loads(line) for line in (run / 'stats.jsonl').read_text().splitlines()]

def test_one_bad_iteration_is_a_warning_and_a_training_that_diverges_goes_back_and_ends_well(poisoned, tmp_path):
    done = poisoned([*range(2, 6), 8], '--kimg=1') # The state of the first iteration is good.
    assert done.returncode == 0, done.stderr
    assert 'Warning: 1 iterations had gradients that are not finite, in Discriminator.' in done.stdout + done.stderr
    assert ticks(tmp_path)[1]['Numbers/bad_iterations']['mean'] > 0
    assert re.search(r'Diverged: 1 iterations had gradients that are not finite, in Discriminator\.\S+; '
        r'4 of them in a row\. Going back to .*training-state-\d+\.pt with other random numbers; '
        r'rollback 1 of at most 3\.', done.stdout)
    assert [tick['Progress/kimg']['mean'] for tick in ticks(tmp_path)] == pytest.approx([0.128, 1.024])
    assert all(np.isfinite(tick['Loss/D/loss']['mean']) for tick in ticks(tmp_path))

def test_a_training_that_diverges_always_ends_with_the_report(poisoned):
    done = poisoned(range(3, 1003), '--kimg=1', '--max-rollbacks=1')
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    assert done.stdout.count('Going back to') == 1
    assert re.search(r'Error: --max-rollbacks: .*4 of them in a row\. It was so after 1 rollbacks as well\. '
        r'A lower learning rate', done.stderr)

#----------------------------------------------------------------------------
# Bad images.

@pytest.fixture
def squares(tmp_path):
    folder = small_training.write_squares(tmp_path / 'squares', 6)
    (folder / '2.png').write_bytes((folder / '2.png').read_bytes()[:50])
    PIL.Image.new('RGB', (8, 8)).save(folder / '3.png')
    return folder

def as_zip(folder):
    path = folder.with_suffix('.zip')
    with zipfile.ZipFile(path, 'w') as archive:
        for image in sorted(folder.iterdir()):
            archive.write(image, image.name)
    return path

@pytest.fixture
def read_images():
    """read_images(path, skip) -> the red of every image, in a worker process if asked for."""
    def read(path, skip_bad_images, workers=0, context=None):
        upstream_loop.prepare('cpu', skip_bad_images=skip_bad_images)
        loader = torch.utils.data.DataLoader(dataset.ImageFolderDataset(str(path), resolution=16), num_workers=workers,
            multiprocessing_context=context,
            worker_init_fn=loading.beginning_to_load())
        return [int(image[0, 0, 0, 0]) for image, _label in loader]
    yield read
    upstream_loop.prepare('cpu')

# Processes that load images, and how they start: afresh where there are several GPUs.
LOADING = [(0, None), (1, 'fork'), (1, 'spawn')]

@pytest.mark.parametrize('loading', [*LOADING[:2], pytest.param(LOADING[2], marks=pytest.mark.slow)])
def test_a_bad_image_is_named(squares, read_images, loading):
    with pytest.raises(bad_images.BadImage) as caught:
        read_images(squares, False, *loading)
    assert re.fullmatch(r'2\.png cannot be read or has another size \(.+\)', str(caught.value))

@pytest.mark.parametrize('packed', [pytest.param(lambda folder: folder, marks=pytest.mark.slow), as_zip])
def test_for_an_image_that_goes_bad_another_one_is_shown_and_told_once(squares, read_images, capsys, packed):
    reds = read_images(packed(squares), True)
    assert (reds == read_images(packed(squares), True) and [reds[index] for index in [0, 1, 4, 5]] == [0, 1, 4, 5]
        and set(reds[2:4]) <= {0, 1, 4, 5})
    told = [line.split(' cannot')[0] for line in capsys.readouterr().err.splitlines()
        if 'another image is shown' in line]
    assert told == ['Warning: --data: 2.png', 'Warning: --data: 3.png'] * 2 # Of each preparation.

@pytest.mark.parametrize('loading', LOADING)
def test_whichever_process_loads_it(squares, read_images, loading):
    assert set(read_images(squares, True, *loading)) == {0, 1, 4, 5}

def test_images_that_go_bad_in_a_row_do_not_have_one_stand_in(tmp_path, read_images):
    for i in range(64):
        PIL.Image.new('RGB', (16, 16), (i, 0, 0)).save(tmp_path / f'{i:02d}.png')
    for i in range(16, 48):
        (tmp_path / f'{i}.png').write_bytes(b'junk')
    shown = collections.Counter(read_images(tmp_path, True))
    # The most of 32 balls in 32 urns, and itself; the next one was shown 33 times.
    assert shown.total() == 64 and max(shown.values()) <= 5

@pytest.mark.parametrize('damage',
    [lambda path: path.write_bytes(b'junk'), lambda path: PIL.Image.new('RGB', (8, 8)).save(path)])
def test_the_first_image_may_go_bad_as_well(squares, read_images, damage):
    damage(squares / '0.png')
    assert set(read_images(squares, True)) == {1, 4, 5}

@pytest.fixture
def eight_and_eight(tmp_path):
    """A folder of 8 images, the red of each its number, and 8 files of junk before, between and after them."""
    folder = small_training.write_squares(tmp_path / 'images', 8)
    for name in ['0-.png', '4a.png', '4b.png', '4c.png', '4d.png', '4e.png', '9.png']:
        (folder / name).write_bytes(b'junk')
    PIL.Image.new('RGB', (8, 8)).save(folder / '-.png') # Comes first, and has another size.
    return folder

@pytest.mark.parametrize('packed', [lambda folder: folder, as_zip])
@pytest.mark.parametrize('options, count', [(dict(), 8), (dict(mirror=True), 8), (dict(subset=4), 4),
    (dict(cfg='tiny-inpaint', split='all'), 8), (dict(cfg='tiny-inpaint', split='train'), 7)])
def test_with_bad_images_left_out_each_good_one_is_shown_equally_often(eight_and_eight, packed, options, count):
    path = str(packed(eight_and_eight))
    _desc, args = arguments.training_options(**{'data': path, 'cfg': 'tiny', 'metrics': [],
        'skip_bad_images': True, **options})
    left_out = args.left_out['images']
    assert len(left_out) == 8
    upstream_loop.prepare('cpu', skip_bad_images=True, left_out={path: left_out})
    try:
        made = dnnlib.util.construct_class_by_name(**args.training_set_kwargs)
        copies = 2 if options.get('mirror') else 1
        assert args.training_set_kwargs.max_size == count and len(made) == count * copies
        order = iter(misc.InfiniteSampler(made, window_size=0))
        shown = collections.Counter(int(made[next(order)][0][0, 0, 0]) for _ in range(3 * len(made)))
        assert len(shown) == count and set(shown.values()) == {3 * copies}
        of_metrics = dict(args.training_set_kwargs, max_size=None, xflip=False)
        assert feature_stats.count_images(of_metrics) == (8 if 'subset' in options else count)
    finally:
        upstream_loop.prepare('cpu')

def test_a_data_set_still_ends_where_it_ends(squares, read_images):
    read_images(squares, True)
    assert len(list(dataset.ImageFolderDataset(str(squares), resolution=16))) == 6

@pytest.mark.parametrize('skip', [0, 1])
def test_training_names_bad_images_and_skips_them_if_told_to(squares, tmp_path, skip):
    (tmp_path / 'small.toml').write_text(CONFIG)
    spoiled = shutil.copytree(squares, tmp_path / 'more')
    for i in range(6, 14):
        PIL.Image.new('RGB', (16, 16), (i, 0, 0)).save(spoiled / f'{i}.png')
    done = commands.sarigan('train', f'--cfg={tmp_path / "small.toml"}', f'--data={spoiled}',
        f'--outdir={tmp_path / "out"}',
        '--metrics=none', '--device=cpu', '--kimg=1', '--aug=noaug', f'--skip-bad-images={skip}')
    assert 'Traceback' not in done.stderr
    if skip:
        assert done.returncode == 0 and 'Warning: --data: 2.png is corrupt, truncated or no image' in done.stderr
        # We say so, and upstream's loop.
        assert 'Number of images:   12, without 2 bad\n' in done.stdout and 'Num images:  12\n' in done.stdout
    else:
        assert done.returncode == 2 and done.stderr.strip().splitlines()[-1].startswith('Error: --data: '
            '2.png is corrupt, truncated or no image')

#----------------------------------------------------------------------------
