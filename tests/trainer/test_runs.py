"""Which run a command goes on with where images were bad: a run keeps the images that it began with."""

import json
import os

import PIL.Image
import pytest
from click.testing import CliRunner

import small_training
from sarigan_plugin.commands.train import main
from sarigan_plugin.datasets import check as dataset_check

@pytest.fixture
def images(tmp_path):
    """A folder of 8 images, of which 3.png is bad."""
    folder = small_training.write_squares(tmp_path / 'images', 8)
    (folder / '3.png').write_bytes(b'junk')
    return folder

def mend(images):
    PIL.Image.new('RGB', (16, 16), (3, 0, 0)).save(images / '3.png')

def spoil(images, name='5.png'):
    (images / name).write_bytes(b'junk as well')

@pytest.fixture
def plan(images, tmp_path):
    """plan(*options) -> (what a dry run prints, the options that it prints)."""
    def dry_run(*options, data=images):
        done = CliRunner().invoke(main,
            [f'--data={data}', f'--outdir={tmp_path}/out', '--cfg=tiny', '--metrics=none', '--dry-run', *options])
        assert done.exit_code == 0, done.stderr
        return done.stdout, json.loads(done.stdout.partition('Training options:\n')[2].partition('\n\nOutput')[0])
    return dry_run

@pytest.fixture
def begin(plan):
    """begin(*options) -> the options of a run that begins with what they say, and has a state."""
    def begun(*options):
        _text, args = plan(*options)
        os.makedirs(args['run_dir'])
        with open(os.path.join(args['run_dir'], 'training_options.json'), 'w') as f:
            json.dump(args, f)
        with open(os.path.join(args['run_dir'], 'training-state-000001000.pt'), 'wb'):
            pass
        return args
    return begun

SKIP = '--skip-bad-images=1'
AGAIN = [[], ['--resume=latest']] # The same command, and one that names the run.

@pytest.mark.parametrize('again', AGAIN)
def test_a_run_goes_on_and_all_images_are_not_decoded_again(begin, plan, monkeypatch, again):
    first = begin(SKIP)
    assert first['left_out']['images'] == ['3.png'] and first['training_set_kwargs']['max_size'] == 7
    monkeypatch.delattr(dataset_check, '_verdicts')
    text, args = plan(SKIP, *again)
    assert args == first and 'Going on with' in text and 'Number of images:   7, without 1 bad' in text

@pytest.mark.parametrize('again', AGAIN)
@pytest.mark.parametrize('options', [[], ['--cfg=tiny-inpaint'], ['--subset=6']])
def test_what_was_mended_stays_out_of_a_run_which_is_told(begin, plan, images, again, options):
    first = begin(SKIP, *options)
    mend(images)
    text, args = plan(SKIP, *options, *again)
    assert (args['run_dir'] == first['run_dir'] and args['training_set_kwargs'] == first['training_set_kwargs']
        and args['left_out']['images'] == ['3.png'])
    assert ('The run goes on without 3.png, as it began; '
        '--resume=noresume starts one with all images that are good now.' in text)

@pytest.mark.parametrize('again', AGAIN)
def test_what_went_bad_stays_in_a_run_which_is_told(begin, plan, images, again):
    first = begin(SKIP)
    spoil(images)
    text, args = plan(SKIP, *again)
    assert (args['run_dir'] == first['run_dir'] and args['training_set_kwargs'] == first['training_set_kwargs']
        and args['left_out']['images'] == ['3.png'])
    assert 'Bad since the run began: 5.png. Other images are shown in place of these.' in text

@pytest.mark.parametrize('again', AGAIN)
def test_a_bad_image_may_be_removed(begin, plan, images, again):
    first = begin(SKIP)
    (images / '3.png').unlink()
    _text, args = plan(SKIP, *again)
    assert args['run_dir'] == first['run_dir'] and args['training_set_kwargs'] == first['training_set_kwargs']

def test_a_run_that_began_without_the_option_goes_on_with_it(begin, plan, images):
    mend(images)
    first = begin()
    assert 'left_out' not in first
    spoil(images)
    text, args = plan(SKIP, '--resume=latest')
    assert (args['run_dir'] == first['run_dir'] and args['training_set_kwargs'] == first['training_set_kwargs']
        and args['left_out']['images'] == [])
    assert 'Bad since the run began: 5.png.' in text

def test_a_new_run_beside_it_looks_for_itself(begin, plan, images):
    first = begin(SKIP)
    mend(images)
    text, args = plan(SKIP, '--resume=noresume')
    assert (args['run_dir'] != first['run_dir'] and args['training_set_kwargs']['max_size'] == 8
        and args['left_out']['images'] == [])
    assert 'Number of images:   8\n' in text

def test_other_images_are_another_training(begin, plan, images):
    first = begin(SKIP)
    PIL.Image.new('RGB', (16, 16)).save(images / 'new.png')
    assert plan(SKIP)[1]['run_dir'] != first['run_dir']

@pytest.mark.parametrize('left_out',
    [5, [], {}, {'of': 3, 'images': 7}, {'images': [1]}, {'of': [], 'images': {'a': 1}}])
def test_edited_options_do_no_harm(begin, plan, left_out):
    first = begin(SKIP)
    path = os.path.join(first['run_dir'], 'training_options.json')
    with open(path, 'w') as f:
        json.dump({**first, 'left_out': left_out}, f)
    assert plan(SKIP)[1]['left_out']['images'] == ['3.png']

def test_a_long_list_is_printed_in_part(plan, images):
    for index in range(30):
        (images / f'x{index:02d}.png').write_bytes(b'junk')
    text, args = plan(SKIP)
    assert (args['left_out']['images'][-1] == '...' and len(args['left_out']['images']) == 21
        and 'Number of images:   7, without 31 bad' in text)

#----------------------------------------------------------------------------
# Classes that no image has.

@pytest.fixture
def labelled(images):
    mend(images)
    def write(labels):
        (images / 'dataset.json').write_text(
            json.dumps(dict(labels=[[f'{index}.png', label] for index, label in enumerate(labels)])))
    return write

def test_classes_used_and_all_are_printed(plan, labelled):
    labelled([0, 1, 2, 0, 1, 2, 0, 1])
    assert 'Conditional model:  True, 3 of 3 classes used\n' in plan('--cond=1')[0]
    assert 'Conditional model:  False\n' in plan()[0]
    labelled([[0.5, 1]] * 8)
    assert 'Conditional model:  True\n' in plan('--cond=1')[0]

def test_gaps_are_refused_unless_they_are_asked_for(plan, labelled, images, tmp_path):
    labelled([0, 50000] * 4)
    plan() # They are of no concern without --cond.
    text, args = plan('--cond=1', '--sparse-labels')
    assert 'Conditional model:  True, 2 of 50,001 classes used\n' in text and 'sparse_labels' not in str(args)
    done = CliRunner().invoke(main,
        [f'--data={images}', f'--outdir={tmp_path}/out', '--cfg=tiny', '--metrics=none', '--dry-run', '--cond=1'])
    assert (done.exit_code, done.stderr.strip()) == (2,
        f'Error: --cond=True: the images of {images} use 2 of 50,001 classes, and none is of class 1: '
        'number them in dataset.json without gaps, or train with all by --sparse-labels')

def test_a_subset_may_lack_a_class_that_the_whole_set_has(plan, labelled):
    labelled([0, 1, 2, 0, 1, 2, 0, 1])
    plan('--cond=1', '--subset=2')

def test_sparse_labels_without_labels_is_refused(images, tmp_path):
    mend(images)
    done = CliRunner().invoke(main, [f'--data={images}', f'--outdir={tmp_path}/out', '--cfg=tiny', '--metrics=none',
        '--dry-run', '--sparse-labels'])
    assert (done.exit_code, done.stderr.strip()) == (2,
        'Error: --sparse-labels: only with --cond=1, which trains with labels')
