"""Networks that come with the plugin: a folder of numbers and a model card each, taken by their names.

    >>> from sarigan_plugin.snapshots import box
    >>> 'drawn32' in [entry.name for entry in box.entries()]
    True

A folder `sarigan_plugin/box/NAME` has what hubs of models expect, and what is known of its groups:

    config.json, model.safetensors      the averaged generator, see exported.py
    README.md                           its model card, see model_card.py
    names.json, groups.json             names of its groups, and groups that `sarigan regroup` found, if there are any
"""

import dataclasses
import json
import os
import re

from sarigan_plugin.snapshots import exported
from sarigan_plugin.support import files, places

#----------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Boxed:
    """A network of the box."""
    name:       str
    folder:     str
    facts:      dict    # See model_card.Facts.
    groups:     list    # Names of its groups.

    @property
    def size(self):
        """Bytes of all its files."""
        return sum(entry.stat().st_size for entry in os.scandir(self.folder))

    @property
    def locality(self):
        """How much of what a linked group changes is in one place, on average; 0 where that was not measured."""
        shares = [group.get('place', 0) for group in self.facts.get('groups') or []]
        return sum(shares) / max(len(shares), 1)

def entries():
    """All networks of the box, the best first: the largest images, then the groups that act most in one place each."""
    found = [_read(entry.name, entry.path) for entry in _folders()]
    return sorted(found, key=lambda boxed: (-boxed.facts['resolution'], -boxed.locality, boxed.name))

def best():
    """The name of the network that is shown where none is named, or None for an empty box."""
    return next((boxed.name for boxed in entries()), None)

def listed():
    """For a sentence: the names, and the command that says more of them."""
    there = ', '.join(sorted(entry.name for entry in _folders()))
    return f'{there or "none"} (`sarigan list`)'

def is_name(network):
    """Whether it could be the name of one, rather than a path or a URL."""
    return re.fullmatch(r'[\w-]+', os.fspath(network)) is not None

def resolve(network):
    """The folder of a network that is named as one of the box; all else, paths that exist first, as it is."""
    if not is_name(network) or os.path.lexists(network):
        return network
    return next((entry.path for entry in _folders() if entry.name == network), network)

def _folders():
    folder = places.box()
    return [entry for entry in os.scandir(folder) if exported.is_exported(entry.path)] if folder.is_dir() else []

def _read(name, folder):
    with open(exported.description_of(folder), encoding='utf-8') as f:
        facts = json.load(f)['model_card']
    groups = []
    for key in ['groups', 'names']:
        path = os.path.join(folder, f'{key}.json')
        if os.path.exists(path):
            groups += [entry['name'] for entry in files.read_json(path)[key] if entry['name'] is not None]
    return Boxed(name, folder, facts, list(dict.fromkeys(groups)))

#----------------------------------------------------------------------------
