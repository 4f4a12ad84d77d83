"""A pickle of the averaged generator alone serves every command that needs no discriminator."""

import io
import pickle

import numpy as np
import PIL.Image
import pytest
import torch

from commands import run, sentence
from published import published_generator
from sarigan_plugin.explore.studio import Studio
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import names
from small_images import save_script
from small_networks import assert_same, make_inpainter, plain_networks, shaken

import legacy

# Of detectors, and upstream's.
pytestmark = pytest.mark.filterwarnings('ignore:.torch.jit:DeprecationWarning',
    'ignore:The `disp` argument:DeprecationWarning')

#----------------------------------------------------------------------------

FORMS = { # As people pickle it.
    'alone in a dict':  lambda G: dict(G_ema=G),
    'beside None':      lambda G: dict(G=None, D=None, G_ema=G, augment_pipe=None, training_set_kwargs=None),
    'the module':       lambda G: G,
    'without D':        lambda G: dict(G=G, G_ema=G),
}

@pytest.fixture
def write(make_generator, tmp_path):
    """write(kind, form) -> the path of a pickle and the network in it."""
    def write(kind, form='alone in a dict'):
        G = plain_networks()['G_ema'] if kind == 'plain' else make_inpainter() if kind == 'inpainting' else shaken(
            make_generator(grouping='blocks'))
        path = tmp_path / 'alone.pkl'
        path.write_bytes(pickle.dumps(FORMS[form](G)))
        return path, G
    return write

@pytest.mark.parametrize('trust', [False, True])
@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('kind', ['plain', 'sarigan', 'inpainting'])
def test_every_form_of_it_is_read(kind, form, trust, write):
    path, G = write(kind, form)
    data = reading.load_all(str(path), 'PKL', trust)
    assert_same(data['G_ema'], G)
    assert data['D'] is data['augment_pipe'] is data['training_set_kwargs'] is None and (data['G'] is None) == (
        form != 'without D')

COMMANDS = {
    'generate':         ['--network={pkl}', '--seeds=1', '--outdir={out}', '--device=cpu'],
    'project':          ['{pkl}', '--target={photo}', '--num-steps=1', '--features=none', '--outdir={out}',
                        '--device=cpu'],
    'metrics':          ['{pkl}', '--data={data}', '--metrics=fd10k', '--detector={detector}', '--num-samples=10',
                        '--device=cpu'],
    'disentanglement':  ['{pkl}', '--measures=codes', '--num-images=100', '--num-turned=2', '--outdir={out}',
                        '--device=cpu'],
    'export':           ['{pkl}', '--to={out}'],
    'groups':           ['{pkl}', '--seeds=0', '--outdir={out}', '--device=cpu'],
    'edit':             ['{pkl}', '--seed=0', '--layer=b8.conv1', '--group=0', '--inter=0', '--outdir={out}',
                        '--device=cpu'],
    'mix':              ['{pkl}', '--rows=0', '--cols=1', '--outdir={out}', '--device=cpu'],
    'directions':       ['{pkl}', '--seeds=0-1', '--outdir={out}', '--device=cpu'],
    'name':             ['{pkl}'],
}

def picture(path, mode='RGB', seed=0):
    PIL.Image.fromarray(np.random.RandomState(seed).randint(0, 256, [32, 32, len(mode)], dtype=np.uint8),
        mode).save(path)

@pytest.fixture
def places(tmp_path, monkeypatch):
    """Pictures, a photo and a detector."""
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path / 'cache'))
    (tmp_path / 'data').mkdir()
    for seed in range(20):
        picture(tmp_path / f'data/{seed:02d}.png', seed=seed)
    return dict(data=tmp_path / 'data', photo=tmp_path / 'data/00.png', detector=save_script(tmp_path / 'colours.pt'),
        out=tmp_path / 'out')

@pytest.mark.parametrize('command', COMMANDS)
def test_a_sarigan_alone_serves_it(command, write, places):
    path, _G = write('sarigan')
    done = run(command, *(argument.format(pkl=path, **places) for argument in COMMANDS[command]))
    assert done.exit_code == 0, done.output

@pytest.mark.parametrize('command', ['generate', 'project', 'metrics', 'disentanglement', 'export'])
def test_a_plain_stylegan2_alone_serves_it(command, write, places):
    path, _G = write('plain')
    done = run(command, *(argument.format(pkl=path, **places) for argument in COMMANDS[command]))
    assert done.exit_code == 0, done.output

@pytest.mark.parametrize('command, arguments', [
    ('inpaint',         ['{pkl}', '--images={photo}', '--masks=centre', '--outdir={out}', '--device=cpu']),
    ('inpaint-table',   ['{pkl}', '--data={data}', '--split=all', '--detector=none', '--seeds=0', '--baselines=none',
                        '--outdir={out}', '--device=cpu']),
    ('export',          ['{pkl}', '--to={out}']),
    ('name',            ['{pkl}']),
])
def test_a_generator_of_inpainting_alone_serves_it(command, arguments, write, places):
    path, _G = write('inpainting')
    done = run(command, *(argument.format(pkl=path, **places) for argument in arguments))
    assert done.exit_code == 0, done.output

def test_the_page_shows_it(write, tmp_path):
    path, _G = write('sarigan')
    G = reading.load_grouped(str(path), 'PKL', generates=False)
    studio = Studio(G, names.load(str(path), G), str(tmp_path / 'out'), None)
    assert studio.G is G

@pytest.mark.parametrize('kind', ['plain', 'sarigan', 'inpainting'])
def test_an_exported_folder_of_it_is_read_by_every_command_and_exported_again(kind, write, tmp_path):
    path, G = write(kind)
    assert run('export', path, f'--to={tmp_path / "folder"}').exit_code == 0
    data = reading.load_all(str(tmp_path / 'folder'), 'PKL')
    assert_same(data['G_ema'], G)
    assert data['G'] is data['D'] is None
    assert run('export', tmp_path / 'folder', f'--to={tmp_path / "again"}').exit_code == 0
    assert (tmp_path / 'again/network.json').read_text() == (tmp_path / 'folder/network.json').read_text()

#----------------------------------------------------------------------------

@pytest.mark.parametrize('kind', ['plain', 'sarigan', 'inpainting'])
def test_import_adds_what_upstreams_tools_look_for(kind, write, tmp_path):
    path, G = write(kind)
    done = run('import', path, f'--to={tmp_path / "whole.pkl"}')
    assert (done.exit_code == 0 and 'G  is not there: a copy of G_ema' in done.stdout
        and 'D  is not there: starts afresh' in done.stdout), done.output
    data = legacy.load_network_pkl(io.BytesIO((tmp_path / 'whole.pkl').read_bytes()))
    assert_same(data['G_ema'], G)
    assert_same(data['G'], G)
    assert_learns(data['D'], torch.randn(4, 3, 32, 32), torch.rand(4, G.c_dim).round())

def assert_learns(D, x, c):
    """All of a discriminator that starts afresh gets gradients, which nothing does where all weights are zero."""
    D.requires_grad_(True)
    D(x, c).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0
        for name, parameter in D.named_parameters() if not name.split('.')[-2].startswith('q'))

def test_a_checkpoint_without_d_gets_one_that_learns(tmp_path):
    torch.save(dict(g_ema=published_generator()), tmp_path / 'theirs.pt')
    assert run('import', tmp_path / 'theirs.pt', f'--to={tmp_path / "network.pkl"}').exit_code == 0
    assert_learns(reading.load_all(str(tmp_path / 'network.pkl'), 'PKL')['D'], torch.randn(4, 3, 16, 16), None)

def test_a_training_that_starts_from_it_says_what_is_missing(write, images, cfg, tmp_path):
    path, _G = write('plain')
    done = run('train', f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path / "runs"}', '--metrics=none',
        '--device=cpu', f'--resume={path}')
    assert (sentence(done) == f"Error: --resume: '{path}' has no G and no D, which a training starts from; "
        "there is G_ema alone.")
    assert not (tmp_path / 'runs').exists()

#----------------------------------------------------------------------------
