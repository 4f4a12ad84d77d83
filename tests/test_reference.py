"""docs/reference is what its script makes of the code."""

import importlib.util

import pytest

import trees

FOLDER = trees.ROOT / 'docs' / 'reference'
spec = importlib.util.spec_from_file_location('make_reference', FOLDER / 'make.py')
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)

@pytest.mark.parametrize('name', list(make.PAGES))
def test_the_reference_is_current(name):
    assert (FOLDER / name).read_text(encoding='utf-8') == make.PAGES[name](), ('the code has changed: run '
        '`python docs/reference/make.py`')

def test_every_key_of_a_config_says_what_it_does():
    for cls in make.recipes.TABLES.values():
        for field in make.dataclasses.fields(cls):
            assert len(make.meaning(cls, field)) > 5, field.name
            assert make.type_in_words(field.type)

def test_bars_in_cells_do_not_end_them():
    assert make.table(['a'], [['x|y']]) == '| a |\n|---|\n| x\\|y |'

#----------------------------------------------------------------------------
