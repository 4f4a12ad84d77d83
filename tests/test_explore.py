"""The page of `sarigan explore`: a visitor's session, the pictures, the guard, the command, and all of it in a browser."""

import asyncio
import base64
import concurrent.futures
import contextlib
import io
import json
import os
import pickle
import re
import signal
import socket
import sys
import time
import types
import zipfile

import numpy as np
import PIL.Image
import pytest
import requests
import torch
from click.testing import CliRunner

import trees

import sarigan_plugin
from sarigan_plugin import names
from sarigan_plugin import snapshot
from sarigan_plugin.cli import main
from sarigan_plugin.edit import Edit, Recipe, WrongField, edited
from sarigan_plugin.explore_guard import MAX_UPLOAD
from sarigan_plugin.explore_session import MAX_STEPS, Scene, Session
from sarigan_plugin.explore_studio import Newest, Studio, View
from sarigan_plugin.generate import render, sample_ws
from sarigan_plugin.projection import noise_put_in

sys.path.append(str(trees.ROOT / 'benchmarks'))
browser_tools = pytest.importorskip('explore', reason='Playwright is not installed', exc_type=ModuleNotFoundError)

LAYER = 'b16.conv0'

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
    return Studio(G, names.Names(tmp_path / 'names.json', G), tmp_path / 'out')

def pixels(content):
    return np.asarray(PIL.Image.open(io.BytesIO(content)).convert('RGB'))

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
    (lambda session: session.change(class_idx=1),           'class_idx: 1 is out of range: the network has no classes.'),
    (lambda session: session.select('b99'),                 "layers: 'b99' is not a grouped layer; they are b8.conv0,"),
    (lambda session: session.select(LAYER, 4),              'group: 4 is out of range: the groups of b16.conv0 are 0 to 3.'),
    (lambda session: session.look_at('behind'),             "look: 'behind' is none of before, attention, change."),
    (lambda session: session.load(Recipe([Edit('b99', 0)])), "edits[0].layers: 'b99' is not a grouped layer"),
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
    recipe = Recipe([Edit(['b8.conv1', LAYER], 2, inter_seed=5), Edit(LAYER, 1, 0.5), Edit(LAYER, 1, inter_shift=1)], [8], 0.9)
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
    assert changed[difference == difference.max()].min() > 50 and changed[difference == 0].max(initial=0) == 0 # Red, and grey.

def test_only_what_has_changed_is_drawn_again(session, studio, monkeypatch):
    view, drawn = View(studio, session), []
    monkeypatch.setattr(studio, 'draw_before', lambda scene, draw=studio.draw_before: (drawn.append(scene.seed), draw(scene))[1])
    for change in [dict(), dict(edits=(Edit(LAYER, 0, 2),)), dict(seed=1), dict(seed=1)]:
        session.change(**change)
        view.draw()
    assert drawn == [0, 1]

def test_saved_files_get_names_that_are_free_and_the_recipe_is_what_edit_takes(session, studio, tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / '0007.json').write_text('precious')
    session.steer(inter_scale=3)
    paths = [studio.save(session.scene, session.recipe()) for _time in range(2)]
    assert [[os.path.relpath(path, tmp_path) for path in pair] for pair in paths] == [['out/0008.png', 'out/0008.json'], ['out/0009.png', 'out/0009.json']]
    assert (tmp_path / 'out' / '0007.json').read_text() == 'precious'
    assert np.array_equal(np.asarray(PIL.Image.open(paths[0][0])), studio.draw(session.scene))
    assert Recipe.read(paths[0][1]) == session.recipe()

def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()

def zip_bomb():
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w', zipfile.ZIP_DEFLATED) as z:
        with z.open('w.npy', 'w', force_zip64=True) as f:
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
    (b'{"version": 1, "edits": [{"layers": "<script>alert(1)</script>", "group": 0}]}', "edits[0].layers: '<script>alert(1)</script>' is not a grouped layer; they are"),
    (b'{"version": 1, "edits": [{"layers": "b8.conv0", "group": 99}]}', 'edits[0].group: 99 is out of range'),
    (b'{"version": 1, "edits": [{"layers": "b8.conv0", "group": 0, "inter_scale": 1e999}]}', 'edits[0].inter_scale: inf is not a number'),
    (b'PK\x03\x04 and so on',                       'it is no .npz file, or holds more than 256 MB.'),
    (zip_bomb(),                                    'it is no .npz file, or holds more than 256 MB.'),
    (npz(v=np.zeros(3)),                            'it is not an .npz file with an array w ('),
    (npz(w=np.zeros([1, 2, 3])),                    'it holds w as '),
    (npz(w=np.array([Bad()], dtype=object)),        'it is not an .npz file with an array w (Object arrays cannot be loaded when allow_pickle=False)'),
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
    assert np.array_equal(Recipe.read(paths[1]).render(G)[0], after)
    with open(paths[1], 'rb') as f:
        session.load(*studio.open(f.read()))
    assert np.array_equal(studio.draw(session.scene), after)
    session.undo()
    session.undo()
    session.undo()
    assert session.scene == Scene()

@pytest.mark.parametrize('path', ['{0}/elsewhere.npz', '{0}/out/../elsewhere.npz', '{0}/out/link.npz', '{0}/out/sub/0001.npz', '{0}/out/nothing.npz', '/etc/passwd', '/dev/stdin', '', 'a\0b'])
def test_a_recipe_that_is_opened_on_the_page_leads_to_no_file_outside_the_folder(G, studio, tmp_path, path):
    (tmp_path / 'out' / 'sub').mkdir(parents=True)
    for name in ['elsewhere.npz', 'out/sub/0001.npz']:
        (tmp_path / name).write_bytes(npz(w=sample_ws(G, [0]).numpy()))
    (tmp_path / 'out' / 'link.npz').symlink_to(tmp_path / 'elsewhere.npz')
    content = json.dumps(dict(version=1, edits=[dict(layers=LAYER, group=0, inter_scale=2)], projected_w=path.format(tmp_path)))
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
        await asyncio.sleep(0.01)
        done.append(seen)

    async def requests():
        newest = Newest(job)
        running = []
        for state.value in range(1, 21):
            running.append(asyncio.ensure_future(newest.request()))
            await asyncio.sleep(0.001)
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
    assert done.stderr == f'Error: --port: {port} is taken by another program; choose another one, or --port=0 for any that is free.\n'

def test_without_nicegui_the_command_says_what_to_install(network, monkeypatch):
    monkeypatch.setitem(sys.modules, 'nicegui', None)
    monkeypatch.delitem(sys.modules, 'sarigan_plugin.explore_page', raising=False)
    monkeypatch.delattr(sarigan_plugin, 'explore_page', raising=False)
    done = CliRunner().invoke(main, ['explore', str(network)])
    assert (done.exit_code, done.stderr) == (2, "Error: `sarigan explore` needs NiceGUI, which is not installed: pip install 'nicegui>=3.18,<4'\n")

@pytest.mark.parametrize('arguments, sentence', [
    (['nowhere.pkl'],                               "PKL: there is no file 'nowhere.pkl'."),
    (['NETWORK', '--projected-w=nowhere.npz'],      "--projected-w: 'nowhere.npz' cannot be read (No such file or directory)."),
    (['NETWORK', '--port=99999'],                   "Invalid value for '--port': 99999 is not in the range 0<=x<=65535."),
])
def test_the_option_that_is_wrong_is_named(network, arguments, sentence):
    done = CliRunner().invoke(main, ['explore', '--no-browser', '--device=cpu', *[str(network) if word == 'NETWORK' else word for word in arguments]])
    assert done.exit_code == 2 and sentence in done.stderr.splitlines()[-1]

#----------------------------------------------------------------------------
# The server, as anybody on this machine may talk to it.

# Frees visitors a second after they have gone, and says on SIGUSR1 how many there are.
COUNTING = """
import gc, signal, sys
from sarigan_plugin import cli, explore_page
explore_page.RECONNECT_SECONDS = 1
def count(*_args):
    gc.collect()
    print(sum(type(thing) is explore_page.Page for thing in gc.get_objects()), flush=True)
signal.signal(signal.SIGUSR1, count)
cli.main(sys.argv[1:], prog_name='sarigan')
"""

@pytest.fixture(scope='module')
def served(tmp_path_factory):
    """A server that all tests of this module share: address, process, network and outdir."""
    pytest.importorskip('nicegui')
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('explore')
    network, outdir = browser_tools.untrained(folder, 32), folder / 'out'
    with browser_tools.serving(network, f'--outdir={outdir}', command=(sys.executable, '-c', COUNTING)) as (address, process):
        yield types.SimpleNamespace(address=address, host=address.removeprefix('http://'), process=process, network=network, outdir=outdir, folder=folder)

def ask(served, path='/', method='GET', body=b'', **headers):
    """One HTTP request, byte for byte as it is given. Returns (status, headers and body as text)."""
    headers = dict(dict(Host=served.host, Connection='close'), **({'Content-Length': len(body)} if body and 'Transfer_Encoding' not in headers else {}), **headers)
    host, port = served.host.split(':')
    with socket.create_connection((host, int(port)), timeout=60) as connection, concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(read_all, connection) # At once: a server that hangs up on a long body has answered before.
        lines = [f'{method} {path} HTTP/1.1', *[f'{name.replace("_", "-")}: {value}' for name, value in headers.items()], '', '']
        with contextlib.suppress(ConnectionError):
            connection.sendall('\r\n'.join(lines).encode('latin-1') + body)
        status, _space, text = answer.result().removeprefix(b'HTTP/1.1 ').partition(b' ')
    return int(status), text.decode('utf-8', errors='replace')

def read_all(connection):
    answer = b''
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            answer += part
            if answer.startswith(b'HTTP/1.1 101'): # Stays open.
                break
    return answer

def test_only_this_machine_is_listened_to(served):
    port = int(served.host.split(':')[1])
    listening = {line.split()[1] for line in open('/proc/net/tcp', encoding='ascii').read().splitlines()[1:] if line.split()[3] == '0A'}
    assert f'0100007F:{port:04X}' in listening and f'00000000:{port:04X}' not in listening

def test_a_page_may_load_from_here_alone(served):
    status, text = ask(served)
    assert status == 200 and "content-security-policy: default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'" in text
    assert not re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?(?:https?:)?//', text)

@pytest.mark.parametrize('headers, status', [
    (dict(Host='localhost:9000'),                   200), # As through ssh -L.
    (dict(Host='evil.example:8765'),                403),
    (dict(Host='127.0.0.1.evil.example'),           403),
    (dict(Host='[::1'),                             403),
    (dict(Host=''),                                 403),
    (dict(Origin='http://evil.example'),            403),
    (dict(Origin='null'),                           403),
    (dict(Origin='http://127.0.0.1:1'),             403), # Another program on this machine.
])
def test_pages_of_other_servers_are_refused(served, headers, status):
    assert ask(served, **headers)[0] == status

@pytest.mark.parametrize('headers, status', [(dict(), 101), (dict(Origin='http://evil.example'), 403), (dict(Host='evil.example'), 403)])
def test_web_sockets_of_other_pages_are_refused(served, headers, status):
    opening = dict(Connection='Upgrade', Upgrade='websocket', Sec_WebSocket_Version='13', Sec_WebSocket_Key='dGhlIHNhbXBsZSBub25jZQ==')
    assert ask(served, '/_nicegui_ws/socket.io/?EIO=4&transport=websocket', **dict(opening, **headers))[0] == status

ROUTES = ['/', '/_nicegui/{v}/static/', '/_nicegui/{v}/libraries/', '/_nicegui/{v}/components/', '/_nicegui/{v}/resources/x/', '/_nicegui/{v}/esm/vue/', '/_nicegui/{v}/dynamic_resources/',
    '/_nicegui/auto/static/', '/_nicegui_ws/', '/out/', '/static/']
CLIMBS = ['../' * 12, '%2e%2e/' * 12, '..%2f' * 12, '%2e%2e%2f' * 12, '%252e%252e%252f' * 12, '....//' * 12, '..\\' * 12, '%5c..' * 12, '/', '//', '%2f', 'x/' + '../' * 13, '\u2024./' * 3]

def test_no_path_leads_to_a_file(served):
    import nicegui # pylint: disable=import-outside-toplevel
    secret = served.folder / 'secret.txt'
    secret.write_text('this must not be read')
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        paths = [route.format(v=nicegui.__version__) + climb + str(file).lstrip('/').replace(' ', '%20') for route in ROUTES for climb in CLIMBS for file in [secret, '/etc/passwd']]
        paths += [f'file://{secret}', str(secret), f'/?file={secret}', f'/_nicegui/{nicegui.__version__}/static/../../../nicegui.py']
        for path, (status, text) in zip(paths, pool.map(lambda path: ask(served, path.encode().decode('latin-1')), paths)):
            assert 'must not be read' not in text and 'root:x' not in text and 'core.sio = ' not in text, path
            assert status in [200, 307, 308, 400, 403, 404, 405], path

@pytest.mark.parametrize('method', ['PUT', 'POST', 'DELETE', 'PATCH'])
def test_no_method_writes(served, method):
    assert ask(served, '/x.txt', method, b'x')[0] in [404, 405]
    assert not served.outdir.exists()

def upload_address(text):
    return re.search(r'/_nicegui/client/[-0-9a-f]+/upload/\d+', text)[0]

def form(name, content):
    body = b'--line\r\nContent-Disposition: form-data; name="f"; filename="' + name.encode() + b'"\r\n\r\n' + content + b'\r\n--line--\r\n'
    return dict(body=body, Content_Type='multipart/form-data; boundary=line')

def test_a_large_upload_is_refused_kindly_whether_it_says_its_size_or_not(served):
    address = upload_address(ask(served)[1])
    status, text = ask(served, address, 'POST', **form('w.npz', bytes(MAX_UPLOAD + 2**17)))
    assert status == 413 and 'Files of more than 16 MB are not taken.' in text
    large = form('w.npz', bytes(MAX_UPLOAD + 2**17))
    large['body'] = b''.join(b'%x\r\n%s\r\n' % (len(part), part) for part in [large['body'][at : at + 2**16] for at in range(0, len(large['body']), 2**16)]) + b'0\r\n\r\n'
    status, text = ask(served, address, 'POST', **large, Transfer_Encoding='chunked')
    assert status == 413 and 'Files of more than 16 MB are not taken.' in text

@pytest.mark.parametrize('name', ['../../../../../../tmp/sarigan-pwned.json', '/tmp/sarigan-pwned.json', '..\\\\..\\\\sarigan-pwned.json', 'sarigan-pwned.json\\0', '%2e%2e%2fsarigan-pwned.json'])
def test_the_name_of_an_upload_leads_nowhere(served, name):
    assert ask(served, upload_address(ask(served)[1]), 'POST', **form(name, b'{}'))[0] in [200, 400]
    assert not [path for path in served.folder.rglob('*pwned*')] and not [entry for entry in os.listdir('/tmp') if 'sarigan-pwned' in entry]

# Visitors, as browsers would be, but without one.

class Visitor:
    """Asks for a page and holds its web socket."""

    def __init__(self, address):
        self.address = address
        self.text = requests.get(address, timeout=100).text
        raw = self.text.split('parseElements(String.raw`')[1].split('`)')[0]
        for escaped, letter in [('&#36;', '$'), ('&#96;', '`'), ('&gt;', '>'), ('&lt;', '<'), ('&amp;', '&')]:
            raw = raw.replace(escaped, letter)
        self.elements = json.loads(raw)
        self.id = re.search(r"'client_id': '([-0-9a-f]+)'", self.text)[1]
        self.socket = None
        self.picture = next(key for key, element in self.elements.items() if element.get('props', {}).get('alt') == 'After the edits')
        self.source = self.elements[self.picture]['props']['src']

    def image(self):
        return pixels(base64.b64decode(self.source.partition(',')[2]))

    async def connect(self):
        import socketio # pylint: disable=import-outside-toplevel # NiceGUI's.
        self.socket = socketio.AsyncClient(reconnection=False)
        self.socket.on('update', self._update)
        await self.socket.connect(f'{self.address}?client_id={self.id}', socketio_path='/_nicegui_ws/socket.io', transports=['websocket'])
        assert await self.socket.call('handshake', dict(client_id=self.id, tab_id=self.id, old_tab_id=None, document_id=self.id, next_message_id=0)) is True

    def _update(self, elements):
        self.source = (elements.get(self.picture) or {}).get('props', {}).get('src', self.source)

    async def move(self, label, value):
        key, element = next((key, element) for key, element in self.elements.items() if element['tag'] == 'q-slider' and element['props']['aria-label'] == label)
        await self.socket.emit('event', dict(client_id=self.id, id=int(key), listener_id=element['events'][0]['listener_id'], args=[json.dumps(value)]))

async def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        await asyncio.sleep(0.05)
    return condition()

def count_visitors(served):
    """How many pages the server holds."""
    served.process.send_signal(signal.SIGUSR1)
    return int(served.process.stdout.readline())

@pytest.mark.parametrize('number', [8, pytest.param(50, marks=pytest.mark.slow)])
def test_visitors_at_once_each_see_their_own_edit_and_are_forgotten_when_they_have_gone(served, number):
    G = snapshot.load(str(served.network), 'network')
    first = Session(G)
    scales = [round(-2 + index / 10, 1) for index in range(number)]
    with concurrent.futures.ThreadPoolExecutor(number) as pool:
        visitors = list(pool.map(Visitor, [served.address] * number))
    before = visitors[0].image()
    assert np.array_equal(before, render(G, sample_ws(G, [0]))) and all(visitor.source == visitors[0].source for visitor in visitors)
    expected = []
    for scale in scales:
        with edited(G, [Edit(first.layer, first.group, scale)]):
            expected.append(render(G, sample_ws(G, [0])))

    async def visit():
        await asyncio.gather(*[visitor.connect() for visitor in visitors])
        await asyncio.gather(*[visitor.move('Times', value) for visitor, scale in zip(visitors, scales) for value in [0.33, 0.66, scale]])
        assert await until(lambda: all(np.array_equal(visitor.image(), image) for visitor, image in zip(visitors, expected)))
        assert count_visitors(served) >= number
        await asyncio.gather(*[visitor.socket.disconnect() for visitor in visitors])
        assert await until(lambda: count_visitors(served) <= others), 'they are still there'

    others = count_visitors(served) - number
    asyncio.run(visit())

@pytest.mark.parametrize('value', ['a', {}, [[1]], 1e300, -1e7, '<script>', '\0'])
def test_a_value_that_no_slider_has_gets_a_message_and_changes_nothing(served, value):
    visitor, notes = Visitor(served.address), []

    async def visit():
        await visitor.connect()
        visitor.socket.on('notify', notes.append)
        await visitor.move('Times', value)
        assert await until(lambda: notes)
        assert notes[0]['message'].startswith('Times: ') and notes[0]['type'] == 'negative' and len(notes[0]['message']) < 200
        await visitor.socket.disconnect()

    asyncio.run(visit())
    assert served.process.poll() is None

# In a browser. These come last: Playwright's event loop runs until the module ends.

needs_chromium = pytest.mark.skipif(browser_tools.CHROMIUM is None, reason='no Chromium was found; apt-get install chromium')

@pytest.fixture(scope='module')
def browser():
    with browser_tools.browsing() as chromium:
        yield chromium

class Tab:
    """A page of the browser, and what it has complained of and asked for."""

    def __init__(self, browser, served):
        self.context = browser.new_context(viewport=dict(width=1280, height=800))
        self.page = self.context.new_page()
        self.complaints, self.asked = [], []
        self.page.on('console', lambda message: self.complaints.append(message.text) if message.type in ['error', 'warning'] else None)
        self.page.on('pageerror', lambda error: self.complaints.append(str(error)))
        self.page.on('request', lambda request: self.asked.append(request.url))
        self.page.on('websocket', lambda socket: self.asked.append(socket.url))
        self.page.goto(served.address)
        self.page.wait_for_function(browser_tools.FIRST_IMAGE)
        self.page.wait_for_load_state('networkidle')

    def picture(self, which):
        """The pixels that are on the page: 'Before' or 'After'."""
        return pixels(base64.b64decode(self.page.get_by_alt_text(f'{which} the edits').get_attribute('src').partition(',')[2]))

    def shows(self, image, which='After'):
        """Wait until it does."""
        end = time.monotonic() + 10
        while not np.array_equal(self.picture(which), image) and time.monotonic() < end:
            self.page.wait_for_timeout(20)
        return np.array_equal(self.picture(which), image)

    def press(self, label, key, times=1):
        browser_tools.slider(self.page, label).focus()
        for _time in range(times):
            self.page.keyboard.press(key)

    def button(self, name):
        return self.page.get_by_role('button', name=name, exact=True)

    def upload(self, name, content):
        self.page.wait_for_function("!document.querySelector('.q-uploader__spinner')") # The one before has ended.
        with self.page.expect_file_chooser() as chooser:
            self.button('Open').click()
        chooser.value.set_files(content if isinstance(content, os.PathLike) else dict(name=name, mimeType='application/octet-stream', buffer=content))

    def message(self):
        """The newest message on the page."""
        return self.page.locator('.q-notification__message').last.inner_text()

@pytest.fixture
def tab(browser, served):
    tab = Tab(browser, served)
    yield tab
    tab.context.close()
    assert tab.complaints == [] and all(url.startswith((served.address, f'ws://{served.host}', 'data:', 'blob:')) for url in tab.asked), (tab.complaints, tab.asked)

@needs_chromium
def test_in_a_browser_a_slider_makes_the_image_of_the_python_interface_and_what_is_saved_can_be_edited(tab, served, tmp_path):
    G = snapshot.load(str(served.network), 'network')
    session = Session(G)
    before = render(G, sample_ws(G, [0]))
    assert np.array_equal(tab.picture('After'), before) and np.array_equal(tab.picture('Before'), before)

    tab.press('Times', 'ArrowRight', 20)
    session.steer(inter_scale=2.0)
    studio = Studio(G, None, None)
    doubled = studio.draw(session.scene)
    assert not np.array_equal(doubled, before) and tab.shows(doubled)
    tab.button('b32.conv0').click()
    session.select('b32.conv0')
    tab.press('Share', 'PageUp') # Ten steps.
    session.steer(intra_seed=1, intra_mix=0.5)
    both = studio.draw(session.scene)
    assert not np.array_equal(both, doubled) and tab.shows(both)

    tab.button('Undo').click()
    assert tab.shows(doubled)
    tab.page.keyboard.press('Control+Shift+Z')
    assert tab.shows(both) and np.array_equal(tab.picture('Before'), before)

    tab.button('Save').click()
    tab.page.get_by_text('Saved').wait_for()
    assert f'Saved {served.outdir}/0001.png and {served.outdir}/0001.json' in tab.message()
    assert np.array_equal(np.asarray(PIL.Image.open(served.outdir / '0001.png')), both)
    done = CliRunner().invoke(main, ['edit', str(served.network), f'--recipe={served.outdir / "0001.json"}', f'--outdir={tmp_path}', '--device=cpu'])
    assert done.exit_code == 0, done.output
    assert (tmp_path / 'after.png').read_bytes() == (served.outdir / '0001.png').read_bytes()

    for _edit in range(2):
        tab.page.get_by_role('button', name='Remove the edit').first.click()
    tab.page.get_by_text('None yet').wait_for()
    assert tab.shows(before)

@needs_chromium
def test_in_a_browser_seeds_are_typed_and_rolled_and_what_is_no_seed_gets_a_message(tab, served):
    G = snapshot.load(str(served.network), 'network')
    for seed in [7, 4294967295]:
        tab.page.get_by_label('Seed of the image', exact=True).fill(str(seed))
        assert tab.shows(render(G, sample_ws(G, [seed])), 'Before')
    for wrong, sentence in [('-1', 'Seed: -1 is not a whole number from 0 to 4294967295.'), ('1.5', 'Seed: 1.5 is not a whole number from 0 to 4294967295.')]:
        tab.page.get_by_label('Seed of the image', exact=True).fill(wrong)
        tab.page.get_by_text(sentence).first.wait_for()
    before = tab.picture('Before')
    tab.button('Seed of the image, random').click()
    tab.page.wait_for_function("!['1.5', '4294967295'].includes(document.querySelector('[aria-label=\"Seed of the image\"]').value)") # The wrong one stays a moment.
    seed = int(tab.page.get_by_label('Seed of the image', exact=True).input_value())
    assert tab.shows(render(G, sample_ws(G, [seed])), 'Before') and not np.array_equal(tab.picture('Before'), before)
    tab.page.get_by_label('Seed to take from', exact=True).fill('3')
    with edited(G, [Edit(Session(G).layer, Session(G).group, intra_seed=3)]):
        assert tab.shows(render(G, sample_ws(G, [seed])))

@needs_chromium
def test_in_a_browser_files_are_opened_and_hostile_ones_get_a_message(tab, served):
    G = snapshot.load(str(served.network), 'network')
    recipe = Recipe([Edit(LAYER, 2, 3), Edit('b8.conv1', 0, inter_shift=-2)], [11], 0.9)
    recipe.write(served.folder / 'recipe.json')
    tab.upload('../../etc/<b>recipe.json', (served.folder / 'recipe.json').read_bytes())
    assert tab.shows(recipe.render(G)[0])
    w = G.mapping(torch.randn(1, G.z_dim), None)
    tab.upload('w.npz', npz(w=w.numpy()))
    with edited(G, recipe.edits):
        assert tab.shows(render(G, w))
    tab.page.get_by_text('A projected image is in the place of the seed').wait_for()
    (served.folder / 'large.npz').write_bytes(bytes(MAX_UPLOAD + 1))
    for name, content, sentence in [
        ('a.json',           b'[' * 100000,                                       'a.json: it is not JSON ('),
        ('<img src=x>.json', b'{"version": 1, "edits": [{"layers": "<img src=x onerror=alert(1)>", "group": 0}]}', "<img src=x>.json: edits[0].layers: '<img src=x onerror=alert(1)>' is not a"),
        ('b.json',           json.dumps(dict(version=1, edits=[dict(layers=LAYER, group=0)], projected_w='/etc/passwd')).encode(), "b.json: projected_w: '/etc/passwd' is not an .npz file in"),
        ('c.npz',            npz(w=np.zeros([2, 2])),                             'c.npz: it holds w as'),
        ('large.npz',        served.folder / 'large.npz',                         'Files of more than 16 MB are not taken.'),
    ]:
        tab.upload(name, content)
        tab.page.get_by_text(sentence).first.wait_for(timeout=10000)
    with edited(G, recipe.edits):
        assert tab.shows(render(G, w)) # Still.

@needs_chromium
def test_in_a_browser_a_group_is_given_a_name_that_all_see(tab, browser, served):
    tab.page.get_by_label('Name of the group').fill('hair')
    tab.page.keyboard.press('Enter')
    tab.page.locator('.grid').get_by_text('hair', exact=True).wait_for()
    G = snapshot.load(str(served.network), 'network')
    session = Session(G)
    assert names.read(served.network, G).find('hair') == (session.layer, session.group)
    other = Tab(browser, served)
    other.page.locator('.grid').get_by_text('hair', exact=True).wait_for()
    other.context.close()

@needs_chromium
def test_in_a_browser_the_picture_beside_shows_attention_and_change(tab, served):
    G = snapshot.load(str(served.network), 'network')
    session = Session(G)
    session.steer(inter_scale=3)
    view = View(Studio(G, None, None), session)
    tab.press('Times', 'PageUp', 4)
    for look in ['attention', 'change']:
        session.look_at(look)
        tab.button(look.capitalize()).click()
        assert tab.shows(pixels(view.draw()[0]), 'Before')

@needs_chromium
def test_ctrl_c_ends_the_server_while_a_browser_looks_on(browser, served, tmp_path):
    with browser_tools.serving(served.network, f'--outdir={tmp_path}') as (address, process):
        tab = Tab(browser, types.SimpleNamespace(address=address))
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert process.stderr.read() == ''
        tab.context.close()

@pytest.mark.slow
def test_a_conditional_network_without_colours_can_be_explored(make_generator, make_discriminator, tmp_path):
    G = make_generator(c_dim=3, img_channels=1).requires_grad_(False)
    path = tmp_path / 'network.pkl'
    path.write_bytes(pickle.dumps(dict(G=G, D=make_discriminator(c_dim=3, img_channels=1), G_ema=G, training_set_kwargs=None, augment_pipe=None)))
    with browser_tools.serving(path, f'--outdir={tmp_path}') as (address, _process):
        visitor = Visitor(address)
        assert np.array_equal(visitor.image(), render(G, sample_ws(G, [0]))) and 'class 2' in visitor.text and 'class 3' not in visitor.text

#----------------------------------------------------------------------------
