"""SariGAN as a plugin to NVIDIA's stylegan2-ada-pytorch.

Importing this package makes upstream's own packages (dnnlib, torch_utils, training, metrics) importable, unless they
already are, as in a script that runs inside upstream's folder. Nothing heavy is imported here.
"""

__version__ = '0.1.0'

import logging

from sarigan_plugin import compat
from sarigan_plugin.upstream import tree

compat.install()
tree.activate()

# PyTorch for CUDA says so where nvcc is installed and no GPU is there: no news for who computes on the CPU.
logging.getLogger('torch.utils.cpp_extension').addFilter(
    lambda record: not str(record.msg).startswith('No CUDA runtime is found'))
