"""Turning groups: images of codes, edits, names, directions, projections, completions."""
