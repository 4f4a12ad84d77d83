"""Small networks of every kind, and whether two are equal."""

import pickle

import numpy as np
import torch

from sarigan_plugin.model import inpainting

from training import networks as upstream_networks

SIZE = dict(channel_base=256, channel_max=16)

def tensors_of(network):
    return dict([*network.named_parameters(), *network.named_buffers()])

def assert_same(a, b):
    assert type(a).__name__ == type(b).__name__ and a.init_kwargs == b.init_kwargs
    ours, theirs = tensors_of(a), tensors_of(b)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert (torch.equal(tensor, theirs[name]) and tensor.dtype == theirs[name].dtype
            and tensor.stride() == theirs[name].stride()), name

def outputs(data):
    """Images and scores: equal for equal networks, bit for bit."""
    G, D = data['G_ema'], data['D']
    torch.manual_seed(1)
    c = torch.eye(G.c_dim)[:2] if G.c_dim > 0 else torch.zeros([2, 0])
    images = G(torch.randn(2, G.z_dim), c, truncation_psi=0.7, noise_mode='const')
    return images, D(images, c)

def shaken(network):
    """As after training: no tensor is left at its start."""
    for parameter in network.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return network.eval().requires_grad_(False)

def plain_networks(c_dim=0, resolution=32, **options):
    G = dict(z_dim=32, c_dim=c_dim, w_dim=32, img_resolution=resolution, img_channels=3,
        mapping_kwargs=dict(num_layers=2), synthesis_kwargs=SIZE)
    D = dict(c_dim=c_dim, img_resolution=resolution, img_channels=3, **SIZE, **options)
    return dict(G=shaken(upstream_networks.Generator(**G)), D=shaken(upstream_networks.Discriminator(**D)),
        G_ema=shaken(upstream_networks.Generator(**G)),
        augment_pipe=None, training_set_kwargs=None)

def write(data, path):
    path.write_bytes(pickle.dumps(data))
    return path

def make_inpainter(img_channels=3, img_resolution=32, grouping='blocks', **kwargs):
    return inpainting.Generator(z_dim=32, c_dim=(img_channels + 1) * img_resolution ** 2, img_resolution=img_resolution,
        img_channels=img_channels, code_dim=32, num_groups=4, grouping=grouping,
        mapping_kwargs=dict(num_layers=2), synthesis_kwargs=SIZE, **kwargs).eval().requires_grad_(False)

def write_network(path, G, training_set_kwargs=None):
    D = inpainting.Discriminator(c_dim=G.c_dim, img_resolution=32, img_channels=G.img_channels, code_dim=32, **SIZE)
    path.write_bytes(pickle.dumps(dict(G=G, D=D, G_ema=G, training_set_kwargs=training_set_kwargs, augment_pipe=None)))
    return path

def mixed_image(G, row, col, styles, psi, c=None):
    """uint8 [H, W, 3]: the row's codes, with the column's in the layers `styles`."""
    ws = [G.mapping(torch.from_numpy(np.random.RandomState(seed).randn(1, G.z_dim)), c, truncation_psi=psi)
        for seed in [row, col]]
    ws[0][:, styles] = ws[1][:, styles]
    img = G.synthesis(ws[0], noise_mode='const')[0].permute(1, 2, 0)
    return (img * 127.5 + 128).clamp(0, 255).to(torch.uint8).numpy()
