"""Holes that are painted on the page of `sarigan explore`: a visitor's session, the pictures, the files,
the command."""

import io
import json
import os
import shlex
import struct
import zipfile
import zlib

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
from click.testing import CliRunner

from sarigan_plugin.cli import main
from sarigan_plugin.datasets import masks
from sarigan_plugin.explore.inpaint_session import MAX_POINTS, HoledSession, Stroke
from sarigan_plugin.explore.inpaint_studio import MAX_SIDE, Album, InpaintStudio, Photo
from sarigan_plugin.explore.studio import as_png
from sarigan_plugin.steering import channel_sets, completion, groupings, names
from sarigan_plugin.steering.channel_sets import ChannelSet, ChannelSets
from sarigan_plugin.steering.edits import Edit, WrongField
from sarigan_plugin.steering.recipe import EditRecipe
from small_images import noise
from small_networks import make_inpainter, write_network
from visitors import LAYER, pixels

STROKE = Stroke([[8, 8], [20, 12]], 6)

@pytest.fixture
def G():
    return make_inpainter()

@pytest.fixture
def studio(G, tmp_path):
    return InpaintStudio(G, names.GroupNames(tmp_path / 'names.json', G), str(tmp_path / 'out'),
        str(write_network(tmp_path / 'inpainter.pkl', G)))

def photo_of(image, kind='png', **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return Photo(content.getvalue())

@pytest.fixture
def session(G):
    session = HoledSession(G, photo_of(noise(32, 32)))
    session.select(LAYER, 1)
    return session

#----------------------------------------------------------------------------
# A visitor's session.

def test_a_stroke_sets_the_pixels_whose_centres_it_covers_and_an_eraser_takes_them_away():
    nothing = np.zeros([8, 8], dtype=bool)
    dot = Stroke([[4, 4]], 4).painted(nothing)
    y, x = np.mgrid[:8, :8] + 0.5
    assert np.array_equal(dot, (x - 4) ** 2 + (y - 4) ** 2 <= 4) and dot.sum() == 12
    line = Stroke([[0, 2], [5, 2]], 2).painted(nothing)
    # Its round end covers one centre more.
    assert np.argwhere(line).tolist() == [[row, column] for row in [1, 2] for column in range(6)]
    assert np.array_equal(Stroke([[4, 4]], 4, erase=True).painted(~nothing), ~dot) and not nothing.any()

def test_the_thinnest_brush_leaves_a_pixel_wherever_it_is_put():
    for x, y in np.random.RandomState(0).uniform(0, 8, size=[100, 2]).tolist():
        assert 1 <= Stroke([[x, y]], 0).painted(np.zeros([8, 8], dtype=bool)).sum() <= 4

def test_each_stroke_is_a_step_and_one_that_changes_nothing_is_none(session):
    session.paint(STROKE)
    session.paint(STROKE)
    session.paint(Stroke([[30, 30]], 3))
    session.paint(Stroke([[14, 10]], 4, erase=True))
    erased = session.scene.mask
    assert len(session.past) == 3 and np.array_equal(erased, Stroke([[14, 10]], 4, True)
        .painted(Stroke([[30, 30]], 3).painted(STROKE.painted(np.zeros([32, 32], dtype=bool)))))
    session.undo()
    session.undo()
    assert np.array_equal(session.scene.mask, STROKE.painted(np.zeros([32, 32], dtype=bool)))
    session.redo()
    session.redo()
    assert np.array_equal(session.scene.mask, erased)
    session.clear()
    assert not session.scene.mask.any()

@pytest.mark.parametrize('kind', ['centre', 'rectangle', 'free-form'])
def test_ready_holes_are_those_of_the_command_line(G, kind):
    session = HoledSession(G, photo_of(noise(20, 40)))
    session.draw(kind, 7)
    assert np.array_equal(session.scene.mask, masks.resized(masks.of_index(kind, 32, 7), 20, 40))

def test_another_photo_begins_with_its_transparent_hole_and_the_edits_that_are_there(session):
    session.steer(inter_scale=2)
    session.paint(STROKE)
    cut_out = np.array(noise(10, 14, 4))
    cut_out[..., 3] = 255
    cut_out[2:5, 3:9, 3] = 0
    session.show(photo_of(PIL.Image.fromarray(cut_out)))
    assert np.array_equal(session.scene.mask, cut_out[..., 3] == 0) and session.edit == Edit(LAYER, 1, inter_scale=2)
    session.undo()
    assert session.scene.mask.shape == (10, 14)

@pytest.mark.parametrize('do, sentence', [
    (lambda session: session.paint(Stroke(None, 3)),
        f'stroke: it is not a list of 1 to {MAX_POINTS} points.'),
    (lambda session: session.paint(Stroke([], 3)),
        f'stroke: it is not a list of 1 to {MAX_POINTS} points.'),
    (lambda session: session.paint(Stroke([[1, 1]] * (MAX_POINTS + 1), 3)),
        f'stroke: it is not a list of 1 to {MAX_POINTS} points.'),
    (lambda session: session.paint(Stroke('ab', 3)),
        f'stroke: it is not a list of 1 to {MAX_POINTS} points.'),
    (lambda session: session.paint(Stroke([1, 2], 3)),
        'stroke: its points and its width are not numbers up to 10000.'),
    (lambda session: session.paint(Stroke([[1, 2, 3]], 3)),
        'stroke: its points and its width are not numbers up to 10000.'),
    (lambda session: session.paint(Stroke([[1, '<script>']], 3)),
        'stroke: its points and its width are not numbers up to 10000.'),
    (lambda session: session.paint(Stroke([[1, float('nan')]], 3)),
        'stroke: its points and its width are not numbers up to 10000.'),
    (lambda session: session.paint(Stroke([[1, 10 ** 400]], 3)),
        'stroke: its points and its width are not numbers up to 10000.'),
    (lambda session: session.paint(Stroke([[1, 1]], None)),
        'stroke: its points and its width are not numbers up to 10000.'),
    (lambda session: session.paint(Stroke([[16, 16]], 100)),
        'hole: at 32x32, as the network takes it, it is all hole.'),
    (lambda session: session.take(np.ones([4, 4], dtype=bool)),             'hole: it is that of another photo.'),
    (lambda session: session.show(photo_of(PIL.Image.new('RGBA', (9, 9)))),
        'hole: at 32x32, as the network takes it, it is all hole.'),
    (lambda session: session.change(trunc=float('nan')),                    'trunc: nan is not a number'),
    (lambda session: session.load(EditRecipe([Edit('b99', 0)])),
        "edits[0].layers: 'b99' is not a grouped layer"),
])
def test_what_will_not_do_gets_a_sentence_and_changes_nothing(session, do, sentence):
    session.paint(STROKE)
    before = vars(session).copy()
    with pytest.raises(WrongField) as caught:
        do(session)
    assert str(caught.value).startswith(sentence) and vars(session) == before

def test_a_stroke_beside_the_photo_changes_nothing(session):
    for place in [[-9000, -9000], [9000, 9000], [-5, 16], [16, 40]]:
        session.paint(Stroke([place], 6))
    assert not session.past

def test_without_a_photo_there_is_nothing_to_paint_on(G):
    for do in [lambda session: session.paint(STROKE), lambda session: session.clear(),
            lambda session: session.draw('centre', 0)]:
        with pytest.raises(WrongField, match='^photo: there is none yet; open one.$'):
            do(HoledSession(G))

#----------------------------------------------------------------------------
# Pictures.

@pytest.mark.parametrize('height, width, channels', [(32, 32, 3), (20, 45, 3), (70, 50, 1), (40, 40, 4)])
def test_the_pictures_are_those_of_the_python_interface_and_known_pixels_stay(G, studio, height, width, channels):
    session, view = studio.visit()
    photo = photo_of(noise(height, width, channels))
    session.show(photo)
    session.select(LAYER, 1)
    session.change(seed=5, trunc=0.8)
    session.paint(Stroke([[width / 3, height / 3], [width / 2, height / 2]], 6))
    hole = session.scene.mask
    shown = pixels(photo.png)
    complete = lambda edits: np.asarray(completion.on_white(completion.complete(G, photo.image, hole, 5, 0.8, edits))
        .convert('RGB'))
    beside, after = view.draw()
    assert beside == photo.png and np.array_equal(pixels(after), complete([])) and np.array_equal(pixels(after)[~hole],
        shown[~hole])
    assert list(view.thumbnails) == [0, 1, 2, 3] and len(set(view.thumbnails.values())) == 4

    session.steer(inter_scale=3)
    edited = pixels(view.draw()[1])
    assert np.array_equal(edited, complete([Edit(LAYER, 1, inter_scale=3)])) and not np.array_equal(edited,
        pixels(after))
    session.look_at('change')
    changed = np.ptp(pixels(view.draw()[0]).astype(int), axis=2)
    assert changed[hole].max() > 50 and changed[~hole].max() == 0 # Red, and grey.
    session.look_at('attention')
    attention = pixels(view.draw()[0])
    assert attention.shape == shown.shape and np.ptp(attention.astype(int), axis=2).max() > 50

def test_other_seeds_are_how_they_would_fill_the_hole(G, studio, session):
    session.paint(STROKE)
    session.steer(inter_scale=3)
    for seed, others in [(3, [4, 5, 6, 7]), (2 ** 32 - 2, [2 ** 32 - 1, 0, 1, 2])]:
        session.change(seed=seed)
        view = type(studio.visit()[1])(studio, session)
        assert [view.other_seed(place) for place in range(4)] == others
        for place, other in enumerate(others):
            expected = completion.complete(G, session.scene.photo.image, session.scene.mask, other,
                edits=session.scene.edits)
            assert np.array_equal(pixels(view.draw_other(place)), np.asarray(expected))

def test_a_photo_without_a_hole_is_shown_as_it_is(studio, session):
    view = type(studio.visit()[1])(studio, session)
    assert all(np.array_equal(pixels(picture), np.asarray(session.scene.photo.image)) for picture in view.draw())

def test_numbers_that_are_not_finite_are_complained_of(G, studio, session):
    G.synthesis.b32.torgb.bias.fill_(float('nan'))
    session.paint(STROKE)
    with pytest.raises(ValueError, match='^the images of the network are not finite.$'):
        type(studio.visit()[1])(studio, session).draw()

#----------------------------------------------------------------------------
# Files.

def jpeg(height, width):
    return photo_of(noise(height, width), 'jpeg',
        icc_profile=PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile('sRGB')).tobytes())

def cut_out():
    image = np.array(noise(40, 30, 4))
    image[10:20, 5:15, 3] = 0
    return photo_of(PIL.Image.fromarray(image))

@pytest.mark.parametrize('make_photo', [lambda: photo_of(noise(32, 32)), lambda: photo_of(noise(50, 20, 1)),
    lambda: photo_of(noise(24, 33).quantize(), 'gif'), lambda: jpeg(50, 70), cut_out,
    lambda: jpeg(400, MAX_SIDE + 300)])
def test_the_command_line_makes_the_file_that_was_saved_byte_for_byte(studio, make_photo):
    session, photo = studio.visit()[0], make_photo()
    session.show(photo)
    session.select(LAYER, 1)
    session.steer(inter_scale=3, intra_seed=4, intra_mix=0.5)
    session.change(seed=7, trunc=0.9)
    session.paint(Stroke([[9, 9], [15, 12]], 8))
    paths = studio.save(session.scene, session.recipe())
    assert [os.path.basename(path) for path in paths] == ['0001.png', '0001-mask.png',
        f'0001-photo{photo.ending}', '0001.json']
    done = CliRunner().invoke(main, shlex.split(studio.command(paths))[1:])
    assert done.exit_code == 0, done.output
    saved = os.path.join(studio.outdir, '0001.png')
    with open(saved,
            'rb') as first, open(os.path.join(studio.outdir, 'again', '0001-photo-seed0007.png'), 'rb') as again:
        assert first.read() == again.read()
    hole = masks.read(paths[1])
    before, after = (np.asarray(image).reshape(*hole.shape, -1)
        for image in [completion.read_photo(paths[2]), PIL.Image.open(saved)])
    assert np.array_equal(before[~hole], after[~hole]) and not np.array_equal(before[hole], after[hole])
    assert EditRecipe.read(paths[3]) == session.recipe() == studio.open(session.recipe().content)[0]
    assert np.array_equal(photo.whole(session.scene.mask), hole)

def test_without_a_hole_nothing_is_saved(studio, session):
    with pytest.raises(ValueError, match='^There is no hole yet; paint one.$'):
        studio.save(session.scene, session.recipe())
    assert os.listdir(studio.outdir) == []

def huge_png(side):
    """One that unpacks to far more than it says of itself in its 100 bytes."""
    chunk = lambda kind, data: struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0)) + chunk(b'IDAT',
        zlib.compress(bytes(1000))) + chunk(b'IEND', b'')

@pytest.mark.parametrize('content, sentence', [
    (b'',                                       'it is not an image, or one of an unknown format.'),
    (b'PK\x03\x04 and so on',                   'it is not an image, or one of an unknown format.'),
    (b'[' * 100000,                             'it is not an image, or one of an unknown format.'),
    # PIL would start Ghostscript.
    (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n',
        'it is not an image, or one of an unknown format.'),
    (huge_png(9000),                            'it is not an image that can be read (9000x9000 are more than 67 '
                                                'megapixels).'),
    (huge_png(60000),                           'it is not an image that can be read ('),
    (as_png(noise(32, 32))[:200],               'it is not an image that can be read ('),
    (b'{"version": 1}',                         'edits: it is missing.'),
    (b'{"version": 1, "edits": [{"layers": "<script>alert(1)</script>", "group": 0}]}',
        "edits[0].layers: '<script>alert(1)</script>' is not a grouped layer; they are"),
])
def test_a_hostile_upload_gets_a_sentence(studio, tmp_path, monkeypatch, content, sentence):
    monkeypatch.chdir(tmp_path)
    before = os.listdir(tmp_path)
    with pytest.raises(ValueError) as caught:
        studio.open(content)
    assert str(caught.value).startswith(sentence) and '\n' not in str(caught.value) and len(str(caught.value)) < 400
    assert os.listdir(tmp_path) == before

def test_holes_are_filled_with_linked_groups_on_the_page_and_by_its_command(studio, G, tmp_path):
    sets = ChannelSets([ChannelSet('hat', {'b8.conv1': (1, 4, 7), 'b16.conv0': (0,)})], channel_sets.weights_hash(G))
    sets.write(tmp_path / 'elsewhere.json')
    groupings.attach(G, sets)
    studio = InpaintStudio(G, names.GroupNames(None, G), studio.outdir, studio.network,
        linked=str(tmp_path / 'elsewhere.json'))
    session, view = studio.visit()
    session.show(photo_of(noise(32, 32)))
    session.paint(STROKE)
    assert (session.layer, session.group) == ('linked', 0)
    before = view.draw()[1]
    session.steer(inter_scale=3)
    assert view.draw()[1] != before and pixels(view.thumbnails[0]).shape[2] == 3
    paths = studio.save(session.scene, session.recipe())
    done = CliRunner().invoke(main, shlex.split(studio.command(paths))[1:])
    assert done.exit_code == 0, done.output
    with open(paths[0], 'rb') as first, open(os.path.join(studio.outdir, 'again', '0001-photo-seed0000.png'),
            'rb') as again:
        assert first.read() == again.read()

def test_a_recipe_without_seed_and_truncation_has_those_of_the_command(studio):
    recipe, photo = studio.open(json.dumps(
        dict(version=2, edits=[dict(layers=LAYER, group=1, inter_scale=2)], projected_w='/etc/passwd')).encode())
    assert (photo, recipe.seeds, recipe.trunc, recipe.edits) == (None, (0,), 1, (Edit(LAYER, 1, inter_scale=2),))
    session = studio.visit()[0]
    session.load(recipe)
    assert session.recipe().projected_w is None

def test_masks_are_read_at_the_size_of_the_photo():
    photo, hole = photo_of(noise(20, 30)), np.zeros([20, 30], dtype=bool)
    hole[3:9, 4:7] = True
    assert np.array_equal(photo.read_mask(as_png(PIL.Image.fromarray(hole))), hole)
    for mask, sentence in [(hole.T, 'it is 20x30, but the photo is 30x20.'), (~hole & False, 'it has no hole.'),
            (hole | True, 'it is all hole.')]:
        with pytest.raises(ValueError, match=f'^{sentence}$'):
            photo.read_mask(as_png(PIL.Image.fromarray(mask)))
    with pytest.raises(ValueError, match='^it is not an image, or one of an unknown format.$'):
        photo.read_mask(b'{}')

def test_an_album_is_a_folder_or_a_zip_file_or_one_photo(tmp_path):
    folder, zipped = tmp_path / 'photos', tmp_path / 'photos.zip'
    folder.mkdir()
    for index in range(3):
        noise(8, 8, seed=index).save(folder / f'{index}.png')
    (folder / '3.png').write_text('Not an image.')
    with zipfile.ZipFile(zipped, 'w') as z:
        for path in [*folder.iterdir(), write_dataset_json(tmp_path)]:
            z.write(path, f'00000/{path.name}')
    for path, count in [(folder, 4), (zipped, 4), (folder / '1.png', 1)]:
        album = Album(str(path))
        assert len(album.names) == count
        index = min(1, count - 1)
        assert np.array_equal(np.asarray(album.read(index).image), np.asarray(noise(8, 8, seed=1)))
        for wrong in [-1, count, 0.5, '<b>']:
            with pytest.raises(ValueError, match=f'is not the number of a photo, from 0 to {count - 1}.$'):
                album.read(wrong)
    with pytest.raises(ValueError, match="3.png': it is not an image, or one of an unknown format.$"):
        Album(str(zipped)).read(3)

def write_dataset_json(folder):
    (folder / 'dataset.json').write_text('{"labels": null}')
    return folder / 'dataset.json'

#----------------------------------------------------------------------------
# The command.

@pytest.mark.parametrize('arguments, sentence', [
    (['NETWORK', '--images=FOLDER'],            '--images: the network completes no images; '
                                                '`sarigan train --cfg=sarigan-inpaint` trains networks that do.'),
    (['INPAINTER', '--projected-w=w.npz'],      '--projected-w: '
                                                'the network completes images, and begins with photos: --images.'),
    (['INPAINTER', '--images=nowhere'],         "--images: 'nowhere' cannot be read: No such file or directory."),
    (['INPAINTER', '--images=FOLDER'],          "--images: 'FOLDER' has no images in it."),
    (['INPAINTER', '--images=ZIP'],             "--images: 'ZIP' has no images in it."),
    (['INPAINTER', '--images=TEXT'],            "--images: 'TEXT': it is not an image, or one of an unknown format."),
    (['INPAINTER', '--images=CLEAR'],           '--images: hole: at 32x32, as the network takes it, it is all hole.'),
])
def test_the_option_that_is_wrong_is_named(network, G, tmp_path, arguments, sentence):
    paths = dict(NETWORK=network, INPAINTER=write_network(tmp_path / 'inpainter.pkl', G),
        **{name: tmp_path / name.lower() for name in ['FOLDER', 'ZIP', 'TEXT', 'CLEAR']})
    paths['FOLDER'].mkdir()
    paths['TEXT'].write_text('Not an image.')
    PIL.Image.new('RGBA', (9, 9)).save(paths['CLEAR'], 'png')
    with zipfile.ZipFile(paths['ZIP'], 'w') as z:
        z.writestr('readme.txt', 'Not an image.')
    for name, path in paths.items():
        arguments, sentence = [argument.replace(name, str(path))
            for argument in arguments], sentence.replace(name, str(path))
    done = CliRunner().invoke(main, ['explore', '--no-browser', '--device=cpu', *arguments])
    assert (done.exit_code, done.stderr) == (2, f'Error: {sentence}\n')

#----------------------------------------------------------------------------
