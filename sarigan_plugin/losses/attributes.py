"""The objective of losses/sarigan.py, and groups that have one attribute each: --grouping=attributes.

Half of the images are mixtures: of some groups they have the styles of another image. D judges them as any others, so
that groups don't depend on each other, and a reader of attributes, which learns nothing any more, tells whether each
attribute came along with its group and with no other.

Index letters in shape comments: N images, M of them mixtures, g groups, K what the reader tells.
"""

import torch

from sarigan_plugin.losses.sarigan import SariGANLoss, unwrapped
from sarigan_plugin.model.styles_at_once import groups_exchanged

from torch_utils import misc, training_stats

#----------------------------------------------------------------------------

def num_mixtures(num_images):
    """The last half of the images of a round, rounded down."""
    return num_images // 2

def followed(logits, others, taken, group_of):
    """How badly attributes follow their groups, [M, K]: the cross entropy of what is read in mixtures.

    logits:   [N, K], above 0 = it is there. The last M images are mixtures of the first ones.
    others:   [M], the second image of each mixture; the first one is that of the same place.
    taken:    bool [M, g], which groups a mixture has of the second.
    group_of: [K] int64, the group of each.
    What is read in the image that a group comes from is to be read in the mixture. No gradient goes there: it is the
    mixture that is wrong. 0 where one of the two images doesn't show an attribute, see shown().
    """
    mixtures = len(others)
    there = logits.detach() > 0
    wanted = torch.where(taken[:, group_of], there[others], there[:mixtures])
    in_both = shown(there, group_of)
    in_both = (in_both[:mixtures] & in_both[others])[:, group_of]
    return in_both * torch.nn.functional.binary_cross_entropy_with_logits(logits[len(logits) - mixtures:],
        wanted.to(logits), reduction='none')

def shown(there, group_of):
    """Which images show the attribute of each group, bool [N, g]: one of its values is there.

    there: bool [N, K]. The colour of a hat isn't shown without a hat. An attribute with one value is there or not, and
    shown by both.
    """
    of_groups = torch.nn.functional.one_hot(group_of).bool() # [K, g]
    return (there[:, :, None] & of_groups).any(dim=1) | (of_groups.sum(dim=0) == 1)

class AttributeLoss(SariGANLoss):
    """Accumulates the gradients of one phase; constructed and called by upstream's training_loop().

    Raises ValueError for a negative weight.
    """
    def __init__(self, *args,
        reader,                 # Images [N, C, R, R] in [-1, 1] -> logits [N, K], differentiable.
        group_of,               # [K], the group that each of them is to follow.
        lambda_attributes = 0.3, # Weight of followed(), summed over K, divided by the number of groups.
        **kwargs,               # As SariGANLoss.
    ):
        super().__init__(*args, **kwargs)
        if not lambda_attributes >= 0:
            raise ValueError(f'lambda_attributes must be non-negative, not {lambda_attributes}')
        self.reader = reader
        self.group_of = torch.as_tensor(group_of, device=self.device)
        self.num_groups = int(self.group_of.max()) + 1
        self.lambda_attributes = lambda_attributes
        self.others = self.taken = None # Of the mixtures of the round, see followed().

    def accumulate_gradients(self, phase, real_img, real_c, gen_z, gen_c, sync, gain):
        mixtures = num_mixtures(len(gen_c))
        gen_c = torch.cat([gen_c[:len(gen_c) - mixtures], gen_c[:mixtures]]) # A mixture has the label of its first.
        super().accumulate_gradients(phase, real_img, real_c, gen_z, gen_c, sync, gain)

    def generate(self, z, c, sync):
        """As SariGANLoss.generate(); the last images are mixtures of the first ones, whose codes they have again."""
        mixtures = num_mixtures(len(z))
        own = len(z) - mixtures
        ws = self.codes(z[:own], c[:own], sync)
        self.others = torch.arange(mixtures, device=z.device).sub(1) % own
        self.taken = torch.rand([mixtures, self.num_groups], device=z.device) < 0.5
        others = torch.cat([torch.arange(own, device=z.device), self.others])
        taken = torch.cat([self.taken.new_zeros([own, self.num_groups]), self.taken])
        ws = torch.cat([ws, ws[:mixtures]])
        with misc.ddp_sync(self.G_synthesis, sync), groups_exchanged(unwrapped(self.G_synthesis), others, taken):
            return self.synthesize(ws, c), ws

    def _info_loss(self, predicted, ws):
        own = len(ws) - num_mixtures(len(ws)) # A mixture has no code of its own.
        return super()._info_loss(predicted[:own], ws[:own])

    def _image_loss(self, img, c):
        losses = followed(self.reader(img.to(torch.float32)), self.others, self.taken, self.group_of)
        training_stats.report('Loss/attributes', losses)
        return self.lambda_attributes * losses.sum(dim=1).sum() / max(len(losses), 1) / self.num_groups

#----------------------------------------------------------------------------
