"""Two processes train what one process trains."""

import pytest
import torch

import rounding
from ddp_steps import OF_EACH_RANK, assert_equal_on_both_ranks, assert_trained_alike, run

@pytest.fixture(scope='module')
def states(tmp_path_factory):
    """After three iterations: one process with all eight images, and both of two with four each."""
    return run(tmp_path_factory.mktemp('ddp'), 'comparable', [(0, 1, 'alone'), (0, 2, 'first'), (1, 2, 'second')])

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

@pytest.mark.parametrize('mode', ['styles', 'exp'])
def test_two_processes_know_how_much_the_styles_of_all_their_images_vary(tmp_path, mode):
    states = run(tmp_path, mode, [(0, 1, 'alone'), (0, 2, 'first'), (1, 2, 'second')])
    assert_equal_on_both_ranks(states)
    assert_trained_alike(states['first'], states['alone'])

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
