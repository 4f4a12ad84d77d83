"""What a study of disentanglement found, as tables, JSON and pictures."""

import dataclasses
import os

import numpy as np
import torch

from sarigan_plugin.evaluation import disentanglement_study, exchanges
from sarigan_plugin.steering import units
from sarigan_plugin.steering.attention import batches_of
from sarigan_plugin.steering.directions import LOCUS
from sarigan_plugin.support import files, pictures, tables

DRAWN       = 5     # Images beside each unit in units.png,
BEST        = 2     # and so many units of each kind.
EXCHANGED   = 20    # Images in exchanges.png.
COLOURS     = dict(inter='#d1495b', intra='#e8a0a9', linked='#6a994e', shuffled='#a7c957', random='#9aa0a6',
    layer='#2e6f95', channel='#8ab6d6')

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
    'told': 'share of the information about one attribute that the value of a unit tells, as units vary by themselves; '
        'mean over units',
    'gap': 'told, less what the unit tells about the next attribute',
    'apart': 'gap / told',
    'mig': 'what the best unit tells about an attribute, less what the next unit tells; mean over attributes',
    'moved share': 'of all changes of attributes that turning units makes, those of one attribute for each unit',
    'moved apart': 'of these, what is left when changes of the next attribute are subtracted',
    'inside': f'share of the squared change inside the {LOCUS:.0%} of the pixels where the channels of the unit are '
        'highest',
    'area': 'share of the pixels that has half of the squared change',
    'strength': 'root mean square change of the pixels, of 255',
}
SELECTIVE = ('gap', 'apart', 'mig', 'moved share', 'moved apart') # Of OF_UNITS, those that groups are compared by.

#----------------------------------------------------------------------------

def write(outdir, subjects, measures, described):
    """Write tables and pictures into a folder that is there. Returns (the tables as Markdown, the names of the files).

    described: the settings, with data (path or None) and attributes (names of those that were measured by).
    Raises OSError.
    """
    used = described['attributes']
    table = _tables(subjects, measures, described)
    drawn = dict()
    if any(subject.of_units or subject.of_network for subject in subjects):
        drawn['chart.png'] = _chart(subjects)
    if used:
        drawn['units.png'] = _draw_units(subjects, used, described['strength'])
    linked = [subject for subject in subjects if subject.exchanged is not None]
    if linked:
        drawn['exchanges.png'] = pictures.mosaic([exchanges.draw(subject.G, subject.ws[:EXCHANGED], subject.known)
            for subject in linked], columns=1)
    for name, picture in drawn.items():
        pictures.save(picture, os.path.join(outdir, name))
    files.write_text(os.path.join(outdir, 'table.md'), table)
    files.write_json(os.path.join(outdir, 'table.json'),
        dict(described, networks=[_as_json(subject, used) for subject in subjects]))
    return table, ['table.md', 'table.json', *drawn]

#----------------------------------------------------------------------------
# Tables.

def _cell(figure, digits):
    return 'not available' if figure is None else f'{figure.value:.{digits}f} ± {figure.margin:.{digits}f}'

def _tables(subjects, measures, described):
    """All tables, and what they mean, as Markdown."""
    parts = []
    measured = {measure for subject in subjects for _kind, measure in subject.of_units}
    of_units = [key for key in OF_UNITS if key in measured]
    if of_units:
        rows = [['Network: units', 'number', *(OF_UNITS[key][0] for key in of_units)]]
        for subject in subjects:
            for kind in subject.kinds:
                cells = [_cell(subject.of_units.get((kind, key)), OF_UNITS[key][1]) for key in of_units]
                rows.append([f'{subject.name}: {units.KINDS[kind]}', str(subject.counts[kind]), *cells])
        parts.append(tables.markdown(rows))
        parts += _ratios(subjects)
        parts += _factors(subjects, described['attributes'])
    parts += [part for subject in subjects if subject.exchanged is not None for part in _exchanges(subject)]
    of_networks = [key for key in OF_NETWORKS if ('path' if key == 'length' else 'codes') in measures]
    if of_networks:
        rows = [['Network', *(OF_NETWORKS[key][0] for key in of_networks)]]
        rows += [[subject.name, *(_cell(subject.of_network.get(key), OF_NETWORKS[key][1]) for key in of_networks)]
            for subject in subjects]
        parts.append(tables.markdown(rows))
    parts.append(_footnote(subjects, described, of_units))
    return '\n\n'.join(parts)

def _ratios(subjects):
    """For each network with groups, how many times as selective their inter-group code is as everything else.

    A list of one table, or none.
    """
    rows = [['Inter-group code of groups, over other units', *(OF_UNITS[key][0] for key in SELECTIVE)]]
    for subject in subjects:
        if ('inter', 'gap') not in subject.of_units:
            continue
        for other in subjects:
            for kind in other.kinds:
                if (other, kind) != (subject, 'inter'):
                    ratios = [_ratio(subject.of_units.get(('inter', key)), other.of_units.get((kind, key)))
                        for key in SELECTIVE]
                    name = f'{subject.name} over {other.name}: {units.KINDS[kind]}'
                    rows.append([name, *(_cell(ratio, 2) for ratio in ratios)])
    return [tables.markdown(rows)] if len(rows) > 1 else []

def _factors(subjects, used):
    """For each factor of drawn pictures, the unit of each kind that changes it and little else. A list of one table, or
    none."""
    if not any(subject.best for subject in subjects):
        return []
    rows = [['Network: best unit for each factor', *used]]
    for subject in subjects:
        rows.append([f'{subject.name}: can be read in', *(f'{subject.told[name]:.0%}' for name in used)])
        for kind, best in subject.best.items():
            rows.append([f'{subject.name}: {units.KINDS[kind]}',
                *(f'{first:.0%}, {used[index]} {second:.0%}' for _unit, first, second, index in best)])
    return [tables.markdown(rows)]

def _exchanges(subject):
    """What changes with each linked group of another image: a table, and what it says."""
    found, labels = subject.exchanged, exchanges.labels(subject.G, subject.known)
    share = lambda value: 'too few' if np.isnan(value) else f'{value:.0%}'
    rows = [[f'{subject.name}: changes with the group', 'can be told', 'differs in two', *labels]]
    for name, told, differs, changed in zip(found.attributes, found.told(), found.differs(), found.changed().T):
        rows.append([name, share(told), share(differs), *map(share, changed)])
    if (found.after < 0).any():
        rows.append(['can no longer be told, of all that could', '', '', *map(share, found.lost())])
    separated = found.separated()
    of_two = (f' For an attribute that is there or not, {exchanges.OF_DIFFERS:.0%} of how often it differs in two '
        f'images stand for the {exchanges.OWN:.0%}.' if 2 in found.attributes.values() else '')
    return [tables.markdown(rows), f'{subject.name}: {len(separated)} of {len(found.attributes)} attributes have a '
        f'group that changes them in {exchanges.OWN:.0%} of the images at least, and any other in less than '
        f'{exchanges.OTHERS:.0%}{": " if separated else ""}{", ".join(separated)}.{of_two} '
        f'{len(found.before)} images; of those in which it can be told before and after.']

def _ratio(figure, other):
    return figure.over(other) if figure is not None and other is not None else None

def _footnote(subjects, described, there):
    lines = [f'Seed {described["seed"]}, truncation {described["trunc"]:g}.']
    if any(subject.of_units or subject.of_network for subject in subjects):
        lines.insert(0, f'± is half of the 95% interval over images: {described["num_images"]}, '
            f'of which {described["num_turned"]} were turned by ±{described["strength"]:g} standard deviations.')
    most = disentanglement_study.MAX_TURNED
    if any(subject.counts.get('channel', 0) > most for subject in subjects):
        lines.append(f'Of more than {most} single channels so many were turned, drawn at random.')
    if described['attributes']:
        lines.append(f'{len(described["attributes"])} attributes: {", ".join(described["attributes"])}.')
    if any(subject.best for subject in subjects):
        lines.append('They are factors of drawn pictures, and no classifier guesses them: what draws them reads them. '
            'The best unit for a factor is found in every second image; in how many of the others turning it changes '
            'the factor, and the next one.')
    if there:
        lines += ['', *(f'- {OF_UNITS[key][0]}: {MEANINGS[key]}' for key in there)]
    return '\n'.join(lines) + '\n'

def _as_json(subject, used):
    """All that is known of a network. The units are those that were turned, with how far they moved each attribute."""
    of_units = {kind: {} for kind in subject.kinds}
    for (kind, measure), figure in subject.of_units.items():
        of_units[kind][measure] = dataclasses.asdict(figure)
    of_network = {measure: dataclasses.asdict(figure) for measure, figure in subject.of_network.items()}
    listed = [dict(kind=unit.kind, layer=unit.layer, index=unit.index, channels=unit.size) for unit in subject.units]
    if subject.moves is not None:
        for row, moves in zip(listed, subject.moves):
            row.update(moves={name: round(float(move), 6) for name, move in zip(used, moves)})
    found = dict(name=subject.name, network=subject.path, of_units=of_units, of_network=of_network,
        r_squared=subject.dimensions, units=listed)
    if subject.best:
        found.update(told=subject.told, best={kind: {name: dict(unit=unit, changes=first, next=used[index],
            changes_next=second) for name, (unit, first, second, index) in zip(used, best)}
            for kind, best in subject.best.items()})
    if subject.exchanged is not None:
        found.update(exchanges=_exchanges_as_json(subject))
    return found

def _exchanges_as_json(subject):
    found, labels = subject.exchanged, exchanges.labels(subject.G, subject.known)
    of_groups = lambda values: dict(zip(labels, values))
    shares = lambda values: of_groups(map(_or_none, values))
    return dict(images=len(found.before), lost=shares(found.lost()),
        separated={name: labels[group] for name, group in found.separated().items()},
        attributes={name: dict(told=float(told), differs=_or_none(differs), changed=shares(changed),
            pairs=of_groups(pairs.tolist())) for name, told, differs, changed, pairs in zip(found.attributes,
            found.told(), found.differs(), found.changed().T, found.pairs().T)})

def _or_none(value):
    """A number, or None for nan, which JSON doesn't have."""
    return None if np.isnan(value) else float(value)

#----------------------------------------------------------------------------
# Pictures.

def _chart(subjects):
    """A panel of bars for each measure."""
    panels = []
    for key, (title, _digits) in OF_UNITS.items():
        rows = [(f'{subject.name}: {units.KINDS[kind]}', figure.value, figure.margin, COLOURS[kind])
            for subject in subjects for (kind, measure), figure in subject.of_units.items() if measure == key]
        panels += [pictures.bars(title, rows)] if rows else []
    for key, (title, _digits) in OF_NETWORKS.items():
        found = {subject.name: subject.of_network[key] for subject in subjects if key in subject.of_network}
        rows = [(name, figure.value, figure.margin, COLOURS['layer']) for name, figure in found.items()]
        panels += [pictures.bars(title, rows)] if rows else []
    return pictures.mosaic(panels, columns=2)

def _draw_units(subjects, used, strength):
    """The units of each kind that move one attribute most, less what they do to the next.

    Each is turned down, as it is, and turned up.
    """
    blocks = []
    for subject in subjects:
        first, second = np.sort(subject.moves, axis=1)[:, :-3:-1].T
        kinds = np.array([unit.kind for unit in subject.units])
        order = []
        for kind in subject.kinds:
            best = np.argsort(np.where(kinds == kind, second - first, np.inf))
            order += best[:min(BEST, sum(kinds == kind))].tolist()
        tiles = [_turned(subject, index, strength) for index in order]
        of_images = [np.concatenate([of_unit[image] for of_unit in tiles]) for image in range(len(tiles[0]))]
        sheets = [pictures.sheet(pictures.enlarge(of_image, 48), columns=3) for of_image in of_images]
        title = (f'{subject.name}: the images in which each unit changes its attribute most; '
            f'turned by -{strength:g} standard deviations, as it is, by +{strength:g}')
        labels = [_label(subject, index, used) for index in order]
        mosaic = pictures.mosaic(sheets, columns=len(sheets))
        blocks.append(pictures.caption(mosaic, title, labels, sheets[0].height // len(order)))
    return pictures.mosaic(blocks, columns=1)

@torch.no_grad()
def _turned(subject, index, strength):
    """uint8 [DRAWN, 3, H, W, 3]: images with a unit turned down, as it is, and turned up."""
    of_images = subject.effects.moves[index, :, subject.moves[index].argmax()]
    ws = subject.ws[np.argsort(-of_images, kind='stable')[:DRAWN].copy()]
    columns = []
    for d in [-strength, 0, strength]:
        with subject.units[index].turned(d):
            images = [subject.G.synthesis(batch, noise_mode='const') for batch in batches_of(subject.G, ws)]
            columns.append(np.concatenate([pictures.shrink(pictures.to_uint8(batch), 96) for batch in images]))
    return np.stack(columns, axis=1)

def _label(subject, index, used):
    """'b16.conv0, group 7, inter-group code: earring 0.31, then cap 0.04'."""
    unit, moves = subject.units[index], subject.moves[index]
    group = f'{unit.layer}, {subject.known.label(unit.layer, unit.index)}'
    place = dict(
        inter   = f'{group}, inter',
        intra   = f'{group}, intra',
        linked  = group,
        shuffled = f'{unit.layer}, random set {unit.index}',
        random  = f'{unit.layer}, random set {unit.index}',
        layer   = f'{unit.layer}, whole layer',
        channel = f'{unit.layer}, channel {unit.index}',
    )[unit.kind]
    first, second = np.argsort(-moves)[:2]
    return f'{place}: {used[first]} {moves[first]:.2f}, then {used[second]} {moves[second]:.2f}'

#----------------------------------------------------------------------------
