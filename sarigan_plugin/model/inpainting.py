"""SariGAN's networks for image inpainting (Section 4.3): the label c is the masked image and its mask.

Labels reach both networks wherever upstream's code goes, so its training loop, sample sheets and metrics are those of
inpainting as soon as a label holds the condition. As networks.py, this file is pickled with the networks, so it imports
nothing but contextlib, torch, numpy, dnnlib and torch_utils, and asks for all layers by name.

Index letters in shape comments: N batch, C colour channels, R resolution.
"""

import contextlib

import numpy as np
import torch

import dnnlib
from torch_utils import misc, persistence

#----------------------------------------------------------------------------
# The condition.

def join_condition(image, hole):
    """image: [N, C, R, R], whose pixels in the hole don't matter; hole: [N, 1, R, R] bool, True = missing.

    Returns the label c [N, (C + 1) * R * R] in float32: the image with zeros in the hole, then the mask with ones.
    """
    image = torch.where(hole, torch.zeros_like(image), image)
    return torch.cat([image, hole.to(image.dtype)], dim=1).flatten(1).to(torch.float32)

def split_condition(c, img_channels, resolution):
    """What join_condition() joined: image [N, C, R, R], zero in the hole whatever c has, and hole [N, 1, R, R]."""
    misc.assert_shape(c, [None, (img_channels + 1) * resolution ** 2])
    c = c.to(torch.float32).unflatten(1, [img_channels + 1, resolution, resolution])
    image, mask = c.split([img_channels, 1], dim=1)
    hole = mask > 0.5
    return torch.where(hole, torch.zeros_like(image), image), hole

#----------------------------------------------------------------------------
# Encoders.

def _build(name, *args, **kwargs):
    """Build a layer by name, so that it is pickled with the source of its own module."""
    return dnnlib.util.construct_class_by_name(*args, class_name=name, **kwargs)

@persistence.persistent_class
class Encoder(torch.nn.Module):
    """Features of the masked image and the mask at every resolution, as many as a synthesis network has channels."""
    def __init__(self,
        img_resolution,         # Input resolution, pixels, a power of two.
        img_channels,           # Number of color channels of the masked image.
        channel_base = 32768,   # Channels at resolution R: channel_base / R ...
        channel_max  = 512,     # ... but no more than this.
        num_fp16_res = 0,       # Use fp16 for the N highest resolutions.
        conv_clamp   = None,    # Clamp the output of convolution layers to +-X, None = disable clamping.
    ):
        super().__init__()
        self.resolutions = [2 ** i for i in range(int(np.log2(img_resolution)), 1, -1)] # The highest first.
        self.channels = [min(channel_base // res, channel_max) for res in self.resolutions]
        self.fp16_resolution = max(2 * img_resolution // 2 ** num_fp16_res, 8) # As upstream's networks.
        def conv(*channels, **kwargs):
            kwargs.update(activation='lrelu', conv_clamp=conv_clamp)
            return _build('training.networks.Conv2dLayer', *channels, **kwargs)
        self.fromimage = conv(img_channels + 1, self.channels[0], kernel_size=1)
        for index, (res, channels) in enumerate(zip(self.resolutions, self.channels)):
            if index > 0:
                setattr(self, f'down{res}', conv(self.channels[index - 1], channels, kernel_size=3, down=2))
            setattr(self, f'conv{res}', conv(channels, channels, kernel_size=3))

    def forward(self, image, hole, force_fp32=False):
        """image: [N, C, R, R], hole: [N, 1, R, R]. Returns a list of features, from 4x4 up to the full resolution."""
        x = torch.cat([image, hole.to(image.dtype)], dim=1)
        features = []
        for res in self.resolutions:
            x = x.to(torch.float16 if res >= self.fp16_resolution and not force_fp32 else torch.float32)
            x = getattr(self, f'down{res}')(x) if features else self.fromimage(x)
            x = getattr(self, f'conv{res}')(x)
            features.insert(0, x)
        return features

@persistence.persistent_class
class GlobalCode(torch.nn.Module):
    """The condition as one vector; stands where upstream's mapping network embeds a label.

    The encoder is one of its own, of a quarter of the channels: DistributedDataParallel takes mapping and synthesis for
    two networks, and tools call them apart.
    """
    def __init__(self,
        out_features,           # Length of the vector.
        img_resolution,         # Resolution of the condition, pixels.
        img_channels,           # Number of color channels of the masked image.
        channel_base = 32768,   # As in the synthesis network, as is
        channel_max  = 512,     # the most channels.
    ):
        super().__init__()
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        channel_base = max(channel_base // 4, img_resolution)
        self.encoder = Encoder(img_resolution, img_channels, channel_base=channel_base, channel_max=channel_max)
        self.fc = _build('training.networks.FullyConnectedLayer', self.encoder.channels[-1] * 4 * 4, out_features)

    def forward(self, c):
        """c: see join_condition(). Returns [N, out_features]."""
        return self.fc(self.encoder(*split_condition(c, self.img_channels, self.img_resolution))[0].flatten(1))

#----------------------------------------------------------------------------
# Generator.

@contextlib.contextmanager
def joined_features(layers, features):
    """Inside the `with`, each layer reads its input and the features beside it, added up at the same variance."""
    with contextlib.ExitStack() as stack:
        for layer, feature in zip(layers, features):
            def join(_layer, args, feature=feature):
                return (args[0] + feature.to(args[0].dtype)) * np.sqrt(0.5), *args[1:]
            stack.callback(layer.register_forward_pre_hook(join).remove)
        yield

@persistence.persistent_class
class Synthesis(torch.nn.Module):
    """The blocks of a synthesis network, under their own names, with an encoder beside them."""
    def __init__(self,
        img_resolution,         # Output resolution, pixels.
        img_channels,           # Number of output color channels.
        **encoder_kwargs,       # Arguments for Encoder.
    ):
        super().__init__()
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.encoder = Encoder(img_resolution, img_channels, **encoder_kwargs)

    def take_blocks(self, network):
        """network: the synthesis network whose blocks become this one's."""
        self.w_dim = network.w_dim
        self.num_ws = network.num_ws
        self.block_resolutions = network.block_resolutions
        for name, block in network.named_children():
            self.add_module(name, block)

    def forward(self, ws, c, **block_kwargs):
        """ws: [N, num_ws, w_dim], c: see join_condition(). Returns images [N, C, R, R].

        Their known pixels are those of c, bit by bit. The features of the encoder join the second convolution of each
        block, which reads and writes the block's resolution.
        """
        misc.assert_shape(ws, [None, self.num_ws, self.w_dim])
        image, hole = split_condition(c, self.img_channels, self.img_resolution)
        blocks = [getattr(self, f'b{res}') for res in self.block_resolutions]
        features = self.encoder(image, hole, force_fp32=block_kwargs.get('force_fp32', False))
        x = img = None
        first = 0
        with joined_features([block.conv1 for block in blocks], features):
            for block in blocks:
                of_block = ws[:, first : first + block.num_conv + block.num_torgb].to(torch.float32)
                x, img = block(x, img, of_block, **block_kwargs)
                first += block.num_conv
        return torch.where(hole, img, image)

@persistence.persistent_class
class Generator(torch.nn.Module):
    """The generator of networks.py, completing images; `grouping='none'` is StyleGAN2 with its encoders (Table 5)."""
    def __init__(self,
        z_dim,                      # Input latent (Z) dimensionality.
        c_dim,                      # Length of the condition, see join_condition().
        img_resolution,             # Output resolution, pixels, a power of two.
        img_channels,               # Number of output color channels.
        code_dim            = 512,  # Dimensionality of each of the two codes.
        synthesis_kwargs    = {},   # Arguments for upstream's SynthesisNetwork.
        **generator_kwargs,         # Other arguments for the generator of networks.py.
    ):
        super().__init__()
        image = dict(img_resolution=img_resolution, img_channels=img_channels)
        inner = _build('sarigan_plugin.networks.Generator', z_dim=z_dim, c_dim=1, code_dim=code_dim,
            synthesis_kwargs=synthesis_kwargs, **image, **generator_kwargs)
        def given(*names):
            return {name: synthesis_kwargs[name] for name in names if name in synthesis_kwargs}
        size, precision = given('channel_base', 'channel_max'), given('num_fp16_res', 'conv_clamp')
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = inner.w_dim
        self.code_dim = code_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.num_groups = inner.num_groups
        self.num_ws = inner.num_ws
        self.synthesis = Synthesis(**image, **size, **precision)
        self.synthesis.take_blocks(inner.synthesis)
        self.mapping = inner.mapping
        self.mapping.c_dim = c_dim
        self.mapping.embed = GlobalCode(inner.mapping.embed.weight.shape[0], **image, **size)

    def forward(self, z, c, truncation_psi=1, truncation_cutoff=None, **synthesis_kwargs):
        """z: [N, z_dim], c: see join_condition(). Returns images [N, C, R, R], about [-1, 1], known pixels as in c."""
        ws = self.mapping(z, c, truncation_psi=truncation_psi, truncation_cutoff=truncation_cutoff)
        return self.synthesis(ws, c, **synthesis_kwargs)

#----------------------------------------------------------------------------
# Discriminator and Q.

@persistence.persistent_class
class Discriminator(torch.nn.Module):
    """The discriminator of networks.py, which sees the mask as one more channel of the image."""
    def __init__(self,
        c_dim,                  # Length of the condition, see join_condition().
        img_resolution,         # Input resolution, pixels.
        img_channels,           # Number of input color channels.
        **trunk_kwargs,         # Other arguments for the discriminator of discriminator.py.
    ):
        super().__init__()
        self.c_dim = c_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.trunk = _build('sarigan_plugin.networks.Discriminator', c_dim=0, img_resolution=img_resolution,
            img_channels=img_channels + 1, **trunk_kwargs)

    @property
    def b4(self):
        """The last block, as upstream names it."""
        return self.trunk.b4

    def style_deviation(self):
        """See the discriminator of discriminator.py."""
        return self.trunk.style_deviation()

    def forward(self, img, c, return_codes=False, **block_kwargs):
        """img: [N, C, R, R], c: see join_condition(). Returns what the discriminator of discriminator.py does."""
        _image, hole = split_condition(c, self.img_channels, self.img_resolution)
        return self.trunk(torch.cat([img, hole.to(img.dtype)], dim=1), None, return_codes=return_codes, **block_kwargs)

#----------------------------------------------------------------------------
