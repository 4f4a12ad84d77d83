"""How local edits of single groups are, beside edits of whole layers of a StyleGAN2 that was trained equally.

Run: python benchmarks/locality.py --sarigan=SARIGAN.pkl --stylegan2=STYLEGAN2.pkl
Train the two with: sarigan train --cfg=tiny --data=punks.zip --kimg=300 --metrics=none, and the same with --grouping=none
"""

import contextlib
import json
from pathlib import Path

import click
import numpy as np
import torch

from sarigan_plugin import directions
from sarigan_plugin import snapshot
from sarigan_plugin.edit import Edit, edited
from sarigan_plugin.generate import NumberRange, sample_ws
from sarigan_plugin.networks import grouped_layers

TURNS       = (0, 2)    # What codes and channels are multiplied by.
STRONGEST   = 20        # Edits of each kind that count.
SHUFFLES    = 4         # Random groupings of each layer.

#----------------------------------------------------------------------------

def layers_of(G):
    """{name: layer} of the layers that are grouped, or would be."""
    convs = {f'b{res}.{conv}': getattr(getattr(G.synthesis, f'b{res}'), conv) for res in G.synthesis.block_resolutions[1:] for conv in ['conv0', 'conv1']}
    return convs

@contextlib.contextmanager
def hooked(module, hook, before=False):
    handle = module.register_forward_pre_hook(hook) if before else module.register_forward_hook(hook)
    yield
    handle.remove()

def scaled_input(layer, channels, scale):
    """Inside the `with`, some channels of what a layer reads are multiplied, without its demodulation knowing."""
    factors = torch.where(channels, torch.tensor(float(scale)), torch.tensor(1.0))[:, None, None]
    return hooked(layer, lambda _layer, args: (args[0] * factors, *args[1:]), before=True)

def swapped_layer(layer, styles):
    """Inside the `with`, a whole layer of a StyleGAN2 has the styles of other images. styles: [N, C]."""
    return hooked(layer.affine, lambda *_args: styles)

def swapped_group(G, layer, group, other):
    """Inside the `with`, one group has both codes of other images: [N, w_dim]."""
    inter, intra = layer.group_affine(other[:, :G.code_dim]), layer.affine(other[:, G.code_dim:])
    stack = contextlib.ExitStack()
    here = torch.arange(inter.shape[1]) == group
    stack.enter_context(hooked(layer.group_affine, lambda _module, _args, styles: torch.where(here, inter, styles)))
    stack.enter_context(hooked(layer.affine, lambda _module, _args, styles: torch.where(layer.grouping.assignment == group, intra, styles)))
    return stack

#----------------------------------------------------------------------------

class Places:
    """The images of some codes, and what each layer read to make them."""
    def __init__(self, G, ws):
        self.G, self.ws = G, ws
        self.features = dict()
        with contextlib.ExitStack() as stack:
            for name, layer in layers_of(G).items():
                stack.enter_context(hooked(layer, lambda _layer, args, name=name: self.features.update({name: args[0]}), before=True))
            self.images = G.synthesis(ws, noise_mode='const')

    def loci(self, name, partition):
        """What each set of channels attends to. partition: [C], the set of each. Returns {set: bool [NHW]}."""
        return {part: directions.locus(self.features[name][:, partition == part].mean(dim=1), self.images.shape[2:]) for part in partition.unique().tolist()}

    def shares(self, loci, part, edits):
        """(strength, share of the squared change inside the locus of what is edited, mean share inside the others' loci)."""
        change = 0
        for edit in edits:
            with edit:
                change = change + (self.G.synthesis(self.ws, noise_mode='const') - self.images).square().mean(dim=1)
        inside = {other: ((change * locus).sum() / change.sum().clamp(min=1e-30)).item() for other, locus in loci.items()}
        own = inside.pop(part)
        return change.mean().sqrt().item(), own, np.mean(list(inside.values())) if inside else np.nan

def measure_partition(places, name, layer, partition):
    """Shares for each set of channels of a layer, multiplied by each of TURNS."""
    loci = places.loci(name, partition)
    return [places.shares(loci, part, [scaled_input(layer, partition == part, scale) for scale in TURNS]) for part in loci]

def measure_sarigan(G, ws, other, random):
    """{kind of edit: [(strength, inside, elsewhere)]}."""
    places = Places(G, ws)
    kinds = ['SariGAN, inter-group code of a group times 0 and 2', "SariGAN, another image's codes for a group",
        'SariGAN, channels of a group times 0 and 2', 'SariGAN, as many random channels times 0 and 2']
    rows = {kind: [] for kind in kinds}
    for name, layer, _source in grouped_layers(G.synthesis):
        groups = layer.grouping.assignment
        loci = places.loci(name, groups)
        for group in loci:
            rows[kinds[0]].append(places.shares(loci, group, [edited(G, [Edit(name, group, inter_scale=scale)]) for scale in TURNS]))
            rows[kinds[1]].append(places.shares(loci, group, [swapped_group(G, layer, group, other)]))
        rows[kinds[2]] += measure_partition(places, name, layer, groups)
        for _shuffle in range(SHUFFLES):
            rows[kinds[3]] += measure_partition(places, name, layer, groups[torch.randperm(len(groups), generator=random)])
    return rows

def measure_stylegan2(G, ws, other, random, num_groups):
    """{kind of edit: [(strength, inside, elsewhere)]}. num_groups: of the SariGAN, for sets of channels as large as its groups."""
    places = Places(G, ws)
    whole, parts = rows = {"StyleGAN2, another image's code for a layer": [], 'StyleGAN2, as many random channels times 0 and 2': []}
    for name, layer in layers_of(G).items():
        num_channels = layer.weight.shape[1]
        styles = layer.affine(other[:, -layer.code_dim:])
        rows[whole].append(places.shares(places.loci(name, torch.zeros(num_channels)), 0, [swapped_layer(layer, styles)]))
        for _shuffle in range(SHUFFLES):
            rows[parts] += measure_partition(places, name, layer, (torch.arange(num_channels) % num_groups)[torch.randperm(num_channels, generator=random)])
    return rows

def summary(rows):
    strongest = sorted(rows, reverse=True)[:STRONGEST]
    strength, inside, elsewhere = np.median(strongest, axis=0).tolist()
    return dict(edits=len(rows), strength=strength * directions.GREY_LEVELS, inside=inside, times_chance=inside / directions.LOCUS, elsewhere=elsewhere)

@click.command()
@click.option('--sarigan',      help='Network pickle', required=True, metavar='PKL')
@click.option('--stylegan2',    help='Network pickle of a training with --grouping=none', required=True, metavar='PKL')
@click.option('--seeds',        help='Random seeds of the images', type=NumberRange(), default='0-63', show_default=True)
@click.option('--outdir',       help='Where to leave locality.json', default='out/locality', show_default=True, metavar='DIR')
def main(sarigan, stylegan2, seeds, outdir):
    """For each kind of edit, the share of the squared change inside the locus of what was edited, and inside those of the layer's
    other groups, or random sets of channels: medians over the strongest edits."""
    torch.set_grad_enabled(False)
    random, rows = torch.Generator().manual_seed(0), dict()
    num_groups = None
    for option, path in [('--sarigan', sarigan), ('--stylegan2', stylegan2)]:
        G = snapshot.load(path, option)
        ws = sample_ws(G, seeds)
        other = sample_ws(G, [seed + 10 ** 6 for seed in seeds])[:, 0]
        if option == '--sarigan':
            num_groups = max(layer.grouping.num_groups for _name, layer, _source in grouped_layers(G.synthesis))
            rows.update(measure_sarigan(G, ws, other, random))
        else:
            rows.update(measure_stylegan2(G, ws, other, random, num_groups))
    results = {kind: summary(values) for kind, values in rows.items()}
    print(f'{"":<56}edits  strength  inside  times chance  elsewhere')
    for kind, row in results.items():
        print(f'{kind:<56}{row["edits"]:5}{row["strength"]:10.1f}{row["inside"]:8.0%}{row["times_chance"]:14.1f}{row["elsewhere"]:11.0%}')
    Path(outdir).mkdir(parents=True, exist_ok=True)
    (Path(outdir) / 'locality.json').write_text(json.dumps(dict(sarigan=sarigan, stylegan2=stylegan2, seeds=seeds, results=results), indent=2) + '\n', encoding='utf-8')

if __name__ == '__main__':
    main() # pylint: disable=no-value-for-parameter

#----------------------------------------------------------------------------
