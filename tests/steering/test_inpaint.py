"""Completing images of any kind and size with a network of inpainting, the command that does so in folders,
and the table."""

import json
import os

import hypothesis
import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from hypothesis import strategies

import commands
from sarigan_plugin.cli import main
from sarigan_plugin.datasets import masks
from sarigan_plugin.evaluation import classical, fidelity, inpainting, quality
from sarigan_plugin.features import detectors
from sarigan_plugin.model.inpainting import join_condition
from sarigan_plugin.steering import completion
from sarigan_plugin.steering.edits import Edit, edited
from sarigan_plugin.steering.recipe import EditRecipe
from sarigan_plugin.steering.sampling import latents
from small_images import noise, save_script
from small_networks import make_inpainter, write_network

@pytest.fixture
def G():
    return make_inpainter()

@pytest.fixture
def inpainter(G, tmp_path):
    """Path of a network pickle."""
    return write_network(tmp_path / 'inpainter.pkl', G)

def hole_of(height, width):
    return masks.resized(masks.of_index('rectangle', 32, 0), height, width)

def pixels_of(image):
    return np.asarray(image).reshape(image.height, image.width, -1)

#----------------------------------------------------------------------------
# Completing.

@hypothesis.settings(max_examples=20, deadline=None, derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(height=strategies.integers(8, 90), width=strategies.integers(8, 90),
    channels=strategies.sampled_from([1, 3, 4]))
def test_known_pixels_stay_what_they_are_at_any_size_and_mode(G, height, width, channels):
    photo, hole = noise(height, width, channels), hole_of(height, width)
    done = completion.complete(G, photo, hole, seed=0)
    assert (done.mode, done.size) == (photo.mode, photo.size)
    assert np.array_equal(pixels_of(done)[~hole], pixels_of(photo)[~hole]) and not np.array_equal(pixels_of(done)[hole],
        pixels_of(photo)[hole])
    assert channels < 4 or (pixels_of(done)[hole, 3] == 255).all()

@hypothesis.settings(max_examples=40, deadline=None, derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(height=strategies.integers(8, 200), width=strategies.integers(8, 200),
    seed=strategies.integers(0, 1000))
def test_what_was_in_the_hole_does_not_reach_the_network(G, height, width, seed):
    photo, other = noise(height, width), noise(height, width, seed=1)
    hole = masks.resized(masks.of_index('free-form', 32, seed), height, width)
    mixed = PIL.Image.fromarray(np.where(hole[..., None], other, photo))
    try:
        (c, window), (c_of_mixed, _window) = (completion.condition(G, image, hole) for image in [photo, mixed])
    except ValueError as error:
        assert str(error).endswith('it is all hole.')
        return
    assert torch.equal(c, c_of_mixed)
    assert (window[2] - window[0], window[3] - window[1]) == tuple(max(round(side * 32 / max(height, width)), 1)
        for side in [width, height])

@pytest.mark.parametrize('height', [32, 20])
def test_an_image_of_the_networks_size_is_seen_and_given_back_pixel_by_pixel(G, height):
    photo, hole, rows = noise(height, 32), hole_of(height, 32), slice((32 - height) // 2, (32 + height) // 2)
    c, window = completion.condition(G, photo, hole)
    image = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 127.5 - 1
    expected = join_condition(image, torch.from_numpy(hole)[None, None]).reshape(4, height, 32)
    assert window == (0, rows.start, 32, rows.stop) and torch.equal(c.reshape(4, 32, 32)[:, rows], expected)
    made = (completion.synthesize(G, c, seed=3) * 127.5 + 128).clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(np.asarray(completion.complete(G, photo, hole, seed=3))[hole], made[rows][hole])

def test_a_wide_image_lies_in_the_middle_and_its_edges_go_on(G):
    photo = PIL.Image.fromarray(np.repeat(np.linspace(0, 255, 16).astype(np.uint8)[:, None], 64, axis=1))
    c, window = completion.condition(G, photo, hole_of(16, 64))
    image, mask = c.reshape(4, 32, 32)[0], c.reshape(4, 32, 32)[3]
    assert window == (0, 12, 32, 20)
    for rows, edge in [(slice(0, 12), 12), (slice(20, 32), 19)]:
        assert (image[rows] == image[edge]).all() and (mask[rows] == mask[edge]).all()

def test_what_is_transparent_in_known_places_is_seen_on_white(G):
    pixels = np.zeros([32, 32, 4], dtype=np.uint8)
    hole = hole_of(32, 32)
    c, _window = completion.condition(G, PIL.Image.fromarray(pixels), hole)
    assert (c.reshape(4, 32, 32)[:3, torch.from_numpy(~hole)] == 1).all()

def test_each_seed_fills_the_hole_in_its_own_way_and_always_in_the_same(G):
    photo, hole = noise(40, 32), hole_of(40, 32)
    first, again, other, average, average_of_other = (np.asarray(completion.complete(G, photo, hole, *how))
        for how in [(0,), (0,), (1,), (0, 0), (1, 0)])
    assert np.array_equal(first, again) and not np.array_equal(first, other) and np.array_equal(average,
        average_of_other)

def test_edits_of_groups_change_the_hole_alone(G):
    photo, hole = noise(32, 32), hole_of(32, 32)
    plain = np.asarray(completion.complete(G, photo, hole, 0))
    for edit in [Edit('b16.conv0', 1, inter_scale=3), Edit('b16.conv0', 1, intra_seed=7),
            Edit('b16.conv0', 1, inter_seed=7)]:
        edited = np.asarray(completion.complete(G, photo, hole, 0, edits=[edit]))
        assert np.array_equal(edited[~hole], plain[~hole]) and not np.array_equal(edited[hole], plain[hole]), edit

def test_codes_of_another_seed_are_those_it_has_for_the_same_image(G):
    c, _window = completion.condition(G, noise(32, 32), hole_of(32, 32))
    layer, (w, other) = G.synthesis.b16.conv0, (G.mapping(latents(G, [seed]), c, truncation_psi=0.5)[:, 0]
        for seed in [0, 7])
    with edited(G, [Edit('b16.conv0', group, intra_seed=7, inter_seed=7) for group in range(4)], trunc=0.5, label=c):
        torch.testing.assert_close(layer.styles(w), layer.styles(other))
    edits = [Edit('b16.conv0', 1, intra_seed=7)]
    with edited(G, edits, trunc=0.5, label=c):
        expected = G(latents(G, [0]), c, truncation_psi=0.5, noise_mode='const')
    assert torch.equal(completion.synthesize(G, c, 0, 0.5, edits), expected)

@pytest.mark.parametrize('img_channels, channels', [(1, 1), (1, 3), (1, 4), (3, 1)])
def test_grey_networks_and_grey_images_go_together(img_channels, channels):
    photo, hole = noise(32, 32, channels), hole_of(32, 32)
    done = completion.complete(make_inpainter(img_channels), photo, hole, 0)
    assert done.mode == photo.mode and np.array_equal(pixels_of(done)[~hole], pixels_of(photo)[~hole])
    if img_channels == 1 and channels >= 3:
        assert np.ptp(pixels_of(done)[hole][:, :3], axis=1).max() == 0

def test_photos_of_all_modes_are_read_upright_and_in_eight_bits(tmp_path):
    path = str(tmp_path / 'photo.png')
    for image, mode in [(noise(8, 6, 1), 'L'), (noise(8, 6, 1).convert('1'), 'L'), (noise(8, 6), 'RGB'),
            (noise(8, 6).quantize(), 'RGB'), (noise(8, 6, 4), 'RGBA'), (noise(8, 6, 4).convert('LA'), 'RGBA')]:
        image.save(path)
        assert completion.read_photo(path).mode == mode and np.array_equal(np.asarray(completion.read_photo(path)),
            np.asarray(image.convert(mode)))
    noise(8, 6).convert('CMYK').save(tmp_path / 'print.tif')
    assert completion.read_photo(str(tmp_path / 'print.tif')).mode == 'RGB'
    image, turned = noise(8, 6), PIL.Image.Exif()
    turned[274] = 6 # The camera was held upright.
    image.save(path, exif=turned)
    assert np.array_equal(np.asarray(completion.read_photo(path)), np.rot90(np.asarray(image), -1))

def test_what_is_wholly_transparent_is_the_hole():
    pixels = np.full([2, 3, 4], 255, dtype=np.uint8)
    pixels[0, 1:, 3] = [0, 1]
    assert completion.transparent(PIL.Image.fromarray(pixels)).tolist() == [[False, True, False], [False] * 3]
    assert not completion.transparent(noise(2, 3)).any()

#----------------------------------------------------------------------------
# The command.

def run(network, images, outdir, *arguments):
    return commands.run('inpaint', network, f'--images={images}', f'--outdir={outdir}', '--device=cpu', *arguments)

def read(path):
    return np.asarray(PIL.Image.open(path))

def save_mask(path, hole):
    PIL.Image.fromarray(hole).save(path)

@pytest.fixture
def photos(tmp_path):
    """A folder with a photo.jpg, wide, and a face.png, of the network's size."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    noise(40, 70).save(folder / 'photo.jpg')
    noise(32, 32, seed=1).save(folder / 'face.png')
    return folder

def test_a_folder_of_images_is_completed_with_the_masks_of_their_names(inpainter, G, photos, tmp_path):
    (tmp_path / 'masks').mkdir()
    holes = {'photo': hole_of(40, 70), 'face': hole_of(32, 32)}
    for name, hole in holes.items():
        save_mask(tmp_path / 'masks' / f'{name}.png', hole)
    done = run(inpainter, photos, tmp_path / 'out', f'--masks={tmp_path / "masks"}', '--seeds=0,7')
    assert done.exit_code == 0, done.output
    assert f'2 of 2 images, 2 of each, in {tmp_path / "out"}' in done.stdout and done.stderr == ''
    assert sorted(os.listdir(tmp_path / 'out')) == ['face-seed0000.png', 'face-seed0007.png', 'photo-seed0000.png',
        'photo-seed0007.png']
    for name, file in [('photo', 'photo.jpg'), ('face', 'face.png')]:
        photo = PIL.Image.open(photos / file)
        for seed in [0, 7]:
            result = read(tmp_path / 'out' / f'{name}-seed{seed:04d}.png')
            assert np.array_equal(result[~holes[name]], np.asarray(photo)[~holes[name]])
            assert np.array_equal(result, np.asarray(completion.complete(G, photo, holes[name], seed)))

def test_one_file_is_completed_where_it_is_transparent(inpainter, tmp_path):
    pixels = np.array(noise(32, 48, 4))
    pixels[..., 3] = np.where(hole_of(32, 48), 0, 200)
    PIL.Image.fromarray(pixels).save(tmp_path / 'cut.png')
    assert run(inpainter, tmp_path / 'cut.png', tmp_path / 'out').exit_code == 0
    result = read(tmp_path / 'out' / 'cut-seed0000.png')
    assert (np.array_equal(result[~hole_of(32, 48)], pixels[~hole_of(32, 48)])
        and (result[hole_of(32, 48), 3] == 255).all())

def test_a_kind_of_masks_gives_each_image_a_hole_of_its_own_that_depends_on_its_place_alone(inpainter,
        photos, tmp_path):
    assert run(inpainter, photos, tmp_path / 'out', '--masks=free-form').exit_code == 0
    hole = masks.of_index('free-form', 32, 0) # face.png comes first.
    changed = (read(tmp_path / 'out' / 'face-seed0000.png') != read(photos / 'face.png')).any(axis=2)
    assert not changed[~hole].any() and changed[hole].mean() > 0.9

def test_a_recipe_edits_what_fills_the_holes(inpainter, G, photos, tmp_path):
    edits = [Edit('b16.conv0', 1, inter_scale=3), Edit('b8.conv1', 0, intra_seed=9)]
    EditRecipe(edits).write(tmp_path / 'edit.json')
    save_mask(tmp_path / 'mask.png', hole_of(32, 32))
    done = run(inpainter, photos / 'face.png', tmp_path / 'out', f'--masks={tmp_path / "mask.png"}',
        f'--recipe={tmp_path / "edit.json"}', '--trunc=0.8')
    assert done.exit_code == 0, done.output
    expected = completion.complete(G, PIL.Image.open(photos / 'face.png'), hole_of(32, 32), 0, 0.8, edits)
    assert np.array_equal(read(tmp_path / 'out' / 'face-seed0000.png'), np.asarray(expected))
    assert not np.array_equal(np.asarray(expected),
        np.asarray(completion.complete(G, PIL.Image.open(photos / 'face.png'), hole_of(32, 32), 0, 0.8)))

@pytest.mark.parametrize('said, options, seed, trunc', [
    (dict(),                        [],                             0, 1),
    (dict(seeds=[3], trunc=0.5),    [],                             3, 0.5),
    (dict(seeds=[3], trunc=0.5),    ['--seeds=4', '--trunc=0.8'],   4, 0.8),
])
def test_a_recipe_may_say_seed_and_truncation_and_options_go_before_it(inpainter, G, photos, tmp_path, said,
        options, seed, trunc):
    edits = [dict(layers=['b16.conv0'], group=1, inter_scale=3)]
    (tmp_path / 'edit.json').write_text(json.dumps(dict(version=2, edits=edits, **said)))
    save_mask(tmp_path / 'mask.png', hole_of(32, 32))
    assert run(inpainter, photos / 'face.png', tmp_path / 'out', f'--masks={tmp_path / "mask.png"}',
        f'--recipe={tmp_path / "edit.json"}', *options).exit_code == 0
    assert os.listdir(tmp_path / 'out') == [f'face-seed{seed:04d}.png']
    expected = completion.complete(G, PIL.Image.open(photos / 'face.png'), hole_of(32, 32), seed, trunc,
        [Edit(**edits[0])])
    assert np.array_equal(read(tmp_path / 'out' / f'face-seed{seed:04d}.png'), np.asarray(expected))

def test_whatever_is_in_a_folder_the_rest_is_done_and_each_bad_image_gets_its_reason(inpainter, tmp_path):
    photos, holes, out = (tmp_path / name for name in ['photos', 'masks', 'out'])
    photos.mkdir()
    holes.mkdir()
    good = {'grey.png': noise(50, 30, 1), 'rgba.png': noise(33, 20, 4), 'palette.gif': noise(40, 40).quantize(),
        'wide.png': PIL.Image.new('RGB', (20000, 20), 'green'),
        'deep.png': PIL.Image.fromarray(np.full([32, 32], 40000, dtype=np.uint16)),
        'two-colours.png': PIL.Image.new('1', (32, 32))}
    bad = {'all.png': noise(32, 32), 'none.png': noise(32, 32), 'size.png': noise(32, 32), 'pixel.png': noise(1, 1),
        'unmasked.png': noise(32, 32), 'thin.png': noise(3200, 3200, 1), 'badmask.png': noise(32, 32)}
    for name, image in {**good, **bad}.items():
        image.save(photos / name)
        save_mask(holes / f'{name[:-4]}.png',
            hole_of(image.height, image.width) if image.height > 1 else np.ones([1, 1], dtype=bool))
    save_mask(holes / 'all.png', np.ones([32, 32], dtype=bool))
    save_mask(holes / 'none.png', np.zeros([32, 32], dtype=bool))
    save_mask(holes / 'size.png', hole_of(32, 31))
    save_mask(holes / 'thin.png', np.indices([3200, 3200]).sum(axis=0) % 90 > 0)
    (holes / 'unmasked.png').unlink()
    (holes / 'badmask.png').write_bytes(b'mask')
    (photos / 'broken.png').write_bytes((photos / 'grey.png').read_bytes()[:200])
    (photos / 'text.png').write_text('Not an image.')
    noise(32, 32).save(photos / 'grey.webp')
    (photos / 'readme.txt').write_text('Not an image, and not taken for one.')

    done = run(inpainter, photos, out, f'--masks={holes}')
    assert done.exit_code == 1, done.output
    assert sorted(os.listdir(out)) == sorted(f'{name[:-4]}-seed0000.png' for name in good)
    assert f'6 of 16 images, 1 of each, in {out}' in done.stdout
    first, *reasons = done.stderr.splitlines()
    photo, mask = (lambda name: repr(str(photos / name))), (lambda name: repr(str(holes / name)))
    expected = [f'{photo("grey.webp")} would have results of the same names as {photo("grey.png")}.',
        f'{mask("all.png")} is all hole.', f'{mask("badmask.png")} is not an image, or one of an unknown format.',
        f'{photo("broken.png")} is not an image that can be read (', f'{mask("none.png")} has no hole.',
        f'{mask("pixel.png")} is all hole.', f'{photo("size.png")} is 32x32, but its mask {mask("size.png")} is 31x32.',
        f'{photo("text.png")} is not an image, or one of an unknown format.',
        f'{photo("thin.png")}: at 32x32, as the network takes it, it is all hole.',
        f'{photo("unmasked.png")} has no mask of its name in {str(holes)!r}.']
    assert first == 'Left out, 10:' and all(line.startswith('  ' + reason)
        for line, reason in zip(reasons, expected, strict=True)), done.stderr

    for name, image in good.items():
        result, hole = PIL.Image.open(out / f'{name[:-4]}-seed0000.png'), hole_of(image.height, image.width)
        before = np.full([32, 32], 40000 // 256) if name == 'deep.png' else np.asarray(image
            if image.mode in ['L', 'RGBA'] else image.convert('L' if image.mode == '1' else 'RGB'))
        assert result.size == image.size and np.array_equal(np.asarray(result)[~hole], before[~hole]), name

def test_where_nothing_can_be_done_the_exit_code_says_so(inpainter, photos, tmp_path):
    done = run(inpainter, photos, tmp_path / 'out')
    assert done.exit_code == 2 and done.stderr.splitlines() == ['Left out, 2:',
        *(f"  '{photos / name}' without a mask has no hole." for name in ['face.png', 'photo.jpg'])]

@pytest.mark.parametrize('arguments, sentence', [
    (['--masks=nowhere'],           "--masks: 'nowhere' cannot be read: No such file or directory. "
                                    "It may be a folder, a file, or one of centre, rectangle, free-form, mixed."),
    (['--masks=round'],             "--masks: 'round' cannot be read: No such file or directory. "
                                    "It may be a folder, a file, or one of centre, rectangle, free-form, mixed."),
    (['--images=nowhere'],          "--images: 'nowhere' cannot be read: No such file or directory."),
    (['--images=EMPTY'],            "--images: 'EMPTY' has no images in it."),
    (['--outdir=PHOTOS'],           '--outdir: it is the folder of --images, '
                                    'where results would be taken for images the next time; choose another one.'),
    (['--outdir=/dev/null/x'],      '--outdir: /dev/null/x cannot be written to: Not a directory.'),
    (['--recipe=nowhere.json'],     "--recipe: 'nowhere.json': it cannot be read (No such file or directory)."),
    (['--recipe=OTHER'],            "--recipe: 'OTHER': edits[0].layers: 'b64.conv0' is not a grouped layer; "
                                    "they are b8.conv0, b8.conv1, b16.conv0, b16.conv1, b32.conv0, b32.conv1."),
    (['--seeds=-1'],                "Invalid value for '--seeds': "
                                    "'-1' is neither numbers, as in 1,5,7, nor a range, as in 0-3"),
    (['--trunc=nan'],               "Invalid value for '--trunc': 'nan' is not a number from -1000000 to 1000000"),
])
def test_the_option_that_is_wrong_is_named_and_nothing_written(inpainter, photos, tmp_path, arguments, sentence):
    (tmp_path / 'empty').mkdir()
    EditRecipe([Edit('b64.conv0', 0, 2)]).write(tmp_path / 'other.json')
    for name, path in {'PHOTOS': photos, 'EMPTY': tmp_path / 'empty', 'OTHER': tmp_path / 'other.json'}.items():
        arguments, sentence = [argument.replace(name, str(path))
            for argument in arguments], sentence.replace(name, str(path))
    done = run(inpainter, photos, tmp_path / 'out', '--masks=centre', *arguments)
    assert done.exit_code == 2 and done.stderr.strip().splitlines()[-1].removeprefix('Error: ') == sentence
    assert not (tmp_path / 'out').exists() and len(os.listdir(photos)) == 2

def test_a_network_that_does_not_complete_images_is_refused(network, photos, tmp_path):
    done = run(network, photos, tmp_path / 'out', '--masks=centre')
    assert (done.exit_code == 2 and done.stderr == f"Error: PKL: '{network}' does not complete images; "
        "`sarigan train --cfg=sarigan-inpaint` trains networks that do.\n")

def test_numbers_that_are_not_finite_are_a_reason(G, photos, tmp_path):
    G.synthesis.b32.torgb.bias.fill_(float('nan'))
    done = run(write_network(tmp_path / 'broken.pkl', G), photos / 'face.png', tmp_path / 'out', '--masks=centre')
    assert done.exit_code == 2 and done.stderr.endswith(f"  '{photos / 'face.png'}': "
        "the images of the network are not finite.\n") and os.listdir(tmp_path / 'out') == []

#----------------------------------------------------------------------------
# The table.

@pytest.fixture
def dataset(tmp_path):
    """A folder of 25 images with a slope each, of which the last two are held out."""
    folder = tmp_path / 'dataset'
    folder.mkdir()
    for index in range(25):
        pixels = np.linspace([0, index, 255], [10 * index, 255, 0], 32).astype(np.uint8)
        PIL.Image.fromarray(np.repeat(pixels[None], 32, axis=0)).save(folder / f'{index:02d}.png')
    return folder

def run_table(dataset, outdir, *arguments):
    return commands.run('inpaint-table', f'--data={dataset}', f'--outdir={outdir}', '--device=cpu',
        '--detector=none', *arguments)

def test_the_table_has_the_figures_of_what_the_methods_make_of_the_last_tenth(inpainter, G, dataset, tmp_path):
    out = tmp_path / 'out'
    done = run_table(dataset, out, inpainter, '--seeds=0,5', '--baselines=mean')
    assert done.exit_code == 0, done.output
    assert sorted(os.listdir(out)) == ['comparison.png', 'table.json', 'table.md']
    written = json.loads((out / 'table.json').read_text())
    assert (written['images'], written['masks'], written['seeds'], written['networks']) == (2, 'mixed', [0, 5],
        {'inpainter.pkl': str(inpainter)})

    truth = [PIL.Image.open(dataset / f'{index}.png') for index in [23, 24]]
    holes = np.stack([masks.of_index('mixed', 32, index) for index in [23, 24]])
    task = inpainting.Task(np.stack(truth), holes)
    of_seeds = [inpainting.measure(np.stack([completion.complete(G, *pair, seed) for pair in zip(truth, holes)]), task)
        for seed in [0, 5]]
    for key in inpainting.MEASURES:
        values = [of_seed[key] for of_seed in of_seeds]
        assert (written['methods']['inpainter.pkl'][key] == pytest.approx(np.mean(values))
            and written['methods']['inpainter.pkl'][f'{key}_std'] == pytest.approx(np.std(values)))
    filled = np.stack([classical.fill('mean', np.asarray(image), hole) for image, hole in zip(truth, holes)])
    assert written['methods']['mean'] == pytest.approx(inpainting.measure(filled, task))

    rows = [[cell.strip() for cell in line.split('|')[1:-1]]
        for line in (out / 'table.md').read_text().splitlines() if line.startswith('|')]
    assert rows[0] == ['Method', 'MAE', 'MAE, hole', 'PSNR, dB', 'SSIM'] and [row[0] for row in rows[2:]] == ['mean',
        'inpainter.pkl']
    assert (rows[2][1] == f'{written["methods"]["mean"]["mae"]:.4f}'
        and rows[3][3] == '{psnr_db:.2f} ± {psnr_db_std:.2f}'.format(**written['methods']['inpainter.pkl']))
    assert (out / 'table.md').read_text() in done.stdout
    drawn = read(out / 'comparison.png')[-(2 * 98):, -(4 * 98):] # Two rows, four columns of 96 pixels, 2 between.
    tiles = [drawn[98 : 98 + 96, 98 * column : 98 * column + 96][::3, ::3] for column in range(4)]
    assert np.array_equal(tiles[3], task.truth[1]) and np.array_equal(tiles[1], filled[1]) and np.array_equal(
        tiles[0][~holes[1]], task.truth[1][~holes[1]])

@pytest.mark.filterwarnings('ignore:.torch.jit:DeprecationWarning')
def test_the_frechet_distance_to_the_true_images_is_a_column_of_its_own(inpainter, dataset, tmp_path):
    detector = str(tmp_path / 'colours.pt')
    save_script(detector, 'def forward(self, x):\n    return x[:, :, ::8, ::8].float().flatten(1)[:, :8]')
    done = run_table(dataset, tmp_path / 'out', inpainter, '--split=all', '--seeds=0,5', '--baselines=mean',
        f'--detector={detector}')
    assert done.exit_code == 0, done.output
    written, table = (json.loads((tmp_path / 'out' / 'table.json').read_text()),
        (tmp_path / 'out' / 'table.md').read_text())
    task = inpainting.read_task(str(dataset), 'all', 'mixed')
    filled = np.stack([classical.fill('mean', *pair) for pair in zip(task.truth, task.holes)])
    expected = quality.compare(filled, task.truth, detector)
    found = written['methods']
    assert (found['mean']['frechet'] == pytest.approx(expected['value']) and 'frechet_std' not in found['mean']
        and found['inpainter.pkl']['frechet_std'] > 0)
    assert written['frechet_floor'] == pytest.approx(expected['floor']) and written['detector'] == detector
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in table.splitlines() if line.startswith('|')]
    assert (rows[0][-1] == 'FD, colours' and rows[2][-1] == f'{expected["value"]:.2f}'
        and rows[3][-1] == '{frechet:.2f} ± {frechet_std:.2f}'.format(**found['inpainter.pkl']))
    assert f'two sets of so many true images are {expected["floor"]:.2f} apart' in table

def test_without_images_or_packages_for_a_frechet_distance_the_table_goes_without_and_says_so(dataset,
        tmp_path, monkeypatch):
    ask = lambda *arguments: CliRunner().invoke(main, ['inpaint-table', f'--data={dataset}',
        f'--outdir={tmp_path / "out"}', '--device=cpu', '--baselines=mean', *arguments])
    done = ask()
    assert (done.exit_code == 0 and done.stderr == 'Warning: the Fréchet distance is not measured: '
        'it needs 10 images at least, and there are 2.\n')
    done = ask('--detector=lite0')
    assert (done.exit_code == 2 and done.stderr == 'Error: --detector: the Fréchet distance is not measured: '
        'it needs 10 images at least, and there are 2.\n')
    monkeypatch.setattr(detectors, 'has_lite0', lambda: False)
    detectors._loaded.cache_clear()
    done = ask('--split=all')
    assert done.exit_code == 0 and 'FD' not in (tmp_path / 'out' / 'table.md').read_text()
    assert done.stderr.startswith('Warning: the Fréchet distance is not measured: '
        'lite0 needs the packages efficientnet-lite-pytorch')

def test_measures_count_pixels_of_all_holes_alike():
    truth = np.zeros([2, 16, 16, 3], dtype=np.uint8)
    holes = np.zeros([2, 16, 16], dtype=bool)
    holes[0, :3, 0], holes[1, 0, 0] = True, True
    images = truth + 51 * np.stack([holes[0], 0 * holes[1]])[..., None].astype(np.uint8)
    figures = inpainting.measure(images, inpainting.Task(truth, holes))
    assert figures['hole_mae'] == pytest.approx(0.2 * 3 / 4) and figures['mae'] == pytest.approx(0.2 * 3 / 512)
    assert figures['psnr_db'] == pytest.approx(-10 * np.log10(0.04 * 3 / 512)) and figures['ssim'] == pytest.approx(
        fidelity.ssim(images, truth).mean())

def test_masks_of_a_folder_are_taken_in_turn(dataset, tmp_path):
    (tmp_path / 'masks').mkdir()
    for index in range(3):
        save_mask(tmp_path / 'masks' / f'{index}.png', masks.of_index('rectangle', 64, index))
    task = inpainting.read_task(str(dataset), 'held-out', str(tmp_path / 'masks'))
    assert np.array_equal(task.holes,
        [masks.resized(masks.of_index('rectangle', 64, index % 3), 32, 32) for index in [23, 24]])

def test_a_data_set_that_holds_nothing_else_is_measured_as_a_whole(dataset, tmp_path):
    done = run_table(dataset, tmp_path / 'out', '--split=all', '--max-images=7', '--baselines=mean')
    assert done.exit_code == 0 and '7 images; all of dataset, holes: mixed' in done.stdout
    task = inpainting.read_task(str(dataset), 'all', 'mixed')
    assert len(task.truth) == 25 and np.array_equal(task.truth[3], read(dataset / '03.png')) and np.array_equal(
        task.holes[3], masks.of_index('mixed', 32, 3))

def test_bad_images_of_a_data_set_are_left_out_if_that_is_asked_for(dataset, tmp_path):
    (dataset / '000.png').write_bytes(b'no picture')
    words = ['--split=all', '--max-images=2', '--baselines=mean']
    done = run_table(dataset, tmp_path / 'refused', *words)
    assert '000.png' in commands.sentence(done) and not (tmp_path / 'refused').exists()
    done = run_table(dataset, tmp_path / 'out', *words, '--skip-bad-images')
    assert done.exit_code == 0 and '000.png' in done.stderr, done.output
    task = inpainting.read_task(str(dataset), 'all', 'mixed', skip_bad_images=True)
    assert len(task.truth) == 25 and np.array_equal(task.truth[0], read(dataset / '00.png'))

def test_a_network_that_may_have_seen_the_images_is_named(G, dataset, tmp_path):
    def trained_on(name, path, **split):
        return write_network(tmp_path / name, G,
            dict(class_name='sarigan_plugin.inpainting_data.InpaintingDataset', path=str(path), **split))
    seen, rest, other = trained_on('seen.pkl', dataset), trained_on('rest.pkl', dataset,
        split='train'), trained_on('other.pkl', tmp_path / 'elsewhere.zip')
    done = run_table(dataset, tmp_path / 'out', seen, rest, other, '--seeds=0', '--baselines=none')
    warning = 'Warning: {} was trained on images of {}, perhaps on those that are completed.\n'
    assert done.exit_code == 0 and done.stderr == warning.format(seen, dataset)
    done = run_table(dataset, tmp_path / 'out', rest, other, '--seeds=0', '--baselines=none', '--split=all')
    assert done.exit_code == 0 and done.stderr == warning.format(rest, dataset)

def test_a_baseline_that_is_not_installed_is_left_out_unless_it_is_asked_for(dataset, tmp_path, monkeypatch):
    def missing(method):
        if method != 'mean':
            raise classical.MissingPackage(f'{method} needs more.')
    monkeypatch.setattr(classical, 'check', missing)
    done = run_table(dataset, tmp_path / 'out')
    assert done.exit_code == 0 and done.stderr.splitlines() == [f'Warning: {method} needs more.'
        for method in ['telea', 'navier-stokes', 'biharmonic']]
    assert list(json.loads((tmp_path / 'out' / 'table.json').read_text())['methods']) == ['mean']
    done = run_table(dataset, tmp_path / 'more', '--baselines=mean,telea')
    assert (done.exit_code == 2 and done.stderr == 'Error: --baselines: telea needs more.\n'
        and not (tmp_path / 'more').exists())

@pytest.mark.parametrize('arguments, sentence', [
    (['--baselines=magic'],         "Invalid value for '--baselines': 'magic' is not a classical method; "
                                    "they are mean, telea, navier-stokes, biharmonic, or none"),
    (['--baselines=none'],          'PKL: give one network at least, or --baselines.'),
    (['--masks=round'],             "--masks: 'round' cannot be read: No such file or directory. "
                                    "It may be a folder, or one of centre, rectangle, free-form, mixed."),
    (['--data=nowhere.zip'],        '--data: nowhere.zip does not exist.'),
    (['--max-images=0'],            "Invalid value for '--max-images': 0 is not in the range x>=1."),
    (['GREY', '--baselines=none'],  'PKL: grey.pkl completes 32x32 with 1 channel, '
                                    'but --data has 32x32 with 3 channels.'),
    (['--outdir=/dev/null/x'],      '--outdir: /dev/null/x cannot be written to: Not a directory.'),
])
def test_a_table_that_cannot_be_made_says_why(dataset, tmp_path, arguments, sentence):
    if arguments[0] == 'GREY':
        arguments = [write_network(tmp_path / 'grey.pkl', make_inpainter(1)), *arguments[1:]]
    done = run_table(dataset, tmp_path / 'out', *arguments)
    assert done.exit_code == 2 and done.stderr.strip().splitlines()[-1].removeprefix('Error: ') == sentence
    assert not (tmp_path / 'out').exists()

#----------------------------------------------------------------------------
