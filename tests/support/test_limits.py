"""No test depends on time: what it waits for has one generous limit, that of limits.py."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import limits

TESTS = Path(__file__).parents[1]

def calls_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func).rpartition('.')[2]

WAITING = ['run', 'check_output', 'check_call', 'communicate', 'wait', 'wait_for', 'join', 'get', 'create_connection',
    'result', 'urlopen']

@pytest.mark.parametrize('path', [path for path in sorted(TESTS.rglob('*.py')) if path.name != 'limits.py'],
    ids=lambda path: path.stem)
def test_who_waits_takes_the_one_limit(path):
    for call, name in calls_of(path):
        own = [keyword for keyword in call.keywords if keyword.arg == 'timeout'
            and isinstance(keyword.value, ast.Constant) and keyword.value.value is not None]
        assert name not in WAITING or not own, f'line {call.lineno}: timeout=limits.HANG'

def test_patience_multiplies_it():
    done = subprocess.run([sys.executable, '-c', 'import limits; print(limits.HANG)'], cwd=TESTS / 'support',
        env=os.environ | dict(SARIGAN_TEST_PATIENCE='2.5'),
        capture_output=True, text=True, check=True, timeout=limits.HANG)
    assert float(done.stdout) == 1500

def test_what_never_comes_is_named(monkeypatch):
    monkeypatch.setattr(limits, 'HANG', 0)
    with pytest.raises(AssertionError, match='waited 0 seconds in vain for rain'):
        limits.wait_until(lambda: False, 'rain')
    assert limits.wait_until(lambda: 'rain', 'rain') == 'rain'

#----------------------------------------------------------------------------
