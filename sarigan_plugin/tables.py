"""Tables of text, for terminals and for Markdown."""

def markdown(rows):
    """A table in Markdown, aligned for reading as it is. rows: lists of str, the first of them the head."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ['| ' + ' | '.join(cell.ljust(width) for cell, width in zip(row, widths)) + ' |' for row in rows]
    lines.insert(1, '|' + '|'.join('-' * (width + 2) for width in widths) + '|')
    return '\n'.join(lines)
