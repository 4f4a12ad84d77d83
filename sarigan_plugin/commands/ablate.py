"""`sarigan ablate`: the rows of a table trained, measured and compared, one after another or side by side."""

import dataclasses
import os
import sys

import click

from sarigan_plugin.ablation import report, runner, table_spec
from sarigan_plugin.commands.options import PATH, LastingCommand, NameList, NumberRange
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.evaluation import quality
from sarigan_plugin.support import files
from sarigan_plugin.upstream import host

#----------------------------------------------------------------------------

@click.command('ablate', cls=LastingCommand, sections={
    'Which trainings': '--setting --rows --seeds --kimg',
    'How they are measured': '--metrics --num-samples --detector',
    'Where they run': '--parallel --gpus --device'})
@click.argument('table', type=PATH, metavar='TOML')
@click.option('--data', help='Images to train on and to measure against (directory or zip)',
    required=True, type=PATH, metavar='PATH')
@click.option('--outdir', help='Where to save the table and its trainings', required=True, type=PATH, metavar='DIR')
@click.option('--setting', help='A setting of the file, such as tiny, for a laptop',
    default=table_spec.AS_IN_THE_PAPER, show_default=True, metavar='NAME')
@click.option('--rows', help='Only these rows  [default: all]', type=NameList(), metavar='NAME,...')
@click.option('--seeds', help="Random seeds: each row is trained once per seed  [default: the file's]",
    type=NumberRange())
@click.option('--kimg', help="Length of each training  [default: the file's]", type=click.IntRange(min=1),
    metavar='INT')
@click.option('--metrics', help="What to measure networks by  [default: the file's]", type=NameList(),
    metavar='NAME,...')
@click.option('--num-samples', help='Generated images to measure  [default: as the metrics\' names say]',
    type=click.IntRange(min=2), metavar='INT')
@click.option('--detector', help="TorchScript file to use instead of the metrics' detectors", type=PATH,
    metavar='FILE')
@click.option('--parallel', help='Trainings to run at the same time', type=click.IntRange(min=1), default=1,
    show_default=True, metavar='INT')
@click.option('--gpus', help='GPUs of each training; on the CPU, processes', type=click.IntRange(min=1), default=1,
    show_default=True, metavar='INT')
@click.option('--device', help='Where to train', type=click.Choice(host.DEVICES), default='auto', show_default=True)
@click.option('--table-only', help='Write the table from what is there; train nothing', is_flag=True)
@click.option('-n', '--dry-run', help='Show what would be trained, then exit', is_flag=True)
def ablate_command(table, data, outdir, setting, rows, seeds, kimg, metrics, num_samples, detector, parallel, gpus,
        device, table_only, dry_run):
    """Train several variants alike and compare them in a table: the paper's ablations, or yours.

    TOML is a file, or the name of one in configs/ablations: see docs/ablations.md. All rows see the same images in the
    same order and are measured alike. Stop it at any time: run again, it goes on where it stopped.

    \b
    sarigan ablate info --setting=tiny --data=punks.zip --outdir=out/ablations
    sarigan ablate configs/ablations/groups.toml --data=cats256.zip --outdir=out/cats --gpus=4 --parallel=2

    \b
    Writes into DIR:
      NAME.md, .json, .png    the table, updated after each training; +- is the standard deviation over seeds
      NAME-samples.png        seeds 0 to 63 of each row's first network
      ROW/seed0/...           one training's folder, as from `sarigan train`. Tables share rows of the same name.
    """
    table = _chosen(table_spec.read(table_spec.find(table), setting), rows, seeds, kimg, metrics, num_samples)
    device_type, obstacle = _device(device, parallel, gpus)
    chosen_metrics = quality.find(table.metrics, detector)
    trainings = table_spec.plan(table, os.path.abspath(data), outdir, gpus)
    evaluation = table_spec.Evaluation(os.path.abspath(data), files.fingerprint(data), tuple(table.metrics),
        table.num_samples, detector)
    table_spec.check_data(trainings, evaluation.digest)
    report.check_files(outdir, table)
    settings = dict(setting=setting, cfg=table.cfg, options=dict(table.options), kimg=trainings[0].args.total_kimg,
        seeds=list(table.seeds), data=data, metrics=list(table.metrics), num_samples=table.num_samples,
        detector=detector, gpus=gpus, device=device_type)
    ablation = runner.Ablation(outdir, table, trainings, evaluation, settings)
    click.echo(ablation.plan(parallel))
    if dry_run:
        refused = '' if obstacle is None else f' Without --dry-run this machine would refuse: {obstacle}'
        click.echo(f'Dry run; exiting.{refused}')
        return
    if table_only and not os.path.isdir(outdir):
        raise UserError(f'--outdir: there is no folder {outdir}.')
    failures = dict()
    with writing('--outdir', outdir):
        if not table_only:
            if obstacle is not None:
                raise UserError(obstacle)
            for metric in chosen_metrics: # Before days of training, not after.
                quality.require_detector(metric.detector, '--metrics' if detector is None else '--detector')
            failures = runner.run(ablation, device_type, parallel, gpus)
        click.echo(f'\n{ablation.write()}')
    for path in report.paths(outdir, table):
        if os.path.exists(path): # There may be no samples.
            click.echo(click.format_filename(path))
    for training, sentence in failures.items():
        click.echo(f'Error: {training}: {sentence}', err=True)
    if failures:
        sys.exit(1)

def _chosen(table, rows, seeds, kimg, metrics, num_samples):
    """The table with what the command line says instead."""
    given = dict(seeds=seeds, kimg=kimg, metrics=metrics, num_samples=num_samples)
    if seeds is not None and len(set(seeds)) < len(seeds):
        raise UserError('--seeds: each seed once.')
    table = dataclasses.replace(table, **{name: value for name, value in given.items() if value is not None})
    return table if rows is None else table_spec.chosen_rows(table, rows)

def _device(device, parallel, gpus):
    """('cuda' or 'cpu', why this machine has no room for so many processes or None). Raises UserError."""
    try:
        device_type = host.resolve_device(device)
    except ValueError as error:
        raise UserError(f'--device: {error}.') from None
    available = host.num_devices(device_type)
    if parallel * gpus <= available:
        return device_type, None
    each = f' of --gpus={gpus}' if gpus > 1 else ''
    kind = 'GPUs' if device_type == 'cuda' else 'CPU cores'
    return device_type, f'--parallel={parallel}{each} needs {parallel * gpus} {kind}, and there are {available}.'

#----------------------------------------------------------------------------
