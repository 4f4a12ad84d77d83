"""What the benchmarks share: options that take several values, images to train on."""

import click
import numpy as np
import PIL.Image

class ListOf(click.ParamType):
    """'1,2' -> [1, 2]: convert_part() is called for each part, and raises ValueError for what is none."""
    name = 'list'

    def __init__(self, convert_part, example):
        self.convert_part = convert_part
        self.example = example

    def convert(self, value, param, ctx):
        try:
            return [self.convert_part(part) for part in value.split(',')]
        except ValueError:
            self.fail(f'{value!r} is not a list such as {self.example}', param, ctx)

def as_setting(text):
    """'64:8' -> (64, 8): resolution and batch. Raises ValueError."""
    resolution, batch = map(int, text.split(':'))
    if resolution < 8 or resolution & (resolution - 1) or batch < 1:
        raise ValueError(f'{text!r} is not a power of two and a batch, as in 64:8')
    return resolution, batch

def random_images(folder, resolution, number=64):
    """Fill a new folder with random images: what they show costs nothing, their size does. Returns the folder."""
    folder.mkdir()
    rng = np.random.RandomState(0)
    for index in range(number):
        PIL.Image.fromarray(rng.randint(256, size=[resolution, resolution, 3], dtype=np.uint8)).save(folder / f'{index:03d}.png')
    return folder
