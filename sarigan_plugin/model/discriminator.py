"""SariGAN's discriminator: upstream's with a second head, Q.

Pickles hold the source of this file, as that of networks.py, so it imports nothing but torch, numpy, dnnlib and
torch_utils, and asks for upstream's layers by name.
"""

import numpy as np
import torch

import dnnlib
from torch_utils import persistence

#----------------------------------------------------------------------------

def _upstream(name, *args, **kwargs):
    """Build one of upstream's layers by name, so that it is pickled with upstream's source and not with this file."""
    return dnnlib.util.construct_class_by_name(*args, class_name=f'training.networks.{name}', **kwargs)

@persistence.persistent_class
class Discriminator(torch.nn.Module):
    """Upstream's discriminator with a second head: Q reads both codes back from the image (Section 3.3).

    D and Q share everything but their last linear layer. Parameter names are upstream's, plus `q`. What Q predicts is
    the concern of the loss: the codes in w, or what grouped layers make of them, see code_styles() in grouped.py. How
    far these vary changes in a training, so Q's last layer says by how many deviations they are off their running mean,
    see follow_styles() in running_figures.py.
    """
    def __init__(self,
        c_dim,                  # Conditioning label (C) dimensionality, 0 = unconditional.
        img_resolution,         # Input resolution, pixels.
        img_channels,           # Number of input color channels.
        code_dim        = 512,  # Dimensionality of each of the two codes in w.
        q_features      = None, # (inter, intra), how many numbers of each code Q predicts, None = those in w.
        **trunk_kwargs,         # Arguments for upstream's Discriminator.
    ):
        super().__init__()
        value = trunk_kwargs.pop('info_variance', 'unit') # Of earlier versions: see RETIRED in networks.py.
        if value != 'unit':
            raise ValueError(f"info_variance is retired and must be 'unit', its old default, not {value!r}")
        self.c_dim = c_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        trunk = _upstream('Discriminator', c_dim=c_dim, img_resolution=img_resolution, img_channels=img_channels,
            **trunk_kwargs)
        self.block_resolutions = trunk.block_resolutions
        for name, module in trunk.named_children():
            self.add_module(name, module)
        self.q_features = q_features
        num_predicted = 2 * code_dim if q_features is None else sum(q_features)
        self.q = _upstream('FullyConnectedLayer', self.b4.out.weight.shape[1], num_predicted)
        if q_features is not None:
            self.register_buffer('style_mean', torch.zeros([num_predicted]))
            self.register_buffer('style_variance', torch.ones([num_predicted]))

    def style_deviation(self):
        """[K]. Of styles that hardly vary it is no less than a hundredth."""
        return self.style_variance.clamp(min=1e-4).sqrt()

    def _load_from_state_dict(self, state_dict, prefix, *how):
        for name, buffer in self.named_buffers(recurse=False): # States of earlier versions have none.
            state_dict.setdefault(prefix + name, buffer)
        super()._load_from_state_dict(state_dict, prefix, *how)

    def features(self, img, num_batches=1, **block_kwargs):
        """All that D and Q share. img: [N, img_channels, H, W]. Returns [N, F], fp32.

        num_batches: as how many batches of equal size, one after another, the minibatch standard deviation takes them.
        """
        x = None
        for res in self.block_resolutions:
            x, img = getattr(self, f'b{res}')(x, img, **block_kwargs)
        x = x.to(torch.float32, memory_format=torch.contiguous_format)
        if self.b4.architecture == 'skip':
            x = x + self.b4.fromrgb(img.to(torch.float32))
        if self.b4.mbstd is not None:
            batches = [x] if num_batches == 1 else x.chunk(num_batches)
            batches = [self.b4.mbstd(batch) for batch in batches]
            x = batches[0] if num_batches == 1 else torch.cat(batches)
        return self.b4.fc(self.b4.conv(x).flatten(1))

    def forward(self, img, c, return_codes=False, **block_kwargs):
        """img: [N, img_channels, H, W], c: [N, c_dim]. Returns logits [N, 1].

        With return_codes also what Q predicts, inter-group first: [N, 2 * code_dim], see q_features.
        """
        features = self.features(img, **block_kwargs)
        logits = self.b4.out(features)
        if self.c_dim > 0:
            label = self.mapping(None, c)
            logits = (logits * label).sum(dim=1, keepdim=True) / np.sqrt(label.shape[1])
        if not return_codes:
            return logits
        codes = self.q(features)
        return logits, codes if self.q_features is None else codes * self.style_deviation() + self.style_mean

#----------------------------------------------------------------------------
