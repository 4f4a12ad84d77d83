"""Options that take several values."""

import click

class ListOf(click.ParamType):
    """'1,2' -> [1, 2]: convert_part() is called for each part, and raises ValueError for what is none."""
    name = 'list'

    def __init__(self, convert_part, example):
        self.convert_part = convert_part
        self.example = example

    def convert(self, value, param, ctx):
        try:
            return [self.convert_part(part) for part in value.split(',')]
        except ValueError:
            self.fail(f'{value!r} is not a list such as {self.example}', param, ctx)
