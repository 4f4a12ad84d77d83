"""The Python in docstrings and in the docs runs as it stands, with a network where it looks for it. test_walks.py runs
command lines; here is how they are read."""

import doctest
import importlib
import pickle
import re

import click
import PIL.Image
import pytest

import command_lines
import small_images
import trees
from sarigan_plugin.model import inpainting
from small_networks import SIZE

MODULES = sorted('.'.join(path.relative_to(trees.ROOT).with_suffix('').parts)
    for path in (trees.ROOT / 'sarigan_plugin').rglob('*.py') if '>>> ' in path.read_text())
DOCUMENTS = [trees.ROOT / 'README.md', *sorted((trees.ROOT / 'docs').rglob('*.md'))]
PAGES = [path for path in DOCUMENTS if '```python\n' in path.read_text()
    and path.name != 'onnx.md'] # Runs where networks are exported, in tests/publish/test_onnx_file.py.

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
    for code in re.findall(r'```python\n(.*?)```', page.read_text(), flags=re.DOTALL):
        exec(compile(code, page.name, 'exec'), {})

def test_command_lines_are_found_and_read_as_a_shell_reads_them():
    page = """
`sarigan list` and `sarigan edit
--recipe=x.json` are in a sentence, `edit.json` is none.

```bash
tiny="--setting=tiny --data=punks.zip"
sarigan ablate info $tiny \\
    --outdir=out                # A comment, with --no-option.
(cd stylegan2-ada-pytorch && python train.py --outdir=~/out --data ~/x.zip)
sarigan disentanglement {a,b}.pkl && .venv/bin/sarigan list
```

```toml
cfg = "sarigan"
```
"""
    assert [(line.text, line.folder, line.block) for line in command_lines.of_page(page)] == [
        ('sarigan edit --recipe=x.json', '.', False),
        ('sarigan ablate info --setting=tiny --data=punks.zip --outdir=out', '.', True),
        ('python train.py --outdir=~/out --data ~/x.zip', command_lines.TREE, True),
        ('sarigan disentanglement a.pkl b.pkl', '.', True),
        ('sarigan list', '.', True)]

@pytest.mark.parametrize('code, alone', [('sarigan edit --recipe', True), ('sarigan edit --recipe=x.json', True),
    ('sarigan list --help', False), ('sarigan ablate info ...', True), ('sarigan groups drawn64 --outdir=out', False),
    ('git switch main', False)])
def test_options_that_a_sentence_names_are_no_command_line(code, alone):
    line, = command_lines.of_page(f'As `{code}` says.')
    assert line.names_options_alone is alone
    assert not line._replace(block=True).names_options_alone

@pytest.mark.parametrize('line', ['edit network.pkl --outdir=out --volume=2', 'edit network.pkl', 'paint network.pkl',
    'generate --network=a.pkl --outdir=b --seeds=x', 'train --data=a.zip --outdir=b --cond=perhaps', 'data cats'])
def test_a_command_that_would_be_refused_is_noticed(line):
    with pytest.raises(click.ClickException):
        command_lines.take(line.split())

#----------------------------------------------------------------------------
