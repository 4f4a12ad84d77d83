"""A folder of static files: a page on which a browser alone runs a network and edits its groups.

    index.html, page.css, *.js      the page; the files of this package, and the looks that all pages share
    network.json                    what the page has to know of the network, and the names of all files here
    network.onnx                    the network, its weights in fp16; see onnx_file.py
    runtime/                        ONNX Runtime Web
    licenses.txt
"""

import gzip
import json
import os
import shutil
import tempfile
from pathlib import Path

from sarigan_plugin.datasets import packaged
from sarigan_plugin.errors import UserError
from sarigan_plugin.publish import onnx_file
from sarigan_plugin.snapshots import reading
from sarigan_plugin.support import files, look

FORMAT      = 'sarigan site'    # By which the folder is known again.
DESCRIPTION = 'network.json'
MODEL       = 'network.onnx'
SCRIPTS     = ('page.js', 'recipe.js', 'feeds.js', 'randn.js', 'pictures.js', 'worker.js')

# GitHub, and so its Pages, takes no larger file.
MAX_MODEL           = 100 * 10**6   # Bytes.
# WebAssembly takes a quarter of a minute for so many; 256x256 at full width has 45 billion, 512x512 has 60.
MAX_PRODUCTS        = 50 * 10**9    # Multiplications for one image.

#----------------------------------------------------------------------------
# What goes into the folder.

def contents(G, known, title):
    """{name: bytes} of all files. Downloads the runtime the first time. Raises UserError.

    G: generator of images, on the CPU. known: names.GroupNames of its groups. title: what to call the network.
    """
    onnx_file.require()
    if reading.completes_images(G):
        raise UserError('The network completes images, and the page has no brush: `sarigan explore` has one, and '
            '`sarigan export --to=network.onnx` gives the network alone.')
    refuse_slow(products_of(G))
    made = runtime() # Before the minute's work: the network may be gone.
    description = onnx_file.described(G, known)
    made[MODEL] = onnx_file.halved(onnx_file.as_bytes(G, description))
    refuse_large(len(made[MODEL]))
    made |= page()
    description |= dict(format=FORMAT, title=title, model=MODEL, files=sorted([*made, DESCRIPTION]))
    made[DESCRIPTION] = (json.dumps(description, indent=1) + '\n').encode()
    return made

def products_of(G):
    """Multiplications that the convolutions of one image take."""
    layers = [layer for layer in G.synthesis.modules() if hasattr(layer, 'up') and hasattr(layer, 'resolution')]
    return sum(layer.weight.numel() * (layer.resolution // layer.up) ** 2 for layer in layers)

def refuse_slow(products):
    """Raise UserError where an image takes too many multiplications."""
    if products > MAX_PRODUCTS:
        raise UserError(f'The network is too large for browsers: an image takes {products / 1e9:.0f} billion '
            f'multiplications, {products / MAX_PRODUCTS:.1f} times the {MAX_PRODUCTS / 1e9:.0f} billion that they do '
            'in about 15 seconds; `sarigan explore` shows it on this machine.')

def refuse_large(size):
    """Raise UserError where a file has too many bytes."""
    if size > MAX_MODEL:
        raise UserError(f'The network is too large for browsers: its file has {size / 1e6:.0f} MB, '
            f'{(size - MAX_MODEL) / 1e6:.0f} MB more than the {MAX_MODEL / 1e6:.0f} MB that GitHub Pages take; '
            '`sarigan explore` shows it on this machine.')

def page():
    """The files of the page itself."""
    here = Path(__file__).parent
    made = {name: (here / name).read_bytes() for name in SCRIPTS}
    made['index.html'] = (here / 'page.html').read_bytes()
    made['page.css'] = (look.editor_css() + (here / 'page.css').read_text(encoding='utf-8')).encode()
    text = (here / 'licenses.txt').read_text(encoding='utf-8')
    made['licenses.txt'] = text.replace('@VERSION@', packaged.ONNX_RUNTIME.version).encode()
    return made

def runtime():
    """ONNX Runtime Web: for WebAssembly, and for WebGPU. The page unpacks what is packed, so that 41 MB are 10."""
    libraries = ['ort.wasm.min.mjs', 'ort.webgpu.min.mjs']
    binaries = ['ort-wasm-simd-threaded', 'ort-wasm-simd-threaded.asyncify']
    names = [*libraries, *[binary + ending for binary in binaries for ending in ['.mjs', '.wasm']]]
    found = packaged.read_members(packaged.fetch(packaged.ONNX_RUNTIME), [f'package/dist/{name}' for name in names])
    made = dict()
    for name in names:
        content = found[f'package/dist/{name}']
        if name.endswith('.wasm'): # Without a time, the same bytes every time.
            name, content = f'{name}.gz', gzip.compress(content, compresslevel=6, mtime=0)
        made[f'runtime/{name}'] = content
    return made

#----------------------------------------------------------------------------
# The folder.

def check_outdir(outdir, force):
    """Raise UserError unless a site may be written there: nothing is there, or one of ours that `force` may replace."""
    if not os.path.lexists(outdir):
        return
    if not os.path.isdir(outdir):
        raise UserError(f'--outdir: {outdir} is no folder.')
    ours = _files_of_site(outdir)
    others = sorted(name for name in _files_in(outdir) if name not in ours)
    if others:
        listed = ', '.join(others[:5]) + (f' and {len(others) - 5} more' if len(others) > 5 else '')
        raise UserError(f'--outdir: {outdir} holds other files ({files.printable(listed)}); '
            'a site gets a folder of its own.')
    if ours and not force:
        raise UserError(f'--outdir: {outdir} is a site already; --force replaces it.')

def _files_in(folder):
    """The files in a folder by their paths in it. Hidden ones and CNAME are left out: a host's business, as is .git."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith('.')]
        yield from (os.path.relpath(os.path.join(place, name), folder).replace(os.sep, '/')
            for name in names if not name.startswith('.') and name != 'CNAME')

def _files_of_site(folder):
    """The names of the files of a site of ours; none where it is none."""
    try:
        description = files.read_json(os.path.join(folder, DESCRIPTION))
    except ValueError:
        return []
    if not isinstance(description, dict) or description.get('format') != FORMAT:
        return []
    listed = description.get('files')
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []

def write(made, outdir):
    """Write contents() into a folder that check_outdir() has passed. Raises OSError.

    A new folder appears when it is whole; in an old one, files change one by one, and DESCRIPTION, which names them,
    is the last.
    """
    parent = os.path.dirname(os.path.abspath(outdir))
    os.makedirs(parent, exist_ok=True)
    folder = tempfile.mkdtemp(dir=parent, prefix='.writing-')
    try:
        site = os.path.join(folder, 'site') # Temporary folders are private; this one isn't.
        for name, content in made.items():
            os.makedirs(os.path.dirname(os.path.join(site, name)), exist_ok=True)
            with files.atomic_open(os.path.join(site, name)) as f:
                f.write(content)
        if not os.path.lexists(outdir):
            os.rename(site, outdir)
        else:
            _replace(site, outdir, list(made))
    finally:
        shutil.rmtree(folder)

def _replace(site, outdir, names):
    """Put the files of a site into the place of those of another."""
    gone = set(_files_of_site(outdir)) & set(_files_in(outdir)) - set(names)
    for name in sorted(names, key=lambda name: name == DESCRIPTION):
        os.makedirs(os.path.dirname(os.path.join(outdir, name)), exist_ok=True)
        os.replace(os.path.join(site, name), os.path.join(outdir, name))
    for name in gone:
        os.unlink(os.path.join(outdir, name))

#----------------------------------------------------------------------------
