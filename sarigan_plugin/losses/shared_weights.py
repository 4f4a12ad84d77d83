"""What the rounds of one training step share: their weights are the same."""

import contextlib
import functools

import torch

from sarigan_plugin.model.styles_at_once import styles_at_once

#----------------------------------------------------------------------------

class SharedWeights:
    """Lets all rounds of a step share what the generator's layers make of weights alone, as the weights are the same.

    The first round makes it, and keeps how it was made. Rounds before the last one get it cut off from there, and leave
    gradients at the cut; these go on to the weights before the last round, whose own gradients take the whole way, at
    the time when DistributedDataParallel exchanges them.
    """
    def __init__(self):
        self.made = dict() # {(layer, dtype): what its weight_parts() gave}
        self.cut = dict() # {(layer, dtype): the same, cut off}

    @contextlib.contextmanager
    def round(self, G_synthesis, last):
        """Inside the `with` is a round, with one call of backward(); `last`: the step's last one?

        Layers make their styles together, see styles_at_once().
        """
        if last:
            self._pass_gradients_on()
        layers = [module for module in G_synthesis.modules() if hasattr(module, 'weight_parts')]
        for layer in layers:
            layer.shared_weights = functools.partial(self._parts, layer, last)
        try:
            with styles_at_once(getattr(G_synthesis, 'module', G_synthesis)):
                yield
        finally:
            for layer in layers:
                layer.shared_weights = None
            if last:
                self.made.clear()
                self.cut.clear()

    def _parts(self, layer, last, dtype):
        key = (layer, dtype)
        if last: # Of a step of one round nothing is kept.
            return self.made.get(key) or layer.weight_parts(dtype)
        if key not in self.made:
            self.made[key] = layer.weight_parts(dtype)
            self.cut[key] = [_cut_off(part) for part in self.made[key]]
        return self.cut[key]

    def _pass_gradients_on(self):
        pairs = [pair for key in self.made for pair in zip(self.made[key], self.cut[key])]
        arrived = [(part, end.grad) for part, end in pairs if part is not end and end.grad is not None]
        if arrived:
            torch.autograd.backward(*zip(*arrived), retain_graph=True) # The last round's take the same way.

def _cut_off(part):
    return part.detach().requires_grad_() if getattr(part, 'grad_fn', None) is not None else part

#----------------------------------------------------------------------------
