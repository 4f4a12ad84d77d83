"""Recipes: which images, and which edits of them, in a file. `sarigan edit` reads and writes them.

    >>> from sarigan_plugin.steering.edits import Edit
    >>> from sarigan_plugin.steering.recipe import EditRecipe
    >>> EditRecipe([Edit('b16.conv0', group=3, inter_scale=0)], seeds=[0, 1]).write('edit.json')
    >>> EditRecipe.read('edit.json').seeds
    (0, 1)
"""

import contextlib
import dataclasses
import json

import numpy as np
import torch

from sarigan_plugin.steering.edits import Edit, WrongField, check_number, edited, shown
from sarigan_plugin.steering.projection import Projection, noise_put_in
from sarigan_plugin.steering.sampling import MAX_SEED, check_class, render, sample_ws
from sarigan_plugin.support import files

# Of the recipes that are written. Those of version 1 know neither inter-group codes of other images, nor components,
# nor projections.
VERSION     = 2
MAX_IMAGES  = 100       # Rows of the pictures that are made of a recipe.

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class EditRecipe:
    """Which images, and which edits of them: all that `sarigan edit` needs beside a network."""
    edits:      tuple                           # One Edit at least.
    seeds:      tuple   = (0, 1, 2, 3, 4, 5)    # Of the images.
    trunc:      float   = 0.7                   # Truncation psi.
    class_idx:  int     = 0                     # Class, or label vector of c_dim numbers, for a conditional network.
    projected_w: str    = None                  # File of a projection.Projection,
                                                # whose images take the place of those of the seeds.

    def __post_init__(self):
        for field in ['edits', 'seeds']:
            if not isinstance(getattr(self, field), (list, tuple)) or not getattr(self, field):
                raise WrongField(field, f'{shown(getattr(self, field))} is not a list with at least one entry.')
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if len(self.seeds) > MAX_IMAGES:
            raise WrongField('seeds', f'{len(self.seeds)} of them are more than {MAX_IMAGES}.')
        for seed in self.seeds:
            check_number('seeds', seed, 0, MAX_SEED, whole=True)
        check_number('trunc', self.trunc)
        if isinstance(self.class_idx, (list, tuple)):
            for number in self.class_idx:
                check_number('class_idx', number)
            object.__setattr__(self, 'class_idx', tuple(self.class_idx))
        else:
            check_number('class_idx', self.class_idx, 0, whole=True)
        if self.projected_w is not None and not isinstance(self.projected_w, str):
            raise WrongField('projected_w', f'{shown(self.projected_w)} is not the name of a file.')

    def check(self, G):
        """Raise WrongField where the generator lacks what it takes."""
        try:
            check_class(G, self.class_idx)
        except ValueError as error:
            raise WrongField('class_idx', str(error)) from None
        self.check_edits(G)
        self.projection(G)

    def check_edits(self, G):
        """As check(), but of the edits alone: what they are to be of comes from elsewhere."""
        for index, edit in enumerate(self.edits):
            with _inside(f'edits[{index}].'):
                edit.check(G)

    def part(self, amount):
        """The same recipe with all its edits done by a part, see Edit.part()."""
        return dataclasses.replace(self, edits=[edit.part(amount) for edit in self.edits])

    def projection(self, G):
        """The Projection whose images are edited; codes alone where they are those of seeds.

        Raises WrongField for a file that is none.

        Codes of seeds are made one at a time, so that the company a seed is in changes no bit of its code.
        """
        if self.projected_w is None:
            return Projection(torch.cat([sample_ws(G, [seed], self.trunc, self.class_idx) for seed in self.seeds]))
        try:
            return Projection.read(self.projected_w, G)
        except ValueError as error:
            raise WrongField('projected_w', str(error)) from None

    def ws(self, G):
        """[N, num_ws, w_dim] codes of the images."""
        return self.projection(G).ws

    def render(self, G):
        """The edited images, uint8 [N, H, W, 3]."""
        found = self.projection(G)
        with edited(G, self.edits, self.trunc, self.class_idx), noise_put_in(G, found.noise):
            return np.stack([render(G, w) for w in found.ws.split(1)])

    @property
    def content(self):
        """Bytes of its file."""
        return (json.dumps(dict(version=VERSION, **dataclasses.asdict(self)), indent=2) + '\n').encode()

    def write(self, path):
        with files.atomic_open(path) as f:
            f.write(self.content)

    @staticmethod
    def read(path, **defaults):
        """defaults: of fields that the file leaves out.

        Raises ValueError, with one sentence, for whatever is no recipe.
        """
        data = files.read_json(path)
        if not isinstance(data, dict):
            raise ValueError('it is not a recipe: an object with version and edits.')
        version = data.pop('version', None)
        if version not in range(1, VERSION + 1):
            raise ValueError(f'version: {shown(version)} is unknown; this program reads versions 1 to {VERSION}.')
        if isinstance(data.get('edits'), list):
            for index, fields in enumerate(data['edits']):
                with _inside(f'edits[{index}].'):
                    data['edits'][index] = _build(Edit, fields)
        return _build(EditRecipe, defaults | data)

def _build(cls, fields):
    """A dataclass from what JSON says, whose keys may be anything."""
    names = {field.name: field.default is dataclasses.MISSING for field in dataclasses.fields(cls)}
    if not isinstance(fields, dict):
        raise WrongField(cls.__name__.lower(), f'{shown(fields)} is not an object with {", ".join(names)}.')
    for key in fields:
        if key not in names:
            raise WrongField(f'{key!r:.40}'.strip('"\''), f'there is no such key; they are {", ".join(names)}.')
    for name, required in names.items():
        if required and name not in fields:
            raise WrongField(name, 'it is missing.')
    return cls(**fields)

@contextlib.contextmanager
def _inside(place):
    try:
        yield
    except WrongField as error:
        raise WrongField(place + error.field, error.sentence) from None

#----------------------------------------------------------------------------
