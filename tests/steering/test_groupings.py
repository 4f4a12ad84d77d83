"""Linked groups: what edits of them do, the file they are in, and every command that takes groups."""

import dataclasses
import json
import pickle
import re

import numpy as np
import PIL.Image
import pytest
import torch

from commands import run, sentence
from sarigan_plugin.explore.session import Session
from sarigan_plugin.explore.studio import Studio
from sarigan_plugin.model import networks
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import attention, channel_sets, groupings, names, units
from sarigan_plugin.steering.channel_sets import ChannelSet, ChannelSets
from sarigan_plugin.steering.edits import Edit, WrongField, edited
from sarigan_plugin.steering.mixing import mixing_edits
from sarigan_plugin.steering.recipe import EditRecipe
from sarigan_plugin.steering.sampling import sample_ws
from sarigan_plugin.steering.styles import all_styles, layer_styles, restyled, styled_layers
from sarigan_plugin.trainer import attribute_groups, baking, transfer
from small_images import noise, save_images
from small_networks import make_inpainter, plain_networks, shaken, write, write_network

SETS = [ChannelSet('hat', {'b8.conv1': (1, 4, 7), 'b16.conv0': (0,)}), ChannelSet(None, {'b32.conv1': (0, 2)})]
HAT = {'b8.conv1': [1, 4, 7], 'b16.conv0': [0]}

def linked(G):
    groupings.attach(G, ChannelSets(SETS, channel_sets.weights_hash(G)))
    return G

@pytest.fixture(params=['ours', 'feature', 'upstreams'])
def G(request, make_generator):
    """With linked groups, in each form."""
    if request.param == 'upstreams':
        return linked(plain_networks()['G_ema'])
    norm = 'feature' if request.param == 'feature' else 'weight'
    return linked(make_generator(grouping='blocks', norm=norm).requires_grad_(False))

def styles(G, w, *edits):
    """{layer: styles, and shifts} under some edits."""
    seen = dict()
    with edited(G, edits):
        for name, layer in styled_layers(G).items():
            now = layer.styles(w) if hasattr(layer, 'styles') else layer.affine(w)
            seen[name] = now if isinstance(now, tuple) else (now,)
    return seen

def assert_changed(before, after, change):
    """In the channels of HAT to what change() makes of (layer, kind, styles), in no other bit."""
    for name, kinds in before.items():
        for kind, own in enumerate(kinds):
            expected = own.clone()
            chosen = HAT.get(name, [])
            if chosen:
                expected[:, chosen] = change(name, kind, own)[:, chosen]
            torch.testing.assert_close(after[name][kind], expected, rtol=1e-4, atol=1e-6)
            others = [channel for channel in range(own.shape[1]) if channel not in chosen]
            assert torch.equal(after[name][kind][:, others], own[:, others])

#----------------------------------------------------------------------------
# Edits.

def test_turning_a_linked_group_multiplies_the_styles_of_its_channels_in_all_its_layers(G):
    w = torch.randn(3, G.w_dim)
    assert_changed(styles(G, w), styles(G, w, Edit('linked', 0, 2.5)), lambda _name, _kind, own: 2.5 * own)
    assert_changed(styles(G, w), styles(G, w, Edit('linked', 0, 3), Edit('linked', 0, 0.5)),
        lambda _name, _kind, own: 1.5 * own)

def test_another_images_styles_take_their_place_wholly_or_by_a_part(G):
    w, other = torch.randn(3, G.w_dim), sample_ws(G, [7])[:, 0]
    theirs = {name: all_styles(layer, other) for name, layer in styled_layers(G).items()}
    for mix in [1, 0.25]:
        assert_changed(styles(G, w), styles(G, w, Edit('linked', 0, intra_seed=7, intra_mix=mix)),
            lambda name, kind, own, mix=mix: own.lerp(theirs[name][kind], mix))
    both = styles(G, w, Edit('linked', 0, intra_seed=7, inter_seed=7))
    assert_changed(styles(G, w), both, lambda name, kind, own: theirs[name][kind].expand_as(own))

def test_shifts_and_inter_group_codes_of_other_images_are_those_of_the_gain(G):
    w, other = torch.randn(3, G.w_dim), sample_ws(G, [7])[:, 0]
    layers, own = styled_layers(G), styles(G, w)
    def gain(name, of_layer): # By Eq. 5 it would be |h|.
        return of_layer[:, HAT[name]].square().sum(dim=1, keepdim=True).div(of_layer.shape[1]).sqrt()
    edit = Edit('linked', 0, 2, 0.5, inter_seed=7, inter_mix=0.25)
    def change(name, _kind, styles):
        before = gain(name, own[name][0])
        after = 2 * before.lerp(gain(name, all_styles(layers[name], other)[0]), 0.25) + 0.5
        return styles * after / before
    assert_changed(own, styles(G, w, edit), change)

def test_a_component_moves_the_code_of_its_channels_alone(G):
    w, layers = torch.randn(3, G.w_dim), styled_layers(G)
    directions, gains = groupings.of(G)['linked'].components(0)
    assert torch.equal(gains.sort(descending=True).values, gains)
    torch.testing.assert_close(directions @ directions.t(), torch.eye(len(gains)), rtol=0, atol=1e-5)
    step = torch.zeros(G.w_dim)
    step[-directions.shape[1]:] = 2 * directions[1]
    assert_changed(styles(G, w), styles(G, w, Edit('linked', 0, intra_component=1, intra_amount=2)),
        lambda name, kind, _own: all_styles(layers[name], w + step)[kind])

def test_edits_that_say_as_it_is_change_no_bit_and_leave_nothing_behind(G):
    ws = sample_ws(G, [0])
    image = lambda: G.synthesis(ws, noise_mode='const')
    before = image()
    for edit in [Edit('linked', 0), Edit('linked', 0, 3, 2, 9, inter_seed=8).part(0),
            Edit('linked', 0, intra_component=0, intra_amount=0)]:
        with edited(G, [edit]):
            assert torch.equal(image(), before), edit
    with pytest.raises(ZeroDivisionError), edited(G, [Edit('linked', 0, 3), Edit('linked', 0, 2)]):
        assert not torch.equal(image(), before)
        raise ZeroDivisionError
    assert torch.equal(image(), before)
    assert not any(module._forward_hooks for module in G.modules())
    assert not any('styles' in vars(module) for module in G.modules())

def test_linked_and_layers_own_groups_are_edited_together(make_generator):
    G = linked(make_generator(grouping='blocks').requires_grad_(False))
    w = torch.randn(2, G.w_dim)
    own, both = Edit('b8.conv1', 0, 3, intra_seed=5), [Edit('b8.conv1', 0, 3, intra_seed=5), Edit('linked', 0, 2)]
    assert_changed(styles(G, w, own), styles(G, w, *both), lambda _name, _kind, before: 2 * before)
    assert_changed(styles(G, w, own), styles(G, w, *both[::-1]), lambda _name, _kind, before: 2 * before)
    theirs = {name: all_styles(layer, sample_ws(G, [7])[:, 0]) for name, layer in styled_layers(G).items()}
    # Not theirs with what an earlier edit did to the layer.
    assert_changed(styles(G, w, own), styles(G, w, own, Edit('linked', 0, intra_seed=7)),
        lambda name, kind, before: theirs[name][kind].expand_as(before))

def test_styles_that_are_changed_within_a_change_come_back_in_order(make_generator):
    layer = make_generator(grouping='blocks').synthesis.b8.conv0
    w = torch.randn(2, 64)
    before = layer_styles(layer, w)
    with restyled(layer, lambda own: own * 2):
        with restyled(layer, lambda own: own + 1):
            torch.testing.assert_close(layer_styles(layer, w), before * 2 + 1)
        torch.testing.assert_close(layer_styles(layer, w), before * 2)
    assert torch.equal(layer_styles(layer, w), before)

def test_what_is_no_linked_group_gets_a_sentence(G):
    with pytest.raises(WrongField, match='the groups of linked are 0 to 1'):
        Edit('linked', 2, 0).check(G)
    with pytest.raises(WrongField, match='the components of linked, group 0 are'):
        Edit('linked', 0, intra_component=99, intra_amount=1).check(G)
    groupings.attach(G, None)
    with pytest.raises(WrongField, match='not a grouped layer'):
        Edit('linked', 0, 0).check(G)

def test_a_pickle_holds_no_linked_groups(G):
    assert groupings.LINKED not in groupings.of(pickle.loads(pickle.dumps(G)))

#----------------------------------------------------------------------------
# What tools make of them.

def test_a_linked_group_attends_to_the_mean_of_its_channels_maps(G):
    ws = sample_ws(G, range(2))
    features = attention.capture_features(G, ws)[1]
    maps = attention.attention_maps(G, ws)[1]['linked']
    assert maps.shape == (2, 2, 32, 32)
    x = features['b32.conv1']
    standard = (x - x.mean(dim=[1, 2, 3], keepdim=True)) / x.std(dim=[1, 2, 3], keepdim=True)
    torch.testing.assert_close(maps[:, 1], standard[:, [0, 2]].mean(dim=1), rtol=1e-4, atol=1e-5)

def test_a_linked_group_is_a_unit_that_is_turned_by_its_gain_in_every_layer(G):
    ws = sample_ws(G, range(20))
    found = [unit for unit in units.find(G, ws) if unit.layer == 'linked']
    assert [(unit.kind, unit.index, unit.size) for unit in found] == [('linked', 0, 4), ('linked', 1, 2),
        ('shuffled', 0, 4), ('shuffled', 1, 2)]
    own = {name: layer_styles(layer, ws[:, 0]) for name, layer in styled_layers(G).items()}
    with found[0].turned(2):
        for name, layer in styled_layers(G).items():
            after, chosen = layer_styles(layer, ws[:, 0]), HAT.get(name, [])
            others = [channel for channel in range(after.shape[1]) if channel not in chosen]
            assert torch.equal(after[:, others], own[name][:, others])
            if chosen:
                before = own[name][:, chosen].square().sum(dim=1).div(after.shape[1]).sqrt()
                turned = after[:, chosen].square().sum(dim=1).div(after.shape[1]).sqrt()
                torch.testing.assert_close(turned, before + 2 * before.std(correction=0))
    features = attention.capture_features(G, ws)[1]
    torch.testing.assert_close(found[1].attention(features), attention.attention_maps(G, ws)[1]['linked'][:, 1])

def test_visitors_of_the_page_begin_with_linked_groups(make_generator, tmp_path):
    G = make_generator(grouping='blocks').requires_grad_(False)
    assert Session(G).layer == 'b16.conv1'
    session = Session(linked(G))
    assert (session.layer, session.group, session.groups['linked']) == ('linked', 0, [0, 1])
    session.steer(inter_scale=2)
    assert session.recipe().edits == (Edit('linked', 0, 2),)
    # All groups, where none is chosen: a layer's own, whose channels linked ones share.
    assert {name for edit in mixing_edits(G, 3) for name in edit.layers} == set(styled_layers(G))
    plain = linked(plain_networks()['G_ema'])
    view = Studio(plain, names.GroupNames(None, plain), str(tmp_path)).visit()[1]
    assert all(picture.startswith(b'\x89PNG') for picture in [*view.draw(), *view.thumbnails.values()])
    assert list(view.thumbnails) == [0, 1]
    assert mixing_edits(plain, 3) == [Edit('linked', group, intra_seed=3, inter_seed=3) for group in [0, 1]]

def test_recipes_know_linked_groups(G, tmp_path):
    recipe = EditRecipe([Edit('linked', 0, 2, intra_seed=4)], seeds=[1])
    recipe.write(tmp_path / 'edit.json')
    again = EditRecipe.read(tmp_path / 'edit.json')
    again.check(G)
    assert again == recipe and (again.render(G) == recipe.render(G)).all()

def test_groups_have_the_names_of_their_file_until_somebody_gives_others_which_follow_channels(G, tmp_path):
    known = names.GroupNames(tmp_path / 'network.names.json', G)
    assert list(known) == [('linked', 0, 'hat')] and known.find('hat') == ('linked', 0)
    with pytest.raises(ValueError, match="'hat' is the name of linked, group 0."):
        known.set('linked', 1, 'hat')
    known.set('linked', 0, 'cap')
    known.set('linked', 1, 'hat') # Free by now.
    known.write()
    read = names.read(str(tmp_path / 'network.pkl'), G)
    assert list(read) == [('linked', 0, 'cap'), ('linked', 1, 'hat')]
    groupings.attach(G, ChannelSets([SETS[1], SETS[0]], '')) # Found anew, in another order.
    read = names.read(str(tmp_path / 'network.pkl'), G)
    assert list(read) == [('linked', 0, 'hat'), ('linked', 1, 'cap')]

#----------------------------------------------------------------------------
# The file.

@pytest.fixture
def plain(tmp_path):
    """A pickle of a StyleGAN2, as upstream writes it."""
    return write(plain_networks(), tmp_path / 'plain.pkl')

def test_the_file_says_what_was_written(G, tmp_path):
    rest = ChannelSet('rest', {'b16.conv0': (3,)}, rest=True)
    sets = ChannelSets([*SETS, rest], channel_sets.weights_hash(G), dict(by='effects'))
    sets.write(tmp_path / 'a.groups.json')
    assert channel_sets.read(tmp_path / 'a.groups.json', G) == sets

def test_the_hash_is_that_of_the_weights_wherever_they_are(plain, tmp_path):
    assert run('export', plain, f'--to={tmp_path / "folder"}').exit_code == 0
    G = reading.load(str(plain), 'PKL')
    assert channel_sets.weights_hash(reading.load(str(tmp_path / 'folder'), 'PKL')) == channel_sets.weights_hash(G)
    G.synthesis.b8.conv0.bias[3] += 1e-3
    assert channel_sets.weights_hash(reading.load(str(plain), 'PKL')) != channel_sets.weights_hash(G)
    assert channel_sets.path_of(str(tmp_path / 'folder')) == str(tmp_path / 'folder/groups.json')
    assert channel_sets.path_of('https://example.org/a.pkl') is None

WRONG = {
    'it is not JSON':                           lambda data: None,
    'it is not a file of linked groups':        lambda data: [data],
    'version: 9 is unknown':                    lambda data: data | dict(version=9),
    'groups: it is not a list':                 lambda data: data | dict(groups=[]),
    'groups[0]: channels: it is not an object': lambda data: data | dict(groups=[dict(name='a', channels=[])]),
    'is there twice':           lambda data: data | dict(groups=data['groups'] + [dict(data['groups'][1], name='b')]),
    "the network has no layer 'b64.conv0'":     lambda data: data | dict(groups=[dict(name='a',
                                                    channels={'b64.conv0': [0]})]),
    'b8.conv0 has no channel 16':   lambda data: data | dict(groups=[dict(name='a', channels={'b8.conv0': [3, 16]})]),
    'are not a list of indices':    lambda data: data | dict(groups=[dict(name='a', channels={'b8.conv0': [-1]})]),
    'numbers are the indices of groups': lambda data: data | dict(groups=[dict(name='3', channels={'b8.conv0': [1]})]),
    "another group is called 'hat'":     lambda data: data | dict(groups=data['groups'] + [dict(name='hat',
                                                    channels={'b8.conv0': [1]})]),
    'groups[0]: rest: only the last of several groups':   lambda data: data | dict(groups=[dict(data['groups'][0],
                                                    rest=True), data['groups'][1]]),
    'groups[1]: rest: it is neither true nor false':  lambda data: data | dict(groups=[data['groups'][0],
                                                    dict(data['groups'][1], rest=2)]),
    'groups[1]: note: it is not text':  lambda data: data | dict(groups=[data['groups'][0],
                                                    dict(data['groups'][1], note=['tall'])]),
    'it belongs to another network':            lambda data: data | dict(network='0' * 64),
}

@pytest.mark.parametrize('why', WRONG)
@pytest.mark.parametrize('given', [False, True])
def test_a_file_that_does_not_fit_gets_a_sentence(plain, tmp_path, why, given):
    path = tmp_path / ('other.json' if given else 'plain.groups.json')
    ChannelSets(SETS, channel_sets.weights_hash(reading.load(str(plain), 'PKL'))).write(path)
    data = WRONG[why](json.loads(path.read_text()))
    path.write_text('{"version": 1' if data is None else json.dumps(data))
    done = run('name', plain, *[f'--groups={path}'] * given)
    assert why in sentence(done) and path.name in sentence(done)
    assert ('--groups: ' if given else 'PKL: ') in sentence(done)

#----------------------------------------------------------------------------
# Commands.

@pytest.mark.parametrize('by', ['effects', 'responses', 'kernels'])
def test_regroup_touches_no_network_and_changes_no_bit_of_an_image(network, tmp_path, by):
    content = network.read_bytes()
    images = lambda: reading.load(str(network), 'PKL').synthesis(torch.ones(1, 8, 64), noise_mode='const')
    before = images()
    done = run('regroup', network, f'--by={by}', '--seeds=0-3', '--num-groups=3', '--quick', '--device=cpu')
    assert done.exit_code == 0, done.output
    assert network.read_bytes() == content and torch.equal(images(), before)
    G = groupings.load(str(network), 'PKL')
    assert torch.equal(G.synthesis(torch.ones(1, 8, 64), noise_mode='const'), before)
    assert groupings.of(G)['linked'].num_found == (3 * 6 if by == 'kernels' else 3)
    assert ("what is left over, change" in done.output) == (by == 'effects')
    assert groupings.LINKED not in groupings.of(groupings.load(str(network), 'PKL', groups='none'))
    assert sorted(path.name for path in tmp_path.iterdir()) == ['network.groups.json', 'network.pkl']

def test_any_stylegan2_is_steered_by_linked_groups_in_all_commands(plain, tmp_path):
    assert f'run `sarigan regroup {plain}` first' in sentence(run('groups', plain, f'--outdir={tmp_path / "out"}'))
    done = run('regroup', plain, '--seeds=0-3', '--num-groups=2', '--device=cpu')
    assert done.exit_code == 0 and 'times as much as of random sets' in done.output, done.output
    assert run('name', plain, '--layer=linked', '--group=1', '--as=hat').exit_code == 0
    assert re.search(r'then groups are tried in 256 images: about \d+ (s|minutes)', done.output), done.output
    for words in [['groups', '--seeds=0-1'], ['edit', '--group=0', '--inter=2', '--seed=0'],
            ['edit', '--group=hat', '--intra=4', '--seed=0'], ['mix', '--rows=0', '--cols=1', '--group=hat'],
            ['mix', '--rows=0', '--cols=1'], ['directions', '--seeds=0', '--layer=linked']]:
        out = tmp_path / '-'.join(words).replace('=', '')
        done = run(words[0], plain, *words[1:], f'--outdir={out}')
        assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / 'groups---seeds0-1/attention.json').read_text())
    layer, = figures['layers']
    assert layer['name'] == 'linked' and [group['name'] for group in layer['groups']][1] == 'hat'
    assert 'of all layers' in (tmp_path / 'groups---seeds0-1/index.html').read_text()
    done = run('edit', plain, '--group=0', '--inter=2', '--seed=0', '--groups=none', f'--outdir={tmp_path / "none"}')
    assert 'holds a generator without channel groups.' in sentence(done)

def test_a_network_that_completes_images_is_steered_by_linked_groups(tmp_path):
    network = write_network(tmp_path / 'inpainter.pkl', shaken(make_inpainter()))
    data, masks = tmp_path / 'photos.zip', ['--masks=centre', f'--images={tmp_path / "photo.png"}']
    save_images(data, count=5)
    noise(32, 32).save(tmp_path / 'photo.png')
    content = network.read_bytes()
    done = run('regroup', network, f'--data={data}', '--seeds=0-3', '--num-groups=2', '--device=cpu')
    assert done.exit_code == 0 and 'times as much as of random sets' in done.output, done.output
    assert network.read_bytes() == content
    G = groupings.load(str(network), 'PKL', generates=False)
    assert list(groupings.of(G)) == ['linked', *styled_layers(G)] and groupings.of(G)['linked'].num_found == 2
    measured = groupings.linked(G).sets.measured
    assert (measured['data'], measured['masks']) == ('photos.zip', 'mixed')
    assert (measured['num_images'], measured['num_trials']) == (4, 256)
    assert run('name', network, '--layer=linked', '--group=1', '--as=hat').exit_code == 0

    def filled(outdir, *words, **edit):
        recipe = tmp_path / f'{outdir}.json'
        EditRecipe([Edit('linked', 0, **edit)], seeds=(0,)).write(recipe)
        done = run('inpaint', network, *masks, f'--recipe={recipe}', f'--outdir={tmp_path / outdir}', *words)
        assert done.exit_code == 0, done.output
        return np.asarray(PIL.Image.open(tmp_path / outdir / 'photo-seed0000.png')).astype(int)
    same, twice, other = filled('same', inter_scale=1), filled('twice', inter_scale=2), filled('other', intra_seed=9)
    photo, inside = np.asarray(PIL.Image.open(tmp_path / 'photo.png')), np.zeros([32, 32], dtype=bool)
    inside[8:24, 8:24] = True
    for image in [same, twice, other]:
        assert np.array_equal(image[~inside], photo[~inside])
    assert (same != twice)[inside].any() and (same != other)[inside].any() and (twice != other)[inside].any()
    done = run('inpaint', network, *masks, f'--recipe={tmp_path / "twice.json"}', f'--outdir={tmp_path / "none"}',
        '--groups=none')
    assert "'linked' is not a grouped layer" in sentence(done)

@pytest.mark.parametrize('words, why', [
    ([], '--data is required, as the network completes images'),
    (['--data=photos.zip', '--class=1'], '--class: the network completes images, and has no classes'),
    (['--data=photos.zip', '--bake=new.pkl'], '--bake: the network completes images'),
    (['--data=photos.zip', '--masks=no'], "--masks: 'no' cannot be read"),
    (['--data=small.zip'], 'but --data has 16x16 with 3 channels'),
    (['--data=missing.zip'], '--data: ')])
def test_photos_that_do_not_fit_a_network_get_a_sentence(tmp_path, monkeypatch, words, why):
    monkeypatch.chdir(tmp_path)
    write_network(tmp_path / 'inpainter.pkl', make_inpainter())
    save_images(tmp_path / 'photos.zip', count=2)
    save_images(tmp_path / 'small.zip', count=2, size=16)
    before = sorted(tmp_path.iterdir())
    assert why in sentence(run('regroup', 'inpainter.pkl', *words))
    assert sorted(tmp_path.iterdir()) == before

def test_only_networks_that_complete_images_take_photos(plain):
    assert '--data: the network completes no images' in sentence(run('regroup', plain, '--data=photos.zip'))

def test_disentanglement_sets_linked_groups_beside_random_sets(plain, tmp_path):
    assert run('regroup', plain, '--seeds=0-3', '--num-groups=2', '--by=responses').exit_code == 0
    few = ['--measures=locality', '--num-images=100', '--num-turned=2', '--device=cpu']
    done = run('disentanglement', plain, *few, f'--outdir={tmp_path / "out"}')
    assert done.exit_code == 0 and ': linked groups' in done.output and 'linked random sets' in done.output
    done = run('disentanglement', plain, *few, '--groups=none', f'--outdir={tmp_path / "none"}')
    assert done.exit_code == 0 and 'linked' not in done.output, done.output
    assert '--groups takes one network' in sentence(run('disentanglement', plain, plain, '--groups=a.json',
        f'--outdir={tmp_path / "none"}'))

def test_a_stylegan2_is_baked_into_a_sarigan_that_trainings_go_on_from(plain, tmp_path):
    new = tmp_path / 'new.pkl'
    done = run('regroup', plain, '--seeds=0-3', '--num-groups=3', '--by=responses', f'--bake={new}', '--device=cpu')
    assert done.exit_code == 0, done.output
    psnr = float(re.search(r"within ([\d.]+)% of the network's, images at ([\d.]+) dB", done.output)[2])
    assert psnr > 15
    G = groupings.load(str(new), 'PKL')
    sets = channel_sets.read(tmp_path / 'plain.groups.json', reading.load(str(plain), 'PKL')).sets
    assert list(groupings.of(G)) == ['linked', *styled_layers(G)] and groupings.of(G)['linked'].sets.sets == sets
    for name, groups in groupings.of(G).items(): # The same groups, layer by layer.
        for index in groups.live if name != 'linked' else []:
            assert groups.members(index) == set(sets[index].channels.get(name, ()))
    with open(new, 'rb') as f:
        data = reading.read_to_train_on(f, str(new), '--resume')
    target = networks.Generator(**data['G'].init_kwargs)
    transfer.copy_with_report(data['G'], target.eval().requires_grad_(False))
    w = torch.randn(2, G.num_ws, G.w_dim)
    assert torch.equal(target.synthesis(w, noise_mode='const'), data['G'].synthesis(w, noise_mode='const'))

    again = run('regroup', plain, '--seeds=0-3', f'--bake={new}')
    assert f'--bake: {new} exists already; nothing is overwritten.' in sentence(again)
    assert 'a SariGAN already' in sentence(run('regroup', new, f'--bake={tmp_path / "newer.pkl"}'))

def test_styles_of_a_baked_network_are_those_of_its_source_where_gains_are_linear(make_generator):
    G = plain_networks()['G_ema']
    for layer in styled_layers(G).values(): # Styles that do not depend on the image: gains are constants.
        layer.affine.weight[:] = 0
    baked, error = baking.baked(G, ChannelSets(SETS, ''))
    assert error < 1e-5
    assert int(baked.synthesis.b16.conv0.grouping.assignment.max()) == len(SETS) # Those of no group are one more,
    left = ChannelSets([SETS[0], dataclasses.replace(SETS[1], rest=True)], '')
    rest = baking.baked(G, left)[0].synthesis.b16.conv0.grouping.assignment
    assert int(rest.max()) == 1 # or join what is left over.
    ws = sample_ws(G, range(3))
    torch.testing.assert_close(baked.synthesis(torch.cat([ws, ws], dim=2), noise_mode='const'),
        G.synthesis(ws, noise_mode='const'), rtol=1e-3, atol=1e-3)

def test_a_dry_run_says_how_long_and_where_and_writes_nothing(plain, tmp_path):
    done = run('regroup', plain, '--seeds=0-3', '--dry-run', '--quick', f'--to={tmp_path / "a.json"}')
    assert done.exit_code == 0 and re.search(r'exchanged one by one: about \d+ (s|minutes)', done.output), done.output
    assert f'The groups would go to {tmp_path / "a.json"}; nothing was written.' in done.output
    assert [path.name for path in tmp_path.iterdir()] == ['plain.pkl']

def test_regroup_replaces_groups_and_nothing_else(plain, tmp_path):
    quickly = ['--by=kernels', '--seeds=0-1', '--num-groups=2']
    (tmp_path / 'mine.json').write_text('{}')
    assert 'is there and would be overwritten' in sentence(run('regroup', plain, *quickly,
        f'--to={tmp_path / "mine.json"}'))
    assert (tmp_path / 'mine.json').read_text() == '{}'
    for _time in range(2):
        assert run('regroup', plain, *quickly).exit_code == 0
    again = (tmp_path / 'plain.groups.json').read_text()
    assert run('regroup', plain, *quickly).exit_code == 0
    assert (tmp_path / 'plain.groups.json').read_text() == again # The same every time.

def test_regroup_keeps_the_groups_that_a_network_was_trained_with(make_generator, tmp_path):
    G = make_generator(grouping='blocks', num_groups=2)
    network = write_network(tmp_path / 'heads.pkl', G)
    attribute_groups.linked(G, ['hat', 'skin']).write(tmp_path / 'heads.groups.json')
    before = (tmp_path / 'heads.groups.json').read_bytes()
    quickly = ['--by=kernels', '--seeds=0-1', '--num-groups=2']
    for more in [[], ['--dry-run'], [f'--to={tmp_path / "heads.groups.json"}']]:
        assert (f'{str(tmp_path / "heads.groups.json")!r} has the groups that the network was trained with, by '
            'attribute, and is not overwritten') in sentence(run('regroup', network, *quickly, *more))
    assert (tmp_path / 'heads.groups.json').read_bytes() == before
    assert run('regroup', network, *quickly, f'--to={tmp_path / "others.json"}').exit_code == 0

@pytest.mark.parametrize('words, why', [(['--num-groups=1'], "'1' is neither auto nor a number from 2 to 64"),
    (['--seeds=3'], '--seeds: two images at least'), (['--attributes=nowhere'], "--attributes: 'nowhere': "),
    (['--by=colour'], "'colour' is not one of"), (['--to=nowhere/a.json'], "--to: there is no folder 'nowhere'")])
def test_wrong_options_get_a_sentence(plain, words, why):
    assert why in sentence(run('regroup', plain, '--seeds=0-1', '--by=kernels', *words))

#----------------------------------------------------------------------------
