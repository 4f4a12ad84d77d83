"""The command behind `python train.py` and `sarigan train`: configure, print, launch."""

import dataclasses
import json
import os
import re
import sys

import click

from sarigan_plugin.acceleration import ops as custom_ops
from sarigan_plugin.commands.options import PATH, trust_option
from sarigan_plugin.commands.train_flags import Knob, TrainCommand, flags_of, show_all
from sarigan_plugin.errors import UserError
from sarigan_plugin.support.world import DEFAULT_TIMEOUT, World
from sarigan_plugin.trainer import arguments, attribute_groups, left_out, options as knobs, recipes, runs, transfer
from sarigan_plugin.trainer.launch import FaultTolerance, launch, machine_obstacle
from sarigan_plugin.upstream import host, tree as upstream

import dnnlib

LISTED = 20 # Names of images that are left out which are printed.

#----------------------------------------------------------------------------
# The command line.

class GridSize(click.ParamType):
    """'8x4' -> [8, 4]."""
    name = 'grid'

    def convert(self, value, param, ctx):
        match = re.fullmatch(r'(\d+)x(\d+)', value)
        if match is None or 0 in (size := [int(match[1]), int(match[2])]):
            self.fail(f'{value!r} is not COLUMNSxROWS, as in 8x4', param, ctx)
        return size

def _describe_configs():
    ours = {name: recipes.read_recipe(path).summary for name, path in recipes.our_configs().items()}
    theirs = {name: recipe.summary if recipe is not None else 'Chosen from resolution and GPU count.'
        for name, recipe in recipes.UPSTREAM_RECIPES.items()}
    lines = [f'  {name:<18}{summary}' for name, summary in {**ours, **theirs}.items()]
    return '\n'.join(['\b', 'Base configs (--cfg):', *lines, f'  {"<FILE>.toml":<18}Your own; copy one from configs/.'])

@click.command(cls=TrainCommand, epilog=_describe_configs(), context_settings=dict(max_content_width=120), sections={
    'Course of the training': '--kimg --batch --gamma --freezed --seed --snap --metrics',
    'Data and augmentation': '--cond --subset --mirror --aug --p --target --augpipe',
    'Precision and speed': '--gpus --device --fp32 --nhwc --nobench --allow-tf32 --workers'})
@click.option('--outdir',           cls=Knob, section=knobs.UPSTREAM, required=True, type=PATH, metavar='DIR',
                                    help='Where to save the results')
@flags_of(knobs.CommandLine)
@click.option('--device',           cls=Knob, section=knobs.UPSTREAM, type=click.Choice(host.DEVICES),
                                    default='auto', show_default=True, help='Where to train')
@click.option('-n', '--dry-run',    cls=Knob, section=knobs.UPSTREAM, is_flag=True,
                                    help='Print the training options and exit')
@click.option('--help-all',         cls=Knob, section=knobs.UPSTREAM, is_flag=True, is_eager=True, expose_value=False,
                                    callback=show_all,
                                    help='Also show the options for faults, speed and research')
@flags_of(knobs.Method)
@flags_of(knobs.Inpainting)
@click.option('--grid',             cls=Knob, type=GridSize(), metavar='WxH',
                                    help='Most images on a sample sheet [default: up to 32x32]')
@click.option('--checkpoint-minutes', cls=Knob, type=click.FloatRange(min=0, min_open=True), metavar='MIN',
                                    help='Minutes between saved training states [default: beside snapshots only]')
@click.option('--keep-states',      cls=Knob, type=click.IntRange(min=1), metavar='INT',
                                    default=FaultTolerance.keep_states, show_default=True,
                                    help='Training states to keep')
@click.option('--max-bad-iterations', cls=Knob, type=click.IntRange(min=1), metavar='INT',
                                    default=FaultTolerance.max_bad_iterations, show_default=True,
                                    help='Go back to the last state after so many iterations in a row with NaN or '
                                         'infinite numbers')
@click.option('--max-rollbacks',    cls=Knob, type=click.IntRange(min=0), metavar='INT',
                                    default=FaultTolerance.max_rollbacks, show_default=True,
                                    help='Stop after going back so often')
@click.option('--strict-metrics',   cls=Knob, is_flag=True,
                                    help='Stop if a metric fails [default: warn and go on]')
@trust_option
@click.option('--ops',              cls=Knob, type=click.Choice(custom_ops.CHOICES), default='auto', show_default=True,
                                    help="How bias_act and upfirdn2d run on GPUs: upstream's CUDA plugins, Triton "
                                         'kernels, PyTorch operations, or the first that works')
@click.option('--timeout',          cls=Knob, type=click.FloatRange(min=0, min_open=True, max=60 * 24 * 365),
                                    default=DEFAULT_TIMEOUT, show_default=True, metavar='FLOAT',
                                    help='Minutes to wait for a process that does not answer')
def main(timeout, **options):
    """Train SariGAN, or plain StyleGAN2-ADA, on a folder or zip of images.

    Upstream's `python train.py` is the same command. Run it again, and it goes on where it stopped.

    \b
    sarigan train --cfg=tiny --data=punks.zip --outdir=out                                       # on a laptop
    sarigan train --cfg=sarigan --data=~/datasets/cats.zip --outdir=~/training-runs --gpus=8     # as in the paper
    """
    world = World.from_environment(timeout)
    plan = world.agree(lambda: _plan(world, **options))
    if plan is not None:
        sys.exit(launch(*plan, world=world))

def _plan(world, outdir, dry_run, device, ops, grid, trust, keep_states, checkpoint_minutes, max_bad_iterations,
          max_rollbacks, strict_metrics, **options):
    """Decide and print what will be trained. Returns (args, device type), or None where a dry run is all.

    Called in the first process only: where torchrun has started many, what it decides is sent to the others.
    """
    _check_num_gpus(world, options)
    _check_text(outdir=outdir, **options)
    resume = options.pop('resume')
    skip_bad_images = bool(options['skip_bad_images'])
    known = runs.known_left_out(outdir, options['data']) if skip_bad_images else None
    summary = arguments.look_at(options['data'], skip_bad_images, known)
    run_desc, args = arguments.training_options(summary, resume=None if runs.is_run(resume) else resume, **options)
    if grid is not None:
        args.grid = grid
    if ops != 'auto':
        args.ops = ops
    tolerance = FaultTolerance(keep_states, checkpoint_minutes, max_bad_iterations, max_rollbacks,
        skip_bad_images, trust,
        strict_metrics)
    if tolerance != FaultTolerance(): # What upstream has no name for is there only if it was asked for.
        args.care = dataclasses.asdict(tolerance)
    obstacle = _find_obstacle(world, outdir, device, args)
    earlier = runs.run_to_continue(outdir, resume, args)
    args.run_dir = earlier
    if earlier is None:
        args.run_dir = os.path.join(outdir, f'{runs.next_run_id(outdir):05d}-{run_desc}')
    about_start = _look_at_start(args, trust, dry_run) if earlier is None else None
    print_options(args, summary)
    if about_start is not None:
        print(about_start)
    if earlier is not None and runs.is_over(earlier, args):
        print(f'{earlier} has seen its {args.total_kimg} kimg; a larger --kimg trains on.')
        return None
    if earlier is not None:
        print(f'Going on with {earlier} from {runs.position(earlier) / 1000:g} kimg; '
            '--resume=noresume starts a new run.')
    if dry_run:
        refusal = f' Without --dry-run this machine would refuse: {obstacle}' if obstacle is not None else ''
        print(f'Dry run; exiting.{refusal}')
        return None
    if obstacle is not None:
        raise UserError(obstacle)
    return args, host.resolve_device(device)

def _look_at_start(args, trust, dry_run):
    """Read the networks that training starts from, so that a dry run refuses what training would. Raises UserError.

    Returns what there is to say, or None.
    """
    path = args.get('resume_pkl')
    if path is None:
        return None
    if dry_run and dnnlib.util.is_url(path) and not upstream.is_cached(path):
        return f'{path} is downloaded, and looked at, when training starts.'
    return transfer.examine(args, trust)

def _check_num_gpus(world, options):
    """Under torchrun --gpus is the number of its processes."""
    if world.store is None:
        return
    if options['gpus'] is None:
        options['gpus'] = world.size
    if options['gpus'] != world.size:
        raise UserError(f'--gpus={options["gpus"]}, but torchrun has started WORLD_SIZE={world.size} processes: '
            'leave --gpus out, or change --nnodes or --nproc_per_node.')

def _check_text(**options):
    """What is typed is printed, logged and becomes the name of a folder, so it must be text that can be written."""
    for name, value in options.items():
        try:
            str(value).encode()
        except UnicodeEncodeError: # Python's stand-ins for bytes that it can't decode.
            raise UserError(f'--{name.replace("_", "-")}: {value!r} is not UTF-8.') from None

def _find_obstacle(world, outdir, device, args):
    """Why this machine can't run what was asked for, as one sentence, or None."""
    num_gpus = args.num_gpus
    if args.batch_size % (args.batch_gpu * num_gpus) != 0: # Upstream's loop would never synchronise the GPUs.
        return (f'--gpus={num_gpus} GPUs of {args.batch_gpu} images at a time do not divide the batch of '
            f'{args.batch_size}; add --batch, a multiple of --gpus.')
    try:
        device_type = host.resolve_device(device)
    except ValueError as error:
        return f'--device: {error}.'
    if device_type == 'cpu' and device == 'auto' and num_gpus > 1:
        return (f'--gpus={num_gpus}, but PyTorch finds no GPU here; --device=cpu trains with up to '
            f'{host.num_devices(device_type)} processes.')
    obstacle = machine_obstacle(world, args, device_type)
    if obstacle is not None:
        return obstacle
    if not outdir: # os.makedirs() would take it for this folder, and next_run_id() for one without runs.
        return '--outdir: an empty name is no folder; . is the current one.'
    parent = os.path.abspath(outdir)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    if not (os.path.isdir(parent) and os.access(parent, os.W_OK | os.X_OK)):
        return f'--outdir: {parent} is not a folder that can be written to.'
    return None

#----------------------------------------------------------------------------

def print_options(args, summary):
    """Print what will be trained, on what."""
    data, missing = args.training_set_kwargs, left_out.names(args)
    classes = ''
    if data.use_labels and summary.num_classes:
        classes = f', {summary.used_classes:,} of {summary.num_classes:,} classes used'
    shown = args
    if len(missing) > LISTED:
        shown = {**args, 'left_out': {**args.left_out, 'images': [*missing[:LISTED], '...']}}
    print('\nTraining options:')
    print(json.dumps(shown, indent=2))
    print(f"""
Output directory:   {args.run_dir}
Training data:      {data.path}
Training duration:  {args.total_kimg} kimg
Number of GPUs:     {args.num_gpus}
Number of images:   {data.max_size}{f", without {len(missing)} bad" if missing else ""}
Image resolution:   {data.resolution}
Conditional model:  {data.use_labels}{classes}
Dataset x-flips:    {data.xflip}
{attribute_groups.described(args)}""")

#----------------------------------------------------------------------------

if __name__ == '__main__':
    main()

#----------------------------------------------------------------------------
