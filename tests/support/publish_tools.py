"""Sites of `sarigan publish`: how tests make, serve and visit them."""

import base64
import functools
import http.server
import json
import pickle
import threading

from commands import run
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import channel_sets, groupings, names
from small_networks import shaken
from visitors import patient_context, pixels

class Published:
    """A network and its site."""
    def __init__(self, folder, G, name=None, linked=()):
        """name: (layer, group, its name). linked: ChannelSets of linked groups."""
        self.network, self.site = folder / 'network.pkl', folder / 'site'
        G = shaken(G)
        self.network.write_bytes(pickle.dumps(dict(G=None, D=None, G_ema=G, training_set_kwargs=None,
            augment_pipe=None)))
        self.G = reading.load(str(self.network), 'network')
        if linked:
            path = channel_sets.path_of(str(self.network))
            channel_sets.ChannelSets(linked, channel_sets.weights_hash(self.G)).write(path)
            groupings.read_linked(self.G, str(self.network), 'network')
        if name is not None:
            known = names.read(self.network, self.G)
            known.set(*name)
            known.write()
        done = run('publish', self.network, f'--outdir={self.site}', '--title=A small <b>network</b>')
        assert done.exit_code == 0, done.output
        self.output = done.stdout

class Server:
    """Of a folder, as `python -m http.server`; notes what it is asked for."""
    def __init__(self, folder):
        self.asked = []
        server = self
        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_args):
                server.asked.append(self.path)
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0),
            functools.partial(Handler, directory=str(folder)))
        self.address = f'http://127.0.0.1:{self.server.server_port}/'
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

class Tab:
    """The page in a tab, what it has complained of and whom it has asked."""
    def __init__(self, browser, address, fragment='', **options):
        self.context = patient_context(browser, **dict(dict(viewport=dict(width=1280, height=800)), **options))
        self.page = self.context.new_page()
        self.complaints, self.asked = [], []
        self.page.on('console', lambda message: self.complaints.append(message.text)
            if message.type in ['error', 'warning'] and message.text != 'No available adapters.' else None)
        self.page.on('pageerror', lambda error: self.complaints.append(str(error)))
        self.context.on('request', lambda request: self.asked.append(request.url)) # Those of workers as well.
        self.page.goto(address + fragment)
        self.page.locator('body[data-drawn]').wait_for()

    def pixels(self, which='after'):
        """uint8 [H, W, 3] of a canvas."""
        address = self.page.evaluate('id => document.getElementById(id).toDataURL()', which)
        return pixels(base64.b64decode(address.partition(',')[2]))

    def wait(self, edits, seed=0, trunc=0.7, class_idx=0):
        """Until the page shows a scene. edits: fields of each that differ from those of an edit that does nothing."""
        image = json.dumps([seed, trunc, class_idx], separators=(',', ':'))
        whole = dict(inter_scale=1, inter_shift=0, intra_seed=None, intra_mix=1, inter_seed=None, inter_mix=1,
            intra_component=None, intra_amount=0)
        edits = [dict(layers=None, group=None) | whole | edit for edit in edits]
        drawn = json.dumps([image, edits], separators=(',', ':'))
        self.page.locator(f"body[data-drawn='{drawn}']").wait_for(state='attached')

    def press(self, label, key, times=1):
        self.page.get_by_role('slider', name=label, exact=True).focus()
        for _time in range(times):
            self.page.keyboard.press(key)

    def button(self, name):
        return self.page.get_by_role('button', name=name, exact=True)

    def message(self, text):
        """Wait until the page says it."""
        self.page.locator('#message', has_text=text).wait_for()
