"""Modules under the names that they had while all of them lay flat: the very modules, imported when somebody asks."""

import importlib
import pickle
import sys

import pytest

import commands
import trees
from sarigan_plugin import compat, hooks
from sarigan_plugin.model import networks
from sarigan_plugin.snapshots import rebuild

import dnnlib

@pytest.mark.parametrize('old, new', [(old, new) for old, new in compat.MOVED.items() if old not in compat.RENAMED])
def test_an_old_name_is_the_module_that_it_became(old, new):
    module = importlib.import_module(f'sarigan_plugin.{new}')
    spec = module.__spec__
    assert importlib.import_module(f'sarigan_plugin.{old}') is module
    assert module.__spec__ is spec and module.__name__ == spec.name == f'sarigan_plugin.{new}'

@pytest.mark.parametrize('old, name, module, new', [(old, name, *place) for old, names in compat.RENAMED.items()
    for name, place in names.items()])
def test_what_was_renamed_in_a_module_has_its_old_name_in_the_old_one_beside_all_that_stayed(old, name, module, new):
    before, now = (importlib.import_module(f'sarigan_plugin.{old}'),
        importlib.import_module(f'sarigan_plugin.{compat.MOVED[old]}'))
    assert getattr(before, name) is getattr(importlib.import_module(f'sarigan_plugin.{module}'), new)
    stayed = [name for name, value in vars(now).items() if getattr(value, '__module__', None) == now.__name__]
    assert stayed and all(getattr(before, name) is getattr(now, name) for name in stayed)
    with pytest.raises(AttributeError, match=f"'sarigan_plugin.{compat.MOVED[old]}' has no attribute 'nonesuch'"):
        before.nonesuch # noqa: B018

@pytest.mark.parametrize('name, new', networks._MOVED.items())
def test_what_went_from_the_networks_file_to_others_is_still_found_there(name, new):
    moved = getattr(importlib.import_module(f'sarigan_plugin.model.{new}'), name)
    assert getattr(networks, name) is moved
    assert dnnlib.util.get_obj_by_name(f'sarigan_plugin.networks.{name}') is moved
    with pytest.raises(AttributeError, match="^module 'sarigan_plugin.model.networks' has no attribute 'nonesuch'$"):
        networks.nonesuch # noqa: B018

def test_an_old_name_runs_as_a_script_too():
    done = commands.finished(commands.start('-m', 'sarigan_plugin.ablation_job'))
    assert 'EOFError' in done.stderr and 'sarigan_plugin/ablation/job.py' in done.stderr # It read no job from stdin.

def test_an_old_name_may_come_first_and_in_every_form_of_import():
    code = ('from sarigan_plugin import grouping\nfrom sarigan_plugin.grouping import make_grouping\nimport '
        'sarigan_plugin.grouping as third\nimport sarigan_plugin.model.grouping as new\nassert grouping is third is '
        'new and new.make_grouping is make_grouping')
    done = trees.run([sys.executable, '-c', code], trees.ROOT)
    assert done.returncode == 0, done.stderr

def test_importing_the_package_imports_none_of_them():
    code = ('import sys, sarigan_plugin; print([name for name in sys.modules if '
        'name.startswith("sarigan_plugin.model") or name == "torch"])')
    assert trees.run([sys.executable, '-c', code], trees.ROOT).stdout == '[]\n'

def test_a_name_that_never_was_is_no_module():
    with pytest.raises(ModuleNotFoundError, match="No module named 'sarigan_plugin.nonesuch'"):
        importlib.import_module('sarigan_plugin.nonesuch')

def test_files_name_classes_as_ever(make_generator, make_discriminator):
    assert rebuild.class_name(make_generator()) == 'sarigan_plugin.networks.Generator'
    assert rebuild.class_name(make_discriminator()) == 'sarigan_plugin.networks.Discriminator'
    for network in [make_generator(), make_discriminator()]:
        pickled = pickle.dumps(network)
        assert b'sarigan_plugin.model' not in pickled and b'def grouped_layers' not in pickled

@pytest.mark.parametrize('name', ['take_any_network', 'train', 'keeper', 'generate'])
def test_hooks_have_what_patches_import(name):
    assert getattr(hooks, name) is not None

@pytest.mark.parametrize('path', sorted((trees.ROOT / 'patches').glob('*.patch')), ids=lambda path: path.stem)
def test_patches_import_from_hooks_alone(path):
    lines = [line for line in path.read_text(encoding='utf-8').splitlines() if line.startswith('+')
        and 'sarigan_plugin' in line]
    assert lines and all(line.lstrip('+ ').startswith('from sarigan_plugin.hooks import ') for line in lines)

#----------------------------------------------------------------------------
