"""Folders of a network to be shown to others: config.json, model.safetensors and a model card, as hubs of models have
them. The card is written from the record of the training."""

import dataclasses
import json
import os
import re
import shutil
import tempfile
import zipfile

from sarigan_plugin import __version__
from sarigan_plugin.snapshots import exported
from sarigan_plugin.support import files, tables

LAYOUT      = 'config.json'
CARD        = 'README.md'
BESIDES     = ('names.json', 'groups.json')     # What people say of its groups, and linked ones.
UNTOLD      = 'not recorded'
SHOWN       = ('G_kwargs', 'D_kwargs', 'loss_kwargs', 'G_opt_kwargs', 'D_opt_kwargs', 'batch_size', 'ema_kimg', 'xflip')
PATHS       = ('path', 'data')                  # Options that say where the data set is.

#----------------------------------------------------------------------------

@dataclasses.dataclass
class Facts:
    """What a card tells. None: not known."""
    name:           str
    resolution:     int
    licence:        str             # Of the weights, as hubs abbreviate it: mit, apache-2.0.
    data:           str = None      # What it was trained on, in words or as the command that makes it.
    data_licence:   str = None
    kimg:           float = None
    hours:          float = None    # Of training.
    processes:      int = None      # That trained.
    seed:           int = None
    machine:        str = None
    command:        str = None      # That trains it.
    limits:         str = None      # What it can't do.
    figures:        dict = None     # As of `sarigan metrics --json`.
    groups:         list = None     # Of each linked group {'name', 'note', 'channels', 'strength', 'place'}, as far as
                                    # its file says, see channel_sets.ChannelSets; but for what is left over.
    groups_by:      str = None      # What those were made by: effects, responses, kernels or attributes.

    @property
    def by_attribute(self):
        """Whether its groups were trained to have an attribute each; others were found afterwards."""
        return self.groups_by == 'attributes'

def of_run(network, G, name, licence):
    """The Facts that the folder of a training knows of a snapshot in it, and its options: (Facts, dict or None).

    Raises ValueError, one sentence, for a record that is none.
    """
    facts = Facts(name=name, resolution=G.img_resolution, licence=licence)
    folder = os.path.dirname(network)
    path = os.path.join(folder, 'training_options.json')
    if not os.path.isfile(path):
        return facts, None
    options = files.read_json(path)
    try:
        data = options['training_set_kwargs']['path']
        facts.seed, facts.processes = options['random_seed'], options['num_gpus']
    except (KeyError, TypeError):
        raise ValueError(f'{path!r} is no record of a training.') from None
    facts.data, facts.data_licence = os.path.basename(os.path.normpath(data)), _licence_in(data)
    snapshot = re.fullmatch(r'network-snapshot-(\d+)\.pkl', os.path.basename(network))
    facts.kimg = int(snapshot[1]) if snapshot else None
    facts.hours = hours_until(os.path.join(folder, 'stats.jsonl'), facts.kimg)
    return facts, _without_folders({key: options[key] for key in SHOWN if key in options})

def _licence_in(data):
    """What the data set says of its licence, or None."""
    try:
        with zipfile.ZipFile(data) as archive:
            return ' '.join(archive.read('LICENSES.txt').decode().split())
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None

def hours_until(path, kimg):
    """How long the training had run when it had seen so many thousand images, or None."""
    hours = None
    if kimg is None or not os.path.isfile(path):
        return None
    with open(path, encoding='utf-8') as f:
        for line in f:
            try:
                row = json.loads(line)
                if row['Progress/kimg']['mean'] >= kimg + 1: # Snapshots are named by whole thousands.
                    break
                hours = row['Timing/total_sec']['mean'] / 3600
            except (ValueError, KeyError, TypeError): # A line that a full disk cut.
                continue
    return hours

#----------------------------------------------------------------------------

def write(data, folder, facts, options, besides):
    """Write the averaged generator, its card and what is known of its groups into a folder, which appears whole.

    data: as from reading.load_all(). options: of the training, or None. besides: {one of BESIDES: its
    text}. In a folder that is there, the same files are replaced and others stay. Raises OSError and ValueError.
    """
    parent = os.path.dirname(os.path.abspath(folder))
    os.makedirs(parent, exist_ok=True)
    unfinished = tempfile.mkdtemp(dir=parent, prefix='.writing-')
    try:
        inside = os.path.join(unfinished, 'network') # Temporary folders are private; this one isn't.
        os.mkdir(inside)
        told = {key: value for key, value in dataclasses.asdict(facts).items() if value is not None}
        named = dict(data, training_set_kwargs=_without_folders(data.get('training_set_kwargs')))
        exported.write(named, inside, LAYOUT, ['G_ema'], half=True, more=dict(
            _class_name=type(data['G_ema']).__name__, sarigan_version=__version__, model_card=told, training=options))
        size = os.path.getsize(os.path.join(inside, exported.LAYOUTS[LAYOUT]))
        files.write_text(os.path.join(inside, CARD), text(facts, options, data['G_ema'], size))
        for name, content in besides.items():
            files.write_text(os.path.join(inside, name), content)
        if not os.path.isdir(folder):
            os.rename(inside, folder)
        else:
            for name in sorted(os.listdir(inside), key=lambda name: name == LAYOUT): # Last what names the others' hash.
                os.replace(os.path.join(inside, name), os.path.join(folder, name))
    finally:
        shutil.rmtree(unfinished)

def _without_folders(options):
    """The same, with the name alone of the data set wherever they tell its path: folders are nobody's business."""
    if not isinstance(options, dict):
        return options
    return {key: os.path.basename(os.path.normpath(value)) if key in PATHS and isinstance(value, str)
        else _without_folders(value) for key, value in options.items()}

#----------------------------------------------------------------------------
# Words.

def text(facts, options, G, size):
    """The card, as Markdown with the YAML that hubs read. size: bytes of the weights."""
    parts = [_head(facts), f'# {facts.name}', _summary(facts, G, size), _use(facts), '## Training',
        tables.markdown(_training_rows(facts))]
    if facts.figures:
        parts += ['## Figures', _figures(facts.figures)]
    if facts.groups:
        parts += ['## What its groups do', _groups(facts)]
    of_groups = '' if facts.by_attribute else ' was found afterwards, and'
    parts += ['## What it can\'t do', facts.limits or f'It draws what is in its data set, at {facts.resolution}x'
        f'{facts.resolution} pixels, and nothing else. What its groups do{of_groups} holds for most images, not for '
        'all.']
    of_data = (_line(facts.data_licence) or UNTOLD).rstrip('.')
    parts += ['## Licence', f'The weights: {facts.licence}. The data: {of_data}. '
        'The network runs in stylegan2-ada-pytorch, whose own licence allows non-commercial use alone.']
    if options is not None:
        parts += ['## Options of the training',
            '```json\n' + json.dumps(options, indent=2) + '\n```']
    return '\n\n'.join(parts) + '\n'

def _head(facts):
    tags = ['sarigan', 'stylegan2', 'gan', 'image-generation']
    return '\n'.join(['---', f'license: {json.dumps(facts.licence)}', 'library_name: sarigan',
        'pipeline_tag: unconditional-image-generation', 'tags:', *(f'- {tag}' for tag in tags), '---'])

def _line(words):
    """In one line, and as text that Markdown leaves alone, or None."""
    return ' '.join(str(words).split()).replace('|', r'\|') if words else None

def _summary(facts, G, size):
    numbers = sum(parameter.numel() for parameter in G.parameters())
    trained = f', after {facts.kimg:g} thousand images of training' if facts.kimg else ''
    return (f'A generator of {facts.resolution}x{facts.resolution} images with {numbers / 1e6:.2f} million numbers'
        f'{trained}. {size / 2 ** 20:.1f} MB, stored in 16 bits, without code.')

def _use(facts):
    return f"""## Use

```bash
sarigan explore {facts.name}        # the path of this folder, or its name if it comes with sarigan
sarigan generate --network={facts.name} --seeds=0-35 --outdir=out/images
```

```python
from sarigan_plugin.snapshots import reading
G = reading.from_pretrained('{facts.name}')
```"""

def _training_rows(facts):
    took = None
    if facts.hours is not None:
        took = f'{facts.hours:.1f} hours' + (f' on {facts.processes} process' + 'es' * (facts.processes > 1)
            if facts.processes else '')
    rows = [('Data', facts.data), ('Licence of the data', facts.data_licence), ('Command', facts.command and
        f'`{facts.command}`'), ('Images seen', facts.kimg and f'{facts.kimg:g} thousand'), ('Seed', facts.seed),
        ('Time', took), ('Machine', facts.machine)]
    return [['', ''], *([name, UNTOLD if value is None else _line(str(value)) or UNTOLD] for name, value in rows)]

def _figures(figures):
    rows = [['Measure', 'Value', '95%', 'Floor', 'Images']]
    for name, found in figures['metrics'].items():
        rows.append([name, f'{found["value"]:.4g}', f'{found["low"]:.4g} to {found["high"]:.4g}',
            f'{found["floor"]:.4g}', str(found['num_samples'])])
    return tables.markdown(rows) + ('\n\nBy `sarigan metrics`: fd is a Fréchet distance; floor is that of real images '
        'among themselves.')

def _groups(facts):
    turned = 'When it is another image\'s' if facts.by_attribute else 'When it is turned'
    columns = {                         # Heading: what stands below it of a group, or None.
        'Group': lambda group: _line(group.get('name')) or '',
        turned: lambda group: _line(group.get('note')),
        'Channels': lambda group: str(group['channels']),
        'Changes pixels by, of 255': lambda group: f'{group["strength"]:.1f}' if 'strength' in group else None,
        'Of that in one place': lambda group: f'{group["place"]:.0%}' if 'place' in group else None,
    }
    told = {heading: list(map(tell, facts.groups)) for heading, tell in columns.items()}
    told = {heading: cells for heading, cells in told.items() if any(cells)} # What is known of any group.
    rows = [[UNTOLD if cell is None else cell for cell in row] for row in zip(*told.values())]
    made = (f'Each was trained to have one attribute of the data set, by `--grouping=attributes`. `sarigan edit '
        f'{facts.name} --group=NAME --intra=9 --outdir=out` gives images that of seed 9.' if facts.by_attribute else
        'By `sarigan regroup`, where the styles of a group are another image\'s; the place is one of 16. Turn them '
        'with `--layer=linked --group=NAME`.')
    return f'{tables.markdown([list(told), *rows])}\n\n{made}'

#----------------------------------------------------------------------------
