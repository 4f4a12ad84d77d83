"""Holes in images of any size and mode, filled by a network of inpainting (Section 4.3).

    >>> from sarigan_plugin.steering import completion
    >>> G = completion.load('inpainting.pkl', 'network')
    >>> photo = completion.read_photo('photo.png')                      # With a transparent hole.
    >>> completion.complete(G, photo, completion.transparent(photo), seed=1).save('done.png')

A network completes squares of one size. So the whole image is shrunk, or enlarged, until its longer side is the
network's, the rest of the square repeats its edges, and of what the network makes the hole alone is brought back to the
size of the image. Tiles at full size would be sharper in large images, but each by itself is nothing that the network
has learnt to complete.
"""

import numpy as np
import PIL.Image
import torch

from sarigan_plugin.datasets import masks
from sarigan_plugin.errors import UserError
from sarigan_plugin.model.inpainting import join_condition
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import groupings
from sarigan_plugin.steering.edits import edited
from sarigan_plugin.steering.recipe import EditRecipe
from sarigan_plugin.steering.sampling import latents
from sarigan_plugin.support import pictures

SEEDS, TRUNC = (0,), 1 # Where neither a recipe nor the user says otherwise.

#----------------------------------------------------------------------------

def load(path, option, device='cpu', trust=False, groups=None):
    """As reading.load(), but only a network of inpainting will do. groups: of linked ones, see groupings.load()."""
    G, _trained_on = load_with_data_set(path, option, device, trust)
    groupings.read_linked(G, path, option, groups)
    return G

def load_with_data_set(path, option, device='cpu', trust=False):
    """As load(), and the training_set_kwargs of what it was trained on, {} where the file does not say."""
    data = reading.load_all(path, option, trust)
    G = reading.averaged(data, device)
    if not reading.completes_images(G):
        raise UserError(f'{option}: {path!r} does not complete images; '
            '`sarigan train --cfg=sarigan-inpaint` trains networks that do.')
    return G, data.get('training_set_kwargs') or {}

def read_photo(path, **limits):
    """A PIL image in the mode L, RGB or RGBA, upright, of 8 bits per sample. limits: see pictures.read().

    Raises ValueError with one sentence.
    """
    image = pictures.eight_bits(pictures.read(path, **limits), path)
    if image.has_transparency_data:
        return image.convert('RGBA')
    return image.convert('L' if image.mode in ['1', 'L'] else 'RGB')

def read_recipe(path, G):
    """An EditRecipe whose edits the network can do, with SEEDS and TRUNC where it leaves them out.

    Raises ValueError with one sentence.
    """
    recipe = EditRecipe.read(path, seeds=SEEDS, trunc=TRUNC)
    recipe.check_edits(G)
    return recipe

def on_white(photo):
    """The same in the mode L or RGB, with white behind what is transparent."""
    return (PIL.Image.alpha_composite(PIL.Image.new('RGBA', photo.size, 'white'), photo).convert('RGB')
        if photo.mode == 'RGBA' else photo)

def transparent(photo):
    """Where nothing of an image is seen, bool [H, W]."""
    return np.asarray(photo.getchannel('A')) == 0 if photo.mode == 'RGBA' else np.zeros([photo.height,
        photo.width], dtype=bool)

#----------------------------------------------------------------------------

def complete(G, photo, hole, seed, trunc=1, edits=()):
    """Fill the hole of an image in one of many ways.

    photo: PIL image in the mode L, RGB or RGBA. hole: bool [H, W]. seed: another one, another way. edits:
    of channel groups, see edits.edited().
    Returns a new image of the same mode, whose known pixels are those of the photo and whose hole is opaque. Raises
    ValueError where nothing that is known is left at the network's size.
    """
    c, window = condition(G, photo, hole)
    return fill(photo, hole, cut_out(synthesize(G, c, seed, trunc, edits), window))

def condition(G, photo, hole):
    """The label c [1, c_dim] of an image with a hole, and which part of the network's square is the image: left, top,
    right, bottom.

    Raises ValueError where nothing that is known is left at the network's size.
    """
    size = G.img_resolution
    small_hole = shrink_hole(G, hole)
    height, width = small_hole.shape
    left, top = (size - width) // 2, (size - height) // 2
    shown = on_white(photo).convert('L' if G.img_channels == 1 else 'RGB')
    if shown.size != (width, height):
        # Its pixels are means of those that shrink_hole() looks at: none of a hole is among the known.
        shown = shown.resize((width, height), PIL.Image.Resampling.BOX)
    margins = ((top, size - height - top), (left, size - width - left))
    small_hole = np.pad(small_hole, margins, mode='edge')
    pixels = np.pad(np.asarray(shown).reshape(height, width, -1), (*margins, (0, 0)), mode='edge')

    device = next(G.parameters()).device
    image = torch.from_numpy(pixels).to(device).permute(2, 0, 1)[None].to(torch.float32) / 127.5 - 1 # [1CRR]
    return join_condition(image, torch.from_numpy(small_hole).to(device)[None, None]), (left, top,
        left + width, top + height)

def shrink_hole(G, hole):
    """A hole at the network's size, bool [h, w], of which the longer side is G.img_resolution.

    Raises ValueError where nothing known is left.
    """
    height, width = (max(round(side * G.img_resolution / max(hole.shape)), 1) for side in hole.shape)
    small = masks.resized(hole, height, width)
    if small.all():
        raise ValueError(f'at {width}x{height}, as the network takes it, it is all hole.')
    return small

def cut_out(images, window):
    """The part of the first of the network's images [N, C, R, R] that condition() says is the photo,
    as an RGB image of the network's size."""
    return PIL.Image.fromarray(pictures.to_uint8(images)[0]).crop(window)

def fill(photo, hole, made):
    """A new image that is the photo, and in the hole what was made, which may be of another size. See complete()."""
    if made.size != photo.size:
        made = made.resize(photo.size, PIL.Image.Resampling.BICUBIC)
    done = photo.copy()
    done.paste(made.convert(photo.mode), mask=PIL.Image.fromarray(hole))
    return done

def synthesize(G, c, seed, trunc=1, edits=()):
    """Images [N, C, R, R], about [-1, 1], of conditions c [N, c_dim]. Raises ValueError where they are not finite."""
    with edited(G, edits, trunc, label=c):
        images = G(latents(G, [seed]).expand(len(c), -1), c, truncation_psi=trunc, noise_mode='const')
    return require_finite(images)

def require_finite(images):
    """Returns the images. Raises ValueError where they are not finite."""
    if not images.isfinite().all():
        raise ValueError('the images of the network are not finite.')
    return images

#----------------------------------------------------------------------------
