"""`sarigan explore`: a page on this machine on which one steers the groups of a SariGAN,
or paints holes for it to fill."""

import errno
import os
import socket
import sys
import threading
import webbrowser

import click

from sarigan_plugin.commands.options import (
    PATH,
    class_flag,
    class_options,
    device_option,
    linked_option,
    require_class,
    trust_option,
)
from sarigan_plugin.commands.sections import SectionedCommand
from sarigan_plugin.errors import UserError
from sarigan_plugin.explore.inpaint_studio import Album, InpaintStudio
from sarigan_plugin.explore.studio import Studio, read_projected
from sarigan_plugin.snapshots import box, reading
from sarigan_plugin.steering import groupings, names

HOST = '127.0.0.1' # No other machine gets there: the page has no password.

#----------------------------------------------------------------------------

@click.command('explore', cls=SectionedCommand)
@click.argument('network', type=PATH, metavar='[PKL]', required=False)
@click.option('--port',         help='Port of the page; 0 = any free one', type=click.IntRange(0, 65535),
                                default=8765, show_default=True)
@click.option('--no-browser',   help='Only print the address', is_flag=True)
@click.option('--outdir',       help='Where the page saves images and recipes', default='out/explore',
                                show_default=True, type=PATH, metavar='DIR')
@click.option('--projected-w',  help='Start from codes of `sarigan project` or upstream\'s projector.py, '
                                'instead of a seed', type=PATH, metavar='NPZ')
@class_options(shown='0')
@click.option('--images',       help='Photos to start with, for an inpainting network', type=PATH,
    metavar='DIR|ZIP|FILE')
@linked_option
@trust_option
@device_option
def explore_command(network, port, no_browser, outdir, projected_w, class_idx, images, linked, trust, device):
    """Steer channel groups with sliders on a page in your browser.

    Without PKL it opens the best network of `sarigan list`.

    \b
    sarigan explore
    sarigan explore out/demo/network.pkl
    # With an inpainting network: paint holes into photos and see them filled.
    sarigan explore inpainting.pkl --images=photos

    Only this machine can open the page. To use it from another one, type `ssh -L 8765:localhost:8765 MACHINE` there and
    open http://localhost:8765.
    """
    serve, page, inpaint_page = _import_pages()
    if network is None:
        network = box.best()
        if network is None:
            raise UserError('PKL is required, as the box of networks is empty.')
    G = groupings.load(network, 'PKL', device, trust, generates=False, groups=linked)
    known = names.load(network, G)
    if reading.completes_images(G):
        if projected_w is not None:
            raise UserError('--projected-w: the network completes images, and begins with photos: --images.')
        if class_idx is not None:
            raise UserError(f'{class_flag()}: the network completes images, and has no classes.')
        page, studio = inpaint_page, _inpaint_studio(G, known, outdir, network, images, linked)
    else:
        if images is not None:
            raise UserError('--images: the network completes no images; '
                '`sarigan train --cfg=sarigan-inpaint` trains networks that do.')
        class_idx = 0 if class_idx is None else class_idx
        require_class(G, class_idx)
        projected = _read_projected(G, projected_w) if projected_w is not None else None
        studio = Studio(G, known, outdir, projected, class_idx)
    with _listen(port) as listener:
        url = 'http://{}:{}'.format(*listener.getsockname())
        click.echo(f'{url}  (Ctrl-C ends it)')
        # The socket listens already, so it may well be too early.
        opening = threading.Timer(0.5, webbrowser.open, [url])
        opening.daemon = True
        if not no_browser:
            opening.start()
        try:
            serve(page, studio, listener, title=os.path.basename(os.path.abspath(network)))
        except KeyboardInterrupt:
            sys.exit(130)

def _import_pages():
    """explore_page.serve() and the pages that it may serve."""
    try:
        from sarigan_plugin.explore import (
            inpaint_page as explore_inpaint_page,  # Takes a second, and what it needs is optional.
            page as explore_page,
        )
    except ModuleNotFoundError as error:
        if error.name != 'nicegui':
            raise
        raise UserError("`sarigan explore` needs NiceGUI, which is not installed: "
            "pip install 'nicegui>=3.18,<4'") from None
    return explore_page.serve, explore_page.Page, explore_inpaint_page.InpaintPage

def _inpaint_studio(G, known, outdir, network, images, linked):
    try:
        return InpaintStudio(G, known, outdir, network, Album(images) if images is not None else None, linked)
    except ValueError as error:
        raise UserError(f'--images: {error}') from None

def _read_projected(G, path):
    try:
        with open(path, 'rb') as f:
            return read_projected(G, f.read())
    except OSError as error:
        raise UserError(f'--projected-w: {path!r} cannot be read ({error.strerror}).') from None
    except ValueError as error:
        raise UserError(f'--projected-w: {path!r}: {error}') from None

def _listen(port):
    listener = socket.socket()
    try:
        # A port is free as soon as its program has ended.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen()
    except OSError as error:
        listener.close()
        why = 'is taken by another program' if error.errno == errno.EADDRINUSE else f'cannot be had ({error.strerror})'
        raise UserError(f'--port: {port} {why}; choose another one, or --port=0 for any that is free.') from None
    return listener

#----------------------------------------------------------------------------
