"""SariGAN as a plugin to NVIDIA's stylegan2-ada-pytorch.

Importing this package makes upstream's own packages (dnnlib, torch_utils, training, metrics) importable, unless they
already are, as in a script that runs inside upstream's folder. Nothing heavy is imported here.
"""

__version__ = '0.1.0'

from sarigan_plugin import compat
from sarigan_plugin.upstream import tree

compat.install()
tree.activate()
