"""The folder of `sarigan publish`: what is in it, and what is refused."""

import builtins
import json
import re

import pytest

from commands import run, sentence
from sarigan_plugin.errors import UserError
from sarigan_plugin.publish import site
from sarigan_plugin.support import look
from small_networks import make_inpainter, write_network

#----------------------------------------------------------------------------
# What is in it.

def test_the_page_may_load_nothing_from_elsewhere_and_names_files_that_are_there():
    made = site.page()
    html = made['index.html'].decode()
    policy = re.sub(r'\s+', ' ', re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1])
    assert policy.startswith("default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self';")
    assert "connect-src 'self';" in policy and '*' not in policy and 'http' not in policy
    named = set(re.findall(r'(?:href|src)="([^"]+)"', html)) - {'data:,'}
    scripts = {name: made[name].decode() for name in site.SCRIPTS}
    for text in scripts.values():
        named |= {name.removeprefix('./') for name in re.findall(r"(?:from|import\() ?'(\./[^']+)'", text)}
        assert not re.search(r'https?://', text) # Neither in code nor as advice.
    assert named == {*site.SCRIPTS, 'page.css', 'licenses.txt'} - {'worker.js'}
    assert "'worker.js'" in scripts['page.js']

def test_it_looks_like_the_other_pages():
    assert site.page()['page.css'].decode().startswith(look.editor_css())
    assert look.editor_css().startswith(look.css())

def test_the_licence_of_the_runtime_lies_beside_it():
    text = site.page()['licenses.txt'].decode()
    assert 'ONNX Runtime Web 1.' in text and 'Copyright (c) Microsoft Corporation' in text and '@' not in text

#----------------------------------------------------------------------------
# The folder.

def old_site(folder):
    """A site of ours, of an earlier version, kept by a host."""
    made = {name: name.encode() for name in ['index.html', 'old.js', 'runtime/old.wasm.gz']}
    made['network.json'] = json.dumps(dict(format=site.FORMAT, files=[*made, 'network.json', '../outside'])).encode()
    site.write(made, str(folder))
    (folder / '.git').mkdir()
    (folder / '.git' / 'HEAD').write_text('ref')
    (folder / 'CNAME').write_text('example.org')
    return folder

def test_a_site_is_replaced_by_force_alone_and_what_its_host_needs_stays(tmp_path):
    folder, outside = old_site(tmp_path / 'site'), tmp_path / 'outside'
    outside.write_text('stays')
    with pytest.raises(UserError, match='is a site already; --force replaces it.'):
        site.check_outdir(str(folder), force=False)
    site.check_outdir(str(folder), force=True)
    new = {'index.html': b'new', 'runtime/new.wasm.gz': b'', 'network.json': b'{}'}
    site.write(new, str(folder))
    left = {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}
    assert left == {*new, '.git/HEAD', 'CNAME'}
    assert (folder / 'index.html').read_bytes() == b'new' and outside.read_text() == 'stays'
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith('.writing')] == []

@pytest.mark.parametrize('force', [[], ['--force']])
def test_a_folder_with_other_files_is_refused_and_they_are_named(network, tmp_path, force):
    folder = old_site(tmp_path / 'site')
    for name in 'abcdefg':
        (folder / f'{name}.txt').write_text(name)
    said = sentence(run('publish', network, f'--outdir={folder}', *force))
    assert said == (f'Error: --outdir: {folder} holds other files (a.txt, b.txt, c.txt, d.txt, e.txt and 2 more); '
        'a site gets a folder of its own.')
    assert (folder / 'a.txt').read_text() == 'a' and (folder / 'index.html').read_text() == 'index.html'

def test_a_file_in_the_place_of_the_folder_is_refused(network, tmp_path):
    (tmp_path / 'site').write_text('')
    assert sentence(run('publish', network, f'--outdir={tmp_path / "site"}')) == (
        f'Error: --outdir: {tmp_path / "site"} is no folder.')

#----------------------------------------------------------------------------
# Networks that are not for a page.

def test_a_network_that_completes_images_is_refused_with_what_there_is_for_it(tmp_path):
    network = write_network(tmp_path / 'network.pkl', make_inpainter())
    said = sentence(run('publish', network, f'--outdir={tmp_path / "site"}'))
    assert 'has no brush: `sarigan explore` has one' in said and '`sarigan export --to=network.onnx`' in said
    assert not (tmp_path / 'site').exists()

def test_a_network_too_large_for_browsers_is_refused_by_how_much(make_generator):
    G = make_generator(synthesis_kwargs=dict(channel_base=256, channel_max=16))
    # 4x4: one convolution of 16 to 16 channels. Then two at each side up to 32x32, 16 to 16, 16 and 16 to 8, 8 to 8.
    assert site.products_of(G) == 9 * (256 * 4 ** 2 + 256 * (4 ** 2 + 8 ** 2) + 256 * (8 ** 2 + 16 ** 2)
        + 8 * 16 * 16 ** 2 + 8 * 8 * 32 ** 2)
    site.refuse_slow(50e9)
    with pytest.raises(UserError, match=r'takes 74 billion multiplications, 1.5 times the 50 billion that they do in'):
        site.refuse_slow(74e9)
    site.refuse_large(100e6)
    with pytest.raises(UserError, match=r'its file has 123 MB, 23 MB more than the 100 MB that GitHub Pages take'):
        site.refuse_large(123e6)

def test_a_missing_package_gets_the_command_that_installs_it(network, tmp_path, monkeypatch):
    real = builtins.__import__
    def without(name, *args, **kwargs):
        if name == 'onnx':
            raise ModuleNotFoundError("No module named 'onnx'", name='onnx')
        return real(name, *args, **kwargs)
    monkeypatch.setattr(builtins, '__import__', without)
    assert "needs the Python package onnx, which is not installed: pip install 'onnx" in sentence(
        run('publish', network, f'--outdir={tmp_path / "site"}'))
