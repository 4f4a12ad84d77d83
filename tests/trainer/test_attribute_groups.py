"""--grouping=attributes: which attributes get a group, what is refused, and the names that groups have from then on."""

import json
import re
import shutil
import zipfile

import pytest
import torch

import commands
import small_training
from sarigan_plugin.datasets import drawn
from sarigan_plugin.errors import UserError
from sarigan_plugin.evaluation import attributes
from sarigan_plugin.losses.attributes import AttributeLoss
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.steering import channel_sets, groupings
from sarigan_plugin.trainer import arguments, attribute_groups
from trainings import assert_equal_runs, cut_back, finish, last_run, start

@pytest.fixture(scope='module')
def heads(tmp_path_factory):
    """Drawn heads, whose backgrounds and skins are recognised after a short look."""
    folder = tmp_path_factory.mktemp('heads')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(folder / 'cache')) # Processes that tests start find it there, too.
        patch.setattr(attributes, 'STEPS', 200)
        drawn.make_drawn(str(folder / 'heads.zip'), resolution=16, num=1500)
        assert {'background', 'skin'} <= set(attributes.learn(str(folder / 'heads.zip')).attributes())
        yield folder / 'heads.zip'

def config(folder, **tables):
    (folder / 'small.toml').write_text(small_training.config(**tables))
    return str(folder / 'small.toml')

def options(heads, folder, method=None, inpainting=None, **given):
    """What training_options() makes of it."""
    method = dict(dict(grouping='attributes'), **(method or {}))
    cfg = config(folder, method=method, inpainting=inpainting)
    return arguments.training_options(data=str(heads), cfg=cfg, metrics=[], **given)

def test_every_attribute_has_a_group_in_the_order_in_which_they_are_named(heads, tmp_path):
    desc, args = options(heads, tmp_path, attributes='skin, background')
    assert desc.endswith('-small-attributes2')
    assert args.G_kwargs.grouping == 'blocks' and args.G_kwargs.num_groups == 2
    assert args.loss_kwargs.attributes_of_groups == ['skin', 'background'] and args.loss_kwargs.data == str(heads)
    json.dumps(args)

def test_all_that_are_recognised_are_taken_where_none_are_named(heads, tmp_path):
    known = attributes.learn(str(heads)).attributes()
    assert attribute_groups.choose(str(heads), 'all', []) == known
    cfg = config(tmp_path, method=dict(grouping='attributes'), networks=dict(channel_max=16, channel_base=128))
    _desc, args = arguments.training_options(data=str(heads), cfg=cfg, metrics=[])
    assert args.loss_kwargs.attributes_of_groups == known and len(known) <= 16
    assert args.G_kwargs.num_groups == (len(known) if len(known) <= 8 else {'b16.conv1': 8, 'b16.conv0': len(known),
        'b8.conv1': len(known), 'b8.conv0': len(known)}) # 8 channels at 16x16, 16 elsewhere.

@pytest.mark.parametrize('given, sentence', [
    (dict(attributes=['skin', 'nose']),
        "^--attributes: 'nose' is none of those that are recognised in .*heads.zip': .*skin"),
    (dict(attributes='skin,skin'), "^--attributes must name each once, not 'skin,skin'"),
    (dict(attributes=''), "^--attributes must be all, or names with commas between them, not ''"),
    (dict(attributes=3), '^--attributes must be all, or names with commas between them, not 3'),
    (dict(attributes=['skin'], num_groups=4), '^--num-groups: not with --grouping=attributes'),
    (dict(attributes=['skin'], grouping='effects'), '^--attributes: only with --grouping=attributes, not '
        '--grouping=effects'),
    (dict(attributes=['skin'], method=dict(channels_per_group=16)), None),
    (dict(attributes=['skin', 'background'], method=dict(channels_per_group=8)),
        '^--attributes: the widest layers have room for 1 groups, and these are 2 attributes; choose'),
    (dict(attributes=['skin'], inpainting=dict(masks='centre')),
        '^--grouping=attributes: not for networks that complete'),
])
def test_what_cannot_be_is_one_sentence(heads, tmp_path, given, sentence):
    if sentence is None:
        options(heads, tmp_path, **given)
        return
    with pytest.raises(UserError, match=sentence):
        options(heads, tmp_path, **given)

@pytest.mark.parametrize('gpus, batch, at_a_time', [
    (8, 64, None),  # The config's.
    (1, None, 8), (4, None, 8), (2, 32, 16),
])
def test_d_can_compare_mixtures_apart_from_what_they_are_made_of(heads, tmp_path, gpus, batch, at_a_time):
    """The config says four images at a time, and D compares as many."""
    cfg = config(tmp_path, method=dict(grouping='attributes', attributes=['skin']), training=dict(batch_gpu=4))
    _desc, args = arguments.training_options(data=str(heads), cfg=cfg, metrics=[], gpus=gpus, batch=batch)
    assert args.batch_gpu == (at_a_time or batch // gpus) and args.batch_size == (batch or 32)

@pytest.mark.parametrize('gpus, batch, sentence', [
    (8, None, 'not 4; choose --batch=64'), (1, 4, 'not 4; choose --batch=8'), (1, 20, 'not 20; choose --batch=16'),
    (2, 24, 'not 12; choose --batch=16'), (1, 2, 'not 2; choose --batch=8')])
def test_too_few_images_at_a_time_are_refused(heads, tmp_path, gpus, batch, sentence):
    cfg = config(tmp_path, method=dict(grouping='attributes', attributes=['skin']), training=dict(batch_gpu=4))
    with pytest.raises(UserError, match='^--batch must give each GPU a multiple of 8 images with '
            f'--grouping=attributes, as half of them are mixtures, {sentence}$'):
        arguments.training_options(data=str(heads), cfg=cfg, metrics=[], gpus=gpus, batch=batch)

def test_a_run_goes_on_where_its_data_set_has_moved(heads, tmp_path):
    cfg = config(tmp_path, method=dict(grouping='attributes', attributes=['skin', 'background']))
    command = ['train', f'--cfg={cfg}', '--metrics=none', '--device=cpu']
    finish(start([*command, f'--data={heads}'], tmp_path / 'out'))
    run = last_run(tmp_path / 'out')
    (tmp_path / 'moved').mkdir()
    moved = shutil.copy(heads, tmp_path / 'moved')
    done = commands.run(*command, f'--data={moved}', f'--outdir={tmp_path / "other"}', f'--resume={run}', '--kimg=2',
        '--dry-run')
    assert done.exit_code == 0 and f'Going on with {run} ' in done.output, done.output

def test_a_data_set_without_attributes_is_refused(tmp_path):
    small_training.write_images(tmp_path / 'images')
    with pytest.raises(UserError, match="^--data: --grouping=attributes cannot use '.*images': it has no "
            'attributes.json; put one'):
        options(tmp_path / 'images', tmp_path)
    (tmp_path / 'images' / 'attributes.json').write_text('[1, 2]')
    with pytest.raises(UserError, match="^--data: --grouping=attributes cannot use '.*images': its attributes.json "
            'must be an object'):
        options(tmp_path / 'images', tmp_path)

def test_what_has_a_group_and_what_has_none_is_printed(heads, tmp_path):
    known = attributes.learn(str(heads)).attributes()
    _desc, args = options(heads, tmp_path, attributes=known[:2])
    assert attribute_groups.described(args) == (f'Groups:             {known[0]}, {known[1]}\n'
        f'Without a group:    not in --attributes: {attributes.some(known[2:], 8)}\n')
    assert attribute_groups.described(options(heads, tmp_path, method=dict(grouping='blocks'))[1]) == ''
    done = commands.run('train', '--cfg=tiny', '--grouping=attributes', '--attributes=skin', f'--data={heads}',
        f'--outdir={tmp_path / "out"}', '--dry-run')
    assert '\nGroups:             skin\nWithout a group:    ' in done.stdout

def test_layers_with_room_for_fewer_groups_are_printed(heads, tmp_path):
    cfg = config(tmp_path, method=dict(grouping='attributes'), networks=dict(channel_max=16, channel_base=128))
    known = attributes.learn(str(heads)).attributes()
    _desc, args = arguments.training_options(data=str(heads), cfg=cfg, metrics=[], attributes=known[:9])
    assert len(known) >= 9 and '\nLayers with fewer:  b16.conv1 8\n' in attribute_groups.described(args)

def test_bad_images_are_left_out_where_they_are_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr(attributes, 'STEPS', 120)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    drawn.make_drawn(str(tmp_path / 'heads.zip'), resolution=16, num=600)
    with zipfile.ZipFile(tmp_path / 'heads.zip') as archive:
        archive.extractall(tmp_path / 'heads')
        rows = json.loads(archive.read('attributes.json'))['images']
    (tmp_path / 'heads' / 'attributes.json').write_text(json.dumps(dict(names=['background', 'number'],
        images={file: [row[0], index] for index, (file, row) in enumerate(rows.items())})))
    bad = tmp_path / 'heads' / '00000' / 'img00000300.png'
    bad.write_bytes(bad.read_bytes()[:60])
    (tmp_path / 'heads' / '00000' / 'img00000301.png').unlink()
    done = commands.run('train', '--cfg=tiny', '--grouping=attributes', f'--data={tmp_path / "heads"}', '--dry-run',
        f'--outdir={tmp_path / "out"}', '--skip-bad-images=1')
    assert done.exit_code == 0, done.output
    assert ('\nGroups:             background\n'
        'Without a group:    more than 20 different values: number\n'
        'Rows but no image:  00000/img00000301.png\n') in done.stdout
    with pytest.raises(UserError, match="^--data: --grouping=attributes cannot use '.*heads': its image "
            r"'00000/img00000300.png' cannot be read \(.*\); --skip-bad-images=1 goes without it$"):
        attribute_groups.choose(str(tmp_path / 'heads'), 'all', [])

NO_NAMES = {'hair, bright': 'it has a comma', ' bright ': 'it has a space at an end', '': 'it is not text',
    'a\nb': 'it is not text', '2': 'numbers are the indices', 'x' * 41: 'it has 41 letters'}

def test_attributes_whose_names_no_group_can_have_get_none(tmp_path, monkeypatch):
    """The background, under all those names: it is recognised under each."""
    monkeypatch.setattr(attributes, 'STEPS', 120)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    drawn.make_drawn(str(tmp_path / 'heads.zip'), resolution=16, num=600)
    names = ['background', *NO_NAMES]
    with zipfile.ZipFile(tmp_path / 'heads.zip') as archive:
        archive.extractall(tmp_path / 'heads')
        rows = json.loads(archive.read('attributes.json'))['images']
    (tmp_path / 'heads' / 'attributes.json').write_text(json.dumps(
        dict(names=names, images={file: [row[0]] * len(names) for file, row in rows.items()})))
    for name, why in NO_NAMES.items():
        with pytest.raises(UserError, match=f'^--attributes: {re.escape(repr(name)[:60])}.*{why}'
                r".*; rename the attribute in attributes.json of '.*heads', or name others with --attributes=$"):
            attribute_groups.choose(str(tmp_path / 'heads'), [name], [])
    assert attribute_groups.choose(str(tmp_path / 'heads'), ['background'], []) == ['background']
    done = commands.run('train', '--cfg=tiny', '--grouping=attributes', f'--data={tmp_path / "heads"}', '--dry-run',
        f'--outdir={tmp_path / "out"}')
    assert "--attributes: 'hair, bright' is no name: it has a comma" in commands.sentence(done)

@pytest.mark.parametrize('channels', [1, 3])
def test_the_loss_reads_what_the_classifier_does(heads, make_generator, make_discriminator, channels):
    G = make_generator(grouping='blocks', num_groups=2)
    loss = attribute_groups.make_loss(data=str(heads), attributes_of_groups=['skin', 'background'],
        device=torch.device('cpu'), G_mapping=G.mapping, G_synthesis=G.synthesis, D=make_discriminator(),
        lambda_attributes=2)
    assert isinstance(loss, AttributeLoss) and loss.lambda_attributes == 2
    images = drawn.draw(drawn.sample(5, seed=3), 16)
    if channels == 1:
        images[:] = images[:, :, :, :1]
    classifier = attributes.learn(str(heads))
    wanted = {name: values for name, values in classifier(images).items() if name.split()[0] in ['skin', 'background']}
    as_made = torch.from_numpy(images[..., :channels]).permute(0, 3, 1, 2).float() / 127.5 - 1
    torch.testing.assert_close(loss.reader(as_made).sigmoid(),
        torch.stack([torch.from_numpy(values) for values in wanted.values()], dim=1))
    assert loss.group_of.tolist() == [['skin', 'background'].index(name.split()[0]) for name in wanted]
    as_made.requires_grad_()
    loss.reader(as_made).sum().backward()
    assert as_made.grad.abs().sum() > 0

@pytest.mark.parametrize('gpus', [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_interrupted_training_ends_as_one_that_was_not_and_its_groups_have_names(heads, tmp_path, gpus):
    cfg = config(tmp_path, method=dict(grouping='attributes', attributes=['skin', 'background']),
        training=dict(kimg=1, ema_rampup=0.05, batch=64))
    command = ['train', f'--cfg={cfg}', f'--data={heads}', '--metrics=none', '--device=cpu', f'--gpus={gpus}',
        '--checkpoint-minutes=0.0001', '--keep-states=99']
    finish(start(command, tmp_path / 'out'))
    run = last_run(tmp_path / 'out')
    assert 'Loss/attributes' in (run / 'stats.jsonl').read_text()
    for snapshot in sorted(run.glob('network-snapshot-*.pkl')):
        G = groupings.load(str(snapshot), 'network')
        assert groupings.linked(G).names() == {0: 'skin', 1: 'background'}
        for name, layer, _source in grouped_layers(G.synthesis):
            for index, group in enumerate(groupings.linked(G).sets.sets):
                assert group.channels[name] == tuple((layer.grouping.assignment == index).nonzero()[:, 0].tolist())
    again = cut_back(run, tmp_path / 'again', images=512)
    assert 'Going on from' in finish(start(command, again.parent))
    assert_equal_runs(again, run)
    names = sorted(run.glob('*.groups.json'))[-1]
    assert (again / names.name).read_text() == names.read_text()

def test_names_that_find_no_room_on_the_disk_are_a_warning(make_generator, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(channel_sets.files, 'write_text', full)
    G, told = make_generator(grouping='blocks', num_groups=2), []
    monkeypatch.setattr(channel_sets.files, 'warn_out_of_space', lambda path, _error: told.append(path))
    attribute_groups.write_names(str(tmp_path), 1000, G, ['a', 'b'])
    assert told == [str(tmp_path / 'network-snapshot-000001.groups.json')]

def test_layers_of_fewer_groups_have_the_first_ones(make_generator):
    G = make_generator(grouping='blocks', num_groups={'8': 3, '16': 3, '32': 2})
    sets = attribute_groups.linked(G, ['one', 'two', 'three']).sets
    assert [group.name for group in sets] == ['one', 'two', 'three']
    assert {name.split('.')[0] for name in sets[2].channels} == {'b8', 'b16'} and 'b32.conv1' in sets[1].channels

def test_a_command_line_says_it_in_one_sentence(heads, tmp_path):
    done = commands.run('train', '--cfg=tiny', '--grouping=attributes', '--attributes=nose', f'--data={heads}',
        f'--outdir={tmp_path / "out"}')
    assert "--attributes: 'nose' is none of those" in commands.sentence(done)
    assert not (tmp_path / 'out').exists()
