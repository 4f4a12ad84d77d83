"""What somebody took for a network is named, with the command that reads it, by every command that takes one."""

import io
import os
import pickle
import sys
import tarfile
import types
import zipfile

import numpy as np
import PIL.Image
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner

from commands import run, sentence
from hostile import call, name, networks_of, record, text
from published import plain_checkpoint, published_generator, released_checkpoint
from sarigan_plugin.cli import main
from sarigan_plugin.errors import UserError
from sarigan_plugin.snapshots import reading
from sarigan_plugin.trainer import state_files
from small_networks import SIZE, plain_networks, tensors_of, write

import legacy

pytestmark = pytest.mark.filterwarnings('ignore:.torch.jit:DeprecationWarning') # It is what detectors come in.

#----------------------------------------------------------------------------
# Files that are no pickles.

def picture(kind):
    file = io.BytesIO()
    PIL.Image.fromarray(np.zeros([8, 8, 3], dtype=np.uint8)).save(file, kind)
    return file.getvalue()

def zipped(**contents):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        for key, content in contents.items():
            archive.writestr(key.replace('_', '.'), content)
    return file.getvalue()

def tarred():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w') as archive:
        archive.addfile(tarfile.TarInfo('network.pkl'))
    return file.getvalue()

def saved(content, **how):
    """By torch.save()."""
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()

def script():
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), file)
    return file.getvalue()

def state(folder):
    state_files.write_state(folder / 'state', dict(shared=dict()))
    return (folder / 'state').read_bytes()

OLD = dict(_use_new_zipfile_serialization=False)
CONVERTS = ("a checkpoint of rosinality's stylegan2-pytorch or of the released SariGAN, "
    "which `sarigan import {path} --to=NEW.pkl` converts")

FORMATS = {
    'nothing':          (lambda _folder: b'', 'an empty file'),
    'Git LFS stub':     (lambda _folder: b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize '
                        b'381673535\n', 'a Git LFS stub, which `git lfs pull` exchanges for the file itself'),
    'web page':         (lambda _folder: b'\n<!DOCTYPE html>\n<html><head></head></html>',
                        'a web page, not the file that the page offers for download'),
    'web page of old':  (lambda _folder: b'\xef\xbb\xbf<HTML>',
                        'a web page, not the file that the page offers for download'),
    'answer in XML':    (lambda _folder: b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
                        'a web page, not the file that the page offers for download'),
    'training state':   (state, 'a training state: `sarigan train --resume={folder}` goes on from it, '
                        'and the networks of that run are its network-snapshot-*.pkl'),
    'PNG':              (lambda _folder: picture('png'), 'a picture (PNG)'),
    'JPEG':             (lambda _folder: picture('jpeg'), 'a picture (JPEG)'),
    'WebP':             (lambda _folder: picture('webp'), 'a picture (WEBP)'),
    'data set':         (lambda _folder: zipped(a_png=picture('png'), b_JPG=picture('jpeg'), dataset_json='{}'),
                        'a zip of 2 pictures, as --data takes it'),
    'zip':              (lambda _folder: zipped(network_pkl=b'\x80'),
                        'a zip file, which may have to be unpacked first'),
    'part of a zip':    (lambda _folder: zipped(network_pkl=b'\x80')[:-10],
                        'a part of a zip file, as a download leaves that did not finish'),
    'gzip':             (lambda _folder: b'\x1f\x8b\x08\x00' + bytes(20),
                        'an archive (gzip), which may have to be unpacked first'),
    'tar':              (lambda _folder: tarred(), 'an archive (tar), which may have to be unpacked first'),
    'rosinality':       (lambda _folder: saved(plain_checkpoint()), CONVERTS),
    'rosinality of old': (lambda _folder: saved(plain_checkpoint(), **OLD), CONVERTS),
    'released SariGAN': (lambda _folder: saved(released_checkpoint()), CONVERTS),
    'averaged alone':   (lambda _folder: saved(dict(g_ema=published_generator())), CONVERTS),
    'checkpoint':       (lambda _folder: saved(dict(state_dict=dict(weight=torch.zeros(3)))),
                        'a PyTorch checkpoint of another project'),
    'checkpoint of old': (lambda _folder: saved([torch.zeros(3)], **OLD), 'a PyTorch checkpoint of another project'),
    'TorchScript':      (lambda _folder: script(), 'a TorchScript file, as --detector takes it'),
    'safetensors':      (lambda _folder: safetensors.torch.save(dict(a=torch.zeros(3))),
                        'a safetensors file, which has tensors alone; '
                        '`sarigan export` writes a folder with a network.json as well, and that is what commands take'),
    'text':             (lambda _folder: 'title = "Größe"\n'.encode(), 'a text file'),
}

# Networks of other projects: what their pickles have, without their tensors.

def tensorflow(function, module='dnnlib.tflib.network'):
    """A network's name for the function that built it, as its state has it."""
    return (b'\x80\x02' + name(module, 'Network') + b')\x81}(' + text('version') + b'K\x04' + text('build_func_name')
        + text(function) + b'ub.')

def persistent(*class_names, source=''):
    """A generator whose modules are of these classes."""
    modules = b''.join(text(f'module{index}') + record(source, class_name)
        for index, class_name in enumerate(class_names))
    return b'\x80\x03' + networks_of(record(source, 'Generator', b'}(' + text('_modules') + b'}(' + modules + b'uu'))

PICKLES = {
    'StyleGAN2 in TensorFlow':  (tensorflow('G_main'), 'one of StyleGAN2 in TensorFlow, which `python legacy.py '
                                '--source={path} --dest=NEW.pkl`, in stylegan2-ada-pytorch, converts'),
    'StyleGAN in TensorFlow':   (tensorflow('G_style'),
                                'one of StyleGAN in TensorFlow, which its own tools alone read'),
    'Progressive GAN':          (tensorflow('G_paper', 'tfutil'),
                                'one of Progressive GAN in TensorFlow, which its own tools alone read'),
    'later Progressive GAN':    (tensorflow('G_paper'),
                                'one of Progressive GAN in TensorFlow, which its own tools alone read'),
    'StyleGAN3':                (persistent('MappingNetwork', 'SynthesisNetwork', 'SynthesisInput'),
                                'one of StyleGAN3, which its own tools alone read: `python gen_images.py`'),
    'StyleGAN-XL':              (persistent('SynthesisInput',
                                source='#' * 200 + '\nclass SuperresGenerator(torch.nn.Module):'),
                                'one of StyleGAN-XL, which its own tools alone read'),
    'Projected GAN':            (b'\x80\x03' + networks_of(call(name('pg_modules.discriminator',
                                'ProjectedDiscriminator'))), 'one of Projected GAN, which its own tools alone read'),
}

def told_of(path, kind):
    return (f"{str(path)!r} is not a network pickle of StyleGAN2-ADA or SariGAN: "
        f"it is {kind.format(path=path, folder=path.parent)}.")

@pytest.mark.parametrize('trust', [False, True])
@pytest.mark.parametrize('kind', FORMATS)
def test_a_file_of_another_format_is_named(kind, trust, tmp_path):
    make, words = FORMATS[kind]
    path = tmp_path / 'network.pkl'
    path.write_bytes(make(tmp_path))
    with pytest.raises(UserError) as caught:
        reading.load(str(path), '--network', trust=trust)
    assert caught.value.message == f'--network: {told_of(path, words)}'

@pytest.mark.parametrize('kind', PICKLES)
def test_a_network_of_another_project_is_named(kind, tmp_path):
    content, words = PICKLES[kind]
    path = tmp_path / 'network.pkl'
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        reading.load(str(path), '--network')
    assert caught.value.message == f'--network: {told_of(path, words)}'

class Network:
    """What the pickles of TensorFlow's StyleGAN2 hold three times."""
    def __init__(self, static_kwargs, variables):
        self.__dict__.update(version=4, name='N', static_kwargs=static_kwargs, components={}, build_module_src='',
            build_func_name='G_main', variables=list(variables.items()))

Network.__module__, Network.__qualname__ = 'dnnlib.tflib.network', 'Network'

def variables_of(data):
    """The numbers of G_ema and D, of 8x8, under the names and in the layout that they have there."""
    def layer(there, module, up=False):
        flipped = (lambda kernel: kernel.flip([0, 1])) if up else (lambda kernel: kernel)
        found = {'weight': flipped(module.weight.permute(2, 3, 1, 0)) if module.weight.ndim == 4 else module.weight.t()}
        found.update({name: getattr(module, name)
            for name in ['bias', 'noise_strength'] if getattr(module, name, None) is not None})
        if hasattr(module, 'affine'):
            found.update(mod_weight=module.affine.weight.t(), mod_bias=module.affine.bias - 1)
        return {f'{there}/{name}': tensor.numpy().copy() for name, tensor in found.items()}
    G, D = data['G_ema'], data['D']
    b4, b8 = G.synthesis.b4, G.synthesis.b8
    noise = {f'synthesis/noise{index}': module.noise_const.numpy()[None, None]
        for index, module in enumerate([b4.conv1, b8.conv0, b8.conv1])}
    return {'dlatent_avg': G.mapping.w_avg.numpy(), 'synthesis/4x4/Const/const': b4.const.numpy()[None], **noise,
        **layer('mapping/Dense0', G.mapping.fc0), **layer('mapping/Dense1', G.mapping.fc1),
        **layer('synthesis/4x4/Conv', b4.conv1), **layer('synthesis/4x4/ToRGB', b4.torgb),
        **layer('synthesis/8x8/Conv0_up', b8.conv0, up=True), **layer('synthesis/8x8/Conv1', b8.conv1),
        **layer('synthesis/8x8/ToRGB', b8.torgb)}, {
        **layer('8x8/FromRGB', D.b8.fromrgb), **layer('8x8/Conv0', D.b8.conv0), **layer('8x8/Conv1_down', D.b8.conv1),
        **layer('8x8/Skip', D.b8.skip),
        **layer('4x4/Conv', D.b4.conv), **layer('4x4/Dense0', D.b4.fc), **layer('Output', D.b4.out)}

def test_a_stylegan2_of_tensorflow_is_converted_when_it_is_trusted_or_as_its_sentence_says(tmp_path, monkeypatch):
    module = types.ModuleType('dnnlib.tflib.network')
    module.Network = Network
    monkeypatch.setitem(sys.modules, 'dnnlib.tflib', types.ModuleType('dnnlib.tflib'))
    monkeypatch.setitem(sys.modules, 'dnnlib.tflib.network', module)
    data = plain_networks(resolution=8)
    size = dict(latent_size=32, dlatent_size=32, resolution=8, mapping_layers=2)
    channels = dict(fmap_base=SIZE['channel_base'] // 2, fmap_max=SIZE['channel_max'])
    G, D = variables_of(data)
    nets = Network({**size, **channels}, G), Network({**channels, 'resolution': 8}, D), Network({**size, **channels}, G)
    path = write_bytes(tmp_path / 'old.pkl', pickle.dumps(nets, 2))

    with pytest.raises(UserError, match='it is one of StyleGAN2 in TensorFlow'):
        reading.load(str(path), 'PKL')
    trusted = reading.load_all(str(path), 'PKL', trust=True)
    done = CliRunner().invoke(legacy.convert_network_pickle, [f'--source={path}', f'--dest={tmp_path / "new.pkl"}'])
    assert done.exit_code == 0, done.output
    for found in [trusted, reading.load_all(str(tmp_path / 'new.pkl'), 'PKL')]:
        for network in ['G_ema', 'D']:
            wanted = tensors_of(data[network])
            # mod_bias is one less there.
            assert all(torch.allclose(tensor, wanted[key], atol=1e-6)
                for key, tensor in tensors_of(found[network]).items())

    nets[0].static_kwargs['another'] = nets[2].static_kwargs['another'] = 1
    write_bytes(path, pickle.dumps(nets, 2))
    # Not the advice to convert it.
    with pytest.raises(UserError, match=r"is not a network pickle \(.*Unknown TensorFlow kwarg.*another"):
        reading.load(str(path), 'PKL', trust=True)

def test_a_pickle_that_is_cut_off_is_named(tmp_path):
    path = tmp_path / 'network.pkl'
    whole = pickle.dumps(plain_networks(resolution=8))
    for trust in [False, True]:
        for size in [3, 1000, len(whole) // 2, len(whole) - 1]:
            path.write_bytes(whole[:size])
            if whole[size - 1 : size] != b'.': # As the last byte of a whole one.
                with pytest.raises(UserError,
                        match='it is a part of a pickle, as a download leaves that did not finish'):
                    reading.load(str(path), '--network', trust=trust)

def test_a_path_with_spaces_is_quoted_where_it_is_to_be_copied(tmp_path, monkeypatch):
    (tmp_path / 'my networks').mkdir()
    write_bytes(tmp_path / 'my networks/theirs.pt', saved(plain_checkpoint()))
    monkeypatch.chdir(tmp_path)
    told = sentence(run('generate', '--network=my networks/theirs.pt', '--seeds=0', '--outdir=out'))
    assert f"`sarigan import '{tmp_path}/my networks/theirs.pt' --to=NEW.pkl` converts." in told

def write_bytes(path, content):
    path.write_bytes(content)
    return path

def test_what_is_at_a_url_is_named(tmp_path):
    write_bytes(tmp_path / 'network.pkl', b'<!doctype html><p>Sign in')
    assert 'it is a web page' in sentence(run('generate', f'--network=file://{tmp_path}/network.pkl', '--seeds=0',
        f'--outdir={tmp_path / "out"}'))

#----------------------------------------------------------------------------
# Folders.

def test_a_folder_that_is_no_exported_network_is_named(tmp_path):
    (tmp_path / 'run').mkdir()
    command = ['generate', f'--network={tmp_path / "run"}', '--seeds=0', f'--outdir={tmp_path / "out"}']
    assert told_of(tmp_path / 'run', 'a folder without the network.json that `sarigan export` writes') in (
        sentence(run(*command)))
    for kimg in [0, 200, 40]:
        write_bytes(tmp_path / f'run/network-snapshot-{kimg:06d}.pkl', b'')
    assert told_of(tmp_path / 'run', "the folder of a training, "
        f"whose newest network is '{tmp_path}/run/network-snapshot-000200.pkl'") in sentence(run(*command))

def test_half_of_an_exported_network_is_named_with_its_other_half(tmp_path):
    write(plain_networks(resolution=8), tmp_path / 'network.pkl')
    folder = tmp_path / 'folder'
    run('export', tmp_path / 'network.pkl', f'--to={folder}')
    assert f"it is the tensors of an exported network alone: its folder is what commands take, '{folder}'." in sentence(
        run('name', folder / 'network.safetensors'))
    os.remove(folder / 'network.json')
    assert 'it is an exported network without its network.json.' in sentence(run('name', folder))

def test_a_folder_of_a_training_without_states_is_named_with_its_newest_network(images, cfg, tmp_path):
    """Upstream's trainings leave none."""
    (tmp_path / 'run').mkdir()
    write(plain_networks(), tmp_path / 'run/network-snapshot-000200.pkl')
    told = sentence(run('train', f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path / "out"}', '--metrics=none',
        '--device=cpu', '--dry-run', f'--resume={tmp_path / "run"}'))
    assert (told == f"Error: --resume: {tmp_path / 'run'} has no training state; "
        f"--resume={tmp_path / 'run/network-snapshot-000200.pkl'} starts from its newest network.")

#----------------------------------------------------------------------------
# Commands.

COMMANDS = { # That take a network, with what else they want.
    'generate':         lambda path, out: [f'--network={path}', '--seeds=0', f'--outdir={out}'],
    'groups':           lambda path, out: [path, f'--outdir={out}'],
    'explore':          lambda path, out: [path, f'--outdir={out}', '--no-browser', '--port=0'],
    'name':             lambda path, _out: [path],
    'edit':             lambda path, out: [path, f'--outdir={out}', '--layer=b8.conv0', '--group=0', '--inter=0'],
    'directions':       lambda path, out: [path, f'--outdir={out}'],
    'disentanglement':  lambda path, out: [path, f'--outdir={out}'],
    'mix':              lambda path, out: [path, f'--outdir={out}', '--rows=0', '--cols=1'],
    'project':          lambda path, out: [path, f'--outdir={out}', f'--target={path}'],
    'inpaint':          lambda path, out: [path, f'--outdir={out}', f'--images={path}'],
    'inpaint-table':    lambda path, out: [path, f'--outdir={out}', f'--data={path}'],
    'metrics':          lambda path, _out: [path, f'--data={path}'],
    'export':           lambda path, out: [path, f'--to={out}'],
    'publish':          lambda path, out: [path, f'--outdir={out}'],
    'import':           lambda path, out: [path, f'--to={out}'],
}

@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_names_it(command, tmp_path):
    path = write_bytes(tmp_path / 'network.pkl', FORMATS['Git LFS stub'][0](tmp_path))
    done = CliRunner().invoke(main, [command, *map(str, COMMANDS[command](path, tmp_path / 'out'))])
    assert told_of(path, FORMATS['Git LFS stub'][1]) in sentence(done)
    assert os.listdir(tmp_path) == ['network.pkl']

def test_training_names_it_before_it_leaves_a_folder(images, cfg, tmp_path):
    path = write_bytes(tmp_path / 'theirs.pt', saved(plain_checkpoint()))
    done = run('train', f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path / "out"}', '--metrics=none',
        '--device=cpu', f'--resume={path}')
    assert f'--resume: {told_of(path, CONVERTS)}' in done.stderr and done.exit_code == 2, done.output
    assert not (tmp_path / 'out').exists()

@pytest.mark.parametrize('suffix', ['pt', 'pkl', 'pth'])
@pytest.mark.parametrize('how', [{}, OLD], ids=['zip', 'old'])
def test_import_goes_by_what_is_in_a_file_and_not_by_its_name(suffix, how, tmp_path):
    write_bytes(tmp_path / f'theirs.{suffix}', saved(plain_checkpoint(), **how))
    done = run('import', tmp_path / f'theirs.{suffix}', f'--to={tmp_path / "new.pkl"}')
    assert done.exit_code == 0, done.output
    os.rename(tmp_path / 'new.pkl', tmp_path / 'again.pt')
    assert run('import', tmp_path / 'again.pt', f'--to={tmp_path / "new.pkl"}').exit_code == 0

def test_import_advises_no_option_that_it_lacks(tmp_path):
    path = write_bytes(tmp_path / 'network.pkl', networks_of(record('', 'AnotherGenerator')))
    told = sentence(run('import', path, f'--to={tmp_path / "new.pkl"}'))
    assert (told.endswith("(its G is of the class 'AnotherGenerator'); code that is inside of a file never runs here.")
        and '--trust' not in told)

#----------------------------------------------------------------------------
