"""Tools of others with our pickles and without the plugin; docs/works-with.md says what each was seen to do.

stylegan3's test is in test_features.py.
"""

import os
import pickle
import sys

import numpy as np
import PIL.Image
import pytest
import torch

import skips
import trees
from small_networks import mixed_image

@pytest.fixture
def use(make_generator, make_discriminator, tmp_path):
    """use(tool) -> (the generator that it opened, the folder with what it made); the discriminator is use.D."""
    def use_tool(tool):
        tree = os.environ.get(f'SARIGAN_{tool.upper()}')
        if tree is None:
            pytest.skip(skips.NO_CHECKOUT)
        G = make_generator().requires_grad_(False)
        G.mapping.w_avg.normal_()
        use_tool.D = make_discriminator().requires_grad_(False)
        (tmp_path / 'network.pkl').write_bytes(pickle.dumps(dict(G=G, D=use_tool.D, G_ema=G,
            training_set_kwargs=None, augment_pipe=None)))
        done = trees.run([sys.executable, '-I', trees.SUPPORT / 'other_tools.py', tool, tree,
            tmp_path / 'network.pkl', tmp_path], tmp_path)
        assert done.returncode == 0, done.stderr
        return G, tmp_path
    return use_tool

def opened(path):
    return np.array(PIL.Image.open(path)).astype(int)

def test_stylegan2_ada_generates_mixes_projects_and_judges(use):
    G, folder = use('stylegan2_ada')
    assert np.abs(opened(folder / 'images' / 'seed0001.png') - mixed_image(G, 1, 1, [], psi=0.5)).max() <= 1
    assert np.abs(opened(folder / 'mixed' / '1-2.png') - mixed_image(G, 1, 2, [0, 1, 2], psi=0.5)).max() <= 1
    seen = np.load(folder / 'seen.npz')
    assert seen['ws'].shape == (1, G.num_ws, G.w_dim)
    z = torch.from_numpy(np.random.RandomState(1).randn(1, G.z_dim))
    np.testing.assert_allclose(seen['logits'], use.D(G(z, None, noise_mode='const'), None), rtol=1e-3)

def test_pti_projects_tunes_saves_and_reads(use):
    G, folder = use('pti')
    seen = np.load(folder / 'seen.npz')
    before = G.synthesis(torch.from_numpy(seen['pivot']), noise_mode='const')
    np.testing.assert_allclose(seen['before'], before, rtol=1e-3, atol=1e-4)
    distance = {name: np.square(seen[name] - seen['target']).mean() for name in ['before', 'after', 'again']}
    assert distance['after'] < 0.8 * distance['before']
    assert distance['after'] == distance['again']
    assert seen['num_group_layers'] > 0

def test_the_dvschultz_fork_generates_interpolates_mixes_and_factorises(use):
    G, folder = use('dvschultz')
    assert np.abs(opened(folder / 'images' / 'seed0001.png') - mixed_image(G, 1, 1, [], psi=0.5)).max() <= 1
    frames = [opened(folder / 'frames' / 'frames' / f'frame{i:04d}.png') for i in range(4)]
    assert np.abs(frames[0] - mixed_image(G, 1, 1, [], psi=0.5)).max() <= 1
    distances = [np.abs(frame - mixed_image(G, 2, 2, [], psi=0.5)).mean() for frame in frames]
    assert distances == sorted(distances, reverse=True) and distances[-1] < distances[0]
    assert np.abs(opened(folder / 'mixed' / '1-2.png') - mixed_image(G, 1, 2, [0, 1, 2], psi=0.5)).max() <= 1

    directions = torch.load(folder / 'factor.pt', weights_only=True)['eigvec']
    torch.testing.assert_close(directions.T @ directions, torch.eye(G.z_dim), rtol=0, atol=1e-4)
    low, middle, high = np.split(opened(folder / 'factors' / 'seed-1_index-0_degree-5.png'), 3, axis=1)
    assert np.abs(middle - mixed_image(G, 1, 1, [], psi=0.5)).max() <= 1
    assert np.abs(low - middle).max() > 16 and np.abs(high - middle).max() > 16

def test_draggan_makes_stylegan2_anew_and_so_refuses_groups(use):
    _G, folder = use('draggan')
    assert 'TypeError: Generator.__init__()' in (folder / 'error.txt').read_text()

#----------------------------------------------------------------------------
