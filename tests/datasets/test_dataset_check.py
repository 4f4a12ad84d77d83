"""A dataset is accepted only if upstream can train on it; all else gets one sentence."""

import io
import json
import struct
import zipfile
import zlib

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings, strategies as st

import sarigan_plugin  # noqa: F401 # Makes upstream importable.
from sarigan_plugin.datasets import check as dataset_check

#----------------------------------------------------------------------------

def png(width=16, height=None, mode='RGB', seed=0, file_format='png'):
    """Bytes of an image of noise."""
    height = height or width
    rnd = np.random.RandomState(seed)
    image = PIL.Image.frombytes('RGBA', (width, height), rnd.bytes(width * height * 4))
    buffer = io.BytesIO()
    image.convert('RGB').convert(mode).save(buffer, format=file_format)
    return buffer.getvalue()

def png16(width=16):
    """16 bits per sample, RGB: pillow can't write that, so the chunks are assembled here."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    rows = (b'\0' + bytes(width * 6)) * width
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, width, 16, 2, 0, 0, 0)) + chunk(b'IDAT',
        zlib.compress(rows)) + chunk(b'IEND', b'')

def as_zip(tmp_path, files, name='set.zip'):
    path = tmp_path / name
    with zipfile.ZipFile(path, 'w') as archive:
        for file, data in files.items():
            archive.writestr(file, data)
    return str(path)

def as_folder(tmp_path, files, name='set'):
    for file, data in files.items():
        target = tmp_path / name / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(tmp_path / name)

def refusal(path, **options):
    """The one sentence that a bad dataset gets."""
    with pytest.raises(ValueError) as caught:
        dataset_check.check(path, **options)
    sentence = str(caught.value)
    assert '\n' not in sentence and not sentence.startswith('--') and not sentence.endswith('.')
    return sentence

def mended(path, resolution):
    """How a sentence ends that `sarigan data folder` mends."""
    stem = path.removesuffix('.zip')
    return ('; this makes a data set of it: '
        f'sarigan data folder {path} --dest={stem}-{resolution}.zip --resolution={resolution}')

def refusal_of_labels(tmp_path, labels):
    text = labels if isinstance(labels, str) else json.dumps(dict(labels=labels))
    return refusal(as_zip(tmp_path, {'a.png': png(), 'b.png': png(seed=1), 'dataset.json': text}))

def load_as_upstream(path):
    from training.dataset import ImageFolderDataset
    return ImageFolderDataset(path=path, use_labels=True)

#----------------------------------------------------------------------------

@pytest.mark.parametrize('as_source', [as_zip, as_folder])
@pytest.mark.parametrize('mode, channels', [('RGB', 3), ('L', 1)])
def test_a_good_dataset_is_summarised(tmp_path, as_source, mode, channels):
    path = as_source(tmp_path, {'x/a.png': png(mode=mode), 'b.PNG': png(mode=mode), 'notes.txt': 'hello'})
    assert dataset_check.check(path) == dataset_check.DatasetSummary(path, 'set', 2, 16, channels, False)

def test_a_trailing_slash_leaves_the_name_of_a_folder(tmp_path):
    assert dataset_check.check(as_folder(tmp_path, {'a.png': png()}) + '/').name == 'set'

@pytest.mark.parametrize('labels, expected', [
    (None, False), ([['a.png', 0], ['b.png', 7]], True), ([['a.png', [0.5, 1]], ['b.png', [0, -2]]], True),
    ({'a.png': 1, 'b.png': 0}, True)])
def test_labels_are_found(tmp_path, labels, expected):
    path = as_zip(tmp_path,
        {'a.png': png(), 'b.png': png(), 'dataset.json': json.dumps(dict(labels=labels, more='ignored'))})
    assert dataset_check.check(path).has_labels is expected
    assert load_as_upstream(path).has_labels is expected

#----------------------------------------------------------------------------

def test_a_missing_dataset_is_refused(tmp_path):
    assert refusal(str(tmp_path / 'none.zip')) == f'{tmp_path}/none.zip does not exist'

def test_a_file_that_is_no_zip_is_refused(tmp_path):
    (tmp_path / 'a.tar').write_bytes(b'x')
    assert refusal(str(tmp_path / 'a.tar')) == f'{tmp_path}/a.tar is neither a folder nor a .zip file'

def test_a_broken_zip_is_refused(tmp_path):
    path = as_zip(tmp_path, {'a.png': png()})
    with open(path, 'r+b') as file:
        file.truncate(200)
    assert refusal(path) == f'{path} is a broken zip, or none: is its download complete?'

@pytest.mark.parametrize('as_source', [as_zip, as_folder])
def test_an_empty_dataset_is_refused(tmp_path, as_source):
    path = as_source(tmp_path, {'notes.txt': 'hello'})
    assert refusal(path) == f'{path} has no images in it'

def test_images_that_are_not_square_are_refused(tmp_path):
    path = as_zip(tmp_path, {'a.png': png(32, 16)})
    assert refusal(path) == 'a.png is 32x16, but images must be square' + mended(path, 16)

@pytest.mark.parametrize('size, resolution', [(24, 16), (100, 64)])
def test_a_resolution_that_no_network_has_is_refused(tmp_path, size, resolution):
    path = as_zip(tmp_path, {'a.png': png(size)})
    assert refusal(path) == f'a.png is {size}x{size}, but the resolution must be a power of two, at least 8' + mended(
        path, resolution)

def test_images_too_small_for_any_network_are_refused(tmp_path):
    path = as_zip(tmp_path, {'a.png': png(4)})
    assert refusal(path) == 'a.png is 4x4, but the resolution must be a power of two, at least 8' + mended(path,
        8) + ' --enlarge'

@pytest.mark.parametrize('other, described',
    [(png(32), '32x32 with 3 channels'), (png(mode='L'), '16x16 with 1 channel')])
def test_mixed_images_are_refused_with_both_shapes(tmp_path, other, described):
    path = as_zip(tmp_path, {'a.png': png(), 'b/c.png': other})
    assert refusal(path) == f'images differ: a.png is 16x16 with 3 channels, b/c.png is {described}' + mended(path, 16)

@pytest.mark.parametrize('as_source', [as_zip, as_folder])
@pytest.mark.parametrize('damage', [lambda data: data[:len(data) // 2], lambda data: b'', lambda data: b'not an image',
    lambda data: data[:100] + b'xxxxxxxx' + data[108:]])
def test_a_corrupt_image_is_named(tmp_path, as_source, damage):
    sentence = refusal(as_source(tmp_path, {'a.png': png(), 'b.png': damage(png(seed=1))}))
    assert sentence.startswith('b.png is corrupt, truncated or no image: ') and ' at 0x' not in sentence

def test_an_image_whose_checksum_in_the_zip_is_wrong_is_named(tmp_path):
    path = as_zip(tmp_path, {'a.bmp': png(file_format='bmp')})
    with open(path, 'r+b') as file:
        file.seek(300)
        file.write(b'changed')
    assert refusal(path).startswith('a.bmp is corrupt, truncated or no image: Bad CRC-32')

@pytest.mark.parametrize('mode', ['P', 'RGBA', 'LA', '1', 'I;16'])
def test_an_unsupported_colour_mode_is_refused_with_the_tool_to_run(tmp_path, mode):
    path = as_zip(tmp_path, {'a.png': png(mode=mode)})
    assert (refusal(path) == f'a.png has the unsupported colour mode {mode}: '
        'images must be 8-bit grey or RGB' + mended(path, 16))

def test_sixteen_bits_per_sample_are_refused(tmp_path):
    path = as_zip(tmp_path, {'a.png': png16()})
    assert refusal(path) == 'a.png has 16 bits per sample: images must be 8-bit grey or RGB' + mended(path, 16)

def test_an_encrypted_zip_is_refused(tmp_path):
    path = as_zip(tmp_path, {'a.png': png()})
    with open(path, 'rb') as file:
        data = bytearray(file.read())
    data[6] |= 1                                # the flag of encryption in the local header
    data[data.index(b'PK\x01\x02') + 8] |= 1    # and in the directory
    with open(path, 'wb') as file:
        file.write(data)
    sentence = refusal(path)
    # There is nothing to make a data set of.
    assert sentence.startswith('a.png is corrupt, truncated or no image: File ') and 'sarigan data' not in sentence

#----------------------------------------------------------------------------

@pytest.mark.parametrize('labels, sentence', [
    ('{"labels": [',                          'dataset.json is not readable JSON ('),
    ('[' * 100000,                            'dataset.json is not readable JSON ('),
    ('[1, 2]',                                'dataset.json must be an object with a key "labels"'),
    ('{"label": []}',                         'dataset.json must be an object with a key "labels"'),
    (5,                                       '"labels" in dataset.json must be a list of [file name, '
                                              'label] pairs, or null'),
    ([1, 2],                                  '"labels" in dataset.json must be a list of [file name, '
                                              'label] pairs, or null'),
    ([],                                      'dataset.json has no label for a.png and 1 more image'),
    ([['a.png', 1]],                          'dataset.json has no label for b.png'),
    ([['a.png', 'cat'], ['b.png', 'dog']],    'the label of a.png in dataset.json must be a class, '
                                              'an integer from 0 to 65535, not "cat"'),
    ([['a.png', 0], ['b.png', -1]],           'the label of b.png in dataset.json must be a class, '
                                              'an integer from 0 to 65535, not -1'),
    ([['a.png', 0], ['b.png', 10**9]],        'the label of b.png in dataset.json must be a class, '
                                              'an integer from 0 to 65535, not 1000000000'),
    ([['a.png', 0], ['b.png', 0.5]],          'the label of b.png in dataset.json must be a class, '
                                              'an integer from 0 to 65535, not 0.5'),
    ([['a.png', True], ['b.png', 0]],         'the label of a.png in dataset.json must be a class, '
                                              'an integer from 0 to 65535, not true'),
    ([['a.png', [1, 2]], ['b.png', [1]]],     'the label of b.png in dataset.json must be like that of a.png, '
                                              'a list of 2 numbers, not [1]'),
    ([['a.png', [1, 2]], ['b.png', 1]],       'the label of b.png in dataset.json must be like that of a.png, '
                                              'a list of 2 numbers, not 1'),
    ([['a.png', 1], ['b.png', 0], ['a.png', 2]], 'dataset.json has two labels for a.png, 1 and 2'),
    ('{"labels": {"a.png": 1, "b.png": 0, "a.png": 2}}', 'dataset.json has two labels for a.png, 1 and 2'),
    ([['a.png', [1]], ['b.png', [0]], ['b.png', [1]]], 'dataset.json has two labels for b.png, [0] and [1]'),
    ([['a.png', []], ['b.png', []]],          'the label of a.png in dataset.json must be a list of numbers that is '
                                              'not empty, not []'),
    ([['a.png', [1]], ['b.png', [float('nan')]]], 'the label of b.png in dataset.json must be like that of a.png, '
                                              'a list of 1 number, not [NaN]'),
])
def test_labels_that_upstream_cannot_read_are_refused(tmp_path, labels, sentence):
    assert refusal_of_labels(tmp_path, labels).startswith(sentence)

def test_an_image_may_be_listed_twice_with_one_label(tmp_path):
    labels = [['a.png', 1], ['a.png', 1], ['b.png', 0], ['gone.png', 1], ['gone.png', 2]]
    assert dataset_check.check(
        as_zip(tmp_path, {'a.png': png(), 'b.png': png(), 'dataset.json': json.dumps(dict(labels=labels))})).has_labels

def test_names_with_backslashes_in_dataset_json_are_named_with_the_line_that_mends_it(tmp_path):
    path = as_zip(tmp_path, {'x/a.png': png(), 'dataset.json': json.dumps(dict(labels=[['x\\a.png', 1]]))})
    assert (refusal(path) == 'dataset.json writes names with backslashes, as x\\a.png, '
        'where images are looked up as x/a.png' + mended(path, 16))

@pytest.mark.parametrize('labels, classes', [([0, 50000], (50001, 2, 1)), ([0, 1], (2, 2, None)), ([1, 1], (2, 1, 0)),
    ([[0.5], [1]], (None, None, None)), (None, (None, None, None))])
def test_classes_are_counted_with_the_first_that_is_missing(tmp_path, labels, classes):
    pairs = None if labels is None else list(zip(['a.png', 'b.png'], labels))
    summary = dataset_check.check(as_zip(tmp_path,
        {'a.png': png(), 'b.png': png(), 'dataset.json': json.dumps(dict(labels=pairs))}))
    assert (summary.num_classes, summary.used_classes, summary.missing_class) == classes
    if labels is not None:
        assert load_as_upstream(summary.path).label_shape == [classes[0] or 1]

#----------------------------------------------------------------------------
# Bad images are left out.

JUNK = b'no image'

def test_all_bad_images_are_left_out_and_told(tmp_path, capsys):
    files = {'0.png': JUNK, '1.png': png(), '2.png': png(seed=1)[:300], '3.png': png(32), '4.png': png(mode='L'),
        '5.png': png(mode='P'), '6.png': png(seed=2), '7.png': png(16, 8)}
    summary = dataset_check.check(as_zip(tmp_path, files), skip_bad_images=True)
    assert (summary.count, summary.resolution, summary.channels, summary.left_out) == (2, 16, 3,
        ('0.png', '2.png', '3.png', '4.png', '5.png', '7.png'))
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith('Warning: ')]
    assert len(told) == 6 and all(line.endswith('; it is left out.') for line in told)
    assert (told[2] == 'Warning: --data: 3.png is 32x32 with 3 channels, but most images are 16x16 with 3 channels; '
        'it is left out.')

def test_beyond_all_budgets_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_check, 'PIXEL_BUDGET', 1)
    monkeypatch.setattr(dataset_check, 'HEADER_BUDGET', 5)
    path = as_zip(tmp_path, {f'{i:02d}.png': png() if i % 4 == 0 else JUNK for i in range(17)})
    assert dataset_check.check(path, skip_bad_images=True).count == 5

def test_many_bad_images_are_told_in_few_lines(tmp_path, capsys):
    dataset_check.check(as_zip(tmp_path, {f'{i:02d}.png': png() if i == 7 else JUNK for i in range(60)}),
        skip_bad_images=True)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith('Warning: ')]
    assert (len(told) == dataset_check.MAX_NAMED + 1
        and told[-1] == 'Warning: --data: of the kind, 39 more images left out.')

@pytest.mark.parametrize('as_source', [as_zip, as_folder])
def test_several_processes_find_what_one_finds(tmp_path, monkeypatch, as_source):
    path = as_source(tmp_path,
        {f'{i:02d}.png': JUNK if i % 3 == 0 else png(32 if i % 5 == 0 else 16, seed=i) for i in range(40)})
    alone = dataset_check.check(path, skip_bad_images=True)
    monkeypatch.setattr(dataset_check, 'MANY', 10)
    monkeypatch.setattr(dataset_check, 'PORTION', 7)
    together = dataset_check.check(path, skip_bad_images=True)
    assert together.left_out == alone.left_out and together.count == 21

def test_where_all_images_are_bad_the_first_one_says_why(tmp_path):
    path = as_zip(tmp_path, {'a.png': png(24), 'b.png': JUNK})
    assert (refusal(path, skip_bad_images=True) == 'a.png is 24x24, but the resolution must be a power of two, '
        'at least 8' + mended(path, 16))

def test_labels_of_images_that_are_left_out_are_not_missed(tmp_path):
    labels = json.dumps(dict(labels=[['a.png', 0], ['b.png', 1]]))
    assert dataset_check.check(as_zip(tmp_path, {'a.png': png(), 'b.png': png(), 'c.png': JUNK,
        'dataset.json': labels}), skip_bad_images=True).used_classes == 2

@pytest.mark.parametrize('as_source', [as_zip, as_folder])
def test_what_was_found_is_not_looked_for_again_until_a_file_changes(tmp_path, monkeypatch, as_source):
    images = {'a.png': png(), 'b.png': JUNK, 'c.png': png(seed=1)}
    path = as_source(tmp_path, images)
    first = dataset_check.check(path, skip_bad_images=True)
    known = dict(of=first.stamp, images=list(first.left_out))
    with monkeypatch.context() as patched:
        patched.delattr(dataset_check, '_verdicts')
        assert dataset_check.check(path, skip_bad_images=True, known=known).left_out == ('b.png',)
    as_source(tmp_path, {**images, 'b.png': png(seed=3)})
    assert dataset_check.check(path, skip_bad_images=True, known=known).left_out == ()

#----------------------------------------------------------------------------
# Cost.

def test_beyond_the_pixel_budget_only_headers_are_read(tmp_path, monkeypatch):
    files = {f'{i:02d}.png': png(seed=i) for i in range(20)}
    files['10.png'] = files['10.png'][:200] # the header is intact
    path = as_zip(tmp_path, files)
    assert refusal(path).startswith('10.png is corrupt')
    monkeypatch.setattr(dataset_check, 'PIXEL_BUDGET', 4 * 16 * 16)
    assert dataset_check.check(path).count == 20

def test_beyond_the_pixel_budget_a_differing_size_is_still_found(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_check, 'PIXEL_BUDGET', 1)
    path = as_zip(tmp_path, {f'{i:02d}.png': png(32 if i == 13 else 16) for i in range(20)})
    assert (refusal(path) == 'images differ: '
        '00.png is 16x16 with 3 channels, 13.png is 32x32 with 3 channels' + mended(path, 16))

def test_beyond_both_budgets_files_are_left_unopened(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_check, 'PIXEL_BUDGET', 1)
    monkeypatch.setattr(dataset_check, 'HEADER_BUDGET', 5)
    path = as_zip(tmp_path, {f'{i:02d}.png': png() if i % 4 == 0 else b'junk' for i in range(17)})
    assert dataset_check.check(path).count == 17

@given(count=st.integers(1, 10**7), wanted=st.integers(1, 100))
def test_what_is_looked_at_is_spread_from_the_first_to_the_last(count, wanted):
    indices = dataset_check._spread(count, wanted)
    assert len(set(indices)) == len(indices) == min(count, wanted)
    assert indices[0] == 0 and (wanted == 1 or indices[-1] == count - 1)
    gaps = np.diff(indices)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1

#----------------------------------------------------------------------------
# Whatever is accepted here, upstream reads.

images = st.builds(png, width=st.sampled_from([8, 16]), mode=st.sampled_from(['RGB', 'RGB', 'RGB', 'L', 'P', 'RGBA']),
    seed=st.integers(0, 3), file_format=st.sampled_from(['png', 'png', 'tiff']))
damaged = st.builds(lambda data, at, value: data[:at] + bytes([value]) + data[at + 1:], images, st.integers(0, 300),
    st.integers(0, 255))
cut = st.builds(lambda data, at: data[:at], images, st.integers(0, 900))
label = st.one_of(st.integers(-1, 9), st.integers(0, 9), st.booleans(), st.floats(), st.lists(st.floats(width=32),
    max_size=2), st.lists(st.integers(), min_size=2, max_size=2), st.text(max_size=2), st.none())
names = ['a.png', 'b/c.png', 'd.png']

@pytest.mark.filterwarnings('ignore::UserWarning') # pillow's, about damaged files
@settings(max_examples=150, deadline=None)
@given(files=st.one_of(
           st.dictionaries(st.sampled_from(names), st.one_of(images, images, damaged, cut), min_size=1),
           st.dictionaries(st.sampled_from(names), st.just(png()), min_size=1)),
       labels=st.one_of(st.none(), st.dictionaries(st.sampled_from(names), label),
           st.fixed_dictionaries({name: st.integers(0, 9) for name in names}),
                        st.fixed_dictionaries({name: st.lists(st.floats(allow_nan=False), min_size=2, max_size=2)
                            for name in names})))
def test_upstream_reads_whatever_is_accepted(tmp_path_factory, files, labels):
    path = as_zip(tmp_path_factory.mktemp('property'),
        files | {'dataset.json': json.dumps(dict(labels=labels and list(labels.items())))})
    try:
        summary = dataset_check.check(path)
    except ValueError:
        return
    dataset = load_as_upstream(path)
    assert (len(dataset), dataset.resolution, dataset.num_channels, dataset.has_labels) == (summary.count,
        summary.resolution, summary.channels, summary.has_labels)
    for image, vector in dataset: # each is decoded here
        assert image.shape == (summary.channels, summary.resolution, summary.resolution)
        assert np.all(np.isfinite(vector))

#----------------------------------------------------------------------------
