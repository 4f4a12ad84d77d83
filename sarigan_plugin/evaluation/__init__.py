"""Figures: how good images, groups and completions are."""
