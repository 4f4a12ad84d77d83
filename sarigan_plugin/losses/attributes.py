"""The objective of losses/sarigan.py, and groups that have one attribute each: --grouping=attributes.

Half of the images that D judges are mixtures: of some groups they have the styles of another image, so that groups
don't depend on each other. A reader of attributes, which learns nothing any more, tells whether each attribute came
along with its group and with no other.

Index letters in shape comments: N images, O of them with codes of their own, M = N - O mixtures of these, g groups, of
one attribute each, K values of attributes that the reader tells.
"""

import torch

from sarigan_plugin.losses.sarigan import SariGANLoss, unwrapped
from sarigan_plugin.model.styles_at_once import groups_exchanged

from torch_utils import misc, training_stats

#----------------------------------------------------------------------------

def arranged(num_images, compared, device):
    """Where in a batch images have codes of their own, and where mixtures are: int64 [O], [M].

    The minibatch standard deviation of upstream's D compares so many images: n, n + F, n + 2F ..., F = N / compared. A
    mixture is like the two that it is made of, and beside them fakes would seem less varied than they are. So those
    that are compared are of one kind; that takes two sets of them.
    """
    order = (torch.arange(num_images, device=device) % max(num_images // compared, 1)).argsort(stable=True)
    return order.tensor_split([num_images - num_images // 2])

def second_images(num_own, num_mixtures, device):
    """[M]: of the O images, the second one that each mixture is made of; the first one is that of the same place.

    Half of them further on, so that of neighbours, which D compares, no two have an image in common.
    """
    return (torch.arange(num_mixtures, device=device) + max(num_own // 2, 1)) % num_own

def followed(read, mixed, second, taken, group_of):
    """How badly attributes follow their groups, [M, K]: the cross entropy of what is read in mixtures.

    read:         [O, K], logits of the images that mixtures are made of; above 0 = it is there.
    mixed:        [M, K], those of the mixtures.
    second:       [M], see second_images().
    taken:        bool [M, g], which groups a mixture has of the second.
    group_of:     [K] int64, the group of each value's attribute.
    What is read in the image that a group comes from is to be read in the mixture. No gradient goes there: it is the
    mixture that is wrong. 0 where one of the two images doesn't show an attribute, see shown().
    """
    there = read.detach() > 0
    of_groups = shown(there, group_of)
    in_both = of_groups[:len(mixed)] & of_groups[second] # [M, g]
    wanted = torch.where(taken[:, group_of], there[second], there[:len(mixed)])
    losses = torch.nn.functional.binary_cross_entropy_with_logits(mixed, wanted.to(mixed), reduction='none')
    return losses * in_both[:, group_of]

def shown(there, group_of):
    """Which images show the attribute of each group, bool [N, g]: one of its values is there.

    there: bool [N, K]. The colour of a hat isn't shown without a hat. An attribute with one value is there or not, and
    shown by both.
    """
    values = torch.nn.functional.one_hot(group_of).bool() # [K, g]
    return (there[:, :, None] & values).any(dim=1) | (values.sum(dim=0) == 1)

class AttributeLoss(SariGANLoss):
    """Accumulates the gradients of one phase; constructed and called by upstream's training_loop().

    Raises ValueError for a negative weight.
    """
    def __init__(self, *args,
        reader,                 # Images [N, C, R, R] in [-1, 1] -> logits [N, K], differentiable.
        group_of,               # [K], the group of each value's attribute: all of 0 to g - 1.
        lambda_attributes = 0.3, # Weight of followed(), summed over K, averaged over mixtures and groups.
        **kwargs,               # As SariGANLoss.
    ):
        super().__init__(*args, **kwargs)
        if not lambda_attributes >= 0:
            raise ValueError(f'lambda_attributes must be non-negative, not {lambda_attributes}')
        self.reader = reader
        self.group_of = torch.as_tensor(group_of, device=self.device)
        self.num_groups = int(self.group_of.max()) + 1
        self.lambda_attributes = lambda_attributes
        self.compared = getattr(unwrapped(self.D).b4.mbstd, 'group_size', 1) # See arranged().
        self.second = self.taken = None # Of the mixtures of the round, see followed().

    def fakes(self, z, c, sync):
        """As SariGANLoss.fakes(), half of them mixtures, see arranged(). A mixture has the label of its first image."""
        own, mixed = arranged(len(z), self.compared, z.device)
        codes = self.codes(z[:len(own)], c[:len(own)], sync)
        self.second = second_images(len(own), len(mixed), z.device)
        self.taken = torch.rand([len(mixed), self.num_groups], device=z.device) < 0.5
        places = torch.cat([own, mixed]).argsort() # What of these is at each place of the batch: [N].
        of_all = lambda of_own, of_mixed: torch.cat([of_own, of_mixed])[places]
        indices = torch.arange(len(own), device=z.device)
        first = of_all(indices, indices[:len(mixed)])
        others = of_all(own, own[self.second])
        taken = of_all(self.taken.new_zeros([len(own), self.num_groups]), self.taken)
        ws, c = codes[first], c[first]
        with misc.ddp_sync(self.G_synthesis, sync), groups_exchanged(unwrapped(self.G_synthesis), others, taken):
            return self.synthesize(ws, c), ws, c

    def _info_loss(self, predicted, ws):
        own, _mixed = arranged(len(ws), self.compared, ws.device) # A mixture has no code of its own.
        return super()._info_loss(predicted[own], ws[own])

    def _image_loss(self, img, c):
        own, mixed = arranged(len(img), self.compared, img.device)
        logits = self.reader(img.to(torch.float32))
        losses = followed(logits[own], logits[mixed], self.second, self.taken, self.group_of)
        training_stats.report('Loss/attributes', losses)
        return self.lambda_attributes * losses.sum() / max(len(losses), 1) / self.num_groups

#----------------------------------------------------------------------------
