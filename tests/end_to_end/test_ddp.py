"""Two processes train what one process trains."""

import pytest
import torch

import rounding
from ddp_steps import run

@pytest.fixture(scope='module')
def states(tmp_path_factory):
    """After three iterations: one process with all eight images, and both of two with four each."""
    return run(tmp_path_factory.mktemp('ddp'), 'comparable', [(0, 1, 'alone'), (0, 2, 'first'), (1, 2, 'second')])

OF_EACH_RANK = 'G.mapping.w_avg' # A running mean over a rank's own images, as upstream has it.

def assert_equal_on_both_ranks(states):
    for name, tensor in states['first'][1].items():
        if name != OF_EACH_RANK:
            assert tensor.isfinite().all() and torch.equal(tensor, states['second'][1][name]), name

def assert_trained_alike(ours, theirs):
    """Up to the rounding of three iterations of gradients: of a tensor's own, and of those that it may be a difference of, as large as the network's largest."""
    moved = {name: (after - theirs[0][name]).abs().max() for name, after in theirs[1].items() if after.is_floating_point() and not name.endswith(('.steps', OF_EACH_RANK))}
    for letter in 'GD':
        largest = max(moved[name] for name in moved if name[0] == letter)
        assert largest > 0.01 # Otherwise there is nothing to compare.
        for name in [name for name in moved if name[0] == letter]:
            apart = rounding.bound(terms=16 * 9, layers=3 * 16) * moved[name] + rounding.bound(terms=16 * 9) * largest
            torch.testing.assert_close(ours[1][name], theirs[1][name], rtol=4e-7, atol=apart.item(), msg=lambda text, name=name: f'{name}: {text}')

def test_both_ranks_hold_the_same_parameters_and_buffers(states):
    assert_equal_on_both_ranks(states)

def test_two_processes_of_four_images_are_one_process_of_eight(states):
    assert_trained_alike(states['first'], states['alone'])

def test_the_average_w_of_all_images_is_the_mean_over_ranks(states):
    alone, first, second = [states[name][1][OF_EACH_RANK] for name in ['alone', 'first', 'second']]
    assert not torch.equal(first, second)
    rounding.assert_close((first + second) / 2, alone, terms=16, layers=3 * 4)

def test_groups_by_responses_leave_both_ranks_alike(tmp_path):
    assert_equal_on_both_ranks(run(tmp_path, 'responses', [(0, 2, 'first'), (1, 2, 'second')]))

def test_rounds_share_what_depends_on_weights_alone_before_gradients_are_exchanged(tmp_path):
    states = run(tmp_path, 'rounds', [(0, 2, 'first'), (1, 2, 'second')])
    assert_equal_on_both_ranks(states)
    (tmp_path / 'rendezvous').unlink(missing_ok=True)
    assert_trained_alike(states['first'], run(tmp_path, 'unshared', [(0, 2, 'first'), (1, 2, 'second')])['first'])

def test_twenty_iterations_of_all_phases_leave_both_ranks_alike(tmp_path):
    states = run(tmp_path, 'everything', [(0, 2, 'first'), (1, 2, 'second')])
    assert_equal_on_both_ranks(states)
    assert {tensor.item() for name, tensor in states['first'][1].items() if name.endswith('.steps')} == {1020}

#----------------------------------------------------------------------------
