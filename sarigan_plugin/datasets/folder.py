"""`sarigan data folder`: a dataset zip of the pictures in a folder, a zip or a tar.

First the heads of all files are looked at, which decides about colours and resolution. Then as many processes as there
are cores convert them, and this one writes what they send into the zip, in the order of the names: the bytes are the
same whatever number of processes works. Of each picture no more is kept than its name, its size and its label.
"""

import collections
import contextlib
import functools
import json
import shlex
import shutil
import tempfile
import time
import unicodedata
import zipfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import PIL.Image
import PIL.ImageColor
import PIL.ImageDraw
import PIL.ImageFont

from sarigan_plugin.datasets import (
    archive as dataset_zip,
    listing,
    picture_attributes,
    picture_conversion,
    picture_labels,
    picture_sources,
)
from sarigan_plugin.datasets.picture_conversion import Refused
from sarigan_plugin.datasets.picture_labels import shown, some
from sarigan_plugin.datasets.picture_sources import PREVIEW, REPORT
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.support import files, processes
from sarigan_plugin.support.bars import progressbar

RESOLUTIONS        = tuple(2 ** power for power in range(3, 14)) # D needs a block above its 4x4 epilogue.
DEFAULT_RESOLUTION = 256        # At most, where none is asked for: what a single GPU trains in days.
COLOURS            = ('auto', 'rgb', 'grey')
DUPLICATE          = 'the same as another picture'
ASKED_FOR          = (DUPLICATE, picture_conversion.BELOW_MINIMUM) # By an option: --strict has nothing against it.

@dataclass(frozen=True)
class Options:
    """What is asked for, by the names of the command's options."""
    source:          str            # Folder, zip or tar.
    dest:            str            # The zip to write.
    resolution:      int    = None  # One of RESOLUTIONS; None = see choose_resolution().
    fit:             str    = 'crop'
    colour:          str    = 'auto'
    background:      str    = 'white'
    enlarge:         bool   = False
    min_size:        int    = 1
    drop_duplicates: bool   = False
    labels:          str    = 'auto'
    strict:          bool   = False # Raise UserError where a picture would be left out.
    force:           bool   = False # Replace an existing dest.
    workers:         int    = None  # Processes; None = one for each core.

@dataclass
class Job:
    """What is to become of which pictures."""
    strict:     bool
    pictures:   list                  = field(default_factory=list) # (name, what opens it).
    looks:      list                  = field(default_factory=list) # A Look at each of them.
    left_out:   list                  = field(default_factory=list) # (name, Refused).
    notes:      list                  = field(default_factory=list) # (name, what was odd about it).
    labels:     picture_labels.Labels = None
    attributes: picture_attributes.Attributes = None
    source:     picture_sources.Source = None
    target:     picture_conversion.Target = None

    def leave_out(self, name, refused):
        if self.strict and refused.kind not in ASKED_FOR:
            raise UserError(f'--strict: {shown(name)} cannot be used ({refused}); without --strict it is left out.')
        self.left_out.append((name, refused))

#----------------------------------------------------------------------------
# What there is.

def check(options):
    """What can be wrong before a file is looked at. Returns dest as a Path."""
    if options.resolution is not None and options.resolution not in RESOLUTIONS:
        raise UserError(f'--resolution must be a power of two from {RESOLUTIONS[0]} to {RESOLUTIONS[-1]}, '
            f'not {options.resolution}.')
    with contextlib.suppress(OSError):
        if Path(options.source).samefile(options.dest):
            raise UserError(f'--dest: {options.dest} is SRC itself.')
    return dataset_zip.check_dest(options.dest, options.force, [PREVIEW, REPORT])

def background_colour(name):
    """(R, G, B) of a colour that Pillow knows."""
    try:
        return PIL.ImageColor.getrgb(name)[:3]
    except ValueError:
        raise UserError(f'--background: {name!r} is no colour: give a name such as white, or #rrggbb.') from None

def look(options, unpacked):
    """The Job of some options. unpacked: where the pictures of a compressed tar may be put."""
    background = background_colour(options.background)
    job = Job(options.strict)
    try:
        job.source = picture_sources.find(options.source, unpacked)
        job.labels = picture_labels.read(job.source, options.labels)
        job.attributes = picture_attributes.read(job.source)
    except ValueError as error:
        raise UserError(f'SRC: {error}') from None
    for name, refused in job.source.left_out:
        job.leave_out(name, refused)
    _look_at_heads(job, _with_labels(job), options.workers)
    _choose_target(job, options, background)
    return job

def _with_labels(job):
    """The pictures that have a label where labels are wanted."""
    for name, picture in job.source.pictures:
        try:
            if job.labels:
                job.labels.get(name)
            yield name, picture
        except Refused as refused:
            job.leave_out(name, refused)

def _look_at_heads(job, pictures, workers):
    same = dict() # One Look for all pictures alike: a million are few kinds.
    looks = _in_processes(picture_conversion.look_at, list(pictures), 64, 500, workers, 'Looking at the pictures')
    for (name, picture), seen in looks:
        if isinstance(seen, Refused):
            job.leave_out(name, seen)
        else:
            job.pictures.append((name, picture))
            job.looks.append(same.setdefault(seen, seen))

def _choose_target(job, options, background):
    """Set the job's target, and leave out what is too small for it."""
    sizes = [seen.size for seen in job.looks if min(seen.size) >= options.min_size]
    resolution = options.resolution or choose_resolution(sizes, options.fit)
    job.target = picture_conversion.Target(resolution, options.fit, options.colour == 'grey', background,
        options.enlarge, options.min_size)
    pictures, looks, job.pictures, job.looks = job.pictures, job.looks, [], []
    for picture, seen in zip(pictures, looks):
        try:
            picture_conversion.check_size(seen.size, job.target)
        except Refused as refused:
            job.leave_out(picture[0], refused)
        else:
            job.pictures.append(picture)
            job.looks.append(seen)
    if not job.pictures:
        raise _nothing_left(job, options)
    if options.colour == 'auto' and all(seen.grey for seen in job.looks) and len(set(background)) == 1:
        job.target = replace(job.target, grey=True)

def choose_resolution(sizes, fit):
    """That of pictures that are squares of one power of two already.

    Else the largest, up to 256, for which nine of ten need no enlarging.
    """
    if len(set(sizes)) == 1 and sizes[0][0] == sizes[0][1] in RESOLUTIONS:
        return sizes[0][0]
    sides = sorted(map(max if fit == 'pad' else min, sizes)) or [0]
    most = min(sides[len(sides) // 10], DEFAULT_RESOLUTION)
    return max([side for side in RESOLUTIONS if side <= most], default=RESOLUTIONS[0])

def _in_processes(function, pictures, size, worth, workers, label):
    """Yield ((name, what opens it), what the function says of it), with a bar that shows how far it is.

    size: of the lists that the function gets, at most. worth: so many pictures are worth the start of a process.
    """
    workers = min(workers or processes.available_cores(), max(len(pictures) // worth, 1))
    size = max(min(size, len(pictures) // (4 * workers)), 1)
    lists = [pictures[first : first + size] for first in range(0, len(pictures), size)]
    start, done = time.monotonic(), 0
    rate = lambda _item: f'{done / max(time.monotonic() - start, 1e-3):.0f} pictures/s'
    tasks = [[picture for _name, picture in some_pictures] for some_pictures in lists]
    with contextlib.closing(processes.map_in_order(function, tasks, workers)) as answers, \
            progressbar(length=len(pictures), label=label, show_pos=True, item_show_func=rate) as bar:
        for some_pictures, some_answers in zip(lists, answers):
            yield from zip(some_pictures, some_answers)
            done += len(some_pictures)
            bar.update(len(some_pictures), some_pictures)

#----------------------------------------------------------------------------
# Making it.

@dataclass
class Made:
    """What is in the zip."""
    dest:    Path
    names:   list   # Of each picture, in SRC.
    labels:  list   # Of each picture: a class, a list of numbers, or None.
    classes: list   # Of each class that has pictures: dict(label, name, images). Empty where labels are no classes.

def make_dataset(options):
    """Make the zip, its report and its preview. Returns the number of pictures.

    Raises UserError, with one sentence, for anything the user can mend.
    """
    dest = check(options)
    dataset_zip.make_folder(dest)
    with dataset_zip.whole_zip(dest) as archive:
        with writing('--dest', dest): # Of a compressed tar something is put aside.
            job = look(options, dataset_zip.unpacked_path(dest))
        _check_space(dest, job)
        made = _made(job, dest, _write_pictures(archive, job, options))
        archive.add('dataset.json', json.dumps(_labels_file(made)))
        if job.attributes is not None:
            archive.add(listing.ATTRIBUTES, json.dumps(_attributes_file(job.attributes, made)))
    with writing('--dest', dest.with_suffix(REPORT)):
        files.write_json(dest.with_suffix(REPORT), _report(job, options, made))
    with writing('--dest', dest.with_suffix(PREVIEW)), files.atomic_open(dest.with_suffix(PREVIEW)) as file:
        _preview(made).save(file, 'png')
    _tell(job, made)
    return len(made.labels)

def _check_space(dest, job):
    """A disk that is too small is better known now than after hours."""
    wanted, free = len(job.pictures) * _bytes_of_one(job.target), shutil.disk_usage(dest.parent).free
    if wanted > free:
        raise UserError(f'--dest: {dest} will have {_size(wanted)}, and {_size(free)} are free in {dest.parent}: '
            'free some space, or choose a smaller --resolution.')

def _bytes_of_one(target):
    """Of a picture in the zip, about: it is not compressed."""
    return ((1 if target.grey else 3) * target.resolution + 1) * target.resolution + 300

def _write_pictures(archive, job, options):
    """Returns the names of the pictures that are in the zip."""
    convert = functools.partial(picture_conversion.convert_all, target=job.target)
    at_once = max(2 ** 20 // _bytes_of_one(job.target), 1)
    names, first_of = [], dict()
    label = f'Writing {Path(options.dest).name}'
    for (name, _picture), answer in _in_processes(convert, job.pictures, at_once, 16, options.workers, label):
        if isinstance(answer, Refused):
            job.leave_out(name, answer)
        elif options.drop_duplicates and first_of.setdefault(answer.digest, name) != name:
            job.leave_out(name, Refused(DUPLICATE, first_of[answer.digest]))
        else:
            archive.add(dataset_zip.picture_name(len(names)), answer.png)
            names.append(name)
            job.notes += [(name, note) for note in answer.notes]
    if not names:
        raise _nothing_left(job, options)
    return names

def _made(job, dest, names):
    """The Made of the pictures of these names."""
    labels = [job.labels and job.labels.get(name) for name in names]
    return Made(dest, names, *_number_classes(labels, job.labels and job.labels.names))

def _number_classes(labels, names):
    """(labels with numbers for folders, classes as Made has them). names: what numbers are called already, or None."""
    if isinstance(labels[0], str): # Numbered now, when it is known of which folders no picture was of use.
        names = sorted(set(labels))
        labels = list(map({name: number for number, name in enumerate(names)}.get, labels))
    if not isinstance(labels[0], int):
        return labels, []
    counts = collections.Counter(labels)
    named = lambda label: names[label] if names and label < len(names) else None
    return labels, [dict(label=label, name=named(label), images=counts[label]) for label in sorted(counts)]

def _labels_file(made):
    """What is in dataset.json: what upstream writes, and what classes are called where they have names."""
    if made.labels[0] is None:
        return dict(labels=None)
    content = dict(labels=[[dataset_zip.picture_name(index), label] for index, label in enumerate(made.labels)])
    names = {entry['label']: entry['name'] for entry in made.classes if entry['name'] is not None}
    if names:
        content['label_names'] = [names.get(label, str(label)) for label in range(max(names) + 1)]
    return content

def _attributes_file(attributes, made):
    """What is in attributes.json: the rows of the pictures under their names in the zip."""
    rows = {dataset_zip.picture_name(index): attributes.get(name) for index, name in enumerate(made.names)}
    return dict(names=attributes.names, images={name: row for name, row in rows.items() if row is not None})

#----------------------------------------------------------------------------
# Saying what was made.

def tell_plan(options):
    """What make_dataset() would do. Writes nothing."""
    check(options)
    with tempfile.TemporaryDirectory() as folder:
        job = look(options, Path(folder, 'unpacked'))
    sizes = sorted({seen.size for seen in job.looks}, key=lambda size: (min(size), size))
    count = len(job.pictures)
    made = _made(job, Path(options.dest), [name for name, _picture in job.pictures])
    size = _size(count * _bytes_of_one(job.target))
    formats, modes = (collections.Counter(getattr(seen, name) for seen in job.looks) for name in ('format', 'mode'))
    print(f'{options.dest} would get {_pictures(count, job.target)}, about {size}{_describe_classes(made)}.')
    print(f'They are {_counted(formats)}; {_counted(modes)}; {_by(sizes[0])}'
        + (f' to {_by(sizes[-1])}.' if len(sizes) > 1 else '.'))
    _tell_left_out(job, 'would be left out')
    _tell_attributes(job.attributes, made)
    print('Pixels were not decoded: broken pictures and duplicates show when the zip is made. '
        'Nothing was written.')

def _tell(job, made):
    report, preview = made.dest.with_suffix(REPORT), made.dest.with_suffix(PREVIEW)
    size = _size(made.dest.stat().st_size)
    print(f'{made.dest}: {_pictures(len(made.labels), job.target)}, {size}{_describe_classes(made)}.')
    _tell_left_out(job, 'left out')
    _tell_attributes(job.attributes, made)
    if job.notes:
        (name, note), noted = job.notes[0], len({name for name, _note in job.notes})
        print(f'About {_plural(noted, "picture")} there is a note in {report.name}, as: {shown(name)}: {note}.')
    print(f'All of that is in {report}. Look at {preview}, then train:\n\n    {train_line(job.target, made)}')

def _tell_left_out(job, were):
    for kind, names in _by_reason(job).items():
        print(f'  {len(names):,} {were}, {kind}: {some(names, 3)}')
    others = job.source.others + collections.Counter({'hidden or of a system': job.source.junk})
    if others:
        print(f'  Other files: {_counted(others)}.')
    if job.labels and job.labels.unused:
        unused = job.labels.unused
        print(f'  {_plural(len(unused), "label")} in dataset.json without a picture: {some(unused, 3)}')

def _tell_attributes(attributes, made):
    if attributes is None:
        return
    without = attributes.without(made.names)
    print(f'  {_plural(len(attributes.names), "attribute")} of {_plural(len(made.names) - len(without), "picture")}: '
        f'{some(attributes.names, 8)}')
    if without:
        print(f'  {_plural(len(without), "picture")} without a row in attributes.json: {some(without, 3)}')
    if attributes.unused:
        print(f'  {_plural(len(attributes.unused), "row")} in attributes.json without a picture: '
            f'{some(attributes.unused, 3)}')

def _by_reason(job):
    """{kind of reason: [names]}, the most frequent first."""
    found = collections.defaultdict(list)
    for name, refused in job.left_out:
        found[refused.kind].append(name)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))

def _nothing_left(job, options):
    reasons = '; '.join(f'{len(names):,} {kind}, as {shown(names[0])}' for kind, names in _by_reason(job).items())
    return UserError(f'SRC: {options.source} has no pictures that can be used' + (f': {reasons}.' if reasons else '.'))

def train_line(target, made):
    """The command that trains on it."""
    cfg = 'tiny' if target.resolution <= 32 else 'sarigan-ada' if len(made.labels) < 50000 else 'sarigan'
    gaps = made.classes and made.classes[-1]['label'] >= len(made.classes)
    return f'sarigan train --cfg={cfg} --data={shlex.quote(str(made.dest))} --outdir=training-runs' + \
        (' --cond=1' if made.labels[0] is not None else '') + (' --sparse-labels' if gaps else '')

def _describe_classes(made):
    if made.labels[0] is None:
        return ''
    if not made.classes:
        return f', with labels of {_plural(len(made.labels[0]), "number")}'
    highest = made.classes[-1]['label']
    listed = [f'{_class_name(entry)} {entry["images"]:,}' for entry in made.classes[:8]]
    listed += ['...'] * (len(made.classes) > 8)
    gaps = f' of the {highest + 1:,} that labels up to {highest:,} make' if highest >= len(made.classes) else ''
    return f', {_plural(len(made.classes), "class", "es")}{gaps} ({", ".join(listed)})'

def _class_name(entry):
    return shown(entry['name']) if entry['name'] is not None else str(entry['label'])

def _pictures(count, target):
    return f'{_plural(count, "picture")} of {_by([target.resolution] * 2)} in {"grey" if target.grey else "RGB"}'

def _plural(count, noun, ending='s'):
    return f'{count:,} {noun}' + (ending if count != 1 else '')

def _by(size):
    return 'x'.join(map(str, size))

def _counted(counter):
    return ', '.join(f'{count:,} {what}' for what, count in counter.most_common())

def _size(count):
    unit = next(unit for unit in ('GB', 'MB', 'kB', 'bytes') if count >= UNITS[unit] or unit == 'bytes')
    return f'{count / UNITS[unit]:.3g} {unit}'

UNITS = dict(GB=10 ** 9, MB=10 ** 6, kB=10 ** 3, bytes=1)

def _report(job, options, made):
    """What is in DATA.report.json."""
    return dict(
        options     = asdict(options) | dict(dest=str(made.dest)),
        images      = len(made.labels),
        resolution  = job.target.resolution,
        colour      = 'grey' if job.target.grey else 'rgb',
        formats     = dict(collections.Counter(seen.format for seen in job.looks).most_common()),
        classes     = made.classes,
        left_out    = [dict(name=name, reason=str(refused)) for name, refused in job.left_out],
        notes       = [dict(name=name, note=note) for name, note in job.notes],
        other_files = dict(job.source.others.most_common(), junk=job.source.junk),
        labels_without_picture = list(job.labels.unused) if job.labels else [],
        attributes  = job.attributes.names if job.attributes else [],
        pictures_without_attributes = job.attributes.without(made.names) if job.attributes else [],
        attributes_without_picture = job.attributes.unused if job.attributes else [],
    )

#----------------------------------------------------------------------------

PREVIEW_SIDE, PREVIEW_GRID = 128, 8

def _preview(made):
    """64 pictures from all over the zip, their labels below."""
    count = min(len(made.labels), PREVIEW_GRID ** 2)
    columns = min(count, PREVIEW_GRID)
    font, line = PIL.ImageFont.load_default(12), 18 if made.labels[0] is not None else 2
    size = (columns * (PREVIEW_SIDE + 2) + 2, -(-count // columns) * (PREVIEW_SIDE + line) + 2)
    canvas = PIL.Image.new('RGB', size, 'white')
    draw = PIL.ImageDraw.Draw(canvas)
    names = {entry['label']: entry['name'] for entry in made.classes}
    with zipfile.ZipFile(made.dest) as archive:
        for place in range(count):
            index = place * len(made.labels) // count
            left, top = place % columns * (PREVIEW_SIDE + 2) + 2, place // columns * (PREVIEW_SIDE + line) + 2
            with archive.open(dataset_zip.picture_name(index)) as file, PIL.Image.open(file) as image:
                way = PIL.Image.Resampling.NEAREST if image.width < PREVIEW_SIDE else PIL.Image.Resampling.BOX
                canvas.paste(image.resize((PREVIEW_SIDE, PREVIEW_SIDE), way), (left, top))
            if made.labels[0] is not None:
                caption = _fitting(_caption(made.labels[index], names), font)
                draw.text((left + 1, top + PREVIEW_SIDE), caption, fill='black', font=font)
    return canvas

def _caption(label, names):
    """What is below a picture. Pillow's own font has no letters but those of ASCII, so the number comes first."""
    if not isinstance(label, int):
        return ' '.join(f'{number:.2g}' for number in label)
    if names[label] is None:
        return str(label)
    letters = unicodedata.normalize('NFKD', names[label])
    plain = ''.join(letter for letter in letters if not unicodedata.combining(letter))
    return f'{label}: {plain.encode("ascii", "replace").decode()}'

def _fitting(text, font):
    """As much of a text as fits below a picture."""
    while font.getlength(text) > PREVIEW_SIDE:
        text = text[: -4] + '...'
    return text

#----------------------------------------------------------------------------
