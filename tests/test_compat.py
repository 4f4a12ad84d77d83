"""Modules under the names that they had while all of them lay flat: the very modules, imported when somebody asks."""

import importlib
import pickle
import sys

import pytest
import trees

from sarigan_plugin import compat
from sarigan_plugin import hooks
from sarigan_plugin.snapshots import rebuild

@pytest.mark.parametrize('old, new', compat.MOVED.items())
def test_an_old_name_is_the_module_that_it_became(old, new):
    module = importlib.import_module(f'sarigan_plugin.{new}')
    spec = module.__spec__
    assert importlib.import_module(f'sarigan_plugin.{old}') is module
    assert module.__spec__ is spec and module.__name__ == spec.name == f'sarigan_plugin.{new}'

def test_an_old_name_may_come_first_and_in_every_form_of_import():
    code = ('from sarigan_plugin import grouping\nfrom sarigan_plugin.grouping import make_grouping\nimport sarigan_plugin.grouping as third\n'
            'import sarigan_plugin.model.grouping as new\nassert grouping is third is new and new.make_grouping is make_grouping')
    done = trees.run([sys.executable, '-c', code], trees.ROOT)
    assert done.returncode == 0, done.stderr

def test_importing_the_package_imports_none_of_them():
    code = 'import sys, sarigan_plugin; print([name for name in sys.modules if name.startswith("sarigan_plugin.model") or name == "torch"])'
    assert trees.run([sys.executable, '-c', code], trees.ROOT).stdout == '[]\n'

def test_a_name_that_never_was_is_no_module():
    with pytest.raises(ModuleNotFoundError, match="No module named 'sarigan_plugin.nonesuch'"):
        importlib.import_module('sarigan_plugin.nonesuch')

def test_files_name_classes_as_ever(make_generator, make_discriminator):
    assert rebuild.class_name(make_generator()) == 'sarigan_plugin.networks.Generator'
    assert rebuild.class_name(make_discriminator()) == 'sarigan_plugin.networks.Discriminator'
    assert b'sarigan_plugin.model' not in pickle.dumps(make_generator())

@pytest.mark.parametrize('name', ['take_any_network', 'train', 'keeper', 'generate'])
def test_hooks_have_what_patches_import(name):
    assert getattr(hooks, name) is not None

@pytest.mark.parametrize('path', sorted((trees.ROOT / 'patches').glob('*.patch')), ids=lambda path: path.stem)
def test_patches_import_from_hooks_alone(path):
    lines = [line for line in path.read_text(encoding='utf-8').splitlines() if line.startswith('+') and 'sarigan_plugin' in line]
    assert lines and all(line.lstrip('+ ').startswith('from sarigan_plugin.hooks import ') for line in lines)

#----------------------------------------------------------------------------
