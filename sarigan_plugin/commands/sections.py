"""Helps that show options in sections."""

import click

OPTIONS, SHARED = 'Options', 'Network and machine' # Sections of a help: what no other has, and what commands share.

class SectionedCommand(click.Command):
    """A command whose help shows its options in sections, with those that many commands share at the end.

    sections: {title: flags}, the flags in one string: {'The edit': '--layer --group'}.
    """
    def __init__(self, *args, sections=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.sections = sections or {}

    def section_of(self, param):
        """The title of the section that an option stands in."""
        for title, flags in {**self.sections, SHARED: _SHARED_FLAGS}.items():
            if set(param.opts) & set(flags.split()):
                return title
        return OPTIONS

    def in_sections(self, ctx):
        """{title: its options} in the order of the help."""
        found = {title: [] for title in [OPTIONS, *self.sections, SHARED]}
        for param in self.get_params(ctx):
            if param.param_type_name == 'option':
                found[self.section_of(param)].append(param)
        return {title: params for title, params in found.items() if params}

    def format_options(self, ctx, formatter):
        for title, params in self.in_sections(ctx).items():
            with formatter.section(title):
                formatter.write_dl([param.get_help_record(ctx) for param in params])

_SHARED_FLAGS = '--class --label --trust-pickle --device --cpu-bf16'

#----------------------------------------------------------------------------
