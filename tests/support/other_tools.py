"""Use a pickle with another unmodified tool. Run: python -I other_tools.py TOOL TREE PICKLE OUTDIR

TOOL is stylegan2_ada, pti, dvschultz or draggan, TREE a checkout of it. Knows nothing of the plugin, and hides it
where it is installed. What each leaves in OUTDIR its function says. Without CUDA the tools' device is exchanged.
Modules that the tools import and that need not be installed have stand-ins: logging (wandb), learnt distances (lpips),
an encoder of faces (e4e), noise for loops (opensimplex), torchvision, which resizes for that encoder and writes sheets,
and pkg_resources, which setuptools no longer has.
"""

import importlib
import io
import os
import runpy
import sys
import types
from pathlib import Path

import numpy as np
import packaging.version
import PIL.Image
import torch

sys.path.append(str(Path(__file__).parent))
from stylegan3_tools import Overlay, import_tool, stand_in  # noqa: E402 # -I leaves out the folder of a script.

sys.path.pop()

class Pixels(torch.nn.Module):
    """For the VGG features, which would be downloaded: 4x4 averages of the image."""
    def forward(self, x, resize_images: bool, return_lpips: bool):
        return torch.nn.functional.avg_pool2d(x, 4).flatten(1) / 255 # resize_images and return_lpips mean nothing here.

class Distance(torch.nn.Module):
    """For LPIPS: the mean squared difference."""
    def __init__(self, **kwargs):
        super().__init__()

    def forward(self, a, b):
        return (a - b).square().mean()

#----------------------------------------------------------------------------

def detector_of_pixels():
    """In place of what dnnlib.util.open_url() would download."""
    detector = io.BytesIO()
    torch.jit.save(torch.jit.script(Pixels()), detector)
    return lambda url: io.BytesIO(detector.getvalue())

def stylegan2_ada(pkl, outdir):
    """Upstream's images, mixing, projection and discriminator.

    Leaves images/seed0001.png, mixed/1-2.png and seen.npz: `ws`, the last codes of a projection of seed 1, and
    `logits`, D's of seed 1.
    """
    network = f'--network={pkl}'
    import_tool('generate').generate_images.main([network, '--seeds=1', '--trunc=0.5', f'--outdir={outdir}/images'],
        standalone_mode=False)
    import_tool('style_mixing').generate_style_mix.main([network, '--rows=1', '--cols=2', '--styles=0-2',
        '--trunc=0.5', f'--outdir={outdir}/mixed'], standalone_mode=False)
    with open(pkl, 'rb') as f:
        networks = importlib.import_module('legacy').load_network_pkl(io.BytesIO(f.read()))
    G, D = networks['G_ema'], networks['D']
    image = G(torch.from_numpy(np.random.RandomState(1).randn(1, G.z_dim)), None, noise_mode='const')
    projector = import_tool('projector')
    projector.dnnlib.util.open_url = detector_of_pixels()
    ws = projector.project(G, target=((image[0] + 1) * 127.5).clamp(0, 255), num_steps=STEPS, w_avg_samples=100,
        device=torch.device('cpu'))
    np.savez(f'{outdir}/seen.npz', ws=ws[-1:].numpy(), logits=D(image, None).detach().numpy())

#----------------------------------------------------------------------------

STEPS, TUNING = 20, 30 # Of projections and of pivotal tuning.

def pti(pkl, outdir):
    """Pivotal tuning of a striped image: projection, training of the generator, its file and that file read again.

    Leaves seen.npz: `pivot`, the code that was found; `before` and `after`, the image of it by the network as it was
    and as tuned; `again`, that of the saved file; `target`.
    """
    stand_in('wandb')
    stand_in('lpips', LPIPS=Distance)
    stand_in('models.e4e.psp', pSp=None)
    stand_in('torchvision')
    steps = ['Compose', 'ToPILImage', 'Resize', 'ToTensor', 'Normalize']
    stand_in('torchvision.transforms', **{name: lambda *args: None for name in steps})
    os.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] = '1' # As torch.load() was when the tool was written.
    config = importlib.import_module('configs.global_config')
    paths = importlib.import_module('configs.paths_config')
    how = importlib.import_module('configs.hyperparameters')
    if not torch.cuda.is_available():
        config.device = 'cpu'
    config.run_name = 'run'
    paths.stylegan2_ada_ffhq = pkl
    paths.checkpoints_dir, paths.embedding_base_dir = f'{outdir}/checkpoints', f'{outdir}/embeddings'
    how.first_inv_steps, how.max_pti_steps, how.LPIPS_value_threshold = STEPS, TUNING, 0
    how.use_locality_regularization = True
    coach_of_tool = importlib.import_module('training.coaches.single_id_coach')
    models = importlib.import_module('utils.models_utils')
    projector = importlib.import_module('training.projectors.w_projector')
    projector.dnnlib.util.open_url = detector_of_pixels()
    G = models.load_old_G()
    project = projector.project
    # It repeats the code 18 times, as networks of 1024x1024 need it.
    projector.project = lambda *args, **kwargs: project(*args, **kwargs)[:, :G.num_ws]

    target = torch.full([1, 3, G.img_resolution, G.img_resolution], -0.5)
    target[:, 0, ::8] = 0.5
    coach_of_tool.SingleIDCoach([(['striped'], target)], use_wandb=False).train()

    pivot = torch.load(f'{outdir}/embeddings/{paths.input_data_id}/{paths.pti_results_keyword}/striped/0.pt')
    def image(network):
        return network.synthesis(pivot, noise_mode='const', force_fp32=True).detach().cpu().numpy()
    tuned = models.load_tuned_G('run', 'striped')
    assert type(tuned).__name__ == type(G).__name__
    groups = [tensor for name, tensor in tuned.named_parameters() if 'group_affine' in name]
    np.savez(f'{outdir}/seen.npz', pivot=pivot.detach().cpu().numpy(), before=image(G), after=image(tuned),
        again=image(models.load_tuned_G('run', 'striped')), target=target.numpy(), num_group_layers=len(groups))

#----------------------------------------------------------------------------

def run_script(path, *arguments):
    """A script whose work is below `if __name__ == '__main__'`, with its device exchanged where there is no CUDA."""
    before, known = sys.argv, sys.modules['torch']
    sys.argv = [path, *arguments]
    if not torch.cuda.is_available():
        sys.modules['torch'] = Overlay(torch, device=lambda name: torch.device('cpu'))
    try:
        runpy.run_path(path, run_name='__main__')
    finally:
        sys.argv, sys.modules['torch'] = before, known

def save_image(images, path, nrow=8, normalize=False, range=None):
    """For torchvision's: images side by side."""
    low, high = range
    row = torch.cat(list((images - low) / (high - low)), dim=2).clamp(0, 1)
    PIL.Image.fromarray((row.permute(1, 2, 0) * 255).to(torch.uint8).cpu().numpy()).save(path)

def dvschultz(pkl, outdir):
    """Its images, interpolation, mixing and closed-form factorisation.

    Leaves images/seed0001.png, frames/frames/frame0000.png to 3, mixed/1-2.png, factor.pt and
    factors/seed-1_index-0_degree-5.0.png, in which the image is between those of both ends of a direction.
    """
    stand_in('opensimplex', OpenSimplex=None)
    stand_in('torchvision')
    stand_in('torchvision.utils')
    sys.modules['torchvision'].utils = types.SimpleNamespace(save_image=save_image) # Its `range` has another name now.
    os.environ['PATH'] = '' # No ffmpeg: a film is made of the frames, which are what is looked at.

    network = f'--network={pkl}'
    generate = import_tool('generate').generate_images.main
    generate([network, '--seeds=1', '--trunc=0.5', f'--outdir={outdir}/images'], standalone_mode=False)
    generate([network, '--seeds=1,2', '--trunc=0.5', '--process=interpolation', '--space=w', '--frames=4',
        f'--outdir={outdir}/frames'], standalone_mode=False)
    import_tool('style_mixing').generate_style_mix.main([network, '--rows=1', '--cols=2', '--styles=0-2',
        '--trunc=0.5', f'--outdir={outdir}/mixed'], standalone_mode=False)
    tree = sys.path[0]
    run_script(f'{tree}/closed_form_factorization.py', f'--ckpt={pkl}', f'--out={outdir}/factor.pt')
    run_script(f'{tree}/apply_factor.py', '-i', '0', '--seeds=1,1', f'--ckpt={pkl}', '--space=z', '--truncation=0.5',
        f'--output={outdir}/factors', f'{outdir}/factor.pt')

#----------------------------------------------------------------------------

def draggan(pkl, outdir):
    """Its renderer with a pickle called as it wants StyleGAN2's to be called. Leaves error.txt, what it says."""
    stand_in('matplotlib')
    stand_in('matplotlib.cm')
    if not torch.cuda.is_available():
        torch.Tensor.pin_memory = lambda self: self
    renamed = Path(outdir, 'stylegan2.pkl')
    renamed.write_bytes(Path(pkl).read_bytes())
    seen = importlib.import_module('viz.renderer').Renderer(disable_timing=True).render(pkl=str(renamed), w0_seed=1,
        w_load=None, w_plus=True, reset_w=False, trunc_psi=0.5)
    Path(outdir, 'error.txt').write_text(seen.get('error', ''))

#----------------------------------------------------------------------------

def main(tool, tree, pkl, outdir):
    sys.path.insert(0, tree)
    sys.modules['sarigan_plugin'] = None # An import of it raises.
    stand_in('pkg_resources', parse_version=packaging.version.parse)
    dict(stylegan2_ada=stylegan2_ada, pti=pti, dvschultz=dvschultz, draggan=draggan)[tool](pkl, outdir)

if __name__ == '__main__':
    main(*sys.argv[1:])
