"""Reading network pickles, with a sentence instead of a traceback for what can't be read."""

import os
import pickle

import dnnlib
import legacy

from sarigan_plugin.cli import UserError
from sarigan_plugin.networks import grouped_layers

#----------------------------------------------------------------------------

def load(path, option, device='cpu'):
    """Load the averaged generator (G_ema) of a network pickle.

    path: file name or URL. option: what the user called it, for error messages. Returns the network in eval mode, on
    `device`, with no gradients. Runs code from the pickle, as every StyleGAN tool does: open only what you trust.
    Raises UserError.
    """
    if not dnnlib.util.is_url(path, allow_file_urls=True) and not os.path.isfile(path):
        raise UserError(f'{option}: there is no file {path!r}.')
    try:
        with dnnlib.util.open_url(path) as f:
            return read(f, path, option)['G_ema'].eval().requires_grad_(False).to(device)
    except OSError as error:
        raise UserError(f'{option}: {path!r} cannot be read ({_first_line(error)}).') from None

def read(file, path, option):
    """Upstream's legacy.load_network_pkl(file), a dict of networks. path and option are for the UserError it may raise."""
    try:
        return legacy.load_network_pkl(file)
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, KeyError, TypeError, ValueError, IndexError, AssertionError) as error:
        raise UserError(f'{option}: {path!r} is not a network pickle ({_first_line(error)}).') from None

def load_grouped(path, option, device='cpu'):
    """As load(), but only a generator with channel groups will do."""
    G = load(path, option, device)
    if not (hasattr(G.synthesis, 'block_resolutions') and grouped_layers(G.synthesis)):
        raise UserError(f'{option}: {path!r} holds a generator without channel groups.')
    return G

def _first_line(error):
    return (str(error).splitlines() or [''])[0] or type(error).__name__

#----------------------------------------------------------------------------
