"""Which implementation of the custom ops is chosen, and what the user reads about it."""

import os
import re
import shutil
import sys
import warnings

import pytest
import torch
from torch.utils import cpp_extension

import skips
from sarigan_plugin.acceleration import cuda_build, ops
from sarigan_plugin.errors import UserError
from sarigan_plugin.support.world import World
from sarigan_plugin.trainer import upstream_loop
from sarigan_plugin.upstream import exchanges
from worlds import together

without_nvcc = pytest.mark.skipif(cuda_build.obstacle() is None, reason=skips.HAS_NVCC)
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason=skips.HAS_CUDA)
has_triton = lambda: pytest.importorskip('triton', reason=skips.NO_TRITON)

@pytest.fixture(autouse=True)
def modules(monkeypatch):
    """Upstream's two, as if just imported."""
    with exchanges.undone():
        for module in cuda_build.modules():
            monkeypatch.setattr(module, '_plugin', None)
            monkeypatch.setattr(module, '_inited', False)
        yield cuda_build.modules()

def prepare(choice, cuda=None, builds=True, triton=None):
    """Choose on a machine where the given obstacles are in the way. Returns the line, and how often it built."""
    built = []
    def build(quiet):
        built.append(quiet)
        if builds:
            for module in cuda_build.modules():
                module._plugin = 'built'
        return builds
    return ops.prepare(choice, World(), build, lambda: cuda, lambda: triton), built

def plugins(modules):
    """What the ops will call, as they see it; nothing is to be built again."""
    assert all(module._inited and module._init() == (module._plugin is not None) for module in modules)
    first, second = [module._plugin for module in modules]
    assert first is second
    return getattr(first, '__name__', first)

#----------------------------------------------------------------------------

@pytest.mark.parametrize('choice', ['auto', 'cuda'])
def test_upstreams_plugins_come_first(choice, modules):
    assert prepare(choice) == ("Custom ops: upstream's CUDA plugins.", [choice == 'auto'])
    assert plugins(modules) == 'built'

def test_without_nvcc_nothing_is_built_and_triton_takes_over(modules):
    has_triton()
    line, built = prepare('auto', cuda='no nvcc, which the CUDA toolkit 13.0 has')
    assert line == "Custom ops: Triton kernels (upstream's CUDA plugins: no nvcc, which the CUDA toolkit 13.0 has)."
    assert built == [] and plugins(modules) == 'sarigan_plugin.acceleration.triton_kernels'

def test_where_building_fails_triton_takes_over(modules):
    has_triton()
    line, built = prepare('auto', builds=False)
    assert (line == "Custom ops: Triton kernels (upstream's CUDA plugins: "
        "building them failed, as --ops=cuda shows in full).")
    assert built == [True] and plugins(modules) == 'sarigan_plugin.acceleration.triton_kernels'

def test_where_nothing_else_works_pytorch_is_left_and_all_reasons_are_told(modules):
    line, _built = prepare('auto', cuda='no nvcc', triton='there is no Python package triton')
    assert (line == "Custom ops: PyTorch operations, which are slower (upstream's CUDA plugins: no nvcc; "
        "Triton kernels: there is no Python package triton).")
    assert plugins(modules) is None

def test_the_choice_can_be_changed(modules):
    has_triton()
    for _time in range(2):
        prepare('triton')
        assert plugins(modules) == 'sarigan_plugin.acceleration.triton_kernels'
        prepare('cuda')
        assert plugins(modules) == 'built'
        prepare('torch')
        assert plugins(modules) is None

def test_what_was_asked_for_is_taken_without_a_look_at_the_rest(modules):
    assert prepare('torch') == ('Custom ops: PyTorch operations, which are slower.', [])
    assert plugins(modules) is None
    has_triton()
    assert prepare('triton') == ('Custom ops: Triton kernels.', [])
    assert plugins(modules) == 'sarigan_plugin.acceleration.triton_kernels'

@pytest.mark.parametrize('choice, obstacles, sentence', [
    ('cuda', dict(cuda='no ninja'), "--ops=cuda: upstream's CUDA plugins cannot be used here: no ninja. "
        "The other choices are auto, triton and torch."),
    ('cuda', dict(builds=False), "--ops=cuda: upstream's CUDA plugins cannot be used here: building them failed. "
        "The other choices are auto, triton and torch."),
    ('triton', dict(triton='their results are off by 0.5'), '--ops=triton: Triton kernels cannot be used here: '
        'their results are off by 0.5. The other choices are auto, cuda and torch.'),
])
def test_what_was_asked_for_and_cannot_be_had_is_an_error(choice, obstacles, sentence):
    with pytest.raises(UserError) as error:
        prepare(choice, **obstacles)
    assert error.value.message == sentence

def test_all_processes_of_a_machine_choose_the_same_and_one_builds(tmp_path):
    def work(world):
        def build(_quiet):
            def fail():
                with open(tmp_path / 'built', 'a', encoding='utf-8') as f:
                    f.write('once\n')
            return cuda_build.prepare(world, fail, [])
        line = ops.prepare('auto', world, build, lambda: None, lambda: 'out of order')
        return 0 if line.startswith('Custom ops: PyTorch') else 3
    assert together(tmp_path, 3, work) == [0, 0, 0]
    assert (tmp_path / 'built').read_text() == 'once\n'

#----------------------------------------------------------------------------
# Obstacles.

def test_on_the_cpu_only_pytorch_can_be_asked_for():
    assert ops.obstacle('auto', 'cpu') is ops.obstacle('torch', 'cpu') is None
    for choice in ['cuda', 'triton']:
        assert (ops.obstacle(choice, 'cpu') == f'--ops={choice} needs a CUDA device, and this would train on the CPU: '
            'leave --ops out.')

def test_obstacles_are_known_before_a_training_starts(monkeypatch):
    assert ops.obstacle('cuda', 'cuda', lambda: None) is None
    assert ops.obstacle('cuda', 'cuda', lambda: 'no nvcc').startswith("--ops=cuda: "
        "upstream's CUDA plugins cannot be used here: no nvcc. The other")
    monkeypatch.setitem(sys.modules, 'triton', None) # As if it were not installed.
    assert ops.obstacle('triton', 'cuda').startswith('--ops=triton: Triton kernels cannot be used here: '
        'there is no Python package triton, which comes with PyTorch for CUDA')
    assert ops.triton_problem().startswith('there is no Python package triton')

@without_cuda
def test_a_triton_that_does_not_work_is_an_obstacle_and_no_traceback():
    has_triton()
    assert re.fullmatch(r'\w+: .+', ops.triton_problem('cuda'))

@without_nvcc
def test_a_failed_build_of_upstreams_is_quiet_unless_asked_for(modules):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert not cuda_build.build_upstreams(quiet=True)
    modules[0]._inited = False
    with pytest.warns(UserWarning, match='Failed to build CUDA kernels for bias_act'):
        assert not cuda_build.build_upstreams()

PLUGIN = """
#include <pybind11/pybind11.h>
#include <cusparse_as_packaged.h>
PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) { module.def("answer", [] { return ANSWER; }); }
"""

@pytest.mark.skipif(shutil.which('c++') is None, reason=skips.NO_COMPILER)
def test_upstream_finds_what_current_pytorch_has_built_with_headers_of_python_packages(tmp_path, monkeypatch):
    from torch_utils import custom_ops
    headers, searched = tmp_path / 'site' / 'nvidia' / 'cu13' / 'include', os.environ.get('CPLUS_INCLUDE_PATH')
    headers.mkdir(parents=True)
    (headers / 'cusparse_as_packaged.h').write_text('#define ANSWER 42')
    (tmp_path / 'plugin.cpp').write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path / 'site')
    monkeypatch.setenv('TORCH_EXTENSIONS_DIR', str(tmp_path / 'built'))
    monkeypatch.setattr(custom_ops, 'verbosity', 'none')
    with cuda_build.current_pytorch():
        plugin = custom_ops.get_plugin('plugin_of_a_test', [str(tmp_path / 'plugin.cpp')])
    assert plugin.answer() == 42
    assert plugin is sys.modules.pop('plugin_of_a_test')
    assert os.environ.get('CPLUS_INCLUDE_PATH') == searched

def test_ninja_is_found_in_an_environment_that_is_not_active(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert not cpp_extension.is_ninja_available()
    with cuda_build.current_pytorch():
        assert cpp_extension.is_ninja_available()
    assert os.environ['PATH'] == str(tmp_path)

#----------------------------------------------------------------------------
# Tools.

@without_cuda
def test_tools_choose_when_an_op_first_runs_on_a_gpu(modules, capsys):
    ops.choose_at_first_use()
    ops.choose_at_first_use()
    bias_act, upfirdn2d = modules
    bias_act.bias_act(torch.zeros(1, 2, 3, 3), act='lrelu') # Not on the CPU.
    assert capsys.readouterr().out == '' and not bias_act._inited
    assert not upfirdn2d._init() # As if the tensor were on a GPU; here nothing but PyTorch works.
    assert re.fullmatch(r"Custom ops: PyTorch operations, which are slower \(upstream's CUDA plugins: .+; "
        r"Triton kernels: .+\)\.\n", capsys.readouterr().out)
    assert plugins(modules) is None
    assert capsys.readouterr().out == ''

def test_upstreams_tools_and_our_own_choose_so(modules):
    upstream_loop.prepare('cpu')
    assert all(module._init is ops._init_at_first_use for module in modules)

#----------------------------------------------------------------------------
