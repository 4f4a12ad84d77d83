"""The examples in docstrings and in the docs run as they stand, with a network where they look for it."""

import doctest
import importlib
import re

import pytest
import trees

MODULES = sorted(path.stem for path in (trees.ROOT / 'sarigan_plugin').glob('*.py') if '>>> ' in path.read_text())
PAGES = [path for path in [trees.ROOT / 'README.md', *sorted((trees.ROOT / 'docs').glob('*.md'))] if '```python\n' in path.read_text()]

@pytest.fixture(autouse=True)
def folder_with_a_network(network, tmp_path, monkeypatch):
    """network.pkl in the working folder; out/demo/network.pkl as `sarigan demo` leaves it."""
    demo = tmp_path / 'out' / 'demo'
    demo.mkdir(parents=True)
    (demo / 'network.pkl').write_bytes(network.read_bytes())
    monkeypatch.chdir(tmp_path)

@pytest.mark.parametrize('name', MODULES)
def test_docstrings_say_what_happens(name):
    failed, tried = doctest.testmod(importlib.import_module(f'sarigan_plugin.{name}'), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert tried > 0 and failed == 0

@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_python_in_the_docs_runs(page):
    for code in re.findall(r'```python\n(.*?)```', page.read_text(), flags=re.DOTALL):
        exec(compile(code, page.name, 'exec'), {}) # pylint: disable=exec-used

#----------------------------------------------------------------------------
