"""Networks, exports and a training of the time when all modules lay flat in one folder still open, and go on."""

import json
import pickle
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import commands
import small_training
import trees
from sarigan_plugin.ablation import table_spec
from sarigan_plugin.cli import main
from sarigan_plugin.errors import UserError
from sarigan_plugin.snapshots import reading, what_is
from sarigan_plugin.trainer import recipes, runs

import dnnlib
import legacy

FLAT = trees.ROOT / 'tests' / 'fixtures' / 'flat_layout'
sys.path.append(str(FLAT))

from make import COMMAND, sample  # noqa: E402

RUN      = FLAT / 'runs' / '00000-images-small'
NETWORK  = RUN / 'network-snapshot-000001.pkl'
PICKLES  = dict(network=NETWORK, inpainting=FLAT / 'inpainting.pkl')
EXPORTS  = dict(network=FLAT / 'network', inpainting=FLAT / 'inpainting')
# Sums in other orders, as other CPUs have them; wrong weights are off by hundreds of times as much.
CLOSE    = dict(rtol=0, atol=1e-3)

# Of the format of pickles, exports and run records: whoever renames a module keeps these.
NAMES = {'sarigan_plugin.networks.Generator', 'sarigan_plugin.networks.Discriminator',
         'sarigan_plugin.inpainting.Generator', 'sarigan_plugin.inpainting.Discriminator',
         'sarigan_plugin.inpainting_data.InpaintingDataset', 'sarigan_plugin.loss.SariGANLoss',
         'sarigan_plugin.inpainting_loss.InpaintingLoss', 'sarigan_plugin.grouping.make_grouping'}

def images(name):
    return np.load(FLAT / 'images.npz')[name]

#----------------------------------------------------------------------------
# Networks.

@pytest.mark.parametrize('trust', [False, True], ids=['safe', 'trusted'])
@pytest.mark.parametrize('name', PICKLES)
def test_our_readers_open_an_old_pickle(name, trust):
    data = reading.load_all(str(PICKLES[name]), 'PKL', trust=trust)
    np.testing.assert_allclose(sample(reading.averaged(data)), images(name), **CLOSE)
    assert data['training_set_kwargs']['class_name'] in NAMES | {'training.dataset.ImageFolderDataset'}

@pytest.mark.parametrize('name', PICKLES)
def test_upstreams_reader_opens_an_old_pickle(name):
    with open(PICKLES[name], 'rb') as f:
        G = legacy.load_network_pkl(f)['G_ema']
    np.testing.assert_allclose(sample(G), images(name), **CLOSE)

def test_upstreams_reader_makes_fp16_networks_of_an_old_pickle():
    # The constructor in the pickle runs, which asks for the grouping and networks inside it by name.
    for path in PICKLES.values():
        with open(path, 'rb') as f:
            data = legacy.load_network_pkl(f, force_fp16=True)
        assert data['G_ema'].synthesis.b16.use_fp16
        reading.put(data['G_ema'], 'cpu')

@pytest.mark.parametrize('name', EXPORTS)
def test_an_old_export_opens(name):
    np.testing.assert_allclose(sample(reading.load(str(EXPORTS[name]), 'PKL')), images(name), **CLOSE)

def test_an_old_checkpoint_for_other_code_is_imported(tmp_path):
    done = CliRunner().invoke(main, ['import', str(FLAT / 'checkpoint.pt'), f'--to={tmp_path / "network.pkl"}'])
    assert done.exit_code == 0, done.output
    assert sample(reading.load(str(tmp_path / 'network.pkl'), 'PKL')).shape == (2, 3, 16, 16)

def test_it_is_known_what_an_old_file_is():
    assert what_is.newest_network(str(RUN)) == str(NETWORK)

#----------------------------------------------------------------------------
# Trainings.

def test_an_old_training_goes_on(tmp_path):
    shutil.copytree(FLAT / 'runs', tmp_path / 'runs')
    shutil.copy(FLAT / 'small.toml', tmp_path)
    small_training.write_images(tmp_path / 'images')
    done = commands.sarigan(*COMMAND, '--resume=latest', '--kimg=2', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'Going on with runs/00000-images-small from 1.024 kimg' in done.stdout
    assert [path.name for path in (tmp_path / 'runs').iterdir()] == [RUN.name]
    later = tmp_path / 'runs' / RUN.name / 'network-snapshot-000002.pkl'
    before, after = [reading.load(str(path), 'PKL') for path in [NETWORK, later]]
    assert list(before.state_dict()) == list(after.state_dict())

#----------------------------------------------------------------------------
# Options that are gone: norm_channels, norm_eps, inter_gain, info_variance.

GONE = 'norm_eps is retired and must be 0, its old default, not 0.3'

def test_a_pickle_that_needs_an_option_that_is_gone_gets_a_sentence(tmp_path):
    with open(NETWORK, 'rb') as f:
        data = pickle.load(f)
    data['G_ema'].synthesis.b8.conv0.norm_eps = 0.3
    (tmp_path / 'network.pkl').write_bytes(pickle.dumps(data))
    with pytest.raises(UserError, match=r'^PKL: .* \(synthesis.b8.conv0.norm_eps is 0.3, and ours 0\); --trust'):
        reading.load(str(tmp_path / 'network.pkl'), 'PKL')
    data['G_ema']._init_kwargs['norm_eps'] = 0.3
    (tmp_path / 'network.pkl').write_bytes(pickle.dumps(data))
    with pytest.raises(UserError, match=rf'^PKL: .* \({GONE}\); --trust-pickle runs the code inside it.$'):
        reading.load(str(tmp_path / 'network.pkl'), 'PKL')

def test_so_does_an_export(tmp_path):
    folder = shutil.copytree(EXPORTS['network'], tmp_path / 'network')
    description = (folder / 'network.json').read_text()
    (folder / 'network.json').write_text(description.replace('"norm_eps": 0.0', '"norm_eps": 0.3'))
    with pytest.raises(UserError, match=rf'^PKL: .* \({GONE}\).$'):
        reading.load(str(folder), 'PKL')

def test_a_config_and_a_table_may_give_options_that_are_gone_their_last_value(tmp_path):
    config, table = tmp_path / 'mine.toml', tmp_path / 'table.toml'
    for value in ['0.0', '0.3']:
        config.write_text(f'base = "sarigan"\n[method]\ninfo_variance = "unit"\nnorm_eps = {value}\n')
        table.write_text('title = "x"\ncfg = "tiny"\nmetrics = ["fd10k"]\n[options]\ninter_gain = 1\n'
            f'[rows.a]\nnorm_eps = {value}\n')
        if value == '0.0':
            assert recipes.read_recipe(str(config)).method == recipes.find_recipe('sarigan', 256, 1).method
            assert table_spec.read(str(table)).rows[0].options == {}
            continue
        for path, read in [(config, recipes.read_recipe), (table, table_spec.read)]:
            with pytest.raises(UserError, match=rf'^{path}: {GONE}$'):
                read(str(path))

def test_a_run_that_was_trained_with_an_option_that_is_gone_does_not_go_on(tmp_path):
    run = Path(shutil.copytree(FLAT / 'runs', tmp_path / 'runs')) / RUN.name
    options = json.loads((run / 'training_options.json').read_text())
    args = json.loads(json.dumps(options))
    for name in ['norm_channels', 'norm_eps', 'inter_gain']:
        del args['G_kwargs'][name]
    del args['D_kwargs']['info_variance']
    runs.go_on_with(str(run), dnnlib.EasyDict(args))
    options['G_kwargs']['norm_eps'] = 0.3
    (run / 'training_options.json').write_text(json.dumps(options))
    with pytest.raises(UserError, match='started with: G_kwargs.norm_eps was 0.3 and would be not set.'):
        runs.go_on_with(str(run), dnnlib.EasyDict(args))

#----------------------------------------------------------------------------
# What is written today opens with the plugin of before.

def names_in(text):
    return {match.decode() for match in re.findall(rb'sarigan_plugin\.[a-z_.]*\.[A-Za-z_]+', text)}

def test_files_of_today_name_what_old_files_name(tmp_path):
    G = reading.load(str(NETWORK), 'PKL') # Made anew, of the source that is installed.
    inpainting = reading.load_all(str(FLAT / 'inpainting.pkl'), 'PKL')
    written = names_in(pickle.dumps(G)) | names_in(pickle.dumps(inpainting))
    before = names_in(NETWORK.read_bytes()) | names_in((FLAT / 'inpainting.pkl').read_bytes())
    assert written <= NAMES and written == before
    for name in EXPORTS:
        done = CliRunner().invoke(main, ['export', str(PICKLES[name]), f'--to={tmp_path / name}'])
        assert done.exit_code == 0, done.output
        old, new = [json.loads((folder / 'network.json').read_text()) for folder in [EXPORTS[name], tmp_path / name]]
        assert old['networks'] == new['networks'] and old['training_set_kwargs'] == new['training_set_kwargs']

#----------------------------------------------------------------------------
