"""One browser for all tests of the page."""

import limits
import pytest
from visitors import browser_tools

@pytest.fixture(scope='session')
def browser():
    with browser_tools.browsing(limits.HANG) as chromium:
        yield chromium
