"""Images of a generator: latents of seeds, labels, codes, and what is drawn of them."""

import re

import numpy as np
import torch

from sarigan_plugin.snapshots import label_kind
from sarigan_plugin.support import pictures

MAX_SEED    = 2 ** 32 - 1   # NumPy's.
MAX_NUMBER  = 1e6           # Of a scale, truncation or label: styles of any network stay finite.

#----------------------------------------------------------------------------

def latents(G, seeds):
    """One latent per seed, the same as upstream's tools draw: [N, z_dim]."""
    z = np.stack([np.random.RandomState(seed).randn(G.z_dim) for seed in seeds])
    return torch.from_numpy(z).to(next(G.parameters()).device, torch.float32)

def labels(G, count, class_idx=None):
    """[count, c_dim] rows: one-hot for a class, a label vector as it is, zeros for None."""
    c = torch.zeros([count, G.c_dim], device=next(G.parameters()).device)
    if is_vector(class_idx):
        c[:] = torch.as_tensor(class_idx, dtype=c.dtype, device=c.device)
    elif class_idx is not None:
        c[:, class_idx] = 1
    return c

def sample_ws(G, seeds, trunc=0.7, class_idx=0):
    """[N, num_ws, w_dim] codes of the seeds; of a class or label vector [c_dim] where the network is conditional."""
    return G.mapping(latents(G, seeds), labels(G, len(seeds), class_idx if G.c_dim > 0 else None), truncation_psi=trunc)

def label_vector(text):
    """'0.2,0.8', '0.2 0.8' or '[0.2, 0.8]' -> (0.2, 0.8). Raises ValueError, with one sentence, for anything else."""
    words = re.split(r'[\s,]+', text.strip(' \t\r\n,[]'))
    try:
        numbers = tuple(map(float, words))
    except ValueError:
        raise ValueError(f'{text.strip()!r:.60} is not a list of numbers, as in 0.2,0.8') from None
    if not all(abs(number) <= MAX_NUMBER for number in numbers): # NaN is no number either.
        raise ValueError(f'{text.strip()!r:.60} has numbers beyond {MAX_NUMBER:.0f}, or that are none')
    return numbers

def is_vector(class_idx):
    """Whether it is a label vector rather than a class or None."""
    return hasattr(class_idx, '__len__')

def check_class(G, class_idx):
    """Raise ValueError unless the network has this class, or takes the vector; one without classes has 0 and None."""
    if is_vector(class_idx):
        if len(class_idx) != G.c_dim:
            given = f'{len(class_idx)} number{"s" if len(class_idx) != 1 else ""}'
            wanted = f'the label has {given}, and those of the network have {G.c_dim} (c_dim).'
            raise ValueError(wanted if G.c_dim > 0 else 'the network has no classes, and takes no label.')
        return
    if G.c_dim > 0 and label_kind.of(G) == 'vectors':
        example = ','.join(('0.2', '0.8', '0.5')[:G.c_dim]) + (',...' if G.c_dim > 3 else '')
        raise ValueError('the network was trained on label vectors, not on classes, '
            f'and needs one of {G.c_dim} numbers: --class={example} or --label=FILE.')
    if class_idx is None and G.c_dim > 0:
        raise ValueError(f'the network is conditional and needs one; the classes are 0 to {G.c_dim - 1}.')
    if class_idx is not None and not 0 <= class_idx < max(G.c_dim, 1):
        raise ValueError(f'{class_idx} is out of range: '
            + (f'the classes are 0 to {G.c_dim - 1}.' if G.c_dim > 0 else 'the network has no classes.'))

def render(G, w, noise_mode='const'):
    """The image of one code [1, num_ws, w_dim], uint8 [H, W, 3].

    One at a time takes little memory at any resolution.
    """
    return pictures.to_uint8(G.synthesis(w, noise_mode=noise_mode))[0]

#----------------------------------------------------------------------------
