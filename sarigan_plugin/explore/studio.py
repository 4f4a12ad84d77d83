"""Where the pictures of `sarigan explore` are drawn: one generator for all visitors, and files that come and go."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import io
import os
import re
import tempfile
import zipfile

import numpy as np
import PIL.Image
import torch

from sarigan_plugin.explore.session import Projected, Session
from sarigan_plugin.steering import attention
from sarigan_plugin.steering.edits import edited
from sarigan_plugin.steering.projection import Projection, noise_put_in
from sarigan_plugin.steering.recipe import EditRecipe
from sarigan_plugin.steering.sampling import render, sample_ws
from sarigan_plugin.support import files, pictures

THUMBNAIL       = 96            # Pixels, at most.
MAX_MAP         = 128           # Pixels of the attention maps that are kept for each visitor.
MAX_UNPACKED    = 256 * 2**20   # Bytes that a zip file of 16 MB may hold.

#----------------------------------------------------------------------------

class Studio:
    """Draws for all visitors, one picture after another: edits hang on the generator itself."""

    def __init__(self,
        G,                  # Generator with channel groups.
        known,              # names.GroupNames of its groups.
        outdir,             # Folder for what visitors save; made when the first does.
        projected   = None, # Projected that every visitor begins with.
        class_idx   = 0,    # Class or label vector that every visitor begins with.
    ):
        self.G = G
        self.known = known
        self.outdir = outdir
        self.projected = projected
        self.class_idx = class_idx
        self.worker = concurrent.futures.ThreadPoolExecutor(max_workers=1)

    def visit(self):
        """What a visitor gets: (Session, View)."""
        session = Session(self.G, self.projected, self.class_idx)
        return session, View(self, session)

    async def run(self, job, *args):
        """Do it when all that others asked for before is done."""
        return await asyncio.get_running_loop().run_in_executor(self.worker, job, *args)

    def projection(self, scene):
        """What the image is made of: a Projection."""
        return scene.projected.projection if scene.projected is not None else Projection(sample_ws(self.G, [scene.seed],
            scene.trunc, scene.class_idx))

    def draw(self, scene):
        """The image with its edits, uint8 [H, W, 3]."""
        found = self.projection(scene)
        with edited(self.G, scene.edits, scene.trunc, scene.class_idx), noise_put_in(self.G, found.noise):
            return render(self.G, found.ws[:1])

    def draw_before(self, scene):
        """The image without them, uint8 [H, W, 3], and its attention maps {layer name: [g, h, w]}."""
        found = self.projection(scene)
        with noise_put_in(self.G, found.noise):
            images, maps = attention.attention_maps(self.G, found.ws[:1])
        return pictures.to_uint8(images)[0], {name: _shrunk(x[0]) for name, x in maps.items()}

    #------------------------------------------------------------------------
    # Files.

    def save(self, scene, recipe):
        """Write what there is to keep under names that are free. Returns the paths. Raises OSError."""
        os.makedirs(self.outdir, exist_ok=True)
        taken = [int(match[1]) for match in map(re.compile(r'(\d{4,9})[.-]').match, os.listdir(self.outdir)) if match]
        stem = os.path.join(self.outdir, f'{max(taken, default=0) + 1:04d}')
        contents = self.contents(scene, recipe, stem)
        for ending, content in contents.items():
            with files.atomic_open(stem + ending) as f:
                f.write(content)
        return [stem + ending for ending in contents]

    def contents(self, scene, recipe, stem):
        """The files that are saved, {what the name ends with after `stem`: bytes}: the image, the recipe,
        and what was projected."""
        image = as_png(PIL.Image.fromarray(self.draw(scene)))
        if scene.projected is None:
            return {'.png': image, '.json': recipe.content}
        return {'.png': image, '.json': dataclasses.replace(recipe, projected_w=f'{stem}.npz').content,
            '.npz': scene.projected.content}

    def name(self, layer, group, name):
        """Name a group, '' = take its name away, and write the file. Raises ValueError, or OSError."""
        if name:
            self.known.set(layer, group, name)
        else:
            self.known.remove(layer, group)
        self.known.write()

    def open(self, content):
        """What an uploaded file holds: (EditRecipe, Projected), each of which may be None.

        Raises ValueError, with one sentence, for anything else.
        """
        if content.startswith(b'PK'): # Zip, as .npz is.
            return None, read_projected(self.G, content)
        with as_file(content) as path:
            recipe = EditRecipe.read(path)
        projected = self._saved_projection(recipe.projected_w) if recipe.projected_w is not None else None
        recipe = dataclasses.replace(recipe, projected_w=None) # Its check would open any file that is named there.
        recipe.check(self.G)
        return recipe, projected

    def _saved_projection(self, name):
        """A Projected of our folder: recipes that come through the page lead to no other."""
        folder, path = os.path.realpath(self.outdir), os.path.realpath(name.replace('\0', '')) # No path has that byte.
        if os.path.dirname(path) != folder or not path.endswith('.npz') or not os.path.isfile(path):
            raise ValueError(f'projected_w: {name!r:.60} is not an .npz file in {self.outdir}; '
                'open the projection itself, and then the edits without it.')
        with open(path, 'rb') as f:
            return read_projected(self.G, f.read())

def read_projected(G, content):
    """A Projected of the bytes of an .npz file. Raises ValueError, with one sentence."""
    with as_file(content) as path:
        if not _unpacks_to(path, MAX_UNPACKED):
            raise ValueError(f'it is no .npz file, or holds more than {MAX_UNPACKED >> 20} MB.')
        try:
            return Projected(Projection.read(path, G), content)
        except ValueError as error:
            raise ValueError(str(error).replace(repr(path), 'it')) from None

@contextlib.contextmanager
def as_file(content):
    """Gives its path. For readers that want a path, and not one that a visitor chose."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'upload')
        with open(path, 'wb') as f:
            f.write(content)
        yield path

def _unpacks_to(path, limit):
    """Whether it is a zip file of no more bytes than that. zipfile reads no more than it says here."""
    try:
        with zipfile.ZipFile(path) as z:
            return sum(entry.file_size for entry in z.infolist()) <= limit
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return False

def _shrunk(maps):
    """[g, h, w], no more than MAX_MAP pixels wide."""
    return torch.nn.functional.adaptive_avg_pool2d(maps, MAX_MAP) if maps.shape[-1] > MAX_MAP else maps

#----------------------------------------------------------------------------

class View:
    """The pictures that one visitor sees of a session, as PNG. What has not changed is not drawn again."""

    def __init__(self, studio, session):
        self.studio = studio
        self.session = session
        self.drawn = None   # The Scene.image that these are of:
        self.before = None  # [H, W, 3]
        self.maps = None    # {layer name: [g, h, w]}
        self.after = None   # [H, W, 3]
        self.layer = None   # That these are of:
        self.thumbnails = None # {group: PNG}, where each group of the layer is active.

    def draw(self):
        """Draw what the session shows by now. Returns PNGs, (beside, after); called by the studio's worker."""
        scene, layer, group, look = self.session.scene, self.session.layer, self.session.group, self.session.look
        if self.drawn != scene.image:
            self.before, self.maps = self.studio.draw_before(scene)
            self.drawn, self.layer = scene.image, None
        if self.layer != layer:
            self.layer, self.thumbnails = layer, self._draw_thumbnails(layer)
        self.after = self.studio.draw(scene) if scene.edits else self.before
        return self.beside(scene, layer, group, look), png(self.after)

    def beside(self, scene, layer, group, look):
        """PNG of one of the LOOKS."""
        return png(self._look(layer, group, look))

    def _look(self, layer, group, look):
        if look == 'before':
            return self.before
        if look == 'attention':
            return pictures.heat_overlay(self.before[None], self.maps[layer][[group]])[0]
        change = np.abs(self.after.astype(np.float32) - self.before).mean(axis=2)
        return (pictures.heat_overlay(self.before[None], torch.from_numpy(change)[None])[0] if change.any()
            else (self.before * 0.55).astype(np.uint8))

    def _draw_thumbnails(self, layer):
        small = np.asarray(shrunk_to(PIL.Image.fromarray(self.before), THUMBNAIL))[None]
        return {group: png(pictures.heat_overlay(small, self.maps[layer][[group]])[0])
            for group in self.session.groups[layer]}

def png(image):
    """uint8 [H, W, 3] -> the bytes of a file that is seen and gone."""
    return as_png(PIL.Image.fromarray(image), compress_level=1)

def as_png(image, **options):
    """The bytes of a file. options: of PIL's."""
    content = io.BytesIO()
    image.save(content, 'png', **options)
    return content.getvalue()

def shrunk_to(image, size):
    """An image whose longer side is `size` at most."""
    scale = min(size / max(image.size), 1)
    return (image.resize([max(round(side * scale), 1) for side in image.size], PIL.Image.Resampling.BOX)
        if scale < 1 else image)

#----------------------------------------------------------------------------

class Newest:
    """Does a job again whenever that is requested, never twice at a time;
    of requests that come meanwhile the newest is enough."""

    def __init__(self, job):
        self.job = job # A coroutine function.
        self.wanted = False
        self.running = False

    async def request(self):
        self.wanted = True
        if self.running:
            return
        self.running = True
        try:
            while self.wanted:
                self.wanted = False
                await self.job()
        finally:
            self.running = False

#----------------------------------------------------------------------------
