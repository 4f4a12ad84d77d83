"""`sarigan export` and `sarigan import`: network pickles to files that hold numbers alone, and back; and to ONNX."""

import copy
import os
import pickle
import shutil
import tempfile
import zipfile
from argparse import Namespace

import click
import torch

from sarigan_plugin.commands.options import PATH, linked_option, trust_option
from sarigan_plugin.errors import UserError, first_line, writing
from sarigan_plugin.publish import onnx_file
from sarigan_plugin.snapshots import exported, reading, rebuild, rosinality, unpickler, what_is
from sarigan_plugin.steering import channel_sets, groupings, names
from sarigan_plugin.support import files

#----------------------------------------------------------------------------

@click.command(name='export')
@click.argument('network', type=PATH, metavar='PKL')
@click.option('--to', 'dest', help='A new folder, a new FILE.pt or a new FILE.onnx', required=True, type=PATH,
    metavar='PATH')
@click.option('--fp16', help='Store the weights of FILE.onnx in 16 bits: half the size', is_flag=True)
@linked_option
@trust_option
def export_command(network, dest, fp16, linked, trust):
    """Pass a network on: without code (safetensors), as ONNX, or to rosinality's stylegan2-pytorch.

    \b
    sarigan export network.pkl --to=network         # a folder; every command takes it in place of a pickle
    sarigan export network.pkl --to=network.pt      # for rosinality's tools; a SariGAN in the released code's layout
    sarigan export network.pkl --to=network.onnx    # for runtimes of ONNX; codes and groups are its inputs

    Into a folder, names of groups and linked groups come along.
    """
    _refuse_existing(dest)
    if dest.endswith('.onnx'):
        onnx_file.require()
    elif fp16 or linked is not None:
        raise UserError(f'--{"fp16" if fp16 else "groups"} is for ONNX files alone, as in --to=network.onnx.')
    data = reading.load_all(network, 'PKL', trust)
    try:
        data = _of_our_classes(data)
        with writing('--to', dest):
            if dest.endswith('.onnx'):
                _write_onnx(data, network, dest, fp16, linked)
            elif dest.endswith('.pt'):
                checkpoint, remarks = rosinality.to_checkpoint(data)
                with files.atomic_open(dest) as f:
                    torch.save(checkpoint, f)
                _print_remarks(remarks)
            else:
                _write_folder(data, names.read(network), channel_sets.taken_along(network, data['G_ema']), dest)
    except ValueError as error:
        raise UserError(f'PKL: {network!r} cannot be exported ({first_line(error)}).') from None
    click.echo(f'Wrote {click.format_filename(dest)}')

def _of_our_classes(data):
    """The networks, where a trusted pickle brought their code along, as those of our code with the same structure.

    Raises ValueError.
    """
    try:
        for name in exported.NETWORKS:
            if data[name] is not None:
                rebuild.class_name(data[name])
        return data
    except ValueError:
        return unpickler.read(pickle.dumps(data))

def _write_onnx(data, network, dest, fp16, linked):
    G = reading.averaged(data)
    groupings.read_linked(G, network, 'PKL', linked)
    content = onnx_file.as_bytes(G, onnx_file.described(G, names.load(network, G)))
    with files.atomic_open(dest) as f:
        f.write(onnx_file.halved(content) if fp16 else content)

def _write_folder(data, known, sets, dest):
    """As a whole or not at all. known: names.GroupNames. sets: ChannelSets or None."""
    parent = os.path.dirname(os.path.abspath(dest))
    folder = tempfile.mkdtemp(dir=parent, prefix='.writing-')
    try:
        inside = os.path.join(folder, 'network') # Temporary folders are private; this one isn't.
        os.mkdir(inside)
        exported.write(data, inside)
        if known.places:
            known.write(names.path_of(inside))
        if sets is not None:
            sets.write(channel_sets.path_of(inside))
        os.rename(inside, dest)
    finally:
        shutil.rmtree(folder)

@click.command(name='import')
@click.argument('source', type=PATH, metavar='SOURCE')
@click.option('--to', 'dest', help='New network pickle', required=True, type=PATH, metavar='PKL')
def import_command(source, dest):
    """Make a network pickle from an export, a rosinality checkpoint or an untrusted pickle.

    \b
    sarigan import network --to=network.pkl             # from what `sarigan export` wrote
    sarigan import theirs.pt --to=network.pkl           # from rosinality's stylegan2-pytorch or the released SariGAN
    sarigan import untrusted.pkl --to=clean.pkl         # with the code installed here, safe to open in other tools

    Other tools look for G and D. If the file lacks them, a copy of G_ema and an untrained D are added.
    """
    _refuse_existing(dest)
    try:
        known = names.read(source)
    except ValueError as error:
        raise UserError(f'SOURCE: {error}') from None
    sets = None
    if known.places:
        _refuse_existing(names.path_of(dest))
    if what_is.is_checkpoint(source):
        data, remarks = _read_checkpoint(source)
    else:
        data = reading.load_all(source, 'SOURCE', trust=None)
        sets = _linked_groups(source, data['G_ema'], dest)
        remarks = _complete(data)
    _print_remarks(remarks)
    with writing('--to', dest):
        with files.atomic_open(dest) as f:
            pickle.dump(data, f)
        if known.places:
            known.write(names.path_of(dest))
        if sets is not None:
            sets.write(channel_sets.path_of(dest))
    click.echo(f'Wrote {click.format_filename(dest)}')

def _linked_groups(source, G, dest):
    """The ChannelSets beside a network, which are to be beside dest; or None. Raises UserError."""
    try:
        sets = channel_sets.taken_along(source, G)
    except ValueError as error:
        raise UserError(f'SOURCE: {channel_sets.path_of(source)}: {error}') from None
    if sets is not None:
        _refuse_existing(channel_sets.path_of(dest))
    return sets

def _complete(data):
    """Add what a pickle lacks and upstream's tools look for, even if they use G_ema alone.

    Returns remarks as rosinality.py does.
    """
    remarks = []
    if data['G'] is None:
        data['G'] = copy.deepcopy(data['G_ema'])
        remarks.append(('G', 'is not there: a copy of G_ema'))
    if data['D'] is None:
        data['D'] = rebuild.fresh_discriminator(data['G_ema'])
        remarks.append(('D', 'is not there: starts afresh'))
    return remarks

def _read_checkpoint(path):
    try:
        size = os.path.getsize(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > size: # PyTorch never compresses.
                    raise ValueError('it would grow when read')
        with torch.serialization.safe_globals([Namespace]): # Their training options, which are not looked at.
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
        return rosinality.from_checkpoint(checkpoint, file_size=size)
    except OSError as error:
        raise UserError(f'SOURCE: {path!r} cannot be read ({error.strerror}).') from None
    except pickle.UnpicklingError:
        raise UserError(f'SOURCE: {path!r} is not a checkpoint (it holds more than tensors and plain values, '
            'or less).') from None
    except Exception as error: # Who knows what a broken or hostile file leads to.
        raise UserError(f'SOURCE: {path!r} is not a checkpoint that can be converted ({first_line(error)}).') from None

def _refuse_existing(dest):
    if os.path.lexists(dest):
        raise UserError(f'--to: {dest} exists already; nothing is overwritten.')

def _print_remarks(remarks):
    if remarks:
        click.echo('Not converted:')
        width = max(len(what) for what, _fate in remarks)
        for what, fate in remarks:
            click.echo(f'  {what:<{width}}  {fate}')

#----------------------------------------------------------------------------
