"""StyleGAN2 as stylegan3's training/networks_stylegan2.py pickles it, in terms of upstream's training/networks.py.

Both compute the same. Constructors there take other arguments, with other defaults, and layers remember their sizes for
printing.
"""

# What modules have there and not here. On the GPU a training's choice of fused_modconv changes the rounding alone.
MORE_ATTRIBUTES = (
    'in_features', 'out_features', 'in_channels', 'out_channels', 'w_dim', 'num_fp16_res', 'fused_modconv_default')

MARK = 'in_features' # Every network has fully connected layers, and theirs alone this attribute.

# Of the generator itself; the rest is for its synthesis network.
_OWN_ARGUMENTS = ('z_dim', 'c_dim', 'w_dim', 'img_resolution', 'img_channels', 'mapping_kwargs')
_PRECISION = dict(num_fp16_res=4, conv_clamp=256) # Defaults; 0 and None here.

def arguments(class_name, kwargs):
    """Keyword arguments of their Generator or Discriminator as ours takes them."""
    if class_name == 'Discriminator':
        return {**_PRECISION, **kwargs}
    own = {key: value for key, value in kwargs.items() if key in _OWN_ARGUMENTS}
    synthesis = {key: value for key, value in kwargs.items() if key not in (*_OWN_ARGUMENTS, 'fused_modconv_default')}
    mapping = own.get('mapping_kwargs', {})
    if isinstance(mapping, dict):
        mapping = {'w_avg_beta': 0.998, **mapping}
    return {**own, 'mapping_kwargs': mapping, 'synthesis_kwargs': {**_PRECISION, **synthesis}}

#----------------------------------------------------------------------------
