"""Names of groups: what can be one, the file they are kept in, how they follow groups in training,
and the commands that know them."""

import json
import os
import pickle

import hypothesis
import pytest
import torch
from hypothesis import strategies

from commands import run
from sarigan_plugin.commands import edit
from sarigan_plugin.steering import names
from sarigan_plugin.steering.edits import Edit
from sarigan_plugin.steering.recipe import EditRecipe

LAYER = 'b16.conv0'

def sentence(done):
    """The one line that a refused command ends in."""
    assert done.exit_code == 2 and 'Traceback' not in done.output, done.output
    return done.stderr.strip().splitlines()[-1].removeprefix('Error: ')

@pytest.fixture
def G(make_generator):
    """Four groups of four channels in every layer, 0 to 3, 4 to 7, ..."""
    return make_generator(grouping='blocks').requires_grad_(False)

@pytest.fixture
def network(G, make_discriminator, tmp_path):
    return write(G, make_discriminator, tmp_path / 'network.pkl')

def write(G, make_discriminator, path):
    path.write_bytes(pickle.dumps(dict(G=G, D=make_discriminator(), G_ema=G, training_set_kwargs=None,
        augment_pipe=None)))
    return path

def regroup(G, groups):
    """Give the channels of LAYER their groups, e.g. '0012' * 4."""
    G.synthesis.b16.conv0.grouping.assignment.copy_(torch.tensor([int(group) for group in groups]))

#----------------------------------------------------------------------------
# In Python.

def test_a_name_that_was_written_is_found_by_name_and_by_place(G, tmp_path):
    path = tmp_path / 'network.pkl'
    assert list(names.read(path)) == [] and names.read(path).label(LAYER, 3) == 'group 3'
    for generator in [None, G]:
        known = names.read(path, generator)
        known.set(LAYER, 3, 'Brille "ö"')
        known.set('b8.conv1', 0, 'hair')
        known.write()
        assert os.listdir(tmp_path) == ['network.names.json']
        again = names.read(path, generator)
        assert (again.find('Brille "ö"') == (LAYER, 3) and again.of(LAYER, 3) == 'Brille "ö"'
            and again.label(LAYER, 3) == 'group 3 "Brille "ö""')
        assert again.of(LAYER, 2) is None and again.label(LAYER, 2) == 'group 2'
        assert list(again) == [('b8.conv1', 0, 'hair'), (LAYER, 3, 'Brille "ö"')]

def test_a_group_has_one_name_and_a_name_one_group(G):
    known = names.GroupNames('unused', G)
    known.set(LAYER, 3, 'glasses')
    known.set(LAYER, 3, 'spectacles')
    known.set(LAYER, 3, 'spectacles')
    assert list(known) == [(LAYER, 3, 'spectacles')]
    with pytest.raises(ValueError, match="^'spectacles' is the name of b16.conv0, group 3.$"):
        known.set('b8.conv0', 1, 'spectacles')
    assert list(known) == [(LAYER, 3, 'spectacles')]
    known.remove(LAYER, 2)
    known.remove(LAYER, 3)
    assert list(known) == []

def test_a_name_that_is_not_there_is_answered_with_those_that_are():
    known = names.GroupNames()
    with pytest.raises(ValueError, match="^no group is called 'hat'; "
            "`sarigan name` gives names, and none has been given.$"):
        known.find('hat')
    known.set(LAYER, 3, 'glasses')
    known.set('b8.conv0', 0, 'hair')
    with pytest.raises(ValueError, match="^no group is called 'hat'; the names are hair, glasses.$"):
        known.find('hat')

@pytest.mark.parametrize('name, problem', [
    ('',            'it is not text that can be printed'),
    ('a\nb',        'it is not text that can be printed'),
    ('\x1b[31m',    'it is not text that can be printed'),
    (None,          'it is not text that can be printed'),
    (' ',           'it has a space at an end'),
    ('hair ',       'it has a space at an end'),
    ('hair,hat',    'it has a comma'),
    ('x' * 41,      'it has 41 letters, and 40 are the most'),
    ('3',           'numbers are the indices of groups'),
    ('-1.5e3',      'numbers are the indices of groups'),
    ('nan',         'numbers are the indices of groups'),
])
def test_what_can_be_no_name_gets_its_sentence(name, problem):
    known = names.GroupNames()
    with pytest.raises(ValueError) as caught:
        known.set(LAYER, 0, name)
    assert str(caught.value).endswith(f' is no name: {problem}.') and '\n' not in str(caught.value)
    assert list(known) == []

def test_names_of_forty_letters_in_any_script_will_do(tmp_path):
    known = names.read(tmp_path / 'network.pkl')
    for group, name in enumerate(['x' * 40, '眼鏡', "l'œil gauche", '3rd eye', '<b>']):
        known.set(LAYER, group, name)
    known.write()
    assert list(names.read(tmp_path / 'network.pkl')) == list(known) and len(list(known)) == 5

@pytest.mark.parametrize('layer, group', [('b4.conv0', 0), (LAYER, 4), (LAYER, 2), (LAYER, -1)])
def test_only_a_group_that_has_channels_gets_a_name(G, layer, group):
    regroup(G, '0013' * 4)
    known = names.GroupNames('unused', G)
    with pytest.raises(ValueError, match=f'^{layer} has no group {group} with channels.$'):
        known.set(layer, group, 'glasses')

#----------------------------------------------------------------------------
# Files.

def test_names_are_beside_a_pickle_inside_an_exported_folder_and_nowhere_for_a_url(tmp_path):
    (tmp_path / 'exported.v2').mkdir()
    assert names.path_of(f'{tmp_path}/network.pkl') == f'{tmp_path}/network.names.json'
    assert names.path_of(f'{tmp_path}/network-snapshot-000100.pkl') == f'{tmp_path}/network-snapshot-000100.names.json'
    assert names.path_of(f'{tmp_path}/exported.v2') == names.path_of(f'{tmp_path}/exported.v2/network.json') == (
        f'{tmp_path}/exported.v2/names.json')
    assert names.path_of('https://example.org/network.pkl') is None
    known = names.read('https://example.org/network.pkl')
    known.set(LAYER, 0, 'glasses')
    with pytest.raises(ValueError, match='^names are kept beside a network, and this one is behind a URL.$'):
        known.write()

ENTRY = dict(name='glasses', layer=LAYER, group=3, channels=[12, 13])

@pytest.mark.parametrize('content, problem', [
    (b'{"version": 1,',                             'it is not JSON (Expecting property name'),
    (b'[' * 100000,                                 'it is not JSON ('),
    ([],                                            'it is not a file of names: an object with version and names.'),
    (dict(version=1),                               'it is not a file of names: an object with version and names.'),
    (dict(version=2, names=[]),                     'version: 2 is unknown; this program reads version 1.'),
    (dict(version=1, names=[3]),                    'names[0]: '
                                                    'it is not an object with name, layer, group and channels.'),
    (dict(version=1, names=[dict(name='x')]),       'names[0]: '
                                                    'it is not an object with name, layer, group and channels.'),
    (dict(version=1, names=[ENTRY, ENTRY]),         "names[1]: 'glasses' is there twice."),
    (dict(version=1, names=[ENTRY, dict(ENTRY, name='hat')]), 'names[1]: group 3 of b16.conv0 has a name already.'),
    (dict(version=1, names=[dict(ENTRY, name='a,b')]), "names[0]: 'a,b' is no name: it has a comma."),
    (dict(version=1, names=[dict(ENTRY, layer='\x1b[31m')]),
        'names[0]: layer has to be text, and group an index or null.'),
    (dict(version=1, names=[dict(ENTRY, group=True)]), 'names[0]: layer has to be text, and group an index or null.'),
    (dict(version=1, names=[dict(ENTRY, channels=[-1])]), 'names[0]: channels has to be a list of indices or null.'),
])
def test_a_file_of_something_else_is_named_with_what_is_wrong_and_no_command_touches_it(network, tmp_path,
        content, problem):
    path = tmp_path / 'network.names.json'
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    before = path.read_bytes()
    with pytest.raises(ValueError) as caught:
        names.read(network)
    assert str(caught.value).startswith(f"'{path}': {problem}") and '\n' not in str(caught.value)
    for arguments in [['name', network, f'--layer={LAYER}', '--group=0', '--as=hair'],
            ['edit', network, f'--outdir={tmp_path}/out', '--group=glasses', '--inter=2']]:
        assert sentence(run(*arguments)).startswith("PKL: "
            f"the names of its groups cannot be read from '{path}': {problem}")
    assert path.read_bytes() == before and not (tmp_path / 'out').exists()

JSON = strategies.recursive(strategies.none() | strategies.booleans() | strategies.integers() | strategies.floats()
    | strategies.text(),
    lambda inner: strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(), inner, max_size=3))

@hypothesis.given(
    names_=strategies.lists(JSON | strategies.fixed_dictionaries(dict(name=JSON, layer=JSON, group=JSON, channels=JSON))
    | strategies.fixed_dictionaries(dict(name=strategies.text(), layer=strategies.just(LAYER),
        group=strategies.integers(0, 9), channels=strategies.lists(strategies.integers(0, 15)))), max_size=3))
@hypothesis.settings(deadline=None, max_examples=100, database=None, derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck))
def test_whatever_a_file_says_it_is_read_and_written_again_or_refused(G, tmp_path, names_):
    (tmp_path / 'network.names.json').write_text(json.dumps(dict(version=1, names=names_)))
    try:
        known = names.read(tmp_path / 'network.pkl', G)
    except ValueError as error:
        assert str(error).startswith(f"'{tmp_path}/network.names.json': names[")
        return
    known.write()
    again = names.read(tmp_path / 'network.pkl', G)
    assert list(again) == list(known) and again.lost == known.lost and len(list(known)) + len(known.lost) == len(names_)

def test_a_failed_write_leaves_the_names_that_were_there(network, tmp_path, monkeypatch):
    known = names.read(network)
    known.set(LAYER, 0, 'glasses')
    known.write()
    known.set(LAYER, 1, 'hair')
    def full(_descriptor):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError):
        known.write()
    done = run('name', network, f'--layer={LAYER}', '--group=1', '--as=hair')
    assert sentence(done) == f'PKL: {tmp_path / "network.names.json"} cannot be written: No space left on device.'
    assert list(names.read(network)) == [(LAYER, 0, 'glasses')] and sorted(os.listdir(tmp_path)) == [
        'network.names.json', 'network.pkl']

#----------------------------------------------------------------------------
# In training.

@pytest.fixture
def named(G, tmp_path):
    """The file name of a network whose groups 0 and 1 of LAYER have names."""
    known = names.read(tmp_path / 'network.pkl', G)
    known.set(LAYER, 0, 'glasses')
    known.set(LAYER, 1, 'hair')
    known.write()
    return tmp_path / 'network.pkl'

@pytest.mark.parametrize('groups, glasses, hair', [
    ('0000111122223333', 0, 1),
    ('2222333300001111', 2, 3),         # Indices have changed,
    ('1111000022223333', 1, 0),         # or changed places,
    ('0001111122223333', 0, 1),         # or channels have: 3 of 4 are left, and 4 of 5 are the same,
    ('0022111133223333', 0, 1),         # or half of them, but not less:
    ('0122111133223333', None, 1),
    ('0033111100223333', None, 1),      # 2 of 4 are left, and 2 are others.
    ('0123012301230123', None, None),
    ('0000000022223333', 0, None),      # Two halves of a group: one gets it.
])
def test_a_name_follows_the_group_that_has_most_of_its_channels(G, named, groups, glasses, hair):
    regroup(G, groups)
    known = names.read(named, G)
    assert [known.places[name].group for name in ['glasses', 'hair']] == [glasses, hair]
    assert known.lost == [name for name, group in [('glasses', glasses), ('hair', hair)] if group is None]
    assert [group for _layer, group, _name in known] == sorted(group for group in [glasses, hair] if group is not None)

def test_a_lost_name_stays_in_the_file_comes_back_with_its_channels_and_can_be_given_anew(G, named):
    regroup(G, '0123012301230123')
    known = names.read(named, G)
    with pytest.raises(ValueError, match="no group is called 'glasses'"):
        known.find('glasses')
    known.set(LAYER, 0, 'stripes')
    known.set(LAYER, 3, 'hair')
    known.write()
    assert (list(names.read(named)) == [(LAYER, 0, 'stripes'), (LAYER, 3, 'hair')]
        and names.read(named).lost == ['glasses'])
    regroup(G, '3333012001200120')
    assert names.read(named, G).find('glasses') == (LAYER, 3)

def test_a_name_that_knows_no_channels_stays_where_it_is_while_the_group_has_some(G, tmp_path):
    known = names.read(tmp_path / 'network.pkl')
    known.set(LAYER, 0, 'glasses')
    known.set('b99.conv0', 0, 'nowhere')
    known.write()
    regroup(G, '3120' * 4)
    assert (names.read(tmp_path / 'network.pkl', G).find('glasses') == (LAYER, 0)
        and names.read(tmp_path / 'network.pkl', G).lost == ['nowhere'])
    regroup(G, '3121' * 4)
    assert names.read(tmp_path / 'network.pkl', G).lost == ['glasses', 'nowhere']

def test_adopted_names_go_to_their_groups_and_remember_the_channels_that_these_have_here(G, named, tmp_path):
    regroup(G, '2222333100001111')
    later = names.read(tmp_path / 'later.pkl', G)
    later.set(LAYER, 1, 'chin')
    assert later.adopt(names.read(named)) == ['glasses', 'hair']
    assert list(later) == [(LAYER, 1, 'chin'), (LAYER, 2, 'glasses'), (LAYER, 3, 'hair')]
    assert later.places['hair'].channels == (4, 5, 6)
    later.remove(LAYER, 2)
    later.set(LAYER, 2, 'eyes')
    assert later.adopt(names.read(named)) == [] and later.of(LAYER, 2) == 'eyes'

#----------------------------------------------------------------------------
# Commands.

def test_the_command_gives_lists_changes_and_takes_away(network, tmp_path):
    assert run('name', network).stdout == 'No group has a name yet; --layer=NAME --group=INDEX --as=NAME gives one.\n'
    done = run('name', network, f'--layer={LAYER}', '--group=3', '--as=glasses')
    assert (done.exit_code, done.stdout) == (0, 'b16.conv0, group 3 "glasses"\n')
    assert run('name', network, '--layer=b8.conv1', '--group=0', '--as=hair').exit_code == 0
    assert (run('name', network).stdout == 'hair      b8.conv1, group 0    4 channels\nglasses   b16.conv0, '
        'group 3   4 channels\n')
    assert run('name', network, '--group=glasses',
        '--as=spectacles').stdout == 'b16.conv0, group 3 "spectacles", \'glasses\' before\n'
    assert run('name', network, '--remove=hair').exit_code == 0
    assert list(names.read(network)) == [(LAYER, 3, 'spectacles')]
    assert json.loads((tmp_path / 'network.names.json').read_text())['names'] == [dict(name='spectacles', layer=LAYER,
        group=3, channels=[12, 13, 14, 15])]

def test_names_of_an_earlier_snapshot_are_taken_over_and_one_that_fits_none_is_left_out_with_a_warning(G, network,
        make_discriminator, tmp_path):
    for group, name in [(0, 'glasses'), (1, 'hair')]:
        assert run('name', network, f'--layer={LAYER}', f'--group={group}', f'--as={name}').exit_code == 0
    regroup(G, '2222012301330131')
    later = write(G, make_discriminator, tmp_path / 'later.pkl')
    done = run('name', later, f'--from={network}')
    assert done.exit_code == 0 and done.stdout == 'b16.conv0, group 2 "glasses"\n'
    assert (done.stderr == "Warning: no group of b16.conv0 that has no name has most of the channels that 'hair' had; "
        "it is left out.\n")
    write(G, make_discriminator, network)
    done = run('name', network)
    assert done.stdout == 'glasses   b16.conv0, group 2   5 channels\n'
    assert (done.stderr == "Warning: no group of b16.conv0 has most of the channels that 'hair' had; "
        "the name is left out.\n")
    assert run('name', network, '--remove=hair').exit_code == 0
    assert run('name', network).stderr == ''

@pytest.mark.parametrize('arguments, words', [
    (['--as=x'],                                    '--layer and --group are required with --as: what to name.'),
    ([f'--layer={LAYER}', '--as=x'],                '--layer and --group are required with --as: what to name.'),
    (['--group=1', '--as=x'],                       '--layer and --group are required with --as: what to name.'),
    ([f'--layer={LAYER}'],                          '--as is required with --layer or --group: the name to give.'),
    (['--as=x', '--remove=glasses'],                '--as, --remove and --from are three things to do, one at a time.'),
    (['--layer=b99', '--group=1', '--as=x'],        "--layer: 'b99' is not a grouped layer; they are b8.conv0, "
                                                    "b8.conv1, b16.conv0, b16.conv1, b32.conv0, b32.conv1."),
    ([f'--layer={LAYER}', '--group=9', '--as=x'],   '--group: 9 is out of range: the groups of b16.conv0 are 0 to 3.'),
    ([f'--layer={LAYER}', '--group=1.5', '--as=x'], '--group: 1.5 is not a whole number.'),
    (['--group=hat', '--as=x'],                     "--group: no group is called 'hat'; the names are glasses."),
    (['--layer=b8.conv0', '--group=glasses', '--as=x'], "--layer: 'glasses' is group 3 of b16.conv0, not of b8.conv0."),
    ([f'--layer={LAYER}', '--group=1', '--as=2'],   "--as: '2' is no name: numbers are the indices of groups."),
    ([f'--layer={LAYER}', '--group=1', '--as=glasses'], "--as: 'glasses' is the name of b16.conv0, group 3."),
    (['--remove=hat'],                              "--remove: no group is called 'hat'; the names are glasses."),
    (['--from=nowhere.pkl'],                        "--from: there are no names beside 'nowhere.pkl'."),
])
def test_the_option_that_is_wrong_is_named_and_the_names_stay(network, tmp_path, arguments, words):
    assert run('name', network, f'--layer={LAYER}', '--group=3', '--as=glasses').exit_code == 0
    before = (tmp_path / 'network.names.json').read_bytes()
    assert sentence(run('name', network, *arguments)) == words
    assert (tmp_path / 'network.names.json').read_bytes() == before

def test_an_edit_of_a_group_by_name_is_that_of_its_index(network, tmp_path):
    assert run('name', network, f'--layer={LAYER}', '--group=3', '--as=glasses').exit_code == 0
    for outdir, group in [('index', [f'--layer={LAYER}', '--group=3']), ('name', ['--group=glasses']),
            ('both', [f'--layer={LAYER}', '--group=glasses'])]:
        done = run('edit', network, f'--outdir={tmp_path / outdir}', *group, '--inter=3', '--seed=1', '--device=cpu')
        assert done.exit_code == 0, done.output
        assert EditRecipe.read(tmp_path / outdir / 'edit.json').edits == (Edit(LAYER, 3, 3),)
        assert (tmp_path / outdir / 'strip.png').read_bytes() == (tmp_path / 'index' / 'strip.png').read_bytes()
    for layers in ['b8.conv0', f'{LAYER},b8.conv0']:
        done = run('edit', network, f'--outdir={tmp_path / "out"}', f'--layer={layers}', '--group=glasses', '--inter=3')
        assert sentence(done) == f"--layer: 'glasses' is group 3 of b16.conv0, not of {', '.join(layers.split(','))}."
    assert (sentence(run('edit', network, f'--outdir={tmp_path / "out"}', '--group=hat', '--inter=3')) == "--group: "
        "no group is called 'hat'; the names are glasses.")
    assert not (tmp_path / 'out').exists()

def test_captions_of_edits_have_the_names(G):
    known = names.GroupNames('unused', G)
    known.set(LAYER, 3, 'glasses')
    recipe = EditRecipe([Edit(LAYER, 3, 0), Edit(['b8.conv1', LAYER], 2, 2), Edit(['b8.conv1', LAYER], 3, 2)])
    title = edit._strip_title(recipe, known, [0, 1]) # Read from a picture it would be less.
    assert title == ('b16.conv0, group 3 "glasses": inter-group code times 0; b8.conv1, b16.conv0, group 2: '
        'inter-group code times 2; b8.conv1 group 3, b16.conv0 group 3 "glasses": inter-group code times 0, 1')

def test_names_travel_with_exported_and_imported_networks(network, tmp_path):
    assert run('name', network, f'--layer={LAYER}', '--group=3', '--as=glasses').exit_code == 0
    folder, back = tmp_path / 'exported', tmp_path / 'back.pkl'
    assert run('export', network, f'--to={folder}').exit_code == 0
    assert sorted(os.listdir(folder)) == ['names.json', 'network.json', 'network.safetensors']
    assert run('name', folder, '--group=glasses', '--as=spectacles').exit_code == 0
    assert run('import', folder, f'--to={back}').exit_code == 0
    assert list(names.read(network)) == [(LAYER, 3, 'glasses')] and list(names.read(back)) == [(LAYER, 3, 'spectacles')]
    back.unlink()
    done = run('import', folder, f'--to={back}')
    assert (sentence(done) == f'--to: {tmp_path / "back.names.json"} exists already; nothing is overwritten.'
        and not back.exists())

#----------------------------------------------------------------------------
