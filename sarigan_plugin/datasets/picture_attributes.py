"""What an attributes.json beside pictures says of them, for the data set that is made of the pictures."""

from dataclasses import dataclass

from sarigan_plugin.datasets import attribute_table, picture_labels
from sarigan_plugin.datasets.picture_conversion import Refused
from sarigan_plugin.datasets.picture_labels import some

WAY_OUT = '; correct it, or move it out of SRC.'

@dataclass
class Attributes:
    """What is known of pictures."""
    names:  list    # Of the attributes.
    of:     dict    # {name of a picture, as picture_labels.key() has it: [a value for each attribute]}.
    unused: list    # Names in attributes.json that no file has.

    def get(self, name):
        """The values of a picture, or None."""
        return self.of.get(picture_labels.key(name))

    def without(self, names):
        """The names of pictures that have none."""
        return [name for name in names if self.get(name) is None]

def read(source):
    """The Attributes of the pictures of a source, or None. Raises ValueError, with one sentence."""
    if source.attributes is None:
        return None
    try:
        with source.attributes.load() as stream:
            table = attribute_table.parse(stream.read())
    except (Refused, AttributeError) as error: # A link in a tar has no load().
        raise ValueError(f'attributes.json cannot be read: {error}{WAY_OUT}') from None
    except ValueError as error:
        raise ValueError(f'attributes.json {error}{WAY_OUT}') from None
    rows = {picture_labels.key(name): row for name, row in table.rows.items()}
    twice = [name for name, row in table.rows.items() if rows[picture_labels.key(name)] != row]
    if twice:
        raise ValueError(f'attributes.json has two different rows for {some(twice)}{WAY_OUT}')
    names = [name for name, _picture in source.pictures]
    known = {picture_labels.key(name) for name in [*names, *(name for name, _refused in source.left_out)]}
    unused = [name for name in table.rows if picture_labels.key(name) not in known]
    if len(unused) == len(table.rows) and names:
        raise ValueError(f'attributes.json has rows for none of the pictures: it names {some(unused, 1)}, '
            f'they are called {some(names, 1)}{WAY_OUT}')
    return Attributes(table.names, rows, unused)

#----------------------------------------------------------------------------
