"""What a training has seen of codes and styles lately: means and variances that follow its batches."""

import torch

from sarigan_plugin.model.networks import convolutions, split_codes

#----------------------------------------------------------------------------

STATISTICS_IMAGES = 1000 # After so many images what was seen of them counts half in running figures.

def seen(x):
    """Of a batch x, [N, K], of all processes: (number [], mean [K], variance [K]), in double precision.

    Where there are numbers that are not finite, the number is 0.
    """
    x = x.to(torch.float64)
    sums = torch.cat([x.sum(dim=0), x.square().sum(dim=0), x.new_tensor([len(x)])])
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(sums)
    sums = torch.where(sums.isfinite().all(), sums, 0)
    mean, square = (sums[:-1] / sums[-1].clamp(min=1)).chunk(2)
    return sums[-1], mean, square - mean.square()

def follow(running_mean, running_variance, count, mean, variance):
    """Let running figures, [K], follow those of seen(), exactly as if all images had been seen at once."""
    kept = 0.5 ** (count / STATISTICS_IMAGES)
    running_variance.copy_(kept * (running_variance + (1 - kept) * (mean - running_mean).square())
        + (1 - kept) * variance)
    running_mean.copy_(mean + kept * (running_mean - mean))

def exp_affines(synthesis):
    """{index of the code that it reads: ExpAffine} of layers whose inter-group styles are 'exp'; empty for others."""
    made = enumerate(getattr(layer, 'group_affine', None) for _name, layer in convolutions(synthesis))
    return {index: of_groups for index, of_groups in made if hasattr(of_groups, 'variance')}

@torch.no_grad()
def follow_inter_codes(synthesis, ws):
    """Let the layers whose inter-group styles are 'exp' see the codes of a batch of a training, see ExpAffine.

    ws: [N, num_ws, 2 * code_dim]. All processes see the images of all; a batch with numbers that are not finite is left
    out.
    """
    layers = [(of_groups, ws[:, index]) for index, of_groups in exp_affines(synthesis).items()]
    if not layers:
        return
    count, mean, variance = seen(torch.cat([of_groups.affine(split_codes(w)[0]) for of_groups, w in layers], dim=1))
    sizes = [len(of_groups.mean) for of_groups, _w in layers]
    for (of_groups, _w), *figures in zip(layers, mean.split(sizes), variance.split(sizes)):
        follow(of_groups.mean, of_groups.variance, count, *figures)

@torch.no_grad()
def follow_styles(D, styles):
    """Let D know how far styles vary, where Q predicts them: code_styles() of a batch of a training, (inter, intra).

    D: Discriminator, or that of inpainting. All processes see the images of all.
    """
    D = getattr(D, 'trunk', D)
    follow(D.style_mean, D.style_variance, *seen(torch.cat(styles, dim=1)))

#----------------------------------------------------------------------------
