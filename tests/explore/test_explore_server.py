"""The server of `sarigan explore`, as anybody on this machine may talk to it, as many visitors do, and in a browser."""

import asyncio
import concurrent.futures
import json
import os
import pickle
import re
import signal
import types

import numpy as np
import PIL.Image
import pytest
import requests
import torch
from click.testing import CliRunner

import commands
import limits
from sarigan_plugin.cli import main
from sarigan_plugin.explore.guard import MAX_UPLOAD
from sarigan_plugin.explore.session import Session
from sarigan_plugin.explore.studio import Studio, View
from sarigan_plugin.snapshots import box, label_kind, reading
from sarigan_plugin.steering import groupings, names
from sarigan_plugin.steering.edits import Edit, edited
from sarigan_plugin.steering.recipe import EditRecipe
from sarigan_plugin.steering.sampling import render, sample_ws
from visitors import (
    LAYER,
    Tab,
    Visitor,
    ask,
    browser_tools,
    form,
    needs_chromium,
    npz,
    pixels,
    serving,
    until,
    upload_address,
    wait_for_message,
)

#----------------------------------------------------------------------------
# The server, as anybody on this machine may talk to it.

# Frees visitors a second after they have gone, and says on SIGUSR1 how many there are.
COUNTING = """
import gc, signal, sys
from sarigan_plugin import cli
from sarigan_plugin.explore import page as explore_page
from sarigan_plugin.steering.recipe import EditRecipe
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
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('explore')
    (network,), outdir = browser_tools.untrained(folder, 32), folder / 'out'
    with serving(network, f'--outdir={outdir}', code=COUNTING) as (address, process):
        yield types.SimpleNamespace(address=address, host=address.removeprefix('http://'), process=process,
            network=network, outdir=outdir, folder=folder)

def test_only_this_machine_is_listened_to(served):
    port = int(served.host.split(':')[1])
    listening = {line.split()[1] for line in open('/proc/net/tcp', encoding='ascii').read().splitlines()[1:]
        if line.split()[3] == '0A'}
    assert f'0100007F:{port:04X}' in listening and f'00000000:{port:04X}' not in listening

def test_a_page_may_load_from_here_alone(served):
    status, text = ask(served)
    assert (status == 200 and "content-security-policy: default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
        "frame-ancestors 'none'" in text)
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

@pytest.mark.parametrize('headers, status',
    [(dict(), 101), (dict(Origin='http://evil.example'), 403), (dict(Host='evil.example'), 403)])
def test_web_sockets_of_other_pages_are_refused(served, headers, status):
    opening = dict(Connection='Upgrade', Upgrade='websocket', Sec_WebSocket_Version='13',
        Sec_WebSocket_Key='dGhlIHNhbXBsZSBub25jZQ==')
    assert ask(served, '/_nicegui_ws/socket.io/?EIO=4&transport=websocket', **dict(opening, **headers))[0] == status

ROUTES = ['/', '/_nicegui/{v}/static/', '/_nicegui/{v}/libraries/', '/_nicegui/{v}/components/',
    '/_nicegui/{v}/resources/x/', '/_nicegui/{v}/esm/vue/', '/_nicegui/{v}/dynamic_resources/',
    '/_nicegui/auto/static/', '/_nicegui_ws/', '/out/', '/static/']
CLIMBS = ['../' * 12, '%2e%2e/' * 12, '..%2f' * 12, '%2e%2e%2f' * 12, '%252e%252e%252f' * 12, '....//' * 12,
    '..\\' * 12, '%5c..' * 12, '/', '//', '%2f', 'x/' + '../' * 13, '\u2024./' * 3]

def test_no_path_leads_to_a_file(served):
    import nicegui
    secret = served.folder / 'secret.txt'
    secret.write_text('this must not be read')
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        paths = [route.format(v=nicegui.__version__) + climb + str(file).lstrip('/').replace(' ', '%20')
            for route in ROUTES for climb in CLIMBS for file in [secret, '/etc/passwd']]
        paths += [f'file://{secret}', str(secret), f'/?file={secret}',
            f'/_nicegui/{nicegui.__version__}/static/../../../nicegui.py']
        for path, (status, text) in zip(paths,
                pool.map(lambda path: ask(served, path.encode().decode('latin-1')), paths)):
            assert 'must not be read' not in text and 'root:x' not in text and 'core.sio = ' not in text, path
            assert status in [200, 307, 308, 400, 403, 404, 405], path

@pytest.mark.parametrize('method', ['PUT', 'POST', 'DELETE', 'PATCH'])
def test_no_method_writes(served, method):
    assert ask(served, '/x.txt', method, b'x')[0] in [404, 405]
    assert not served.outdir.exists()

def test_a_large_upload_is_refused_kindly_whether_it_says_its_size_or_not(served):
    address = upload_address(ask(served)[1])
    status, text = ask(served, address, 'POST', **form('w.npz', bytes(MAX_UPLOAD + 2**17)))
    assert status == 413 and 'Files of more than 16 MB are not taken.' in text
    large = form('w.npz', bytes(MAX_UPLOAD + 2**17))
    large['body'] = b''.join(b'%x\r\n%s\r\n' % (len(part), part)
        for part in [large['body'][at : at + 2**16] for at in range(0, len(large['body']), 2**16)]) + b'0\r\n\r\n'
    status, text = ask(served, address, 'POST', **large, Transfer_Encoding='chunked')
    assert status == 413 and 'Files of more than 16 MB are not taken.' in text

@pytest.mark.parametrize('name', ['../../../../../../tmp/sarigan-pwned.json', '/tmp/sarigan-pwned.json',
    '..\\\\..\\\\sarigan-pwned.json', 'sarigan-pwned.json\\0', '%2e%2e%2fsarigan-pwned.json'])
def test_the_name_of_an_upload_leads_nowhere(served, name):
    assert ask(served, upload_address(ask(served)[1]), 'POST', **form(name, b'{}'))[0] in [200, 400]
    assert not list(served.folder.rglob('*pwned*'))
    assert not [entry for entry in os.listdir('/tmp') if 'sarigan-pwned' in entry]

# Visitors, as browsers would be, but without one.

def count_visitors(served):
    """How many pages the server holds."""
    before = len(served.process.printed())
    served.process.send_signal(signal.SIGUSR1)
    limits.wait_until(lambda: served.process.printed()[before:].endswith('\n'), 'the number of visitors', pause=0.01)
    return int(served.process.printed()[before:])

@pytest.mark.parametrize('number', [8, pytest.param(50, marks=pytest.mark.slow)])
def test_visitors_at_once_each_see_their_own_edit_and_are_forgotten_when_they_have_gone(served, number):
    G = reading.load(str(served.network), 'network')
    first = Session(G)
    scales = [round(-2 + index / 10, 1) for index in range(number)]
    with concurrent.futures.ThreadPoolExecutor(number) as pool:
        visitors = list(pool.map(Visitor, [served.address] * number))
    before = visitors[0].image()
    assert np.array_equal(before, render(G, sample_ws(G, [0]))) and all(visitor.source == visitors[0].source
        for visitor in visitors)
    expected = []
    for scale in scales:
        with edited(G, [Edit(first.layer, first.group, scale)]):
            expected.append(render(G, sample_ws(G, [0])))

    async def visit():
        await asyncio.gather(*[visitor.connect() for visitor in visitors])
        await asyncio.gather(*[visitor.move('Times', value) for visitor, scale in zip(visitors, scales)
            for value in [0.33, 0.66, scale]])
        assert await until(lambda: all(np.array_equal(visitor.image(), image)
            for visitor, image in zip(visitors, expected)))
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
        assert (notes[0]['message'].startswith('Times: ') and notes[0]['type'] == 'negative'
            and len(notes[0]['message']) < 200)
        await visitor.socket.disconnect()

    asyncio.run(visit())
    assert served.process.poll() is None

def test_a_network_of_label_vectors_begins_with_one_and_takes_another(make_generator, make_discriminator, tmp_path):
    shape = dict(c_dim=2, img_channels=1)
    G = make_generator(grouping='blocks', **shape).requires_grad_(False)
    label_kind.remember(G, 'vectors')
    path = tmp_path / 'network.pkl'
    D = make_discriminator(**shape)
    path.write_bytes(pickle.dumps(dict(G=G, D=D, G_ema=G, training_set_kwargs=None, augment_pipe=None)))
    with serving(path, f'--outdir={tmp_path}', '--class=0.2,0.8') as (address, _process):
        visitor, notes = Visitor(address), []
        assert np.array_equal(visitor.image(), render(G, sample_ws(G, [0], class_idx=(0.2, 0.8))))
        assert 'class 1' not in visitor.text

        async def visit():
            await visitor.connect()
            visitor.socket.on('notify', notes.append)
            for text in ['1,x', '1,2,3', '1,0.5']:
                await visitor.type('Label', text)
            expected = render(G, sample_ws(G, [0], class_idx=(1, 0.5)))
            assert await until(lambda: np.array_equal(visitor.image(), expected))
            assert [note['message'] for note in notes] == ["Class: '1,x' is not a list of numbers, as in 0.2,0.8.",
                'Class: the label has 3 numbers, and those of the network have 2 (c_dim).']
            await visitor.socket.disconnect()

        asyncio.run(visit())

# In a browser. These come last: Playwright's event loop runs until the module ends.

@needs_chromium
def test_in_a_browser_a_slider_makes_the_image_of_the_python_interface_and_what_is_saved_can_be_edited(tab,
        served, tmp_path):
    G = reading.load(str(served.network), 'network')
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
    wait_for_message(tab.page, 'Saved')
    assert f'Saved {served.outdir}/0001.png and {served.outdir}/0001.json' in tab.message()
    assert np.array_equal(np.asarray(PIL.Image.open(served.outdir / '0001.png')), both)
    done = CliRunner().invoke(main, ['edit', str(served.network), f'--recipe={served.outdir / "0001.json"}',
        f'--outdir={tmp_path}', '--device=cpu'])
    assert done.exit_code == 0, done.output
    assert (tmp_path / 'after.png').read_bytes() == (served.outdir / '0001.png').read_bytes()

    for _edit in range(2):
        tab.page.get_by_role('button', name='Remove the edit').first.click()
    tab.page.get_by_text('None yet').wait_for()
    assert tab.shows(before)

# What a browser is like that has much else to do.
LATE_TIMERS = 'const at_once = window.setTimeout; window.setTimeout = (job, wait) => at_once(job, (wait ?? 0) + 5000);'

@needs_chromium
def test_in_a_browser_whose_timers_are_late_a_slider_moves_no_group_but_the_one_it_stood_for(tab, served):
    tab.page.add_init_script(LATE_TIMERS)
    tab.load()
    session = Session(reading.load(str(served.network), 'network'))
    tab.press('Times', 'ArrowRight', 2)
    tab.button('b32.conv0').click()
    tab.page.evaluate('new Promise(done => setTimeout(done, 500))') # What NiceGUI might send by a timer, it has sent.
    tab.press('Share', 'PageUp')
    session.steer(inter_scale=1.1)
    session.select('b32.conv0')
    session.steer(intra_seed=1, intra_mix=0.5)
    assert tab.shows(Studio(session.G, None, None).draw(session.scene))

@needs_chromium
def test_in_a_browser_seeds_are_typed_and_rolled_and_what_is_no_seed_gets_a_message(tab, served):
    G = reading.load(str(served.network), 'network')
    for seed in [7, 4294967295]:
        tab.page.get_by_label('Seed of the image', exact=True).fill(str(seed))
        assert tab.shows(render(G, sample_ws(G, [seed])), 'Before')
    for wrong, sentence in [('-1', 'Seed: -1 is not a whole number from 0 to 4294967295.'),
            ('1.5', 'Seed: 1.5 is not a whole number from 0 to 4294967295.')]:
        tab.page.get_by_label('Seed of the image', exact=True).fill(wrong)
        wait_for_message(tab.page, sentence)
    before = tab.picture('Before')
    tab.button('Seed of the image, random').click()
    # The wrong one stays a moment.
    tab.page.wait_for_function("!['1.5', '4294967295'].includes(document.querySelector('[aria-label=\"Seed of the "
        "image\"]').value)")
    seed = int(tab.page.get_by_label('Seed of the image', exact=True).input_value())
    assert tab.shows(render(G, sample_ws(G, [seed])), 'Before') and not np.array_equal(tab.picture('Before'), before)
    tab.page.get_by_label('Seed to take from', exact=True).fill('3')
    with edited(G, [Edit(Session(G).layer, Session(G).group, intra_seed=3)]):
        assert tab.shows(render(G, sample_ws(G, [seed])))

@needs_chromium
def test_in_a_browser_files_are_opened_and_hostile_ones_get_a_message(tab, served):
    G = reading.load(str(served.network), 'network')
    recipe = EditRecipe([Edit(LAYER, 2, 3), Edit('b8.conv1', 0, inter_shift=-2)], [11], 0.9)
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
        ('<img src=x>.json', b'{"version": 1, "edits": [{"layers": "<img src=x onerror=alert(1)>", "group": 0}]}',
                             "<img src=x>.json: edits[0].layers: '<img src=x onerror=alert(1)>' is not a"),
        ('b.json',           json.dumps(dict(version=1, edits=[dict(layers=LAYER, group=0)], projected_w='/etc/passwd'))
                             .encode(), "b.json: projected_w: '/etc/passwd' is not an .npz file in"),
        ('c.npz',            npz(w=np.zeros([2, 2])),                             'c.npz: it holds w as'),
        ('large.npz',        served.folder / 'large.npz',
                             'Files of more than 16 MB are not taken.'),
    ]:
        tab.upload(name, content)
        wait_for_message(tab.page, sentence)
    with edited(G, recipe.edits):
        assert tab.shows(render(G, w)) # Still.

@needs_chromium
def test_in_a_browser_a_group_is_given_a_name_that_all_see(tab, browser, served):
    tab.page.get_by_label('Name of the group').fill('hair')
    tab.page.keyboard.press('Enter')
    tab.page.locator('.grid').get_by_text('hair', exact=True).wait_for()
    G = reading.load(str(served.network), 'network')
    session = Session(G)
    assert names.read(served.network, G).find('hair') == (session.layer, session.group)
    other = Tab(browser, served)
    other.page.locator('.grid').get_by_text('hair', exact=True).wait_for()
    other.context.close()

@needs_chromium
def test_in_a_browser_the_picture_beside_shows_attention_and_change(tab, served):
    G = reading.load(str(served.network), 'network')
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
    with serving(served.network, f'--outdir={tmp_path}') as (address, process):
        tab = Tab(browser, types.SimpleNamespace(address=address))
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=limits.HANG) == 130
        assert process.printed('errors') == ''
        tab.context.close()

@pytest.mark.slow
def test_a_conditional_network_without_colours_can_be_explored(make_generator, make_discriminator, tmp_path):
    G = make_generator(c_dim=3, img_channels=1).requires_grad_(False)
    path = tmp_path / 'network.pkl'
    path.write_bytes(pickle.dumps(dict(G=G, D=make_discriminator(c_dim=3, img_channels=1), G_ema=G,
        training_set_kwargs=None, augment_pipe=None)))
    with serving(path, f'--outdir={tmp_path}') as (address, _process):
        visitor = Visitor(address)
        assert (np.array_equal(visitor.image(), render(G, sample_ws(G, [0]))) and 'class 2' in visitor.text
            and 'class 3' not in visitor.text)

def test_without_a_network_the_best_of_the_box_is_shown(tmp_path):
    process = commands.start('-m', 'sarigan_plugin.cli', 'explore', '--port=0', '--no-browser', '--device=cpu',
        f'--outdir={tmp_path}')
    try:
        limits.wait_until(lambda: '  (Ctrl-C ends it)' in process.printed(), 'an address')
        address = process.printed().split()[0]
        page = requests.get(address, timeout=limits.HANG).text
        first, *_others = groupings.linked(groupings.load(box.best(), 'PKL')).sets.sets
        assert f'<title>{box.best()}' in page and first.name in page and first.note in page
    finally:
        process.terminate()
        process.wait()

#----------------------------------------------------------------------------
