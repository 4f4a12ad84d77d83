"""Splits of a data set: what is held out is never trained on."""

import pytest

from sarigan_plugin.datasets import splits

@pytest.mark.parametrize('count, held_out', [(2, 1), (9, 1), (10, 1), (29, 2), (2991, 299), (10000, 1000)])
def test_the_last_tenth_is_held_out_and_the_rest_trained_on(count, held_out):
    assert (list(splits.indices(count, 'train'))
        + list(splits.indices(count, 'held-out')) == list(splits.indices(count, 'all')) == list(range(count)))
    assert len(splits.indices(count, 'held-out')) == held_out

def test_one_image_is_not_enough_to_hold_one_out():
    with pytest.raises(ValueError, match='of one image none is left to train on'):
        splits.indices(1, 'train')
