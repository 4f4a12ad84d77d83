"""What upstream's generate.py, style_mixing.py and projector.py lack: grey networks, labels, videos without ffmpeg.

They count on images of three channels, two of them pass no label at all, and projector.py loses its result where no MP4
can be written.
"""

import contextlib
import functools
import inspect
import os
import sys

import click
import numpy as np
import PIL.Image

from sarigan_plugin.commands.options import class_options, require_class
from sarigan_plugin.commands.project import FRAMES
from sarigan_plugin.snapshots import reading
from sarigan_plugin.steering.sampling import labels
from sarigan_plugin.support import pictures
from sarigan_plugin.upstream.exchanges import Overlay, exchange, undo

#----------------------------------------------------------------------------

def take_any_network(command):
    """Have a script's click command take grey and conditional networks, with --class and --label, in place."""
    run = command.callback
    script = inspect.unwrap(run).__module__
    has_class = any(param.name == 'class_idx' for param in command.params)

    @class_options()
    @functools.wraps(run)
    def with_any_network(*args, class_idx, **options):
        needs_label = options.get('projected_w') is None
        if has_class:
            options['class_idx'] = None if class_idx is None else 0 # Which one it is, the network knows by then.
        with _exchanged(script, class_idx, needs_label):
            run(*args, **options)

    ours = click.command()(with_any_network).params
    command.params = [*(param for param in command.params if param.name != 'class_idx'), *ours]
    command.callback = with_any_network

@contextlib.contextmanager
def _exchanged(script, class_idx, needs_label):
    """Inside the `with`, a script reads adapted networks, and writes animated PNGs where it can't write MP4."""
    def adapting(legacy):
        load = lambda *args, **kwargs: _adapted(legacy.load_network_pkl(*args, **kwargs), class_idx, needs_label)
        return Overlay(legacy, load_network_pkl=load)
    exchange(script, 'legacy', adapting, 'projector.py:165 and style_mixing.py:65 count on three channels and no label')
    if hasattr(sys.modules[script], 'imageio') and not pictures.has_mp4():
        exchange(script, 'imageio', lambda imageio: Overlay(imageio, get_writer=AnimatedPicture),
            'projector.py:189 writes an MP4, which needs imageio-ffmpeg')
    try:
        yield
    finally:
        undo(script, 'legacy')
        undo(script, 'imageio')

def _adapted(data, class_idx, needs_label):
    """The networks of a pickle, with G_ema changed in place: three channels, and one label whatever it gets."""
    G = data['G_ema']
    reading.refuse_inpainting(G)
    if needs_label:
        require_class(G, class_idx)
    if G.c_dim > 0 and class_idx is not None:
        G.mapping.register_forward_pre_hook(functools.partial(_put_label, class_idx))
    if G.img_channels == 1:
        G.img_channels = 3
        G.synthesis.register_forward_hook(_three_channels)
    return data

def _put_label(class_idx, mapping, args):
    z, _c, *others = args
    return z, labels(mapping, len(z), class_idx), *others

def _three_channels(_synthesis, _args, images):
    return images.expand(-1, 3, -1, -1)

#----------------------------------------------------------------------------

class AnimatedPicture:
    """In place of imageio's writer of an MP4, without ffmpeg: an animated PNG, of 2 * FRAMES at most."""

    def __init__(self, path, fps, **_of_mp4):
        self.path = path
        self.fps = fps
        self.frames = []
        self.step = 1   # Each so manieth frame is kept.
        self.count = 0

    def append_data(self, frame):
        if self.count % self.step == 0:
            self.frames.append(frame)
        if len(self.frames) > 2 * FRAMES:
            self.frames, self.step = self.frames[::2], 2 * self.step
        self.count += 1

    def close(self):
        path = f'{os.path.splitext(self.path)[0]}-video.png'
        pictures.save_animation(path, [PIL.Image.fromarray(np.asarray(frame)) for frame in self.frames], self.fps)
        click.echo('Warning: MP4 needs imageio-ffmpeg, which is not installed (pip install imageio-ffmpeg): '
            f'the video is {path}, an animated PNG.', err=True)

#----------------------------------------------------------------------------
