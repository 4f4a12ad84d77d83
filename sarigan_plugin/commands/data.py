"""`sarigan data`: dataset zips, of your own pictures, of openly available ones and of drawn ones."""

import functools
import sys

import click

from sarigan_plugin.commands.options import PATH, Choices
from sarigan_plugin.commands.sections import SectionedCommand
from sarigan_plugin.datasets import drawn, picture_conversion, picture_labels
from sarigan_plugin.datasets.folder import COLOURS, DEFAULT_RESOLUTION, Options, make_dataset, tell_plan
from sarigan_plugin.datasets.packaged import EMOJI_RESOLUTIONS, EMOJI_SETS, PUNKS_RESOLUTIONS, make_emoji, make_punks
from sarigan_plugin.steering.sampling import MAX_SEED

#----------------------------------------------------------------------------

@click.group('data')
def data_command():
    """Make a dataset zip from your own pictures, draw one, or download a small open one.

    \b
    sarigan data folder ~/photos --dest=photos.zip --resolution=256
    sarigan data punks --dest=punks.zip

    Open data sets have licences, which are printed and stored in the zip.
    """

_force_option = click.option('--force', help='Replace an existing zip', is_flag=True)
_dry_run_option = click.option('--dry-run', help='Say what would be made, and write nothing', is_flag=True)

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
@_force_option
@click.option('--workers',         help='Processes that convert [default: one for each core]',
                                   type=click.IntRange(min=1), metavar='INT')
@_dry_run_option
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

def _packaged_options(dest, resolutions, resolution):
    """--dest, --resolution and --force, with the defaults of a data set that comes in some resolutions."""
    options = [
        click.option('--dest', help='The zip to write', default=dest, show_default=True, type=PATH, metavar='ZIP'),
        click.option('--resolution', help=f'One of {", ".join(map(str, resolutions))}', type=int, default=resolution,
            show_default=True, metavar='INT'),
        _force_option,
    ]
    return lambda command: functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)

@data_command.command()
@_packaged_options('punks.zip', PUNKS_RESOLUTIONS, 32)
def punks(dest, resolution, force):
    """Download 10,000 pixel faces with 92 attributes, 32x32.

    \b
    sarigan data punks --dest=punks.zip
    """
    make_punks(dest, resolution, force)

@data_command.command()
@_packaged_options('emoji.zip', EMOJI_RESOLUTIONS, 64)
@click.option('--sets', help='Whose drawings: google (Noto, Apache-2.0), twitter (CC BY 4.0), fluent (MIT)',
    type=Choices(EMOJI_SETS, 'a set of emoji'), default=','.join(EMOJI_SETS), show_default=True, metavar='LIST')
def emoji(dest, resolution, sets, force):
    """Download 2,991 people in three styles of emoji, 64x64.

    \b
    sarigan data emoji --dest=emoji.zip
    """
    make_emoji(dest, resolution, force, sets)

@data_command.command('drawn')
@_packaged_options('drawn.zip', drawn.RESOLUTIONS, 32)
@click.option('--num',  help='How many pictures', type=click.IntRange(1, drawn.MAX_NUM), default=20000,
    show_default=True)
@click.option('--seed', help='Random seed of their factors', type=click.IntRange(0, MAX_SEED), default=0,
    show_default=True)
@_dry_run_option
def drawn_heads(dest, resolution, num, seed, force, dry_run):
    """Draw heads from ten factors that can be read back; nothing is downloaded.

    Each picture has a background, a head with skin and place, eyes, and perhaps a mouth, a hat and a tie, all
    independent. The class is the shape of the head; attributes.json in the zip has every factor.

    \b
    sarigan data drawn --dest=drawn.zip --resolution=32 --num=20000
    """
    (drawn.tell_plan if dry_run else drawn.make_drawn)(dest, resolution, num, seed, force)

#----------------------------------------------------------------------------
