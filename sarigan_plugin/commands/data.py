"""`sarigan data`: dataset zips, of your own pictures and of openly available ones."""

import sys

import click

from sarigan_plugin.commands.options import PATH
from sarigan_plugin.commands.sections import SectionedCommand
from sarigan_plugin.datasets import picture_conversion, picture_labels
from sarigan_plugin.datasets.folder import COLOURS, DEFAULT_RESOLUTION, Options, make_dataset, tell_plan
from sarigan_plugin.datasets.packaged import EMOJI_RESOLUTIONS, PUNKS_RESOLUTIONS, make_emoji, make_punks

#----------------------------------------------------------------------------

@click.group('data')
def data_command():
    """Make a dataset zip from your own pictures, or download a small open data set.

    \b
    sarigan data folder ~/photos --dest=photos.zip --resolution=256
    sarigan data punks --dest=punks.zip

    Open data sets have licences, which are printed and stored in the zip.
    """

SIZES = f'the size that all pictures share, else the largest up to {DEFAULT_RESOLUTION} that nine in ten have'

@data_command.command(cls=SectionedCommand, sections={
    'How pictures become squares': '--resolution --fit --colour --background',
    'Which pictures': '--enlarge --min-size --drop-duplicates --labels --strict'})
@click.argument('source', type=PATH, metavar='SRC')
@click.option('--dest',            help='The zip to write', required=True, type=PATH, metavar='ZIP')
@click.option('--resolution',      help=f'Width and height, a power of two [default: {SIZES}]', type=int, metavar='INT')
@click.option('--fit',             help='Crop the middle, pad with bars of --background, or stretch',
                                   type=click.Choice(picture_conversion.FITS), default='crop', show_default=True)
@click.option('--colour',          help='Colours of all pictures; auto: grey if all are stored in grey',
                                   type=click.Choice(COLOURS), default='auto', show_default=True)
@click.option('--background',      help='Colour behind transparent pixels and of bars: a name or #rrggbb',
                                   default='white', show_default=True, metavar='COLOUR')
@click.option('--enlarge',         help='Enlarge pictures that are too small '
                                   'instead of leaving them out', is_flag=True)
@click.option('--min-size',        help='Leave out pictures whose short side has fewer pixels',
                                   type=click.IntRange(min=1), default=1, metavar='INT')
@click.option('--drop-duplicates', help='Keep only the first of pictures with the same pixels', is_flag=True)
@click.option('--labels',          help='Classes: folders, those right below SRC; json, dataset.json in SRC; '
                                   'auto, json if it is there', type=click.Choice(picture_labels.KINDS), default='auto',
                                   show_default=True)
@click.option('--strict',          help='Stop at the first picture that would be left out', is_flag=True)
@click.option('--force',           help='Replace an existing zip', is_flag=True)
@click.option('--workers',         help='Processes that convert [default: one for each core]',
                                   type=click.IntRange(min=1), metavar='INT')
@click.option('--dry-run',         help='Say what would be made, and write nothing', is_flag=True)
def folder(source, dest, dry_run, **options):
    """Make a data set from your own pictures, from a folder, a zip or a tar.

    Pictures of all formats and depths become squares of 8-bit RGB or grey, upright, in sRGB. Look at DATA.preview.png
    beside the zip, which shows 64 of them, and at DATA.report.json, which lists what was left out and why.

    \b
    # Photos, whatever their sizes.
    sarigan data folder ~/photos --dest=photos.zip --resolution=256
    # A folder for each class.
    sarigan data folder ~/animals --dest=animals.zip --resolution=128 --labels=folders
    # Cut nothing off: black bars fill the squares.
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
    """Download 10,000 pixel faces with 92 attributes, 32x32.

    \b
    sarigan data punks --dest=punks.zip
    """
    make_punks(dest, resolution, force)

@data_command.command()
@click.option('--dest',       help='The zip to write', default='emoji.zip', show_default=True, type=PATH, metavar='ZIP')
@click.option('--resolution', help=f'One of {", ".join(map(str, EMOJI_RESOLUTIONS))}', type=int, default=64,
                              show_default=True, metavar='INT')
@click.option('--force',      help='Replace an existing zip', is_flag=True)
def emoji(dest, resolution, force):
    """Download 2,991 people in three styles of emoji, 64x64.

    \b
    sarigan data emoji --dest=emoji.zip
    """
    make_emoji(dest, resolution, force)

#----------------------------------------------------------------------------
