"""Makes pictures of the documents anew, with a network of the box: all of them, or those that are named.

    python docs/pictures.py
    python docs/pictures.py page.gif edit.png

Each page says under its picture which command makes it. What stands in COMMANDS and CODE needs nothing but sarigan, so
whoever reads the page gets the same picture. BROWSER needs Chromium and Playwright, and the benchmarks beside it. NEEDS
says what else must be in the working folder; without it, and without a name, such a picture stays as it is.
After another network has gone into the box, choose its groups here; tests tell you which texts to follow up.
"""

import contextlib
import functools
import importlib
import io
import os
import re
import runpy
import shlex
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import PIL.Image

from sarigan_plugin.ablation import report, table_spec
from sarigan_plugin.cli import main as sarigan
from sarigan_plugin.evaluation import exchanges
from sarigan_plugin.steering import attention, groupings, names, sampling
from sarigan_plugin.support import pictures

DOCS    = Path(__file__).resolve().parent
NETWORK = 'drawn64'
GROUP   = 'hat'                 # The name of one that shows well,
MIXED   = 'skin'                # and of one that does so in other images' styles.
TURNED  = ['hat', 'eyes']       # Those that page.gif turns, one after the other,
SEED    = 4                     # in the image of this seed.

# Picture -> (what is typed after `sarigan`, the file that it leaves in its folder).
COMMANDS = {
    'strip.png':        (f'groups {NETWORK} --outdir=out/groups', 'strip.png'),
    'directions.png':   (f'directions {NETWORK} --layer=linked --outdir=out/directions', 'directions.png'),
    'edit.png':         (f'edit {NETWORK} --group={GROUP} --inter=0 --outdir=out/{GROUP}', 'difference.png'),
    'mix.png':          (f'mix {NETWORK} --group={MIXED} --rows=0-3 --cols=10-15 --outdir=out/mix', 'grid.png'),
    'project.png':      (f'project {NETWORK} --target=head/00000/img00000000.png --outdir=out/p', 'projection.png'),
}
HEAD = 'data drawn --resolution=64 --num=1 --seed=7 --dest=head.zip' # That project.png is of; in no training data.

#----------------------------------------------------------------------------
# By our commands.

def run(line, folder):
    """One of our commands, in a folder."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        sarigan(shlex.split(line), standalone_mode=False)
    finally:
        os.chdir(before)

def by_command(name, path):
    line, made = COMMANDS[name]
    with tempfile.TemporaryDirectory() as folder:
        if name == 'project.png':
            run(HEAD, folder)
            with zipfile.ZipFile(Path(folder, 'head.zip')) as f:
                f.extractall(Path(folder, 'head'))
        run(line, folder)
        outdir = next(word for word in shlex.split(line) if word.startswith('--outdir=')).partition('=')[2]
        shutil.copyfile(Path(folder, outdir, made), path)

def first_layer(path):
    """The first block of groups.png of `sarigan groups`."""
    G = groupings.load(NETWORK, 'NETWORK')
    surveyed = attention.survey(G, sampling.sample_ws(G, range(6)))
    layer, *_others = attention.describe(G, surveyed, attention.group_effects(G, sampling.sample_ws(G, [0])),
        names.load(NETWORK, G))
    pictures.save(attention.draw_groups(surveyed, [layer], attention.draw_overlays(surveyed)), str(path))

def turning(path):
    runpy.run_path(str(DOCS.parent / 'examples' / 'turning.py'))['main'](str(path))

SHOWN = 20 # Heads of attributes.png.

def by_attribute(path):
    """Heads as they are, and below with one group after the other of the head on their left."""
    G = groupings.load('drawn16', 'NETWORK')
    pictures.save(exchanges.draw(G, sampling.sample_ws(G, range(SHOWN), trunc=1), names.load('drawn16', G)), str(path))

def quality(path):
    """The chart of `sarigan ablate quality`, with the distances that results.md tells of."""
    table = (DOCS / 'results.md').read_text().partition('| ratio, 95% interval |\n')[2].partition('\n\n')[0]
    rows = []
    for line in table.splitlines()[1:]:
        label, *cells, _ratio = [cell.strip().replace('`', '') for cell in line.strip('|').split('|')]
        measured = {seed: dict(value=int(distance), floor=8.0)
            for seed, distance in enumerate(re.findall(r'\d+', ' '.join(cells)), start=100)}
        rows.append(dict(label=label, paper=None, figures={'fd10k_lite0': report.over_seeds(measured)}))
    spec = table_spec.read(DOCS.parent / 'configs' / 'ablations' / 'quality.toml', 'tiny')
    pictures.save(report.chart(spec, rows, 'tiny, 200 kimg of punks.zip, seeds 100 to 107'), str(path))

#----------------------------------------------------------------------------
# Of pages, as a browser shows them.

SIZE    = dict(width=1120, height=740)
COLOURS = 112
PAUSE   = 900   # Milliseconds that a frame stays where a hand would rest,
MOVING  = 110   # and others.
STEPS   = 4     # Of a slider between two frames.

def tools(name):
    """A module of the benchmarks, which know how to serve and visit pages."""
    benchmarks = str(DOCS.parent / 'benchmarks')
    if benchmarks not in sys.path:
        sys.path.append(benchmarks)
    return importlib.import_module(name)

@contextlib.contextmanager
def published():
    """The address of a site of NETWORK."""
    with tempfile.TemporaryDirectory() as folder:
        run(f'publish {NETWORK} --title={NETWORK} --outdir=site', folder)
        with tools('publish').serving(Path(folder, 'site')) as address:
            yield address

@contextlib.contextmanager
def visited(address, size):
    with tools('explore').browsing() as browser, contextlib.closing(browser.new_context(viewport=size)) as context:
        context.set_default_timeout(300_000)
        page = context.new_page()
        page.goto(address)
        yield page

def drawn_after(page, act):
    """Do something and wait until the page shows the image that comes of it."""
    before = page.locator('body').get_attribute('data-drawn')
    act()
    page.locator(f"body[data-drawn]:not([data-drawn='{before}'])").wait_for()

def press(page, key, times):
    for _time in range(times):
        drawn_after(page, lambda: page.keyboard.press(key))

def choose_seed(page, seed):
    box = page.get_by_label('Seed of the image', exact=True)
    box.fill(str(seed))
    drawn_after(page, lambda: box.press('Enter'))

def group_button(page, name):
    return page.locator('button.tile', has_text=name).first

def frames_of(page):
    """Yields (a picture of the whole page, milliseconds): some groups turned off, up and back to where they were."""
    page.locator('body[data-drawn]').wait_for()
    choose_seed(page, SEED)
    yield page.screenshot(), PAUSE
    page.get_by_text('Attention', exact=True).click()
    for name in TURNED:
        group_button(page, name).click()
        page.get_by_role('slider', name='Times', exact=True).focus()
        yield page.screenshot(), PAUSE
        for key, distance in [('ArrowLeft', 20), ('ArrowRight', 40), ('ArrowLeft', 20)]: # 1, 0, 2, 1.
            for _frame in range(distance // STEPS):
                press(page, key, STEPS)
                yield page.screenshot(), MOVING
            yield page.screenshot(), PAUSE

def page_moving(path):
    """An editor of `sarigan publish` at work, as a GIF that goes round for ever."""
    with published() as address, visited(address, SIZE) as page:
        content, milliseconds = zip(*frames_of(page))
    frames = [opened(frame) for frame in content]
    palette = palette_of(frames)
    first, *rest = [frame.quantize(palette=palette, dither=PIL.Image.Dither.NONE) for frame in frames]
    first.save(path, save_all=True, append_images=rest, duration=list(milliseconds), loop=0, optimize=True)

def opened(content):
    with PIL.Image.open(io.BytesIO(content)) as image:
        return image.convert('RGB')

def palette_of(frames):
    """One palette for all frames: what does not move then stays the same to the bit, and takes no room."""
    some = frames[::max(len(frames) // 8, 1)]
    sheet = PIL.Image.new('RGB', (some[0].width, some[0].height * len(some)))
    for index, frame in enumerate(some):
        sheet.paste(frame, (0, index * frame.height))
    return sheet.quantize(COLOURS, dither=PIL.Image.Dither.NONE)

def page_published(path):
    with published() as address, visited(address, dict(width=1280, height=800)) as page:
        page.locator('body[data-drawn]').wait_for()
        choose_seed(page, SEED)
        group_button(page, GROUP).click()
        page.get_by_role('slider', name='Times', exact=True).focus()
        press(page, 'ArrowLeft', 20)
        page.screenshot(path=path)

def page_explore(path):
    explore = tools('explore')
    with (tempfile.TemporaryDirectory() as folder,
            explore.serving(NETWORK, f'--outdir={folder}') as (address, _process),
            visited(address, dict(width=1280, height=800)) as page):
        page.wait_for_function(explore.FIRST_IMAGE)
        page.wait_for_load_state('networkidle')
        group_button(page, GROUP).click()
        explore.slider(page, 'Times').focus()
        for _step in range(20): # From 1 to 0.
            step = page.evaluate_handle(explore.STEP)
            page.keyboard.press('ArrowLeft')
            step.evaluate('step => step.taken')
        page.wait_for_load_state('networkidle')
        page.screenshot(path=path)

PHOTO   = 9900                                                              # Held out from training.
STROKES = [[(0.38, 0.36), (0.62, 0.36), (0.68, 0.5)], [(0.5, 0.76), (0.66, 0.76)]]  # On it, from (0, 0) to (1, 1).

def filled_after(page, act):
    """Do something and wait until the picture on the right has changed."""
    page.wait_for_load_state('networkidle')
    before = page.locator('figure img').nth(1).get_attribute('src')
    act()
    page.wait_for_function("before => document.querySelectorAll('figure img')[1].src !== before", arg=before)

def page_inpainting(path):
    """The page for networks that complete images, with painted holes."""
    explore = tools('explore')
    with (tempfile.TemporaryDirectory() as folder,
            explore.serving('inpainting.pkl', '--images=punks.zip', f'--outdir={folder}') as (address, _process),
            visited(address, dict(width=1280, height=860)) as page):
        page.wait_for_function(explore.FIRST_IMAGE)
        number = page.get_by_label('Photo, by its number', exact=True)
        number.fill(str(PHOTO))
        filled_after(page, lambda: number.press('Enter'))
        for stroke in STROKES:
            filled_after(page, functools.partial(explore.paint, page, *stroke))
        page.wait_for_load_state('networkidle')
        page.screenshot(path=path)

CODE = {'groups.png': first_layer, 'turning.gif': turning, 'attributes.png': by_attribute,
    'results-quality.png': quality}
BROWSER = {'page.gif': page_moving, 'publish.png': page_published, 'explore.png': page_explore,
    'inpainting.png': page_inpainting}
NEEDS = {'inpainting.png': ['inpainting.pkl', 'punks.zip']} # Its page says what.
ALL = {**{name: functools.partial(by_command, name) for name in COMMANDS}, **CODE, **BROWSER}

#----------------------------------------------------------------------------

def main(wanted):
    unknown = [name for name in wanted if name not in ALL]
    if unknown:
        raise SystemExit(f'There is no picture {unknown[0]!r}; they are {", ".join(ALL)}.')
    lacking = {name: [file for file in files if not os.path.exists(file)] for name, files in NEEDS.items()}
    for name in wanted:
        if lacking.get(name):
            raise SystemExit(f'{name}: {" and ".join(lacking[name])} must be in the working folder; its page says how '
                'to make them.')
    for name in wanted or [name for name in ALL if not lacking.get(name)]:
        ALL[name](DOCS / name)
        print(f'{name}: {(DOCS / name).stat().st_size:,} bytes')

if __name__ == '__main__':
    main(sys.argv[1:])
