"""The command behind `python train.py` and `sarigan train`: configure, print, launch."""

import dataclasses
import json
import os
import re
import sys

import click
import dnnlib

from sarigan_plugin.acceleration import ops as custom_ops
from sarigan_plugin.commands.options import PATH, CPUPrecision, LastingCommand, trust_option
from sarigan_plugin.errors import UserError
from sarigan_plugin.support.world import DEFAULT_TIMEOUT, World
from sarigan_plugin.trainer import recipes
from sarigan_plugin.trainer import runs
from sarigan_plugin.trainer import transfer
from sarigan_plugin.trainer.launch import Care, launch, machine_obstacle
from sarigan_plugin.upstream import host
from sarigan_plugin.upstream import tree as upstream

LISTED = 20 # Names of images that are left out which are printed.

#----------------------------------------------------------------------------
# The command line.

class CommaSeparatedList(click.ParamType):
    """'a,b' -> ['a', 'b']; 'none' or '' -> []."""
    name = 'list'

    def convert(self, value, param, ctx):
        if isinstance(value, list):
            return value
        return [] if value.lower() in ['none', ''] else value.split(',')

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
    theirs = {name: recipe.summary if recipe is not None else 'Chosen from resolution and GPU count.' for name, recipe in recipes.UPSTREAM_RECIPES.items()}
    lines = [f'  {name:<18}{summary}' for name, summary in {**ours, **theirs}.items()]
    return '\n'.join(['\b', 'Base configs (--cfg):', *lines, f'  {"<FILE>.toml":<18}Your own; copy one from configs/.'])

@click.command(cls=LastingCommand, epilog=_describe_configs(), context_settings=dict(max_content_width=120))

# General options.
@click.option('--outdir',       help='Where to save the results', required=True, type=PATH, metavar='DIR')
@click.option('--gpus',         help="Number of GPUs to use [default: 1, or torchrun's]", type=int, metavar='INT')
@click.option('--device',       help='Where to train', type=click.Choice(host.DEVICES), default='auto', show_default=True)
@click.option('--snap',         help='Snapshot interval [default: 50 ticks]', type=int, metavar='INT')
@click.option('--grid',         help='Most images on a sample sheet [default: up to 32x32]', type=GridSize(), metavar='WxH')
@click.option('--metrics',      help='Comma-separated list or "none" [default: fid50k_full]', type=CommaSeparatedList())
@click.option('--seed',         help='Random seed [default: 0]', type=int, metavar='INT')
@click.option('-n', '--dry-run', help='Print training options and exit', is_flag=True)

# Dataset.
@click.option('--data',         help='Training data (directory or zip)', type=PATH, metavar='PATH', required=True)
@click.option('--cond',         help='Train conditional model based on dataset labels [default: false]', type=bool, metavar='BOOL')
@click.option('--sparse-labels', help='With --cond=1, accept classes in dataset.json that no image has', is_flag=True)
@click.option('--subset',       help='Train with only N images [default: all]', type=int, metavar='INT')
@click.option('--mirror',       help='Enable dataset x-flips [default: false]', type=bool, metavar='BOOL')

# Base config.
@click.option('--cfg',          help='Base config, see below [default: auto]', type=PATH, metavar='NAME|TOML')
@click.option('--gamma',        help='Override R1 gamma', type=float)
@click.option('--kimg',         help='Override training duration', type=int, metavar='INT')
@click.option('--batch',        help='Override batch size', type=int, metavar='INT')

# SariGAN.
@click.option('--num-groups',   help='Channel groups per layer (g), auto, or RESOLUTION:GROUPS pairs as in 8:16,16:8', metavar='INT')
@click.option('--grouping',     help='How channels come to their groups', type=click.Choice(recipes.GROUPINGS))
@click.option('--similarity',   help='What is alike in learned groups: kernels (Eq. 1), or responses to images', type=click.Choice(recipes.SIMILARITIES))
@click.option('--threshold',    help='Cosine from which kernels are alike (r): auto, learned or a number', metavar='R')
@click.option('--inertia',      help='How much channels keep to their groups; 0 as in the paper', type=float)
@click.option('--regroup-kimg', help='Thousands of images between two rounds of k-means, or of merging groups', type=float, metavar='KIMG')
@click.option('--norm',         help='Normalise weights (Eq. 5-6) or features (Eq. 3-4)', type=click.Choice(recipes.NORMS))
@click.option('--norm-channels', help="The norm of a group's styles counts the channels of the layer (Eq. 5) or of the group", type=click.Choice(recipes.NORM_CHANNELS))
@click.option('--norm-eps',     help='Added to each square in that norm; 0 as in the paper', type=float)
@click.option('--inter-gain',   help='Initial weights of the inter-group code, times this; 1 as in StyleGAN2', type=float)
@click.option('--lambda-group', help='Weight of the grouping loss (lambda_1)', type=float)
@click.option('--lambda-info',  help='Weight of the info loss (lambda_2)', type=float)
@click.option('--info-variance', help="Variance of Q's Gaussian", type=click.Choice(recipes.INFO_VARIANCES))
@click.option('--info-target',  help='What Q predicts: the codes in w, or the styles that grouped layers make of them', type=click.Choice(recipes.INFO_TARGETS))
@click.option('--info-mixing',  help='Under style mixing, Q aims at the mean of the codes, or skips', type=click.Choice(recipes.INFO_MIXINGS))
@click.option('--code-dim',     help='Dimensionality of each of the two codes', type=int, metavar='INT')

# Inpainting.
@click.option('--masks',        help=f'Holes of the images: {", ".join(recipes.MASKS)}, or a folder of masks', type=PATH, metavar='KIND|DIR')
@click.option('--split',        help='Images to train with: train leaves the last tenth for `sarigan inpaint-table`', type=click.Choice(recipes.TRAINING_SPLITS))
@click.option('--lambda-l1',    help='Weight of the absolute error in the holes', type=float)

# Reliability.
@click.option('--checkpoint-minutes', help='Save the training state so often [default: beside network snapshots only]', type=click.FloatRange(min=0, min_open=True), metavar='MIN')
@click.option('--keep-states',  help='Training states to keep', type=click.IntRange(min=1), default=Care.keep_states, show_default=True, metavar='INT')
@click.option('--max-bad-iterations', help='Go back to the last state after so many iterations in a row with numbers that are not finite', type=click.IntRange(min=1),
    default=Care.max_bad_iterations, show_default=True, metavar='INT')
@click.option('--max-rollbacks', help='Go back at most so often', type=click.IntRange(min=0), default=Care.max_rollbacks, show_default=True, metavar='INT')
@click.option('--skip-bad-images', help="Leave out images that can't be read or are of another size or colours than most; all are looked at first [default: false]", type=bool, metavar='BOOL')
@click.option('--strict-metrics', help='Stop where a metric fails [default: go on, with a warning]', is_flag=True)

# Discriminator augmentation.
@click.option('--aug',          help='Augmentation mode [default: ada; noaug for SariGAN]', type=click.Choice(recipes.AUGMENTATIONS))
@click.option('--p',            help='Augmentation probability for --aug=fixed', type=float)
@click.option('--target',       help='ADA target value for --aug=ada', type=float)
@click.option('--augpipe',      help='Augmentation pipeline [default: bgc]', type=click.Choice(list(recipes.AUGMENT_PIPES)))

# Transfer learning.
@click.option('--resume',       help=f'Networks to start from: a pickle, an exported folder, a URL, or one of {", ".join(recipes.TRANSFER_SOURCES)}; or the run to go on with: latest, or its folder', type=PATH, metavar='PKL|RUN')
@trust_option
@click.option('--freezed',      help='Freeze-D [default: 0 layers]', type=int, metavar='INT')

# Performance options.
@click.option('--ops',          help="How two ops run on GPUs: upstream's CUDA plugins, Triton kernels, PyTorch operations, or the first that works", type=click.Choice(custom_ops.CHOICES),
                                default='auto', show_default=True)
@click.option('--fp32',         help='Disable mixed-precision training', type=bool, metavar='BOOL')
@click.option('--cpu-bf16',     help='On a CPU, train high resolutions in bf16, as a GPU trains them in fp16; auto does where that is faster [default: auto]', type=CPUPrecision())
@click.option('--nhwc',         help='Use NHWC memory format with FP16', type=bool, metavar='BOOL')
@click.option('--nobench',      help='Disable cuDNN benchmarking', type=bool, metavar='BOOL')
@click.option('--allow-tf32',   help='Allow PyTorch to use TF32 internally', type=bool, metavar='BOOL')
@click.option('--workers',      help='Override number of DataLoader workers', type=int, metavar='INT')
@click.option('--timeout',      help='Minutes after which a process that does not answer is given up', type=click.FloatRange(min=0, min_open=True, max=60 * 24 * 365),
                                default=DEFAULT_TIMEOUT, show_default=True, metavar='FLOAT')

def main(timeout, **options):
    """Train SariGAN, or plain StyleGAN2-ADA, on a folder or zip of images.

    All options of upstream's train.py keep their names and meaning.

    \b
    # SariGAN as in the paper, on 8 GPUs.
    python train.py --cfg=sarigan --data=~/datasets/cats.zip --outdir=~/training-runs --gpus=8
    \b
    # A small one on a laptop without a GPU.
    python train.py --cfg=tiny --data=punks.zip --outdir=out --metrics=none
    \b
    # What would happen?
    python train.py --cfg=sarigan --data=punks.zip --outdir=out --dry-run
    \b
    # On two machines of 8 GPUs each: docs/many-machines.md.
    torchrun --nnodes=2 --nproc_per_node=8 ... train.py --cfg=sarigan --data=cats.zip --outdir=~/training-runs
    """
    world = World.from_environment(timeout)
    plan = world.agree(lambda: _plan(world, **options))
    if plan is not None:
        sys.exit(launch(*plan, world=world))

def _plan(world, outdir, dry_run, device, ops, grid, trust, keep_states, checkpoint_minutes, max_bad_iterations, max_rollbacks, strict_metrics, **options):
    """Decide and print what will be trained. Returns (args, device type), or None where a dry run is all.

    Called in the first process only: where torchrun has started many, what it decides is sent to the others.
    """
    _check_num_gpus(world, options)
    _check_text(outdir=outdir, **options)
    resume = options.pop('resume')
    skip_bad_images = bool(options['skip_bad_images'])
    known = runs.known_left_out(outdir, options['data']) if skip_bad_images else None
    summary = recipes.look_at(options['data'], skip_bad_images, known)
    run_desc, args = recipes.training_options(resume=None if runs.is_run(resume) else resume, summary=summary, **options)
    if grid is not None:
        args.grid = grid
    if ops != 'auto':
        args.ops = ops
    care = Care(keep_states, checkpoint_minutes, max_bad_iterations, max_rollbacks, skip_bad_images, trust, strict_metrics)
    if care != Care(): # What upstream has no name for is there only if it was asked for.
        args.care = dataclasses.asdict(care)
    obstacle = _find_obstacle(world, outdir, device, args)
    earlier = runs.run_to_continue(outdir, resume, args)
    args.run_dir = earlier if earlier is not None else os.path.join(outdir, f'{runs.next_run_id(outdir):05d}-{run_desc}')
    about_start = _look_at_start(args, trust, dry_run) if earlier is None else None
    print_options(args, summary)
    if about_start is not None:
        print(about_start)
    if earlier is not None and runs.is_over(earlier, args):
        print(f'{earlier} has seen its {args.total_kimg} kimg; a larger --kimg trains on.')
        return None
    if earlier is not None:
        print(f'Going on with {earlier} from {runs.position(earlier) / 1000:g} kimg; --resume=noresume starts a new run.')
    if dry_run:
        print('Dry run; exiting.' if obstacle is None else f'Dry run; exiting. Without --dry-run this machine would refuse: {obstacle}')
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
        raise UserError(f'--gpus={options["gpus"]}, but torchrun has started WORLD_SIZE={world.size} processes: leave --gpus out, or change --nnodes or --nproc_per_node.')

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
        return f'--gpus={num_gpus} GPUs of {args.batch_gpu} images at a time do not divide the batch of {args.batch_size}; add --batch, a multiple of --gpus.'
    try:
        device_type = host.resolve_device(device)
    except ValueError as error:
        return f'--device: {error}.'
    if device_type == 'cpu' and device == 'auto' and num_gpus > 1:
        return f'--gpus={num_gpus}, but PyTorch finds no GPU here; --device=cpu trains with up to {host.num_devices(device_type)} processes.'
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
    data, left_out = args.training_set_kwargs, args.get('left_out', dict(images=[]))['images']
    classes = f', {summary.used_classes:,} of {summary.num_classes:,} classes used' if data.use_labels and summary.num_classes else ''
    shown = args if len(left_out) <= LISTED else {**args, 'left_out': {**args.left_out, 'images': [*left_out[:LISTED], '...']}}
    print('\nTraining options:')
    print(json.dumps(shown, indent=2))
    print(f"""
Output directory:   {args.run_dir}
Training data:      {data.path}
Training duration:  {args.total_kimg} kimg
Number of GPUs:     {args.num_gpus}
Number of images:   {data.max_size}{f", without {len(left_out)} bad" if left_out else ""}
Image resolution:   {data.resolution}
Conditional model:  {data.use_labels}{classes}
Dataset x-flips:    {data.xflip}
""")

#----------------------------------------------------------------------------

if __name__ == '__main__':
    main() # pylint: disable=no-value-for-parameter

#----------------------------------------------------------------------------
