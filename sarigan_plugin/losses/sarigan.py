"""The objective of Eq. 7, adversarial + lambda_group * L_g - lambda_info * L_I, in the phases of upstream's loop."""

import contextlib

import numpy as np
import torch

from sarigan_plugin.losses.inter_share import decided, steer
from sarigan_plugin.losses.shared_weights import SharedWeights
from sarigan_plugin.model.grouped import captured_features, code_styles, grouped_layers, inter_positions
from sarigan_plugin.model.grouping import (
    MERGE_AFTER,
    ChannelGrouping,
    KMeansGrouping,
    MergingGrouping,
    channel_responses,
    grouping_losses,
)
from sarigan_plugin.model.networks import split_codes
from sarigan_plugin.model.running_figures import exp_affines, follow_inter_codes, follow_styles

from torch_utils import misc, training_stats
from torch_utils.ops import conv2d_gradfix

PAPER_CODE_DIM = 512 # The width of the codes at which the paper's lambda_2 = 10 was found.
# Steps for which the grouping loss keeps its targets, as many as R1 waits: kernels turn slowly, and C*C cosines are
# most of its cost.
TARGET_STEPS = 16

#----------------------------------------------------------------------------

def unwrapped(module):
    """The network itself, where DistributedDataParallel may have wrapped it."""
    return getattr(module, 'module', module)

def info_targets(ws, synthesis=None, positions=slice(None)):
    """What Q is to predict of images: (inter, intra), [N, K] each.

    ws:        [N, num_ws, 2 * code_dim], the codes that made each layer. Under style mixing they differ between layers,
               and the mean over layers is what a single prediction can hope for: the gradient is that of the likelihood
               averaged over layers.
    synthesis: Where given, the targets are what its grouped layers make of the codes, each layer of its own.
    positions: Of the codes whose inter-group half is read, see inter_positions(). Layers read all intra-group halves.
    """
    if synthesis is not None:
        return code_styles(synthesis, ws)
    inter, intra = split_codes(ws)
    return inter[:, positions].mean(dim=1), intra.mean(dim=1)

def info_losses(predicted, targets, deviation=1):
    """Negative log-likelihood of the codes under Q's Gaussian, times two and up to constants (Eq. 8; paper: -L_I).

    Of unit variance, or of a deviation given for each number, [K], which leaves the squared error in parts of it.
    predicted:    [N, K_inter + K_intra] from the Q head, the mean.
    targets:      Of info_targets(). No gradient into them: codes would shrink to be guessed easily.
    Returns (inter, intra), [N] each, averaged over K.
    """
    loss = ((predicted - torch.cat(targets, dim=1).detach()) / deviation).square()
    inter, intra = loss.split([target.shape[1] for target in targets], dim=1)
    return inter.mean(dim=1), intra.mean(dim=1)

#----------------------------------------------------------------------------

class SariGANLoss:
    """Accumulates the gradients of one phase; constructed and called by upstream's training_loop().

    Raises ValueError for a negative weight or an unknown name.
    """
    def __init__(self,
        device,                     # Device of the networks.
        G_mapping,                  # Mapping network, possibly wrapped by DistributedDataParallel, as the two below.
        G_synthesis,                # Synthesis network with grouped layers.
        D,                          # Discriminator with the Q head.
        augment_pipe        = None, # Augmentation of all images that D sees, None = disable.
        lambda_group        = 2,    # Weight of the grouping loss (paper: lambda_1).
        lambda_info         = 10,   # Weight of the info loss (paper: lambda_2).
        # Channels of learned groups have similar 'kernels' (Eq. 1), or 'responses' to the batch of the step.
        similarity          = 'kernels',
        info_target         = 'codes', # Q predicts the 'codes' in w, or the 'styles' that grouped layers make of them.
        inter_share         = 0.3,  # How much of an image the inter-group code decides, where its styles are 'exp'.
        info_mixing         = 'mean', # Under style mixing Q aims at the 'mean' of the codes, or 'skip' the info loss.
        style_mixing_prob   = 0.9,  # Probability that a batch mixes two styles.
        r1_gamma            = 10,   # Weight of the R1 penalty.
        pl_weight           = 2,    # Weight of the path length penalty.
        pl_batch_shrink     = 2,    # Path length uses one in so many samples.
        pl_decay            = 0.01, # How fast the mean path length follows.
        regroup_kimg        = 4,    # Thousands of images between two refreshes of k-means groups,
                                    # two rounds of merging, or two measurements of effects, see the trainer.
    ):
        weights = dict(lambda_group=lambda_group, lambda_info=lambda_info, r1_gamma=r1_gamma, pl_weight=pl_weight)
        for name, weight in weights.items():
            if not weight >= 0:
                raise ValueError(f'{name} must be non-negative, not {weight}')
        choices = [
            ('similarity',  similarity,  ('kernels', 'responses')),
            ('info_target', info_target, ('codes', 'styles')),
            ('info_mixing', info_mixing, ('mean', 'skip')),
        ]
        for name, value, known in choices:
            if value not in known:
                raise ValueError(f"{name} must be '{known[0]}' or '{known[1]}', not {value!r}")
        if not 0 < inter_share < 1:
            raise ValueError(f'inter_share must be between 0 and 1, not {inter_share}')
        if not regroup_kimg > 0:
            raise ValueError(f'regroup_kimg must be positive, not {regroup_kimg}')
        self.device = device
        self.G_mapping = G_mapping
        self.G_synthesis = G_synthesis
        self.shared_weights = SharedWeights()
        self.D = D
        self.augment_pipe = augment_pipe
        self.lambda_group = lambda_group
        self.lambda_info = lambda_info
        self.similarity = similarity
        self.info_target = info_target
        self.info_mixing = info_mixing
        self.inter_share = inter_share
        self.style_mixing_prob = style_mixing_prob
        self.r1_gamma = r1_gamma
        self.pl_weight = pl_weight
        self.pl_batch_shrink = pl_batch_shrink
        self.pl_decay = pl_decay
        self.pl_mean = torch.zeros([], device=device)
        self.regroup_nimg = regroup_kimg * 1000
        self.images_to_regroup = self.regroup_nimg
        self.average = None # G_ema, see set_average().
        self.is_first_step = True # It finds the k-means groups of a new network; those of one that goes on stay.
        self.grouping_targets = dict() # {layer name: what ChannelGrouping.target() gave}, made anew ...
        self.steps_to_targets = 0 # ... after so many steps.
        self.num_processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1

    def state_dict(self):
        """What is remembered from step to step: tensors, numbers, and dicts and tuples of them."""
        return dict(
            pl_mean             = self.pl_mean,
            images_to_regroup   = self.images_to_regroup,
            steps_to_targets    = self.steps_to_targets,
            grouping_targets    = self.grouping_targets,
        )

    def load_state_dict(self, state):
        """Go on with a state_dict(), whose tensors may be on another device."""
        self.pl_mean.copy_(state['pl_mean'])
        self.images_to_regroup = state['images_to_regroup']
        self.steps_to_targets = state['steps_to_targets']
        self.grouping_targets = {name: tuple(part if part is None else part.to(self.device) for part in target)
            for name, target in state['grouping_targets'].items()}

    def set_average(self, G_ema):
        """G_ema: the average of the generator that the training loop keeps.

        Its groups merge when the generator's do.
        """
        self.average = G_ema

    def accumulate_gradients(self, phase, real_img, real_c, gen_z, gen_c, sync, gain):
        """One round of one phase: 'Gmain', 'Greg', 'Gboth', 'Dmain', 'Dreg' or 'Dboth'. `sync` marks the last round."""
        if phase in ['Gmain', 'Gboth']:
            path_length_follows = (phase == 'Gboth' and self.pl_weight > 0)
            with self.shared_weights.round(self.G_synthesis, last=sync and not path_length_follows):
                self._fool_discriminator(gen_z, gen_c, sync and not path_length_follows, last=sync).mul(gain).backward()
        if phase in ['Greg', 'Gboth'] and self.pl_weight > 0:
            with self.shared_weights.round(self.G_synthesis, last=sync):
                self._regularise_path_length(gen_z, gen_c, sync).mul(gain).backward()
        if phase in ['Gmain', 'Gboth']:
            self._regroup(len(gen_z), last=sync)
            if sync and self.steps_to_targets == 0: # As often as may be at next to no cost.
                self._keep_share(gen_z, gen_c)
        r1_is_due = (phase in ['Dreg', 'Dboth'] and self.r1_gamma > 0)
        if phase in ['Dmain', 'Dboth']:
            with self.shared_weights.round(self.G_synthesis, last=sync):
                self._tell_apart(real_img, real_c, gen_z, gen_c, sync and not r1_is_due).mul(gain).backward()
        if r1_is_due:
            self._regularise_slopes(real_img, real_c, sync).mul(gain).backward()

    # Networks.

    def generate(self, z, c, sync):
        """z: [N, z_dim], c: [N, c_dim]. Returns images [N, C, H, W] and the ws [N, num_ws, w_dim] that made them."""
        ws = self.codes(z, c, sync)
        with misc.ddp_sync(self.G_synthesis, sync):
            return self.synthesize(ws, c), ws

    def fakes(self, z, c, sync):
        """Images that D is to judge, their ws and their labels, for z and c as of generate()."""
        return *self.generate(z, c, sync), c

    def codes(self, z, c, sync):
        """ws [N, num_ws, w_dim] of z and c, as of generate()."""
        with misc.ddp_sync(self.G_mapping, sync):
            return self.G_mapping(z, c) if self.style_mixing_prob == 0 else self._mixed_codes(z, c)

    def _mixed_codes(self, z, c):
        """ws [N, num_ws, w_dim] whose layers from some on are, in most batches, those of other codes;
        one call makes both."""
        mapping = unwrapped(self.G_mapping)
        # Drawn even when unused: all ranks take the same path, and the same seed the same numbers.
        crossover = torch.randint(1, mapping.num_ws, [], device=z.device)
        crossover = torch.where(torch.rand([], device=z.device) < self.style_mixing_prob, crossover, mapping.num_ws)
        ws, other = self.G_mapping(torch.cat([z, torch.randn_like(z)]), torch.cat([c, c]),
            skip_w_avg_update=True).chunk(2)
        # The others have no part in it.
        mapping.w_avg.copy_(ws[:, 0].detach().mean(dim=0).lerp(mapping.w_avg, mapping.w_avg_beta))
        layers = torch.arange(mapping.num_ws, device=z.device)[:, None]
        return torch.where(layers < crossover, ws, other)

    def synthesize(self, ws, c, **block_kwargs):
        """Images [N, C, H, W] of the codes; c [N, c_dim] is for generators that read the condition there as well."""
        _ = c
        return self.G_synthesis(ws, **block_kwargs)

    def discriminate(self, batches, c, sync):
        """batches: of images [N, C, H, W], whose statistics D takes apart.

        Returns its logits and what Q predicts, [N, 1] and [N, K] for N images of all batches.
        One call for all of them takes half of the operations of two, and the numbers are the same.
        """
        if self.augment_pipe is not None:
            batches = [self.augment_pipe(img) for img in batches]
        with misc.ddp_sync(self.D, sync):
            return self.D(torch.cat(batches), torch.cat(c), return_codes=True, num_batches=len(batches))

    # Generator phases.

    def _fool_discriminator(self, z, c, sync, last):
        need_features = last and self.steps_to_targets == 0 and self.similarity == 'responses'
        capturing = captured_features(unwrapped(self.G_synthesis)) if need_features else contextlib.nullcontext()
        with capturing as features:
            img, ws, c = self.fakes(z, c, sync)
        self._follow_styles(ws)
        logits, predicted = self.discriminate([img], [c], sync=False)
        adversarial = torch.nn.functional.softplus(-logits) # -log(sigmoid(logits))
        _report_scores('fake', logits)
        training_stats.report('Loss/G/loss', adversarial)
        loss = adversarial.mean() + self._info_loss(predicted, ws) + self._image_loss(img, c)
        return loss + self._grouping_loss(features) if last else loss

    def _follow_styles(self, ws):
        """Let the networks' running figures follow the styles of this round, once they have made images with them."""
        synthesis = unwrapped(self.G_synthesis)
        follow_inter_codes(synthesis, ws)
        if self.info_target == 'styles':
            with torch.no_grad():
                follow_styles(unwrapped(self.D), code_styles(synthesis, ws))

    @torch.no_grad()
    def _keep_share(self, z, c):
        """Where inter-group styles are 'exp', let beta follow the share of the image that their code decides."""
        affines = list(exp_affines(unwrapped(self.G_synthesis)).values())
        if not affines:
            return
        ws = unwrapped(self.G_mapping)(z, c, skip_w_avg_update=True)
        share = decided(lambda codes: self.synthesize(codes, c, noise_mode='const'), ws)
        training_stats.report('Inter/share', share)
        training_stats.report('Inter/beta', steer(affines, share, self.inter_share))

    def _image_loss(self, img, c):
        """What else a subclass asks of G's images [N, C, H, W], weighted."""
        _ = img, c
        return 0

    def _grouping_loss(self, features):
        """Weighted L_g, once per step: kernels are the same in all its rounds,
        and for responses the images of one are enough.

        features: {layer name: [N, C, H, W]} of the last round, where new targets by responses are due. Processes have
        different images, and share the gradients.

        Each layer's mean over C*C pairs counts C times, that is, the errors of a channel's pairs are added up and then
        averaged over channels. The minimum is the same, and wide layers keep gradients well above Adam's epsilon.
        """
        layers = [grouped for grouped in grouped_layers(unwrapped(self.G_synthesis))
            if isinstance(grouped.layer.grouping, ChannelGrouping)] # Other groups learn nothing from it.
        targets_are_due = (self.steps_to_targets == 0)
        # Without learned groups too: reports wait for it.
        self.steps_to_targets = (self.steps_to_targets - 1) % TARGET_STEPS
        if not layers:
            return torch.zeros([], device=self.device)
        groupings = [grouped.layer.grouping for grouped in layers]
        torch._foreach_add_([grouping.steps for grouping in groupings], 1)
        if targets_are_due:
            for name, layer, source in layers:
                kernels = source.weight if self.similarity == 'kernels' else channel_responses(features[name])
                _similar, threshold = self.grouping_targets[name] = layer.grouping.target(kernels)
                shown = layer.grouping.learned_threshold if threshold is None else threshold
                training_stats.report(f'Grouping/{name}/threshold', shown)
        losses = grouping_losses(groupings, [self.grouping_targets[grouped.name] for grouped in layers])
        training_stats.report('Loss/grouping', losses)
        widths = [grouping.num_channels for grouping in groupings]
        widths = misc.constant(widths, dtype=losses.dtype, device=losses.device) # Sent to a GPU once.
        return self.lambda_group * (losses * widths).sum()

    def _regroup(self, num_images, last):
        """Count the images of this round; after the last one of a step find k-means groups anew, or merge, where due.

        The first step groups the kernels of a new network; groups of one that goes on wait for their turn as any
        others. Every rank counts alike and has the same kernels, so that all of them make the same groups.
        """
        self.images_to_regroup -= num_images * self.num_processes
        if not last:
            return
        is_due = self.images_to_regroup < 0
        if is_due:
            self.images_to_regroup += self.regroup_nimg
        if is_due or self.is_first_step:
            for name, layer, source in grouped_layers(unwrapped(self.G_synthesis)):
                if isinstance(layer.grouping, KMeansGrouping) and (is_due or not layer.grouping.is_settled):
                    layer.grouping.refresh(source.weight)
                if isinstance(layer.grouping, MergingGrouping) and is_due and layer.grouping.steps >= MERGE_AFTER:
                    layer.merge_groups(source.weight, self._average_layer(name))
                    self.steps_to_targets = 0 # The threshold depends on the number of groups.
        self.is_first_step = False

    def _average_layer(self, name):
        if self.average is None:
            return None
        return next(grouped.layer for grouped in grouped_layers(self.average.synthesis) if grouped.name == name)

    def _info_loss(self, predicted, ws):
        """Weighted -L_I; both codes count the same.

        Where the error has nothing to do with the features that D and Q share, as after the first steps, the gradient
        that a mean over K dimensions sends there is of size 1/sqrt(K), while the adversarial one knows nothing of K.
        sqrt(K) mends that, relative to the paper's width. Measured after 150 steps at lambda_info = 10, codes of
        64 / 128 / 512: 27 / 14 / 13 percent with it, 30 / 44 / 13 without. Styles are affine in the codes,
        so K is theirs. How much styles vary changes in a training, so their error is in deviations: the loss of a Q
        that knows their means and no more stays 1.
        """
        with torch.no_grad():
            of_styles, synthesis = self.info_target == 'styles', unwrapped(self.G_synthesis)
            targets = info_targets(ws, synthesis if of_styles else None, inter_positions(synthesis))
            deviation = unwrapped(self.D).style_deviation() if of_styles else 1
        inter, intra = info_losses(predicted, targets, deviation)
        training_stats.report('Loss/info/inter', inter)
        training_stats.report('Loss/info/intra', intra)
        code_dim = split_codes(ws)[0].shape[2]
        loss = self.lambda_info * np.sqrt(code_dim / PAPER_CODE_DIM) * (inter + intra).mean() / 2
        if self.info_mixing == 'skip':
            loss = loss * (ws == ws[:, :1]).all() # Times zero, not left out: all ranks take the same path.
        return loss

    def _regularise_path_length(self, z, c, sync):
        batch_size = z.shape[0] // self.pl_batch_shrink
        img, ws = self.generate(z[:batch_size], c[:batch_size], sync)
        noise = torch.randn_like(img) / np.sqrt(img.shape[2] * img.shape[3])
        with conv2d_gradfix.no_weight_gradients():
            grads, = torch.autograd.grad((img * noise).sum(), ws, create_graph=True)
        lengths = grads.square().sum(dim=2).mean(dim=1).sqrt()
        mean = self.pl_mean.lerp(lengths.mean(), self.pl_decay)
        self.pl_mean.copy_(mean.detach())
        penalty = (lengths - mean).square()
        training_stats.report('Loss/pl_penalty', penalty)
        training_stats.report('Loss/G/reg', penalty * self.pl_weight)
        # Times zero: gives all parameters a gradient to synchronise.
        return (img[:, 0, 0, 0] * 0 + penalty * self.pl_weight).mean()

    # Discriminator phases.

    def _tell_apart(self, real_img, real_c, z, c, sync):
        fake_img, ws, c = self.fakes(z, c, sync=False)
        logits, predicted = self.discriminate([fake_img, real_img], [c, real_c], sync)
        fakes, reals = logits.split([len(fake_img), len(real_img)])
        _report_scores('fake', fakes)
        _report_scores('real', reals)
        fooled = torch.nn.functional.softplus(fakes) # -log(1 - sigmoid(fakes))
        doubting = torch.nn.functional.softplus(-reals) # -log(sigmoid(reals))
        training_stats.report('Loss/D/loss', fooled + doubting)
        info = self._info_loss(predicted[:len(fake_img)], ws) # Q sees no reals.
        if self.steps_to_targets == 0: # Every few steps show as much as all of them.
            self._report_share(fooled.mean(), info)
        return fooled.mean() + doubting.mean() + info

    def _report_share(self, adversarial, info):
        """The info loss's share of the gradient in the last layer that D and Q share: near 1, D learns little else."""
        shared = unwrapped(self.D).b4.fc.weight
        pulls = [torch.autograd.grad(loss, shared, retain_graph=True)[0].norm() for loss in [adversarial, info]]
        training_stats.report('Loss/info/share', pulls[1] / (pulls[0] + pulls[1]).clamp(min=1e-12))

    def _regularise_slopes(self, img, c, sync):
        """R1: the slopes of D's logits at real images."""
        img = img.detach().requires_grad_()
        logits, predicted = self.discriminate([img], [c], sync)
        _report_scores('real', logits)
        with conv2d_gradfix.no_weight_gradients():
            grads, = torch.autograd.grad(logits.sum(), img, create_graph=True)
        penalty = grads.square().sum(dim=[1,2,3])
        training_stats.report('Loss/r1_penalty', penalty)
        training_stats.report('Loss/D/reg', penalty * (self.r1_gamma / 2))
        # Times zero: gives all parameters a gradient to synchronise.
        return penalty.mean() * (self.r1_gamma / 2) + (logits * 0).mean() + (predicted * 0).mean()

def _report_scores(kind, logits):
    training_stats.report(f'Loss/scores/{kind}', logits)
    training_stats.report(f'Loss/signs/{kind}', logits.sign())

#----------------------------------------------------------------------------
