"""`sarigan demo`: a network from the box, a few minutes of training of one's own, pictures of both to look at."""

import glob
import os
import shutil

import click
import PIL.Image

from sarigan_plugin.commands.options import PATH, LastingCommand
from sarigan_plugin.datasets import drawn, packaged
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.snapshots import box, model_card
from sarigan_plugin.steering import attention, groupings, names
from sarigan_plugin.support import pictures
from sarigan_plugin.trainer import arguments, launch, runs
from sarigan_plugin.upstream import host

MAX_KIMG = 100000 # More than the minutes will allow.

#----------------------------------------------------------------------------

@click.command('demo', cls=LastingCommand)
@click.option('--outdir',   help='Where to leave everything', default='out/demo', show_default=True,
                            type=PATH, metavar='DIR')
@click.option('--minutes',  help='How long to train', type=click.FloatRange(min=0, min_open=True), default=5,
                            show_default=True)
@click.option('--device',   help='Where to train', type=click.Choice(host.DEVICES), default='auto', show_default=True)
def demo_command(outdir, minutes, device):
    """Train a small SariGAN in five minutes, and draw its groups beside those of a trained one.

    The data are 10,000 pixel faces. Where they can't be downloaded, drawn heads take their place.

    \b
    sarigan demo
    sarigan demo --minutes=30       # run again, it goes on where it stopped
    """
    try:
        device_type = host.resolve_device(device)
    except ValueError as error:
        raise UserError(f'--device: {error}.') from None
    with writing('--outdir', outdir):
        os.makedirs(outdir, exist_ok=True)

    boxed = _draw_boxed(outdir)
    images = images_for(outdir)
    run_dir, code = _train(images, os.path.join(outdir, 'runs'), minutes, device_type)
    if code != 0:
        raise SystemExit(code)
    _collect(run_dir, outdir)
    if boxed is not None:
        _compare(boxed, outdir, run_dir)

def _draw_boxed(outdir):
    """Draw the groups of the best network of the box, and return it; None for an empty box."""
    boxed = next(iter(box.entries()), None)
    if boxed is None:
        return None
    folder = os.path.join(outdir, 'boxed')
    os.makedirs(folder, exist_ok=True)
    G = groupings.load(boxed.name, '--outdir')
    attention.draw_all(G, boxed.name, folder, seeds=range(6), known=names.load(boxed.name, G))
    click.echo(f'{folder} has the groups of {boxed.name}, a network that comes with sarigan{_trained(boxed.facts)}: '
        'look at groups.png and strip.png while yours is trained.')
    return boxed

def _trained(facts):
    """', trained for 10.2 hours on 2000 thousand images', as far as it is known. facts: hours and kimg, or not."""
    hours, kimg = facts.get('hours'), facts.get('kimg')
    took = '' if hours is None else f' for {hours:.1f} hours' if hours >= 1 else f' for {hours * 60:.1f} minutes'
    seen = '' if kimg is None else f' on {kimg:.4g} thousand images'
    return f', trained{took}{seen}' if took or seen else ''

def images_for(outdir):
    """The data set: that of an earlier demo, else pixel faces, else drawn heads."""
    faces, heads = (os.path.join(outdir, name) for name in ['punks.zip', 'drawn.zip'])
    if os.path.exists(faces):
        return faces
    if os.path.exists(heads):
        return heads
    try:
        packaged.make_punks(faces, resolution=32)
        return faces
    except packaged.NotDownloaded as error:
        click.echo(f'{error.message.partition(": ")[0]}; heads that sarigan draws itself take the place of its faces.')
        drawn.make_drawn(heads, resolution=32, num=10000)
        return heads

def _compare(boxed, outdir, run_dir):
    """Leave compare.png: the strips of the network of the box and of the user's own."""
    kimg = runs.position(run_dir) / 1000
    hours = model_card.hours_until(os.path.join(run_dir, 'stats.jsonl'), kimg)
    ours = _trained(dict(kimg=kimg) if hours is None else dict(kimg=kimg, hours=hours))
    strips = []
    for folder, title in [(os.path.join(outdir, 'boxed'), f'{boxed.name}, from the box{_trained(boxed.facts)}'),
            (outdir, f'yours{ours}')]:
        strip = PIL.Image.open(os.path.join(folder, 'strip.png'))
        strips.append(pictures.caption(strip, title, [], 0))
    pictures.save(pictures.mosaic(strips, columns=2), os.path.join(outdir, 'compare.png'))
    click.echo(f"""
compare.png shows side by side the strips of {boxed.name}{_trained(boxed.facts)}; and yours{ours}.
`sarigan explore` opens {boxed.name} on a page on which you turn its groups.""")

def num_processes(device_type, available):
    """How many train together: one on a GPU, else a power of two, up to four."""
    return max(count for count in [1, 2, 4] if count <= available) if device_type == 'cpu' else 1

def _train(images, folder, minutes, device_type):
    """Train on one GPU, or on up to four CPU cores, a process each. Returns (run folder, exit code)."""
    gpus = num_processes(device_type, host.num_devices(device_type))
    desc, args = arguments.training_options(data=images, cfg='tiny', metrics=[], gpus=gpus, kimg=MAX_KIMG)
    earlier = runs.run_to_continue(folder, None, args)
    args.run_dir = earlier if earlier is not None else os.path.join(folder, f'{runs.next_run_id(folder):05d}-{desc}')
    click.echo(f'Training for {minutes:g} minutes on {images}'
        + (f', going on with {earlier}' if earlier is not None else '') + ' ...')
    return args.run_dir, launch.launch(args, device_type, minutes=minutes)

def _collect(run_dir, outdir):
    """Leave the results of the last run in outdir and say what to look at."""
    fakes = PIL.Image.open(sorted(glob.glob(os.path.join(glob.escape(run_dir), 'fakes[0-9]*.png')))[-1])
    # 32 pixels are few to look at.
    fakes.resize((fakes.width * 3, fakes.height * 3), PIL.Image.Resampling.NEAREST).save(
        os.path.join(outdir, 'fakes.png'))
    for source, name in [(sorted(glob.glob(os.path.join(glob.escape(run_dir), 'network-snapshot-*.pkl')))[-1],
            'network.pkl'), (os.path.join(run_dir, 'log.txt'), 'log.txt')]:
        shutil.copyfile(source, os.path.join(outdir, name))
    network = os.path.join(outdir, 'network.pkl')
    G = groupings.load(network, '--outdir')
    attention.draw_all(G, network, outdir, seeds=range(6), known=names.load(network, G))
    click.echo(f"""
Done: {runs.position(run_dir) // 1000} thousand images seen in all. Look at these, in {outdir}:

  fakes.png    Generated faces. The real ones are in runs/*/reals.png.
  groups.png   One block per layer, one row per group of channels: red is where the group is active (paper, Fig. 3).
               Groups that light up on hair, outline or background, whatever the face, have found a meaning.
  index.html   The same for a browser, with figures of every group.
  strip.png    The group that moves one part of the image most, turned from negative over none (0) and as it is (1)
               to three times as much (Fig. 5).
  network.pkl  The network, for every StyleGAN2-ADA tool; log.txt tells how it was trained.

Run `sarigan demo` again to train on from here: the faces get better.
`sarigan generate --network={network} --seeds=0-35 --outdir={os.path.join(outdir, 'images')}` makes more of them.
`sarigan explore {network}` opens a page on which you turn the groups yourself.""")

#----------------------------------------------------------------------------
