"""The objective of losses/sarigan.py, and groups that have one attribute each: --grouping=attributes.

Half of the images are mixtures: of some groups they have the styles of another image. D judges them as any others, so
that groups don't depend on each other, and a reader of attributes, which learns nothing any more, tells whether each
attribute came along with its group and with no other, and those without a group with none.

Index letters in shape comments: N images, M of them mixtures, g groups, a >= g attributes, of which the first g have a
group each, K values of attributes that the reader tells.
"""

import torch

from sarigan_plugin.losses.sarigan import SariGANLoss, unwrapped
from sarigan_plugin.model.styles_at_once import groups_exchanged

from torch_utils import misc, training_stats

#----------------------------------------------------------------------------

def num_mixtures(num_images):
    """The last half of the images of a round, rounded down."""
    return num_images // 2

def followed(logits, others, taken, attribute_of):
    """How badly attributes follow their groups, [M, K]: the cross entropy of what is read in mixtures.

    logits:       [N, K], above 0 = it is there. The last M images are mixtures of the first ones.
    others:       [M], the second image of each mixture; the first one is that of the same place.
    taken:        bool [M, g], which groups a mixture has of the second.
    attribute_of: [K] int64, the attribute of each value.
    What is read in the image that a group comes from is to be read in the mixture, and of attributes without a group,
    what is read in its first image. No gradient goes there: it is the mixture that is wrong. 0 where one of the two
    images doesn't show an attribute, see shown().
    """
    mixtures = len(others)
    there = logits.detach() > 0
    of_attributes = shown(there, attribute_of)
    in_both = of_attributes[:mixtures] & of_attributes[others] # [M, a]
    taken = torch.nn.functional.pad(taken, [0, in_both.shape[1] - taken.shape[1]])
    wanted = torch.where(taken[:, attribute_of], there[others], there[:mixtures])
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logits[len(logits) - mixtures:], wanted.to(logits),
        reduction='none')
    return losses * in_both[:, attribute_of]

def shown(there, attribute_of):
    """Which images show each attribute, bool [N, a]: one of its values is there.

    there: bool [N, K]. The colour of a hat isn't shown without a hat. An attribute with one value is there or not, and
    shown by both.
    """
    values = torch.nn.functional.one_hot(attribute_of).bool() # [K, a]
    return (there[:, :, None] & values).any(dim=1) | (values.sum(dim=0) == 1)

class AttributeLoss(SariGANLoss):
    """Accumulates the gradients of one phase; constructed and called by upstream's training_loop().

    Raises ValueError for a negative weight.
    """
    def __init__(self, *args,
        reader,                 # Images [N, C, R, R] in [-1, 1] -> logits [N, K], differentiable.
        attribute_of,           # [K], the attribute of each: all of 0 to a - 1.
        num_groups,             # g: attributes from there on have no group, and stay as they are in the first image.
        lambda_attributes = 0.3, # Weight of followed(): its mean over mixtures and the attributes that have groups,
                                # summed over their values, plus the same of those that have none.
        **kwargs,               # As SariGANLoss.
    ):
        super().__init__(*args, **kwargs)
        if not lambda_attributes >= 0:
            raise ValueError(f'lambda_attributes must be non-negative, not {lambda_attributes}')
        self.reader = reader
        self.attribute_of = torch.as_tensor(attribute_of, device=self.device)
        self.num_groups = num_groups
        without = int(self.attribute_of.max()) + 1 - num_groups
        self.weights = torch.where(self.attribute_of < num_groups, 1 / num_groups, 1 / max(without, 1)) # [K]
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
        losses = followed(self.reader(img.to(torch.float32)), self.others, self.taken, self.attribute_of)
        training_stats.report('Loss/attributes', losses)
        return self.lambda_attributes * (losses * self.weights).sum() / max(len(losses), 1)

#----------------------------------------------------------------------------
