"""The registry of all names that are exchanged inside upstream's modules, each for a reason.

Upstream was written for PyTorch 1.7 to 1.9 and one CUDA device per process. Its files stay as they are, and so does
what belongs to others, as torch.Tensor: a name inside a module or class of upstream's stands for something else while
this process runs, until it is undone. Where upstream looks a name up in somebody else's module, it gets an Overlay of
that module.

Line numbers in reasons are those of the pinned commit.
"""

import contextlib
import dataclasses
import importlib
import types
from collections.abc import Callable
from typing import Any

#----------------------------------------------------------------------------

class Overlay(types.ModuleType):
    """A module with some names exchanged; the rest is looked up in the original."""
    def __init__(self, original, **exchanged):
        super().__init__(original.__name__)
        self.__dict__.update(exchanged, _original=original)

    def __getattr__(self, name):
        return getattr(self._original, name)

@dataclasses.dataclass(frozen=True)
class Exchange:
    """One name that stands for something else."""
    place:       str                    # 'module' or 'module:Class'.
    name:        str
    reason:      str                    # Why, with upstream's line.
    replace:     Callable[[Any], Any]   # What upstream has there -> what stands there now.
    upstreams:   Any                    # What upstream has there. None where it takes a builtin.
    replacement: Any
    is_own:      bool                   # Whether the place itself has the name; else builtins or a parent class.

    def make(self):
        setattr(_owner(self.place), self.name, self.replacement)

    def undo(self):
        if self.is_own:
            setattr(_owner(self.place), self.name, self.upstreams)
        else:
            delattr(_owner(self.place), self.name)

_in_force: dict[tuple[str, str], Exchange] = {} # (place, name) -> the exchange, of this process.

def _owner(place):
    module, _, cls = place.partition(':')
    owner = importlib.import_module(module) # Late, as upstream's tree may come to sys.path late.
    return getattr(owner, cls) if cls else owner

#----------------------------------------------------------------------------

def exchange(place, name, replace, reason):
    """From now on a name of upstream's stands for replace(what upstream has there).

    place:   'module' or 'module:Class'.
    replace: a function. The same one again changes nothing, another one takes its place: nothing is wrapped twice.
    reason:  why, with upstream's line.
    """
    owner, known = _owner(place), _in_force.get((place, name))
    if known is not None and known.replace == replace:
        return
    upstreams = known.upstreams if known is not None else getattr(owner, name, None)
    is_own = known.is_own if known is not None else name in vars(owner)
    made = Exchange(place, name, reason, replace, upstreams, replace(upstreams), is_own)
    made.make()
    _in_force[place, name] = made

def in_force():
    """All exchanges of this process, as they were made."""
    return list(_in_force.values())

def undo(place, name):
    """Put back what upstream has there, if it is exchanged."""
    made = _in_force.pop((place, name), None)
    if made is not None:
        made.undo()

@contextlib.contextmanager
def undone():
    """Inside the `with`, all names are upstream's own, and what is exchanged there ends with it."""
    before = in_force()
    _undo_all()
    try:
        yield
    finally:
        _undo_all()
        for made in before:
            made.make()
            _in_force[made.place, made.name] = made

def _undo_all():
    for made in reversed(in_force()):
        undo(made.place, made.name)

#----------------------------------------------------------------------------
