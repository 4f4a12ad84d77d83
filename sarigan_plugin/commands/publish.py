"""`sarigan publish`: a folder of static files in which any browser runs a network and edits its groups."""

import os
import shlex

import click

from sarigan_plugin.commands.options import PATH, linked_option, trust_option
from sarigan_plugin.errors import writing
from sarigan_plugin.publish import onnx_file, site
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import groupings, names
from sarigan_plugin.support import files

#----------------------------------------------------------------------------

@click.command('publish')
@click.argument('network', type=PATH, metavar='PKL')
@click.option('--outdir',   help='A new folder for the page', required=True, type=PATH, metavar='DIR')
@click.option('--title',    help='What the page calls the network  [default: its file name]', metavar='TEXT')
@click.option('--force',    help='Replace the page that is there', is_flag=True)
@linked_option
@trust_option
def publish_command(network, outdir, title, force, linked, trust):
    """Make a page on which anybody steers the groups of a network, in the browser alone.

    The folder is for any host of static files, such as GitHub Pages. The page asks no server for anything but its own
    files; the network runs in the visitor's browser.

    \b
    sarigan publish out/demo/network.pkl --outdir=site
    python -m http.server --directory=site      # and then http://localhost:8000
    """
    site.check_outdir(outdir, force)
    onnx_file.require()
    G = reading.load(network, 'PKL', 'cpu', trust)
    groupings.read_linked(G, network, 'PKL', linked)
    title = title or files.printable(os.path.basename(os.path.abspath(network)))
    made = site.contents(G, names.load(network, G), title)
    with writing('--outdir', outdir):
        site.write(made, outdir)
    size = sum(map(len, made.values())) / 1e6
    click.echo(f'Wrote {len(made)} files, {size:.1f} MB, into {click.format_filename(outdir)}. To see the page:')
    click.echo(f'  python -m http.server --directory={shlex.quote(files.printable(outdir))}      '
        '# and then http://localhost:8000')

#----------------------------------------------------------------------------
