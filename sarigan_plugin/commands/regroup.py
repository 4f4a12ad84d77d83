"""`sarigan regroup`: linked groups of channels that change the same things, for any StyleGAN2 or SariGAN."""

import dataclasses
import os
import pickle

import click
import numpy as np
import torch

from sarigan_plugin.commands.options import (
    PATH,
    Number,
    NumberRange,
    class_flag,
    class_options,
    device_option,
    require_class,
    trust_option,
)
from sarigan_plugin.commands.sections import SectionedCommand
from sarigan_plugin.datasets import drawn, masks
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.evaluation import attributes, disentanglement, fidelity, inpainting
from sarigan_plugin.snapshots import box, reading
from sarigan_plugin.steering import channel_sets, channel_trials, regrouping
from sarigan_plugin.steering.conditioned import Conditioned
from sarigan_plugin.steering.sampling import MAX_SEED, latents, render, sample_ws
from sarigan_plugin.steering.styles import styled_layers
from sarigan_plugin.support import files, pictures
from sarigan_plugin.support.bars import progressbar
from sarigan_plugin.trainer import attribute_groups, baking

MAX_GROUPS      = 64
PARTNERS        = 2048  # Images whose styles others may get. None is made.
TRIALS          = 256   # Images that groups are tried in.
MAX_PHOTOS      = 256   # Of a data set, for a network that completes images.

#----------------------------------------------------------------------------

class GroupNumber(click.ParamType):
    """'auto' or a number from 2 on."""
    name = 'number'

    def convert(self, value, param, ctx):
        if value == 'auto' or isinstance(value, int):
            return value
        if not value.isdecimal() or not 2 <= int(value[:9]) <= MAX_GROUPS:
            self.fail(f'{value!r} is neither auto nor a number from 2 to {MAX_GROUPS}', param, ctx)
        return int(value)

@click.command('regroup', cls=SectionedCommand, sections={
    'How groups are found': '--by --num-groups --attributes --seeds --quick --trunc',
    'Networks that complete images': '--data --masks',
    'What is written': '--to --bake'})
@click.argument('network', type=PATH, metavar='PKL')
@click.option('--by',           help='What channels of one group have in common: what they change, where they respond, '
                                'or their kernels', type=click.Choice(list(regrouping.KINDS)), default='effects',
                                show_default=True)
@click.option('--num-groups',   help='How many; auto chooses from '
                                f'{regrouping.NUMBERS[0]} to {regrouping.NUMBERS[-1]}', type=GroupNumber(),
                                default='auto', show_default=True, metavar='auto|N')
@click.option('--attributes', 'dataset', help='Dataset zip with attributes.json: '
    'also go by which attributes come and go, and name groups after them', type=PATH, metavar='ZIP')
@click.option('--data',         help='Data set whose images get holes; required there', type=PATH, metavar='ZIP')
@click.option('--masks', 'mask_source', help=f'Kind of holes, {", ".join(masks.KINDS)}, or a folder of masks',
                                default='mixed', show_default=True, type=PATH, metavar='KIND|DIR')
@click.option('--to',           help='Where to write the groups  [default: beside the network, NETWORK.groups.json]',
                                type=PATH, metavar='FILE')
@click.option('--seeds',        help='Random seeds of the images', type=NumberRange(), default='0-31',
                                show_default=True)
@click.option('--quick',        help='Leave out the trials of groups with one channel more or less: several times as '
                                'fast, and groups are less of one place', is_flag=True)
@click.option('--trunc',        help='Truncation psi', type=Number(), default=1, show_default=True)
@click.option('--bake',         help='Also make a SariGAN of a StyleGAN2, with these groups, to be trained on',
                                type=PATH, metavar='NEW.pkl')
@click.option('--dry-run',      help='Say how long it takes and where the groups go, and do nothing', is_flag=True)
@class_options(default=0)
@trust_option
@device_option
def regroup_command(network, by, num_groups, dataset, seeds, quick, trunc, data, mask_source, to, bake, dry_run,
        class_idx, trust, device):
    """Find groups of channels that change the same things, in any StyleGAN2.

    \b
    sarigan regroup network.pkl                                     # writes network.groups.json
    sarigan groups network.pkl --outdir=out/groups                  # see them, first on the page
    sarigan edit network.pkl --outdir=out/edit --layer=linked --group=0 --inter=2
    sarigan regroup inpainting.pkl --data=photos.zip                # of a network that completes images

    Nothing is trained, and a SariGAN will do as well. Each channel's style is exchanged for another image's, and
    channels of all layers whose exchange changes the same places, or attributes, make a group: one knob in several
    layers. By places, groups are then tried with one channel more or less, and channels that act nowhere in particular
    are left over, as a last group called rest. Every command that takes groups knows them from then on as those of the
    layer `linked`. The network is not touched.
    """
    loaded = reading.load_all(network, 'PKL', trust)
    G = reading.averaged(loaded, device)
    task = _read_photos(network, G, data, mask_source, class_idx)
    if not hasattr(G.synthesis, 'block_resolutions') or not styled_layers(G):
        raise UserError(f'PKL: {network!r} holds a generator without the layers of a StyleGAN2 or SariGAN.')
    if len(seeds) < 2:
        raise UserError('--seeds: two images at least are needed, whose styles are exchanged.')
    to = _target(network, to)
    if bake is not None:
        _check_bake(G, bake)
    tried = not quick and by == 'effects' and dataset is None and channel_trials.affordable(G, TRIALS)
    fresh = _other_seeds(seeds, len(seeds) + TRIALS + PARTNERS)
    parts = [seeds, fresh[:len(seeds)], *[fresh[len(seeds):-PARTNERS]] * tried, fresh[-PARTNERS:]]
    if task is not None:
        G, *codes = _completed(G, task, parts, trunc)
    else:
        codes = [sample_ws(G, numbers, trunc, class_idx) for numbers in parts]
    ws, others, *trials, partners = codes
    trials = trials[0] if tried else None
    scorer = _scorer(G, ws, dataset) if dataset is not None else None
    _announce(G, ws, by, num_groups, scorer, trials, device)
    if dry_run:
        click.echo(f'The groups would go to {click.format_filename(to)}; nothing was written.')
        return
    how = dict(trunc=trunc, seeds=seeds, attributes=None if dataset is None else _basename(dataset))
    how.update(dict(class_idx=class_idx if G.c_dim > 0 else None) if task is None
        else dict(data=_basename(data), masks=_basename(mask_source)))
    try:
        found = regrouping.regroup(G, ws, others, by, num_groups, scorer, _bar, how, partners, trials)
    except ValueError as error:
        raise UserError(f'PKL: {network!r} cannot be regrouped: {error}') from None
    with writing('--to', to):
        found.write(to)
    _print_groups(found)
    click.echo(click.format_filename(to))
    if bake is not None:
        _bake(loaded, found, others, bake)

def _basename(path):
    return files.printable(os.path.basename(os.path.normpath(path)))

def _read_photos(network, G, data, mask_source, class_idx):
    """Photos with holes for a network that completes images, an inpainting.Task; None for any other."""
    if not reading.completes_images(G):
        require_class(G, class_idx)
        if data is not None:
            raise UserError('--data: the network completes no images, and makes its own of seeds.')
        return None
    if class_idx != 0:
        raise UserError(f'{class_flag()}: the network completes images, and has no classes.')
    if data is None:
        raise UserError('--data is required, as the network completes images: a data set like the one that it was '
            'trained on.')
    task = inpainting.read_task(data, 'all', mask_source, MAX_PHOTOS)
    inpainting.check_shape(network, G, task)
    return task

def _completed(G, task, parts, trunc):
    """(Conditioned, codes of the seeds of each part), with the task's photos one after the other, and from the first
    again.

    Of the last part nothing but styles is looked at: its codes are without the photos, which would take much memory.
    """
    conditioned, codes, first = Conditioned(G), [], 0
    for part in parts:
        done = []
        for seeds in torch.tensor(part).split(inpainting.BATCH):
            photos = torch.arange(first, first + len(seeds)) % len(task.truth)
            c = inpainting.conditions(task.truth[photos], task.holes[photos], next(G.parameters()).device)
            ws = G.mapping(latents(G, seeds.tolist()), c, truncation_psi=trunc)
            done.append(ws if part is parts[-1] else conditioned.codes(ws, c))
            first += len(seeds)
        codes.append(torch.cat(done))
    return conditioned, *codes

def _check_bake(G, path):
    baking.check(G)
    folder = os.path.dirname(path) or '.'
    if not os.path.isdir(folder):
        raise UserError(f'--bake: there is no folder {folder!r}.')
    for existing in [path, channel_sets.path_of(path)]:
        if os.path.lexists(existing):
            raise UserError(f'--bake: {existing} exists already; nothing is overwritten.')

def _bake(data, found, ws, path):
    """Write a SariGAN of the same images, nearly, and say how near. ws: codes of images to compare."""
    G, ws = data['G_ema'].cpu(), ws.cpu()
    baked, error = baking.baked(G, found)
    codes = zip(ws.split(1), torch.cat([ws, ws], dim=2).split(1))
    psnr = np.mean([fidelity.psnr(fidelity.mean_squared_error(render(baked, both)[None], render(G, w)[None]))
        for w, both in codes])
    with writing('--bake', path):
        with files.atomic_open(path) as f:
            pickle.dump(baking.contents(data, baked, found), f)
        dataclasses.replace(found, network=channel_sets.weights_hash(baked)).write(channel_sets.path_of(path))
    click.echo(f'{click.format_filename(path)}: a SariGAN whose styles are within {error:.1%} of the network\'s, '
        f'images at {psnr:.1f} dB')

def _target(network, to):
    """Where to write. Raises UserError where something else is there."""
    if to is None and box.resolve(network) != network:
        raise UserError(f'--to is required, since {network} comes with sarigan and is not changed: where to write the '
            'groups, for --groups.')
    path = channel_sets.path_of(network) if to is None else to
    if path is None:
        raise UserError(f'--to is required, since {network} is a URL: where to write the groups.')
    folder = os.path.dirname(path) or '.'
    if not os.path.isdir(folder):
        raise UserError(f'--to: there is no folder {folder!r}.')
    if os.path.exists(path):
        try:
            there = channel_sets.parse(files.read_json(path))
        except ValueError as error:
            raise UserError(f'--to: {path!r} is there and would be overwritten: {error} '
                'Choose another name.') from None
        if there.measured.get('by') == attribute_groups.BY: # No command makes these again.
            raise UserError(f'--to: {path!r} has the groups that the network was trained with, by attribute, and is '
                'not overwritten; choose another file, for --groups.')
    return path

def _other_seeds(seeds, count):
    """So many, none of them the same."""
    taken, seed, others = set(seeds), 0, []
    while len(others) < count:
        if seed not in taken:
            others.append(seed)
        seed = (seed + 1) % (MAX_SEED + 1)
    return others

def _scorer(G, ws, dataset):
    """What says which attributes are in images, of those that the network draws at times."""
    try:
        judge = attributes.fit(dataset)
    except ValueError as error:
        raise UserError(f'--attributes: {dataset!r}: {error}') from None
    countable = disentanglement.countable
    if isinstance(judge, attributes.DrawnReader):
        judge, countable = _factors_by(judge), disentanglement.countable_factors
    seen = [judge(pictures.to_uint8(G.synthesis(w, noise_mode='const'))) for w in ws.split(1)]
    used = countable([{name: np.concatenate([of_image[name] for of_image in seen]) for name in seen[0]}])
    if len(used) < 2:
        raise UserError(f'--attributes: {dataset!r}: fewer than two of its attributes come and go in images '
            'of the network; try more --seeds, or go without.')
    click.echo(f'{len(used)} attributes come and go in its images: {", ".join(used)}')
    def scorer(images):
        scores = judge(images)
        return {name: scores[name] for name in used}
    return scorer

def _factors_by(reader):
    """What says which of its values each factor of drawn pictures has."""
    def judge(images):
        return dict(zip(drawn.FACTORS, reader.factors(images).T))
    return judge

def _announce(G, ws, by, num_groups, scorer, trials, device):
    """What is about to happen, and how long it takes."""
    layers = styled_layers(G)
    count = sum(layer.weight.shape[1] for layer in layers.values())
    click.echo(f'{count} channels of {len(layers)} layers, by {regrouping.KINDS[by]}, in {len(ws)} images on {device}')
    if by != 'effects':
        return
    planned = regrouping.plan(G, ws, trials)
    single = sum(map(len, planned.single.values()))
    how = (f'All are screened by their slopes, and the strongest {single} exchanged one by one' if planned.screened
        else 'All are exchanged one by one')
    tried = f', then groups are tried in {len(trials)} images' if planned.tried else ''
    click.echo(f'{how}{tried}: {_duration(regrouping.seconds(G, ws, num_groups, scorer, trials))}')

def _duration(seconds):
    return f'about {max(round(seconds), 1)} s' if seconds < 120 else f'about {seconds / 60:.0f} minutes'

def _bar(jobs, label='Measuring channels'):
    with progressbar(jobs, label=label) as bar:
        yield from bar

def _print_groups(found):
    names = [f'{index} "{group.name}"' for index, group in enumerate(found.sets)]
    width = max(map(len, names))
    click.echo(f'\n  {"Group":<{width}}  channels  layers  strength  in one place')
    for name, group, facts in zip(names, found.sets, found.measured['groups']):
        share = f'   {facts["attribute"]} {facts["attribute_share"]:.0%}' if 'attribute' in facts else ''
        click.echo(f'  {name:<{width}}{sum(map(len, group.channels.values())):10}{len(group.channels):8}'
            f'{facts["strength"]:10.1f}{facts["place"]:14.0%}{share}')
    figures = found.measured['on_other_images']
    for what in [what for what in ['place', 'attribute'] if what in figures]:
        shares = figures[what]
        ratio = shares['groups'] / max(shares['random'], 1e-12)
        click.echo(f'On other images {shares["groups"]:.0%} of what a group changes is in one {what}, '
            f'{ratio:.2f} times as much as of random sets of as many channels ({shares["random"]:.0%}).')
    if found.sets[-1].rest:
        click.echo(f'All groups but {names[-1]}, what is left over, change {figures["held"]:.0%} as much as everything '
            'together.')

#----------------------------------------------------------------------------
