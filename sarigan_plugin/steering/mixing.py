"""Style mixing by channel group: images with codes of some groups taken from other images."""

from sarigan_plugin.steering import groupings
from sarigan_plugin.steering.edits import Edit

# Which codes are taken -> the fields of an Edit, and what captions say.
CODES = {
    'intra': (['intra_seed'],               'intra-group code'),
    'inter': (['inter_seed'],               'inter-group code'),
    'both':  (['intra_seed', 'inter_seed'], 'both codes'),
}

#----------------------------------------------------------------------------

def mixing_edits(G, seed, layers=None, group=None, code='both'):
    """The Edits that take codes of groups over from another seed's image.

    layers: names, None = all that are grouped, or 'linked' where none is. group: index, None = all groups that have
    channels. code: 'intra', 'inter' or 'both'.
    Raises WrongField where there is no such layer, or no such group with channels.
    """
    taken = dict.fromkeys(CODES[code][0], seed)
    edit = Edit(groupings.default_places(G) if layers is None else layers, 0 if group is None else group, **taken)
    if group is not None:
        edit.check(G)
        return [edit]
    return [Edit(groups.name, index, **taken) for groups in edit.groups_of(G) for index in groups.live]

#----------------------------------------------------------------------------
