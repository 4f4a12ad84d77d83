"""Train a few iterations on batches of eight, in one process or two: what each process of run() does.

MODE comparable: three iterations without noise inputs, style mixing and path length, whose random numbers and running
mean belong to a process, so that the result must not depend on the number of processes.
MODE everything: twenty iterations with all of these, groups that merge, and seeds of each process's own.
MODE responses: as comparable, with groups by responses, of which each process has its own.
MODE rounds: as comparable, each step in two rounds. MODE unshared:
and each of them makes anew what depends on weights alone.
MODE styles: as comparable, where Q predicts styles, whose variance is that of all processes' images.
MODE exp: as comparable, with inter-group styles whose running figures are those of all processes' images.
MODE inpainting: as comparable, with networks and loss of inpainting; all holes are squares in the middle.

All but everything step along the gradient: Adam divides it by its own size,
and makes whole steps of gradients that are rounding alone.
"""

import contextlib
import gc
import traceback

import torch

import commands
import limits
import rounding
import sarigan_plugin  # noqa: F401 # Puts upstream on sys.path.
from sarigan_plugin.losses.inpainting import InpaintingLoss
from sarigan_plugin.losses.sarigan import SariGANLoss
from sarigan_plugin.model import inpainting, networks
from sarigan_plugin.model.grouped import code_styles, grouped_layers
from sarigan_plugin.upstream import host

BATCH = 8
LEARNING_RATE = 0.1

def run(folder, mode, jobs):
    """Train for jobs of (rank, world, name) together. Returns {name: (state dict before, state dict at the end)}."""
    context = commands.server()
    processes = [context.Process(target=work, args=(rank, world, folder / 'rendezvous', folder / f'{name}.pt', mode))
        for rank, world, name in jobs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(limits.HANG)
        process.kill() # One that hangs.
        process.join()
    results = {name: torch.load(folder / f'{name}.pt') for _rank, _world, name in jobs}
    for name, result in results.items():
        assert isinstance(result, tuple), f'{name}: {result}'
    return results

def work(rank, world, rendezvous, out, mode):
    try:
        result = train(rank, world, rendezvous, mode)
    except Exception:
        result = traceback.format_exc()
    torch.save(result, out)

def state_of(**modules):
    return {f'{letter}.{name}': tensor.clone() for letter, module in modules.items()
        for name, tensor in module.state_dict().items()}

def train(rank, world, rendezvous, mode):
    if world > 1:
        torch.distributed.init_process_group('gloo', rank=rank, world_size=world, init_method=f'file://{rendezvous}')
    torch.set_num_threads(1)
    states = train_connected(rank, world, mode)
    if world > 1:
        gc.collect() # As launch.py does, and why, see there.
        torch.distributed.destroy_process_group()
    return states

def train_connected(rank, world, mode):
    everything = (mode == 'everything')
    torch.manual_seed(rank if everything else 0)
    size = dict(channel_base=256, channel_max=16)
    module, c_dim, loss_class, masks = networks, 0, SariGANLoss, dict()
    if mode == 'inpainting':
        module, c_dim, loss_class, masks = inpainting, 4 * 16 * 16, InpaintingLoss, dict(mask_source='centre')
    common = dict(c_dim=c_dim, img_resolution=16, img_channels=3, code_dim=16)
    form = dict(inter_form='exp', group_torgb=True) if mode == 'exp' else dict()
    G = module.Generator(z_dim=16, num_groups=('auto' if everything else 4), **form, mapping_kwargs=dict(num_layers=2),
        synthesis_kwargs=dict(use_noise=everything, **size), **common).train()
    ws = torch.zeros(1, G.num_ws, G.w_dim)
    q_features = [part.shape[1] for part in code_styles(G.synthesis, ws)] if mode == 'styles' else None
    D = module.Discriminator(q_features=q_features, **size, **common).train()
    batches = [(torch.rand(BATCH, 3, 16, 16) * 2 - 1, torch.randn(2, BATCH, 16))
        for _ in range(20 if everything else 3)]

    wrapped = [G.mapping, G.synthesis, D]
    if world > 1:
        wrapped = [host.stand_in('cpu').nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)
            for module in wrapped]
    loss = loss_class('cpu', *wrapped, **masks, r1_gamma=1, regroup_kimg=0.064,
        similarity=('responses' if mode == 'responses' else 'kernels'),
        info_target=('styles' if mode == 'styles' else 'codes'),
        **({} if everything else dict(style_mixing_prob=0, pl_weight=0)))
    if mode == 'unshared':
        loss.shared_weights.round = lambda G_synthesis, last: contextlib.nullcontext()
    for _name, layer, _source in grouped_layers(G.synthesis):
        layer.grouping.steps.fill_(1000) # Old enough to merge.
    before = state_of(G=G, D=D)
    optimizer = (lambda parameters: torch.optim.Adam(parameters, lr=0.002, betas=(0.0, 0.99))) if everything else (
        lambda parameters: torch.optim.SGD(parameters, lr=LEARNING_RATE))
    optimizers = {network: optimizer(network.parameters()) for network in [G, D]}
    for network in [G, D]:
        network.requires_grad_(False)
    for index, (images, latents) in enumerate(batches):
        phases = [('Gmain', G, latents[0]), *([('Greg', G, latents[0])] if everything and index % 4 == 0 else []),
            ('Dmain', D, latents[1]), ('Dreg', D, latents[1])]
        for phase, network, z in phases:
            optimizers[network].zero_grad(set_to_none=True)
            network.requires_grad_(True)
            rounds = 2 if mode in ['rounds', 'unshared'] else 1
            for index_of_round in range(rounds):
                # Every second one: D's minibatch deviation then compares the same images.
                share = slice(rank * rounds + index_of_round, None, world * rounds)
                c = torch.zeros(len(z[share]), 0)
                loss.accumulate_gradients(phase=phase, real_img=images[share], real_c=c, gen_z=z[share], gen_c=c,
                    sync=(index_of_round == rounds - 1), gain=1)
            network.requires_grad_(False)
            optimizers[network].step()
    return before, state_of(G=G, D=D)

OF_EACH_RANK = 'G.mapping.w_avg' # A running mean over a rank's own images, as upstream has it.

def assert_equal_on_both_ranks(states):
    for name, tensor in states['first'][1].items():
        if name != OF_EACH_RANK:
            assert tensor.isfinite().all() and torch.equal(tensor, states['second'][1][name]), name

def assert_trained_alike(ours, theirs):
    """Up to the rounding of three iterations of gradients: of a tensor's own,
    and of those that it may be a difference of, as large as the network's largest."""
    moved = {name: (after - theirs[0][name]).abs().max() for name, after in theirs[1].items()
        if after.is_floating_point() and not name.endswith(('.steps', OF_EACH_RANK))}
    for letter in 'GD':
        largest = max(moved[name] for name in moved if name[0] == letter)
        assert largest > 0.01 # Otherwise there is nothing to compare.
        for name in [name for name in moved if name[0] == letter]:
            apart = rounding.bound(terms=16 * 9, layers=3 * 16) * moved[name] + rounding.bound(terms=16 * 9) * largest
            torch.testing.assert_close(ours[1][name], theirs[1][name], rtol=4e-7, atol=apart.item(),
                msg=lambda text, name=name: f'{name}: {text}')
