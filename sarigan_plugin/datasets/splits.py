"""Which images of a data set are trained on, and which are held out to measure with.

    >>> from sarigan_plugin.datasets import splits
    >>> splits.indices(25, 'train'), splits.indices(25, 'held-out')
    (range(0, 23), range(23, 25))
"""

# And how captions call them.
SPLITS      = {'train': 'all but the last tenth', 'held-out': 'the last tenth', 'all': 'all'}
HELD_OUT    = 10    # One image in so many is held out: the last ones in the order of their names.

def indices(count, split):
    """Indices of the images of one of the SPLITS, a range; one image at least is held out.

    Raises ValueError where none is left to train on.
    """
    first_held_out = count - max(count // HELD_OUT, 1)
    found = {'train': range(first_held_out), 'held-out': range(first_held_out, count), 'all': range(count)}[split]
    if not found:
        raise ValueError('of one image none is left to train on')
    return found
