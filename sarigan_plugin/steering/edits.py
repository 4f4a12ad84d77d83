"""Edits of the codes of single channel groups (Fig. 4-5), alone or composed.

    >>> from sarigan_plugin.steering import edits
    >>> from sarigan_plugin.steering import sampling
    >>> from sarigan_plugin.snapshots import reading
    >>> G = reading.load('network.pkl', 'network')
    >>> ws = sampling.sample_ws(G, seeds=[0, 1])
    >>> louder = edits.Edit('b16.conv0', group=3, inter_scale=2)
    >>> with edits.edited(G, [louder, edits.Edit('b8.conv1', group=0, intra_seed=7)]):
    ...     images = G.synthesis(ws, noise_mode='const')
    >>> images.shape
    torch.Size([2, 3, 32, 32])
"""

import contextlib
import dataclasses

from sarigan_plugin.steering import groupings
from sarigan_plugin.steering.groupings import LayerGroups, all_of
from sarigan_plugin.steering.sampling import MAX_NUMBER, MAX_SEED, latents, sample_ws

class WrongField(ValueError):
    """What is wrong with one field of an Edit or of an EditRecipe.

    field: its name. sentence: the rest, for those who call the field otherwise.
    """
    def __init__(self, field, sentence):
        super().__init__(f'{field}: {sentence}')
        self.field = field
        self.sentence = sentence

def check_number(field, value, low=-MAX_NUMBER, high=MAX_NUMBER, whole=False):
    """Raise WrongField unless it is a number from low to high. NaN is none, nor is a bool."""
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
        raise WrongField(field,
            f'{shown(value)} is not a {"whole " if whole else ""}number from {low:.10g} to {high:.10g}.')

def shown(value):
    return value if isinstance(value, int) and abs(value) < 10**12 else f'{value!r:.40}'

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Edit:
    """What is changed in one channel group. A group of each layer, where there are several."""
    layers:         tuple           # Names, e.g. ('b16.conv0',); one name will do. 'linked': see groupings.py.
    group:          int             # Index in [0, g).
    inter_scale:    float   = 1     # The group's inter-group style (paper:
                                    # h_i) becomes inter_scale * h_i + inter_shift: how much of
    inter_shift:    float   = 0     # the group there is (Fig. 5). In the feature form h_i is both, h_s and h_b.
    intra_seed:     int     = None  # Seed of the image whose intra-group styles (paper: z_i) it takes over (Fig. 4),
                                    # None = keep,
    intra_mix:      float   = 1     # and how much of them: 0 = own, 1 = the other's.
    inter_seed:     int     = None  # The same for its inter-group style, before it is scaled and shifted,
    inter_mix:      float   = 1     # and how much of it.
    intra_component: int    = None  # Index of one of the intra_components() of the group,
                                    # along which its intra-group code goes, None = stay,
    intra_amount:   float   = 0     # and how far, in lengths of the code.

    def __post_init__(self):
        names = [self.layers] if isinstance(self.layers, str) else self.layers
        if (not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names)
                or len(set(names)) < len(names)):
            raise WrongField('layers', f'{shown(names)} is not a list of different names of layers.')
        object.__setattr__(self, 'layers', tuple(names))
        if isinstance(self.group, bool) or not isinstance(self.group, int): # Its range is the layers' to know.
            raise WrongField('group', f'{shown(self.group)} is not a whole number.')
        check_number('inter_scale', self.inter_scale)
        check_number('inter_shift', self.inter_shift)
        for code in ['intra', 'inter']:
            if getattr(self, f'{code}_seed') is not None:
                check_number(f'{code}_seed', getattr(self, f'{code}_seed'), 0, MAX_SEED, whole=True)
            check_number(f'{code}_mix', getattr(self, f'{code}_mix'), 0, 1)
        if self.intra_component is not None:
            check_number('intra_component', self.intra_component, 0, whole=True)
        check_number('intra_amount', self.intra_amount)

    def part(self, amount):
        """The same edit done by a part: 0 = not at all, 1 = in full."""
        return dataclasses.replace(self, inter_scale=(1 - amount) + amount * self.inter_scale,
            inter_shift=amount * self.inter_shift,
            intra_mix=amount * self.intra_mix, inter_mix=amount * self.inter_mix,
            intra_amount=amount * self.intra_amount)

    def groups_of(self, G):
        """The groups of each of its layers, see groupings.of(). Raises WrongField where there is no such layer or
        group."""
        there = groupings.of(G)
        for name in self.layers:
            if name not in there:
                raise WrongField('layers', f'{name[:40]!r} is not a grouped layer; they are {", ".join(there)}.')
            if not 0 <= self.group < there[name].num_groups:
                raise WrongField('group', f'{self.group} is out of range: '
                    f'the groups of {name} are 0 to {there[name].num_groups - 1}.')
        return [there[name] for name in self.layers]

    def check(self, G):
        """Raise WrongField where it cannot be done, or would do nothing since a group has no channels."""
        for groups in self.groups_of(G):
            taken = groups.live
            if self.group not in taken:
                raise WrongField('group', f'{self.group} of {groups.name} has no channels; '
                    f'those that have are {", ".join(map(str, taken))}.')
            count = len(groups.components(self.group)[1]) if self.intra_component is not None else 0
            if self.intra_component is not None and self.intra_component >= count:
                raise WrongField('intra_component', f'{self.intra_component} is out of range: '
                    f'the components of {groups.name}, group {self.group} are 0 to {count - 1}.')

    @property
    def changes(self):
        """What is done to the group, in words."""
        def taken(code, seed, mix):
            return [(f'{mix:.0%} of ' if mix != 1 else '') + f'{code}-group code of seed {seed}'] * (seed is not None)

        changes = taken('inter', self.inter_seed, self.inter_mix)
        changes += ([f'inter-group code times {self.inter_scale:g}'] * (self.inter_scale != 1)
            + [f'inter-group code plus {self.inter_shift:g}'] * (self.inter_shift != 0))
        changes += taken('intra', self.intra_seed, self.intra_mix)
        if self.intra_component is not None and self.intra_amount != 0:
            changes.append(f'intra-group code {self.intra_amount:+g} along component {self.intra_component}')
        return ', '.join(changes) or 'as it is'

    def __str__(self):
        return f'{", ".join(self.layers)}, group {self.group}: {self.changes}'

def intra_components(layer, group):
    """The directions of the intra-group code that change the styles of a layer's own group most.

    See groupings.principal_directions().
    """
    return LayerGroups(None, layer, None).components(group)

@contextlib.contextmanager
def edited(G, edits, trunc=0.7, class_idx=0, label=None):
    """Inside the `with`, G makes its images with the codes of some groups changed.

    edits: Edits, each of what the ones before it made, so their order counts within a group. Raises WrongField,
    see Edit.groups_of().
    trunc, class_idx: what the images were made with, for the codes of other seeds; see generate.sample_ws(). label:
    [N, c_dim], in place of a class.
    """
    edits = tuple(edits)
    seeds = {seed for edit in edits for seed in [edit.inter_seed, edit.intra_seed]} - {None}
    codes_of = lambda seed: sample_ws(G, [seed], trunc, class_idx) if label is None else G.mapping(
        latents(G, [seed]).expand(len(label), -1), label, truncation_psi=trunc)
    codes = {seed: codes_of(seed)[:, 0] for seed in seeds}
    # What other seeds have is looked at before anything is changed.
    contexts = [context for edit in edits for groups in edit.groups_of(G) for context in groups.turned(edit, codes)]
    with all_of(contexts):
        yield

#----------------------------------------------------------------------------
