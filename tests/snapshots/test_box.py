"""Networks of the box: what comes with the plugin, how it is named, and how such a folder is made."""

import json
import os
import re
import shutil
import zipfile

import pytest
import safetensors.torch
import torch

import commands
from sarigan_plugin import snapshot
from sarigan_plugin.errors import UserError
from sarigan_plugin.snapshots import box, exported, model_card, reading
from sarigan_plugin.steering import channel_sets, groupings, names
from sarigan_plugin.steering.channel_sets import ChannelSet, ChannelSets, weights_hash
from small_networks import outputs, shaken, tensors_of, write

@pytest.fixture
def network(make_generator, make_discriminator, tmp_path):
    """A snapshot of a training whose folder has its record: the path."""
    run = tmp_path / 'my runs' / '00000-drawn-tiny'
    run.mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / 'drawn.zip', 'w') as archive:
        archive.writestr('LICENSES.txt', 'Images: ours.\nUnder the MIT License.\n')
    options = dict(random_seed=7, num_gpus=2, batch_size=8, run_dir=str(run), G_kwargs=dict(z_dim=32),
        loss_kwargs=dict(attributes_of_groups=['red/blue'], data=str(tmp_path / 'drawn.zip')), # --grouping=attributes.
        training_set_kwargs=dict(path=str(tmp_path / 'drawn.zip')))
    (run / 'training_options.json').write_text(json.dumps(options))
    rows = [{'Progress/kimg': dict(mean=kimg), 'Timing/total_sec': dict(mean=kimg * 3600)} for kimg in (1, 20.016, 40)]
    (run / 'stats.jsonl').write_text('\n'.join(map(json.dumps, rows)) + '\n{"cut')
    G = shaken(make_generator())
    data = dict(G=G, D=shaken(make_discriminator()), G_ema=G, augment_pipe=None, training_set_kwargs=dict(
        class_name='training.dataset.ImageFolderDataset', path=str(tmp_path / 'drawn.zip'), max_size=9))
    return write(data, run / 'network-snapshot-000020.pkl')

def pack(network, dest, *more):
    return commands.run('pack', network, f'--to={dest}', '--licence=mit', *more)

#----------------------------------------------------------------------------
# What comes with the plugin.

def test_every_network_of_the_box_opens_makes_images_and_has_a_card_that_hubs_read():
    assert box.entries()
    for boxed in box.entries():
        G = snapshot.from_pretrained(boxed.name)
        image = G(torch.zeros([1, G.z_dim]), None, noise_mode='const')
        assert image.shape == (1, 3, boxed.facts['resolution'], boxed.facts['resolution']) and image.isfinite().all()
        with open(os.path.join(boxed.folder, 'README.md'), encoding='utf-8') as f:
            _nothing, head, card = f.read().split('---\n', maxsplit=2)
        assert f'license: "{boxed.facts["licence"]}"\n' in head and 'library_name: sarigan\n' in head # YAML.
        assert f'# {boxed.name}' in card
        for name in os.listdir(boxed.folder):
            assert name in ['README.md', 'config.json', 'model.safetensors', *model_card.BESIDES], name
        assert boxed.size < 4 * 2 ** 20

def test_cards_of_the_box_say_what_the_groups_do_that_are_in_it():
    for boxed in box.entries():
        with open(os.path.join(boxed.folder, 'groups.json'), encoding='utf-8') as f:
            described = channel_sets.described(channel_sets.parse(json.load(f)))
        assert boxed.facts['groups'] == described, boxed.name
        with open(os.path.join(boxed.folder, 'README.md'), encoding='utf-8') as f:
            card = f.read()
        for group in described:
            assert re.search(rf'^\| {group["name"]} +\| {re.escape(group["note"])} +\|', card, flags=re.MULTILINE)

def test_list_names_them_and_a_name_stands_for_a_network_in_every_command(tmp_path):
    first = box.best()
    listed = commands.run('list')
    assert listed.exit_code == 0 and f'| {first}' in listed.stdout and '32x32' in listed.stdout
    done = commands.run('generate', f'--network={first}', '--seeds=0', f'--outdir={tmp_path}', '--device=cpu')
    assert done.exit_code == 0 and (tmp_path / 'seed0000.png').exists(), done.output

def test_a_path_wins_if_it_is_there(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(network, tmp_path / box.best())
    assert snapshot.from_pretrained(box.best()).z_dim == 32 != reading.load(box.entries()[0].folder, 'x').z_dim
    assert names.path_of(box.best()) == f'{box.best()}.names.json'

def test_names_of_groups_lie_in_the_folder_of_the_box():
    assert names.path_of(box.best()) == os.path.join(box.entries()[0].folder, 'names.json')

def test_an_unknown_name_is_one_sentence_with_those_that_there_are():
    with pytest.raises(UserError) as caught:
        snapshot.from_pretrained('emoji65')
    there = ', '.join(sorted(boxed.name for boxed in box.entries()))
    assert caught.value.message == ("network: there is no file 'emoji65', and no network of that name in the box, "
        f'which has {there} (`sarigan list`).')
    with pytest.raises(UserError, match=r"^network: there is no file 'a/emoji65\.pkl'\.$"):
        snapshot.from_pretrained('a/emoji65.pkl')

def test_networks_of_the_box_are_not_named_in_place():
    done = commands.run('name', box.best(), '--layer=b8.conv0', '--group=0', '--as=hat')
    assert commands.sentence(done) == (f'Error: PKL: {box.best()} comes with sarigan, and is not changed: '
        f'`sarigan import {box.best()} --to=mine.pkl` makes a copy to give names to.')

#----------------------------------------------------------------------------
# How a folder is made.

def test_pack_writes_the_average_alone_in_16_bits_with_the_record_of_its_training(network, tmp_path):
    done = pack(network, tmp_path / 'heads', '--machine=a laptop')
    assert done.exit_code == 0, done.output
    assert sorted(os.listdir(tmp_path / 'heads')) == ['README.md', 'config.json', 'model.safetensors']
    told = json.loads((tmp_path / 'heads' / 'config.json').read_text())
    assert told['model_card'] == dict(name='heads', resolution=32, licence='mit', data='drawn.zip', kimg=20, seed=7,
        data_licence='Images: ours. Under the MIT License.', processes=2, machine='a laptop',
        hours=pytest.approx(20.016))
    text = (tmp_path / 'heads' / 'README.md').read_text()
    for words in ['license: "mit"', '20 thousand', '20.0 hours on 2 processes', 'a laptop', '"z_dim": 32',
            'Under the MIT License.', "from_pretrained('heads')", '"data": "drawn.zip"', '"red/blue"',
            '| Command             | not recorded']:
        assert words in text, words
    for place in ['heads/README.md', 'heads/config.json']:
        assert str(tmp_path) not in (tmp_path / place).read_text() # Folders are nobody's business.
    assert os.stat(tmp_path / 'heads' / 'model.safetensors').st_mode & 0o777 == os.stat(
        tmp_path / 'heads' / 'config.json').st_mode & 0o777

def test_what_is_packed_is_the_network_but_for_16_bits_and_its_groups_are_the_same(network, tmp_path):
    pack(network, tmp_path / 'heads')
    before, after = reading.load(str(network), 'x'), reading.from_pretrained(tmp_path / 'heads')
    ours, theirs = tensors_of(before), tensors_of(after)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert theirs[name].dtype == tensor.dtype
        if '.grouping.' in name or not tensor.is_floating_point():
            assert torch.equal(theirs[name], tensor), name
        else: # Half a unit of the last of 11 bits; below 2^-14 in steps of 2^-24.
            assert ((theirs[name] - tensor).abs() <= (tensor.abs() * 2 ** -11).clamp(min=2 ** -25)).all(), name
    stored = safetensors.torch.load_file(tmp_path / 'heads' / 'model.safetensors')
    assert stored['G_ema.synthesis.b8.conv0.weight'].dtype == torch.float16

def test_what_16_bits_do_not_hold_is_stored_in_32(network, tmp_path):
    data = reading.load_all(str(network), 'x')
    data['G_ema'].synthesis.b4.const.data[0, 0, 0] = 1e6
    (tmp_path / 'x').mkdir()
    exported.write(data, tmp_path / 'x', 'config.json', ['G_ema'], half=True)
    assert exported.read(tmp_path / 'x')['G_ema'].synthesis.b4.const[0, 0, 0] == 1e6

def test_a_packed_network_becomes_a_pickle_that_makes_the_same_images(network, tmp_path):
    pack(network, tmp_path / 'heads')
    done = commands.run('import', tmp_path / 'heads', f'--to={tmp_path / "back.pkl"}')
    assert done.exit_code == 0, done.output
    images, _scores = outputs(reading.load_all(str(tmp_path / 'back.pkl'), 'x'))
    torch.manual_seed(1)
    z = torch.randn(2, 32)
    assert torch.equal(images, reading.from_pretrained(tmp_path / 'heads')(z, torch.zeros([2, 0]), truncation_psi=0.7,
        noise_mode='const'))

def test_names_and_groups_come_along_and_force_keeps_those_that_were_there(network, tmp_path):
    known = names.read(str(network), reading.load(str(network), 'x'))
    known.set('b8.conv0', int(next(iter(known.members['b8.conv0']))), 'hat')
    known.write()
    groups = network.with_suffix('.groups.json')
    sets = [ChannelSet('tie', {'b8.conv1': (0, 3)}), ChannelSet(None, {'b16.conv0': (2,)})]
    ChannelSets(sets, weights_hash(reading.load(str(network), 'x'))).write(groups)
    assert pack(network, tmp_path / 'heads').exit_code == 0
    assert [name for *_place, name in names.read(tmp_path / 'heads')] == ['hat']
    assert groupings.of(groupings.load(str(tmp_path / 'heads'), 'x'))['linked'].sets.sets == sets

    assert commands.sentence(pack(network, tmp_path / 'heads')) == (
        f'Error: --to: {tmp_path / "heads"} exists already; --force replaces the network in it.')
    groups.unlink()
    (tmp_path / 'heads' / 'mine.txt').write_text('mine')
    done = pack(network, tmp_path / 'heads', '--force', '--trained-on=Heads')
    assert 'groups.json of the network that was there before is kept' in done.stdout
    assert {'mine.txt', 'groups.json', 'names.json'} < set(os.listdir(tmp_path / 'heads'))
    assert 'Heads' in (tmp_path / 'heads' / 'README.md').read_text()

def test_what_its_groups_do_is_in_the_card(network, tmp_path):
    sets = [ChannelSet('tie', {'b8.conv1': (0, 3), 'b16.conv0': (1,)}, note='Ties get longer.'),
        ChannelSet('a|b', {'b16.conv0': (2,)}), ChannelSet('rest', {'b8.conv0': (1,)}, rest=True)]
    measured = dict(groups=[dict(strength=17.66, place=0.2456), 'nothing', dict(strength=60.0, place=0.1)])
    ChannelSets(sets, weights_hash(reading.load(str(network), 'x')), measured).write(
        network.with_suffix('.groups.json'))
    assert pack(network, tmp_path / 'heads').exit_code == 0
    assert json.loads((tmp_path / 'heads' / 'config.json').read_text())['model_card']['groups'] == [
        dict(name='tie', note='Ties get longer.', channels=3, strength=17.66, place=0.2456),
        dict(name='a|b', channels=1)]
    card = (tmp_path / 'heads' / 'README.md').read_text()
    rows = [[cell.strip() for cell in re.split(r'(?<!\\)\|', line)[1:-1]] for line in card.splitlines()]
    assert ['tie', 'Ties get longer.', '3', '17.7', '25%'] in rows
    assert [r'a\|b', 'not recorded', '1', 'not recorded', 'not recorded'] in rows

def test_the_card_tells_groups_of_an_attribute_each_from_those_that_were_found_afterwards(network, tmp_path):
    sets = [ChannelSet('hat', {'b8.conv1': (0, 3)}, note='Another hat, and the same head.')]
    for by, heading, words, others in [
            ('attributes', 'When it is another image\'s', 'by `--grouping=attributes`', 'found afterwards'),
            ('effects', 'When it is turned', 'found afterwards', '--grouping=attributes')]:
        ChannelSets(sets, weights_hash(reading.load(str(network), 'x')), dict(by=by)).write(
            network.with_suffix('.groups.json'))
        assert pack(network, tmp_path / 'heads', '--force').exit_code == 0
        card = (tmp_path / 'heads' / 'README.md').read_text()
        rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in card.splitlines()]
        assert ['Group', heading, 'Channels'] in rows # Nobody measured how much it changes.
        assert ['hat', 'Another hat, and the same head.', '2'] in rows
        assert words in card and others not in card
        shutil.rmtree(tmp_path / 'heads')

def test_figures_are_in_the_card(network, tmp_path):
    row = dict(value=12.34, low=11, high=13.5, floor=1.5, num_samples=2000)
    (tmp_path / 'figures.json').write_text(json.dumps(dict(metrics=dict(fd10k_lite0=row), network='/home/me/x.pkl')))
    assert pack(network, tmp_path / 'heads', f'--figures={tmp_path / "figures.json"}').exit_code == 0
    text = (tmp_path / 'heads' / 'README.md').read_text()
    assert '| fd10k_lite0 | 12.34 | 11 to 13.5 | 1.5   | 2000   |' in text and '/home/me' not in text

def test_a_folder_of_images_is_named_however_it_was_typed(network, tmp_path):
    record = network.with_name('training_options.json')
    told = json.loads(record.read_text())
    told['training_set_kwargs']['path'] = told['loss_kwargs']['data'] = f'{tmp_path}/photos/'
    record.write_text(json.dumps(told))
    assert pack(network, tmp_path / 'heads').exit_code == 0
    card = (tmp_path / 'heads' / 'README.md').read_text()
    assert '| photos ' in card and '"data": "photos"' in card

def test_without_a_record_the_card_says_so(network, tmp_path):
    shutil.copy(network, tmp_path / 'alone.pkl')
    assert pack(tmp_path / 'alone.pkl', tmp_path / 'heads').exit_code == 0
    assert (tmp_path / 'heads' / 'README.md').read_text().count('not recorded') == 8

@pytest.mark.parametrize('words, sentence', [
    (['--figures={here}/none.json'], "--figures: '{here}/none.json': it cannot be read (No such file or directory)."),
    (['--figures={here}/other.json'], "--figures: '{here}/other.json' was not written by `sarigan metrics --json`."),
    (['--force', '--to={here}/mine'], '--to: {here}/mine is no folder that `sarigan pack` wrote; '
        'nothing is overwritten.'),
])
def test_what_cannot_be_packed_is_one_sentence(words, sentence, network, tmp_path):
    (tmp_path / 'other.json').write_text('{"metrics": [1]}')
    (tmp_path / 'mine').mkdir()
    done = pack(network, tmp_path / 'new', *(word.format(here=tmp_path) for word in words))
    assert commands.sentence(done) == 'Error: ' + sentence.format(here=tmp_path)
    assert not (tmp_path / 'new').exists()

def test_a_folder_of_another_library_is_named_as_what_it_is(tmp_path):
    (tmp_path / 'config.json').write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(UserError, match='is not a network pickle .it was not written by `sarigan export`'):
        snapshot.from_pretrained(tmp_path)

def test_the_best_is_the_largest_and_then_the_one_whose_groups_act_most_in_one_place(network, tmp_path, monkeypatch):
    for name in ['a', 'b']:
        pack(network, tmp_path / 'box' / name)
    monkeypatch.setattr('sarigan_plugin.support.places.box', lambda: tmp_path / 'box')
    assert box.best() == 'a'
    path = tmp_path / 'box' / 'b' / 'config.json'
    told = json.loads(path.read_text())
    told['model_card']['groups'] = [dict(name='hat', channels=3, place=0.5), dict(name='tie', channels=3)]
    path.write_text(json.dumps(told))
    assert box.best() == 'b' and [boxed.locality for boxed in box.entries()] == [0.25, 0]
    monkeypatch.setattr('sarigan_plugin.support.places.box', lambda: tmp_path / 'no box')
    assert box.best() is None and commands.run('list').stdout == 'The box is empty.\n'
