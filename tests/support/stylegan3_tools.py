"""Read a pickle with the tools of an unmodified stylegan3. Run: python -I stylegan3_tools.py TREE PICKLE OUTDIR [CLASS]

Knows nothing of the plugin, and hides it where it is installed. Leaves in OUTDIR: seed0001.png and seed0002.png by
gen_images.py with truncation 0.5; seen.npz with `rendered`, what the visualizer's renderer shows of seed 1 with seed
2's codes in the first three layers, `captured`, its view of layer b16.conv1, and `logits`, D's of seed 1. Without CUDA
the tools' device is exchanged. Two modules need not be installed: matplotlib, which only colours spectra here, and
pkg_resources, which setuptools no longer has.
"""

import importlib
import io
import sys
import types

import numpy as np
import packaging.version
import torch

class Overlay(types.ModuleType):
    """A module with some names exchanged; the rest is looked up in the original."""
    def __init__(self, original, **exchanged):
        super().__init__(original.__name__)
        self.__dict__.update(exchanged, original=original)

    def __getattr__(self, name):
        return getattr(self.original, name)

def import_tool(name):
    tool = importlib.import_module(name)
    if not torch.cuda.is_available():
        event = types.SimpleNamespace(record=lambda stream: None, synchronize=lambda: None, elapsed_time=lambda end: 0)
        cuda = Overlay(torch.cuda, Event=lambda enable_timing: event, current_stream=lambda device: None)
        tool.torch = Overlay(torch, device=lambda name: torch.device('cpu'), cuda=cuda)
        torch.Tensor.pin_memory = lambda self: self
    return tool

def stand_in(name, **content):
    """A module of that name, where there is none."""
    try:
        importlib.import_module(name)
    except ImportError:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__dict__.update(content)
        parent, _, child = name.rpartition('.')
        if parent:
            setattr(sys.modules[parent], child, sys.modules[name])

def main(tree, pkl, outdir, label=None):
    sys.path.insert(0, tree)
    sys.modules['sarigan_plugin'] = None # An import of it raises.
    stand_in('matplotlib')
    stand_in('matplotlib.cm')
    stand_in('pkg_resources', parse_version=packaging.version.parse)

    arguments = [f'--network={pkl}', '--seeds=1-2', '--trunc=0.5', f'--outdir={outdir}'] + ([f'--class={label}']
        if label is not None else [])
    import_tool('gen_images').generate_images.main(arguments, standalone_mode=False)

    renderer = import_tool('viz.renderer').Renderer()
    how = dict(pkl=pkl, w0_seeds=[[1, 1]], stylemix_idx=[0, 1, 2], stylemix_seed=2)
    mixed = renderer.render(**how)
    captured = renderer.render(layer_name='b16.conv1', **how)
    assert 'error' not in mixed and 'error' not in captured, mixed.get('error', captured.get('error'))
    assert {'b8.conv0', 'b16.conv1', 'b32.torgb', 'output'} <= {layer.name for layer in mixed.layers}, mixed.layers

    with open(pkl, 'rb') as f:
        networks = importlib.import_module('legacy').load_network_pkl(io.BytesIO(f.read()))
    G, D = networks['G_ema'], networks['D']
    z = torch.from_numpy(np.random.RandomState(1).randn(1, G.z_dim))
    c = torch.eye(G.c_dim)[[int(label)]] if label is not None else torch.zeros([1, 0])
    np.savez(f'{outdir}/seen.npz', rendered=mixed.image, captured=captured.image,
        logits=D(G(z, c, noise_mode='const'), c).numpy())

if __name__ == '__main__':
    main(*sys.argv[1:])
