"""Upstream's untouched modules on current PyTorch and without CUDA."""

import copy
import os
import subprocess
import sys
import zipfile

import numpy as np
import PIL.Image
import pytest
import torch

import skips
from sarigan_plugin.trainer import upstream_loop
from sarigan_plugin.upstream import exchanges, host

import dnnlib
from metrics import metric_utils, perceptual_path_length
from torch_utils import misc
from training import dataset, training_loop

@pytest.fixture(autouse=True)
def prepared():
    with exchanges.undone():
        upstream_loop.prepare('cpu')
        yield

def test_device_names_are_resolved_and_wrong_ones_refused():
    assert host.resolve_device('cpu') == 'cpu'
    assert host.resolve_device() == ('cuda' if torch.cuda.is_available() else 'cpu')
    with pytest.raises(ValueError, match="must be one of auto, cuda, cpu, not 'gpu'"):
        host.resolve_device('gpu')

@pytest.mark.skipif(torch.cuda.is_available(), reason=skips.HAS_CUDA)
def test_asking_for_cuda_without_cuda_says_so():
    with pytest.raises(ValueError, match='cuda was asked for, but PyTorch finds no CUDA device here; use cpu or auto'):
        host.resolve_device('cuda')

def test_stand_in_sends_cuda_to_the_cpu_and_leaves_the_rest():
    stand_in = host.stand_in('cpu')
    assert stand_in.device('cuda', 3) == stand_in.device('cuda:0') == torch.device('cpu')
    assert stand_in.device('meta') == torch.device('meta')
    assert stand_in.Tensor is torch.Tensor and stand_in.nn.Linear is torch.nn.Linear
    assert torch.device('cuda', 3).type == 'cuda' # The real one is untouched.

def test_stand_in_gives_a_rank_the_gpu_of_its_place_on_its_machine():
    stand_in = host.stand_in('cuda', local_rank=1)
    assert stand_in.device('cuda', 9) == torch.device('cuda', 1) # Rank 9, the second of the second machine of eight.
    assert stand_in.device('cpu') == torch.device('cpu') and stand_in.device('meta', 0) == torch.device('meta', 0)
    assert host.stand_in('cuda').device('cuda', 3) == torch.device('cuda', 3) # A tool's own choice.

def test_stand_in_events_measure_milliseconds():
    cuda = host.stand_in('cpu').cuda
    start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    start.record(cuda.current_stream())
    end.record()
    end.synchronize()
    assert 0 <= start.elapsed_time(end) < 1000

def test_preparing_twice_changes_nothing_more():
    before = [(made.place, made.name, made.upstreams) for made in exchanges.in_force()]
    upstream_loop.prepare('cpu')
    assert [(made.place, made.name, made.upstreams) for made in exchanges.in_force()] == before
    with exchanges.undone():
        assert all(getattr(sys.modules[place], name, None) is own for place, name, own in before if ':' not in place)

def test_processes_that_load_images_open_a_zip_file_for_themselves(tmp_path):
    with zipfile.ZipFile(tmp_path / 'images.zip', 'w') as archive:
        for index in range(32):
            with archive.open(f'{index}.png', 'w') as file:
                PIL.Image.fromarray(np.random.randint(256, size=[16, 16, 3], dtype=np.uint8)).save(file, format='png')
    data = dataset.ImageFolderDataset(path=str(tmp_path / 'images.zip'))
    opened = data._zipfile.fp.fileno() # To know the size of images, before processes fork.
    expected = [data[index][0] for index in range(32)]
    place = os.lseek(opened, 0, os.SEEK_CUR)
    args = dnnlib.EasyDict(data_loader_kwargs=dnnlib.EasyDict(), G_opt_kwargs=dnnlib.EasyDict(betas=[0, 0.99]),
        D_opt_kwargs=dnnlib.EasyDict(betas=[0, 0.99]))
    upstream_loop.fit_to_device(args, 'cuda')
    loaded = torch.utils.data.DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context='fork',
        **args.data_loader_kwargs)
    assert all(np.array_equal(image, wanted) for (image, _label), wanted in zip(loaded, expected, strict=True))
    assert os.lseek(opened, 0, os.SEEK_CUR) == place # Nobody else has read through it.

def test_sampler_shows_every_image_once_per_pass_without_shuffling():
    sampler = iter(misc.InfiniteSampler(dataset=range(5), shuffle=False))
    assert [int(next(sampler)) for _ in range(10)] == [0, 1, 2, 3, 4] * 2

def test_network_summary_leaves_no_trace_of_uninitialised_memory(make_generator, capsys):
    G = make_generator().train()
    before = copy.deepcopy(G.mapping.w_avg)
    poison = torch.full([2, G.z_dim], float('nan'))
    images = misc.print_module_summary(G, [poison, torch.full([2, 0], 1e30)])
    assert torch.equal(G.mapping.w_avg, before) and images.isfinite().all()
    assert 'b32.conv1' in capsys.readouterr().out

def test_percentiles_of_path_lengths_work_on_current_numpy():
    assert perceptual_path_length.np.percentile(np.arange(11), 45, interpolation='lower') == 4
    assert perceptual_path_length.np.mean is np.mean

@pytest.mark.skipif(torch.cuda.is_available(), reason=skips.HAS_CUDA)
def test_pinning_memory_is_the_identity_without_cuda():
    array = np.ones(3)
    for module in [training_loop, metric_utils, perceptual_path_length]:
        tensor = module.torch.from_numpy(array)
        assert isinstance(tensor, torch.Tensor) and tensor.pin_memory().data_ptr() == tensor.data_ptr()
        assert tensor.pin_memory().tolist() == [1, 1, 1]
    with pytest.raises(RuntimeError): # Elsewhere it is what it was.
        torch.from_numpy(array).pin_memory()

class NineImages:
    has_labels = False
    image_shape = [3, 2000, 1000] # Upstream makes this a sheet of 7 by 4.
    def __len__(self):
        return 9
    def __getitem__(self, index):
        return np.full([3, 1, 1], index), np.zeros([0], dtype=np.float32)

def test_sample_sheets_can_be_made_smaller():
    size, images, labels = training_loop.setup_snapshot_image_grid(NineImages())
    assert size == (7, 4)
    upstream_loop.prepare('cpu', grid=[3, 2])
    small, few, labels = training_loop.setup_snapshot_image_grid(NineImages())
    assert small == (3, 2) and labels.shape == (6, 0)
    assert np.array_equal(few, images.reshape(4, 7, 3, 1, 1)[:2, :3].reshape(6, 3, 1, 1))

def test_options_fit_the_cpu():
    args = dnnlib.EasyDict(G_opt_kwargs=dnnlib.EasyDict(betas=[0, 0.99]), D_opt_kwargs=dnnlib.EasyDict(betas=[0, 0.99]),
        data_loader_kwargs=dnnlib.EasyDict(pin_memory=True), D_kwargs=dnnlib.EasyDict(num_fp16_res=4),
        G_kwargs=dnnlib.EasyDict(synthesis_kwargs=dnnlib.EasyDict(num_fp16_res=4)))
    upstream_loop.fit_to_device(args, 'cpu')
    assert (args.D_kwargs.num_fp16_res == args.G_kwargs.synthesis_kwargs.num_fp16_res == 0
        and not args.data_loader_kwargs.pin_memory)
    torch.optim.Adam([torch.nn.Parameter(torch.ones(1))], **args.G_opt_kwargs) # Raises if a beta is an int.

#----------------------------------------------------------------------------

@pytest.mark.parametrize('place', ['hooks', 'runtime'], ids=['patched today', 'patched when modules lay flat'])
def test_a_patched_tool_gets_a_prepared_process_by_importing_its_torch(place):
    code = (f"import sarigan_plugin\nfrom sarigan_plugin.{place} import host_torch as torch\nfrom torch_utils import "
        "misc\nassert misc.InfiniteSampler(range(3)) is not None\nprint(torch.device('cuda').type)")
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == host.resolve_device()

def test_pytorch_for_cuda_is_quiet_on_a_machine_with_nvcc_and_without_a_gpu():
    code = ("import sarigan_plugin\nfrom torch.utils import cpp_extension\n"
        "cpp_extension.logger.warning(\"No CUDA runtime is found, using CUDA_HOME='%s'\", '/usr/local')\n"
        "cpp_extension.logger.warning('Something else')")
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert 'Something else' in done.stderr and 'No CUDA runtime' not in done.stderr

#----------------------------------------------------------------------------
