"""TOML files read into typed values. What is wrong with one is told in one sentence that names the file and the key.

pydantic checks the types. Its findings become sentences here: "FILE: kimg must be an integer, not 'much'".
"""

import dataclasses
import difflib
import functools
import os
import re
from collections.abc import Collection, Iterable
from typing import Annotated, Any

import pydantic
from annotated_types import Ge
from pydantic import AllowInfNan, PlainValidator, Strict

from sarigan_plugin.errors import UserError
from sarigan_plugin.support.paths import expanded

try:
    import tomllib
except ImportError: # Python 3.10
    import tomli as tomllib

#----------------------------------------------------------------------------
# Types. A validator raises ValueError with what follows the name of the key in a sentence.

def _path(value: object) -> str:
    if not (isinstance(value, str) and value):
        raise ValueError(f' must be a text, not {value!r}')
    try:
        return expanded(value)
    except ValueError as error:
        raise ValueError(f': {error}') from None

Count  = Annotated[int, Strict(), Ge(1)]
Whole  = Annotated[int, Strict(), Ge(0)]                            # A count that may be zero.
Number = Annotated[float, Strict(), Ge(0.0), AllowInfNan(False)]
Flag   = Annotated[bool, Strict()]
Text   = Annotated[str, Strict()]
Path   = Annotated[str, PlainValidator(_path)]                      # Of a file or folder, or a word in its place.

_MUST_BE = dict(int_type='an integer', float_type='a number', finite_number='a number', bool_type='true or false',
    string_type='a string')

#----------------------------------------------------------------------------

def read(path: str | os.PathLike) -> dict[str, Any]:
    """The tables of a TOML file. Raises UserError."""
    try:
        with open(path, 'rb') as f:
            return tomllib.load(f)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f'{path} is not valid TOML: {error}') from None

def typed(what: str, kind: Any, value: object) -> Any:
    """`value` as one of the types above, or one made of them. Raises UserError saying what `what` takes."""
    try:
        return _adapter(kind).validate_python(value)
    except pydantic.ValidationError as error:
        raise UserError(what + _sentence(error.errors(include_url=False)[0])) from None

def read_table(path: str | os.PathLike, where: str, cls: type, table: dict[str, Any]) -> Any:
    """A dataclass whose fields have such types, of what the table `where` of a file says. Raises UserError."""
    check_names(path, where, table, [field.name for field in dataclasses.fields(cls)])
    try:
        return _adapter(cls).validate_python(table)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
    key = first['loc'][0]
    if first['type'] == 'missing':
        raise UserError(f'{path}: {where} lacks {key}')
    raise UserError(f'{path}: {key}{_sentence(first)}')

def check_names(path: str | os.PathLike, where: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise UserError, with a hint, for a name that the table `where` of a file doesn't have."""
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f'did you mean {close[0]}?' if close else f'it takes {", ".join(known)}'
            raise UserError(f'{path}: unknown key {name!r} in {where}; {hint}')

@functools.cache
def _adapter(kind: Any) -> pydantic.TypeAdapter:
    return pydantic.TypeAdapter(kind)

def _sentence(error: Any) -> str:
    """What follows the name of the key."""
    kind, value, context = error['type'], error['input'], error.get('ctx', {})
    if kind == 'value_error':
        return str(context['error'])
    if kind == 'literal_error':
        choices = re.findall("'(.*?)'", context['expected'])
        return f' must be one of {", ".join(choices)}, not {value!r}'
    if kind == 'greater_than_equal':
        least = context['ge']
        return f' must be at least {least:g}, not {type(least)(value)!r}'
    return f' must be {_MUST_BE[kind]}, not {value!r}'

#----------------------------------------------------------------------------
