"""Who visits the page of `sarigan explore`: over HTTP, with a web socket, in a browser."""

import asyncio
import base64
import concurrent.futures
import contextlib
import importlib
import io
import json
import os
import re
import socket
import sys
import time

import numpy as np
import PIL.Image
import pytest
import requests

import commands
import limits
import skips
import trees

sys.path.append(str(trees.ROOT / 'benchmarks'))
browser_tools = importlib.import_module('explore') # Beside benchmarks, not to be taken for a module of ours.

LAYER = 'b16.conv0'

@contextlib.contextmanager
def serving(network, *options, code=None):
    """`sarigan explore` on a free port. Gives (address, process).

    code: Python that calls the command line, in its place.
    """
    words = ['-m', 'sarigan_plugin.cli'] if code is None else ['-c', code]
    process = commands.start(*words, 'explore', network, '--port=0', '--no-browser', '--device=cpu', *options,
        before=_no_test)
    try:
        limits.wait_until(lambda: '\n' in process.printed() or process.poll() is not None, 'an address')
        assert process.poll() is None, process.printed('errors')
        yield process.printed().split()[0], process
    finally:
        process.terminate()
        process.wait()

def _no_test():
    os.environ.pop('PYTEST_CURRENT_TEST', None) # By which NiceGUI knows tests of its own.

def pixels(content):
    return np.asarray(PIL.Image.open(io.BytesIO(content)).convert('RGB'))

def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()

def ask(served, path='/', method='GET', body=b'', **headers):
    """One HTTP request, byte for byte as it is given. Returns (status, headers and body as text)."""
    headers = dict(dict(Host=served.host, Connection='close'),
        **({'Content-Length': len(body)} if body and 'Transfer_Encoding' not in headers else {}), **headers)
    host, port = served.host.split(':')
    with socket.create_connection((host, int(port)),
            timeout=limits.HANG) as connection, concurrent.futures.ThreadPoolExecutor() as pool:
        answer = pool.submit(read_all, connection) # At once: a server that hangs up on a long body has answered before.
        lines = [f'{method} {path} HTTP/1.1',
            *[f'{name.replace("_", "-")}: {value}' for name, value in headers.items()], '', '']
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

def upload_address(text):
    return re.search(r'/_nicegui/client/[-0-9a-f]+/upload/\d+', text)[0]

def form(name, content):
    body = (b'--line\r\nContent-Disposition: form-data; name="f"; '
        b'filename="' + name.encode() + b'"\r\n\r\n' + content + b'\r\n--line--\r\n')
    return dict(body=body, Content_Type='multipart/form-data; boundary=line')

class Visitor:
    """Asks for a page and holds its web socket."""

    def __init__(self, address):
        self.address = address
        self.text = requests.get(address, timeout=limits.HANG).text
        raw = self.text.split('parseElements(String.raw`')[1].split('`)')[0]
        for escaped, letter in [('&#36;', '$'), ('&#96;', '`'), ('&gt;', '>'), ('&lt;', '<'), ('&amp;', '&')]:
            raw = raw.replace(escaped, letter)
        self.elements = json.loads(raw)
        self.id = re.search(r"'client_id': '([-0-9a-f]+)'", self.text)[1]
        self.socket = None
        self.picture = next(key for key, element in self.elements.items()
            if element.get('props', {}).get('alt') == 'After the edits')
        self.source = self.elements[self.picture]['props']['src']

    def image(self):
        return pixels(base64.b64decode(self.source.partition(',')[2]))

    async def connect(self):
        import socketio  # NiceGUI's.
        self.socket = socketio.AsyncClient(reconnection=False)
        self.socket.on('update', self._update)
        await self.socket.connect(f'{self.address}?client_id={self.id}', socketio_path='/_nicegui_ws/socket.io',
            transports=['websocket'])
        assert await self.socket.call('handshake',
            dict(client_id=self.id, tab_id=self.id, old_tab_id=None, document_id=self.id, next_message_id=0)) is True

    def _update(self, elements):
        self.source = (elements.get(self.picture) or {}).get('props', {}).get('src', self.source)

    async def move(self, label, value):
        await self.send(value, lambda element: element['tag'] == 'q-slider' and element['props']['aria-label'] == label)

    async def type(self, label, text):
        """Text for a box, and then to leave it."""
        which = lambda element: element['tag'].endswith('input') and element['props'].get('label') == label
        await self.send(text, which)
        await self.send(None, which, event=1)

    async def send(self, value, which, event=0):
        """The first event of an element, or another, with any value."""
        key, element = next((key, element) for key, element in self.elements.items() if which(element))
        listener = element['events'][event]['listener_id']
        content = dict(client_id=self.id, id=int(key), listener_id=listener, args=[json.dumps(value)])
        await self.socket.emit('event', content)

async def until(condition):
    end = time.monotonic() + limits.HANG
    while not condition() and time.monotonic() < end:
        await asyncio.sleep(0.05)
    return condition()

needs_chromium = pytest.mark.skipif(browser_tools.CHROMIUM is None, reason=skips.NO_CHROMIUM)

# Messages leave the page after seconds, which may be before a busy machine looks for them.
NOTE_MESSAGES = """
window.messages = [];
new MutationObserver(changes => {
    for (const {addedNodes} of changes)
        window.messages.push(...[...addedNodes].map(node => node.textContent ?? ''));
}).observe(document, {childList: true, subtree: true});
"""

def patient_context(browser, **options):
    context = browser.new_context(**options)
    context.set_default_timeout(limits.HANG * 1000)
    context.add_init_script(NOTE_MESSAGES)
    return context

def wait_for_message(page, text):
    """Until the page shows it, or has done so."""
    page.wait_for_function('text => window.messages.some(message => message.includes(text))', arg=text)

class Tab:
    """A page of the browser, and what it has complained of and asked for."""

    def __init__(self, browser, served, **options):
        self.context = patient_context(browser, viewport=dict(width=1280, height=800), **options)
        self.page = self.context.new_page()
        self.complaints, self.asked = [], []
        self.page.on('console', lambda message: self.complaints.append(message.text)
            if message.type in ['error', 'warning'] else None)
        self.page.on('pageerror', lambda error: self.complaints.append(str(error)))
        self.page.on('request', lambda request: self.asked.append(request.url))
        self.page.on('websocket', lambda socket: self.asked.append(socket.url))
        self.address = served.address
        self.load()

    def load(self):
        self.page.goto(self.address)
        self.page.wait_for_function(browser_tools.FIRST_IMAGE)
        self.page.wait_for_load_state('networkidle')

    def picture(self, which):
        """The pixels that are on the page: 'Before' or 'After'."""
        return pixels(
            base64.b64decode(self.page.get_by_alt_text(f'{which} the edits').get_attribute('src').partition(',')[2]))

    def shows(self, image, which='After'):
        """Wait until it does."""
        end = time.monotonic() + limits.HANG
        while not np.array_equal(self.picture(which), image) and time.monotonic() < end:
            self.page.wait_for_timeout(20)
        return np.array_equal(self.picture(which), image)

    def press(self, label, key, times=1):
        browser_tools.slider(self.page, label).focus()
        for _time in range(times):
            self.page.keyboard.press(key)

    def button(self, name):
        return self.page.get_by_role('button', name=name, exact=True)

    def upload(self, name, content, button='Open'):
        self.page.wait_for_function("!document.querySelector('.q-uploader__spinner')") # The one before has ended.
        with self.page.expect_file_chooser() as chooser:
            self.button(button).click()
        chooser.value.set_files(content if isinstance(content, os.PathLike)
            else dict(name=name, mimeType='application/octet-stream', buffer=content))

    def message(self):
        """The newest message on the page."""
        return self.page.locator('.q-notification__message').last.inner_text()
