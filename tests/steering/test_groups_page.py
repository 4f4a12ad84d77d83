"""The page of `sarigan groups` fits its window, and looks as the explorer's does."""

import re

import pytest

import limits
from commands import run
from sarigan_plugin.explore import page as explore_page
from sarigan_plugin.steering import attention_page
from sarigan_plugin.support import look
from visitors import browser_tools, needs_chromium

WIDTHS = (360, 1280, 1920)
MIN_PICTURE = 240 # Pixels that a row of six images needs to show anything.

# Elements that reach over an edge of the window, or whose content reaches over their own.
CUT_OFF = """() => [...document.body.querySelectorAll('*')].filter(element => {
    const box = element.getBoundingClientRect();
    return box.right > innerWidth + 0.5 || box.left < -0.5
        || element.clientWidth > 0 && element.scrollWidth > element.clientWidth + 1;
}).map(element => element.outerHTML.slice(0, 80))"""

@pytest.fixture
def page(network, tmp_path):
    """Path of the page of a network, one of whose groups has a name as wide as any."""
    name = 'w' * 40
    assert run('name', network, '--layer=b16.conv0', '--group=0', f'--as={name}').exit_code == 0
    done = run('groups', network, f'--outdir={tmp_path / "out"}', '--seeds=0-5')
    assert done.exit_code == 0, done.output
    return tmp_path / 'out' / 'index.html'

def rules(css, selector):
    """{property: value} of what a style sheet says of a selector, outside of @media."""
    css = re.sub(r'/\*.*?\*/', '', css, flags=re.DOTALL)
    css = re.sub(r'@media[^{]*\{(?:[^{}]*\{[^{}]*\})*\s*\}', '', css)
    found = {}
    for selectors, body in re.findall(r'([^{}]+)\{([^{}]*)\}', css):
        if selector in [part.strip() for part in selectors.split(',')]:
            found.update(re.findall(r'([-\w]+):\s*([^;]+);', body))
    return found

def pixels(text):
    return [int(number) for number in re.findall(r'(\d+)px', text)]

def test_columns_leave_a_picture_its_room_in_the_narrowest_window_that_has_columns(page):
    css = re.search(r'<style>(.*?)</style>', page.read_text(encoding='ascii'), re.DOTALL)[1]
    narrow, = pixels(re.search(r'@media \(max-width: \d+px\)', css)[0])
    widths = rules(css, ':root')
    _vertical, around_main = pixels(rules(css, 'main')['padding'])
    _vertical, around_panel = pixels(rules(css, '.panel')['padding'])
    taken = sum(pixels(widths['--group'])) + len(attention_page.COLUMNS) * sum(pixels(widths['--figure']))
    assert narrow - taken - 2 * (around_main + around_panel + 1) >= MIN_PICTURE # 1: a border.
    assert rules(css, 'table')['table-layout'] == 'fixed' and rules(css, 'table')['width'] == '100%'
    assert rules(css, 'thead th')['width'] == 'var(--figure)'
    assert rules(css, 'thead th:first-child')['width'] == 'var(--group)'
    assert rules(css, 'img')['max-width'] == '100%' and rules(css, 'img')['height'] == 'auto'
    assert rules(css, 'th')['overflow-wrap'] == 'anywhere' # Of long names of groups.

def test_colours_and_panels_of_both_pages_are_written_once(page):
    assert look.css() in page.read_text(encoding='ascii')
    shared = set(re.findall(r'^(\.\w+) \{', look.css(), re.MULTILINE)) | set(re.findall(r'(--\w+):', look.css()))
    assert {'.bar', '.panel', '.note', '--page', '--text'} <= shared
    for style in [attention_page.STYLE, explore_page.STYLE]:
        text = style.read_text(encoding='utf-8')
        own = set(re.findall(r'^(\.\w+) \{', text, re.MULTILINE)) | set(re.findall(r'(--\w+):', text))
        assert not own & shared

@needs_chromium
def test_nothing_is_cut_off_at_any_width_in_the_light_or_in_the_dark(page):
    with browser_tools.browsing(limits.HANG) as browser:
        for width in WIDTHS:
            backgrounds = set()
            for scheme in ['light', 'dark']:
                tab = browser.new_page(viewport=dict(width=width, height=900), color_scheme=scheme)
                tab.goto(page.as_uri())
                tab.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
                assert tab.evaluate('document.documentElement.scrollWidth') <= width
                assert tab.evaluate(CUT_OFF) == []
                assert tab.evaluate("document.querySelector('td img').clientWidth") >= MIN_PICTURE
                backgrounds.add(tab.evaluate('getComputedStyle(document.body).backgroundColor'))
                tab.close()
            assert backgrounds == {'rgb(244, 244, 246)', 'rgb(20, 20, 24)'}
