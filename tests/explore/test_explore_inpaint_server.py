"""Painting holes on the page of `sarigan explore`, over its web socket and in a browser."""

import asyncio
import io
import json
import shlex
import types

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

from sarigan_plugin.cli import main
from sarigan_plugin.datasets import masks
from sarigan_plugin.explore.guard import MAX_UPLOAD
from sarigan_plugin.explore.inpaint_session import HoledSession
from sarigan_plugin.explore.studio import as_png
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import completion
from sarigan_plugin.steering.edits import Edit
from small_images import noise
from visitors import (
    Tab,
    Visitor,
    ask,
    browser_tools,
    form,
    needs_chromium,
    patient_context,
    serving,
    until,
    upload_address,
    wait_for_message,
)

@pytest.fixture(scope='module')
def served(tmp_path_factory):
    """A server that all tests of this module share: address, process, network,
    and the folders of its photos and of what is saved."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('explore')
    network, images = browser_tools.untrained(folder, 32, 'tiny-inpaint')
    with serving(network, images, f'--outdir={folder / "out"}') as (address, process):
        yield types.SimpleNamespace(address=address, host=address.removeprefix('http://'), process=process,
            network=network, outdir=folder / 'out',
            photos=[PIL.Image.open(path).convert('RGB') for path in sorted((folder / 'images32').iterdir())])

@pytest.fixture
def G(served):
    return reading.load(str(served.network), 'network')

#----------------------------------------------------------------------------
# Visitors, as browsers would be, but without one.

@pytest.mark.parametrize('stroke, sentence', [
    (None,                                              'Stroke: it is not a list of'),
    ([1],                                               'Stroke: it is not a list of'),
    (dict(number='<b>', points={}, width=3),            'Stroke: it is not a list of'),
    (dict(number=1, points=[[1, [2]]], width=3),        'Stroke: its points and its width are not'),
    (dict(number=1, points=[[1, 2]], width='wide'),     'Stroke: its points and its width are not'),
    (dict(number=1, points=[[16, 16]], width=1000),     'Hole: at 32x32, as the network takes it, it is all hole.'),
])
def test_a_stroke_that_no_brush_makes_gets_a_message_and_changes_nothing(served, stroke, sentence):
    visitor, notes = Visitor(served.address), []

    async def visit():
        await visitor.connect()
        visitor.socket.on('notify', notes.append)
        await visitor.send(stroke, lambda element: 'brush' in element.get('props', {}))
        assert await until(lambda: notes)
        await visitor.socket.disconnect()

    asyncio.run(visit())
    assert notes[0]['message'].startswith(sentence) and notes[0]['type'] == 'negative' and np.array_equal(
        visitor.image(), np.asarray(served.photos[0]))
    assert served.process.poll() is None

def test_a_large_upload_is_refused_kindly(served):
    status, text = ask(served, upload_address(ask(served)[1]), 'POST', **form('photo.png', bytes(MAX_UPLOAD + 2**17)))
    assert status == 413 and 'Files of more than 16 MB are not taken.' in text

# In a browser. These come last: Playwright's event loop runs until the module ends.

def download(tab, what):
    """The bytes of a file that the page gives."""
    tab.button('Download').click()
    with tab.page.expect_download() as waiting:
        tab.page.locator('.q-menu').get_by_text(what, exact=True).click()
    with open(waiting.value.path(), 'rb') as f:
        content = f.read()
    tab.page.locator('.q-menu').wait_for(state='hidden')
    return content

def hole_after(tab, do, *args):
    """The hole of the page when the picture has followed what is done."""
    before = tab.page.get_by_alt_text('After the edits').get_attribute('src')
    do(*args)
    tab.page.wait_for_function("before => document.querySelectorAll('figure img')[1].src !== before", arg=before)
    return np.asarray(PIL.Image.open(io.BytesIO(download(tab, 'Mask'))))

@needs_chromium
def test_in_a_browser_a_hole_is_painted_with_the_mouse_and_filled_while_known_pixels_stay(tab, served, G):
    photo = served.photos[0]
    assert np.array_equal(tab.picture('After'), np.asarray(photo))
    hole = hole_after(tab, browser_tools.paint, tab.page, (0.3, 0.3), (0.5, 0.4), (0.6, 0.6))
    assert hole[9, 9] and hole[12, 15] and hole[19, 19] and not hole[:6].any() and 0.05 < hole.mean() < 0.2
    filled = np.asarray(completion.complete(G, photo, hole, 0))
    assert tab.shows(filled) and np.array_equal(filled[~hole], np.asarray(photo)[~hole])
    assert (filled != np.asarray(photo)).any(axis=2)[hole].mean() > 0.9

    tab.button('Erase').click()
    smaller = hole_after(tab, browser_tools.paint, tab.page, (0.3, 0.3), (0.3, 0.3))
    assert not smaller[9, 9] and smaller[19, 19] and not (smaller & ~hole).any()
    assert tab.shows(np.asarray(completion.complete(G, photo, smaller, 0)))
    tab.page.keyboard.press('Control+Z')
    assert tab.shows(filled)

@needs_chromium
def test_in_a_browser_a_finger_paints_as_well(browser, served):
    tab = Tab(browser, served, has_touch=True)
    box = tab.page.locator('.easel canvas').bounding_box()
    hole = hole_after(tab, tab.page.touchscreen.tap, box['x'] + box['width'] / 2, box['y'] + box['height'] / 4)
    assert np.argwhere(hole).mean(axis=0) + 0.5 == pytest.approx([8, 16], abs=0.5)
    tab.context.close()

@needs_chromium
def test_in_a_browser_what_is_saved_and_downloaded_is_what_the_command_line_makes(tab, served, G, tmp_path):
    tab.button('Centre').click()
    hole = masks.of_index('centre', 32, 0)
    plain = np.asarray(completion.complete(G, served.photos[0], hole, 0))
    assert tab.shows(plain)
    for place in range(4):
        tab.page.get_by_role('button', name=f'Another way to fill the hole Seed {place + 1}', exact=True).wait_for()
    tab.page.get_by_role('button', name='Another way to fill the hole Seed 3', exact=True).click()
    assert tab.shows(np.asarray(completion.complete(G, served.photos[0], hole, 3)))
    tab.press('Times', 'PageUp', 2)
    session = HoledSession(G)
    edits = [Edit(session.layer, session.group, 2.0)]
    done = completion.complete(G, served.photos[0], hole, 3, edits=edits)
    assert tab.shows(np.asarray(done)) and not np.array_equal(np.asarray(done), plain)

    tab.button('Save').click()
    wait_for_message(tab.page, 'The same again')
    command = tab.message().partition('The same again: ')[2]
    again = CliRunner().invoke(main, [*shlex.split(command)[1:], f'--outdir={tmp_path}', '--device=cpu'])
    assert again.exit_code == 0, again.output
    saved = (served.outdir / '0001.png').read_bytes()
    assert saved == (tmp_path / '0001-photo-seed0003.png').read_bytes() == download(tab, 'Image')
    assert download(tab, 'Mask') == (served.outdir / '0001-mask.png').read_bytes()
    assert download(tab, 'Recipe') == (served.outdir / '0001.json').read_bytes()

@needs_chromium
def test_in_a_browser_photos_masks_and_recipes_are_opened_and_hostile_ones_get_a_message(tab, served, G):
    photo, hole = noise(20, 30), np.zeros([20, 30], dtype=bool)
    hole[5:12, 8:19] = True
    tab.upload('../../<b>photo.png', as_png(photo))
    assert tab.shows(np.asarray(photo))
    tab.upload('mask.png', as_png(PIL.Image.fromarray(hole)), 'From a file')
    assert tab.shows(np.asarray(completion.complete(G, photo, hole, 0)))
    layer = HoledSession(G).layer
    tab.upload('edit.json',
        json.dumps(dict(version=2, seeds=[5], edits=[dict(layers=[layer], group=1, inter_scale=3)])).encode())
    filled = np.asarray(completion.complete(G, photo, hole, 5, edits=[Edit(layer, 1, 3)]))
    assert tab.shows(filled)
    for name, content, button, sentence in [
        ('<img src=x>.png',  b'photo',                                         'Open',
                             '<img src=x>.png: it is not an image, or one of an unknown format.'),
        ('a.json',           b'{',                                             'Open',
                             'a.json: it is not JSON ('),
        ('b.png',            as_png(PIL.Image.fromarray(hole.T)),              'From a file',
                             'b.png: it is 20x30, but the photo is 30x20.'),
    ]:
        tab.upload(name, content, button)
        wait_for_message(tab.page, sentence)
    assert tab.shows(filled) # Still.
    tab.page.get_by_label('Photo, by its number', exact=True).fill('2')
    assert tab.shows(np.asarray(served.photos[2]))
    tab.page.get_by_label('Photo, by its number', exact=True).fill('9')
    wait_for_message(tab.page, 'Photo: 9 is not the number of a photo, from 0 to 3.')

@needs_chromium
def test_in_a_browser_a_page_without_photos_asks_for_one(browser, served, tmp_path):
    with serving(served.network, f'--outdir={tmp_path}') as (address, _process):
        page = patient_context(browser).new_page()
        page.goto(address)
        page.get_by_text('Open a photo to begin with.').wait_for()
        page.get_by_role('button', name='Centre', exact=True).click()
        wait_for_message(page, 'Photo: there is none yet; open one.')
        page.get_by_role('button', name='Save', exact=True).click()
        wait_for_message(page, 'There is no photo yet; open one.')
        page.context.close()

#----------------------------------------------------------------------------
