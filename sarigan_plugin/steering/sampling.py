"""`sarigan generate`: images from a network pickle, with the options of upstream's generate.py."""

import functools
import os
import re

import click
import numpy as np
import PIL.Image
import torch

from sarigan_plugin.commands.options import PATH, PathName, cpu_bf16_option
from sarigan_plugin.errors import UserError, writing
from sarigan_plugin.snapshots import label_kind
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering.projection import Projection, noise_put_in
from sarigan_plugin.support import pictures
from sarigan_plugin.upstream import host

MAX_SEED = 2 ** 32 - 1      # NumPy's.
MAX_NUMBERS = 10 ** 6       # Of one option: a slip of the finger must not fill the memory.
MAX_NUMBER  = 1e6           # Of a scale, truncation or label: styles of any network stay finite.
MAX_LABEL   = 2 ** 20       # Bytes of a file that holds one.

#----------------------------------------------------------------------------

class NumberRange(click.ParamType):
    """'1,5,7' or '0-3' or both, '0-3,9' -> a list of seeds."""
    name = 'numbers'

    def convert(self, value, param, ctx):
        if isinstance(value, list):
            return value
        numbers = []
        for part in value.split(','):
            match = re.fullmatch(r'(\d{1,10})(?:-(\d{1,10}))?', part.strip())
            if match is None:
                self.fail(f'{value!r} is neither numbers, as in 1,5,7, nor a range, as in 0-3', param, ctx)
            first, last = int(match[1]), int(match[2] or match[1])
            if not first <= last <= MAX_SEED:
                self.fail(f'{part!r} is no range of numbers from 0 to {MAX_SEED}', param, ctx)
            if len(numbers) + last - first >= MAX_NUMBERS:
                self.fail(f'{value!r} is more than {MAX_NUMBERS} numbers', param, ctx)
            numbers += range(first, last + 1)
        return numbers

class Choices(click.ParamType):
    """'a,b' -> a list of them, each a known one; 'none' -> [] where that will do."""
    name = 'names'

    def __init__(self, known, what, or_none=False):
        """what: what each is, as 'a measure'."""
        self.known = known
        self.what = what
        self.or_none = or_none

    def convert(self, value, param, ctx):
        if isinstance(value, list):
            return value
        wanted = [] if self.or_none and value == 'none' else value.split(',')
        for name in wanted:
            if name not in self.known:
                self.fail(f'{name!r} is not {self.what}; they are {", ".join(self.known)}' + (', or none' if self.or_none else ''), param, ctx)
        return wanted

class Number(click.ParamType):
    """A finite number of a size that networks bear. click's own floats include nan."""
    name = 'number'

    def convert(self, value, param, ctx):
        try:
            number = float(value)
        except ValueError:
            number = float('nan')
        if not abs(number) <= MAX_NUMBER:
            self.fail(f'{value!r} is not a number from {-MAX_NUMBER:.0f} to {MAX_NUMBER:.0f}', param, ctx)
        return number

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

class Label(click.ParamType):
    """'1' -> 1, a class; '0.2,0.8' -> (0.2, 0.8), a label vector."""
    name = 'label'

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        if re.fullmatch(r'[+-]?\d{1,10}', value.strip()):
            return int(value)
        try:
            return label_vector(value)
        except ValueError:
            self.fail(f'{value!r:.60} is neither a class, as in 1, nor a label vector, as in 0.2,0.8', param, ctx)

class LabelFile(PathName):
    """A file of numbers, as JSON or plain text -> the label vector in it."""
    name = 'file'

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        try:
            with open(super().convert(value, param, ctx), encoding='utf-8') as f:
                return label_vector(f.read(MAX_LABEL))
        except OSError as error:
            self.fail(f'{value!r} cannot be read ({error.strerror})', param, ctx)
        except UnicodeDecodeError:
            self.fail(f'{value!r} is no text: it must hold a list of numbers, as in 0.2,0.8', param, ctx)
        except ValueError as error:
            self.fail(f'{value!r}: {error}', param, ctx)

def class_options(default=None, shown=None):
    """--class and --label, for a command that takes a class_idx: a class or a label vector.

    default: the class_idx where neither is given. shown: what the help says that it is.
    """
    text = 'Class, or label vector as in 0.2,0.8, for a conditional network'
    shown = default if shown is None else shown
    text += f'  [default: {shown}]' if shown is not None else ''
    def decorate(command):
        @click.option('--class', 'class_idx', help=text, type=Label(), metavar='INDEX|NUMBERS')
        @click.option('--label', help='File with a label vector, in place of --class', type=LabelFile(), metavar='FILE')
        @functools.wraps(command)
        def with_class(*args, class_idx, label, **kwargs):
            if class_idx is not None and label is not None:
                raise UserError('--label takes the place of --class; give one of the two.')
            given = label if class_idx is None else class_idx
            return command(*args, class_idx=default if given is None else given, **kwargs)
        return with_class
    return decorate

def class_flag():
    """By which of the two the class or label of the running command was given."""
    context = click.get_current_context(silent=True)
    return '--label' if context is not None and context.params.get('label') is not None else '--class'

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
        raise ValueError(f'{class_idx} is out of range: ' + (f'the classes are 0 to {G.c_dim - 1}.' if G.c_dim > 0 else 'the network has no classes.'))

def require_class(G, class_idx):
    """As check_class(), of what class_options() gave: raises UserError, also for networks that only complete images."""
    reading.refuse_inpainting(G)
    try:
        check_class(G, class_idx)
    except ValueError as error:
        raise UserError(f'{class_flag()}: {error}') from None

def render(G, w, noise_mode='const'):
    """The image of one code [1, num_ws, w_dim], uint8 [H, W, 3]. One at a time takes little memory at any resolution."""
    return pictures.to_uint8(G.synthesis(w, noise_mode=noise_mode))[0]

def _resolve_device(_ctx, _param, value):
    try:
        return torch.device(host.resolve_device(value))
    except ValueError as error:
        raise UserError(f'--device: {error}.') from None

_device_alone = click.option('--device', help='Where to generate', type=click.Choice(host.DEVICES), default='auto', show_default=True, callback=_resolve_device)

def device_option(command):
    """--device, and what a CPU computes in."""
    return _device_alone(cpu_bf16_option(command))

#----------------------------------------------------------------------------

@click.command()
@click.option('--network',      help='Network pickle, file or URL, or exported folder', required=True, type=PATH, metavar='PATH')
@click.option('--seeds',        help='Random seeds, e.g. 0-35 or 1,5,7', type=NumberRange())
@click.option('--trunc',        help='Truncation psi', type=Number(), default=1, show_default=True)
@class_options()
@click.option('--noise-mode',   help='Noise mode', type=click.Choice(['const', 'random', 'none']), default='const', show_default=True)
@click.option('--projected-w',  help='What `sarigan project` or projector.py found, in place of seeds', type=PATH, metavar='NPZ')
@reading.trust_option
@device_option
@click.option('--outdir',       help='Where to save the images', required=True, type=PATH, metavar='DIR')
def generate(network, seeds, trunc, class_idx, noise_mode, projected_w, trust, device, outdir):
    """Generate images with a network pickle of SariGAN or StyleGAN2-ADA, one PNG per seed.

    \b
    sarigan generate --network=out/demo/network.pkl --seeds=0-35 --outdir=out/images
    """
    G = reading.load(network, '--network', device, trust)
    if projected_w is None and seeds is None:
        raise UserError('--seeds is required where there is no --projected-w.')

    if projected_w is None:
        require_class(G, class_idx)
        names = [f'seed{seed:04d}.png' for seed in seeds]
        ws, noise = (sample_ws(G, [seed], trunc, class_idx) for seed in seeds), {} # One by one: there may be many.
    else:
        found = _read_projection(G, projected_w)
        ws, noise = found.ws.split(1), found.noise
        names = [f'proj{index:02d}.png' for index in range(len(ws))]

    with writing('--outdir', outdir):
        os.makedirs(outdir, exist_ok=True)
        with click.progressbar(zip(names, ws), length=len(names), label='Generating') as jobs, noise_put_in(G, noise):
            for name, w in jobs:
                pictures.save(PIL.Image.fromarray(render(G, w, noise_mode)), os.path.join(outdir, name))

def _read_projection(G, path):
    try:
        return Projection.read(path, G)
    except ValueError as error:
        raise UserError(f'--projected-w: {error}') from None

#----------------------------------------------------------------------------
