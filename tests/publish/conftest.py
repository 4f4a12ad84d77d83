"""Sites of small networks, a server for them, and a browser."""

import pytest
import torch

import limits
import skips
from publish_tools import Published, Server, Tab
from sarigan_plugin.datasets import packaged
from sarigan_plugin.errors import UserError
from sarigan_plugin.steering.channel_sets import ChannelSet
from visitors import browser_tools

@pytest.fixture(scope='session')
def runtime_archive():
    """ONNX Runtime Web's archive, which `sarigan publish` downloads the first time."""
    try:
        return packaged.fetch(packaged.ONNX_RUNTIME)
    except UserError:
        pytest.skip(skips.NO_ONNX_RUNTIME)

@pytest.fixture(scope='session')
def published(make_generator, runtime_archive, tmp_path_factory):
    torch.manual_seed(0)
    return Published(tmp_path_factory.mktemp('published'), make_generator(grouping='blocks', img_resolution=16),
        name=('b16.conv1', 1, 'glasses'), linked=[
            ChannelSet('hat', {'b8.conv1': (0, 3), 'b16.conv1': (1, 2, 5)}, note='Off: no hats.'),
            ChannelSet(None, {'b16.conv0': (2, 7)})])

#----------------------------------------------------------------------------

@pytest.fixture(scope='module')
def browser():
    # Not for the whole session: beside it no test can run an event loop of its own.
    with browser_tools.browsing(limits.HANG) as chromium:
        yield chromium

@pytest.fixture(scope='session')
def server(published):
    return Server(published.site)

@pytest.fixture
def open_tab(browser, server):
    """open_tab(fragment, **options of the browser) -> a Tab, which in the end has complained of nothing and asked
    nobody else."""
    tabs = []
    def make(fragment='', address=server.address, **options):
        tabs.append(Tab(browser, address, fragment, **options))
        return tabs[-1]
    yield make
    for tab in tabs:
        origin = '/'.join(tab.page.url.split('/')[:3]) + '/'
        tab.context.close()
        assert tab.complaints == []
        assert all(url.startswith((origin, f'blob:{origin}', 'data:')) for url in tab.asked), tab.asked
