"""Two processes train what one process trains."""

import subprocess
import sys
from pathlib import Path

import limits
import pytest
import torch

SCRIPT = Path(__file__).parent / 'ddp_steps.py'

def run(folder, mode, jobs):
    """Run ddp_steps.py for jobs of (rank, world, name) together. Returns {name: state dict at the end}."""
    processes = [subprocess.Popen([sys.executable, SCRIPT, str(rank), str(world), folder / 'rendezvous', folder / f'{name}.pt', mode],
        stderr=subprocess.PIPE, text=True) for rank, world, name in jobs]
    for process in processes:
        _out, errors = process.communicate(timeout=limits.HANG)
        assert process.returncode == 0, errors
    return {name: torch.load(folder / f'{name}.pt') for _rank, _world, name in jobs}

@pytest.fixture(scope='module')
def states(tmp_path_factory):
    """After three iterations: one process with all eight images, and both of two with four each."""
    return run(tmp_path_factory.mktemp('ddp'), 'comparable', [(0, 1, 'alone'), (0, 2, 'first'), (1, 2, 'second')])

def assert_equal_on_both_ranks(states):
    for name, tensor in states['first'].items():
        if name != 'G.mapping.w_avg': # A running mean over each rank's own images, as upstream has it.
            assert tensor.isfinite().all() and torch.equal(tensor, states['second'][name]), name

def test_both_ranks_hold_the_same_parameters_and_buffers(states):
    assert_equal_on_both_ranks(states)

def test_two_processes_of_four_images_are_one_process_of_eight(states):
    for name, tensor in states['alone'].items():
        if name != 'G.mapping.w_avg':
            torch.testing.assert_close(states['first'][name], tensor, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f'{name}: {text}')

def test_the_average_w_of_all_images_is_the_mean_over_ranks(states):
    mean = (states['first']['G.mapping.w_avg'] + states['second']['G.mapping.w_avg']) / 2
    torch.testing.assert_close(mean, states['alone']['G.mapping.w_avg'], rtol=1e-4, atol=1e-5)

def test_groups_by_responses_leave_both_ranks_alike(tmp_path):
    assert_equal_on_both_ranks(run(tmp_path, 'responses', [(0, 2, 'first'), (1, 2, 'second')]))

def test_rounds_share_what_depends_on_weights_alone_before_gradients_are_exchanged(tmp_path):
    states = run(tmp_path, 'rounds', [(0, 2, 'first'), (1, 2, 'second')])
    assert_equal_on_both_ranks(states)
    (tmp_path / 'rendezvous').unlink(missing_ok=True)
    for name, tensor in run(tmp_path, 'unshared', [(0, 2, 'first'), (1, 2, 'second')])['first'].items():
        torch.testing.assert_close(states['first'][name], tensor, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f'{name}: {text}')

def test_fifty_iterations_of_all_phases_leave_both_ranks_alike(tmp_path):
    states = run(tmp_path, 'everything', [(0, 2, 'first'), (1, 2, 'second')])
    assert_equal_on_both_ranks(states)
    assert {tensor.item() for name, tensor in states['first'].items() if name.endswith('.steps')} == {1050}

#----------------------------------------------------------------------------
