"""The classifier of a data set's attributes, and what it reads."""

import io
import itertools
import json
import zipfile

import numpy as np
import PIL.Image
import pytest
import torch

from sarigan_plugin.datasets import attribute_source, listing
from sarigan_plugin.errors import UserError
from sarigan_plugin.evaluation import attributes

@pytest.fixture(scope='module')
def small_and_apart(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attributes, 'STEPS', 150)
        patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
        yield

@pytest.fixture
def untrained(monkeypatch):
    monkeypatch.setattr(attributes, 'STEPS', 1)

def picture(dot, stripe, seed, size=32):
    """A noisy grey square, with or without a red dot at the left and a blue stripe at the bottom."""
    image = np.random.RandomState(seed).randint(100, 150, [32, 32, 3])
    if dot:
        image[8:14, 4:10] = [220, 20, 20]
    if stripe:
        image[24:28] = [20, 20, 220]
    return np.asarray(PIL.Image.fromarray(image.astype(np.uint8)).resize([size, size]))

def write_zip(path, names, rows, images):
    with zipfile.ZipFile(path, 'w') as archive:
        for index, image in enumerate(images):
            with io.BytesIO() as f:
                PIL.Image.fromarray(image).save(f, 'png')
                archive.writestr(f'{index}.png', f.getvalue())
        archive.writestr('attributes.json',
            json.dumps(dict(names=names, images={f'{index}.png': row for index, row in enumerate(rows)})))
    return path

@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    """300 pictures; a dot in every second, a stripe in every third, a mood that nobody could see,
    a name of its own for each."""
    rows = [[index % 2, 'striped' if index % 3 == 0 else 'plain', index // 7 % 2, f'name {index}']
        for index in range(300)]
    return write_zip(tmp_path_factory.mktemp('set') / 'set.zip', ['dot', 'pattern', 'mood', 'name'], rows,
        [picture(row[0], row[1] == 'striped', index) for index, row in enumerate(rows)])

@pytest.fixture(scope='module')
def fitted(small_and_apart, dataset):
    """(the data set's classifier, whether training it left random numbers as they were)."""
    state = torch.get_rng_state()
    return attributes.fit(dataset), torch.equal(torch.get_rng_state(), state)

#----------------------------------------------------------------------------

def test_attributes_are_recognised_in_images_of_any_size_that_it_never_saw(fitted):
    classifier, _undisturbed = fitted
    for size in [32, 64]:
        shown = list(itertools.product([0, 1], repeat=2))
        found = classifier(
            np.stack([picture(dot, stripe, 1000 + index, size) for index, (dot, stripe) in enumerate(shown)]))
        assert [probability > 0.5 for probability in found['dot']] == [bool(dot) for dot, _stripe in shown]
        assert [probability > 0.5 for probability in found['pattern striped']] == [bool(stripe)
            for _dot, stripe in shown]
        np.testing.assert_allclose(found['pattern striped'] + found['pattern plain'], 1, atol=0.2)

def test_what_it_cannot_see_is_left_out_and_descriptions_are_no_kinds(fitted):
    classifier, _undisturbed = fitted
    assert list(classifier(picture(0, 0, 1)[None])) == ['dot', 'pattern plain', 'pattern striped']
    assert classifier.auc['dot'] == 1 and classifier.auc['mood'] < 0.8 and 'name 3' not in classifier.auc
    assert classifier.passed_over() == {'more than 20 different values': ['name'],
        'AUC below 0.9': [f'mood {classifier.auc["mood"]:.2f}']}

def test_it_is_trained_once_and_kept(fitted, dataset, monkeypatch):
    classifier, undisturbed = fitted
    images = picture(1, 0, 5)[None]
    monkeypatch.setattr(attributes, '_train', None) # Would be called.
    assert attributes.fit(dataset)(images) == classifier(images) and undisturbed

def test_a_folder_is_read_as_a_zip_is(fitted, dataset, tmp_path, monkeypatch):
    images = picture(1, 0, 5)[None]
    expected = fitted[0](images)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache')) # It is trained anew.
    with zipfile.ZipFile(dataset) as archive:
        archive.extractall(tmp_path / 'folder')
    assert attributes.fit(str(tmp_path / 'folder'))(images) == expected
    with pytest.raises(attributes.NoAttributes, match='^it has no attributes.json'):
        attributes.fit(str(tmp_path))

def columns_without_learning(path, monkeypatch):
    """(names, targets) that a network would learn, or the targets of what is in the cache."""
    seen = []
    def train(images, targets, names):
        seen.append((names, targets.numpy()))
        return attributes._network(len(names)).state_dict(), dict.fromkeys(names, 1)
    with monkeypatch.context() as patch:
        patch.setattr(attributes, '_train', train)
        attributes.learn(path)
    return seen[0] if seen else None

@pytest.mark.parametrize('write', [
    str,
    lambda value: str(value) if value else value,
    bool,
    lambda value: str(bool(value)),
    lambda value: [value, str(value), bool(value)][np.random.RandomState(value).randint(3)],
])
def test_zeros_and_ones_are_read_however_they_are_written(tmp_path, monkeypatch, write):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    values = [index % 3 % 2 for index in range(450)]
    images = [picture(0, 0, 0)] * len(values)
    path = write_zip(tmp_path / 'set.zip', ['dot', 'kind'], [[write(value), 'ab'[value]] for value in values], images)
    names, targets = columns_without_learning(path, monkeypatch)
    assert names == ['dot', 'kind a', 'kind b']
    assert targets[:, 0].tolist() == targets[:, 2].tolist() == [value == 1 for value in values]

def test_a_classifier_of_texts_that_earlier_versions_kept_is_not_used(tmp_path, monkeypatch):
    """They took every "0" and "1" for an absence. Tables of numbers have theirs under the name of before."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    for name, write in [('numbers', int), ('texts', str)]:
        path = write_zip(tmp_path / f'{name}.zip', ['dot'], [[write(index % 2)] for index in range(300)],
            [picture(0, 0, 0)] * 300)
        before = tmp_path / 'sarigan' / f'attributes-1-{attributes.files.fingerprint(path)}.pt'
        before.parent.mkdir(exist_ok=True)
        torch.save(dict(state=attributes._network(1).state_dict(), auc=dict(dot=0.95)), before)
        assert (columns_without_learning(path, monkeypatch) is None) == (name == 'numbers')

@pytest.mark.parametrize('left', [0, 100, 0.9])
def test_a_classifier_of_which_a_part_is_kept_is_learned_again(tmp_path, monkeypatch, left):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    path = write_zip(tmp_path / 'set.zip', ['dot'], [[index % 2] for index in range(300)], [picture(0, 0, 0)] * 300)
    assert columns_without_learning(path, monkeypatch) is not None
    kept, = (tmp_path / 'sarigan').glob('attributes-*.pt')
    whole = kept.read_bytes()
    assert columns_without_learning(path, monkeypatch) is None
    kept.write_bytes(whole[: int(left * len(whole)) if left < 1 else left])
    assert columns_without_learning(path, monkeypatch) is not None
    assert kept.read_bytes() == whole

def test_a_cache_that_cannot_be_written_is_one_sentence_before_anything_is_learned(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(attributes, '_read_images', None) # Would be called.
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    with pytest.raises(UserError, match=f'^XDG_CACHE_HOME: {tmp_path}/file/sarigan cannot be written to: '
            'Not a directory.$'):
        attributes.learn(dataset)

def test_rows_of_images_that_are_not_there_do_not_count(tmp_path, monkeypatch):
    path = write_zip(tmp_path / 'set.zip', ['dot'], [[index % 2] for index in range(302)], [picture(0, 0, 0)] * 300)
    assert len(columns_without_learning(str(path), monkeypatch)[1]) == 300
    with attribute_source.opened(str(path)) as source:
        assert source.rows_without_an_image() == ['300.png', '301.png']

def test_images_that_are_left_out_are_not_read(tmp_path, monkeypatch):
    """Nor is what was learned without them taken for what is learned with them, or the other way round."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    path = write_zip(tmp_path / 'set.zip', ['dot'], [[index % 2] for index in range(300)], [picture(0, 0, 0)] * 300)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / 'set')
    assert len(columns_without_learning(tmp_path / 'set', monkeypatch)[1]) == 300
    path = str(tmp_path / 'set')
    (tmp_path / 'set' / '7.png').write_bytes((tmp_path / 'set' / '7.png').read_bytes()[:200])
    with pytest.raises(attribute_source.UnreadableImage, match="^its image '7.png' cannot be read"):
        attributes.learn(path)
    monkeypatch.setattr(listing, '_left_out', dict())
    listing.serve_upstream({path: ['7.png', 'other.png']})
    assert len(columns_without_learning(path, monkeypatch)[1]) == 299
    monkeypatch.setattr(attributes, '_train', None) # Would be called.
    assert attributes.learn(path, ['7.png']).auc == attributes.learn(path).auc
    with pytest.raises(attribute_source.UnreadableImage):
        attributes.learn(path, [])

def test_bars_show_how_far_reading_and_learning_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(attributes, 'STEPS', 1)
    path = write_zip(tmp_path / 'set.zip', ['dot'], [[index % 2] for index in range(300)], [picture(0, 0, 0)] * 300)
    with pytest.raises(attributes.NoAttributes):
        attributes.learn(path)
    assert capsys.readouterr().out.split('\n')[:2] == ['Reading images', 'Learning attributes']

def test_area_under_the_curve_counts_pairs():
    scores, present = np.random.RandomState(0).randint(0, 5, 40), np.random.RandomState(1).rand(40) < 0.4
    pairs = [(a > b) + (a == b) / 2 for a in scores[present] for b in scores[~present]]
    assert attributes.area_under_roc(scores, present) == pytest.approx(np.mean(pairs))

#----------------------------------------------------------------------------

@pytest.mark.usefixtures('small_and_apart', 'untrained')
def test_whatever_is_no_dataset_with_attributes_gets_one_sentence(tmp_path):
    image = picture(0, 0, 0)
    text = tmp_path / 'text.zip'
    text.write_text('hello')
    without = tmp_path / 'without.zip'
    with zipfile.ZipFile(without, 'w') as archive:
        archive.writestr('a.png', b'')
    misnamed = tmp_path / 'misnamed.zip'
    with zipfile.ZipFile(misnamed, 'w') as archive:
        archive.writestr('a.png', b'')
        archive.writestr('attributes.json', '{"names": ["a"], "images": {"a.jpg": [1]}}')
    table = tmp_path / 'list.zip'
    with zipfile.ZipFile(table, 'w') as archive:
        archive.writestr('attributes.json', '[1, 2]')
    for path, sentence in [
        (tmp_path / 'none.zip', 'it cannot be read (No such file or directory).'),
        (text, 'it is not a zip.'),
        (without, 'it has no attributes.json; put one beside its images, as {"names": ["hat"], "images": '
            '{"0001.png": ["cap"], ...}}.'),
        (table, 'its attributes.json must be an object with "names" and "images".'),
        (write_zip(tmp_path / 'twice.zip', ['a', 'a b'], [['b c', 'c'], ['b d', 'd']], [image, image]),
            "its attributes.json has 'a b c' for 'a' and for 'a b': rename one of the two."),
        (write_zip(tmp_path / 'lost.zip', ['a'], [[index % 2] for index in range(202)], []),
            "its attributes.json has rows for none of its images: it names '0.png', and there are none."),
        (misnamed, "its attributes.json has rows for none of its images: it names 'a.jpg', and they are called such as "
            "'a.png'."),
        (write_zip(tmp_path / 'names.zip', ['a'], [[f'{index}'] for index in range(30)], [image] * 30),
            'none of its attributes can be learned (more than 20 different values: a).'),
        (write_zip(tmp_path / 'few.zip', ['a'], [[index % 2] for index in range(20)], [image] * 20),
            'none of its attributes can be learned (not 20 of the 4 held-out images with it, and 20 without: a).'),
        (write_zip(tmp_path / 'all.zip', ['a', 'b', 'c', 'd'], [[0, 'x', index, index == 5] for index in range(200)],
            [image] * 200), 'none of its attributes can be learned (more than 20 different values: c; the same in all '
            'images: a, b; not 20 of the 40 held-out images with it, and 20 without: d).'),
        (write_zip(tmp_path / 'unseen.zip', ['a', 'b'], [[index % 2, 1] for index in range(202)], [image] * 202),
            'none of its attributes is recognised (the same in all images: b; AUC below 0.9: a 0.50).'),
    ]:
        with pytest.raises(ValueError) as caught:
            attributes.fit(path)
        assert str(caught.value) == sentence

def test_a_scorer_of_ones_own_is_a_function_in_a_file(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text('def bright(images):\n    return {"bright": images.mean(axis=(1, 2, 3))}\n')
    assert attributes.load_scorer(f'{path}:bright')(np.full([2, 4, 4, 3], 9))['bright'].tolist() == [9, 9]
    (tmp_path / 'broken.py').write_text('1 / 0')
    (tmp_path / 'text.txt').write_text('hello')
    for place, sentence in [
        ('bright', 'it is not FILE.py:FUNCTION.'),
        (f'{tmp_path}/none.py:f', f"there is no file '{tmp_path}/none.py'."),
        (f'{path}:dark', f"'{path}' has no function 'dark'."),
        (f'{tmp_path}/broken.py:f', f"'{tmp_path}/broken.py' fails: ZeroDivisionError: division by zero."),
        (f'{tmp_path}/text.txt:f', f"'{tmp_path}/text.txt' is not a Python file."),
    ]:
        with pytest.raises(ValueError) as caught:
            attributes.load_scorer(place)
        assert str(caught.value) == sentence

#----------------------------------------------------------------------------
