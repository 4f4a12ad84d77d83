"""Which groups matter: what each changes, where, and the list that `sarigan directions` writes."""

import json
import pickle

import numpy as np
import PIL.Image
import pytest
import torch

import commands
from sarigan_plugin.steering import attention, directions, names
from sarigan_plugin.steering.attention import attention_maps
from sarigan_plugin.steering.edits import Edit, edited
from sarigan_plugin.steering.sampling import sample_ws
from sarigan_plugin.support import pictures

LAYER = 'b16.conv0'

@pytest.fixture
def G(make_generator):
    return make_generator(grouping='blocks').requires_grad_(False)

def brightness(images):
    return dict(bright=images.mean(axis=(1, 2, 3), dtype=np.float64), constant=np.zeros(len(images)))

#----------------------------------------------------------------------------
# What is measured.

def test_the_locus_is_the_fifth_of_the_pixels_with_the_highest_values():
    maps = torch.randn(3, 4, 10, 10)
    loci = directions.locus(maps, [10, 10])
    for of_group, values in zip(loci.flatten(0, 1), maps.flatten(0, 1)):
        assert of_group.sum() == 20 and values[of_group].min() > values[~of_group].max()
    assert directions.locus(maps, [40, 40]).shape == (3, 4, 40, 40)
    assert (directions.locus(torch.zeros(2, 1, 8, 8), [8, 8]).sum(dim=[2,3]) == 13).all() # Of a flat map as well.

def test_an_effect_is_what_turning_the_group_does_by_hand(G):
    ws = sample_ws(G, [0, 1, 2])
    before, maps = attention_maps(G, ws)
    effect = next(effect for effect in directions.measure(G, ws, down=-1, up=3, scorer=brightness)
        if effect.place == (LAYER, 2))
    loci = directions.locus(maps[LAYER], [32, 32]).numpy()
    change, bright = 0, []
    for scale in [-1, 3]:
        with edited(G, [Edit(LAYER, 2, inter_scale=scale)]):
            after = G.synthesis(ws, noise_mode='const')
        change = change + (after - before).square().mean(dim=1).numpy().astype(np.float64) # [NHW]
        bright.append(pictures.to_uint8(after).mean())
    assert effect.channels == 4
    assert effect.strength == pytest.approx(127.5 * np.sqrt(change.mean() / 2), rel=1e-4)
    assert effect.inside == pytest.approx(change[loci[:, 2]].sum() / change.sum(), rel=1e-4)
    assert effect.elsewhere == pytest.approx(
        np.mean([change[loci[:, other]].sum() for other in [0, 1, 3]]) / change.sum(), rel=1e-4)
    assert effect.moves == pytest.approx(dict(bright=bright[1] - bright[0], constant=0), rel=1e-6)

    spill, x, y = 0, 0, 0
    for image, row, column in np.ndindex(change.shape):
        rows, columns = np.nonzero(loci[image, 2])
        spill += change[image, row, column] * np.sqrt(((rows - row) ** 2 + (columns - column) ** 2).min()) / 32
        x += change[image, row, column] * (column + 0.5) / 32
        y += change[image, row, column] * (row + 0.5) / 32
    assert [effect.spill, *effect.centre] == pytest.approx([value / change.sum() for value in [spill, x, y]], rel=1e-4)

def test_every_group_with_channels_is_measured_the_strongest_first(make_generator):
    G = make_generator(grouping='blocks', num_groups=3).requires_grad_(False)
    G.synthesis.b8.conv1.grouping.assignment.clamp_(min=1) # Leaves group 0 empty, as merging does.
    effects = directions.measure(G, sample_ws(G, [0]))
    places = {effect.place for effect in effects}
    assert ('b8.conv1', 0) not in places and ('b8.conv1', 1) in places and len(places) == len(effects) == 6 * 3 - 1
    assert [effect.strength for effect in effects] == sorted([effect.strength for effect in effects], reverse=True)
    assert all(0 <= effect.inside <= 1 and 0 <= effect.spill < 1 for effect in effects)
    chosen = directions.measure(G, sample_ws(G, [0]), layers=['b8.conv1'])
    assert [effect.place for effect in chosen] == [place
        for place in (effect.place for effect in effects) if place[0] == 'b8.conv1']

def test_the_size_of_batches_makes_no_difference(G, monkeypatch):
    ws = sample_ws(G, range(5))
    whole = directions.measure(G, ws, scorer=brightness)
    monkeypatch.setattr(attention, 'MAX_PIXELS', 2 * 32 ** 2)
    for a, b in zip(whole, directions.measure(G, ws, scorer=brightness)):
        assert a.place == b.place
        assert [a.strength, a.inside, a.elsewhere, a.spill, *a.centre, *a.moves.values()] == pytest.approx([b.strength,
            b.inside, b.elsewhere, b.spill, *b.centre, *b.moves.values()], rel=1e-3, abs=1e-3)

def test_a_single_group_has_no_others(make_generator):
    G = make_generator(grouping='blocks', num_groups=1).requires_grad_(False)
    assert all(np.isnan(effect.elsewhere) for effect in directions.measure(G, sample_ws(G, [0])))

#----------------------------------------------------------------------------
# The command.

def run(*arguments):
    return commands.run('directions', *arguments)

def last_line(result):
    return result.stderr.strip().splitlines()[-1]

def test_the_command_writes_the_list_and_a_picture(network, tmp_path):
    scorer = tmp_path / 'mine.py'
    scorer.write_text('def bright(images):\n    return {"bright": images.mean(axis=(1, 2, 3))}\n')
    command = [network, f'--outdir={tmp_path}/out', '--seeds=0-3', '--top=5', f'--scorer={scorer}:bright']
    assert run(*command).exit_code == 0
    known = names.read(network)
    known.set(*(json.loads((tmp_path / 'out' / 'directions.json').read_text())['effects'][0][key]
        for key in ['layer', 'group']), 'glasses')
    known.write()
    result = run(*command)
    assert result.exit_code == 0, result.output
    listed = json.loads((tmp_path / 'out' / 'directions.json').read_text())
    assert listed['seeds'] == [0, 1, 2, 3] and listed['locus'] == 0.2
    strongest = listed['effects'][0]
    assert set(strongest) == {'layer', 'group', 'channels', 'strength', 'inside', 'elsewhere', 'spill',
        'centre', 'moves'}
    assert (f'{strongest["layer"]:<10}  group {strongest["group"]} "glasses"' in result.output
        and 'times chance' in result.output)
    picture = PIL.Image.open(tmp_path / 'out' / 'directions.png')
    assert picture.height == 22 + 2 + 5 * 66 + 8

def test_a_conditional_network_takes_a_class(make_generator, make_discriminator, tmp_path):
    G = make_generator(c_dim=3, grouping='blocks').requires_grad_(False)
    path = tmp_path / 'conditional.pkl'
    path.write_bytes(pickle.dumps(dict(G=G, D=make_discriminator(c_dim=3), G_ema=G)))
    assert run(path, f'--outdir={tmp_path}/out', '--seeds=0', '--class=2', '--layer=b8.conv0').exit_code == 0
    result = run(path, f'--outdir={tmp_path}/no', '--class=3')
    assert result.exit_code == 2 and last_line(result) == 'Error: --class: 3 is out of range: the classes are 0 to 2.'
    assert not (tmp_path / 'no').exists()

def test_mistakes_get_one_sentence(network, tmp_path):
    (tmp_path / 'file').write_text('')
    for arguments, sentence in [
        (['--layer=b4.conv1'], "Error: --layer: 'b4.conv1' is not a grouped layer; "
            "they are b8.conv0, b8.conv1, b16.conv0, b16.conv1, b32.conv0, b32.conv1."),
        ([f'--attributes={tmp_path}/none.zip'],
            f"Error: --attributes: '{tmp_path}/none.zip': it cannot be read (No such file or directory)."),
        (['--scorer=mine'], "Error: --scorer: 'mine': it is not FILE.py:FUNCTION."),
        (['--scorer=a', '--attributes=b'], 'Error: --attributes and --scorer exclude each other.'),
        (['--up=nan'], "Error: Invalid value for '--up': 'nan' is not a number from -1000000 to 1000000"),
        (['--top=0'], "Error: Invalid value for '--top': 0 is not in the range x>=1."),
    ]:
        result = run(network, f'--outdir={tmp_path}/out', *arguments)
        assert (result.exit_code, last_line(result)) == (2, sentence)
        assert not (tmp_path / 'out').exists()
    result = run(network, f'--outdir={tmp_path}/file')
    assert (result.exit_code, last_line(result)) == (2,
        f'Error: --outdir: {tmp_path}/file cannot be written to: File exists.')

def test_a_scorer_that_fails_gets_one_sentence(network, tmp_path):
    (tmp_path / 'mine.py').write_text('def f(images):\n    return images[10 ** 6]\n\ndef g(images):\n    '
        'return dict(a=3)\n')
    for name, sentence in [('f', 'IndexError: index 1000000 is out of bounds for axis 0 with size 1'),
            ('g', "its 'a' has the shape [] for 1 images")]:
        result = run(network, f'--outdir={tmp_path}/out', '--seeds=0', f'--scorer={tmp_path}/mine.py:{name}')
        assert (result.exit_code, last_line(result)) == (2,
            f"Error: --scorer: '{tmp_path}/mine.py:{name}': {sentence}.")

#----------------------------------------------------------------------------
