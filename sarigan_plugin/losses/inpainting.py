"""The objective of inpainting: that of losses/sarigan.py and the error of what fills the holes."""

import numpy as np
import torch

from sarigan_plugin.datasets import masks
from sarigan_plugin.losses.sarigan import SariGANLoss
from sarigan_plugin.model.inpainting import join_condition, split_condition

from torch_utils import training_stats

#----------------------------------------------------------------------------

def hole_errors(img, truth, hole):
    """Mean absolute error in the hole of each image, [N]. img, truth: [N, C, R, R]; hole: [N, 1, R, R] bool."""
    missing = hole.to(img.dtype)
    return ((img - truth).abs() * missing).sum(dim=[1,2,3]) / (missing.sum(dim=[1,2,3]) * img.shape[1]).clamp(min=1)

class InpaintingLoss(SariGANLoss):
    """Accumulates the gradients of one phase; constructed and called by upstream's training_loop().

    Every phase takes the real images of its round and draws new holes: upstream's labels, which the loop draws apart
    from the images, are not looked at. Raises ValueError for a negative weight.
    """
    def __init__(self, *args,
        mask_source = 'mixed',  # One of masks.KINDS, or a folder of masks.
        lambda_l1   = 10,       # Weight of the absolute error in the hole.
        **kwargs,               # As SariGANLoss.
    ):
        super().__init__(*args, **kwargs)
        if not lambda_l1 >= 0:
            raise ValueError(f'lambda_l1 must be non-negative, not {lambda_l1}')
        self.mask_source = mask_source
        self.lambda_l1 = lambda_l1
        self.truth = None # The images of this round, [N, C, R, R].

    def accumulate_gradients(self, phase, real_img, real_c, gen_z, gen_c, sync, gain):
        self.truth = real_img
        c = join_condition(real_img, self._draw_holes(real_img))
        super().accumulate_gradients(phase, real_img, c, gen_z, c, sync, gain)

    def _draw_holes(self, img):
        """[N, 1, R, R]. From numpy's own generator, whose state is saved with the training's."""
        random = np.random.RandomState(np.random.randint(2 ** 31))
        source = masks.Source(self.mask_source, img.shape[2])
        holes = np.stack([source.draw(random) for _image in img])
        return torch.from_numpy(holes).unsqueeze(1).to(img.device)

    def synthesize(self, ws, c, **block_kwargs):
        return self.G_synthesis(ws, c, **block_kwargs)

    def _image_loss(self, img, c):
        _image, hole = split_condition(c, img.shape[1], img.shape[2])
        errors = hole_errors(img, self.truth, hole)
        training_stats.report('Loss/l1', errors)
        return self.lambda_l1 * errors.mean()

#----------------------------------------------------------------------------
