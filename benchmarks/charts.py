"""Bar charts of what was measured."""

import matplotlib
import matplotlib.pyplot as plt

matplotlib.use('Agg') # Files only.

def ratios(path, rows, kind, title):
    """Bars relative to the first side, one panel per setting, one group of bars per measure.

    rows: dicts with setting, measure, side and ratios, see speed.py. kind: which of the ratios to draw.
    """
    settings, measures, sides = [list(dict.fromkeys(row[key] for row in rows))
        for key in ['setting', 'measure', 'side']]
    figure, panels = plt.subplots(len(settings), 1, figsize=(2 + 0.35 * len(measures) * max(len(sides), 3),
        2.6 * len(settings) + 1), squeeze=False, layout='constrained')
    width = 0.8 / len(sides)
    for panel, setting in zip(panels[:, 0], settings):
        for index, side in enumerate(sides):
            heights = [row['ratios'][kind] for measure in measures
                for row in rows if (row['setting'], row['measure'], row['side']) == (setting, measure, side)]
            places = [place + (index - (len(sides) - 1) / 2) * width for place in range(len(measures))]
            bars = panel.bar(places, heights, width, label=side, color=plt.cm.tab10(7 - index) if index == 0 else None)
            panel.bar_label(bars, fmt='%.2f', fontsize=7)
        panel.axhline(1, color='grey', linewidth=0.5)
        panel.set_xticks(range(len(measures)), measures, fontsize=8)
        panel.set_title(setting, fontsize=9)
        panel.spines[['top', 'right']].set_visible(False)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), fontsize=8, frameon=False, loc='outside lower center',
        ncols=len(sides))
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)
    plt.close(figure)

def scaling(path, rows):
    """One bar for each number of processes, as high as its seconds per thousand images.

    rows: dicts with gpus, wall and efficiency, see scaling.py.
    """
    figure, panel = plt.subplots(figsize=(1.5 + 1.2 * len(rows), 3.4), layout='constrained')
    bars = panel.bar([str(row['gpus']) for row in rows], [row['wall'] for row in rows], 0.6)
    panel.bar_label(bars, [f'efficiency {row["efficiency"]:.2f}' for row in rows], fontsize=8)
    panel.set_xlabel('processes')
    panel.set_ylabel('seconds per thousand images')
    panel.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
