"""A wrong file, given to one of upstream's scripts: one sentence that names the option, in place of a traceback."""

import os
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType

import PIL

# Where upstream reads what a file holds: (end of the source's path, function) -> options, the errors that are the
# file's fault, and what to say. projector.py does all of its work in the function that reads the target.
READERS = {
    ('legacy.py', 'load_network_pkl'):
        (('--network', '--source'), Exception, 'holds no networks of StyleGAN2'),
    (os.path.join('training', 'dataset.py'), '__init__'):
        (('--data',), Exception, 'is no data set that can be read'),
    ('projector.py', 'run_projection'):
        (('--target',), PIL.UnidentifiedImageError, 'is no image that can be read'),
}

def tell() -> None:
    """From now on an error that nothing catches is told in a sentence where a file of the command line explains it,
    with exit code 2; any other as ever."""
    sys.excepthook = _excepthook

def __getattr__(name: str) -> object:
    """`from sarigan_plugin.hooks import sentences`: tell(), the moment a script asks for it."""
    if name != 'sentences':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    tell()
    return tell

def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sentence = sentence_of(error, sys.argv[1:])
    if sentence is None:
        sys.__excepthook__(kind, error, trace)
        return
    sys.stderr.write(f'Error: {sentence}\n')
    sys.exit(2) # Python takes it from an excepthook, too.

def sentence_of(error: BaseException, words: Sequence[str]) -> str | None:
    """What is wrong with which option, or None. words: of the command line."""
    if not isinstance(error, Exception):
        return None
    given = _options(words)
    path = getattr(error, 'filename', None)
    if isinstance(error, OSError) and path in given.values():
        option = next(option for option, value in given.items() if value == path)
        return f'{option}: {path!r} cannot be opened: {error.strerror}.'
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        for (file, function), (options, errors, what) in READERS.items():
            if frame.filename.endswith(file) and frame.name == function and isinstance(error, errors):
                option = next((option for option in options if option in given), None)
                if option is not None:
                    return f'{option}: {given[option]!r} {what} ({_said(error)}).'
    return None

def _options(words: Sequence[str]) -> dict[str, str]:
    """{'--network': 'a.pkl', ...} of '--network=a.pkl' or '--network a.pkl'."""
    given = dict()
    for word, following in zip(words, [*words[1:], '']):
        option, equals, value = word.partition('=')
        if option.startswith('--'):
            given[option] = value if equals else following
    return given

def _said(error: Exception) -> str:
    words = ' '.join(str(error).split())[:200].rstrip('.')
    return f'{type(error).__name__}: {words}' if words else type(error).__name__
