"""What a conditional network was trained with: classes, or vectors of numbers.

Upstream makes one-hot rows of classes, so that nothing in a network tells the two apart. Networks that are trained here
carry the answer along, under a name that other tools pass over; of all others it is unknown.
"""

ATTRIBUTE = '_label_kind'
KINDS     = ('classes', 'vectors')

def of(network):
    """One of KINDS, or None where it is unknown."""
    return known(getattr(network, ATTRIBUTE, None))

def known(value):
    """What a file says it is, or None for anything that is none of KINDS."""
    return value if isinstance(value, str) and value in KINDS else None

def of_dataset(training_set):
    """One of KINDS; None for a data set without labels, and for one whose labels are images."""
    if hasattr(training_set, 'without_conditions') or training_set.label_dim == 0:
        return None
    return 'classes' if training_set.has_onehot_labels else 'vectors'

def remember(network, kind):
    """Have a network carry it along, in pickles and copies; None leaves the network as it is."""
    if kind is not None:
        setattr(network, ATTRIBUTE, kind)

#----------------------------------------------------------------------------
