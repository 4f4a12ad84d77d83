"""Images, data sets and detectors of them that a test makes for itself."""

import io
import json
import warnings
import zipfile

import lmdb
import numpy as np
import PIL.Image
import torch

def noise(height, width, channels=3, seed=0):
    pixels = np.random.RandomState(seed).randint(256, size=[height, width, channels]).astype(np.uint8)
    return PIL.Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)

COLOURS = '''
def forward(self, img, return_features: bool=False):
    x = img.to(torch.float32)
    return torch.cat([x.mean([2, 3]), x[:, :, ::15, ::15].flatten(1)[:, :5]], dim=1)'''

def save_script(path, source=COLOURS):
    """A detector whose forward() is `source`, as TorchScript. Returns its path."""
    class Empty(torch.nn.Module):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning) # TorchScript is old, as are the files made with it.
        module = torch.jit.script(Empty())
        module.define(source + '\n')
        torch.jit.save(module, str(path))
    return str(path)

def save_images(path, count=30, seed=0, labels=None, size=32):
    """A zip of images that differ in brightness."""
    random = np.random.RandomState(seed)
    with zipfile.ZipFile(path, 'w') as archive:
        for index in range(count):
            pixels = (random.randint(256, size=[size, size, 3]) * random.rand()).astype(np.uint8)
            with archive.open(f'{index:03d}.png', 'w') as f:
                PIL.Image.fromarray(pixels).save(f, 'png')
        if labels is not None:
            archive.writestr('dataset.json',
                json.dumps(dict(labels=[[f'{index:03d}.png', index % labels] for index in range(count)])))
    return str(path)

def save_colours(path, with_attributes):
    """A zip of pictures of one colour; whether they are red and whether they are bright are attributes."""
    random, rows = np.random.RandomState(0), dict()
    with zipfile.ZipFile(path, 'w') as archive:
        for index in range(300):
            colour = random.randint(256, size=3)
            with archive.open(f'{index}.png', 'w') as f:
                PIL.Image.new('RGB', [32, 32], tuple(colour.tolist())).save(f, 'png')
            rows[f'{index}.png'] = [int(colour[0] > colour[1]), int(colour.mean() > 128)]
        if with_attributes:
            archive.writestr('attributes.json', json.dumps(dict(names=['red', 'bright'], images=rows)))
    return path

def photo(seed, width, height):
    """Smooth enough for JPEG."""
    small = np.random.RandomState(seed).randint(256, size=[4, 4, 3], dtype=np.uint8)
    return PIL.Image.fromarray(small).resize([width, height], PIL.Image.Resampling.BICUBIC)

def write_lmdb(folder, images, **options):
    """A database as LSUN has them: names of a few letters -> WebP files."""
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2 ** 26) as database, database.begin(write=True) as transaction:
        for index, image in enumerate(images):
            content = io.BytesIO()
            image.save(content, 'webp', **options)
            transaction.put(f'{index:08x}'.encode(), content.getvalue())
