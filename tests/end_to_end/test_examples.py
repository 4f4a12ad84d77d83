"""The Python in docstrings and in the docs runs as it stands, with a network where it looks for it. Of shell commands,
ours are parsed: each option exists and takes the value that is shown. Those of pages that one follows from top to
bottom run."""

import doctest
import importlib
import pickle
import re
import zipfile

import click
import PIL.Image
import pytest

import command_lines
import commands
import small_images
import trees
from sarigan_plugin.model import inpainting
from small_networks import SIZE

MODULES = sorted('.'.join(path.relative_to(trees.ROOT).with_suffix('').parts)
    for path in (trees.ROOT / 'sarigan_plugin').rglob('*.py') if '>>> ' in path.read_text())
DOCUMENTS = [trees.ROOT / 'README.md', *sorted((trees.ROOT / 'docs').rglob('*.md'))]
PAGES = [path for path in DOCUMENTS if '```python\n' in path.read_text()]
COMMANDS = [(path, words) for path in DOCUMENTS for words in command_lines.of_page(path.read_text())]

@pytest.fixture
def folder_with_a_network(network, tmp_path, monkeypatch):
    """network.pkl, inpainting.pkl, a photo with a hole and punks.zip in the working folder;
    out/demo/network.pkl as `sarigan demo` leaves it."""
    size = dict(img_resolution=32, img_channels=3, c_dim=4 * 32 * 32, code_dim=32)
    G = inpainting.Generator(z_dim=32, num_groups=4, mapping_kwargs=dict(num_layers=2), synthesis_kwargs=SIZE,
        **size).eval().requires_grad_(False)
    (tmp_path / 'inpainting.pkl').write_bytes(
        pickle.dumps(dict(G=G, D=inpainting.Discriminator(**size, **SIZE), G_ema=G)))
    photo = PIL.Image.new('RGBA', (40, 30), (200, 100, 50, 255))
    photo.paste((0, 0, 0, 0), (10, 10, 20, 20))
    photo.save(tmp_path / 'photo.png')
    small_images.save_images(tmp_path / 'punks.zip')
    demo = tmp_path / 'out' / 'demo'
    demo.mkdir(parents=True)
    (demo / 'network.pkl').write_bytes(network.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path / 'cache'))

@pytest.mark.usefixtures('folder_with_a_network')
@pytest.mark.parametrize('name', MODULES)
def test_docstrings_say_what_happens(name):
    failed, tried = doctest.testmod(importlib.import_module(name),
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert tried > 0 and failed == 0

@pytest.mark.usefixtures('folder_with_a_network')
@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_python_in_the_docs_runs(page):
    if page.name == 'onnx.md':
        assert commands.run('export', 'network.pkl', '--to=network.onnx').exit_code == 0
    for code in re.findall(r'```python\n(.*?)```', page.read_text(), flags=re.DOTALL):
        exec(compile(code, page.name, 'exec'), {})

@pytest.mark.parametrize('words', [pytest.param(words, id=f'{path.name}: {" ".join(words)}')
    for path, words in COMMANDS])
def test_commands_in_the_docs_are_taken(words):
    command_lines.take(words)

# Pages that a reader follows from top to bottom, and what makes a command cheap that would take a minute.
WALKS = ['README.md', 'docs/editing.md', 'docs/demo.md', 'docs/projecting.md']
CHEAPER = {'project': ['--num-steps=2'], 'directions': ['--seeds=0,1'], 'generate': ['--seeds=0,1']}
ELSEWHERE = {       # What other tests run:
    'explore',      # tests/explore; a server.
    'train',        # test_train.py.
    'inpaint',      # tests/steering/test_inpaint.py; another kind of network.
    'metrics',      # tests/evaluation; a detector is downloaded.
    'export',       # tests/publish/test_onnx_file.py; half a minute.
    'publish',      # tests/publish; the runtime of browsers is downloaded.
    'data folder',  # tests/datasets/test_folder.py.
}

@pytest.mark.parametrize('page', WALKS)
def test_commands_of_a_page_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'out' / 'demo').mkdir(parents=True)
    for network in ['network.pkl', 'out/demo/network.pkl']:
        assert commands.run('import', 'drawn64', f'--to={network}').exit_code == 0
    small_images.noise(48, 64).save('photo.jpg')
    ran = 0
    for words in command_lines.of_page((trees.ROOT / page).read_text()):
        if words[0] in ELSEWHERE or ' '.join(words[:2]) in ELSEWHERE:
            continue
        if words[0] == 'import':
            for made in tmp_path.glob('network.*'):
                made.unlink()
        done = commands.run(*words, *CHEAPER.get(words[0], []))
        assert done.exit_code == 0, (words, done.output)
        if words[:2] == ['data', 'drawn']: # What follows on the page: python -m zipfile -e head.zip head
            zipfile.ZipFile('head.zip').extractall('head')
        ran += 1
    assert ran > 0

def test_commands_are_found_and_read_as_a_shell_reads_them():
    page = """
```bash
tiny="--setting=tiny --data=punks.zip"
sarigan ablate info $tiny \\
    --outdir=out                # A comment, with --no-option.
cd stylegan2-ada-pytorch && python train.py --outdir=out --data=x.zip
python calc_metrics.py --network=x.pkl
```
"""
    assert command_lines.of_page(page) == [
        ['ablate', 'info', '--setting=tiny', '--data=punks.zip', '--outdir=out'],
        ['train', '--outdir=out', '--data=x.zip']]

@pytest.mark.parametrize('line', ['edit network.pkl --outdir=out --volume=2', 'edit network.pkl', 'paint network.pkl',
    'generate --network=a.pkl --outdir=b --seeds=x', 'train --data=a.zip --outdir=b --cond=perhaps', 'data cats'])
def test_a_command_that_would_be_refused_is_noticed(line):
    with pytest.raises(click.ClickException):
        command_lines.take(line.split())

#----------------------------------------------------------------------------
