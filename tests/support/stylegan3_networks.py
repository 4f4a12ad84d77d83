"""StyleGAN2 with the signatures, defaults and attributes that stylegan3's training/networks_stylegan2.py has:
pickles of it look alike.

Its source goes into the pickles, and what trusts them runs it.
"""

import torch

from torch_utils import persistence
from training import networks

PRECISION = dict(num_fp16_res=4, conv_clamp=256)

def _with_sizes(network):
    """Their layers remember how large they are."""
    for module in network.modules():
        kind = type(module).__name__
        if kind == 'FullyConnectedLayer':
            module.out_features, module.in_features = module.weight.shape
        elif kind in ('SynthesisLayer', 'ToRGBLayer', 'Conv2dLayer'):
            module.out_channels, module.in_channels = module.weight.shape[:2]
            if hasattr(module, 'affine'):
                module.w_dim = module.affine.weight.shape[1]
        elif kind == 'SynthesisBlock':
            module.fused_modconv_default = True
    return network

@persistence.persistent_class
class MappingNetwork(networks.MappingNetwork):
    def __init__(self, *args, w_avg_beta=0.998, **kwargs):
        super().__init__(*args, w_avg_beta=w_avg_beta, **kwargs)

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, update_emas=False):
        return super().forward(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff,
            skip_w_avg_update=not update_emas)

@persistence.persistent_class
class SynthesisNetwork(networks.SynthesisNetwork):
    def __init__(self, *args, fused_modconv_default=True, **kwargs):
        _ = fused_modconv_default
        kwargs = {**PRECISION, **kwargs}
        super().__init__(*args, **kwargs)
        self.num_fp16_res = kwargs['num_fp16_res']

    def forward(self, ws, update_emas=False, **block_kwargs):
        _ = update_emas
        return super().forward(ws, force_fp32=(ws.device.type != 'cuda'), **block_kwargs)

@persistence.persistent_class
class Generator(torch.nn.Module):
    def __init__(self, z_dim, c_dim, w_dim, img_resolution, img_channels, mapping_kwargs={}, **synthesis_kwargs):
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.synthesis = SynthesisNetwork(w_dim=w_dim, img_resolution=img_resolution, img_channels=img_channels,
            **synthesis_kwargs)
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(z_dim=z_dim, c_dim=c_dim, w_dim=w_dim, num_ws=self.num_ws, **mapping_kwargs)
        _with_sizes(self)

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, update_emas=False, **synthesis_kwargs):
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff,
            update_emas=update_emas)
        return self.synthesis(ws, update_emas=update_emas, **synthesis_kwargs)

@persistence.persistent_class
class Discriminator(networks.Discriminator):
    def __init__(self, c_dim, img_resolution, img_channels, **kwargs):
        super().__init__(c_dim=c_dim, img_resolution=img_resolution, img_channels=img_channels,
            **{**PRECISION, **kwargs})
        _with_sizes(self)

    def forward(self, img, c, update_emas=False, **block_kwargs):
        _ = update_emas
        return super().forward(img, c, force_fp32=(img.device.type != 'cuda'), **block_kwargs)
