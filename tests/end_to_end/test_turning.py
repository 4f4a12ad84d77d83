"""The moving picture of single groups can be made again."""

import runpy

import PIL.Image

import trees

def test_the_picture_is_made_of_a_boxed_network(tmp_path, monkeypatch):
    module = runpy.run_path(str(trees.ROOT / 'examples' / 'turning.py'))
    monkeypatch.setitem(module['main'].__globals__, 'STEPS', 4)
    module['main'](str(tmp_path / 'turning.gif'))
    with PIL.Image.open(tmp_path / 'turning.gif') as made, PIL.Image.open(trees.ROOT / 'docs' / 'turning.gif') as ours:
        assert made.size == ours.size and made.n_frames > 2 * len(module['GROUPS'])
    assert (trees.ROOT / 'docs' / 'turning.gif').stat().st_size < 1e6
