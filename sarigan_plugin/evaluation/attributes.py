"""What is in an image, in the words of a data set: a small classifier of its attributes, or for drawn pictures
(`sarigan data drawn`) a reader that makes no mistakes.

A data set, a zip or a folder, may hold `attributes.json`, see datasets/attribute_table.py.

    from sarigan_plugin.evaluation import attributes

    classifier = attributes.fit('punks.zip')
    probabilities = classifier(images)      # {'beanie': [0.02, 0.97, ...], ...} for uint8 images [N, H, W, 3]
"""

import hashlib
import importlib.util
import io
import itertools
import json
import os

import numpy as np
import PIL.Image
import torch

from sarigan_plugin.datasets import attribute_source, attribute_table, drawn, listing
from sarigan_plugin.datasets.attribute_source import NoAttributes
from sarigan_plugin.datasets.packaged import cache_dir
from sarigan_plugin.datasets.picture_labels import some
from sarigan_plugin.errors import UserError, writing
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
        unlearnable, # Of _unlearnable().
    ):
        self.names = names
        self.of_each = of_each
        self.auc = auc
        self.unlearnable = unlearnable
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

    def passed_over(self):
        """{why: [the table's attributes that are not recognised]}; those with an AUC have the best one behind them."""
        best = dict()
        for name, attribute in zip(self.names, self.of_each):
            best[attribute] = max(best.get(attribute, 0), self.auc.get(name, 0))
        told = set(itertools.chain(*self.unlearnable.values()))
        unseen = [f'{attribute} {auc:.2f}' for attribute, auc in best.items()
            if auc < MIN_AUC and attribute not in told]
        return {**self.unlearnable, **({f'AUC below {MIN_AUC:g}': unseen} if unseen else {})}

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
    with_it, without = scores[present], np.sort(scores[~present])
    below, below_or_equal = [np.searchsorted(without, with_it, side) for side in ['left', 'right']]
    return float((below + below_or_equal).mean() / 2 / len(without))

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

def fit(path):
    """The Classifier of the attributes of a data set, trained the first time and kept in the cache; a DrawnReader where
    its pictures are drawn ones.

    Raises ValueError, one sentence, for what is no data set; NoAttributes for one without attributes.
    """
    with attribute_source.opened(path) as source:
        table = source.table()
        return DrawnReader() if _is_drawn(source, table) else _learned(path, source, table)

def learn(path, left_out=None):
    """As fit(), but always a Classifier: gradients go through its network, and none through a reader.

    left_out: names of images that are no part of the data set; None = those of this process, see
    datasets/loading.prepare(). Raises attribute_source.UnreadableImage where another one can't be read.
    """
    with attribute_source.opened(path) as source:
        return _learned(path, source, source.table(), listing.left_out(path) if left_out is None else left_out)

def _learned(path, source, table, left_out=()):
    left_out = sorted(table.rows.keys() & set(left_out))
    table = table.without(left_out)
    columns = source.columns(table)
    unlearnable = _unlearnable(columns)
    if set(table.names) <= set(itertools.chain(*unlearnable.values())):
        raise NoAttributes(f'none of its attributes can be learned ({listed(unlearnable)}).')
    kept = _place_in_cache(path, columns, left_out)
    classifier = _kept_classifier(kept, columns, unlearnable)
    if classifier is None:
        state, auc = _learn_and_keep(kept, source, list(table.rows), columns)
        classifier = Classifier(columns.names, columns.of_each, state, auc, unlearnable)
    if not classifier.recognised():
        raise NoAttributes(f'none of its attributes is recognised ({listed(classifier.passed_over())}).')
    return classifier

def listed(reasons):
    """{why: [attributes]} as part of a sentence."""
    return '; '.join(f'{why}: {some(attributes, 8)}' for why, attributes in reasons.items())

def _unlearnable(columns):
    """{why: [attributes]} of those that can't be recognised, whatever is learned."""
    held_out = columns.targets[_is_held_out(len(columns.targets))]
    counts = held_out.sum(axis=0)
    countable = {columns.of_each[index] for index in np.flatnonzero(_is_countable(counts, len(held_out)))}
    alike = {columns.of_each[index] for index in np.flatnonzero(columns.targets.all(axis=0))}
    rare = [name for name in dict.fromkeys(columns.of_each) if name not in countable | alike]
    reasons = {
        f'more than {attribute_table.MAX_KINDS} different values': columns.too_many,
        'the same in all images': [name for name in columns.of_each if name in alike],
        f'not {MIN_COUNT} of the {len(held_out)} held-out images with it, and {MIN_COUNT} without': rare,
    }
    return {why: names for why, names in reasons.items() if names}

def _is_held_out(count):
    """Bool [count]: the images that are not trained on."""
    return np.arange(count) % HELD_OUT == 0

def _is_countable(with_it, count):
    """Whether so many of `count` held-out images tell how well something is recognised."""
    return (with_it >= MIN_COUNT) & (with_it <= count - MIN_COUNT)

def _place_in_cache(path, columns, left_out):
    """Where the classifier of a data set is kept."""
    told = [files.fingerprint(path)]
    if columns.reworded or left_out: # Classifiers from before know of neither, and are right without.
        told.append(hashlib.sha256(json.dumps([columns.reworded, left_out]).encode()).hexdigest()[:32])
    return cache_dir() / f'attributes-{VERSION}-{"-".join(told)}.pt'

def _kept_classifier(kept, columns, unlearnable):
    """The Classifier in a file of the cache; None where there is none, or part of one."""
    try:
        return Classifier(columns.names, columns.of_each, unlearnable=unlearnable,
            **torch.load(kept, weights_only=True))
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
    fitted = torch.from_numpy(~_is_held_out(len(images)))
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
        if _is_countable(present[:, index].sum(), len(present))}
    return network.state_dict(), auc

def _is_drawn(source, table):
    """Whether its pictures are heads that drawn.py draws: the table says so, and so do the first pictures."""
    first = dict(list(table.rows.items())[:DRAWN_SEEN])
    factors = drawn.of_words(table.names, first.values())
    if factors is None:
        return False
    images = [source.image(file) for file in first]
    try:
        return len({image.shape for image in images}) == 1 and np.array_equal(drawn.read(np.stack(images)),
            drawn.visible(factors))
    except ValueError: # Of another size.
        return False

def _read_images(source, image_files):
    """uint8 [N, SIDE, SIDE, 3]."""
    images = np.empty([len(image_files), SIDE, SIDE, 3], dtype=np.uint8)
    with progressbar(image_files, label='Reading images') as names:
        for index, file in enumerate(names):
            image = PIL.Image.fromarray(source.image(file))
            images[index] = np.asarray(image if image.size == (SIDE, SIDE)
                else image.resize([SIDE, SIDE], PIL.Image.Resampling.BOX))
    return images

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
