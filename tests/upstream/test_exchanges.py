"""The registry of names that are exchanged in upstream's modules: all of them are in it, and all can be undone."""

import json
import subprocess
import sys
import types

import pytest
from click.testing import CliRunner

from sarigan_plugin import hooks
from sarigan_plugin.support import pictures
from sarigan_plugin.upstream import exchanges
from sarigan_plugin.upstream.exchanges import Overlay, exchange

@pytest.fixture
def module(monkeypatch):
    """A module as upstream might have one."""
    class Parent:
        def inherited(self):
            return 'parent'
    class Child(Parent):
        def own(self):
            return 'child'
    made = types.ModuleType('upstreams')
    made.__dict__.update(number=1, Parent=Parent, Child=Child)
    monkeypatch.setitem(sys.modules, 'upstreams', made)
    with exchanges.undone():
        yield made

def plus(number):
    return lambda other: number + other

#----------------------------------------------------------------------------

def test_an_exchange_gets_what_upstream_has_and_is_undone(module):
    exchange('upstreams', 'number', plus(1), 'why')
    assert module.number == 2
    exchanges.undo('upstreams', 'number')
    exchanges.undo('upstreams', 'number') # Nothing to undo is nothing to do.
    assert module.number == 1 and exchanges.in_force() == []

def test_nothing_is_wrapped_twice(module):
    wrap = lambda number: [number]
    exchange('upstreams', 'number', wrap, 'why')
    wrapped = module.number
    exchange('upstreams', 'number', wrap, 'why')
    assert module.number is wrapped == [1]
    exchange('upstreams', 'number', plus(5), 'another reason')
    assert module.number == 6 and [made.reason for made in exchanges.in_force()] == ['another reason']

def test_a_builtin_and_an_inherited_method_come_back_as_well(module):
    exchange('upstreams', 'open', lambda none: ('ours', none), 'why')
    exchange('upstreams:Child', 'inherited', lambda method: lambda self: f'our {method(self)}', 'why')
    exchange('upstreams:Child', 'own', lambda method: lambda self: f'our {method(self)}', 'why')
    child = module.Child()
    assert module.open == ('ours', None) and child.inherited() == 'our parent' and child.own() == 'our child'
    assert module.Parent().inherited() == 'parent'
    for made in exchanges.in_force():
        exchanges.undo(made.place, made.name)
    assert child.inherited() == 'parent' and child.own() == 'child'
    assert not hasattr(module, 'open') and 'inherited' not in vars(module.Child)

def test_exchanges_are_undone_for_a_while(module):
    exchange('upstreams', 'number', plus(1), 'why')
    before = exchanges.in_force()
    with pytest.raises(KeyError), exchanges.undone():
        assert module.number == 1 and exchanges.in_force() == []
        exchange('upstreams', 'number', plus(5), 'why')
        exchange('upstreams', 'another', lambda none: 'ours', 'why')
        assert module.number == 6
        raise KeyError
    assert module.number == 2 and not hasattr(module, 'another') and exchanges.in_force() == before

def test_an_overlay_is_the_original_but_for_some_names():
    overlay = Overlay(json, dumps=str)
    assert overlay.dumps is str and overlay.loads is json.loads and json.dumps is not str and overlay.__name__ == 'json'
    with pytest.raises(AttributeError, match="module 'json' has no attribute 'nonesuch'"):
        _ = overlay.nonesuch

SCRIPT = '''
import click
import types
legacy, imageio = types.ModuleType('legacy'), types.ModuleType('imageio')
seen = []

@click.command()
@click.option('--seed', type=int)
def main(seed):
    seen.append((seed, legacy, imageio))
'''

def test_a_script_has_its_own_names_again_after_its_command(monkeypatch):
    script = types.ModuleType('script')
    monkeypatch.setitem(sys.modules, 'script', script)
    monkeypatch.setattr(pictures, 'has_mp4', lambda: False)
    exec(SCRIPT, vars(script))
    names = script.legacy, script.imageio
    before = exchanges.in_force()
    hooks.take_any_network(script.main)
    for seed in [1, 2]:
        done = CliRunner().invoke(script.main, [f'--seed={seed}'])
        assert done.exit_code == 0, done.output
        assert (script.legacy, script.imageio) == names and exchanges.in_force() == before
        _seed, legacy, imageio = script.seen[-1]
        assert isinstance(legacy, Overlay) and legacy._original is names[0] and imageio.get_writer is not None
    assert [seed for seed, *_names in script.seen] == [1, 2]

#----------------------------------------------------------------------------
# All of them.

LOOK = '''
import importlib, json, pkgutil, sys
import sarigan_plugin
import builtins, os, warnings, zipfile
import numpy, torch, torch.utils.cpp_extension, torch.utils.data, torch.utils.tensorboard

def modules_of_upstream():
    for package in ['dnnlib', 'metrics', 'torch_utils', 'training']:
        package = importlib.import_module(package)
        yield package
        for module in pkgutil.walk_packages(package.__path__, f'{package.__name__}.'):
            yield importlib.import_module(module.name)
    yield importlib.import_module('legacy')

UPSTREAMS = list(modules_of_upstream())
OTHERS = [builtins, os, os.path, sys, warnings, zipfile, numpy,
    torch, torch.cuda, torch.distributed, torch.nn, torch.nn.parallel, torch.utils.cpp_extension, torch.utils.data,
    torch.utils.tensorboard]
MEANT_TO_CHANGE = {'warnings': ['filters', '_filters_mutated', '_filters_version'], 'builtins': ['_']}

def owners(module):
    """(place, module or class) of a module and of the classes that it makes."""
    yield module.__name__, module
    for name, value in list(vars(module).items()):
        if issubclass(type(value), type) and value.__module__ in [module.__name__, 'torch_utils.persistence']:
            yield f'{module.__name__}:{name}', value

def look():
    classes = [('torch:Tensor', torch.Tensor), ('torch._C:TensorBase', torch._C.TensorBase)]
    found = classes + [owner for module in [*UPSTREAMS, *OTHERS] for owner in owners(module)]
    return {place: (owner, dict(vars(owner)), getattr(owner, '__bases__', None)) for place, owner in found}

ours = {module.__name__ for module in UPSTREAMS}
before = look()

from sarigan_plugin.acceleration import cpu, cuda_build, ops
from sarigan_plugin.support.world import World
from sarigan_plugin.trainer import upstream_loop
from sarigan_plugin.upstream import exchanges

def changes():
    changed = []
    for place, (owner, names, bases) in before.items():
        now = dict(vars(owner))
        may_grow = ':' not in place and place not in ours # PyTorch and NumPy import modules of theirs when asked.
        compared = set(names) if may_grow else {*names, *now}
        nothing = object()
        changed += [(place, name) for name in sorted(compared - set(MEANT_TO_CHANGE.get(place, [])))
            if now.get(name, nothing) is not names.get(name, nothing) and name != '__annotations__']
        if getattr(owner, '__bases__', None) != bases:
            changed.append((place, '__bases__'))
    return changed

for code in sys.argv[1:]:
    if os.fork() == 0: # What one changes the next does not see.
        exec(code)
        changed = changes()
        in_force = [(made.place, made.name, made.reason) for made in exchanges.in_force()]
        with exchanges.undone():
            left = changes()
        print(json.dumps(dict(changed=changed, in_force=in_force, left=left)), flush=True)
        os._exit(0)
    os.wait()
'''

PREPARE = '''
for _time in range(2):
    upstream_loop.prepare('cpu', grid=(2, 2), skip_bad_images=True, left_out={'somewhere': ['1.png']})
    upstream_loop.skip_samples(5)
    cpu.prepare()
    with cuda_build.current_pytorch():
        pass
ops.prepare('torch', World())
'''

OUTSIDE = """
torch.Tensor.pin_memory = lambda tensor: tensor
torch.utils.tensorboard.SummaryWriter = None
from torch_utils import misc
from training import loss
misc.assert_shape = None
misc.InfiniteSampler.__bases__ = (type('Sampler', (torch.utils.data.Sampler,), {}),)
loss.Loss.new_method = None
"""

@pytest.fixture(scope='module')
def found():
    """What PREPARE and OUTSIDE change: each in a process of its own, of one that has imported all modules."""
    done = subprocess.run([sys.executable, '-c', LOOK, PREPARE, OUTSIDE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"changed')]

def test_all_that_changes_in_modules_of_others_is_in_the_registry_and_in_upstreams_modules(found):
    found, _outside = found
    registered = {(place, name): reason for place, name, reason in found['in_force']}
    upstreams = {(place, name) for place, name in registered if not place.startswith('sarigan_plugin.')}
    assert len(upstreams) > 30 and {tuple(change) for change in found['changed']} <= upstreams
    unchanged = upstreams - {tuple(change) for change in found['changed']}
    assert {name for _place, name in unchanged} <= {'_plugin'} # None, with --ops=torch, as it was.
    assert all(len(reason) > 20 for reason in registered.values())
    assert found['left'] == []

def test_a_change_outside_of_the_registry_is_found(found):
    _prepared, found = found
    assert found['changed'] == found['left'] and found['in_force'] == []
    assert sorted(map(tuple, found['changed'])) == [
        ('torch.utils.tensorboard',          'SummaryWriter'),
        ('torch:Tensor',                     'pin_memory'),
        ('torch_utils.misc',                 'assert_shape'),
        ('torch_utils.misc:InfiniteSampler', '__bases__'),
        ('training.loss:Loss',               'new_method'),
    ]

#----------------------------------------------------------------------------
