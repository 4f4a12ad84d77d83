"""Upstream's own loss, with what the trainer asks of ours."""

class UpstreamLoss:
    """Passes everything on to upstream's StyleGAN2Loss, which remembers the mean path length alone and has no
    groups."""
    def __init__(self, loss):
        self.loss = loss

    def accumulate_gradients(self, **batch):
        self.loss.accumulate_gradients(**batch)

    def state_dict(self):
        """See SariGANLoss."""
        return dict(pl_mean=self.loss.pl_mean)

    def load_state_dict(self, state):
        """See SariGANLoss."""
        self.loss.pl_mean.copy_(state['pl_mean'])

    def set_average(self, G_ema):
        """See SariGANLoss: there are no groups to merge."""

#----------------------------------------------------------------------------
