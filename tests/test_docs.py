"""The documents: links lead somewhere, lines have at most 120 columns, the index has every page."""

import importlib.util
import re

import PIL.Image
import pytest

import command_lines
import trees
from sarigan_plugin.steering import groupings, names

DOCS = trees.ROOT / 'docs'
PICTURES = sorted(path.name for path in DOCS.iterdir() if path.suffix in ['.png', '.gif'])
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

# How pictures are made.

spec = importlib.util.spec_from_file_location('docs_pictures', DOCS / 'pictures.py')
made = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made)

def captions(name):
    """What stands under a picture, wherever it is shown: a list of the code in it, in one line each."""
    picture, others = rf'!\[[^\]]*\]\((?:docs/)?{re.escape(name)}\)\n+', r'(?:!\[[^\n]*\n+)*'
    shown = [found for page in PAGES
        for found in re.findall(f'{picture}({others}.*?)\n\n', page.read_text() + '\n\n', flags=re.DOTALL)]
    return [[' '.join(code.split()) for code in re.findall('`(.*?)`', text, flags=re.DOTALL)] for text in shown]

@pytest.mark.parametrize('name', PICTURES)
def test_under_a_picture_stands_the_command_that_makes_it(name):
    shown = captions(name)
    assert shown, 'no page shows it'
    for codes in shown:
        commands = [code for code in codes if re.match(r'python |sarigan .*--', code)]
        assert commands
        for code in commands:
            for line in command_lines.traced([(code, False)]):
                command_lines.take(line.ours or ['list'])
        if name in made.COMMANDS:
            assert f'sarigan {made.COMMANDS[name][0]}' in commands
        elif name in made.BROWSER:
            assert f'python docs/pictures.py {name}' in commands

# Of networks that we trained for hours; their captions have the commands.
OF_TRAININGS = {'disentanglement.png', 'performance.png', 'results-norm.png', 'results-samples.png',
    'results-target.png'}

def test_the_picture_script_finds_its_groups_and_knows_its_pictures(tmp_path, monkeypatch):
    assert set(made.ALL) | OF_TRAININGS == set(PICTURES) and not set(made.ALL) & OF_TRAININGS
    known = names.load(made.NETWORK, groupings.load(made.NETWORK, 'NETWORK'))
    assert all(known.find(name) for name in [made.GROUP, *made.TURNED])
    made.by_command('mix.png', tmp_path / 'mix.png')
    with PIL.Image.open(tmp_path / 'mix.png') as ours, PIL.Image.open(DOCS / 'mix.png') as shown:
        assert ours.size == shown.size
    with pytest.raises(SystemExit, match='There is no picture'):
        made.main(['mixed.png'])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r'inpainting\.pkl and punks\.zip must be in the working folder'):
        made.main(['inpainting.png'])

def test_the_picture_that_the_readme_begins_with_is_the_page_at_work():
    first = re.search(r'!\[.*?\]\((.*?)\)', (trees.ROOT / 'README.md').read_text())[1]
    assert first == 'docs/page.gif' and (DOCS / 'page.gif').stat().st_size < 1e6
    with PIL.Image.open(DOCS / 'page.gif') as picture:
        assert picture.n_frames > 20 and picture.width >= 1000

#----------------------------------------------------------------------------
