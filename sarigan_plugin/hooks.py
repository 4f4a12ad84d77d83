"""What the patches to upstream's files import, and all that they import.

Each name is looked up when a patched file asks for it. A patched tree outlives the plugin that patched it: names here
stay, wherever what they stand for moves.
"""

import importlib

# name -> (module, attribute)
_PLACES = {
    # tools.patch, generate.patch: prepares the process when it is asked for.
    'host_torch':       ('sarigan_plugin.trainer.upstream_loop',     'host_torch'),
    # tools.patch, of legacy.py: the same.
    'sentences':        ('sarigan_plugin.upstream.mistakes',         'sentences'),
    # networks.patch, generate.patch
    'take_any_network': ('sarigan_plugin.commands.upstream_scripts', 'take_any_network'),
    'train':            ('sarigan_plugin.commands.train',            'main'),             # train.patch
    'keeper':           ('sarigan_plugin.trainer.checkpoint',        'keeper'),           # training.patch
    # The assembled tree's generate.py.
    'generate':         ('sarigan_plugin.commands.generate',         'generate_command'),
}

def __getattr__(name):
    if name not in _PLACES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module), attribute)

#----------------------------------------------------------------------------
