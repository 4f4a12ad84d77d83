"""How much of an image the inter-group code decides, kept where a config wants it, if its styles are 'exp'.

As ADA keeps an overfitting heuristic at its target by the strength of augmentation, this keeps the share by beta, the
standard deviation of log h: see networks.ExpAffine. One beta is for all layers.
"""

import torch

from sarigan_plugin.model.networks import split_codes

STEP            = 0.02      # Of log beta at a look that finds no share at all,
MOST            = 3         # and so many of these steps down, at most.
LOWEST, HIGHEST = 0.02, 2   # beta.

#----------------------------------------------------------------------------

@torch.no_grad()
def decided(synthesize, ws):
    """The share of the image that the inter-group code decides, scalar: the squared change of images that get that code
    of the image before them, over that of images that get both.

    synthesize: ws [N, num_ws, 2 * code_dim] -> images [N, C, H, W]; noise of its own would count as a change. The batch
    is that of all processes, but neighbours are those of one. No change at all, as in a batch of one image, is NaN.
    """
    others = ws.roll(1, dims=0)
    of_inter = torch.cat([split_codes(others)[0], split_codes(ws)[1]], dim=2)
    images = synthesize(ws).to(torch.float32)
    changes = torch.stack([(synthesize(codes) - images).square().mean() for codes in [of_inter, others]])
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(changes)
    return changes[0] / changes[1]

@torch.no_grad()
def steer(affines, share, target):
    """Turn beta up where the share is below its target, and down where it is above. Returns the new beta.

    The farther off, the more: so it is the mean of shares that comes to the target, and not their median, which is
    smaller. A share that is no number changes nothing. affines: a list of the ExpAffine of each layer.
    """
    steps = (1 - share / target).clamp(min=-MOST).nan_to_num(0)
    beta = (affines[0].beta * torch.exp(STEP * steps)).clamp(LOWEST, HIGHEST)
    for of_groups in affines:
        of_groups.slope.copy_(beta / of_groups.affine.weight_gain)
    return beta

#----------------------------------------------------------------------------
