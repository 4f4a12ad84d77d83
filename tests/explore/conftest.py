"""A browser for tests of the page."""

import pytest

import limits
from visitors import browser_tools

@pytest.fixture(scope='module')
def browser():
    # Not for the whole session: beside it no test can run an event loop of its own.
    with browser_tools.browsing(limits.HANG) as chromium:
        yield chromium
