"""Imports between packages go down, as pyproject.toml has them, and tests import none of each other."""

import re

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

import trees

def test_imports_go_down_and_what_is_pickled_imports_nothing_of_ours(monkeypatch):
    monkeypatch.chdir(trees.ROOT)
    assert lint_imports(cache_dir=None) == EXIT_STATUS_SUCCESS # Otherwise it has printed which.

def test_no_test_module_imports_another():
    """What they share is in tests/support, fixtures in a conftest.py."""
    for path in (trees.ROOT / 'tests').rglob('*.py'):
        assert not re.findall(r'^\s*(?:from|import) (?:test_|conftest)\w*.*', path.read_text(encoding='utf-8'),
            flags=re.M), path

#----------------------------------------------------------------------------
