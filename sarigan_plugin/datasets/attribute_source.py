"""A data set that tells attributes of its images: its table and its images, and what may be wrong with them."""

import contextlib
import io
import os
import zipfile

import numpy as np
import PIL.Image

from sarigan_plugin.datasets import attribute_table, listing
from sarigan_plugin.errors import first_line

class NoAttributes(ValueError):
    """A data set has none, or a broken table of them, or none that can be seen in its images."""

class UnreadableImage(ValueError):
    """An image that the table tells of can't be read."""

def opened(path):
    """A context manager with the Source at a path, a folder or a zip. Raises ValueError, one sentence."""
    try:
        files = listing.Folder(path) if os.path.isdir(path) else listing.Zip(path)
    except OSError as error:
        raise ValueError(f'it cannot be read ({error.strerror}).') from None
    except zipfile.BadZipFile:
        raise ValueError('it is not a zip.') from None
    return contextlib.closing(Source(files))

class Source:
    """What is read of a data set. All methods raise ValueError, one sentence."""
    def __init__(self, files):
        self.files = files  # A listing.Folder or listing.Zip.

    def close(self):
        self.files.close()

    def _read(self, name):
        with self.files.open(name) as file:
            return file.read()

    def table(self):
        """Its attribute_table.Table, of images that are there. Raises NoAttributes where it has none."""
        table = self._whole_table()
        there = table.without(self._lost(table))
        if not there.rows:
            image = next(iter(listing.listed(self.files.names)), None)
            raise NoAttributes('its attributes.json has rows for none of its images: it names '
                f'{next(iter(table.rows))!r}, and ' + ('there are none.' if image is None
                else f'they are called such as {image!r}.'))
        return there

    def rows_without_an_image(self):
        """Of what images its table tells that aren't there: their names, in its order."""
        return self._lost(self._whole_table())

    def _lost(self, table):
        return [file for file in table.rows if file not in self.files.names]

    def _whole_table(self):
        try:
            content = self._read(listing.ATTRIBUTES)
        except (KeyError, FileNotFoundError):
            raise NoAttributes('it has no attributes.json; put one beside its images, as '
                '{"names": ["hat"], "images": {"0001.png": ["cap"], ...}}.') from None
        except Exception as error: # Of a broken or encrypted zip, too.
            raise NoAttributes(f'its attributes.json cannot be read ({first_line(error)}).') from None
        return _told(attribute_table.parse, content)

    def columns(self, table):
        """The attribute_table.Columns of its table, or of a part of it. Raises NoAttributes where that is empty."""
        if not table.rows:
            raise NoAttributes('its attributes.json has rows only for images that are left out.')
        return _told(attribute_table.columns, table)

    def image(self, name):
        """uint8 [H, W, 3]. Raises UnreadableImage."""
        try:
            return np.asarray(PIL.Image.open(io.BytesIO(self._read(name))).convert('RGB'))
        except Exception as error: # Decoders raise whatever they like on bad bytes.
            raise UnreadableImage(f'its image {name!r} cannot be read ({first_line(error)}).') from None

def _told(read, content):
    """What a function of attribute_table.py makes of it."""
    try:
        return read(content)
    except ValueError as error:
        raise NoAttributes(f'its attributes.json {error}.') from None

#----------------------------------------------------------------------------
