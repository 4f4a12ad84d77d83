"""How long a visitor of `sarigan explore` waits, in a real browser: for the first image, and for the image to follow a
slider, or the brush where the network completes images.

Run: python benchmarks/explore.py --resolutions=32,64
"""

import contextlib
import json
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from playwright.sync_api import sync_playwright

from common import ListOf, random_images
from sarigan_plugin.commands.options import PATH
from sarigan_plugin.trainer import arguments

import dnnlib  # Upstream's, importable by now.

CHROMIUM = next(filter(None, map(shutil.which, ['chromium', 'chromium-browser', 'google-chrome'])), None)
SWITCHES = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync']
PAGES, STEPS = 5, 30 # That are measured.

# Milliseconds since the page was requested at which both pictures were there.
FIRST_IMAGE = """() => {
    const pictures = [...document.querySelectorAll('figure img')];
    const isThere = picture => picture.complete && picture.naturalWidth > 0;
    return pictures.length === 2 && pictures.every(isThere) && performance.now();
}"""

# Milliseconds from a key on a slider, or from the end of a stroke, to another edited picture.
STEP = """() => {
    const picture = document.querySelectorAll('figure img')[1], before = picture.src;
    let pressed = 0;
    for (const kind of ['keydown', 'pointerup'])
        document.addEventListener(kind, () => { pressed = performance.now(); }, {once: true, capture: true});
    return {taken: new Promise(done => {
        const isNew = () => picture.src !== before && picture.complete;
        const look = () => isNew() ? done(performance.now() - pressed) : requestAnimationFrame(look);
        look();
    })};
}"""

#----------------------------------------------------------------------------

@contextlib.contextmanager
def serving(network, *options, command=(sys.executable, '-m', 'sarigan_plugin.cli')):
    """`sarigan explore` on a free port. Gives (address, process)."""
    # By which NiceGUI knows tests of its own.
    environment = {name: value for name, value in os.environ.items() if name != 'PYTEST_CURRENT_TEST'}
    words = [*command, 'explore', str(network), '--port=0', '--no-browser', '--device=cpu', *options]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = process.stdout.readline().split(' ')[0]
            if not address:
                raise click.ClickException(process.stderr.read())
            yield address, process
        finally:
            process.terminate()

@contextlib.contextmanager
def browsing(seconds=30):
    """A headless Chromium, which has so many seconds to start. Gives a Playwright browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES, timeout=seconds * 1000)
        yield browser
        browser.close()

def slider(page, label):
    return page.get_by_role('slider', name=label, exact=True).locator('.q-slider__track-container')

def paint(page, *places):
    """One stroke of the brush. places: on the picture, from (0, 0) to (1, 1)."""
    canvas = page.locator('.easel canvas').bounding_box()
    for index, (x, y) in enumerate(places):
        page.mouse.move(canvas['x'] + x * canvas['width'], canvas['y'] + y * canvas['height'])
        if index == 0:
            page.mouse.down()
    page.mouse.up()

#----------------------------------------------------------------------------

@click.command()
@click.option('--resolutions',  help='Of untrained networks, which take as long as trained ones',
                                type=ListOf(int, '32,64'), default='32,64', show_default=True, metavar='LIST')
@click.option('--cfgs',         help='Configs of these networks', type=ListOf(str, 'tiny,tiny-inpaint'),
                                default='tiny,tiny-inpaint', show_default=True, metavar='LIST')
@click.option('--network', 'networks', help='Measure this one as well; may be given again',
    multiple=True, metavar='PKL')
@click.option('--images',       help='Photos for these, if they complete images', metavar='DIR|ZIP|FILE')
@click.option('--outdir',       help='Where to leave explore.json', default='out/benchmark', show_default=True,
                                type=PATH, metavar='DIR')
def main(resolutions, cfgs, networks, images, outdir):
    """Measure the page of `sarigan explore` in headless Chromium: milliseconds from the request to the first image, and
    from a step of a slider, or the end of a stroke, to the image that shows it. Median and largest."""
    if CHROMIUM is None:
        raise click.ClickException('No Chromium was found: apt-get install chromium.')
    rows = []
    with tempfile.TemporaryDirectory() as folder, browsing() as browser:
        jobs = {f'untrained {cfg}, {resolution}x{resolution}': untrained(Path(folder), resolution, cfg)
            for resolution in resolutions for cfg in cfgs}
        jobs |= {path: (path, *([f'--images={images}'] if images is not None else [])) for path in networks}
        print(f'{"":40}{"first image, ms":>20}{"step, ms":>25}')
        for name, words in jobs.items():
            with serving(*words, f'--outdir={folder}') as (address, _process):
                first, steps = zip(*[measure(browser, address) for _page in range(PAGES)])
            steps = [step for page in steps for step in page]
            rows.append(dict(network=name, first=first, steps=steps))
            print(f'{name:40}{statistics.median(first):12.0f}{max(first):8.0f}'
                f'{statistics.median(steps):17.0f}{max(steps):8.0f}')
    os.makedirs(outdir, exist_ok=True)
    Path(outdir, 'explore.json').write_text(json.dumps(rows, indent=2) + '\n', encoding='utf-8')

def untrained(folder, resolution, cfg='tiny'):
    """A network pickle of a config, and the option that it needs where it completes images."""
    images = folder / f'images{resolution}'
    if not images.exists():
        random_images(images, resolution, number=4)
    _desc, args = arguments.training_options(data=str(images), cfg=cfg, gpus=1, metrics=[])
    completes = args.training_set_kwargs.class_name.endswith('InpaintingDataset')
    size = dict(c_dim=4 * resolution ** 2 if completes else 0, img_resolution=resolution, img_channels=3)
    G, D = (dnnlib.util.construct_class_by_name(**kwargs, **size) for kwargs in [args.G_kwargs, args.D_kwargs])
    path = folder / f'{cfg}{resolution}.pkl'
    path.write_bytes(pickle.dumps(dict(G=G, D=D, G_ema=G, training_set_kwargs=None, augment_pipe=None)))
    return (path, f'--images={images}') if completes else (path,)

def measure(browser, address):
    """One visit with an empty cache. Returns (milliseconds to the first image, [those of each step])."""
    with contextlib.closing(browser.new_context()) as context:
        page = context.new_page()
        page.goto(address, wait_until='commit')
        first = page.wait_for_function(FIRST_IMAGE).json_value()
        page.wait_for_load_state('networkidle')
        paints = page.locator('.easel').count() > 0
        if not paints:
            slider(page, 'Times').focus()
        steps = []
        for index in range(STEPS // PAGES):
            step = page.evaluate_handle(STEP)
            if paints:
                paint(page, *[(0.1 + 0.04 * place, 0.1 + 0.13 * index) for place in range(10)])
            else:
                page.keyboard.press('ArrowLeft' if index % 6 < 3 else 'ArrowRight')
            steps.append(step.evaluate('step => step.taken'))
        return first, steps

if __name__ == '__main__':
    main()
