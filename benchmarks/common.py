"""What the benchmarks share: options for the device and for several values, images to train on."""

import click
import numpy as np
import PIL.Image

from sarigan_plugin.upstream import host

class Device(click.Choice):
    """'auto', 'cuda' or 'cpu' -> 'cuda' or 'cpu', as it is there."""
    def __init__(self):
        super().__init__(host.DEVICES)

    def convert(self, value, param, ctx):
        try:
            return host.resolve_device(super().convert(value, param, ctx))
        except ValueError as error:
            self.fail(str(error), param, ctx)

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

def as_count(text):
    """'2' -> 2. Raises ValueError where that is less than one."""
    if int(text) < 1:
        raise ValueError()
    return int(text)

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
        PIL.Image.fromarray(rng.randint(256, size=[resolution, resolution, 3], dtype=np.uint8)).save(
            folder / f'{index:03d}.png')
    return folder
