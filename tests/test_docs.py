"""The documents: links lead somewhere, lines have at most 120 columns, the index has every page."""

import re

import pytest

import trees

DOCS = trees.ROOT / 'docs'
PAGES = [*trees.ROOT.glob('*.md'), *sorted(DOCS.rglob('*.md'))]

def anchors(page):
    """Of the headings of a page, as GitHub makes them."""
    headings = re.findall(r'^#+ (.*)$', re.sub(r'```.*?```', '', page.read_text(), flags=re.DOTALL), flags=re.M)
    plain = [re.sub(r'\[(.*?)\]\(.*?\)', r'\1', heading).lower() for heading in headings]
    return [re.sub(r'[^\w\- ]', '', heading).replace(' ', '-') for heading in plain]

def links(page):
    text = re.sub(r'```.*?```|`[^`]*`', '', page.read_text(), flags=re.DOTALL)
    return [link for link in re.findall(r'\]\(([^)\s]+)\)', text) if '://' not in link]

@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for link in links(page):
        path, _, anchor = link.partition('#')
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link

@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_lines_have_at_most_120_columns_but_for_tables(page):
    lines = page.read_text().splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith(('|', '!['))] == []

def test_the_index_has_every_page_once():
    listed = [(DOCS / link).resolve() for link in re.findall(r'^\| \[.*?\]\((.*?)\)', (DOCS / 'README.md').read_text(),
        flags=re.M)]
    assert sorted(listed) == sorted(page for page in DOCS.rglob('*.md') if page.name != 'README.md')

@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_pictures_say_what_they_show(page):
    for text, name in re.findall(r'!\[(.*?)\]\((.*?)\)', page.read_text()):
        assert len(text) > 20, name

#----------------------------------------------------------------------------
