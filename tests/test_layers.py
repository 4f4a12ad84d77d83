"""Imports between packages go down, as pyproject.toml has them."""

import trees
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

def test_imports_go_down_and_what_is_pickled_imports_nothing_of_ours(monkeypatch):
    monkeypatch.chdir(trees.ROOT)
    assert lint_imports(cache_dir=None) == EXIT_STATUS_SUCCESS # Otherwise it has printed which.

#----------------------------------------------------------------------------
