"""What skips itself, and who knows of it."""

import re
import subprocess
import sys

import limits
import skips
import trees

CONTRIBUTING = (trees.ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8')

def test_contributing_has_the_reasons_in_a_table():
    rows = [re.split(r' *\| *', line.strip('| '))
        for line in CONTRIBUTING.partition('## What is skipped')[2].splitlines() if line.startswith('|')]
    assert [row[0] for row in rows[2:]] == skips.REASONS
    assert all(len(row) == 3 and row[1] and row[2] for row in rows)

def test_tests_skip_themselves_for_these_reasons_alone():
    """Nobody may miss a package: ./install.sh installs all of them. Triton is for Linux."""
    for path in (trees.ROOT / 'tests').rglob('test_*.py'):
        if path.name != 'test_skips.py':
            for line in re.findall(r'.*(?:pytest\.skip\(|skipif\(|importorskip\().*', path.read_text(encoding='utf-8')):
                assert 'skips.' in line, f'{path.name}: {line.strip()}'

SKIPPING = '''
import pytest, skips
def test_known(): pytest.skip(skips.NO_CUDA)
def test_unknown(): pytest.skip('no time')
@pytest.mark.skip(reason='no wish')
def test_marked(): pass
def test_missing(): pytest.importorskip('no_such_package')
'''

def test_a_skip_for_another_reason_is_a_failure(tmp_path):
    (tmp_path / 'test_it.py').write_text(SKIPPING)
    (tmp_path / 'test_whole_file.py').write_text(f'import pytest; pytest.importorskip("no_such_package"){SKIPPING}')
    done = subprocess.run([sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-p', 'skips',
        '--noconftest', '--continue-on-collection-errors', '-rA', tmp_path], cwd=trees.SUPPORT,
        capture_output=True, text=True, check=False, timeout=limits.HANG)
    assert '2 failed, 1 skipped, 2 errors' in done.stdout, done.stdout
    for outcome in ['FAILED .*test_it.py::test_unknown', 'FAILED .*test_it.py::test_missing',
            'ERROR .*test_it.py::test_marked', 'ERROR .*test_whole_file.py']:
        assert re.search(f'^{outcome}', done.stdout, flags=re.M), outcome
    assert 'skipped for a reason that tests/support/skips.py and CONTRIBUTING.md do not list: ' in done.stdout

#----------------------------------------------------------------------------
