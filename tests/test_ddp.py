"""Two processes train what one process trains."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent / 'ddp_steps.py'

@pytest.fixture(scope='module')
def states(tmp_path_factory):
    """State dicts after three iterations: of one process with all eight images, and of both of two with four each, once more with groups by responses."""
    folder = tmp_path_factory.mktemp('ddp')
    jobs = [(0, 1, 'alone', 'kernels'), *[(rank, 2, f'{which}{suffix}', similarity) for rank, which in enumerate(['first', 'second'])
        for suffix, similarity in [('', 'kernels'), (' by responses', 'responses')]]]
    processes = [subprocess.Popen([sys.executable, SCRIPT, str(rank), str(world), folder / f'rendezvous of {similarity}', folder / f'{name}.pt', similarity],
        stderr=subprocess.PIPE, text=True) for rank, world, name, similarity in jobs]
    for process in processes:
        _out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    return {name: torch.load(folder / f'{name}.pt') for _rank, _world, name, _similarity in jobs}

@pytest.mark.parametrize('suffix', ['', ' by responses'])
def test_both_ranks_hold_the_same_parameters_and_buffers(states, suffix):
    for name, tensor in states[f'first{suffix}'].items():
        if name != 'G.mapping.w_avg': # A running mean over each rank's own images, as upstream has it.
            assert torch.equal(tensor, states[f'second{suffix}'][name]), name

def test_two_processes_of_four_images_are_one_process_of_eight(states):
    for name, tensor in states['alone'].items():
        if name != 'G.mapping.w_avg':
            torch.testing.assert_close(states['first'][name], tensor, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f'{name}: {text}')

def test_the_average_w_of_all_images_is_the_mean_over_ranks(states):
    mean = (states['first']['G.mapping.w_avg'] + states['second']['G.mapping.w_avg']) / 2
    torch.testing.assert_close(mean, states['alone']['G.mapping.w_avg'], rtol=1e-4, atol=1e-5)
