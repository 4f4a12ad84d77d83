"""`python -m sarigan_plugin` is `sarigan`."""

from sarigan_plugin.cli import main

main(prog_name='sarigan')
