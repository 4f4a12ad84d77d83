"""What is in an image, in the words of a data set: a small classifier of its attributes, or for drawn pictures
(`sarigan data drawn`) a reader that makes no mistakes.

A data set, a zip or a folder, may hold `attributes.json`, see datasets/attribute_table.py.

    from sarigan_plugin.evaluation import attributes

    classifier = attributes.fit('punks.zip')
    probabilities = classifier(images)      # {'beanie': [0.02, 0.97, ...], ...} for uint8 images [N, H, W, 3]
"""

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import zipfile

import numpy as np
import PIL.Image
import scipy.stats
import torch

from sarigan_plugin.datasets import attribute_table, drawn, listing
from sarigan_plugin.datasets.packaged import cache_dir
from sarigan_plugin.errors import UserError, first_line, writing
from sarigan_plugin.support import files
from sarigan_plugin.support.bars import progressbar

VERSION     = 1         # Of the classifiers in the cache: another one where anything below changes.
SIDE        = 32        # Images are looked at in this size, pixels.
WIDTHS      = [32, 64, 128] # Channels of its convolutions, each of which halves the side.
STEPS       = 1500
BATCH       = 64
RATE        = 4e-3      # Highest learning rate, of one cycle.
MIN_COUNT   = 20        # Held-out images with a value, and without it: fewer tell nothing of how well it is recognised.
MIN_AUC     = 0.9       # Attributes that are recognised less well are left out.
HELD_OUT    = 5         # Every fifth image is not trained on.
DRAWN_SEEN  = 32        # Pictures of a data set that have to be read as its table says for it to be a drawn one.

#----------------------------------------------------------------------------

class Classifier:
    """The probability of each attribute in an image."""
    def __init__(self,
        names,      # Of what it tells: an attribute or, where that has several values, one of them.
        of_each,    # The attribute of each.
        state,      # Of the network, see _network().
        auc,        # {name: area under the ROC curve on held-out images}, 0.5 = chance.
    ):
        self.names = names
        self.of_each = of_each
        self.auc = auc
        self.network = _network(len(names)).eval().requires_grad_(False)
        self.network.load_state_dict(state)

    def __call__(self, images):
        """uint8 [N, H, W, 3] -> {name: [N]}, for the attributes that it recognises: an AUC of MIN_AUC at least."""
        probabilities = self.network(_normalised(images)).sigmoid()
        return {self.names[index]: probabilities[:, index].numpy() for index in self.recognised()}

    def recognised(self):
        """Indices of the names with an AUC of MIN_AUC at least."""
        return [index for index, name in enumerate(self.names) if self.auc.get(name, 0) >= MIN_AUC]

    def attributes(self):
        """The attributes that are recognised, or of which a value is, in order."""
        return list(dict.fromkeys(self.of_each[index] for index in self.recognised()))

def _network(num_outputs):
    widths = [3, *WIDTHS]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [layer for before, after in zip(widths, WIDTHS)
            for layer in [torch.nn.Conv2d(before, after, 3, stride=2, padding=1), torch.nn.BatchNorm2d(after),
                torch.nn.ReLU()]]
        return torch.nn.Sequential(*layers, torch.nn.Flatten(),
            torch.nn.Linear(WIDTHS[-1] * (SIDE // 2 ** len(WIDTHS)) ** 2, num_outputs))

def _normalised(images):
    """uint8 [N, H, W, 3] -> [N, 3, SIDE, SIDE] in [-1, 1]."""
    return resized(torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1)

def resized(images):
    """[N, 3, H, W] -> [N, 3, SIDE, SIDE]; differentiable."""
    if images.shape[-2:] == (SIDE, SIDE):
        return images
    return torch.nn.functional.interpolate(images, size=[SIDE, SIDE], mode='bilinear', antialias=True)

def _roughen(images, random):
    """What generators do to images and cameras don't: tints, blur, noise, each of another strength in each image.

    [NCHW] -> [NCHW].
    """
    def amount(high, *shape):
        return torch.rand([len(images), *shape, 1, 1], generator=random) * high
    images = images * (0.8 + amount(0.4, 1)) + (amount(0.4, 3) - 0.2)
    blurred = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(images, [1] * 4, mode='replicate'), 3, stride=1)
    return images.lerp(blurred, amount(1, 1)) + amount(0.2, 1) * torch.randn(images.shape, generator=random)

def area_under_roc(scores, present):
    """Probability that an image with the attribute scores higher than one without, ties counting half.

    [N], bool [N] -> float.
    """
    with_it = int(present.sum())
    ranks = scipy.stats.rankdata(scores)[present].sum() - with_it * (with_it + 1) / 2
    return float(ranks / (with_it * (len(present) - with_it)))

class DrawnReader:
    """The factors of drawn pictures, read by what draws them. Nothing is learned."""
    names = [f'{factor} {value}' for factor, values in drawn.FACTORS.items() for value in values]

    def __call__(self, images):
        """As Classifier: uint8 [N, H, W, 3] -> {'hat crown': [N] of 0 and 1, ...}."""
        found = self.factors(images)
        return {f'{factor} {value}': (drawn.column(found, factor) == index).astype(np.float64)
            for factor, values in drawn.FACTORS.items() for index, value in enumerate(values)}

    def factors(self, images):
        """int [N, F], see drawn.read(). Raises UserError for images of another size than drawn ones have."""
        try:
            return drawn.read(images)
        except ValueError as error:
            raise UserError(f'The attributes of this data set cannot be read in the images of this network: {error}'
                ) from None

class NoAttributes(ValueError):
    """A data set has none, or none that can be seen in its images."""

def fit(path):
    """The Classifier of the attributes of a data set, trained the first time and kept in the cache; a DrawnReader where
    its pictures are drawn ones.

    Raises ValueError, one sentence, for what is no data set; NoAttributes for one without attributes.
    """
    with _opened(path) as source:
        table = _read_table(source)
        return DrawnReader() if _is_drawn(source, table) else _learned(path, source, table)

def learn(path):
    """As fit(), but always a Classifier: gradients go through its network, and none through a reader."""
    with _opened(path) as source:
        return _learned(path, source, _read_table(source))

def _learned(path, source, table):
    columns = _columns_of(table)
    kept = _place_in_cache(path, columns)
    classifier = _kept_classifier(kept, columns)
    if classifier is None:
        state, auc = _learn_and_keep(kept, source, list(table.rows), columns)
        classifier = Classifier(columns.names, columns.of_each, state, auc)
    if not classifier.recognised():
        raise NoAttributes(f'none of its {len(columns.names)} attributes is recognised with an AUC of {MIN_AUC:g}, '
            f'each in {MIN_COUNT} held-out images at least.')
    return classifier

def _place_in_cache(path, columns):
    """Where the classifier of a data set is kept."""
    told = [files.fingerprint(path)]
    if columns.reworded: # Version 1 didn't read them as 0 and 1.
        told.append(hashlib.sha256(json.dumps(columns.reworded).encode()).hexdigest()[:8])
    return cache_dir() / f'attributes-{VERSION}-{"-".join(told)}.pt'

def _kept_classifier(kept, columns):
    """The Classifier in a file of the cache; None where there is none, or part of one."""
    try:
        return Classifier(columns.names, columns.of_each, **torch.load(kept, weights_only=True))
    except Exception: # torch.load() raises whatever it likes on bad bytes.
        return None

def _learn_and_keep(kept, source, image_files, columns):
    """What _train() returns. That it can't be kept is known before."""
    with writing('XDG_CACHE_HOME', kept.parent):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic_open(str(kept)) as f:
            images = _read_images(source, image_files)
            state, auc = _train(_normalised(images), torch.from_numpy(columns.targets), columns.names)
            content = io.BytesIO() # PyTorch says less of a full disk than a file does.
            torch.save(dict(state=state, auc=auc), content)
            f.write(content.getbuffer())
    return state, auc

def _train(images, targets, names):
    """images: [N, 3, SIDE, SIDE] in [-1, 1]; targets: bool [N, attributes]. Returns (state, {name: AUC})."""
    network = _network(len(names))
    random = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
    fitted = torch.arange(len(images)) % HELD_OUT > 0
    shown, wanted = images[fitted], targets[fitted].float()
    with progressbar(range(STEPS), label='Learning attributes') as steps:
        for _step in steps:
            batch = torch.randint(len(shown), [BATCH], generator=random)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(network(_roughen(shown[batch], random)),
                wanted[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        scores = torch.cat([network(part) for part in images[~fitted].split(1000)]).numpy()
    present = targets[~fitted].numpy()
    auc = {name: area_under_roc(scores[:, index], present[:, index]) for index, name in enumerate(names)
        if MIN_COUNT <= present[:, index].sum() <= len(present) - MIN_COUNT}
    return network.state_dict(), auc

#----------------------------------------------------------------------------
# Reading a data set.

def _opened(path):
    try:
        return contextlib.closing(listing.Folder(path) if os.path.isdir(path) else listing.Zip(path))
    except OSError as error:
        raise ValueError(f'it cannot be read ({error.strerror}).') from None
    except zipfile.BadZipFile:
        raise ValueError('it is not a zip.') from None

def _read(source, name):
    with source.open(name) as file:
        return file.read()

def _read_table(source):
    """The attribute_table.Table of a data set."""
    try:
        content = _read(source, listing.ATTRIBUTES)
    except (KeyError, FileNotFoundError):
        raise NoAttributes('it has no attributes.json; put one beside its images, as '
            '{"names": ["hat"], "images": {"0001.png": ["cap"], ...}}.') from None
    except Exception as error: # Of a broken or encrypted zip, too.
        raise ValueError(f'its attributes.json cannot be read ({first_line(error)}).') from None
    try:
        return attribute_table.parse(content)
    except ValueError as error:
        raise ValueError(f'its attributes.json {error}.') from None

def _columns_of(table):
    """The attribute_table.Columns of a table."""
    try:
        columns = attribute_table.columns(table)
    except ValueError as error:
        raise ValueError(f'its attributes.json {error}.') from None
    if not columns.names:
        raise NoAttributes('no attribute in its attributes.json has from 2 to '
            f'{attribute_table.MAX_KINDS} different values.')
    return columns

def _is_drawn(source, table):
    """Whether its pictures are heads that drawn.py draws: the table says so, and so do the first pictures."""
    first = dict(list(table.rows.items())[:DRAWN_SEEN])
    factors = drawn.of_words(table.names, first.values())
    if factors is None:
        return False
    images = [_read_image(source, file) for file in first]
    try:
        return len({image.shape for image in images}) == 1 and np.array_equal(drawn.read(np.stack(images)),
            drawn.visible(factors))
    except ValueError: # Of another size.
        return False

def _read_images(source, image_files):
    """uint8 [N, SIDE, SIDE, 3]."""
    images = np.empty([len(image_files), SIDE, SIDE, 3], dtype=np.uint8)
    for index, file in enumerate(image_files):
        image = PIL.Image.fromarray(_read_image(source, file))
        images[index] = np.asarray(image if image.size == (SIDE, SIDE)
            else image.resize([SIDE, SIDE], PIL.Image.Resampling.BOX))
    return images

def _read_image(source, file):
    """uint8 [H, W, 3]."""
    try:
        return np.asarray(PIL.Image.open(io.BytesIO(_read(source, file))).convert('RGB'))
    except (KeyError, OSError) as error:
        raise ValueError(f'its image {file!r} cannot be read ({error}).') from None

#----------------------------------------------------------------------------

class ScorerFailed(Exception):
    """What a scorer of the user's own did wrong, without a full stop."""

def load_scorer(place):
    """A scorer of one's own: 'file.py:function' -> the function, which takes uint8 [N, H, W, 3] and returns {name:
    [N] numbers}.

    Raises ValueError, one sentence; the function itself raises ScorerFailed. The file is run.
    """
    path, _colon, name = place.rpartition(':')
    if not path or not name:
        raise ValueError('it is not FILE.py:FUNCTION.')
    if not os.path.isfile(path):
        raise ValueError(f'there is no file {path!r}.')
    spec = importlib.util.spec_from_file_location('scorer', path)
    if spec is None:
        raise ValueError(f'{path!r} is not a Python file.')
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        function = getattr(module, name, None)
    except Exception as error: # It is the user's code, here and below.
        raise ValueError(f'{path!r} fails: {type(error).__name__}: {error}.') from None
    if not callable(function):
        raise ValueError(f'{path!r} has no function {name!r}.')

    def scorer(images):
        try:
            scores = {str(key): np.asarray(values, dtype=np.float64) for key, values in function(images).items()}
        except Exception as error:
            raise ScorerFailed(f'{type(error).__name__}: {error}') from None
        for key, values in scores.items():
            if values.shape != (len(images),):
                raise ScorerFailed(f'its {key!r} has the shape {list(values.shape)} for {len(images)} images')
        return scores
    return scorer

#----------------------------------------------------------------------------
