"""Fixtures that many tests share."""

import os
import pickle
import shutil
import signal

# Before PyTorch is imported: on a busy machine more threads slow small networks down by an order of magnitude.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np
import PIL.Image
import pytest
import torch

import commands
import small_training
import trees
from sarigan_plugin.model import networks
from sarigan_plugin.upstream import tree as upstream
from skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401 # Hooks.
from small_networks import SIZE

from torch_utils import training_stats

# Ignored under nohup, and in the background of a script; whatever tests start would inherit that,
# and some are to be stopped so.
for number in [signal.SIGHUP, signal.SIGINT]:
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_args: None) # A handler is not inherited, and this process goes on as before.

@pytest.fixture(autouse=True)
def same_random_numbers_every_time():
    torch.manual_seed(0)
    np.random.seed(0)

@pytest.fixture(autouse=True)
def statistics_of_its_own():
    yield
    # Upstream's are sums over all that a process has reported: once one is NaN, it stays so.
    training_stats._counters.clear()
    training_stats._cumulative.clear()

#----------------------------------------------------------------------------
# Upstream's tree, by origin. Each test gets a copy of its own, without our patches.

@pytest.fixture(scope='session')
def _clean_submodule_tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp('submodule') / 'tree'
    trees.make_submodule_tree(folder)
    return folder

@pytest.fixture(scope='session')
def _clean_pypi_tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pypi') / 'tree'
    trees.make_pypi_tree(folder)
    return folder

@pytest.fixture
def submodule_tree(_clean_submodule_tree, tmp_path):
    return shutil.copytree(_clean_submodule_tree, tmp_path / 'submodule_tree', symlinks=True)

@pytest.fixture
def pypi_tree(_clean_pypi_tree, tmp_path):
    return shutil.copytree(_clean_pypi_tree, tmp_path / 'pypi_tree')

@pytest.fixture(params=['submodule', 'pypi'])
def any_tree(request):
    """Each test that takes this runs once per origin."""
    return request.getfixturevalue(f'{request.param}_tree')

@pytest.fixture(scope='session')
def _clean_git_tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp('git') / 'tree'
    trees.make_git_tree(folder)
    return folder

@pytest.fixture
def git_tree(_clean_git_tree, tmp_path, monkeypatch):
    """A submodule's checkout, or a stand-in at a commit that is taken for the pinned one:
    for tests of how we treat it."""
    monkeypatch.setattr(upstream, 'COMMIT', trees.any_history()[1])
    return shutil.copytree(_clean_git_tree, tmp_path / 'submodule_tree', symlinks=True)

#----------------------------------------------------------------------------
# The small generator and discriminator that the tests share: 32x32, sixteen channels at most.

@pytest.fixture(scope='session')
def make_generator():
    """make_generator(**overrides) -> a fresh Generator in eval mode, 4 groups, codes of 32."""
    def make(c_dim=0, img_channels=3, img_resolution=32, **kwargs):
        return networks.Generator(z_dim=32, c_dim=c_dim, img_resolution=img_resolution, img_channels=img_channels,
            **dict(dict(code_dim=32, num_groups=4, mapping_kwargs=dict(num_layers=2), synthesis_kwargs=SIZE),
                **kwargs)).eval()
    return make

@pytest.fixture(scope='session')
def make_discriminator():
    """make_discriminator(**overrides) -> a fresh Discriminator in eval mode."""
    def make(c_dim=0, img_channels=3, img_resolution=32, **kwargs):
        return networks.Discriminator(c_dim=c_dim, img_resolution=img_resolution, img_channels=img_channels,
            code_dim=32, **SIZE, **kwargs).eval()
    return make

@pytest.fixture(scope='session')
def _network(make_generator, make_discriminator):
    """(content of a network pickle, state of the random numbers that follow)."""
    torch.manual_seed(0)
    G = make_generator().requires_grad_(False)
    content = pickle.dumps(dict(G=G, D=make_discriminator(), G_ema=G, training_set_kwargs=None, augment_pipe=None))
    return content, torch.get_rng_state()

@pytest.fixture
def network(_network, tmp_path):
    """Path of a network pickle, always the same one."""
    content, random_state = _network
    torch.set_rng_state(random_state)
    path = tmp_path / 'network.pkl'
    path.write_bytes(content)
    return path

#----------------------------------------------------------------------------

@pytest.fixture(scope='session')
def images(tmp_path_factory):
    """A folder of 24 images of 16x16."""
    folder = tmp_path_factory.mktemp('images') / 'squares'
    folder.mkdir()
    rng = np.random.RandomState(0)
    for i in range(24):
        picture = np.full([16, 16, 3], rng.randint(256, size=3), dtype=np.uint8)
        picture[4:12, 4:12] = rng.randint(256, size=3)
        PIL.Image.fromarray(picture).save(folder / f'{i:02d}.png')
    return folder

@pytest.fixture(scope='session')
def cfg(tmp_path_factory):
    path = tmp_path_factory.mktemp('cfg') / 'small.toml'
    path.write_text(small_training.config(method=dict(lambda_info=1.0),
        networks=dict(channel_base=128, num_fp16_res=4), training=dict(batch=128))) # Eight steps.
    return path

@pytest.fixture(scope='session')
def run(images, cfg, tmp_path_factory):
    """One finished training of 1 kimg in a single process: (process, run folder)."""
    outdir = tmp_path_factory.mktemp('out')
    done = commands.sarigan('train', f'--cfg={cfg}', f'--data={images}', f'--outdir={outdir}', '--metrics=none',
        '--device=cpu', '--seed=3')
    assert done.returncode == 0, done.stderr
    return done, outdir / '00000-squares-small'
