"""The page of `sarigan explore`: a visitor's session, the pictures, the files, the command."""

import asyncio
import io
import json
import os
import socket
import sys
import types
import zipfile

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

import sarigan_plugin.explore
from sarigan_plugin.cli import main
from sarigan_plugin.explore.session import MAX_STEPS, Scene, Session
from sarigan_plugin.explore.studio import Newest, Studio, View
from sarigan_plugin.steering import names
from sarigan_plugin.steering.edits import Edit, WrongField, edited
from sarigan_plugin.steering.projection import noise_put_in
from sarigan_plugin.steering.recipe import EditRecipe
from sarigan_plugin.steering.sampling import render, sample_ws
from visitors import LAYER, npz, pixels

@pytest.fixture
def G(make_generator):
    """Four equal groups in every layer: none is empty."""
    return make_generator(grouping='blocks').requires_grad_(False)

@pytest.fixture
def session(G):
    session = Session(G)
    session.select(LAYER, 1)
    return session

@pytest.fixture
def studio(G, tmp_path):
    return Studio(G, names.GroupNames(tmp_path / 'names.json', G), tmp_path / 'out')

#----------------------------------------------------------------------------
# A visitor's session.

def test_edits_of_other_groups_stay_when_another_is_at_hand(session):
    session.steer(inter_scale=2)
    session.select('b8.conv1', 3)
    session.steer(inter_shift=1)
    assert session.scene.edits == (Edit(LAYER, 1, inter_scale=2), Edit('b8.conv1', 3, inter_shift=1))
    session.select(LAYER, 1)
    assert session.edit == Edit(LAYER, 1, inter_scale=2)
    session.remove(0)
    assert session.scene.edits == (Edit('b8.conv1', 3, inter_shift=1),) and session.edit == Edit(LAYER, 1)

def test_a_slider_that_is_moved_is_one_step_however_long_it_takes(session):
    for scale in [1.5, 2, 2.5]:
        session.steer('times', inter_scale=scale)
    session.settle()
    session.steer('times', inter_scale=3)
    session.undo()
    assert session.edit.inter_scale == 2.5
    session.undo()
    assert session.scene == Scene() and not session.past
    session.redo()
    session.redo()
    assert session.edit.inter_scale == 3 and not session.future

def test_a_slider_that_comes_back_leaves_no_step_and_no_edit(session):
    session.steer('times', inter_scale=2)
    session.steer('times', inter_scale=1)
    session.settle()
    assert session.scene == Scene() and not session.past

def test_undo_goes_to_the_group_that_changes_and_what_is_done_next_takes_the_place_of_what_was_undone(session):
    session.steer(inter_scale=2)
    session.select('b8.conv1', 3)
    session.change(seed=5)
    session.undo()
    assert (session.scene.seed, session.layer) == (0, 'b8.conv1')
    session.undo()
    assert (session.scene.edits, session.layer, session.group) == ((), LAYER, 1)
    session.change(seed=9)
    assert not session.future

def test_no_more_steps_are_kept_than_can_be_undone(session):
    for seed in range(1, MAX_STEPS + 50):
        session.change(seed=seed)
    assert len(session.past) == MAX_STEPS

def test_reset_takes_all_edits_away_and_can_be_undone(session):
    session.steer(inter_scale=2)
    session.reset()
    assert session.scene.edits == ()
    session.undo()
    assert session.edit.inter_scale == 2

@pytest.mark.parametrize('do, sentence', [
    (lambda session: session.steer(inter_scale='a'),        "inter_scale: 'a' is not a number from"),
    (lambda session: session.steer(inter_scale=[{}] * 999), 'inter_scale: [{}, {}, '),
    (lambda session: session.steer(intra_seed=-1),          'intra_seed: -1 is not a whole number'),
    (lambda session: session.change(seed=0.5),              'seeds: 0.5 is not a whole number'),
    (lambda session: session.change(trunc=float('nan')),    'trunc: nan is not a number'),
    (lambda session: session.change(class_idx=1),           'class_idx: 1 is out of range: '
                                                            'the network has no classes.'),
    (lambda session: session.select('b99'),                 "layers: 'b99' is not a grouped layer; they are b8.conv0,"),
    (lambda session: session.select(LAYER, 4),              'group: 4 is out of range: '
                                                            'the groups of b16.conv0 are 0 to 3.'),
    (lambda session: session.look_at('behind'),             "look: 'behind' is none of before, attention, change."),
    (lambda session: session.load(EditRecipe([Edit('b99', 0)])), "edits[0].layers: 'b99' is not a grouped layer"),
])
def test_what_will_not_do_gets_a_sentence_and_changes_nothing(session, do, sentence):
    before = vars(session).copy()
    with pytest.raises(WrongField) as caught:
        do(session)
    assert str(caught.value).startswith(sentence) and vars(session) == before

def test_groups_without_channels_are_not_offered(G):
    dict(G.synthesis.named_modules())[LAYER].grouping.assignment.copy_(torch.arange(16) % 2)
    assert Session(G).groups[LAYER] == [0, 1]

def test_the_recipe_of_a_scene_makes_its_image_also_without_edits(session, studio):
    for _step in range(2):
        assert np.array_equal(session.recipe().render(session.G)[0], studio.draw(session.scene))
        session.change(seed=7, trunc=0.9)
        session.steer(inter_scale=3, intra_seed=4, intra_mix=0.5)

def test_a_recipe_that_is_loaded_is_shown_and_saved_as_it_was(session):
    recipe = EditRecipe([Edit(['b8.conv1', LAYER], 2, inter_seed=5), Edit(LAYER, 1, 0.5),
        Edit(LAYER, 1, inter_shift=1)], [8], 0.9)
    session.load(recipe)
    assert session.recipe() == recipe and session.edit == recipe.edits[2] # The last one of the group.
    session.steer(inter_shift=2)
    assert session.scene.edits == (*recipe.edits[:2], Edit(LAYER, 1, inter_shift=2))

#----------------------------------------------------------------------------
# Pictures and files.

def test_the_pictures_are_those_of_the_python_interface(session, studio):
    session.steer(inter_scale=3)
    view = View(studio, session)
    beside, after = view.draw()
    w = sample_ws(session.G, [0])
    with edited(session.G, session.scene.edits):
        assert np.array_equal(pixels(after), render(session.G, w))
    assert np.array_equal(pixels(beside), render(session.G, w))
    assert list(view.thumbnails) == [0, 1, 2, 3] and len(set(view.thumbnails.values())) == 4
    session.look_at('attention')
    assert view.draw()[0] == view.thumbnails[1] # At 32x32 neither is enlarged.
    session.look_at('change')
    changed = np.ptp(pixels(view.draw()[0]).astype(int), axis=2)
    difference = np.abs(pixels(after).astype(int) - pixels(beside)).mean(axis=2)
    # Red, and grey.
    assert changed[difference == difference.max()].min() > 50 and changed[difference == 0].max(initial=0) == 0

def test_only_what_has_changed_is_drawn_again(session, studio, monkeypatch):
    view, drawn = View(studio, session), []
    monkeypatch.setattr(studio, 'draw_before',
        lambda scene, draw=studio.draw_before: (drawn.append(scene.seed), draw(scene))[1])
    for change in [dict(), dict(edits=(Edit(LAYER, 0, 2),)), dict(seed=1), dict(seed=1)]:
        session.change(**change)
        view.draw()
    assert drawn == [0, 1]

def test_saved_files_get_names_that_are_free_and_the_recipe_is_what_edit_takes(session, studio, tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / '0007.json').write_text('precious')
    session.steer(inter_scale=3)
    paths = [studio.save(session.scene, session.recipe()) for _time in range(2)]
    assert [[os.path.relpath(path, tmp_path) for path in pair] for pair in paths] == [['out/0008.png', 'out/0008.json'],
        ['out/0009.png', 'out/0009.json']]
    assert (tmp_path / 'out' / '0007.json').read_text() == 'precious'
    assert np.array_equal(np.asarray(PIL.Image.open(paths[0][0])), studio.draw(session.scene))
    assert EditRecipe.read(paths[0][1]) == session.recipe()

def zip_bomb():
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w', zipfile.ZIP_DEFLATED) as z, z.open('w.npy', 'w', force_zip64=True) as f:
        for _mb in range(300):
            f.write(bytes(2**20))
    return content.getvalue()

class Bad:
    def __reduce__(self):
        return os.system, ('touch pwned',)

@pytest.mark.parametrize('content, sentence', [
    (b'',                                           'it is not JSON ('),
    (b'\xff\xfe',                                   'it is not JSON ('),
    (b'[' * 100000,                                 'it is not JSON ('),
    (b'{"version": 1, "edits": [{"layers": "<script>alert(1)</script>", "group": 0}]}',
        "edits[0].layers: '<script>alert(1)</script>' is not a grouped layer; they are"),
    (b'{"version": 1, "edits": [{"layers": "b8.conv0", "group": 99}]}', 'edits[0].group: 99 is out of range'),
    (b'{"version": 1, "edits": [{"layers": "b8.conv0", "group": 0, "inter_scale": 1e999}]}',
        'edits[0].inter_scale: inf is not a number'),
    (b'PK\x03\x04 and so on',                       'it is no .npz file, or holds more than 256 MB.'),
    (zip_bomb(),                                    'it is no .npz file, or holds more than 256 MB.'),
    (npz(v=np.zeros(3)),                            'it is not an .npz file with an array w ('),
    (npz(w=np.zeros([1, 2, 3])),                    'it holds w as '),
    (npz(w=np.array([Bad()], dtype=object)),        'it is not an .npz file with an array w (Object arrays cannot be '
                                                    'loaded when allow_pickle=False)'),
])
def test_a_hostile_upload_gets_a_sentence_and_runs_nothing(studio, tmp_path, monkeypatch, content, sentence):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as caught:
        studio.open(content)
    assert str(caught.value).startswith(sentence) and '\n' not in str(caught.value) and len(str(caught.value)) < 400
    assert os.listdir(tmp_path) == []

def test_a_projection_is_in_the_place_of_the_seed_until_another_is_chosen(G, studio, session):
    w = G.mapping(torch.randn(1, G.z_dim), None)
    noise = torch.randn(8, 8)
    G.synthesis.b8.conv0.noise_strength.fill_(1)
    recipe, projected = studio.open(npz(w=w.numpy(), **{'noise.b8.conv0': noise.numpy()}))
    assert recipe is None
    session.change(projected=projected)
    session.steer(inter_scale=2)
    after = studio.draw(session.scene)
    with edited(G, session.scene.edits), noise_put_in(G, {'b8.conv0': noise}):
        assert np.array_equal(after, render(G, w))
    paths = studio.save(session.scene, session.recipe())
    assert np.array_equal(EditRecipe.read(paths[1]).render(G)[0], after)
    with open(paths[1], 'rb') as f:
        session.load(*studio.open(f.read()))
    assert np.array_equal(studio.draw(session.scene), after)
    session.undo()
    session.undo()
    session.undo()
    assert session.scene == Scene()

@pytest.mark.parametrize('path', ['{0}/elsewhere.npz', '{0}/out/../elsewhere.npz', '{0}/out/link.npz',
    '{0}/out/sub/0001.npz', '{0}/out/nothing.npz', '/etc/passwd', '/dev/stdin', '', 'a\0b'])
def test_a_recipe_that_is_opened_on_the_page_leads_to_no_file_outside_the_folder(G, studio, tmp_path, path):
    (tmp_path / 'out' / 'sub').mkdir(parents=True)
    for name in ['elsewhere.npz', 'out/sub/0001.npz']:
        (tmp_path / name).write_bytes(npz(w=sample_ws(G, [0]).numpy()))
    (tmp_path / 'out' / 'link.npz').symlink_to(tmp_path / 'elsewhere.npz')
    content = json.dumps(dict(version=1, edits=[dict(layers=LAYER, group=0, inter_scale=2)],
        projected_w=path.format(tmp_path)))
    with pytest.raises(ValueError, match=r'^projected_w: .* is not an .npz file in .*; open the projection itself'):
        studio.open(content.encode())

def test_a_name_is_written_and_taken_away(studio, tmp_path):
    studio.name(LAYER, 1, 'hair')
    assert 'hair' in (tmp_path / 'names.json').read_text()
    with pytest.raises(ValueError, match="'hair' is the name of b16.conv0, group 1."):
        studio.name(LAYER, 2, 'hair')
    studio.name(LAYER, 1, '')
    assert 'hair' not in (tmp_path / 'names.json').read_text()

def test_of_requests_that_come_while_the_job_is_done_only_the_newest_counts():
    done, state = [], types.SimpleNamespace(value=0)

    async def job():
        seen = state.value
        for _step in range(10): # Ten turns of the event loop, in which ten requests come.
            await asyncio.sleep(0)
        done.append(seen)

    async def requests():
        newest = Newest(job)
        running = []
        for state.value in range(1, 21):
            running.append(asyncio.ensure_future(newest.request()))
            await asyncio.sleep(0)
        await asyncio.gather(*running)

    asyncio.run(requests())
    assert done[0] == 1 and done[-1] == 20 and len(done) < 8 and done == sorted(done)

#----------------------------------------------------------------------------
# The command.

def test_a_port_that_is_taken_is_one_sentence(network):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(main, ['explore', str(network), f'--port={port}', '--no-browser', '--device=cpu'])
    assert done.exit_code == 2
    assert (done.stderr == f'Error: --port: {port} is taken by another program; '
        'choose another one, or --port=0 for any that is free.\n')

def test_without_nicegui_the_command_says_what_to_install(network, monkeypatch):
    monkeypatch.setitem(sys.modules, 'nicegui', None)
    monkeypatch.delitem(sys.modules, 'sarigan_plugin.explore.page', raising=False)
    monkeypatch.delattr(sarigan_plugin.explore, 'page', raising=False)
    done = CliRunner().invoke(main, ['explore', str(network)])
    assert (done.exit_code, done.stderr) == (2,
        "Error: `sarigan explore` needs NiceGUI, which is not installed: pip install 'nicegui>=3.18,<4'\n")

@pytest.mark.parametrize('arguments, sentence', [
    (['nowhere.pkl'],                               "PKL: there is no file 'nowhere.pkl'."),
    (['NETWORK', '--projected-w=nowhere.npz'],      "--projected-w: "
                                                    "'nowhere.npz' cannot be read (No such file or directory)."),
    (['NETWORK', '--port=99999'],                   "Invalid value for '--port': "
                                                    "99999 is not in the range 0<=x<=65535."),
])
def test_the_option_that_is_wrong_is_named(network, arguments, sentence):
    done = CliRunner().invoke(main, ['explore', '--no-browser', '--device=cpu',
        *[str(network) if word == 'NETWORK' else word for word in arguments]])
    assert done.exit_code == 2 and sentence in done.stderr.splitlines()[-1]

#----------------------------------------------------------------------------
