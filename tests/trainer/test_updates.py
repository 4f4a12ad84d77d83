"""The average, the optimizer and the repair of gradients do what upstream's loop and PyTorch do, to the bit."""

import copy

import pytest
import torch

from sarigan_plugin.trainer import updates, upstream_loop

import dnnlib
from torch_utils import misc
from training import training_loop

def network(seed):
    torch.manual_seed(seed)
    made = torch.nn.Sequential(torch.nn.Conv2d(3, 7, 3), torch.nn.BatchNorm2d(7), torch.nn.Linear(5, 11))
    made[1].running_mean.normal_()
    return made.requires_grad_(False)

def averaged_by_upstream(G_ema, G, ema_beta):
    """training_loop.py:302."""
    for p_ema, p in zip(G_ema.parameters(), G.parameters()):
        p_ema.copy_(p.lerp(p_ema, ema_beta))
    for b_ema, b in zip(G_ema.buffers(), G.buffers()):
        b_ema.copy_(b)

@pytest.mark.parametrize('beta', [0.5001, 0.7, 0.99, 0.9989, 0.99999, 0.5, 0.3, 0.01, 0.0])
def test_the_average_is_upstreams(beta):
    G, ours = network(0), network(1)
    theirs = copy.deepcopy(ours)
    average = updates.Average()
    for _iteration in range(3):
        average.follow(ours, G, beta)
        averaged_by_upstream(theirs, G, beta)
        for parameter in G.parameters():
            parameter.add_(torch.randn_like(parameter))
        G[1].running_var = torch.rand(7) # A buffer that is another from now on.
        G[1].num_batches_tracked += 1
    for mine, upstreams in zip(ours.state_dict().values(), theirs.state_dict().values()):
        # Three times up to a half, from numbers below eight, sums and products are rounded in another order.
        torch.testing.assert_close(mine, upstreams, rtol=0, atol=0 if beta > 0.5 else 3 * 3 * 8 * 2 ** -24)

def test_the_average_knows_when_it_is_of_other_networks():
    G, average = network(0), updates.Average()
    average.follow(network(1), G, 0.9)
    ours, theirs, other = network(2), network(2), network(3)
    average.follow(ours, other, 0.9)
    averaged_by_upstream(theirs, other, 0.9)
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))

#----------------------------------------------------------------------------

def trained(optimizer_class, steps, state=None):
    """(parameters, optimizer) after some steps, in every second of which one parameter has no gradient."""
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in [[5, 40], [3], []]]
    optimizer = optimizer_class(parameters, lr=0.01, betas=(0.0, 0.99), fused=True)
    for step in steps:
        if step == 'load':
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            continue
        for index, parameter in enumerate(parameters):
            parameter.grad = None if index == 1 and step % 2 == 1 else torch.randn_like(parameter)
        optimizer.param_groups[0]['lr'] = 0.01 / (1 + step)
        optimizer.step()
    return parameters, optimizer

@pytest.mark.parametrize('steps', [range(6), [0, 1, 2, 'load', 3, 4, 5, 6]], ids=['at a stretch', 'loaded again'])
def test_adam_is_pytorchs(steps):
    (ours, optimizer), (theirs, pytorchs) = [trained(kind, steps) for kind in [updates.Adam, torch.optim.Adam]]
    assert all(map(torch.equal, ours, theirs))
    assert optimizer.known, 'the short way was taken'
    mine, other = optimizer.state_dict(), pytorchs.state_dict()
    assert mine['param_groups'] == other['param_groups']
    for index, state in other['state'].items():
        assert state.keys() == mine['state'][index].keys()
        assert all(torch.equal(state[name], mine['state'][index][name]) for name in state)

@pytest.mark.parametrize('fused', [True, False])
def test_the_loop_takes_our_adam_for_pytorchs_fused_one_whose_name_runs_remember(fused):
    upstream_loop.prepare('cpu')
    options = dnnlib.EasyDict(class_name='torch.optim.Adam', lr=0.01, fused=fused)
    made = training_loop.dnnlib.util.construct_class_by_name([torch.nn.Parameter(torch.ones(3))], **options)
    assert type(made) is (updates.Adam if fused else torch.optim.Adam)
    assert options.class_name == 'torch.optim.Adam'

@pytest.mark.parametrize('options', [dict(amsgrad=True), dict(maximize=True), dict(lr=torch.tensor(0.01))])
def test_adam_that_is_to_do_more_is_left_to_pytorch(options):
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = updates.Adam([parameter], **{**dict(lr=0.01, fused=True), **options})
    for _step in range(2):
        parameter.grad = torch.ones(3)
        optimizer.step()
    assert not optimizer.known

#----------------------------------------------------------------------------

@pytest.mark.parametrize('is_finite', [True, False])
def test_gradients_that_are_known_to_be_finite_are_not_repaired(is_finite):
    G, D = network(0), network(1)
    phases = [dnnlib.EasyDict(module=module) for module in [G, G, D]]
    updates.shorten(phases, lambda: is_finite)
    assert phases[0].module is phases[1].module is not phases[2].module
    for phase, module in zip(phases, [G, G, D]):
        phase.module.requires_grad_(True)
        assert all(parameter.requires_grad for parameter in module.parameters())
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, float('inf'))
        for param in phase.module.parameters(): # training_loop.py:285
            misc.nan_to_num(param.grad, nan=0, posinf=1e5, neginf=-1e5, out=param.grad)
        assert all(parameter.grad.isfinite().all() != is_finite for parameter in module.parameters())
        phase.module.requires_grad_(False)
        assert not any(parameter.requires_grad for parameter in module.parameters())
