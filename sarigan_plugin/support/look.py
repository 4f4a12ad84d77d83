"""The looks that all pages of the plugin share."""

from pathlib import Path

def css() -> str:
    """A style sheet: colours, the bar at the top, panels. A page adds what it has alone."""
    return Path(__file__).with_name('look.css').read_text(encoding='utf-8')

#----------------------------------------------------------------------------
