"""The table of an ablation, as far as it has come: figures over seeds, as Markdown, as JSON and as a picture."""

import math
import os

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import scipy.stats

from sarigan_plugin.ablation import table_spec
from sarigan_plugin.errors import UserError
from sarigan_plugin.support import files, pictures, tables

#----------------------------------------------------------------------------
# From results to figures.

def figures(trainings, evaluation):
    """A dict for each row: name, label, options, paper, paper_ratio, measured (number of seeds) and figures.

    figures: {name: dict of mean, std over seeds (None with one), low and high (of one seed, its bootstrap interval, as
    measured), ratio (to the first row's mean, None where that is not positive), ratio_error (its standard error, None
    where a row has one seed, and of the first row), log_ratio (see log_ratio(), None as ratio_error), floor, and seeds,
    {seed: value}}.
    """
    rows = []
    for name in dict.fromkeys(training.row.name for training in trainings):
        of_row = [training for training in trainings if training.row.name == name]
        results = {training.seed: table_spec.results(training, evaluation) for training in of_row}
        found = {seed: {name: figure for metric in of_seed.values() for name, figure in metric.items()}
            for seed, of_seed in results.items()}
        names = dict.fromkeys(name for of_seed in found.values() for name in of_seed)
        row = of_row[0].row
        rows.append(dict(name=name, label=row.label, options=row.options, paper=row.paper,
            measured=sum(bool(of_seed) for of_seed in found.values()),
            figures={name: over_seeds({seed: of_seed[name] for seed, of_seed in found.items() if name in of_seed})
                for name in names}))
    for row in rows:
        row['paper_ratio'] = _ratio(row['paper'], rows[0]['paper'])
        for name, figure in row['figures'].items():
            first = rows[0]['figures'].get(name, {})
            figure['ratio'] = _ratio(figure['mean'], first.get('mean'))
            figure['ratio_error'] = _ratio_error(figure, first) if row is not rows[0] else None
            figure['log_ratio'] = log_ratio(figure['seeds'].values(), first['seeds'].values()) \
                if row is not rows[0] and first else None
    return rows

def stopped_rows(table, trainings, evaluation):
    """Names of the rows that stop_after ends: over their first so many seeds the first metric's ratio is above 1.

    Later seeds have no say, so the answer stays what it is. The first row is never among them.
    """
    if table.stop_after is None:
        return []
    deciding = table.seeds[:table.stop_after]
    rows = figures([training for training in trainings if training.seed in deciding], evaluation)
    name = next(iter(_names(rows)), None)
    known = [row for row in rows if name in row['figures'] and len(row['figures'][name]['seeds']) == table.stop_after]
    if not known or known[0] is not rows[0]:
        return []
    first = _mean_log(rows[0]['figures'][name]['seeds'].values())
    return [row['name'] for row in known[1:] if _mean_log(row['figures'][name]['seeds'].values()) > first]

def _names(rows):
    """Of all figures, in the order of the metrics."""
    return list(dict.fromkeys(name for row in rows for name in row['figures']))

def over_seeds(measured):
    """measured: {seed: what quality.measure() gave}, one seed at least."""
    values = [each['value'] for each in measured.values()]
    only = next(iter(measured.values())) if len(measured) == 1 else {}
    return dict(mean=float(np.mean(values)), std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        low=only.get('low'), high=only.get('high'),
        floor=next(iter(measured.values())).get('floor'),
        seeds={seed: each['value'] for seed, each in measured.items()})

def _ratio(value, first):
    return value / first if value is not None and first is not None and first > 0 else None

def _ratio_error(figure, first):
    """Of the ratio of two means, to first order: the errors of both, relative to them,
    as the sides of a right angle."""
    if figure['ratio'] is None or figure['std'] is None or first['std'] is None:
        return None
    error, of_first = [each['std'] / math.sqrt(len(each['seeds'])) for each in (figure, first)]
    return math.hypot(error, figure['ratio'] * of_first) / first['mean']

#----------------------------------------------------------------------------
# Log ratios: trainings differ from each other by factors.

CONFIDENCE, POWER = 0.95, 0.8

def _mean_log(values):
    """Minus infinity where a value isn't positive."""
    return float(np.mean(np.log(list(values)))) if min(values) > 0 else -math.inf

def log_ratio(values, first):
    """The ratio of the geometric means of two rows over seeds, and how sure it is.

    Returns a dict of ratio, low and high (its interval of CONFIDENCE, by Welch's t test of the logarithms) and
    detectable: a ratio so far below 1 would be told from 1 with probability POWER by rows of so many seeds that
    differ as much from seed to seed, sqrt(s^2 / n + s_1^2 / n_1) (t_0.975 + t_0.8) away in logarithms. None where a
    row has one seed, or a value isn't positive.
    """
    logs = [np.log(list(each)) if min(each) > 0 else np.empty(0) for each in (values, first)]
    if min(map(len, logs)) < 2:
        return None
    errors = [each.var(ddof=1) / len(each) for each in logs] # Squared, of the means.
    if sum(errors) == 0:
        return None
    test = scipy.stats.ttest_ind(*logs, equal_var=False)
    low, high = test.confidence_interval(CONFIDENCE)
    quantiles = scipy.stats.t(test.df).ppf([0.5 + CONFIDENCE / 2, POWER])
    ratio = math.exp(logs[0].mean() - logs[1].mean())
    return dict(ratio=ratio, low=math.exp(low), high=math.exp(high),
        detectable=math.exp(-math.sqrt(sum(errors)) * quantiles.sum()))

def _interval(figure):
    """(low, high) of an error bar, or None: a standard deviation to both sides,
    or what the bootstrap of one seed says."""
    if figure['std'] is not None:
        return figure['mean'] - figure['std'], figure['mean'] + figure['std']
    return (figure['low'], figure['high']) if figure['low'] is not None and figure['high'] is not None else None

def _decimals(values):
    """As many as leave three digits of the largest."""
    largest = max(map(abs, values), default=1)
    return max(2 - math.floor(math.log10(largest)), 1) if largest > 0 else 2

#----------------------------------------------------------------------------
# Files.

def paths(outdir, table):
    """Of the Markdown, the JSON, the chart and the samples."""
    return [os.path.join(outdir, f'{table.name}{ending}') for ending in ('.md', '.json', '.png', '-samples.png')]

def check_files(outdir, table):
    """Raise UserError where files of the table's name are there that write() has not written."""
    there = [path for path in paths(outdir, table) if os.path.exists(path)]
    if not there:
        return
    _markdown, record, *_pictures = paths(outdir, table)
    try:
        ours = 'ablation' in files.read_json(record)
    except (ValueError, TypeError):
        ours = False
    if not ours:
        raise UserError(f'--outdir: {there[0]} is there, and not of `sarigan ablate`; '
            'another --outdir, or another name for the table.')

def write(outdir, table, trainings, evaluation, settings):
    """Write OUTDIR/<table>.md, .json, .png and -samples.png, each whole or not at all.

    Returns the Markdown. settings: what JSON has beside the figures. Raises OSError.
    """
    rows = figures(trainings, evaluation)
    text = markdown(table, rows, settings)
    content = dict(ablation=table.name, title=table.title, paper_metric=table.paper_metric, note=table.note,
        settings=settings, rows=rows)
    sheets = samples(trainings)
    for_text, for_figures, for_chart, for_samples = paths(outdir, table)
    files.write_text(for_text, text)
    files.write_json(for_figures, content)
    pictures.save(chart(table, rows, _caption(settings)), for_chart)
    if sheets is not None:
        pictures.save(sheets, for_samples)
    return text

def markdown(table, rows, settings):
    """The rows of figures() as a table with a heading, and notes below."""
    seeds = len(settings['seeds'])
    stopped = settings.get('stopped', [])
    has_paper = any(row['paper'] is not None for row in rows)
    header = ['', *(title for name in _names(rows) for title in [name, 'ratio']),
        *([table.paper_metric or 'paper', 'ratio'] if has_paper else [])]
    lines = [header]
    for row in rows:
        label = (row['label'] if row['measured'] in [0, seeds] else f'{row["label"]} ({row["measured"]} of {seeds} '
            f'seeds{", stopped" if row["name"] in stopped else ""})')
        cells = [cell for name in _names(rows)
            for cell in _cells(row['figures'].get(name), _decimals(_means(rows, name)))]
        papers = [_number(row['paper'], '.2f'), _number(row['paper_ratio'], '.3f')] if has_paper else []
        lines.append([label, *cells, *papers])
    return '\n'.join([f'**{table.title}**', '', tables.markdown(lines), '', *_notes(table, rows, settings), ''])

def _means(rows, name):
    return [row['figures'][name]['mean'] for row in rows if name in row['figures']]

def _cells(figure, decimals):
    if figure is None:
        return ['', '']
    number = f'{figure["mean"]:.{decimals}f}'
    if figure['std'] is not None:
        number += f' ± {figure["std"]:.{decimals}f}'
    elif (interval := _interval(figure)) is not None:
        number += f' ({interval[0]:.{decimals}f} to {interval[1]:.{decimals}f})'
    ratio = _number(figure['ratio'], '.3f')
    return [number, ratio if figure['ratio_error'] is None else f'{ratio} ± {figure["ratio_error"]:.3f}']

def _number(value, form):
    return '' if value is None else format(value, form)

def _notes(table, rows, settings):
    known = [(name, figure) for row in rows for name, figure in row['figures'].items()]
    floors = {name: f'{figure["floor"]:.{_decimals(_means(rows, name))}f}'
        for name, figure in known if figure['floor'] is not None}
    lines = [f'{_caption(settings)}. Ratios are to the first row.']
    if any(figure['std'] is not None for _name, figure in known):
        lines.append('± is the standard deviation over seeds; of a ratio its standard error.')
    if any(figure['low'] is not None for _name, figure in known):
        lines.append('In brackets is the interval of 95% of one network, by resampling its images: '
            'another seed may lie outside.')
    if floors:
        lines.append(f'Real images have {", ".join(f"{name} {floor}" for name, floor in floors.items())}.')
    return [' '.join(lines), *_certainty(rows), *([table.note] if table.note else [])]

def _certainty(rows):
    """A line for each figure: intervals of the ratios, and what rows of so many seeds can't see."""
    lines = []
    for name in _names(rows):
        known = [(row['label'], row['figures'][name]['log_ratio']) for row in rows
            if row['figures'].get(name, {}).get('log_ratio') is not None]
        if known:
            ratios = ', '.join(f'{label} {each["ratio"]:.2f} ({each["low"]:.2f} to {each["high"]:.2f})'
                for label, each in known)
            detectable = min(each['detectable'] for _label, each in known)
            lines.append(f'{name}, geometric means over seeds with intervals of {CONFIDENCE:.0%}: {ratios}. '
                f'So many seeds see a ratio of {detectable:.2f} or {1 / detectable:.2f} in {POWER:.0%} of cases; '
                'what is nearer to 1 mostly stays unseen.')
    return [line for each in lines for line in ['', each]] # A paragraph each.

def _caption(settings):
    seeds = settings['seeds']
    cfg = os.path.splitext(os.path.basename(settings['cfg']))[0] # It may be a file.
    return (f'{cfg}, {settings["kimg"]} kimg of {os.path.basename(os.path.normpath(settings["data"]))}, '
        f'seed{"s" if len(seeds) > 1 else ""} {", ".join(map(str, seeds))}')

#----------------------------------------------------------------------------
# The pictures.

def samples(trainings):
    """Side by side the images of seeds 0 to 63 that each row's first network makes, as far as there are any.

    An image, or None.
    """
    first = {training.row.name: training for training in reversed(trainings)} # Of its seeds.
    drawn = [training for training in reversed(first.values()) if training.samples is not None
        and os.path.exists(training.samples)]
    sheets = []
    for training in drawn:
        with PIL.Image.open(training.samples) as sheet:
            sheets.append(pictures.caption(sheet.convert('RGB'), f'{training.row.label}, seed {training.seed}'))
    return pictures.mosaic(sheets, columns=2) if sheets else None

BAR, GAP        = 22, 12                    # Height of bars and what is between them, pixels of a screen.
PANEL, VALUE    = 220, 86                   # Width of the longest bar of a panel, and of the number behind it.
SCALE           = 2                         # Of the picture, for screens and paper.
COLOURS         = ('#7f7f7f', '#4878a8')    # Of the first row, to which others are compared, and of those.
PAPER_COLOURS   = ('#c8c8c8', '#b9cde0')

def chart(table, rows, caption):
    """A panel of bars for each figure, with error bars and a dot for each seed, and one for what the paper has.

    Returns an image.
    """
    fonts = [PIL.ImageFont.load_default(size * SCALE) for size in (13, 11)]
    panels = [(name, [row['figures'].get(name) for row in rows], COLOURS) for name in _names(rows)]
    if any(row['paper'] is not None for row in rows):
        known = [dict(mean=row['paper'], std=None, low=None, high=None, floor=None, seeds={})
            if row['paper'] is not None else None for row in rows]
        panels.append((f'in the paper: {table.paper_metric}'.rstrip(': '), known, PAPER_COLOURS))
    if any(figure['floor'] is not None for row in rows for figure in row['figures'].values()):
        caption += '; dashed: what real images have'
    margin = 24 + max(int(fonts[0].getlength(row['label'])) // SCALE for row in rows)
    widths = [max(PANEL + VALUE, int(fonts[0].getlength(title)) // SCALE + 16) for title, *_rest in panels]
    top, height = 66, len(rows) * (BAR + GAP) + GAP
    width = max(margin + sum(widths),
        *(24 + int(font.getlength(text)) // SCALE for font, text in zip(fonts, [table.title, caption])))
    canvas = PIL.Image.new('RGB', (width * SCALE, (top + height + 8) * SCALE), 'white')
    draw = _Draw(canvas)
    draw.text(12, 6, table.title, fonts[0])
    draw.text(12, 24, caption, fonts[1], '#606060')
    for index, row in enumerate(rows):
        draw.text(margin - 10, top + GAP + index * (BAR + GAP) + BAR // 2, row['label'], fonts[0], anchor='rm')
    for (title, known, colours), x in zip(panels, margin + np.cumsum([0, *widths])):
        draw.text(x, top - 18, title, fonts[0])
        _draw_panel(draw, int(x), top, height, known, colours, fonts[1])
    return canvas

class _Draw:
    """PIL's, in pixels of a screen."""
    def __init__(self, canvas):
        self.draw = PIL.ImageDraw.Draw(canvas)

    def text(self, x, y, text, font, colour='black', anchor='la'):
        self.draw.text((x * SCALE, y * SCALE), text, fill=colour, font=font, anchor=anchor)

    def box(self, left, top, right, bottom, colour):
        self.draw.rectangle([side * SCALE for side in (left, top, max(left, right), max(top, bottom))], fill=colour)

    def dot(self, x, y, radius):
        self.draw.ellipse([side * SCALE for side in (x - radius, y - radius, x + radius, y + radius)], fill='white',
            outline='black', width=SCALE // 2)

def _draw_panel(draw, left, top, height, known, colours, font):
    """known: a figure for each row, or None.

    Bars start at zero; of negative figures, as distances of kernels may be, there is no bar.
    """
    values = [figure['mean'] for figure in known if figure is not None]
    ends = [end for figure in known if figure is not None
        for end in [figure['mean'], *(_interval(figure) or ()), *figure['seeds'].values()]]
    longest = max([end for end in ends if end > 0], default=1)
    place = lambda value: left + PANEL * min(max(value, 0), longest) / longest
    decimals = _decimals(values)
    floor = next((figure['floor'] for figure in known if figure is not None and figure['floor'] is not None), None)
    for index, figure in enumerate(known):
        y = top + GAP + index * (BAR + GAP)
        if figure is None:
            draw.text(left + 4, y + BAR // 2, 'not yet', font, '#a0a0a0', anchor='lm')
            continue
        draw.box(left, y, place(figure['mean']), y + BAR, colours[index > 0])
        interval, end = _interval(figure), place(figure['mean'])
        if interval is not None:
            low, high = map(place, interval)
            draw.box(low, y + BAR // 2 - 0.5, high, y + BAR // 2 + 0.5, 'black')
            for tip in [low, high]:
                draw.box(tip - 0.5, y + 5, tip + 0.5, y + BAR - 5, 'black')
            end = max(end, high)
        if len(figure['seeds']) > 1:
            for value in figure['seeds'].values():
                draw.dot(place(value), y + BAR // 2, 2.5)
                end = max(end, place(value))
        draw.text(end + 6, y + BAR // 2, f'{figure["mean"]:.{decimals}f}', font, anchor='lm')
    draw.box(left - 0.5, top, left + 0.5, top + height, 'black')
    if floor is not None and 0 < floor < longest: # What real images have.
        for y in range(top, top + height, 8):
            draw.box(place(floor), y, place(floor) + 0.5, y + 4, '#d04040')

#----------------------------------------------------------------------------
