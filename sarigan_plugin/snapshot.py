"""Reading networks, from pickles and from folders that `sarigan export` wrote: the one way in for all our commands.

Nothing that is inside of a file runs, unless the user trusts it. What can't be read gets a sentence, not a traceback.
"""

import os

import click
import dnnlib
import legacy

from sarigan_plugin import cpu_ops
from sarigan_plugin import ops
from sarigan_plugin import safe_pickle
from sarigan_plugin import weights
from sarigan_plugin.cli import UserError
from sarigan_plugin.networks import grouped_layers

#----------------------------------------------------------------------------

trust_option = click.option('--trust-pickle', 'trust', help='Run the code inside the pickle, as other StyleGAN tools do', is_flag=True)

def load(path, option, device='cpu', trust=False):
    """Load the averaged generator (G_ema) of a network pickle.

    path: file name or URL, or a folder that `sarigan export` wrote. option: what the user called it, for error messages.
    trust: see read(). Returns the network in eval mode, on `device`, with no gradients. Raises UserError.
    """
    return averaged(load_all(path, option, trust), device)

def averaged(data, device='cpu'):
    """The generator that load() returns, of what load_all() gave: to have the rest as well, the file is read once."""
    ops.choose_at_first_use()
    cpu_ops.prepare()
    return data['G_ema'].eval().requires_grad_(False).to(device)

def load_all(path, option, trust=False):
    """As load(), but all that is there: see read()."""
    if not dnnlib.util.is_url(path, allow_file_urls=True) and not os.path.exists(path):
        raise UserError(f'{option}: there is no file {path!r}.')
    try:
        with open_any(path) as f:
            return read(f, path, option, trust)
    except OSError as error:
        raise UserError(f'{option}: {path!r} cannot be read ({first_line(error)}).') from None

def open_any(path):
    """dnnlib.util.open_url(path), which may also be an exported folder. Returns a file for read()."""
    return dnnlib.util.open_url(os.path.join(path, weights.DESCRIPTION) if os.path.isdir(path) else path)

def read(file, path, option, trust=False):
    """The networks in an open file: a dict of G, D, G_ema, augment_pipe and training_set_kwargs, as upstream has it.

    path, option: for the UserError it may raise. trust: let upstream's own reader run the code in the pickle.
    """
    name = str(getattr(file, 'name', ''))
    try:
        if os.path.basename(name) == weights.DESCRIPTION:
            return weights.read(os.path.dirname(name))
        return legacy.load_network_pkl(file) if trust else safe_pickle.read(file.read())
    except safe_pickle.ForeignCode as error:
        raise UserError(f'{option}: {path!r} is not a network pickle of StyleGAN2-ADA or SariGAN ({first_line(error)}); --trust-pickle runs the code inside it.') from None
    except Exception as error: # pylint: disable=broad-except # Who knows what a broken or hostile file leads to.
        raise UserError(f'{option}: {path!r} is not a network pickle ({first_line(error)}).') from None

def load_grouped(path, option, device='cpu', trust=False, generates=True):
    """As load(), but only a generator with channel groups will do; where it is to generate, also none of inpainting."""
    G = load(path, option, device, trust)
    if generates:
        refuse_inpainting(G)
    if not (hasattr(G.synthesis, 'block_resolutions') and grouped_layers(G.synthesis)):
        raise UserError(f'{option}: {path!r} holds a generator without channel groups.')
    return G

def completes_images(network):
    """Whether it is a generator of inpainting, whose label is an image and a mask."""
    return hasattr(getattr(network, 'synthesis', None), 'encoder')

def refuse_inpainting(G):
    """For commands that make images from codes alone. Raises UserError."""
    if completes_images(G):
        raise UserError('The network completes images: `sarigan inpaint` fills their holes with it, `sarigan explore` on a page, and both edit the groups of what fills them.')

def first_line(error):
    """What an error says, fit for a sentence."""
    line = (str(error).splitlines() or [''])[0]
    return ''.join(letter if letter.isprintable() else '?' for letter in line[:200]) or type(error).__name__

#----------------------------------------------------------------------------
