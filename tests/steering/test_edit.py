"""Edits of channel groups: what they do to styles, how they compose, the recipes they are kept in, and the command."""

import json
import os

import numpy as np
import PIL.Image
import pytest
import torch

import commands
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering.edits import Edit, WrongField, edited, intra_components
from sarigan_plugin.steering.recipe import EditRecipe
from sarigan_plugin.steering.sampling import sample_ws
from sarigan_plugin.support import pictures

LAYER = 'b16.conv0'

@pytest.fixture
def G(make_generator):
    """Four equal groups in every layer: none is empty."""
    return make_generator(grouping='blocks').requires_grad_(False)

def layer_of(G):
    return G.synthesis.b16.conv0

def members(G, group):
    return layer_of(G).grouping.assignment == group

def styles(G, w, *edits):
    with edited(G, edits):
        return layer_of(G).styles(w)

#----------------------------------------------------------------------------
# Edits.

@pytest.mark.parametrize('norm', ['weight', 'feature'])
def test_an_edit_that_says_as_it_is_changes_no_bit(make_generator, norm):
    G = make_generator(grouping='blocks', norm=norm).requires_grad_(False)
    ws = sample_ws(G, [0])
    before = G.synthesis(ws, noise_mode='const')
    for edit in [Edit(LAYER, 1), Edit(LAYER, 1, inter_scale=1, inter_shift=0, intra_seed=9, intra_mix=0),
            Edit(LAYER, 1, 3, 2, 9, inter_seed=8).part(0), Edit(LAYER, 1, intra_seed=0),
        Edit(LAYER, 1, inter_seed=9, inter_mix=0), Edit(LAYER, 1, inter_seed=0)]:
        with edited(G, [edit]):
            assert torch.equal(G.synthesis(ws, noise_mode='const'), before), edit
    with edited(G, [Edit(LAYER, 1, 3, 2, 9)]):
        assert not torch.equal(G.synthesis(ws, noise_mode='const'), before)
    assert torch.equal(G.synthesis(ws, noise_mode='const'), before)

def test_scaling_the_inter_code_multiplies_the_styles_of_the_groups_channels_and_no_others(G):
    w = torch.randn(3, G.w_dim)
    before, after = styles(G, w), styles(G, w, Edit(LAYER, 1, inter_scale=2.5))
    torch.testing.assert_close(after[:, members(G, 1)], 2.5 * before[:, members(G, 1)])
    assert torch.equal(after[:, ~members(G, 1)], before[:, ~members(G, 1)])

def test_shifting_the_inter_code_adds_to_it(G):
    w = torch.randn(3, G.w_dim)
    code = layer_of(G).group_affine(w[:, :G.code_dim])[:, [1]]
    before, after = styles(G, w), styles(G, w, Edit(LAYER, 1, inter_scale=2, inter_shift=0.5))
    # Eq. 5 is linear in h.
    torch.testing.assert_close(after[:, members(G, 1)], before[:, members(G, 1)] / code * (2 * code + 0.5))
    assert torch.equal(after[:, ~members(G, 1)], before[:, ~members(G, 1)])

@pytest.mark.parametrize('mix', [0.25, 1])
def test_the_intra_code_of_a_group_is_taken_from_another_image(G, mix):
    w, other = torch.randn(3, G.w_dim), sample_ws(G, [7])[:, 0]
    layer = layer_of(G)
    mixed = layer.affine(w[:, G.code_dim:]).lerp(layer.affine(other[:, G.code_dim:]), mix)
    after = styles(G, w, Edit(LAYER, 2, intra_seed=7, intra_mix=mix))
    power = mixed[:, members(G, 2)].square().sum(dim=1, keepdim=True) / mixed.shape[1]
    # Eq. 5.
    torch.testing.assert_close(after[:, members(G, 2)],
        layer.group_affine(w[:, :G.code_dim])[:, [2]] * mixed[:, members(G, 2)] * power.rsqrt())
    torch.testing.assert_close(after[:, ~members(G, 2)], styles(G, w)[:, ~members(G, 2)])

@pytest.mark.parametrize('mix', [0.25, 1])
def test_the_inter_code_of_a_group_is_taken_from_another_image_and_then_scaled_and_shifted(G, mix):
    w, other = torch.randn(3, G.w_dim), sample_ws(G, [7])[:, 0]
    code, theirs = (layer_of(G).group_affine(codes[:, :G.code_dim])[:, [2]] for codes in [w, other])
    before, after = styles(G, w), styles(G, w,
        Edit(LAYER, 2, inter_scale=2, inter_shift=0.5, inter_seed=7, inter_mix=mix))
    # Eq. 5 is linear in h.
    torch.testing.assert_close(after[:, members(G, 2)],
        before[:, members(G, 2)] / code * (2 * code.lerp(theirs, mix) + 0.5))
    assert torch.equal(after[:, ~members(G, 2)], before[:, ~members(G, 2)])

def test_both_codes_of_another_image_are_its_styles(G):
    w, other = torch.randn(1, G.w_dim), sample_ws(G, [7])[:, 0]
    after = styles(G, w, *(Edit(LAYER, group, intra_seed=7, inter_seed=7) for group in range(4)))
    torch.testing.assert_close(after, styles(G, other))

def test_the_feature_form_edits_means_with_deviations(make_generator):
    G = make_generator(grouping='blocks', norm='feature').requires_grad_(False)
    w, other = torch.randn(1, G.w_dim), sample_ws(G, [7])[:, 0]
    both = torch.cat([w[:, :G.code_dim], other[:, G.code_dim:]], dim=1)
    theirs = styles(G, w, Edit(LAYER, 0, intra_seed=7, inter_seed=7))
    for after, of_other in zip(theirs, styles(G, other)):
        torch.testing.assert_close(after[:, members(G, 0)], of_other[:, members(G, 0)])
    for before, doubled, swapped, of_both in zip(styles(G, w), styles(G, w, Edit(LAYER, 0, 2)),
            styles(G, w, Edit(LAYER, 0, intra_seed=7)), styles(G, both)):
        torch.testing.assert_close(doubled[:, members(G, 0)], 2 * before[:, members(G, 0)])
        torch.testing.assert_close(swapped[:, members(G, 0)], of_both[:, members(G, 0)])
        torch.testing.assert_close(swapped[:, ~members(G, 0)], before[:, ~members(G, 0)])

def test_edits_of_different_groups_commute_and_those_of_one_group_go_in_order(G):
    w = torch.randn(2, G.w_dim)
    first, second = Edit(LAYER, 0, 3, 1, 7), Edit(LAYER, 1, -2, 0.5, 8, 0.3, 9)
    assert torch.equal(styles(G, w, first, second), styles(G, w, second, first))
    scale, shift = Edit(LAYER, 0, inter_scale=3), Edit(LAYER, 0, inter_shift=1)
    torch.testing.assert_close(styles(G, w, scale, shift), styles(G, w, Edit(LAYER, 0, 3, 1)))
    torch.testing.assert_close(styles(G, w, shift, scale), styles(G, w, Edit(LAYER, 0, 3, 3)))
    assert torch.equal(styles(G, w, Edit(LAYER, 0, intra_seed=7), Edit(LAYER, 0, intra_seed=8)),
        styles(G, w, Edit(LAYER, 0, intra_seed=8)))

def test_an_edit_of_several_layers_is_one_of_each(G):
    ws = sample_ws(G, [0])
    with edited(G, [Edit(['b8.conv1', LAYER], 2, 3)]):
        together = G.synthesis(ws, noise_mode='const')
    with edited(G, [Edit('b8.conv1', 2, 3), Edit(LAYER, 2, 3)]):
        assert torch.equal(G.synthesis(ws, noise_mode='const'), together)

def test_a_part_of_an_edit_is_between_none_and_all():
    edit = Edit(LAYER, 0, 0.1, 3, 7, 0.8, 8, 0.6)
    assert edit.part(1) == edit and edit.part(0) == Edit(LAYER, 0, 1, 0, 7, 0, 8, 0)
    assert edit.part(0.5) == Edit(LAYER, 0, 0.55, 1.5, 7, 0.4, 8, 0.3)

#----------------------------------------------------------------------------
# Components.

@pytest.mark.parametrize('norm', ['weight', 'feature'])
def test_components_are_the_directions_that_change_the_styles_of_the_group_most(make_generator, norm):
    G = make_generator(grouping='blocks', norm=norm).requires_grad_(False)
    layer = layer_of(G)
    directions, gains = intra_components(layer, 1)
    modules = [layer.affine, layer.shift] if norm == 'feature' else [layer.affine]
    def change(steps): # [N] lengths of the change of all styles of the group.
        return sum((module(steps) - module(torch.zeros_like(steps)))[:, members(G, 1)].square().sum(dim=1)
            for module in modules).sqrt()
    torch.testing.assert_close(directions @ directions.t(), torch.eye(len(gains)), rtol=0, atol=1e-5)
    torch.testing.assert_close(change(directions), gains, rtol=1e-4, atol=1e-5)
    assert (gains.diff() <= 0).all() and len(gains) == 4 * len(modules)
    anywhere = torch.nn.functional.normalize(torch.randn(1000, G.code_dim))
    assert change(anywhere).max() < gains[0]

def test_an_edit_goes_along_a_component_in_its_group_alone(G):
    w = torch.randn(3, G.w_dim)
    direction = intra_components(layer_of(G), 2)[0][1]
    moved = w.clone()
    moved[:, G.code_dim:] += 1.5 * direction
    before, there, after = styles(G, w), styles(G, moved), styles(G, w,
        Edit(LAYER, 2, intra_component=1, intra_amount=1.5))
    # Eq. 5 normalises in groups.
    torch.testing.assert_close(after[:, members(G, 2)], there[:, members(G, 2)], rtol=1e-4, atol=1e-5)
    assert torch.equal(after[:, ~members(G, 2)], before[:, ~members(G, 2)])
    assert torch.equal(styles(G, w, Edit(LAYER, 2, intra_component=1, intra_amount=1.5).part(0)), before)

def test_a_component_that_is_not_there_is_refused(G):
    with pytest.raises(WrongField, match='intra_component: 4 is out of range: '
            'the components of b16.conv0, group 2 are 0 to 3.'):
        Edit(LAYER, 2, intra_component=4, intra_amount=1).check(G)
    with pytest.raises(WrongField, match='intra_component: -1 is not a whole number'):
        Edit(LAYER, 2, intra_component=-1)

#----------------------------------------------------------------------------
# Recipes.

RECIPE = EditRecipe([Edit(LAYER, 1, 1 / 3, 0.1), Edit(['b8.conv1', LAYER], 2, intra_seed=7, intra_mix=0.7),
    Edit('b8.conv1', 1, inter_seed=8, inter_mix=0.5)], seeds=[3, 5], trunc=0.8)

def test_a_recipe_read_again_makes_the_same_images_bit_for_bit_whatever_other_seeds_there_are(G, tmp_path):
    RECIPE.write(tmp_path / 'edit.json')
    again = EditRecipe.read(tmp_path / 'edit.json')
    assert again == RECIPE and np.array_equal(again.render(G), RECIPE.render(G))
    assert torch.equal(EditRecipe(RECIPE.edits, [5], 0.8).ws(G), RECIPE.ws(G)[1:])

@pytest.mark.parametrize('changes, sentence', [
    (dict(version=3),                           'version: 3 is unknown; this program reads versions 1 to 2.'),
    (dict(version=[1]),                         'version: [1] is unknown; this program reads versions 1 to 2.'),
    (dict(edits=[]),                            'edits: [] is not a list with at least one entry.'),
    (dict(edits='all'),                         "edits: 'all' is not a list with at least one entry."),
    (dict(edits=[3]),                           'edits[0].edit: 3 is not an object with layers, group, inter_scale, '
                                                'inter_shift, intra_seed, intra_mix, inter_seed, inter_mix, '
                                                'intra_component, intra_amount.'),
    (dict(edits=[dict(layers=['b8'])]),         'edits[0].group: it is missing.'),
    (dict(edits=[dict(layers='x', group=0, a=1)]), 'edits[0].a: there is no such key; '
                                                'they are layers, group, inter_scale, inter_shift, intra_seed, '
                                                'intra_mix, inter_seed, inter_mix, intra_component, intra_amount.'),
    (dict(edits=[dict(layers=[], group=0)]),    'edits[0].layers: [] is not a list of different names of layers.'),
    (dict(edits=[dict(layers='x', group=0.5)]), 'edits[0].group: 0.5 is not a whole number.'),
    (dict(edits=[dict(layers='x', group=0, inter_scale=float('nan'))]),
        'edits[0].inter_scale: nan is not a number from -1000000 to 1000000.'),
    (dict(edits=[dict(layers='x', group=0, intra_mix=2)]), 'edits[0].intra_mix: 2 is not a number from 0 to 1.'),
    (dict(edits=[dict(layers='x', group=0, inter_mix=-1)]), 'edits[0].inter_mix: -1 is not a number from 0 to 1.'),
    (dict(edits=[dict(layers='x', group=0, inter_seed=0.5)]),
        'edits[0].inter_seed: 0.5 is not a whole number from 0 to 4294967295.'),
    (dict(edits=[dict(layers='x', group=0, intra_seed=2**32)]),
        'edits[0].intra_seed: 4294967296 is not a whole number from 0 to 4294967295.'),
    (dict(seeds=[True]),                        'seeds: True is not a whole number from 0 to 4294967295.'),
    (dict(seeds=[1] * 101),                     'seeds: 101 of them are more than 100.'),
    (dict(trunc='0.7'),                         "trunc: '0.7' is not a number from -1000000 to 1000000."),
    (dict(projected_w=3),                       'projected_w: 3 is not the name of a file.'),
    (dict(colour='red'),                        'colour: there is no such key; '
                                                'they are edits, seeds, trunc, class_idx, projected_w.'),
])
def test_a_recipe_with_a_mistake_gets_its_sentence(tmp_path, changes, sentence):
    path = tmp_path / 'edit.json'
    RECIPE.write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ValueError) as caught:
        EditRecipe.read(path)
    assert str(caught.value) == sentence

@pytest.mark.parametrize('content, sentence', [
    (b'{"version": 1,',     'it is not JSON (Expecting property name'),
    (b'\xff',               'it is not JSON ('),
    (b'[' * 100000,         'it is not JSON ('),
    (b'[1]',                'it is not a recipe: an object with version and edits.'),
    (b'{"version": 1}',     'edits: it is missing.'),
])
def test_what_is_no_recipe_gets_its_sentence(tmp_path, content, sentence):
    (tmp_path / 'edit.json').write_bytes(content)
    with pytest.raises(ValueError) as caught:
        EditRecipe.read(tmp_path / 'edit.json')
    assert str(caught.value).startswith(sentence) and '\n' not in str(caught.value)

def test_recipes_of_version_1_are_read(tmp_path):
    fields = dict(layers=[LAYER], group=1, inter_scale=0.5, inter_shift=0.1, intra_seed=7, intra_mix=0.7)
    (tmp_path / 'edit.json').write_text(json.dumps(dict(version=1, edits=[fields], seeds=[3, 5],
        trunc=0.8, class_idx=0)))
    assert EditRecipe.read(tmp_path / 'edit.json') == EditRecipe([Edit(LAYER, 1, 0.5, 0.1, 7, 0.7)], [3, 5], 0.8)

def test_what_an_edit_does_is_said_in_words():
    assert str(Edit(['b8.conv1', LAYER], 2, 3, intra_seed=7, intra_mix=0.7, inter_seed=8)) == (
        'b8.conv1, b16.conv0, group 2: inter-group code of seed 8, inter-group code times 3, '
        '70% of intra-group code of seed 7')
    assert str(Edit(LAYER, 2)) == 'b16.conv0, group 2: as it is'

def test_a_group_without_channels_and_a_class_that_is_not_there_are_named(G):
    layer_of(G).grouping.assignment.copy_(torch.arange(16) % 2)
    with pytest.raises(WrongField, match=f'group: 3 of {LAYER} has no channels; those that have are 0, 1.'):
        Edit(LAYER, 3).check(G)
    w = torch.randn(1, G.w_dim)
    assert torch.equal(styles(G, w, Edit(LAYER, 3, 2)), styles(G, w)) # Those who go through all groups need not ask.
    with pytest.raises(WrongField, match='class_idx: 1 is out of range: the network has no classes.'):
        EditRecipe([Edit(LAYER, 0)], class_idx=1).check(G)

#----------------------------------------------------------------------------
# The command.

def run(network, outdir, *arguments):
    return commands.run('edit', network, f'--outdir={outdir}', '--device=cpu', *arguments)

def picture(path):
    return np.asarray(PIL.Image.open(path))

@pytest.fixture
def live(network):
    """--layer and --group of a group that has channels."""
    layer = layer_of(reading.load(str(network), 'network'))
    return [f'--layer={LAYER}', f'--group={layer.grouping.assignment[0].item()}']

def test_the_command_leaves_pictures_and_a_recipe_that_does_the_same_again(network, live, tmp_path):
    first, again, more = tmp_path / 'first', tmp_path / 'again', tmp_path / 'more'
    done = run(network, first, *live, '--inter=3', '--seed=3,5')
    assert done.exit_code == 0, done.output
    names = ['after.png', 'before.png', 'difference.png', 'edit.json', 'strip.png']
    assert sorted(os.listdir(first)) == names
    assert picture(first / 'before.png').shape == (32, 64, 3)
    assert not np.array_equal(picture(first / 'before.png'), picture(first / 'after.png'))
    strip = picture(first / 'strip.png')[22:, -(2 + 6 * 98):] # Below the title: six columns of 96 pixels, 2 between.
    for column, name in [(0, 'before.png'), (5, 'after.png')]:
        assert np.array_equal(strip[2 : 98, 2 + 98 * column :][:, :96],
            picture(first / name)[:, :32].repeat(3, axis=0).repeat(3, axis=1))

    done = run(network, again, f'--recipe={first / "edit.json"}')
    assert done.exit_code == 0, done.output
    for name in names:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name

    done = run(network, more, f'--recipe={first / "edit.json"}', '--layer=b16.conv0', live[1], '--intra=9',
        '--inter-from=4', '--seed=5', '--scales=-1,2', '--video')
    assert done.exit_code == 0, done.output
    recipe = EditRecipe.read(more / 'edit.json')
    assert (recipe.seeds == (5,) and [edit.layers for edit in recipe.edits] == [(LAYER,), (LAYER,)]
        and recipe.edits[1] == Edit(LAYER, recipe.edits[0].group, intra_seed=9, inter_seed=4))
    assert any((more / name).exists() for name in ['video.png', 'video.mp4'])

def test_a_video_loops_there_and_back_without_an_encoder(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, 'has_mp4', lambda: False)
    frames = [PIL.Image.new('RGB', (16, 16), (value, 0, 0)) for value in [10, 200, 10]]
    path = pictures.save_video(str(tmp_path / 'video'), frames, fps=10)
    with PIL.Image.open(path) as video:
        assert (path.endswith('video.png') and video.n_frames == 3 and video.info['loop'] == 0
            and video.info['duration'] == 100)

@pytest.mark.parametrize('arguments, sentence', [
    ([],                                        '--layer is required for an edit; the layers are b8.conv0, b8.conv1, '
                                                'b16.conv0, b16.conv1, b32.conv0, b32.conv1.'),
    (['--layer=b99', '--group=0', '--inter=2'], "--layer: 'b99' is not a grouped layer; they are b8.conv0, b8.conv1, "
                                                "b16.conv0, b16.conv1, b32.conv0, b32.conv1."),
    ([f'--layer={LAYER}', '--inter=2'],         '--group is required with --layer; '
                                                '`sarigan groups` draws what there is.'),
    ([f'--layer={LAYER}', '--group=4', '--inter=2'],  '--group: 4 is out of range: '
                                                      'the groups of b16.conv0 are 0 to 3.'),
    ([f'--layer={LAYER}', '--group=-1', '--inter=2'], '--group: -1 is out of range: '
                                                      'the groups of b16.conv0 are 0 to 3.'),
    (['LIVE'],                                  '--inter, --inter-shift, --inter-from, '
                                                '--intra or --component is required: what is to change in the group.'),
    (['LIVE', '--component=0'],                 '--component needs --amount, how far to go.'),
    (['LIVE', '--inter=2', '--intra-mix=0.5'],  '--intra-mix needs --intra, the seed to take the code from.'),
    (['LIVE', '--inter=2', '--inter-mix=0.5'],  '--inter-mix needs --inter-from, the seed to take the code from.'),
    (['LIVE', '--inter-from=-1'],               '--inter-from: -1 is not a whole number from 0 to 4294967295.'),
    (['LIVE', '--intra=-1'],                    '--intra: -1 is not a whole number from 0 to 4294967295.'),
    (['LIVE', '--intra=1', '--intra-mix=1.5'],  '--intra-mix: 1.5 is not a number from 0 to 1.'),
    (['LIVE', '--inter=inf'],                   '--inter: inf is not a number from -1000000 to 1000000.'),
    (['LIVE', '--inter=2', '--scales=1,nan'],   '--scales: nan is not a number from -1000000 to 1000000.'),
    (['LIVE', '--inter=2', '--scales=a'],       "Invalid value for '--scales': "
                                                "'a' is not a list of numbers, as in -2,0,1.5"),
    (['LIVE', '--inter=2', '--class=1'],        '--class: 1 is out of range: the network has no classes.'),
    (['LIVE', '--inter=2', '--trunc=nan'],      '--trunc: nan is not a number from -1000000 to 1000000.'),
    (['--recipe=nowhere.json'],                 "--recipe: 'nowhere.json': "
                                                "it cannot be read (No such file or directory)."),
])
def test_the_option_that_is_wrong_is_named_and_nothing_written(network, live, tmp_path, arguments, sentence):
    arguments = [*live, *arguments[1:]] if arguments[:1] == ['LIVE'] else arguments
    done = run(network, tmp_path / 'out', *arguments)
    assert done.exit_code == 2 and done.stderr.strip().splitlines()[-1].removeprefix('Error: ') == sentence
    assert not (tmp_path / 'out').exists()

def test_a_recipe_for_another_network_says_which_edit_does_not_fit(network, tmp_path):
    EditRecipe([Edit('b64.conv0', 0, 2)]).write(tmp_path / 'edit.json')
    done = run(network, tmp_path / 'out', f'--recipe={tmp_path / "edit.json"}')
    assert (done.exit_code == 2 and "edit.json': edits[0].layers: 'b64.conv0' is not a grouped layer; "
        "they are b8.conv0," in done.stderr)

def test_a_recipe_is_not_replaced_by_the_one_that_begins_with_it(network, live, tmp_path):
    assert run(network, tmp_path / 'out', *live, '--inter=2', '--seed=1').exit_code == 0
    recipe = (tmp_path / 'out' / 'edit.json').read_bytes()
    done = run(network, tmp_path / 'out', f'--recipe={tmp_path / "out" / "edit.json"}', *live, '--inter=2')
    assert (done.exit_code == 2 and 'is the recipe to begin with, which would be overwritten by another one; '
        'choose another folder.' in done.stderr)
    assert (tmp_path / 'out' / 'edit.json').read_bytes() == recipe

#----------------------------------------------------------------------------
