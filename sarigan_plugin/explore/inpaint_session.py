"""What one visitor of `sarigan explore` has done to a photo: the hole that was painted, and the scene that it makes."""

import dataclasses

import numpy as np

from sarigan_plugin.datasets import masks
from sarigan_plugin.explore.session import Scene, Session
from sarigan_plugin.steering import completion
from sarigan_plugin.steering.edits import WrongField

MAX_POINTS  = 1000  # Of one stroke. The page makes several of longer ones.
THINNEST    = 0.71  # Radius of a brush that misses no pixel wherever it is put, pixels.

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Stroke:
    """What the brush did between going down and up. Raises WrongField for what a brush can't do."""
    points: list            # Places [(x, y)], pixels of the photo as it is shown, (0, 0) its upper left corner.
    width:  float           # Of the brush, in the same pixels.
    erase:  bool    = False # Takes away from the hole.

    def __post_init__(self):
        if not isinstance(self.points, list) or not 1 <= len(self.points) <= MAX_POINTS:
            raise WrongField('stroke', f'it is not a list of 1 to {MAX_POINTS} points.')
        numbers = [self.width, *(number for point in self.points
            for number in (point if isinstance(point, list) and len(point) == 2 else [None]))]
        if not all(isinstance(number, (int, float)) and abs(number) <= 10000 for number in numbers): # NaN is none.
            raise WrongField('stroke', 'its points and its width are not numbers up to 10000.')

    def painted(self, mask):
        """A mask [h, w] with the stroke in it, or without what it erases."""
        stroke = np.zeros_like(mask)
        radius = max(self.width / 2, THINNEST)
        places = np.array(self.points, dtype=float)[:, ::-1] - 0.5 # From corners of pixels to their centres.
        for start, end in zip(places, [*places[1:], places[-1]]):
            masks.paint(stroke, start, end, radius)
        return mask & ~stroke if self.erase else mask | stroke

@dataclasses.dataclass(frozen=True)
class HoledScene(Scene):
    """A photo with a hole, what fills it, and the edits of that: one step of the history."""
    trunc:  float   = 1     # Truncation psi.
    photo:  object  = None  # explore_inpaint_studio.Photo, None until there is one.
    hole:   bytes   = b''   # A bit for each pixel that is shown, as 200 steps have to fit.

    @property
    def image(self):
        """What the image before the edits depends on."""
        return self.seed, self.trunc, self.photo, self.hole

    @property
    def mask(self):
        """The hole of the photo as it is shown, bool [h, w]."""
        width, height = self.photo.shown.size
        return np.unpackbits(np.frombuffer(self.hole, dtype=np.uint8), count=height * width).reshape(height,
            width).astype(bool)

#----------------------------------------------------------------------------

class HoledSession(Session):
    """Raises WrongField where a value won't do, and stays as it was."""

    def __init__(self,
        G,              # Generator of inpainting with channel groups.
        photo   = None, # Photo to begin with.
    ):
        super().__init__(G)
        self.scene = HoledScene()
        if photo is not None:
            self.show(photo)

    def _check(self, recipe):
        recipe.check_edits(self.G)

    def show(self, photo):
        """Begin with another photo.

        What is transparent in it is its hole. Steps are forgotten, as all their photos would not fit.
        """
        hole = self._packed(completion.transparent(photo.shown))
        self.settle()
        self.scene = dataclasses.replace(self.scene, photo=photo, hole=hole)
        self.past, self.future = [], []

    def paint(self, stroke):
        """stroke: a Stroke."""
        self.take(stroke.painted(self._need_photo().mask))

    def draw(self, kind, index):
        """Make the hole one of masks.KINDS, of which each index is another one."""
        mask = self._need_photo().mask
        self.take(masks.resized(masks.of_index(kind, self.G.img_resolution, index), *mask.shape))

    def clear(self):
        """Take the hole away."""
        self.take(np.zeros_like(self._need_photo().mask))

    def take(self, mask):
        """Make a mask of the photo as it is shown, bool [h, w], its hole."""
        if mask.shape != self._need_photo().mask.shape:
            raise WrongField('hole', 'it is that of another photo.')
        hole = self._packed(mask)
        self.settle()
        self.change(hole=hole)

    def _need_photo(self):
        if self.scene.photo is None:
            raise WrongField('photo', 'there is none yet; open one.')
        return self.scene

    def _packed(self, mask):
        try:
            completion.shrink_hole(self.G, mask)
        except ValueError as error:
            raise WrongField('hole', str(error)) from None
        return np.packbits(mask).tobytes()

#----------------------------------------------------------------------------
