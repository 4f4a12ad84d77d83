"""Reading networks, from pickles, from folders that `sarigan export` wrote and from the box: the one way in for all our
commands.

    >>> from sarigan_plugin.snapshots import reading
    >>> G = reading.from_pretrained('drawn32')              # A network of the box, see `sarigan list`; or a path.

Nothing that is inside of a file runs, unless the user trusts it. What can't be read gets a sentence, not a traceback.
"""

import math
import os

import torch

from sarigan_plugin.acceleration import cpu, ops
from sarigan_plugin.errors import UserError, first_line
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.snapshots import box, exported, unpickler, what_is

import dnnlib
import legacy

#----------------------------------------------------------------------------

def from_pretrained(network, device='cpu'):
    """The averaged generator of a network: the name of one in the box, the path of a pickle or of an exported folder,
    or a URL. Nothing that is inside runs. Raises UserError, one sentence, where there is none."""
    return load(os.fspath(network), 'network', device)

def load(path, option, device='cpu', trust=False):
    """Load the averaged generator (G_ema) of a network pickle.

    path: file name or URL, a folder that `sarigan export` wrote, or a name of the box. option: what the user called it,
    for error messages.
    trust: see read(). Returns the network in eval mode, on `device`, with no gradients. Raises UserError.
    """
    return averaged(load_all(path, option, trust), device)

def averaged(data, device='cpu'):
    """The generator that load() returns, of what load_all() gave: to have the rest as well, the file is read once."""
    ops.choose_at_first_use()
    cpu.prepare()
    return put(data['G_ema'], device)

def put(network, device):
    """The network itself, in eval mode, without gradients, on a device.

    On CPUs all of it computes in fp32, as stylegan3's code has it there: fp16 takes them ten times as long, and some
    lack a part of it.
    """
    if torch.device(device).type == 'cpu':
        for module in network.modules():
            if getattr(module, 'use_fp16', False):
                module.use_fp16 = module.channels_last = False
            if hasattr(module, 'fp16_resolution'): # Of an encoder.
                module.fp16_resolution = math.inf
    return network.eval().requires_grad_(False).to(device)

def load_all(path, option, trust=False):
    """As load(), but all that is there: see read()."""
    path = box.resolve(path)
    if not dnnlib.util.is_url(path, allow_file_urls=True):
        if not os.path.exists(path):
            other = f', and no network of that name in the box, which has {box.listed()}' if box.is_name(path) else ''
            raise UserError(f'{option}: there is no file {path!r}{other}.')
        if os.path.isdir(path) and not exported.is_exported(path):
            raise UserError(_is_none(option, path, what_is.folder(path)))
    try:
        with open_any(path) as f:
            return read(f, path, option, trust)
    except OSError as error:
        raise UserError(f'{option}: {path!r} cannot be read ({first_line(error)}).') from None

def open_any(path):
    """dnnlib.util.open_url(path), which may also be an exported folder. Returns a file for read()."""
    return dnnlib.util.open_url(exported.description_of(path) if os.path.isdir(path) else path)

def read(file, path, option, trust=False):
    """The networks in an open file: a dict of G, D, G_ema, augment_pipe and training_set_kwargs, as upstream has it.

    All but G_ema may be None. path, option: for the UserError it may raise. trust: run the code in the pickle? None =
    never, and the user can't ask for it.
    """
    name = str(getattr(file, 'name', ''))
    is_folder = os.path.basename(name) in exported.LAYOUTS
    kind = what_is.other_format(file, path) if not is_folder else None
    if kind is not None:
        raise UserError(_is_none(option, path, kind))
    try:
        file.seek(0)
        if is_folder:
            return exported.read(os.path.dirname(name))
        return _read_trusted(file) if trust else unpickler.read(file.read())
    except Exception as error: # Who knows what a broken or hostile file leads to.
        kind = what_is.other_pickle(file, path, converted=trust) if not is_folder else None
        if kind is not None:
            raise UserError(_is_none(option, path, kind)) from None
        if not isinstance(error, unpickler.ForeignCode):
            raise UserError(f'{option}: {path!r} is not a network pickle ({first_line(error)}).') from None
        ours = 'a network pickle of StyleGAN2-ADA or SariGAN'
        advice = ('code that is inside of a file never runs here' if trust is None
            else '--trust-pickle runs the code inside it')
        raise UserError(f'{option}: {path!r} is not {ours} ({first_line(error)}); {advice}.') from None

def _is_none(option, path, kind):
    return f'{option}: {path!r} is not a network pickle of StyleGAN2-ADA or SariGAN: it is {kind}.'

def _read_trusted(file):
    """As legacy.load_network_pkl(), which wants G and D as well."""
    found = legacy._LegacyUnpickler(file).load()
    if isinstance(found, tuple) and len(found) == 3: # Of TensorFlow.
        G, D, G_ema = found
        found = dict(G=legacy.convert_tf_generator(G), D=legacy.convert_tf_discriminator(D),
            G_ema=legacy.convert_tf_generator(G_ema))
    if isinstance(found, torch.nn.Module):
        found = dict(G_ema=found)
    if not isinstance(found, dict):
        raise ValueError(f'{type(found).__name__} stands where dict belongs')
    networks = {name: found.get(name) for name in exported.NETWORKS}
    for name, network in networks.items():
        if not isinstance(network, torch.nn.Module) and (network is not None or name == 'G_ema'):
            kind = type(network).__name__
            raise ValueError(f'it has no {name}' if network is None else f'its {name} is of the type {kind}')
    trained_on = found.get('training_set_kwargs')
    return dict(networks, training_set_kwargs=trained_on if isinstance(trained_on, dict) else None)

def read_to_train_on(file, path, option, trust=False):
    """As read(), for a training that starts from these networks."""
    return to_train_on(read(file, path, option, trust), path, option)

def to_train_on(data, path, option):
    """What read() gave, where a training can start from it: that takes G and D beside the average. Raises UserError."""
    there = [name for name in ['G', 'D', 'G_ema'] if data[name] is not None]
    missing = ' and no '.join(name for name in ['G', 'D'] if name not in there)
    if missing:
        raise UserError(f'{option}: {path!r} has no {missing}, which a training starts from; '
            f'there is {" and ".join(there)} alone.')
    return data

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
        raise UserError('The network completes images: `sarigan inpaint` fills their holes with it, '
            '`sarigan explore` on a page, and both edit the groups of what fills them.')

#----------------------------------------------------------------------------
