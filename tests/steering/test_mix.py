"""Style mixing by channel group: which codes go where, and the grid that is drawn of it."""

import os
import pickle

import numpy as np
import PIL.Image
import pytest
import torch

import commands
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.steering import names
from sarigan_plugin.steering.edits import WrongField, edited
from sarigan_plugin.steering.mixing import mixing_edits
from sarigan_plugin.steering.recipe import EditRecipe
from sarigan_plugin.steering.sampling import render, sample_ws

LAYERS = ['b8.conv0', 'b8.conv1', 'b16.conv0', 'b16.conv1', 'b32.conv0', 'b32.conv1']

@pytest.fixture
def G(make_generator):
    return make_generator(grouping='blocks').requires_grad_(False)

@pytest.fixture
def network(G, make_discriminator, tmp_path):
    """Path of a network pickle, whose group 1 of b16.conv0 is called glasses."""
    path = tmp_path / 'network.pkl'
    path.write_bytes(pickle.dumps(dict(G=G, D=make_discriminator(), G_ema=G, training_set_kwargs=None,
        augment_pipe=None)))
    known = names.read(path, G)
    known.set('b16.conv0', 1, 'glasses')
    known.write()
    return path

def run(*arguments):
    return commands.run('mix', *arguments)

def styles(G, w, edits=()):
    with edited(G, edits):
        return {name: layer.styles(w) for name, layer, _source in grouped_layers(G.synthesis)}

def picture(path):
    return np.asarray(PIL.Image.open(path))

#----------------------------------------------------------------------------

@pytest.mark.parametrize('code', ['intra', 'inter', 'both'])
@pytest.mark.parametrize('layers', [None, ['b8.conv1', 'b16.conv0']])
def test_layers_get_the_codes_of_the_other_image_and_the_rest_keeps_its_own(G, code, layers):
    w, other = torch.randn(1, G.w_dim), sample_ws(G, [7])[:, 0]
    mixed = torch.cat([(other if code in [part, 'both'] else w).split(G.code_dim, dim=1)[index]
        for index, part in enumerate(['inter', 'intra'])], dim=1)
    before, after, wanted = styles(G, w), styles(G, w, mixing_edits(G, 7, layers, code=code)), styles(G, mixed)
    for name in LAYERS:
        torch.testing.assert_close(after[name], (wanted if name in (layers or LAYERS) else before)[name])
        assert torch.equal(after[name], before[name]) == (layers is not None and name not in layers)

def test_one_group_is_mixed_alone(G):
    w = torch.randn(1, G.w_dim)
    before, after = styles(G, w), styles(G, w, mixing_edits(G, 7, ['b16.conv0', 'b8.conv0'], 2))
    for name, layer, _source in grouped_layers(G.synthesis):
        changed = (after[name] != before[name])[0]
        assert torch.equal(changed, (layer.grouping.assignment == 2) & (name in ['b16.conv0', 'b8.conv0']))

def test_groups_without_channels_are_passed_over_unless_they_are_asked_for(G):
    G.synthesis.b16.conv0.grouping.assignment.copy_(torch.arange(16) % 2)
    assert [edit.group for edit in mixing_edits(G, 7, ['b16.conv0'])] == [0, 1]
    with pytest.raises(WrongField, match='group: 3 of b16.conv0 has no channels; those that have are 0, 1.'):
        mixing_edits(G, 7, ['b16.conv0'], 3)

def test_the_grid_has_its_images_at_the_sides_and_in_each_cell_a_row_with_codes_of_a_column(G, network, tmp_path):
    done = run(network, f'--outdir={tmp_path / "out"}', '--rows=3,5', '--cols=7,3,9', '--layer=b16.conv0',
        '--code=inter', '--device=cpu')
    assert done.exit_code == 0, done.output
    assert sorted(os.listdir(tmp_path / 'out')) == ['cells', 'grid.png']
    assert sorted(os.listdir(tmp_path / 'out' / 'cells')) == ['3-3.png', '3-7.png', '3-9.png', '5-3.png',
        '5-7.png', '5-9.png']
    # Below the labels: four columns of 128 pixels, 2 between.
    grid = picture(tmp_path / 'out' / 'grid.png')[40:, -(2 + 4 * 130):]
    def cell(row, column):
        return grid[2 + 130 * row :, 2 + 130 * column :][:128, :128][::4, ::4]
    assert cell(0, 0).min() == 255
    for column, seed in enumerate([7, 3, 9], start=1):
        assert np.array_equal(cell(0, column), render(G, sample_ws(G, [seed])))
    for row, seed in enumerate([3, 5], start=1):
        assert np.array_equal(cell(row, 0), render(G, sample_ws(G, [seed])))
        for column, other in enumerate([7, 3, 9], start=1):
            assert np.array_equal(cell(row, column),
                EditRecipe(mixing_edits(G, other, ['b16.conv0'], code='inter'), [seed]).render(G)[0])
            assert np.array_equal(cell(row, column), picture(tmp_path / 'out' / 'cells' / f'{seed}-{other}.png'))
            assert np.array_equal(cell(row, column), cell(row, 0)) == (seed == other)

def test_a_group_is_mixed_by_its_name(network, tmp_path):
    for out, group in [('name', ['--group=glasses']), ('index', ['--group=1', '--layer=b16.conv0'])]:
        assert run(network, f'--outdir={tmp_path / out}', '--rows=3', '--cols=7', '--device=cpu', *group).exit_code == 0
    assert (tmp_path / 'name' / 'grid.png').read_bytes() == (tmp_path / 'index' / 'grid.png').read_bytes()

def test_classes_and_grey_images_are_mixed_as_well(make_generator, make_discriminator, tmp_path):
    G = make_generator(grouping='blocks', c_dim=3, img_channels=1).requires_grad_(False)
    path = tmp_path / 'grey.pkl'
    path.write_bytes(pickle.dumps(dict(G=G, D=make_discriminator(c_dim=3, img_channels=1), G_ema=G,
        training_set_kwargs=None, augment_pipe=None)))
    assert run(path, f'--outdir={tmp_path / "out"}', '--rows=3', '--cols=7', '--class=2', '--device=cpu').exit_code == 0
    assert np.array_equal(picture(tmp_path / 'out' / 'cells' / '3-7.png'),
        EditRecipe(mixing_edits(G, 7), [3], class_idx=2).render(G)[0])

@pytest.mark.parametrize('arguments, words', [
    (['--rows=1'],                                  "Missing option '--cols'."),
    (['--rows=1', '--cols=x'],                      "Invalid value for '--cols': "
                                                    "'x' is neither numbers, as in 1,5,7, nor a range, as in 0-3"),
    (['--rows=0-100', '--cols=1'],                  '--rows: 101 of them are more than 100.'),
    (['--rows=1', '--cols=0-100'],                  '--cols: 101 of them are more than 100.'),
    (['--rows=1', '--cols=1', '--layer=b99'],       "--layer: 'b99' is not a grouped layer; "
                                                    f"they are {', '.join(LAYERS)}."),
    (['--rows=1', '--cols=1', '--layer=b99', '--group=1'],
        f"--layer: 'b99' is not a grouped layer; they are {', '.join(LAYERS)}."),
    (['--rows=1', '--cols=1', '--group=4'],         '--group: 4 is out of range: the groups of b8.conv0 are 0 to 3.'),
    (['--rows=1', '--cols=1', '--group=hat'],       "--group: no group is called 'hat'; the names are glasses."),
    (['--rows=1', '--cols=1', '--layer=b8.conv0', '--group=glasses'],
        "--layer: 'glasses' is group 1 of b16.conv0, not of b8.conv0."),
    (['--rows=1', '--cols=1', '--class=1'],         '--class: 1 is out of range: the network has no classes.'),
    (['--rows=1', '--cols=1', '--trunc=nan'],       "Invalid value for '--trunc': "
                                                    "'nan' is not a number from -1000000 to 1000000"),
])
def test_the_option_that_is_wrong_is_named_and_nothing_written(network, tmp_path, arguments, words):
    done = run(network, f'--outdir={tmp_path / "out"}', '--device=cpu', *arguments)
    assert done.exit_code == 2 and done.stderr.strip().splitlines()[-1].removeprefix('Error: ') == words
    assert not (tmp_path / 'out').exists()

#----------------------------------------------------------------------------
