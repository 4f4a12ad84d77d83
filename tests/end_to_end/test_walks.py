"""Every command line that README and docs show runs, in the order of its page, as somebody who follows it would type
it: in a scratch folder that has small stand-ins for what they bring along. Otherwise it is in a table here, which says
why it doesn't and which test runs it.

Most pages take a minute each: -m slow, and -k with a part of the page's name.
"""

import re
from typing import NamedTuple

import click
import pytest

import command_lines
import reader
import trees
from command_lines import TREE

PAGES = ['README.md', *sorted(f'docs/{path.name}' for path in (trees.ROOT / 'docs').glob('*.md'))]

def in_its_folder(line, text):
    """Upstream's scripts run in upstream's tree, if the page says so."""
    script = next((word for word in line.words if word.endswith('.py')), '')
    if (trees.ROOT / TREE / script).is_file() and re.search(rf'in\s`{TREE}/`', text):
        return line._replace(folder=TREE)
    return line

def lines_of(page):
    text = (trees.ROOT / page).read_text()
    return [in_its_folder(line, text) for line in command_lines.of_page(text)]

LINES = {page: lines_of(page) for page in PAGES}

#----------------------------------------------------------------------------
# What readers of a page bring along, from their home folder, which is where they type.

def seeds(row, make):
    """Networks of three trainings."""
    return {f'{row}-{seed}.pkl': make for seed in range(3)}

BRINGS = {
    'README.md': {'network.pkl': reader.DRAWN64, 'photo.jpg': reader.photo, 'stylegan2.pkl': reader.stylegan2,
        'photos': reader.photos, 'masks': reader.holes, 'inpainting.pkl': reader.inpainter},
    'docs/ablations.md': {'punks.zip': reader.heads(32), 'datasets/cats256.zip': reader.cars},
    'docs/box.md': {'drawn.zip': reader.heads(16), 'RUN/network-snapshot-002000.pkl': reader.snapshot,
        'sarigan_plugin/box/drawn32': reader.boxed_folder},
    'docs/datasets.md': {'photos': reader.photos, 'animals': reader.pets, 'cars.zip': reader.cars,
        'pictures': reader.photos, 'downloads/lsun/raw/cat_lmdb': reader.cat_lmdb,
        'downloads/lsun/raw/car_lmdb': reader.car_lmdb, 'downloads/ffhq/images1024x1024': reader.faces,
        'downloads/paris_train_original': reader.streets},
    'docs/demo.md': {'out/demo/network.pkl': reader.DRAWN64},
    'docs/disentanglement.md': {'punks.zip': reader.heads(32), 'sarigan.pkl': reader.DRAWN32,
        'styles.pkl': reader.DRAWN32, 'codes.pkl': reader.DRAWN32, 'stylegan2.pkl': reader.stylegan2,
        **seeds('styles', reader.DRAWN32), **seeds('sarigan', reader.DRAWN32), **seeds('stylegan2', reader.stylegan2)},
    'docs/editing.md': {'later.pkl': reader.DRAWN64},
    'docs/explore.md': {'out/demo/network.pkl': reader.DRAWN64, 'inpainting.pkl': reader.inpainter,
        'photos': reader.photos, 'out/explore/0001-photo.png': reader.photo, 'out/explore/0001-mask.png': reader.hole,
        'out/explore/0001.json': reader.recipe},
    'docs/groups-by-effect.md': {'network.pkl': reader.DRAWN32, 'stylegan2.pkl': reader.stylegan2,
        'heads.zip': reader.heads(32), 'inpainting.pkl': reader.inpainter, 'punks.zip': reader.heads(32)},
    'docs/inpainting.md': {'inpainting.pkl': reader.inpainter, 'photos': reader.photos, 'masks': reader.holes,
        'cut-out.png': reader.cut_out, 'edit.json': reader.recipe, 'punks.zip': reader.heads(32),
        'sarigan.pkl': reader.inpainter, 'stylegan2.pkl': reader.inpainter, 'datasets/psv256.zip': reader.heads(64),
        'downloads/paris_train_original': reader.streets, 'downloads/paris_eval_gt': reader.streets},
    'docs/log.md': {'punks.zip': reader.heads(32), **seeds('styles2', reader.DRAWN32),
        **seeds('styles', reader.DRAWN32), **seeds('stylegan2', reader.stylegan2)},
    'docs/many-machines.md': {'cats256.zip': reader.heads(16), 'small.toml': reader.config},
    'docs/metrics.md': {'network.pkl': reader.DRAWN32, 'punks.zip': reader.heads(32), 'mine.pt': reader.detector},
    'docs/onnx.md': {'network.pkl': reader.DRAWN32},
    'docs/performance.md': {'punks.zip': reader.heads(32)},
    'docs/projecting.md': {'network.pkl': reader.DRAWN64, 'photo.jpg': reader.photo},
    'docs/publish.md': {'out/demo/network.pkl': reader.DRAWN32, 'networks/network.pkl': reader.DRAWN32,
        'network.pkl': reader.DRAWN32},
    'docs/reliability.md': {'network.pkl': reader.stylegan2, 'theirs.pt': reader.rosinality,
        'untrusted.pkl': reader.DRAWN32},
    'docs/results.md': {'punks.zip': reader.heads(32)},
    'docs/works-with.md': {'network.pkl': reader.stylegan2},
}

#----------------------------------------------------------------------------
# Tables. Their first column is looked for in 'PAGE: LINE', as a regular expression.

class Smaller(NamedTuple):
    """What a line says becomes this, so that it takes seconds: options that replace those of the same name."""
    lines: str
    options: str
    why: str

SMALLER = [
    Smaller(r' sarigan project ', '--num-steps=2', 'A minute each.'),
    Smaller(r' sarigan (directions|groups|generate|edit(?!.*--projected-w)) ', '--seeds=0,1',
        'Six or 36 images say no more than two.'),
    Smaller(r' sarigan mix ', '--rows=0,1 --cols=10,11', 'The same of 24.'),
    Smaller(r' sarigan regroup ', '--seeds=0,1 --quick', 'A minute and more with 32 images.'),
    Smaller(r' sarigan data drawn .*(--num=20000|32\.zip|64\.zip)', '--num=40', '20,000 pictures take a minute.'),
    Smaller(r'README.md: sarigan data folder ', '--resolution=64', 'As large as the images of the network here.'),
    Smaller(r' sarigan metrics ', '--num-samples=20', 'Of 10,000 images minutes.'),
    Smaller(r' sarigan disentanglement ', '--num-images=100 --num-turned=2 --measures=attributes,codes',
        'Minutes with 4,096.'),
    Smaller(r' (python train.py|sarigan train) .*(--gpus=8|--cfg=sarigan-ada)', '--device=cpu --dry-run',
        'For GPUs. What is said of options and data set is the same.'),
    Smaller(r' (srun )?torchrun ', '--nnodes=1 --nproc_per_node=2 --rdzv_endpoint=127.0.0.1:0 --max-restarts=0 '
        '--data=../cats256.zip --outdir=training-runs --device=cpu --dry-run',
        'One machine, without GPUs. tests/end_to_end/test_torchrun.py trains with several.'),
    Smaller(r' sarigan train .*--cfg=(tiny|drawn)', '--kimg=1 --metrics=none', 'Hours.'),
    Smaller(r' --resume=small/', '--resume=small/00000-drawn32-drawn32-kimg1/network-snapshot-000001.pkl',
        'What a training of one kimg leaves.'),
    Smaller(r'ablations.md: sarigan ablate info --setting=tiny', '--rows=stylegan2,sarigan --seeds=0 --kimg=1 '
        '--num-samples=20 --metrics=kd_lite0', 'Hours.'),
    Smaller(r'(ablations.md: .*--gpus=4|(results|performance).md: sarigan ablate)', '--gpus=1 --dry-run',
        'Hours or weeks. The page of ablations trains a table.'),
    Smaller(r' sarigan inpaint-table ', '--seeds=0', 'Four seeds.'),
    Smaller(r' sarigan inpaint-table .*psv256', '--data=punks.zip', 'As large as the images of the networks here.'),
    Smaller(r' python benchmarks/scaling.py ', '--gpus=1,2 --cfg=small.toml --kimg=3 --repeats=1',
        'A day on eight GPUs. Three ticks are the least that it measures.'),
]

class Explained(NamedTuple):
    """A line that does not run here, why, and what runs it instead: a test, or a line of another page."""
    lines: str
    why: str
    instead: str

EXPLAINED = [
    Explained(r' (\./install.sh( demo| test( .*)?)?|source .*activate|pip install .*)$', 'Installs, or runs all tests.',
        'tests/end_to_end/test_install.py'),
    Explained(r'log.md: sarigan ablate norm.toml ', 'Made the picture of a norm that is no option any more.', ''),
    Explained(r' sarigan data punks ', 'Downloads.', 'tests/datasets/test_data.py'),
    Explained(r'fid50k_full', "Downloads NVIDIA's Inception, and makes 50,000 images.",
        'tests/evaluation/test_quality.py'),
    Explained(r'md: (git|hf|ssh|scontrol|head) ', "Another program's.", ''),
    Explained(r' python docs/pictures.py ', 'Needs Chromium, and a minute.', 'tests/explore/test_explore_server.py'),
    Explained(r' python benchmarks/(?!scaling|ops)', 'Measures for minutes, some with a browser or a GPU.',
        'tests/end_to_end/test_benchmarks.py'),
    Explained(r' python benchmarks/ops.py ', 'Needs a GPU.', 'tests/acceleration/test_gpu.py'),
    Explained(r' python legacy.py$', 'Converts pickles of TensorFlow, of which there is no small one.',
        'tests/snapshots/test_what_is.py'),
]

def label(page, line):
    return f'{page}: {line.text}'

def explained(page, line):
    return any(re.search(entry.lines, label(page, line)) for entry in EXPLAINED)

def smaller(page, line):
    """The line as it runs here."""
    words = list(line.words)
    for entry in SMALLER:
        if re.search(entry.lines, label(page, line)):
            for option in entry.options.split():
                name = option.partition('=')[0]
                place = next((place for place, word in enumerate(words) if word.partition('=')[0] == name), len(words))
                value_follows = '=' in option and words[place:] and '=' not in words[place]
                words[place:place + (2 if value_follows else 1)] = [option]
    return line._replace(words=words)

def to_run(page):
    """The lines of a page that a walk runs, as it does."""
    return [smaller(page, line) for line in LINES[page] if not line.names_options_alone and not explained(page, line)]

#----------------------------------------------------------------------------

def walk(page, folder, monkeypatch, lines):
    follower = reader.Reader(folder, monkeypatch)
    follower.brings(BRINGS.get(page, {}))
    for line in lines:
        follower.types(line)

SHORT = {'README.md'}
TAKES_LONG = (r'sarigan (explore|train|publish|export|metrics|inpaint|regroup|data folder|'
    r'(groups|edit|directions|mix|project) drawn64) |python train')

@pytest.mark.parametrize('page', sorted(SHORT))
def test_most_of_a_short_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    lines = [line for line in to_run(page) if not re.search(TAKES_LONG, line.text)]
    assert lines
    walk(page, tmp_path, monkeypatch, lines)

@pytest.mark.slow
@pytest.mark.parametrize('page', [page for page in PAGES if to_run(page)])
def test_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    walk(page, tmp_path, monkeypatch, to_run(page))

@pytest.mark.parametrize('page', PAGES)
def test_every_command_line_is_run_or_explained_and_our_options_exist(page):
    for line in LINES[page]:
        if line.ours and '...' not in line.words:
            try:
                command_lines.take(line.ours)
            except (click.MissingParameter, click.BadOptionUsage):
                assert line.names_options_alone, line.text
        if not line.names_options_alone and not explained(page, line):
            assert line.words[0] in ['sarigan', 'python', 'torchrun', 'srun'], f'{label(page, line)}: run or explain it'

def test_the_tables_have_no_entry_that_nothing_needs():
    lines = [label(page, line) for page in PAGES for line in LINES[page]]
    for entry in [*SMALLER, *EXPLAINED]:
        assert any(re.search(entry.lines, line) for line in lines), entry
        assert entry.why
    for entry in EXPLAINED:
        assert not entry.instead or (trees.ROOT / entry.instead).is_file(), entry
    assert set(BRINGS) <= set(PAGES)
    for page, makers in BRINGS.items():
        shown = ' '.join(line.text for line in to_run(page))
        for name in makers:
            assert name in shown, f'{page} shows no {name}'
