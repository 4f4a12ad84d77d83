"""What only a GPU can show: run with `pytest -m gpu`."""

import os
import subprocess
import sys

import pytest
import torch

from test_train import TINY, images, stats # pylint: disable=unused-import

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')]

def test_generator_and_discriminator_agree_with_the_cpu(make_generator, make_discriminator):
    G, D = make_generator(), make_discriminator()
    ws = torch.randn(4, G.num_ws, G.w_dim)
    img = G.synthesis(ws, noise_mode='const')
    logits, codes = D(img, torch.zeros(4, 0), return_codes=True)
    G, D = G.cuda(), D.cuda()
    img_cuda = G.synthesis(ws.cuda(), noise_mode='const')
    logits_cuda, codes_cuda = D(img.cuda(), torch.zeros(4, 0).cuda(), return_codes=True)
    for ours, theirs in [(img_cuda, img), (logits_cuda, logits), (codes_cuda, codes)]:
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-3, atol=1e-3) # Other convolution algorithms, other order of sums.

@pytest.mark.parametrize('gpus', [count for count in [1, 2, 4] if count <= torch.cuda.device_count()])
@pytest.mark.parametrize('options', [[], ['--nhwc=1'], ['--fp32=1'], ['--aug=ada'], ['--norm=feature']], ids=str)
def test_a_short_training_runs_with_mixed_precision(images, tmp_path, options, gpus):
    cfg = tmp_path / 'small.toml'
    cfg.write_text(TINY)
    done = subprocess.run([sys.executable, '-m', 'sarigan_plugin.cli', 'train', f'--cfg={cfg}', f'--data={images}', f'--outdir={tmp_path / "out"}',
        '--metrics=none', '--device=cuda', f'--gpus={gpus}', *options], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    folder, = (tmp_path / 'out').iterdir()
    assert all(abs(stats(folder)[-1][name]['mean']) < 1e4 for name in ['Loss/G/loss', 'Loss/D/loss', 'Loss/info/inter', 'Loss/grouping'])
