"""Drawn pictures: the same everywhere, read back without error, and nothing read where nothing is."""

import hashlib
import io
import itertools
import json
import zipfile

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage

import commands
from sarigan_plugin.datasets import check as dataset_check, drawn

# Of the first 64 pictures with the seed 0. IEEE arithmetic makes them, so every CPU and NumPy gives the same.
PIXELS = {16: '19319d07366d533f', 32: '8ed942b030f95226', 64: '9725f68e8e125e40'}

@pytest.mark.parametrize('resolution', drawn.RESOLUTIONS)
def test_pictures_are_the_same_to_the_bit_everywhere(resolution):
    images = drawn.draw(drawn.sample(64, seed=0), resolution)
    assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == PIXELS[resolution]

def test_factors_are_equally_likely_and_independent():
    factors = drawn.sample(60000, seed=1)
    for first, second in itertools.combinations(range(len(drawn.FACTORS)), 2):
        kinds = [len(drawn.FACTORS[drawn.NAMES[index]]) for index in (first, second)]
        counts = np.bincount(factors[:, first] * kinds[1] + factors[:, second], minlength=kinds[0] * kinds[1])
        expected = 60000 / counts.size
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected) # Five standard deviations.

@pytest.mark.parametrize('resolution', drawn.RESOLUTIONS)
def test_all_that_is_drawn_is_read(resolution):
    factors = drawn.sample(1500, seed=2)
    wrong = drawn.read(drawn.draw(factors, resolution)) != drawn.visible(factors)
    assert not wrong.any(), dict(zip(drawn.NAMES, wrong.sum(axis=0)))

def test_the_smallest_is_read_in_all_heads_before_all_backgrounds():
    """In 16x16 pixels parts overlap: every head, skin, place and background, with other parts at random."""
    kinds = [range(len(drawn.FACTORS[name])) for name in drawn.NAMES[:4]]
    heads = np.array(list(itertools.product(*kinds)))
    factors = drawn.sample(len(heads), seed=3)
    factors[:, :4] = heads
    np.testing.assert_array_equal(drawn.read(drawn.draw(factors, 16)), drawn.visible(factors))

@pytest.mark.parametrize('resolution', drawn.RESOLUTIONS)
def test_a_little_noise_and_another_tint_change_nothing(resolution):
    factors = drawn.sample(300, seed=4)
    random = np.random.RandomState(0)
    images = drawn.draw(factors, resolution) * 0.97 + 3 + random.randn(300, resolution, resolution, 3) * 4
    found, wanted = drawn.read(images.clip(0, 255).astype(np.uint8)), drawn.visible(factors)
    assert ((found == wanted) | (found == drawn.NOTHING)).all() # Nothing is taken for something else,
    assert (found != wanted).mean() < 0.01 # and little for nothing: in 16x16 pixels small parts have few.
    assert resolution == 16 or (found == wanted).all()

def test_pictures_that_are_a_little_blurred_as_generators_make_them_are_read():
    factors = drawn.sample(200, seed=5)
    blurred = scipy.ndimage.gaussian_filter(drawn.draw(factors, 32).astype(float), [0, 0.6, 0.6, 0])
    np.testing.assert_array_equal(drawn.read(blurred.astype(np.uint8)), drawn.visible(factors))

@pytest.mark.parametrize('resolution', drawn.RESOLUTIONS)
def test_what_is_no_head_has_no_factors(resolution):
    random = np.random.RandomState(0)
    noise = random.randint(256, size=[20, resolution, resolution, 3]).astype(np.uint8)
    assert (drawn.read(noise) == drawn.NOTHING).all()
    sky = np.broadcast_to(np.uint8([143, 196, 232]), [1, resolution, resolution, 3])
    found, = drawn.read(sky)
    assert found[0] == 0 and (found[1:] == drawn.NOTHING).all() # A sky without anybody.
    upside_down = drawn.draw(drawn.sample(20, seed=0), resolution)[:, ::-1]
    assert (drawn.read(upside_down)[:, drawn.NAMES.index('eyes')] == drawn.NOTHING).mean() > 0.5

def test_between_two_values_none_is_read_and_all_else_is():
    factors = np.zeros([2, len(drawn.NAMES)], np.int64)
    drawn.column(factors, 'mouth')[:] = [1, 3] # Smile and flat.
    between = drawn.draw(factors, 32).astype(float).mean(axis=0).astype(np.uint8)[None]
    found, wanted = drawn.read(between), drawn.visible(factors[:1])
    drawn.column(wanted, 'mouth')[:] = drawn.NOTHING
    np.testing.assert_array_equal(found, wanted)

def test_how_many_pictures_are_read_together_changes_nothing():
    images = drawn.draw(drawn.sample(5, seed=6), 16)
    one_by_one = np.concatenate([drawn.read(images[index : index + 1]) for index in range(5)])
    np.testing.assert_array_equal(drawn.read(images), one_by_one)
    assert drawn.read(images[:0]).shape == (0, len(drawn.NAMES))

def test_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r'^drawn pictures have 16x16, 32x32, 64x64 pixels, not 8x8\.$'):
        drawn.read(np.zeros([1, 8, 8, 3], np.uint8))

def test_words_stand_for_factors_and_other_tables_are_none():
    factors = drawn.sample(10, seed=7)
    np.testing.assert_array_equal(drawn.of_words(drawn.NAMES, drawn.in_words(factors)), factors)
    assert drawn.of_words(['beard'], [[1]]) is None
    assert drawn.of_words(drawn.NAMES, [['green'] * len(drawn.NAMES)]) is None
    assert drawn.of_words(drawn.NAMES, [[['a list']] * len(drawn.NAMES)]) is None

#----------------------------------------------------------------------------
# The command.

def test_data_drawn_makes_a_zip_that_train_takes_with_the_head_as_class(tmp_path):
    done = commands.run('data', 'drawn', f'--dest={tmp_path / "new" / "a.zip"}', '--num=40', '--seed=3',
        '--resolution=16')
    assert done.exit_code == 0 and 'MIT License' in done.stdout, done.output
    found = dataset_check.check(tmp_path / 'new' / 'a.zip')
    assert (found.count, found.has_labels) == (40, True)
    factors = drawn.sample(40, seed=3)
    with zipfile.ZipFile(tmp_path / 'new' / 'a.zip') as archive:
        labels = json.loads(archive.read('dataset.json'))
        table = json.loads(archive.read('attributes.json'))
        images = [np.asarray(PIL.Image.open(io.BytesIO(archive.read(name)))) for name, _label in labels['labels']]
    np.testing.assert_array_equal(images, drawn.draw(factors, 16))
    assert [label for _name, label in labels['labels']] == drawn.column(factors, 'head').tolist()
    assert labels['label_names'] == ['round', 'square', 'tall', 'wide']
    np.testing.assert_array_equal(drawn.of_words(table['names'], table['images'].values()), factors)

def test_the_same_request_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in [('a', 0), ('b', 0), ('c', 1)]:
        done = commands.run('data', 'drawn', f'--dest={tmp_path / name}.zip', '--num=5', f'--seed={seed}')
        assert done.exit_code == 0
    one, same, other = ((tmp_path / f'{name}.zip').read_bytes() for name in 'abc')
    assert one == same != other

@pytest.mark.parametrize('words, sentence', [
    (['--resolution=128'], 'Error: --resolution must be one of 16, 32, 64, not 128.'),
    (['--num=0'], "Error: Invalid value for '--num': 0 is not in the range 1<=x<=1000000."),
    (['--dest=a.tar'], 'Error: --dest must end in .zip: a.tar does not.'),
])
@pytest.mark.parametrize('dry', [[], ['--dry-run']])
def test_what_is_wrong_is_said_in_one_sentence(words, sentence, dry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert commands.sentence(commands.run('data', 'drawn', *words, *dry)) == sentence
    assert not list(tmp_path.iterdir())

def test_nothing_is_overwritten_without_force_nor_written_by_a_dry_run(tmp_path):
    dest = tmp_path / 'a.zip'
    plan = commands.run('data', 'drawn', f'--dest={dest}', '--num=3', '--dry-run')
    assert plan.exit_code == 0 and 'would get 3 pictures of 32x32 pixels' in plan.stdout and not dest.exists()
    dest.write_bytes(b'mine')
    for more in [[], ['--dry-run']]:
        assert commands.sentence(commands.run('data', 'drawn', f'--dest={dest}', *more)) == (
            f'Error: --dest: {dest} exists already; --force replaces it.')
    assert dest.read_bytes() == b'mine'
    assert commands.run('data', 'drawn', f'--dest={dest}', '--num=3', '--force').exit_code == 0
    assert zipfile.is_zipfile(dest)
