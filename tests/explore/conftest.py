"""A browser for tests of the page."""

import pytest

import limits
from visitors import Tab, browser_tools

@pytest.fixture(scope='module')
def browser():
    # Not for the whole session: beside it no test can run an event loop of its own.
    with browser_tools.browsing(limits.HANG) as chromium:
        yield chromium

@pytest.fixture
def tab(browser, served):
    """The page that a module's `served` serves: in the end it has complained of nothing and asked nobody else."""
    tab = Tab(browser, served)
    yield tab
    tab.context.close()
    assert tab.complaints == [] and all(url.startswith((served.address, f'ws://{served.host}', 'data:', 'blob:'))
        for url in tab.asked), (tab.complaints, tab.asked)
