"""The looks that all pages of the plugin share."""

from pathlib import Path

def css() -> str:
    """A style sheet: colours, the bar at the top, panels. A page adds what it has alone."""
    return _sheet('look.css')

def editor_css() -> str:
    """The same, and what pages look like on which one edits images."""
    return css() + _sheet('editor.css')

def _sheet(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding='utf-8')

#----------------------------------------------------------------------------
