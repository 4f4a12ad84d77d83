"""Where `sarigan explore` fills holes: photos that are opened, and the pictures and files that are made of them."""

import dataclasses
import io
import os
import shlex
import zipfile

import numpy as np
import PIL.Image
import torch

from sarigan_plugin.datasets import masks
from sarigan_plugin.explore.inpaint_session import HoledSession
from sarigan_plugin.explore.studio import MAX_MAP, MAX_UNPACKED, Studio, View, as_file, as_png, png, shrunk_to
from sarigan_plugin.steering import attention, completion
from sarigan_plugin.steering.sampling import MAX_SEED, latents
from sarigan_plugin.support import picture_files, pictures

MAX_SIDE    = 768   # Pixels of the longer side of a photo as it is shown and painted on.
OTHERS      = 4     # Further ways to fill the hole that are shown.
# PIL reads some other formats by running programs.
LIMITS      = dict(formats=('PNG', 'JPEG', 'WEBP', 'GIF', 'BMP', 'TIFF'), max_pixels=MAX_UNPACKED // 4)

#----------------------------------------------------------------------------
# Photos.

class Photo:
    """A photo from the bytes of its file.

    It equals nothing but itself, which spares scenes the comparison. Raises ValueError with one sentence.
    """
    def __init__(self, content):
        self.content = content
        self.image = _read(completion.read_photo, content)  # PIL image in the mode L, RGB or RGBA.
        self.shown = shrunk_to(self.image, MAX_SIDE)        # The same, no larger than it is shown.
        self.png = png(seen(self.shown))                    # As it is shown.
        with PIL.Image.open(io.BytesIO(content), formats=LIMITS['formats']) as file:
            self.ending = f'.{file.format.lower()}'         # Of the names of its files.

    def whole(self, mask):
        """A hole of the photo as it is shown, for the photo itself: bool [h, w] -> [H, W]."""
        return np.asarray(PIL.Image.fromarray(mask).resize(self.image.size, PIL.Image.Resampling.NEAREST))

    def read_mask(self, content):
        """The hole in the bytes of a mask's file, for the photo as it is shown, bool [h, w].

        Raises ValueError with one sentence.
        """
        mask = _read(masks.read, content)
        if mask.shape != (self.image.height, self.image.width):
            raise ValueError(f'it is {mask.shape[1]}x{mask.shape[0]}, '
                f'but the photo is {self.image.width}x{self.image.height}.')
        return masks.resized(mask, self.shown.height, self.shown.width)

def _read(reader, content):
    """What a reader of files makes of what was uploaded."""
    with as_file(content) as path:
        try:
            return reader(path, **LIMITS)
        except ValueError as error:
            raise ValueError(str(error).replace(repr(path), 'it')) from None

def seen(image):
    """uint8 [H, W, 3] of a photo in the mode L, RGB or RGBA."""
    return np.asarray(completion.on_white(image).convert('RGB'))

class Album:
    """The photos of a folder, of a zip file, or one alone. Raises ValueError with one sentence."""
    def __init__(self, path):
        self.path = path
        self.zipped = os.path.isfile(path) and zipfile.is_zipfile(path)
        if self.zipped:
            try:
                with zipfile.ZipFile(path) as z:
                    self.names = sorted(filter(picture_files.is_picture, z.namelist()))
            except (zipfile.BadZipFile, NotImplementedError) as error:
                raise ValueError(f'{path!r} is no zip file that can be read ({error}).') from None
            if not self.names:
                raise ValueError(f'{path!r} has no images in it.')
        else:
            self.names = [path] if os.path.isfile(path) else pictures.files_in(path)

    def read(self, index):
        """A Photo. Raises ValueError with one sentence."""
        if not isinstance(index, int) or not 0 <= index < len(self.names):
            raise ValueError(f'{index!r:.40} is not the number of a photo, from 0 to {len(self.names) - 1}.')
        name = self.names[index]
        try:
            if self.zipped:
                with zipfile.ZipFile(self.path) as z:
                    content = z.read(name)
            else:
                with open(name, 'rb') as f:
                    content = f.read()
            return Photo(content)
        # It may be locked by a password, or packed in an unknown way.
        except (OSError, RuntimeError, zipfile.BadZipFile) as error:
            raise ValueError(f'{name!r} cannot be read ({error}).') from None
        except ValueError as error:
            raise ValueError(f'{name!r}: {error}') from None

#----------------------------------------------------------------------------

class InpaintStudio(Studio):
    """Fills the holes of all visitors, one after another."""

    def __init__(self,
        G,              # Generator of inpainting with channel groups.
        known,          # names.GroupNames of its groups.
        outdir,         # Folder for what visitors save; made when the first does.
        network,        # What the user called the network.
        album   = None, # Album to choose photos from; the first is what visitors begin with.
        linked  = None, # File of its linked groups, as --groups has it.
    ):
        """Raises ValueError where the first photo of the album won't do."""
        super().__init__(G, known, outdir)
        self.network = network
        self.linked = linked
        self.album = album
        self.first = album.read(0) if album is not None else None
        HoledSession(G, self.first) # Complains now rather than to every visitor.
        # A photo and its hole, and the condition that they are for the network: many pictures in a row share it.
        self.conditioned = None, None

    def visit(self):
        session = HoledSession(self.G, self.first)
        return session, InpaintView(self, session)

    def condition(self, scene):
        """See completion.condition()."""
        if self.conditioned[0] != (scene.photo, scene.hole):
            self.conditioned = (scene.photo, scene.hole), completion.condition(self.G, scene.photo.image,
                scene.photo.whole(scene.mask))
        return self.conditioned[1]

    def fill(self, scene, edits):
        """What the network makes of the photo, at its own size: an RGB image."""
        c, window = self.condition(scene)
        return completion.cut_out(completion.synthesize(self.G, c, scene.seed, scene.trunc, edits), window)

    def draw(self, scene):
        return seen(completion.fill(scene.photo.shown, scene.mask, self.fill(scene, scene.edits)))

    def draw_before(self, scene):
        c, window = self.condition(scene)
        ws = self.G.mapping(latents(self.G, [scene.seed]), c, truncation_psi=scene.trunc)
        images, maps = attention.attention_maps(self.G, ws, c=c)
        made = completion.cut_out(completion.require_finite(images), window)
        filled = seen(completion.fill(scene.photo.shown, scene.mask, made))
        return filled, {name: _of_photo(x[0], window, self.G.img_resolution) for name, x in maps.items()}

    #------------------------------------------------------------------------
    # Files.

    def contents(self, scene, recipe, stem):
        if scene.photo is None:
            raise ValueError('There is no photo yet; open one.')
        if not scene.mask.any():
            raise ValueError('There is no hole yet; paint one.')
        hole = scene.photo.whole(scene.mask)
        done = completion.complete(self.G, scene.photo.image, hole, scene.seed, scene.trunc, scene.edits)
        return {'.png': as_png(done), '-mask.png': as_png(PIL.Image.fromarray(hole)),
            f'-photo{scene.photo.ending}': scene.photo.content, '.json': recipe.content}

    def command(self, paths):
        """What to type for the image that was saved under the first of these paths."""
        _image, mask, photo, recipe = paths
        return shlex.join(['sarigan', 'inpaint', self.network, f'--images={photo}', f'--masks={mask}',
            f'--recipe={recipe}', *([] if self.linked is None else [f'--groups={self.linked}']),
            f'--outdir={os.path.join(self.outdir, "again")}'])

    def open(self, content):
        """What an uploaded file holds: (EditRecipe, None) or (None, Photo).

        Raises ValueError, with one sentence, for anything else.
        """
        if not content.lstrip().startswith(b'{'):
            return None, Photo(content)
        with as_file(content) as path:
            return completion.read_recipe(path, self.G), None

def _of_photo(maps, window, size):
    """The part of maps [g, h, w] of a square, `size` pixels wide, that is the photo;
    no more than MAX_MAP pixels wide."""
    side = min(size, MAX_MAP)
    maps = torch.nn.functional.interpolate(maps[None], size=(side, side), mode='bilinear', antialias=True)[0]
    left, top, right, bottom = window
    return maps[:, top * side // size : -(-bottom * side // size), left * side // size : -(-right * side // size)]

#----------------------------------------------------------------------------

class InpaintView(View):
    """The pictures that one visitor sees of a photo."""

    def beside(self, scene, layer, group, look):
        return scene.photo.png if look == 'before' else super().beside(scene, layer, group, look)

    def other_seed(self, place):
        """The seed of one of the OTHERS: those that come next."""
        return (self.session.scene.seed + 1 + place) % (MAX_SEED + 1)

    def draw_other(self, place):
        """How it fills the hole, as PNG of the network's size. Called by the studio's worker."""
        scene = dataclasses.replace(self.session.scene, seed=self.other_seed(place))
        return png(np.asarray(self.studio.fill(scene, scene.edits)))

#----------------------------------------------------------------------------
