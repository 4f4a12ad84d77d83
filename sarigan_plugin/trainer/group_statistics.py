"""Statistics of the groups, once per tick: how many, how large, how many channels change group."""

import torch

from sarigan_plugin.losses.sarigan import unwrapped
from sarigan_plugin.model.grouped import grouped_layers
from sarigan_plugin.model.grouping import ChannelGrouping

from torch_utils import training_stats

#----------------------------------------------------------------------------

class GroupStatistics:
    """Grouping/<layer>/... in upstream's statistics; empty for networks without groups. The loss adds the threshold."""
    def __init__(self, G_synthesis: torch.nn.Module) -> None:
        self.layers = grouped_layers(unwrapped(G_synthesis))
        self.previous = {name: layer.grouping.assignment.clone() for name, layer, _source in self.layers}
        self.counts = self._count()

    def state_dict(self) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        """What it remembers from tick to tick."""
        return self.previous, self.counts

    def load_state_dict(self, state: tuple[dict[str, torch.Tensor], dict[str, int]]) -> None:
        previous, self.counts = state
        for name, assignment in previous.items():
            self.previous[name].copy_(assignment)

    def _count(self) -> dict[str, int]:
        return {name: len(layer.grouping.live_groups) for name, layer, _source in self.layers}

    @torch.no_grad()
    def report(self) -> dict[str, int] | None:
        """Returns {layer name: number of groups} where groups have merged since the last call, or None."""
        for name, layer, _source in self.layers:
            grouping = layer.grouping
            assignment = grouping.assignment.clone()
            sizes = assignment.bincount(minlength=grouping.num_groups)[grouping.live_groups].float()
            values = dict(
                num_groups  = len(sizes), # That channels may join.
                used_groups = (sizes > 0).sum(),
                size_min    = sizes.min(),
                size_median = sizes.median(),
                size_max    = sizes.max(),
                # Share of channels, since the last tick.
                churn       = (assignment != self.previous[name]).float().mean(),
            )
            if isinstance(grouping, ChannelGrouping):
                values['temperature'] = grouping.temperature
            for key, value in values.items():
                training_stats.report0(f'Grouping/{name}/{key}', value)
            self.previous[name] = assignment
        previous_counts, self.counts = self.counts, self._count()
        return self.counts if self.counts != previous_counts else None

#----------------------------------------------------------------------------
