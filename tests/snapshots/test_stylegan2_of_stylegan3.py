"""StyleGAN2 that stylegan3's code has pickled is read, trusted or not, and every command takes it."""

import json
import pickle

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

import rounding
import stylegan3_networks
from sarigan_plugin.cli import main
from sarigan_plugin.model import networks
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering import projector
from sarigan_plugin.trainer import transfer
from small_images import save_script
from small_networks import outputs, shaken, tensors_of

from training import networks as upstream_networks

# Of detectors, and upstream's.
pytestmark = pytest.mark.filterwarnings('ignore:.torch.jit:DeprecationWarning',
    'ignore:The `disp` argument:DeprecationWarning')

SIZE = dict(channel_base=128, channel_max=16)

def make(c_dim=0, mapping=None, D_kwargs=None, **options):
    images = dict(c_dim=c_dim, img_resolution=16, img_channels=3)
    G = lambda: shaken(stylegan3_networks.Generator(z_dim=32, w_dim=32,
        mapping_kwargs=dict(num_layers=2, **(mapping or {})), **images, **SIZE, **options))
    precision = {name: options[name] for name in stylegan3_networks.PRECISION if name in options}
    return dict(G=G(), D=shaken(stylegan3_networks.Discriminator(**images, **SIZE, **precision, **(D_kwargs or {}))),
        G_ema=G(), augment_pipe=None, training_set_kwargs=None)

KINDS = {
    'as usual':     lambda: make(fused_modconv_default='inference_only'),
    'defaults':     make,
    'fp32':         lambda: make(num_fp16_res=0, conv_clamp=None),
    'conditional':  lambda: make(c_dim=3),
    'other values': lambda: make(mapping=dict(w_avg_beta=0.9), conv_clamp=64, use_noise=False,
                    D_kwargs=dict(block_kwargs=dict(freeze_layers=2), epilogue_kwargs=dict(mbstd_group_size=2))),
}

@pytest.fixture(params=KINDS)
def pkl(request, tmp_path):
    path = tmp_path / 'network.pkl'
    path.write_bytes(pickle.dumps(KINDS[request.param]()))
    return path

def test_it_becomes_upstreams_network_and_computes_the_same(pkl):
    ours, theirs = (reading.load_all(str(pkl), 'PKL', trust) for trust in [False, True])
    for name in ['G', 'D', 'G_ema']:
        assert (type(ours[name]).__mro__[1].__module__ == 'training.networks'
            and type(theirs[name]).__mro__[1].__module__ == 'stylegan3_networks')
        a, b = tensors_of(ours[name]), tensors_of(theirs[name])
        assert a.keys() == b.keys() and all(torch.equal(tensor, b[key]) for key, tensor in a.items())
    assert ours['G'].mapping.w_avg_beta == theirs['G'].mapping.w_avg_beta
    for data in [ours, theirs]:
        data.update({name: reading.put(data[name], 'cpu') for name in ['D', 'G_ema']})
    for a, b in zip(outputs(ours), outputs(theirs)):
        # Upstream's own classes may have faster kernels in this process, foreign ones don't.
        rounding.assert_close(a, b, terms=64 * 9, layers=16)

def test_another_structure_is_refused_as_ever(tmp_path):
    data = make()
    data['G'].synthesis.b8.conv0.in_features_of_mine = 3
    (tmp_path / 'network.pkl').write_bytes(pickle.dumps(data))
    with pytest.raises(reading.UserError, match='synthesis.b8.conv0.in_features_of_mine is 3, and ours has none.; '
            '--trust-pickle'):
        reading.load(str(tmp_path / 'network.pkl'), 'PKL')

def test_the_mark_alone_does_not_open_the_door(tmp_path):
    """What a layer says of its size is not looked at; its tensors are."""
    data = make()
    data['G'].mapping.fc0._parameters['weight'] = torch.zeros(32, 31)
    (tmp_path / 'network.pkl').write_bytes(pickle.dumps(data))
    with pytest.raises(reading.UserError, match=r'mapping.fc0.weight is float32 \[32, 31\]'):
        reading.load(str(tmp_path / 'network.pkl'), 'PKL')

def test_projecting_leaves_the_running_average_alone_in_either(pkl):
    for trust in [False, True]:
        G = reading.load(str(pkl), 'PKL', trust=trust).train()
        before = G.mapping.w_avg.clone()
        projector.code_statistics(G, num_samples=10)
        assert torch.equal(G.mapping.w_avg, before)

#----------------------------------------------------------------------------

def picture(path, seed=0):
    PIL.Image.fromarray(np.random.RandomState(seed).randint(0, 256, [16, 16, 3], dtype=np.uint8)).save(path)

WITHOUT_GROUPS = 'holds a generator without channel groups.'
COMMANDS = {
    'generate':         (['--network={pkl}', '--seeds=1', '--class=1', '--outdir={out}', '--device=cpu'], None),
    'project':          (['{pkl}', '--target={target}', '--class=1', '--num-steps=1', '--features=none',
                        '--outdir={out}', '--device=cpu'], None),
    'metrics':          (['{pkl}', '--data={data}', '--metrics=fd10k', '--detector={detector}', '--num-samples=10',
                        '--device=cpu'], None),
    'disentanglement':  (['{pkl}', '--class=1', '--measures=locality,codes', '--num-images=100', '--num-turned=2',
                        '--outdir={out}', '--device=cpu'], None),
    'export':           (['{pkl}', '--to={out}'], None),
    'groups':           (['{pkl}', '--outdir={out}'], WITHOUT_GROUPS),
    'edit':             (['{pkl}', '--layer=b8.conv1', '--group=0', '--inter=0', '--outdir={out}'], WITHOUT_GROUPS),
    'mix':              (['{pkl}', '--rows=0', '--cols=1', '--outdir={out}'], WITHOUT_GROUPS),
    'directions':       (['{pkl}', '--outdir={out}'], WITHOUT_GROUPS),
    'name':             (['{pkl}'], WITHOUT_GROUPS),
    'inpaint':          (['{pkl}', '--images={target}', '--outdir={out}'], 'does not complete images; '),
    'inpaint-table':    (['{pkl}', '--data={data}', '--outdir={out}'], 'does not complete images; '),
}

@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_takes_it_trusted_or_not(command, tmp_path, monkeypatch):
    monkeypatch.setenv('DNNLIB_CACHE_DIR', str(tmp_path / 'cache'))
    (tmp_path / 'network.pkl').write_bytes(pickle.dumps(make(c_dim=2)))
    (tmp_path / 'data').mkdir()
    for seed in range(20):
        picture(tmp_path / f'data/{seed}.png', seed)
    labels = [[f'{seed}.png', seed % 2] for seed in range(20)]
    (tmp_path / 'data/dataset.json').write_text(json.dumps(dict(labels=labels)))
    places = dict(pkl=tmp_path / 'network.pkl', data=tmp_path / 'data', target=tmp_path / 'data/0.png',
        detector=save_script(tmp_path / 'colours.pt'))
    arguments, refusal = COMMANDS[command]
    for trust in [[], ['--trust-pickle']]:
        done = CliRunner().invoke(main, [command,
            *(argument.format(**places, out=tmp_path / f'out{len(trust)}') for argument in arguments), *trust])
        if refusal is None:
            assert done.exit_code == 0, done.output
        else:
            assert done.exit_code == 2 and refusal in done.stderr, done.output
    if command == 'generate':
        assert (tmp_path / 'out0/seed0001.png').read_bytes() == (tmp_path / 'out1/seed0001.png').read_bytes()
    if command == 'export':
        for file in ['network.json', 'network.safetensors']:
            assert (tmp_path / 'out0' / file).read_bytes() == (tmp_path / 'out1' / file).read_bytes()

def test_import_makes_a_pickle_of_upstreams_code(tmp_path):
    (tmp_path / 'network.pkl').write_bytes(pickle.dumps(make()))
    done = CliRunner().invoke(main, ['import', str(tmp_path / 'network.pkl'), f'--to={tmp_path / "new.pkl"}'])
    assert done.exit_code == 0, done.output
    assert type(pickle.loads((tmp_path / 'new.pkl').read_bytes())['G_ema']) is upstream_networks.Generator

@pytest.mark.parametrize('trust', [False, True])
def test_trainings_start_from_it(trust, tmp_path):
    (tmp_path / 'network.pkl').write_bytes(pickle.dumps(make()))
    with open(tmp_path / 'network.pkl', 'rb') as f:
        data = reading.read_to_train_on(f, 'network.pkl', '--resume', trust)
    images = dict(c_dim=0, img_resolution=16, img_channels=3)
    plain = upstream_networks.Generator(z_dim=32, w_dim=32, mapping_kwargs=dict(num_layers=2),
        synthesis_kwargs=SIZE, **images)
    transfer.copy_with_report(data['G_ema'], plain)
    transfer.copy_with_report(data['D'], upstream_networks.Discriminator(**images, **SIZE))
    assert all(torch.equal(tensor, tensors_of(data['G_ema'])[name]) for name, tensor in tensors_of(plain).items())
    grouped = networks.Generator(z_dim=32, code_dim=32, num_groups=2, grouping='blocks',
        mapping_kwargs=dict(num_layers=2), synthesis_kwargs=SIZE, **images)
    transfer.copy_with_report(data['G_ema'], grouped)
    assert torch.equal(grouped.synthesis.b8.conv1.weight, plain.synthesis.b8.conv1.weight)

#----------------------------------------------------------------------------
