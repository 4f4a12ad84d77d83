"""Measures of disentanglement, where the answer is known beforehand, and the command that takes them."""

import json
import pickle
import types
import zipfile

import numpy as np
import PIL.Image
import pytest
import torch

import commands
import rounding
from sarigan_plugin.evaluation import attributes, disentanglement, disentanglement_report, disentanglement_study
from sarigan_plugin.model.grouped import code_styles, grouped_layers
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import units
from small_images import save_colours
from small_networks import SIZE

import dnnlib

#----------------------------------------------------------------------------
# Information.

def information(values, present, weights=None):
    """[U, N], [N, A] -> [U, A]."""
    bins = disentanglement.quantile_bins(np.asarray(values, dtype=float))
    return disentanglement.mutual_information(bins, np.asarray(present),
        np.ones(len(present)) if weights is None else weights)

def test_the_entropy_of_counts_is_that_of_their_shares_and_millers_and_madows_correction():
    assert disentanglement.entropy(np.array([25, 25, 25, 25])) == pytest.approx(np.log(4) + 3 / 200)
    assert disentanglement.entropy(np.array([7, 0])) == 0

def test_a_value_that_decides_an_attribute_tells_all_there_is_to_know():
    values = np.arange(1000)[None]
    told = information(values, (np.arange(1000) >= 500)[:, None])
    assert told == pytest.approx(np.log(2) + 1 / 2000) # 10 bins, 2 kinds, 10 of their pairs.

def test_a_value_that_is_right_in_most_images_tells_what_a_noisy_channel_does():
    present = np.arange(10000) >= 5000
    wrong = np.arange(10000) % 10 == 0 # A tenth in each bin.
    of_wrong = -0.1 * np.log(0.1) - 0.9 * np.log(0.9)
    assert information(np.arange(10000)[None], (present ^ wrong)[:, None]) == pytest.approx(np.log(2) - of_wrong,
        abs=1e-3)

def test_independent_values_tell_nothing_and_would_without_correction():
    random = np.random.RandomState(0)
    told = information(random.randn(300, 2000), random.rand(2000, 1) < 0.3)
    assert abs(told.mean()) < 9 / 4000 / 10 # A tenth of the bias that (10 - 1) (2 - 1) / 2n is.

def test_weights_are_how_often_an_image_counts():
    random = np.random.RandomState(0)
    bins, present, weights = random.randint(10, size=[3, 50]), random.rand(50, 2) < 0.5, random.randint(4, size=50)
    np.testing.assert_allclose(disentanglement.mutual_information(bins, present, weights.astype(float)),
        disentanglement.mutual_information(bins.repeat(weights, axis=1), present.repeat(weights, axis=0),
            np.ones(weights.sum())), rtol=1e-6)

def made_of(values, kind='channel'):
    return [units.Unit(kind, 'b8.conv0', index, torch.ones(1, dtype=torch.bool), torch.as_tensor(of_unit), None)
        for index, of_unit in enumerate(values)]

@pytest.fixture
def codes():
    """Four independent codes of 4000 images, and attributes that are there where their code is positive."""
    random = np.random.RandomState(0)
    values = np.stack([random.permutation(4000) - 1999.5 for _code in range(4)])
    return values, values.T > 0

def test_units_of_one_attribute_each_are_as_selective_as_can_be(codes):
    values, present = codes
    numbers = disentanglement.observe(made_of(values), present)(np.ones(4000))
    for name in ['told', 'gap', 'apart', 'mig']:
        assert numbers['channel', name] == pytest.approx(1, abs=0.02)

def test_a_unit_of_two_attributes_has_no_gap_and_two_units_of_one_have_no_mig(codes):
    values, present = codes
    # Its order tells both, one after the other.
    both = np.where(values[0] > 0, 2, 0) + (values[1] > 0) + values[2] / 10000
    found = made_of([both], 'layer') + made_of(np.concatenate([values, values]))
    numbers = disentanglement.observe(found, present)(np.ones(4000))
    assert numbers['layer', 'told'] > 0.4 and numbers['layer', 'gap'] < 0.35 * numbers['layer', 'told']
    assert numbers['channel', 'gap'] == pytest.approx(1, abs=0.02) and numbers['channel', 'mig'] == pytest.approx(0,
        abs=0.02)
    assert ('layer', 'mig') not in numbers # It takes two.

def test_chance_makes_no_gap_however_many_units_and_attributes_there_are():
    random = np.random.RandomState(0)
    numbers = disentanglement.observe(made_of(random.randn(100, 2000)), random.rand(2000, 20) < 0.3)(np.ones(2000))
    assert abs(numbers['channel', 'gap']) < 1e-3 and abs(numbers['channel', 'mig']) < 1e-3

def test_attributes_count_where_every_network_draws_them_and_none_counts_twice():
    random = np.random.RandomState(0)
    scores = lambda **shares: {name: (random.rand(1000) < share).astype(float) for name, share in shares.items()}
    first, second = scores(male=0.5, cap=0.1, rare=0.001, always=1, vape=0.2), scores(male=0.5, cap=0.1, rare=0.2,
        always=0.5, vape=0)
    first['female'], second['female'] = 1 - first['male'], 1 - second['male']
    assert disentanglement.countable([first, second]) == ['male', 'cap']
    assert disentanglement.countable([first]) == ['male', 'cap', 'vape']

#----------------------------------------------------------------------------
# Intervals.

def test_the_bootstrap_knows_the_standard_error_of_a_mean():
    values = np.random.RandomState(0).randn(400)
    figure = disentanglement.bootstrap(lambda weights: dict(mean=np.average(values, weights=weights)), 400)['mean']
    assert figure.value == pytest.approx(values.mean()) and figure.margin == pytest.approx(1.96 * values.std() / 20,
        rel=0.2)

def test_a_ratio_has_the_errors_of_both_figures():
    ratio = disentanglement.Figure(3, 0.3).over(disentanglement.Figure(2, 0.2))
    assert (ratio.value, ratio.margin) == pytest.approx((1.5, 1.5 * np.hypot(0.1, 0.1)))
    assert disentanglement.Figure(3, 0.3).over(disentanglement.Figure(0.2, 0.3)) is None

#----------------------------------------------------------------------------
# Turning units of a generator whose channels are known to paint a square each.

SIDE = 10

class Painter(torch.nn.Module):
    """Three channels with the styles w: the first paints a fifth of the image red, the second another fifth green,
    the third both alike."""
    def __init__(self):
        super().__init__()
        self.affine = torch.nn.Linear(3, 3)
        self.affine.weight.data.copy_(torch.eye(3))
        self.affine.bias.data.zero_()

    def forward(self, x, w):
        return x * self.affine(w)[:, :, None, None]

class Canvas(torch.nn.Module):
    block_resolutions = [4, 8]

    def __init__(self):
        super().__init__()
        self.b8 = torch.nn.Module()
        self.b8.conv0, self.b8.conv1 = Painter(), Painter()
        self.places = torch.zeros(3, SIDE, SIDE)
        self.places[0, :2] = self.places[1, 2:4] = self.places[2, :2] = self.places[2, 2:4] = 1

    def forward(self, ws, noise_mode):
        assert noise_mode == 'const'
        painted = self.b8.conv0(self.places.expand(len(ws), -1, -1, -1), ws[:, 0])
        self.b8.conv1(painted, ws[:, 0])
        red = painted[:, 0] + painted[:, 2] * self.places[0]
        return torch.stack([red, painted[:, 1] + painted[:, 2] * self.places[1], torch.zeros_like(red)], dim=1)

@pytest.fixture
def painted():
    """(Effects of the three channels, their styles [N, 3])"""
    ws = 0.1 * torch.randn(64, 1, 3).expand(-1, 2, -1)
    G = types.SimpleNamespace(synthesis=Canvas().requires_grad_(False), img_resolution=SIDE)
    found = [unit for unit in units.find(G, ws, {}) if unit.layer == 'b8.conv0' and unit.kind == 'channel']
    scorer = lambda images: images[:, :4, :, :2].mean(axis=(1, 2)) # 'red' and 'green'.
    return disentanglement.turn(G, ws, found, scorer, strength=2), ws[:, 0]

def test_change_and_its_place_are_those_of_what_the_channel_paints(painted):
    effects, styles = painted
    step = 2 * styles.std(dim=0, correction=0).numpy()
    np.testing.assert_allclose(effects.change, (step ** 2 * [0.2, 0.2, 0.4] / 3)[:, None].repeat(64, axis=1), rtol=1e-3)
    # The third has twice the pixels of a locus.
    np.testing.assert_allclose(effects.inside, np.array([1, 1, 0.5])[:, None].repeat(64, axis=1), rtol=1e-3)
    np.testing.assert_allclose(effects.area[:2], 0.1, rtol=1e-6)
    numbers = disentanglement.locality(effects)(np.ones(64))
    strengths = 127.5 * step * np.sqrt([0.2 / 3, 0.2 / 3, 0.4 / 3])
    assert numbers['channel', 'strength'] == pytest.approx(strengths.mean(), rel=1e-3)
    assert numbers['channel', 'inside'] == pytest.approx(strengths @ [1, 1, 0.5] / strengths.sum(), rel=1e-3)

def test_a_channel_of_one_colour_is_selective_and_one_of_two_is_not(painted):
    effects, _styles = painted
    for index, (share, apart) in enumerate([(1, 1), (1, 1), (0.5, 0)]):
        alone = disentanglement.Effects([effects.units[index]],
            *(values[index:index + 1] for values in [effects.change, effects.inside, effects.area, effects.moves]))
        numbers = disentanglement.selectivity(alone, np.ones(2))(np.ones(64))
        assert (numbers['channel', 'moved share'], numbers['channel', 'moved apart']) == pytest.approx((share,
            apart), abs=0.01)
    together = disentanglement.selectivity(effects, np.ones(2))(np.ones(64))
    moved = disentanglement.attribute_moves(effects, np.ones(2), np.ones(64))
    assert together['channel', 'moved share'] == pytest.approx(moved.max(axis=1).sum() / moved.sum(), abs=0.01)

def test_what_is_left_of_attributes_is_relative_to_their_spread(painted):
    effects, _styles = painted
    plain, scaled = (disentanglement.attribute_moves(effects, spread, np.ones(64))
        for spread in [np.ones(2), np.array([2, 5])])
    np.testing.assert_allclose(scaled * [2, 5], plain)

def test_two_images_are_few_and_enough():
    effects = types.SimpleNamespace(units=[types.SimpleNamespace(kind='inter')],
        moves=np.array([[[0.4, 0.1], [0.2, 0.3]]]))
    # Half of its draws have one of them twice.
    figures = disentanglement.bootstrap(disentanglement.selectivity(effects, spread=np.ones(2)), 2)
    # The largest in each, measured in the other.
    assert figures['inter', 'moved'].value == pytest.approx((0.2 + 0.1) / 2)
    assert all(np.isfinite([figure.value, figure.margin]).all() for figure in figures.values())

def test_half_of_the_change_is_in_the_fewest_pixels_that_will_do():
    change = torch.rand(5, 6, 6) ** 4
    for of_image, area in zip(change.flatten(1), disentanglement.half_area(change)):
        number = next(number for number in range(1, 37) if of_image.topk(number).values.sum() >= 0.5 * of_image.sum())
        assert area == pytest.approx(number / 36)

#----------------------------------------------------------------------------
# Codes.

def test_r_squared_is_one_for_what_is_read_back_and_zero_for_the_mean():
    codes = np.random.RandomState(0).randn(1000, 3)
    guess = np.stack([codes[:, 0], np.full(1000, codes[:, 1].mean()),
        codes[:, 2] + np.where(np.arange(1000) % 2, 1, -1)], axis=1)
    assert disentanglement.r_squared(guess, codes, np.ones(1000)) == pytest.approx([1, 0, 1 - 1 / codes[:, 2].var()])

def test_q_is_shown_groups_of_images_as_in_training(make_generator, make_discriminator):
    G, D = make_generator(c_dim=2).requires_grad_(False), make_discriminator(c_dim=2).requires_grad_(False)
    ws = G.mapping(torch.randn(10, 32), (c := torch.eye(2)[[0] * 10]))
    found = disentanglement.read_back(G, D, ws, c)
    predicted = D(G.synthesis(ws[:8], noise_mode='const'), c[:8], return_codes=True)[1] # Groups of four.
    for name, expected, code in zip(['inter', 'intra'], predicted.chunk(2, dim=1), ws[:8, 0].chunk(2, dim=1)):
        rounding.assert_close(found[name][0], expected, terms=16 * 9, layers=16) # Of G and D.
        np.testing.assert_allclose(found[name][1], code, rtol=1e-5)

@pytest.mark.parametrize('norm', ['weight', 'feature'])
def test_what_q_says_of_w_is_read_as_layers_read_w(make_generator, make_discriminator, norm):
    G, D = make_generator(norm=norm).requires_grad_(False), make_discriminator().requires_grad_(False)
    ws = G.mapping(torch.randn(8, 32), torch.zeros(8, 0))
    found = disentanglement.read_back(G, D, ws, torch.zeros(8, 0))
    for code, affine, shift in [('inter', 'group_affine', 'group_shift'), ('intra', 'affine', 'shift')]:
        maps = [getattr(layer, name) for _name, layer, _source in grouped_layers(G.synthesis)
            for name in ([affine, shift] if norm == 'feature' else [affine])]
        for side, codes in enumerate(found[code]):
            expected = torch.cat([affine(torch.from_numpy(codes).float()) for affine in maps], dim=1)
            rounding.assert_close(found[f'{code} styles'][side], expected, terms=32)

def test_what_q_says_of_styles_is_compared_with_styles(make_generator, make_discriminator):
    G = make_generator().requires_grad_(False)
    ws = G.mapping(torch.randn(8, 32), torch.zeros(8, 0))
    styles = code_styles(G.synthesis, ws)
    D = make_discriminator(q_features=[part.shape[1] for part in styles]).requires_grad_(False)
    found = disentanglement.read_back(G, D, ws, torch.zeros(8, 0))
    assert list(found) == ['inter styles', 'intra styles']
    predicted = D(G.synthesis(ws, noise_mode='const'), None, return_codes=True)[1]
    for (read, actual), expected, said in zip(found.values(), styles, predicted.split(D.q_features, dim=1)):
        rounding.assert_close(read, said, terms=32, layers=4)
        np.testing.assert_array_equal(actual, expected.double())

def test_without_groups_q_is_asked_for_w_alone(make_generator, make_discriminator):
    G = make_generator(grouping='none').requires_grad_(False)
    ws = G.mapping(torch.randn(4, 32), torch.zeros(4, 0))
    assert list(disentanglement.read_back(G, make_discriminator().requires_grad_(False), ws, torch.zeros(4, 0))) == [
        'inter', 'intra']

def test_codes_decide_as_much_as_images_change_with_them(make_generator):
    G = make_generator().requires_grad_(False)
    seen = []
    def synthesis(ws, noise_mode): # Each code paints a channel, the inter-group code twice as brightly.
        assert noise_mode == 'const'
        seen.append(len(ws))
        return torch.stack([2 * ws[:, 0, 0], ws[:, 0, G.code_dim], 0 * ws[:, 0, 0]], dim=1)[:, :, None, None]
    G.synthesis.forward = synthesis
    first, second = torch.randn(2, 20, G.num_ws, G.w_dim)
    changes = disentanglement.exchanged(G, first, second)
    torch.testing.assert_close(torch.from_numpy(changes['inter']),
        ((second - first)[:, 0, 0].double() * 2).square() / 3, rtol=1e-5, atol=1e-6)
    figures = disentanglement.deciding(changes)(np.ones(20))
    assert figures['inter decides'] + figures['intra decides'] == pytest.approx(1) and sum(seen) == 4 * 20
    assert disentanglement.deciding(changes)(np.arange(20) == 3)['inter decides'] == pytest.approx(
        changes['inter'][3] / changes['both'][3])

def test_a_code_that_no_layer_reads_decides_nothing(make_generator):
    G = make_generator().requires_grad_(False)
    for _name, layer, _source in grouped_layers(G.synthesis):
        layer.group_affine.weight.zero_()
    figures = disentanglement.deciding(disentanglement.exchanged(G, *torch.randn(2, 4, G.num_ws, G.w_dim)))(np.ones(4))
    assert figures == {'inter decides': 0, 'intra decides': pytest.approx(1)}

def test_the_path_length_of_a_linear_generator_is_that_of_its_matrix():
    matrix, first, second = (torch.randn(*shape, dtype=torch.float64) for shape in [(6, 12), (5, 1, 6), (5, 1, 6)])
    lengths = disentanglement.path_lengths(lambda ws: ws[:, 0] @ matrix, lambda images: images, first, second)
    torch.testing.assert_close(lengths, ((second - first)[:, 0] @ matrix).square().sum(dim=1), rtol=1e-6, atol=0)

def test_path_lengths_are_averaged_without_the_shortest_and_the_longest():
    lengths = np.random.RandomState(0).permutation(np.concatenate([np.arange(1000), [1e9] * 5]))
    assert disentanglement.trimmed(lengths)(np.ones(1005))['length'] == pytest.approx(np.mean(np.arange(10, 995)),
        rel=1e-3)

#----------------------------------------------------------------------------
# The command.

@pytest.fixture
def plain(tmp_path):
    """Path of a network of upstream's, which has neither groups nor Q."""
    size = dict(c_dim=0, img_resolution=32, img_channels=3)
    build = lambda name, **kwargs: dnnlib.util.construct_class_by_name(class_name=f'training.networks.{name}', **size,
        **kwargs).eval().requires_grad_(False)
    G = build('Generator', z_dim=32, w_dim=32, mapping_kwargs=dict(num_layers=2), synthesis_kwargs=SIZE)
    (tmp_path / 'plain.pkl').write_bytes(pickle.dumps(dict(G=G, D=build('Discriminator', **SIZE), G_ema=G)))
    return tmp_path / 'plain.pkl'

def run(*arguments):
    return commands.run('disentanglement', *arguments)

@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(attributes, 'STEPS', 60)
    monkeypatch.setattr(disentanglement, 'ROUNDS', 5)
    monkeypatch.setattr(disentanglement_study, 'PAIRS', 4)
    monkeypatch.setattr(disentanglement_report, 'BEST', 1)
    monkeypatch.setattr(disentanglement_study, 'MAX_TURNED', 20)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))

@pytest.mark.usefixtures('small')
def test_networks_of_both_kinds_are_measured_side_by_side(network, plain, tmp_path):
    out = tmp_path / 'out'
    result = run(network, plain, f'--data={save_colours(tmp_path / "set.zip", True)}', f'--outdir={out}',
        '--num-images=200', '--num-turned=2')
    assert result.exit_code == 0, result.output
    written = json.loads((out / 'table.json').read_text())
    ours, other = written['networks']
    assert written['attributes'] == ['red', 'bright'] and written['num_images'] == 200
    assert list(ours['of_units']) == ['inter', 'intra', 'random', 'layer', 'channel']
    assert list(other['of_units']) == ['random', 'layer', 'channel']
    assert set(ours['of_units']['inter']) == {'told', 'gap', 'apart', 'mig', 'moved', 'moved share', 'moved apart',
        'strength', 'inside', 'area'}
    assert 0 < ours['of_units']['inter']['moved share']['value'] <= 1
    assert (set(ours['of_network']) == {*ours['r_squared'], 'inter decides', 'intra decides', 'length'}
        and set(other['of_network']) == {'length'})
    of_groups = code_styles((G := reading.load(str(network), 'PKL')).synthesis, torch.zeros(1, G.num_ws, G.w_dim))
    expected = dict(zip(['inter', 'intra', 'inter styles', 'intra styles'],
        [32, 32, *(styles.shape[1] for styles in of_groups)]))
    assert {name: len(values) for name, values in ours['r_squared'].items()} == expected
    assert set(ours['units'][0]['moves']) == {'red', 'bright'}
    assert sum(unit['kind'] == 'channel' for unit in other['units']) == 20 # Of 80.
    table = (out / 'table.md').read_text()
    assert ('| plain.pkl ' in table and 'not available' in table
        and 'network.pkl over plain.pkl: single channels' in table and table in result.output)
    assert PIL.Image.open(out / 'chart.png').width > 600
    assert PIL.Image.open(out / 'units.png').height == (5 + 3) * 66 + 2 * (2 + 8 + 22 + 8)

@pytest.mark.usefixtures('small')
@pytest.mark.parametrize('table, why', [
    (None, 'it has no attributes.json; put one beside its images, as {"names": ["hat"], "images": '
        '{"0001.png": ["cap"], ...}}.'),
    ('[1, 2]', 'its attributes.json must be an object with "names" and "images".'),
])
def test_without_attributes_the_rest_is_measured(network, table, why, tmp_path):
    data = save_colours(tmp_path / 'set.zip', False)
    if table is not None:
        with zipfile.ZipFile(data, 'a') as archive:
            archive.writestr('attributes.json', table)
    result = run(network, f'--data={data}', f'--outdir={tmp_path}/out', '--num-images=100',
        '--measures=attributes,codes')
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[0] == (f"Warning: --data: attributes are not measured: '{data}': {why}")
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['chart.png', 'table.json', 'table.md']

def test_without_attributes_and_anything_else_nothing_is_done(network, tmp_path):
    result = run(network, f'--outdir={tmp_path}/out', '--num-images=100', '--measures=attributes')
    assert (result.exit_code, result.stderr.strip()) == (2,
        'Error: --data: attributes are not measured: no data set is named; take one with attributes.json, such as '
        'those of `sarigan data`.')
    assert not (tmp_path / 'out').exists()

def test_mistakes_get_one_sentence(network, tmp_path):
    (tmp_path / 'file').write_text('')
    for arguments, sentence in [
        ([network, '--measures=attributes,fid'], "Error: Invalid value for '--measures': 'fid' is not a measure; "
            "they are attributes, exchanges, locality, codes, path"),
        ([network, f'--data={tmp_path}/none.zip'],
            f"Error: --data: '{tmp_path}/none.zip': it cannot be read (No such file or directory)."),
        ([network, '--num-images=9'], "Error: Invalid value for '--num-images': 9 is not in the range "
            '100<=x<=1000000.'),
        ([network, '--class=1'], 'Error: --class: 1 is out of range: the network has no classes.'),
        ([tmp_path / 'none.pkl'], f"Error: PKL: there is no file '{tmp_path}/none.pkl'."),
        ([], "Error: Missing argument 'PKL...'."),
    ]:
        result = run(*arguments, f'--outdir={tmp_path}/out')
        assert (result.exit_code, result.stderr.strip().splitlines()[-1]) == (2, sentence)
        assert not (tmp_path / 'out').exists()
    assert run(tmp_path / 'file', f'--outdir={tmp_path}/out').exit_code == 2
    result = run(network, f'--outdir={tmp_path}/file', '--num-images=100', '--measures=codes')
    assert (result.exit_code, result.stderr.strip()) == (2,
        f'Error: --outdir: {tmp_path}/file cannot be written to: File exists.')

#----------------------------------------------------------------------------
