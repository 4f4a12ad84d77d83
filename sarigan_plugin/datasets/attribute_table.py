"""What a data set says of its images: attributes.json, {"names": [...], "images": {file: [a value for each name]}}.

    table = attribute_table.parse(b'{"names": ["hat"], "images": {"0.png": ["cap"], "1.png": ["none"]}}')
    attribute_table.columns(table).names        # ['hat cap', 'hat none']
"""

import json
from dataclasses import dataclass

import numpy as np

MAX_KINDS   = 20        # An attribute with more different values, such as a name, is a description and no kind.
TRUTH       = {'0': False, '1': True, 'False': False, 'True': True} # As tables write them.

@dataclass(frozen=True)
class Table:
    """The attributes of images."""
    names:  list    # Of the attributes.
    rows:   dict    # {file: [a value for each]}.

    def without(self, images):
        """The Table of all images but these."""
        images = set(images)
        return Table(self.names, {file: row for file, row in self.rows.items() if file not in images})

def parse(content):
    """The Table in the bytes of an attributes.json.

    Raises ValueError for whatever is none: the end of a sentence that begins with the file, without a full stop.
    """
    try:
        table = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f'is not JSON ({error})') from None
    if not isinstance(table, dict) or not {'names', 'images'} <= set(table):
        raise ValueError('must be an object with "names" and "images"')
    names, rows = table['names'], table['images']
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError('must have a list of texts for "names"')
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise ValueError(f'has two attributes of the name {twice!r}')
    if not isinstance(rows, dict) or not rows:
        raise ValueError('must have an object for "images", with a list of values for each')
    for file, row in rows.items():
        if not isinstance(row, list) or len(row) != len(names):
            raise ValueError(f'must have a list of as many values as names for each image: {file!r} has another')
    return Table(names, rows)

#----------------------------------------------------------------------------

@dataclass(frozen=True)
class Columns:
    """A table as what is or isn't in an image."""
    names:      list        # Of what a column tells: an attribute of 0 and 1, else an attribute and one of its values.
    of_each:    list        # The attribute of each column.
    targets:    np.ndarray  # Bool [images, columns].
    too_many:   list        # The attributes that have no column, as they have more than MAX_KINDS different values.
    reworded:   list        # The attributes of 0 and 1 that the table writes in other ways as well.

def columns(table):
    """The Columns of a table. Raises ValueError where two columns would have the same name; see parse()."""
    told, of_each, too_many, reworded = dict(), dict(), [], []
    for name, values in zip(table.names, zip(*table.rows.values())):
        words = list(map(str, values))
        kinds = sorted(set(words))
        if len({TRUTH.get(kind) for kind in kinds} - {None}) == 2 and set(kinds) <= set(TRUTH):
            found = {name: np.array([TRUTH[word] for word in words])}
            reworded += [name] * any(type(value) is not int for value in values)
        elif len(kinds) <= MAX_KINDS:
            found = {f'{name} {kind}': np.array([word == kind for word in words]) for kind in kinds}
        else:
            too_many.append(name)
            continue
        for column in found:
            if column in told:
                raise ValueError(f'has {column!r} for {of_each[column]!r} and for {name!r}: rename one of the two')
        told.update(found)
        of_each.update(dict.fromkeys(found, name))
    targets = np.stack(list(told.values()), axis=1) if told else np.empty([len(table.rows), 0], dtype=bool)
    return Columns(list(told), list(of_each.values()), targets, too_many, reworded)

#----------------------------------------------------------------------------
