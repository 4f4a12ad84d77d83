"""A training of seconds: 16x16 pixels, eight channels, a thousand images a tick."""

import json

import numpy as np
import PIL.Image

SETTINGS = {
    'method':   dict(num_groups=4, code_dim=16),
    'networks': dict(channel_base=64, channel_max=8, mapping_layers=2, mbstd_group=4, num_fp16_res=0),
    'training': dict(kimg=1, batch=32, learning_rate=0.002, r1_gamma=1.0, ema_kimg=1.0, aug='noaug', kimg_per_tick=1,
        grid=[2, 2], snap=1, workers=1),
}

def config(**tables):
    """A config as TOML. tables: what differs in each, as method=dict(num_groups=2),
    or None for a table that isn't there."""
    lines = []
    for name in {**SETTINGS, **tables}:
        changes = tables.get(name, {})
        if changes is not None:
            lines += [f'[{name}]',
                *(f'{option} = {json.dumps(value)}' for option, value in {**SETTINGS.get(name, {}), **changes}.items())]
    return '\n'.join([*lines, ''])

def write_images(folder, count=24):
    """Images of noise in a new folder."""
    folder.mkdir()
    rng = np.random.RandomState(0)
    for i in range(count):
        PIL.Image.fromarray(rng.randint(256, size=[16, 16, 3], dtype=np.uint8)).save(folder / f'{i:02d}.png')

def write_squares(folder, count):
    """Images of one colour in a new folder, the red of each its number."""
    folder.mkdir()
    for i in range(count):
        PIL.Image.new('RGB', (16, 16), (i, 0, 0)).save(folder / f'{i}.png')
    return folder
