"""Tables of networks side by side, as Markdown that reads well in a terminal, too."""

import os
from collections.abc import Iterable, Sequence

def short_names(paths: Iterable[str]) -> dict[str, str]:
    """{name: path}: names of files where they differ, else whole paths."""
    paths = list(paths)
    names = [os.path.basename(os.path.normpath(path)) for path in paths]
    return {name if names.count(name) == 1 else path: path for name, path in zip(names, paths)}

def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table without a line's end after it. rows: lists of str, equally long, the first of them the head."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ['| ' + ' | '.join(cell.ljust(width) for cell, width in zip(row, widths)) + ' |' for row in rows]
    lines.insert(1, '|' + '|'.join('-' * (width + 2) for width in widths) + '|')
    return '\n'.join(lines)

#----------------------------------------------------------------------------
