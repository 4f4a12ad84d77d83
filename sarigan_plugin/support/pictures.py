"""From tensors to pictures: contact sheets, heat maps laid over images, captions, videos;
and from photos of any kind to squares."""

import os
import warnings
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import PIL.ImageOps
import torch
from PIL.Image import Image

from sarigan_plugin.errors import first_line
from sarigan_plugin.support import files, picture_files

#----------------------------------------------------------------------------

def to_uint8(images: torch.Tensor) -> np.ndarray:
    """[N, 1 or 3, H, W] in [-1, 1] -> uint8 array [N, H, W, 3]."""
    images = (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    return images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()

def enlarge(images: np.ndarray, size: int) -> np.ndarray:
    """Repeat the pixels of [N, H, W, 3] until they are at least `size` wide, an integer factor."""
    factor = max(-(-size // images.shape[2]), 1)
    return images.repeat(factor, axis=1).repeat(factor, axis=2)

def shrink(images: np.ndarray, size: int) -> np.ndarray:
    """Average blocks of pixels of [N, H, W, 3] until they are at most `size` wide; sides are powers of two.

    The opposite of enlarge().
    """
    factor = max(images.shape[2] // size, 1)
    count, height, width, _ = images.shape
    blocks = images.reshape(count, height // factor, factor, width // factor, factor, 3)
    return blocks.mean(axis=(2, 4)).astype(np.uint8)

def save(image: Image, path: str | os.PathLike[str]) -> None:
    """Write an image as PNG, whole or not at all. A link of that name is replaced, and what it points to stays."""
    with files.atomic_open(path) as f:
        image.save(f, 'png')

def sheet(images: np.ndarray, columns: int, gap: int = 2) -> Image:
    """Lay [N, H, W, 3] out row by row. Returns an RGB image."""
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    canvas = np.full([rows * (height + gap) + gap, columns * (width + gap) + gap, 3], 255, dtype=np.uint8)
    for index, image in enumerate(images):
        y, x = gap + index // columns * (height + gap), gap + index % columns * (width + gap)
        canvas[y : y + height, x : x + width] = image
    return PIL.Image.fromarray(canvas)

#----------------------------------------------------------------------------

def read(path: str | IO[bytes], formats: tuple[str, ...] | None = None, max_pixels: int | None = None) -> Image:
    """A photo with the camera's orientation obeyed, as a PIL image of any mode. Of several frames it is the first.

    formats: those that will do, as PIL calls them, None = all that it knows. max_pixels: how large it may be, None = as
    large as PIL bears. Raises ValueError with one sentence.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', PIL.Image.DecompressionBombWarning) # Large is fine; huge is an error.
            with PIL.Image.open(path, formats=formats) as file:
                # So far nothing but its head has been read.
                if max_pixels is not None and file.width * file.height > max_pixels:
                    raise ValueError(f'{file.width}x{file.height} are more than {max_pixels / 1e6:.0f} megapixels')
                image = PIL.ImageOps.exif_transpose(file)
                image.load()
                return image
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise ValueError(f'{path!r} cannot be read: {error.strerror}.') from None
    except PIL.UnidentifiedImageError:
        if isinstance(path, str) and picture_files.is_junk(os.path.basename(path)):
            raise ValueError(f'{path!r} is a file that the system has left beside images, and none itself.') from None
        raise ValueError(f'{path!r} is not an image, or one of an unknown format.') from None
    except Exception as error: # Decoders raise whatever they like on bad bytes.
        raise ValueError(f'{path!r} is not an image that can be read ({first_line(error)}).') from None

def files_in(folder: str) -> list[str]:
    """The files in a folder that are images by their endings, in the order of their names.

    Raises ValueError with one sentence.

    What is in its sub-folders is not taken: these may be masks or results.
    """
    try:
        with os.scandir(folder) as entries:
            folders = {entry.name: entry.is_dir() for entry in entries if not picture_files.is_junk(entry.name)}
    except OSError as error:
        raise ValueError(f'{folder!r} cannot be read: {error.strerror}.') from None
    names = [name for name in sorted(folders) if not folders[name] and picture_files.is_picture(name)]
    if not names:
        elsewhere = ''
        for path in filter(picture_files.is_picture, _paths_below(folder)):
            below = os.path.dirname(os.path.join(folder, path))
            elsewhere = f', but in folders in it, as {below!r}: give one of these'
            break
        raise ValueError(f'{folder!r} has no images in it{elsewhere}.')
    return [os.path.join(folder, name) for name in names]

def _paths_below(folder: str) -> list[str]:
    try:
        return picture_files.walk(folder)
    except OSError: # Of a folder that can't be read there is nothing to tell.
        return []

def eight_bits(image: Image, path: object) -> Image:
    """An image with the upper 8 bits of 16, or as it is. Raises ValueError with one sentence."""
    if not _is_deep(image):
        return image
    check_levels(image, path)
    return PIL.Image.fromarray((np.asarray(image) // 256).astype(np.uint8))

def check_levels(image: Image, path: object) -> None:
    """Raise ValueError with one sentence where levels of grey are none of 8 or 16 bits."""
    levels = np.asarray(image)
    if _is_deep(image) and (image.mode == 'F' or levels.min() < 0 or levels.max() > 65535):
        raise ValueError(f'{path!r} has levels that are no colours of 8 or 16 bits.')

def _is_deep(image: Image) -> bool:
    return image.mode == 'F' or image.mode.startswith('I')

#----------------------------------------------------------------------------

def heat_overlay(images: np.ndarray, maps: torch.Tensor) -> np.ndarray:
    """Lay attention maps over images: the less a place is attended to the greyer and darker it gets,
    the more the redder.

    images: uint8 [N, H, W, 3]. maps: [N, h, w], any range; scaled to [0, 1] over all N together.
    Returns uint8 [N, H, W, 3].
    """
    maps = torch.nn.functional.interpolate(maps[:, None].float(), size=images.shape[1:3], mode='bilinear')
    levels = maps[:, 0].cpu().numpy()
    low, high = np.quantile(levels, [0.02, 0.98]) # A single hot pixel must not decide.
    heat = ((levels - low) / max(high - low, 1e-8)).clip(0, 1)[..., None]
    grey = images.mean(axis=3, keepdims=True) * 0.55
    warm = np.concatenate([np.ones_like(heat), 0.85 * (1 - heat), np.zeros_like(heat)], axis=3) * 255 # Yellow to red.
    weight = 0.8 * heat ** 2 # What is attended to a little stays grey.
    return (grey * (1 - weight) + warm * weight).astype(np.uint8)

#----------------------------------------------------------------------------

def caption(
    image:          Image,
    title:          str,
    row_labels:     Sequence[str] = (),
    row_height:     int = 0,
    column_labels:  Sequence[str] = (),
    column_width:   int = 0,
) -> Image:
    """Write a title above a picture, and labels beside its rows and above its columns. Returns a new image."""
    font = PIL.ImageFont.load_default(13)
    margin = 8 + max([int(font.getlength(label)) for label in row_labels], default=0)
    top = 22 + 18 * bool(column_labels)
    canvas = PIL.Image.new('RGB',
        (margin + max(image.width, int(font.getlength(title)) + 12), image.height + top), 'white')
    canvas.paste(image, (margin, top))
    draw = PIL.ImageDraw.Draw(canvas)
    draw.text((margin + 2, 3), title, fill='black', font=font)
    for row, label in enumerate(row_labels):
        draw.text((4, top + row * row_height + row_height // 2 - 8), label, fill='black', font=font)
    for column, label in enumerate(column_labels):
        draw.text((margin + column * column_width + (column_width - int(font.getlength(label))) // 2, 22), label,
            fill='black', font=font)
    return canvas

def strip(columns: Sequence[np.ndarray], title: str, row_labels: Sequence[str] = (), size: int = 96) -> Image:
    """Columns of images [N, H, W, 3] beside each other, a row for each of the N, and a title. Returns an image."""
    tiles = enlarge(np.stack(columns, axis=1).reshape(-1, *columns[0].shape[1:]), size)
    return caption(sheet(tiles, len(columns)), title, row_labels, tiles.shape[1] + 2)

def bars(title: str, rows: Sequence[tuple[str, float, float, str]], width: int = 220) -> Image:
    """A chart of horizontal bars from 0, with their numbers. Returns an image.

    rows: (label, value, margin, colour) each; a whisker goes from value - margin to value + margin,
    and a bar to the left where a value is negative.
    """
    font, row_height = PIL.ImageFont.load_default(12), 20
    low = min([0, *(value - margin for _label, value, margin, _colour in rows)])
    high = max([1e-12, *(value + margin for _label, value, margin, _colour in rows)])
    place = lambda value: round((value - low) / (high - low) * width)
    canvas = PIL.Image.new('RGB', (width + 60, row_height * len(rows)), 'white')
    draw = PIL.ImageDraw.Draw(canvas)
    for row, (_label, value, margin, colour) in enumerate(rows):
        middle = row * row_height + row_height // 2
        draw.rectangle([min(place(0), place(value)), middle - 7, max(place(0), place(value)), middle + 7], fill=colour)
        draw.line([place(value - margin), middle, place(value + margin), middle], fill='black')
        for end in [place(value - margin), place(value + margin)]:
            draw.line([end, middle - 3, end, middle + 3], fill='black')
        draw.text((place(max(value, 0) + margin) + 5, middle - 8), f'{value:.3g}', fill='black', font=font)
    draw.line([place(0), 0, place(0), canvas.height], fill='grey')
    return caption(canvas, title, [label for label, *_numbers in rows], row_height)

def mosaic(pictures: Sequence[Image], columns: int) -> Image:
    """Put pictures of different sizes into cells of one width, a row as high as its highest."""
    rows = [pictures[first : first + columns] for first in range(0, len(pictures), columns)]
    width, heights = max(p.width for p in pictures) + 8, [max(p.height for p in row) + 8 for row in rows]
    canvas = PIL.Image.new('RGB', (columns * width, sum(heights)), 'white')
    for index, row in enumerate(rows):
        for column, picture in enumerate(row):
            canvas.paste(picture, (column * width + 4, sum(heights[:index]) + 4))
    return canvas

#----------------------------------------------------------------------------

def save_video(stem: str | os.PathLike[str], frames: Sequence[Image], fps: float) -> str:
    """Write RGB images of one size as `stem`.mp4, or where imageio can't, as an animated `stem`.png, which loops.

    Returns its path.

    For MP4 width and height must be multiples of 16.
    """
    path = f'{stem}.mp4' if has_mp4() else f'{stem}.png'
    if path.endswith('.png'):
        save_animation(path, frames, fps)
        return path
    with files.atomic_open(path) as f:
        import imageio  # Takes every other command a sixth of a second.
        arrays: list[Any] = [np.asarray(frame) for frame in frames]
        content: Any = imageio.mimwrite('<bytes>', arrays, format='mp4', fps=fps, codec='libx264', quality=9)
        f.write(content)
    return path

def save_animation(path: str | os.PathLike[str], frames: Sequence[Image], fps: float) -> None:
    """Write images of one size as an animated PNG, which loops."""
    with files.atomic_open(path) as f:
        frames[0].save(f, 'png', save_all=True, append_images=frames[1:], duration=1000 / fps, loop=0)

def has_mp4() -> bool:
    """Whether imageio finds ffmpeg, which comes with the package imageio-ffmpeg."""
    try:
        import imageio_ffmpeg
        return bool(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return False

#----------------------------------------------------------------------------
