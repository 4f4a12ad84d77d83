"""`sarigan metrics`: how near a network's images are to real ones, beside how near other real images are."""

import os

import click

from sarigan_plugin.commands.options import PATH, CommaSeparatedList, device_option, skip_option, trust_option
from sarigan_plugin.commands.sections import SectionedCommand
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.evaluation import quality
from sarigan_plugin.features import detectors
from sarigan_plugin.steering.sampling import MAX_SEED
from sarigan_plugin.support import files
from sarigan_plugin.support.tables import markdown

#----------------------------------------------------------------------------

class Progress:
    """Upstream's ProgressMonitor as a progress bar for each stage of a metric."""
    verbose = False

    def __init__(self, bar=None):
        self.bar = bar

    def sub(self, tag=None, num_items=None, **_range):
        """Of a stage, or of a whole metric, which has no bar of its own."""
        if tag is None:
            return self
        bar = click.progressbar(length=num_items, label=tag.capitalize())
        bar.render_progress()
        return Progress(bar)

    def update(self, num_items):
        self.bar.update(num_items - self.bar.pos)
        if self.bar.finished:
            self.bar.render_finish()

@click.command('metrics', cls=SectionedCommand)
@click.argument('network', type=PATH, metavar='PKL')
@click.option('--data',         help='Real images, a zip or a folder  [default: what the network was trained on]',
                                type=PATH, metavar='ZIP')
@click.option('--metrics',      help='What to measure, as in fd10k,pr', type=CommaSeparatedList(),
                                default='fd10k', show_default=True, metavar='NAME,...')
@click.option('--num-samples',  help='How many images to generate and to compare with  [default: as the name says, '
                                'or 10000]', type=click.IntRange(min=quality.MIN_COUNT))
@click.option('--detector',     help=f'For fd10k, kd and pr: {", ".join(detectors.NAMES)}, '
                                'or your own TorchScript file  [default: lite0]', type=PATH, metavar='NAME|PATH')
@click.option('--seed',         help='Random seed of the generated images', type=click.IntRange(0, MAX_SEED), default=0,
                                show_default=True)
@click.option('--json', 'json_path', help='Also save the figures here', type=PATH, metavar='FILE')
@skip_option
@trust_option
@device_option
def metrics_command(network, data, metrics, num_samples, detector, seed, json_path, skip_bad_images, trust,
        device):
    """Measure how near a network's images are to real ones, with an interval and a floor.

    \b
    sarigan metrics network.pkl --data=punks.zip --metrics=fd10k_lite0,pr_lite0
    sarigan metrics network.pkl --data=punks.zip --metrics=fd10k --num-samples=2000 --detector=mine.pt

    \b
    fd10k, kd, pr          Frechet distance, kernel distance, precision and recall, of 10000 images in the features of
                           --detector. In training and in calc_metrics.py they are called fd10k_lite0 and so on.
    fid50k_full, kid50k_full, pr50k3_full, fid50k, kid50k, pr50k3
                           upstream's, by NVIDIA's detectors, which are downloaded

    \b
    floor                  the same between two sets of real images: no network can do better
    95%                    where the values of other seeds lie, by bootstrap

    The same network, data set and seed give the same value every time, here and in calc_metrics.py. This command uses
    one device; calc_metrics.py uses several GPUs.
    """
    _check_writable(json_path)
    found = dict()
    for name, measurement in quality.measurements(network, data, metrics, num_samples, detector, seed, device,
            trust, Progress(), skip_bad_images):
        found[name] = measurement
    click.echo(f'\n{_table(found)}\n')
    click.echo('\n'.join(_notes(found, detector)))
    if json_path is not None:
        report = dict(network=network, data=data, detector=detector, seed=seed,
            metrics={name: vars(measurement) for name, measurement in found.items()})
        with writing('--json', json_path):
            files.write_json(json_path, report)
        click.echo(json_path)

def _check_writable(path):
    """Raise UserError before minutes are spent on what can't be kept."""
    folder = os.path.dirname(path or '') or '.'
    if path is not None and not (os.path.isdir(folder) and os.access(folder, os.W_OK) and not os.path.isdir(path)):
        raise UserError(f'--json: {path} is not a file that can be written.')

def _table(found):
    rows = [['Metric', 'Value', 'Floor', '95%', 'Images']]
    rows += [[name, f'{m.value:.4g}', f'{m.floor:.4g}', f'{m.low:.4g} to {m.high:.4g}',
        f'{m.num_samples}, {m.num_real} real'] for name, m in found.items()]
    return markdown(rows)

def _notes(found, detector):
    """What has to be known of the figures: a line each."""
    sizes = sorted({m.floor_samples for m in found.values()})
    yield f'Floor: of {" and ".join(map(str, sizes))} real images on either side.'
    if detector is not None:
        yield f'Detector: {detector}.'
    for name, m in found.items():
        if quality.grows_with_fewer(name) and min(m.num_samples, m.num_real) < m.num_features:
            yield (f'{name}: there are more features, {m.num_features}, than images; '
                'compare with values of as many images alone.')

#----------------------------------------------------------------------------
