"""Measures by the factors of drawn pictures, which are read and not guessed."""

import json

import numpy as np
import pytest
import torch

import commands
from sarigan_plugin.datasets import drawn
from sarigan_plugin.errors import UserError
from sarigan_plugin.evaluation import attributes, disentanglement
from sarigan_plugin.steering import units
from small_networks import write

@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp('drawn') / 'drawn.zip'
    drawn.make_drawn(path, num=40)
    return str(path)

def test_a_drawn_data_set_gets_the_reader_and_nothing_is_learned(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    judge = attributes.fit(dataset)
    factors = drawn.sample(20, seed=9)
    seen = judge(drawn.draw(factors, 32))
    assert list(seen) == judge.names and len(seen) == sum(map(len, drawn.FACTORS.values()))
    np.testing.assert_array_equal(seen['hat crown'], drawn.column(factors, 'hat') == 3)
    assert not list(tmp_path.iterdir())

def test_a_table_that_its_pictures_belie_is_learned_from_as_any_other(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(attributes, 'STEPS', 1)
    monkeypatch.setattr(drawn, 'draw', lambda factors, side: np.full([len(factors), side, side, 3], 128, np.uint8))
    drawn.make_drawn(tmp_path / 'grey.zip', num=1000)
    with pytest.raises(attributes.NoAttributes, match='is recognised'):
        attributes.fit(str(tmp_path / 'grey.zip'))

def test_images_of_another_size_are_refused_in_one_sentence(dataset):
    with pytest.raises(UserError, match='cannot be read in the images of this network: drawn pictures have 16x16'):
        attributes.fit(dataset)(np.zeros([1, 128, 128, 3], np.uint8))

def test_what_a_bin_tells_of_a_factor_is_its_mutual_information():
    """By brute force: the sum over cells of p ln(p / (p_u p_a)), with the corrections of entropy()."""
    random = np.random.RandomState(0)
    factors = random.randint(4, size=[600, 2])
    factors[random.rand(600) < 0.2, 1] = drawn.NOTHING
    bins = disentanglement.quantile_bins(np.stack([factors[:, 0] + random.rand(600), random.rand(600)]))
    weights = random.randint(3, size=600).astype(float)
    told = disentanglement.told_of_factors(bins, factors, weights)
    for unit in range(2):
        for factor in range(2):
            counts = np.zeros([disentanglement.BINS, 4])
            kept = factors[:, factor] >= 0
            np.add.at(counts, (bins[unit][kept], factors[kept, factor]), weights[kept])
            p = counts / counts.sum()
            cells = p > 0
            information = (p[cells] * np.log((p / np.outer(p.sum(axis=1), p.sum(axis=0)))[cells])).sum()
            cells_of = [(counts.sum(axis=axis) > 0).sum() for axis in (1, 0)]
            information += (sum(cells_of) - cells.sum() - 1) / (2 * counts.sum())
            of_factor = disentanglement.entropy(counts.sum(axis=0))
            assert told[unit, factor] == pytest.approx(information / of_factor, rel=1e-5)
    assert told[0, 0] > 0.8 and abs(told[1, 0]) < 0.05

def test_two_values_tell_what_an_attribute_does():
    random = np.random.RandomState(0)
    values, present = random.randn(3, 500), random.rand(500, 2) < 0.4
    found = [disentanglement.observe([units.Unit('channel', 'b8.conv0', index, torch.ones(1, dtype=torch.bool),
        torch.as_tensor(row), None) for index, row in enumerate(values)], attribute)(np.ones(500))
        for attribute in (present, present.astype(np.int64))]
    assert found[0] == pytest.approx(found[1], rel=1e-4, abs=1e-6)

def test_a_colour_changes_where_both_pictures_show_what_has_it():
    before = drawn.visible(np.zeros([1, 10], np.int64)) # Without hat and tie.
    with_hat = before.copy()
    drawn.column(with_hat, 'hat')[:], drawn.column(with_hat, 'hat colour')[:] = 1, 2
    red, other = with_hat.copy(), with_hat.copy()
    drawn.column(other, 'hat colour')[:] = 3
    names = lambda a, b: [name for name, differs in zip(drawn.NAMES, drawn.changed(a, b)[0]) if differs]
    assert names(before, with_hat) == ['hat'] and names(red, other) == ['hat colour'] and not names(red, red)

def test_factors_count_where_every_network_draws_two_values_of_them():
    first = dict(head=np.array([0, 1] * 50), skin=np.zeros(100, int), hat=np.array([-1] * 70 + [0, 1] * 15),
        tie=np.array([-1] * 80 + [0, 1] * 10)) # Of the tie too little can be told.
    second = dict(head=np.array([2, 3] * 50), skin=np.array([0, 1] * 50), hat=np.array([0, 1] * 50),
        tie=np.array([0, 1] * 50))
    assert disentanglement.countable_factors([first, second]) == ['head', 'hat']
    assert disentanglement.chance_to_differ(np.array([0, 0, 1, 1, -1])) == 0.5

def test_the_best_unit_for_a_factor_changes_it_and_little_else():
    moves = np.zeros([3, 100, 2])
    moves[0] = 1                # Changes both,
    moves[1, :60, 0] = 1        # the first alone, in six of ten,
    moves[2, :50, 1] = 1        # the second in half, and the first in a tenth.
    moves[2, :10, 0] = 1
    of_kind = [units.Unit('inter', 'b8.conv0', index, None, None, None) for index in range(3)]
    effects = disentanglement.Effects(of_kind, None, None, None, moves)
    assert disentanglement.best_for_factors(effects, 'inter') == [(1, 0.6, 0.0, 1), (2, 0.5, 0.1, 0)]
    assert disentanglement.best_for_factors(effects, 'layer') == []

def test_the_command_says_for_each_factor_which_unit_changes_it(dataset, tmp_path, make_generator, monkeypatch):
    """A network that draws nothing but noise, and pictures of heads in place of it as it is turned."""
    G = make_generator()
    path = write(dict(G=G, D=None, G_ema=G, augment_pipe=None, training_set_kwargs=None), tmp_path / 'network.pkl')
    options = [f'--data={dataset}', '--measures=attributes', '--num-images=100', '--num-turned=2', '--device=cpu']
    blind = commands.run('disentanglement', path, *options, f'--outdir={tmp_path / "blind"}')
    assert blind.exit_code == 0, blind.output
    assert 'fewer than two of them can be told in 25% of the images' in blind.stderr

    monkeypatch.setattr(disentanglement, 'ROUNDS', 5)
    heads = drawn.draw(drawn.sample(4096, seed=1), 32)
    def paints(images):
        """Of each image a head that its own numbers choose."""
        chosen = np.abs(images.double().sum(dim=[1, 2, 3]).numpy() * 997).astype(int) % len(heads)
        return heads[chosen]
    monkeypatch.setattr('sarigan_plugin.support.pictures.to_uint8', paints)
    done = commands.run('disentanglement', path, *options, f'--outdir={tmp_path / "seen"}')
    assert done.exit_code == 0, done.output
    table = json.loads((tmp_path / 'seen' / 'table.json').read_text())
    assert table['attributes'] == drawn.NAMES
    network, = table['networks']
    assert network['told']['head'] == 1 and set(network['best']['inter']) == set(drawn.NAMES)
    assert 'no classifier guesses them' in done.stdout and '| network.pkl: can be read in' in done.stdout
