"""What comes along with a linked group of another image, counted."""

import json

import numpy as np
import PIL.Image
import pytest
import torch

import commands
from sarigan_plugin.datasets import drawn
from sarigan_plugin.evaluation import attributes, disentanglement_study, exchanges
from sarigan_plugin.steering import channel_sets, groupings, names, sampling
from sarigan_plugin.steering.channel_sets import ChannelSet, ChannelSets
from sarigan_plugin.steering.styles import styled_layers
from small_images import save_colours

def made(before, *after, num_values=3):
    return exchanges.Exchanges(dict(hat=num_values, skin=num_values), np.array(before), np.array(after))

def test_shares_are_of_the_images_that_can_be_told_before_and_after(monkeypatch):
    monkeypatch.setattr(exchanges, 'MIN_PAIRS', 2)
    found = made([[0, 1], [1, 1], [2, -1], [0, 0]],
        [[1, 1], [0, 1], [0, 1], [-1, -1]], # Of three hats all change; of three skins two are told again, the same.
        [[0, 0], [-1, 1], [-1, 1], [-1, -1]]) # One hat is left, which is too few; one skin of two changes.
    np.testing.assert_array_equal(found.pairs(), [[3, 2], [1, 2]])
    np.testing.assert_array_equal(found.changed(), [[1, 0], [np.nan, 0.5]])
    np.testing.assert_array_equal(found.told(), [1, 0.75])
    np.testing.assert_allclose(found.lost(), [2 / 7, 4 / 7])
    np.testing.assert_allclose(found.differs(), [1 - (1/4 + 1/16 + 1/16), 1 - (4/9 + 1/9)])
    monkeypatch.setattr(exchanges, 'MIN_PAIRS', 4)
    np.testing.assert_allclose(found.differs(), [1 - (1/4 + 1/16 + 1/16), np.nan])

@pytest.mark.parametrize('hats, skins, separated', [
    (10, 1, {'hat': 0}), # Of 20, and 40 images.
    (9, 0, {}),          # In less than half.
    (10, 4, {}),         # Another one in a tenth.
    (20, 3, {'hat': 0}),
])
def test_a_group_of_its_own_changes_an_attribute_in_half_and_others_in_less_than_a_tenth(hats, skins, separated):
    before = np.zeros([40, 2], dtype=int)
    before[20:, 0] = -1 # Told in 20 images; skins in 40.
    after = before.copy()
    after[:hats, 0] = 1
    after[:skins, 1] = 1
    assert made(before, after).separated() == separated
    assert made(before, before, after).separated() == dict.fromkeys(separated, 1)

@pytest.mark.parametrize('chances', [[0.5, 0.3], [0.1, 0.04]], ids=str)
def test_a_perfect_group_has_an_attribute_that_is_there_or_not_however_rare(chances):
    before = (np.random.RandomState(0).rand(4096, 2) < chances).astype(int)
    after = np.stack([before, before])
    for index in range(2): # Exchanged with the image before.
        after[index, :, index] = np.roll(before[:, index], 1)
    found = made(before, *after, num_values=2)
    assert found.separated() == {'hat': 0, 'skin': 1}
    np.testing.assert_allclose(found.enough(), [0.9 * 2 * p * (1 - p) for p in chances], rtol=0.2)
    assert made(before, *after).separated() == {} # Of three values as many as half of the images are asked for.
    after[:, ::5] = before[::5] # A fifth of the images keep what they had.
    assert made(before, *after, num_values=2).separated() == {}

def test_what_is_rare_may_come_along_more_rarely():
    before = np.zeros([1000, 2], dtype=int)
    before[::2, 0], before[::20, 1] = 1, 1 # A hat in half of the images, a beard in a twentieth.
    after = before.copy()
    after[:, 0] = 1 - before[:, 0]
    assert made(before, after, num_values=2).separated() == {'hat': 0}
    after[:30, 1] = 1 - before[:30, 1] # In 3%, and it differs in 9.5% of two images.
    assert made(before, after, num_values=2).separated() == {}

@pytest.fixture
def linked(make_generator):
    """A generator whose linked groups are all that is styled at 8x8, and the rest."""
    G = make_generator().requires_grad_(False)
    layers = {name: tuple(range(layer.weight.shape[1])) for name, layer in styled_layers(G).items()}
    coarse = {name for name in layers if name.startswith('b8.')}
    groupings.attach(G, ChannelSets([ChannelSet(label, {name: layers[name] for name in of_set})
        for label, of_set in [('coarse', coarse), (None, layers.keys() - coarse)]], channel_sets.weights_hash(G), {}))
    return G

def test_each_group_comes_from_the_image_before(linked):
    """By brute force: layer by layer, image by image. The rest is all but the coarse group."""
    ws = torch.randn(3, 1, linked.w_dim).repeat(1, linked.num_ws, 1)
    shown = []
    reader = lambda images: shown.append(images) or np.zeros([len(images), 2], dtype=int)
    jobs = []
    found = exchanges.measure(linked, ws, reader, dict(a=2, b=3), lambda all_jobs: jobs.extend(all_jobs) or jobs)
    assert found.after.shape == (2, 3, 2) and len(jobs) == 3
    layers = styled_layers(linked)
    wanted = [linked.synthesis(ws, noise_mode='const')]
    for is_coarse in [True, False]:
        for layer_name, layer in layers.items():
            if layer_name.startswith('b8.') == is_coarse:
                own = layer.styles
                layer.styles = lambda w, *rest, own=own: own(w.roll(1, dims=0), *rest)
        wanted.append(linked.synthesis(ws, noise_mode='const'))
        for layer in layers.values():
            vars(layer).pop('styles', None)
    assert not torch.allclose(wanted[1], wanted[0]) and not torch.allclose(wanted[2], wanted[0])
    for images, expected in zip(shown, wanted):
        difference = images.astype(int) - (expected * 127.5 + 128).clamp(0, 255).permute(0, 2, 3, 1).numpy()
        assert np.abs(difference).max() <= 1.01

def test_groups_have_the_names_of_their_file_or_those_that_a_person_gave(linked):
    known = names.GroupNames(G=linked)
    assert exchanges.labels(linked, known) == ['coarse', 'group 1']
    known.set('linked', 1, 'hat')
    assert exchanges.labels(linked, known) == ['coarse', 'hat']

def test_the_picture_has_a_row_for_each_group(linked):
    ws = torch.randn(4, 1, linked.w_dim).repeat(1, linked.num_ws, 1)
    assert exchanges.draw(linked, ws, names.GroupNames(G=linked)).height > 3 * 48

#----------------------------------------------------------------------------
# The command.

def run(*arguments):
    return commands.run('disentanglement', *arguments)

def test_the_boxed_heads_are_told_of_by_what_draws_them(tmp_path, monkeypatch):
    monkeypatch.setattr(disentanglement_study, 'EXCHANGED', 64)
    drawn.make_drawn(tmp_path / 'heads.zip', num=40)
    result = run('drawn64', f'--data={tmp_path}/heads.zip', f'--outdir={tmp_path}/out', '--measures=exchanges',
        '--num-images=100')
    assert result.exit_code == 0, result.output
    network, = json.loads((tmp_path / 'out/table.json').read_text())['networks']
    found = network['exchanges']
    assert found['images'] == 64 and list(found['attributes']) == drawn.NAMES
    background = found['attributes']['background']
    assert background['told'] > 0.5 and max(share or 0 for share in background['changed'].values()) > 0.1
    assert set(found['lost']) == set(background['changed']) and all(0 <= lost <= 1 for lost in found['lost'].values())
    table = (tmp_path / 'out/table.md').read_text()
    assert '| can no longer be told, of all that could |' in table and table in result.output
    assert f'{len(found["separated"])} of 10 attributes have a group that changes them in 50% of the images' in table
    assert PIL.Image.open(tmp_path / 'out/exchanges.png').width > 20 * 48
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['exchanges.png', 'table.json', 'table.md']

def test_attributes_of_other_data_sets_are_told_by_a_classifier(tmp_path, monkeypatch):
    monkeypatch.setattr(disentanglement_study, 'EXCHANGED', 64)
    monkeypatch.setattr(attributes, 'STEPS', 60)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    result = run('drawn64', f'--data={save_colours(tmp_path / "set.zip", True)}', f'--outdir={tmp_path}/out',
        '--measures=exchanges', '--num-images=100')
    assert result.exit_code == 0, result.output
    network, = json.loads((tmp_path / 'out/table.json').read_text())['networks']
    found = network['exchanges']['attributes']
    assert list(found) == ['red', 'bright'] and all(of_one['told'] == 1 for of_one in found.values())
    assert max(found['bright']['changed'].values()) > 0 and set(found['bright']['pairs'].values()) == {64}
    assert 'can no longer be told' not in (tmp_path / 'out/table.md').read_text()

@pytest.mark.parametrize('values, read', [
    ([[0.9, 0.2], [0.4, 0.6], [0.1, 0.3]], [0, 1, 2]), # None is above a half: it is another one.
    ([[0.9], [0.2]], [0, 1])])
def test_of_several_values_an_attribute_has_the_most_likely(values, read):
    probabilities = np.array(values)
    names = [f'hat {index}' for index in range(probabilities.shape[1])]
    judge = attributes.Classifier(['skin', *names], ['skin', *['hat'] * len(names)],
        attributes._network(len(names) + 1).state_dict(), dict.fromkeys(['skin', *names], 0.95), {})
    judge.network = lambda images: torch.logit(torch.tensor(np.insert(probabilities, 0, 0.8, axis=1)))
    reader, told = disentanglement_study._read_by(judge)
    assert told == dict(skin=2, hat=2)
    assert reader(np.zeros([len(values), 8, 8, 3], dtype=np.uint8)).tolist() == [[0, value] for value in read]

def test_groups_of_the_boxed_drawn16_have_the_attributes_that_they_are_called():
    G = groupings.load('drawn16', 'NETWORK')
    ws = sampling.sample_ws(G, range(20000, 20256), trunc=1) # No seeds that anything is told of.
    found = exchanges.measure(G, ws, drawn.read, {name: len(values) for name, values in drawn.FACTORS.items()})
    separated = {name: groupings.linked(G).sets.sets[group].name for name, group in found.separated().items()}
    assert {'background', 'skin', 'place', 'hat colour'} <= set(separated), found.changed() # The surest of six.
    assert all(name == called for name, called in separated.items()), separated

def test_without_linked_groups_and_anything_else_nothing_is_done(network, tmp_path):
    drawn.make_drawn(tmp_path / 'heads.zip', num=40)
    result = run(network, f'--data={tmp_path}/heads.zip', f'--outdir={tmp_path}/out', '--measures=exchanges')
    assert (result.exit_code, result.stderr.strip()) == (2,
        f'Error: PKL: run `sarigan regroup {network}` first: it has no linked groups to exchange.')
    assert not (tmp_path / 'out').exists()

def test_which_of_several_networks_has_no_linked_groups_is_said(network, tmp_path, monkeypatch):
    monkeypatch.setattr(disentanglement_study, 'EXCHANGED', 32)
    drawn.make_drawn(tmp_path / 'heads.zip', resolution=32, num=40)
    result = run('drawn32', network, f'--data={tmp_path}/heads.zip', f'--outdir={tmp_path}/out',
        '--measures=exchanges', '--num-images=100')
    assert result.exit_code == 0, result.output
    assert f'Warning: PKL: run `sarigan regroup {network}` first: it has no linked groups to exchange.' in result.stderr
    first, second = json.loads((tmp_path / 'out/table.json').read_text())['networks']
    assert 'exchanges' in first and 'exchanges' not in second

def test_groups_that_are_left_out_are_not_asked_for(tmp_path):
    result = run('drawn64', '--groups=none', f'--outdir={tmp_path}/out', '--measures=exchanges')
    assert (result.exit_code, result.stderr.strip()) == (2,
        'Error: --groups: none leaves no groups to exchange; go without it.')

def test_exchanges_without_a_data_set_are_refused(tmp_path):
    result = run('drawn64', f'--outdir={tmp_path}/out', '--measures=exchanges', '--num-images=100')
    assert (result.exit_code, result.stderr.strip()) == (2, 'Error: --data: exchanges are not measured: no data set is '
        'named; take one with attributes.json, such as those of `sarigan data`.')
    assert not (tmp_path / 'out').exists()
