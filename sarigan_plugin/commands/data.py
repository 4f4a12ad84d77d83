"""`sarigan data`: dataset zips, of your own pictures and of openly available ones."""

import sys

import click

from sarigan_plugin.commands.options import PATH
from sarigan_plugin.datasets import picture_conversion, picture_labels
from sarigan_plugin.datasets.folder import COLOURS, DEFAULT_RESOLUTION, Options, make_dataset, tell_plan
from sarigan_plugin.datasets.packaged import EMOJI_RESOLUTIONS, PUNKS_RESOLUTIONS, make_emoji, make_punks

#----------------------------------------------------------------------------

@click.group('data')
def data_command():
    """Make a dataset zip from your pictures, or from openly available ones.

    The open ones are downloaded to your machine; mind their licences, which are printed and put into the zip.
    """

SIZES = f'the size that all pictures share, else the largest up to {DEFAULT_RESOLUTION} that nine in ten have'

@data_command.command()
@click.argument('source', type=PATH, metavar='SRC')
@click.option('--dest',            help='The zip to write', required=True, type=PATH, metavar='ZIP')
@click.option('--resolution',      help=f'Width and height, a power of two [default: {SIZES}]', type=int, metavar='INT')
@click.option('--fit',             help='Crop the middle, pad with bars of --background, or stretch',
                                   type=click.Choice(picture_conversion.FITS), default='crop', show_default=True)
@click.option('--colour',          help='Of all pictures; auto is grey where all are stored in grey',
                                   type=click.Choice(COLOURS), default='auto', show_default=True)
@click.option('--background',      help='Colour below transparent pixels and in bars: a name or #rrggbb',
                                   default='white', show_default=True, metavar='COLOUR')
@click.option('--enlarge',         help='Enlarge pictures that are too small, '
                                   'instead of leaving them out', is_flag=True)
@click.option('--min-size',        help='Leave out pictures whose short side has fewer pixels',
                                   type=click.IntRange(min=1), default=1, metavar='INT')
@click.option('--drop-duplicates', help='Of pictures that become the same pixels keep the first', is_flag=True)
@click.option('--labels',          help='Classes: folders right below SRC, or json: dataset.json in SRC; '
                                   'auto: json if it is there', type=click.Choice(picture_labels.KINDS), default='auto',
                                   show_default=True)
@click.option('--strict',          help='Stop at the first picture that would be left out', is_flag=True)
@click.option('--force',           help='Replace an existing zip', is_flag=True)
@click.option('--workers',         help='Processes that convert [default: one for each core]',
                                   type=click.IntRange(min=1), metavar='INT')
@click.option('--dry-run',         help='Say what would be made, and write nothing', is_flag=True)
def folder(source, dest, dry_run, **options):
    """Your own pictures, from a folder, a zip or a tar.

    Pictures of all formats and depths become squares of 8-bit RGB or grey, upright, in sRGB. What can't be used is left
    out and listed, with the reason, in DATA.report.json beside the zip; DATA.preview.png shows 64 of them.

    \b
    # Photos, whatever their sizes.
    sarigan data folder ~/photos --dest=photos.zip --resolution=256
    # A folder for each class.
    sarigan data folder ~/animals --dest=animals.zip --resolution=128 --labels=folders
    # Nothing cut off: black bars fill the squares.
    sarigan data folder cars.zip --dest=cars512.zip --resolution=512 --fit=pad --background=black
    """
    wanted = Options(source, dest, **options)
    try:
        (tell_plan if dry_run else make_dataset)(wanted)
    except KeyboardInterrupt:
        click.echo('Interrupted: the same command starts again.', err=True)
        sys.exit(130)

@data_command.command()
@click.option('--dest',       help='The zip to write', default='punks.zip', show_default=True, type=PATH, metavar='ZIP')
@click.option('--resolution', help=f'One of {", ".join(map(str, PUNKS_RESOLUTIONS))}', type=int, default=32,
                              show_default=True, metavar='INT')
@click.option('--force',      help='Replace an existing zip', is_flag=True)
def punks(dest, resolution, force):
    """10,000 pixel faces with 92 attributes."""
    make_punks(dest, resolution, force)

@data_command.command()
@click.option('--dest',       help='The zip to write', default='emoji.zip', show_default=True, type=PATH, metavar='ZIP')
@click.option('--resolution', help=f'One of {", ".join(map(str, EMOJI_RESOLUTIONS))}', type=int, default=64,
                              show_default=True, metavar='INT')
@click.option('--force',      help='Replace an existing zip', is_flag=True)
def emoji(dest, resolution, force):
    """2,991 people in three styles of emoji."""
    make_emoji(dest, resolution, force)

#----------------------------------------------------------------------------
