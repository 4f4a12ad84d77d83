"""How long a visitor of a page of `sarigan publish` waits, in a real browser without a graphics processor: for the
first picture, and for the picture to follow a slider; how large the site is, and how near its images are to PyTorch's.

Run: python benchmarks/publish.py --network=network.pkl
"""

import base64
import contextlib
import functools
import http.server
import io
import json
import os
import random
import statistics
import tempfile
import threading
from pathlib import Path

import click
import numpy as np
import PIL.Image

from explore import CHROMIUM, browsing, untrained
from sarigan_plugin.commands.options import PATH
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.publish import site
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import names
from sarigan_plugin.steering.edits import Edit
from sarigan_plugin.steering.recipe import EditRecipe

PAGES, STEPS, SEEDS = 5, 30, 20 # That are measured.
DRAWN = 'body[data-drawn]'

# Milliseconds from a key on a slider to another edited picture.
STEP = """() => {
    const before = document.body.dataset.drawn;
    let pressed = 0;
    document.addEventListener('keydown', () => { pressed = performance.now(); }, {once: true, capture: true});
    return {taken: new Promise(done => {
        const isNew = () => document.body.dataset.drawn !== before;
        const look = () => isNew() ? done(performance.now() - pressed) : requestAnimationFrame(look);
        look();
    })};
}"""

#----------------------------------------------------------------------------

class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_args):
        pass

@contextlib.contextmanager
def serving(folder):
    """A folder on a free port, as `python -m http.server`. Gives the address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/'
        server.shutdown()

@click.command()
@click.option('--network',  help='Network to publish  [default: an untrained one of the config tiny, 64x64]', type=PATH,
    metavar='PKL')
@click.option('--outdir',   help='Where to leave publish.json', default='out/benchmark', show_default=True,
                            type=PATH, metavar='DIR')
def main(network, outdir):
    """Measure a page of `sarigan publish` in headless Chromium, by WebAssembly on one thread: milliseconds from the
    request, with an empty cache, to the first picture, and from a step of a slider to the picture that shows it; bytes
    of the site; and the largest difference from PyTorch's images, in levels of 255, of 20 seeds with edits."""
    if CHROMIUM is None:
        raise click.ClickException('No Chromium was found: apt-get install chromium.')
    with tempfile.TemporaryDirectory() as folder, browsing() as browser:
        network = network or str(untrained(Path(folder), 64)[0])
        G = reading.load(network, '--network')
        made = site.contents(G, names.load(network, G), os.path.basename(network))
        site.write(made, os.path.join(folder, 'site'))
        with serving(os.path.join(folder, 'site')) as address:
            first, steps = zip(*[measure(browser, address) for _page in range(PAGES)])
            differences = compare(browser, address, G)
    steps = [step for page in steps for step in page]
    row = dict(network=network, resolution=G.img_resolution, first=first, steps=steps, differences=differences,
        site_bytes=sum(map(len, made.values())), model_bytes=len(made[site.MODEL]),
        billion_products=site.products_of(G) / 1e9)
    for what, values in [('first picture, ms', first), ('step, ms', steps), ('difference, levels', differences)]:
        print(f'{what:20} median {statistics.median(values):7.0f}   largest {max(values):7.0f}')
    print(f'{"site, MB":20} {row["site_bytes"] / 1e6:.1f}, of which the network {row["model_bytes"] / 1e6:.1f}')
    print(f'{"multiplications":20} {row["billion_products"]:.2f} billion for one image')
    os.makedirs(outdir, exist_ok=True)
    Path(outdir, 'publish.json').write_text(json.dumps(row, indent=2) + '\n', encoding='utf-8')

def measure(browser, address):
    """One visit with an empty cache. Returns (milliseconds to the first picture, [those of each step])."""
    with contextlib.closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto(address, wait_until='commit')
        page.locator(DRAWN).wait_for()
        first = page.evaluate('performance.now()')
        page.get_by_role('slider', name='Times', exact=True).focus()
        steps = []
        for _step in range(STEPS // PAGES):
            step = page.evaluate_handle(STEP)
            page.keyboard.press('ArrowLeft')
            steps.append(step.evaluate('step => step.taken'))
        return first, steps

def compare(browser, address, G):
    """The largest difference of each of some seeds, with edits, in levels."""
    with contextlib.closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto(address)
        page.locator(DRAWN).wait_for()
        return [_difference(page, G, recipe) for recipe in _recipes(G)]

def _recipes(G):
    choose = random.Random(0)
    layers = grouped_layers(G.synthesis)
    for seed in range(SEEDS):
        edits = []
        for name, layer, _source in choose.sample(layers, 2):
            group = choose.choice(layer.grouping.assignment.unique().tolist())
            edits.append(Edit(name, group, round(choose.uniform(-2, 3), 2), round(choose.uniform(-1, 1), 2),
                intra_seed=choose.randrange(10**6), intra_mix=round(choose.random(), 2)))
        yield EditRecipe(edits, [seed], 0.7)

def _difference(page, G, recipe):
    link = '#recipe=' + base64.urlsafe_b64encode(recipe.content).decode().rstrip('=')
    before = page.locator('body').get_attribute('data-drawn')
    page.evaluate('link => { location.hash = link; }', link)
    page.locator(f"body:not([data-drawn='{before}'])").wait_for()
    address = page.evaluate('document.getElementById("after").toDataURL()')
    shown = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(address.partition(',')[2]))).convert('RGB'))
    return int(np.abs(shown.astype(int) - recipe.render(G)[0]).max())

if __name__ == '__main__':
    main()
