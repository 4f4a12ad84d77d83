"""Print a hash of each tensor in the four phases of upstream's loss. Run inside a tree: python phase_hashes.py OUT.json

Small 32x32 networks on the CPU, with class labels, ADA's whole augmentation pipe and style mixing, so that most of
training/ and torch_utils/ has a say in the result.
"""

import hashlib
import json
import os
import sys
import warnings

sys.path.insert(0, os.getcwd())

import numpy as np
import torch

import dnnlib

warnings.filterwarnings('ignore')

def digest(tensor):
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()

def collect(modules):
    hashes = dict()
    for prefix, module in modules.items():
        for kind, tensors in (('parameter', module.named_parameters()), ('buffer', module.named_buffers())):
            for name, tensor in tensors:
                hashes[f'{prefix}.{name} {kind}'] = digest(tensor)
                if tensor.grad is not None:
                    hashes[f'{prefix}.{name} gradient'] = digest(tensor.grad)
    return hashes

def main(out):
    torch.manual_seed(0)
    np.random.seed(0)
    torch.set_num_threads(1)
    device = torch.device('cpu')
    common = dict(c_dim=3, img_resolution=32, img_channels=3)
    sizes = dict(channel_base=512, channel_max=16)
    G = dnnlib.util.construct_class_by_name(class_name='training.networks.Generator', z_dim=16, w_dim=16,
        mapping_kwargs=dict(num_layers=2), synthesis_kwargs=sizes, **common).train()
    D = dnnlib.util.construct_class_by_name(class_name='training.networks.Discriminator', **sizes, **common).train()
    pipe = dnnlib.util.construct_class_by_name(class_name='training.augment.AugmentPipe',
        xflip=1, rotate90=1, xint=1, scale=1, rotate=1, aniso=1, xfrac=1,
        brightness=1, contrast=1, lumaflip=1, hue=1, saturation=1, imgfilter=1, noise=1, cutout=1)
    pipe.p.copy_(torch.as_tensor(0.5))
    loss = dnnlib.util.construct_class_by_name(class_name='training.loss.StyleGAN2Loss', device=device,
        G_mapping=G.mapping, G_synthesis=G.synthesis, D=D, augment_pipe=pipe, style_mixing_prob=0.9, r1_gamma=10)

    hashes = {'start': collect(dict(G=G, D=D))}
    for phase, module in (('Gmain', G), ('Greg', G), ('Dmain', D), ('Dreg', D)):
        optimizer = torch.optim.Adam(module.parameters(), lr=0.002, betas=[0.0, 0.99], eps=1e-8)
        for network in (G, D):
            network.requires_grad_(network is module)
            network.zero_grad(set_to_none=True)
        images, z = torch.rand([4, 3, 32, 32]) * 2 - 1, torch.randn([4, 16])
        labels = torch.eye(3)[torch.randint(3, [4])]
        loss.accumulate_gradients(phase=phase, real_img=images, real_c=labels, gen_z=z, gen_c=labels, sync=True, gain=1)
        hashes[phase] = collect(dict(G=G, D=D))
        optimizer.step()
    G.eval()
    with torch.no_grad():
        image = G(torch.randn([2, 16]), torch.eye(3)[:2], noise_mode='const')
        hashes['output'] = dict(image=digest(image), logits=digest(D(image, torch.eye(3)[:2])))
    with open(out, 'w') as f:
        json.dump(hashes, f)

main(sys.argv[1])
