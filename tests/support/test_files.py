"""Files that appear whole or not at all, on a full disk too, and folders that one training has to itself."""

import errno
import os
import subprocess
import sys

import pytest

from sarigan_plugin.support import files

def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / 'snapshot.pkl'
    with files.atomic_open(path) as f:
        f.write(b'whole')
        assert not path.exists()
    assert path.read_bytes() == b'whole' and os.listdir(tmp_path) == ['snapshot.pkl']
    plain = tmp_path / 'plain'
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode # Not private, as temporary files are.

@pytest.mark.parametrize('opened', [files.atomic_open, lambda path: files.training_open(path, 'wb')])
def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path, opened):
    path = tmp_path / 'snapshot.pkl'
    path.write_bytes(b'old')
    with pytest.raises(RuntimeError, match='half way'), opened(path) as f:
        f.write(b'new')
        raise RuntimeError('half way')
    assert path.read_bytes() == b'old' and os.listdir(tmp_path) == ['snapshot.pkl']

def test_a_disk_that_fails_at_the_end_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'snapshot.pkl'
    path.write_bytes(b'old')
    def fail(_descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError, match='Input/output error'), files.atomic_open(path) as f:
        f.write(b'new')
    assert path.read_bytes() == b'old' and os.listdir(tmp_path) == ['snapshot.pkl']

def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    code = ("import os, sys, sarigan_plugin\nfrom sarigan_plugin.support import files\n"
        "with files.atomic_open(sys.argv[1]) as f:\n    f.write(b'half')\n    f.flush()\n    os.kill(os.getpid(), 9)")
    subprocess.run([sys.executable, '-c', code, tmp_path / 'state.pt'], check=False)
    assert len(os.listdir(tmp_path)) == 1
    (tmp_path / '.writing-export' / 'network').mkdir(parents=True)
    files.remove_unfinished(tmp_path)
    assert os.listdir(tmp_path) == []

def test_upstreams_snapshots_are_whole_and_its_statistics_are_added_to(tmp_path):
    for number in [1, 2]:
        with files.training_open(tmp_path / 'network.pkl', 'wb') as f:
            f.write(b'%d' % number)
        lines = files.training_open(tmp_path / 'stats.jsonl', 'wt')
        lines.write(f'line {number}\n')
        lines.flush()
        assert (tmp_path / 'stats.jsonl').read_text() == ''.join(f'line {i + 1}\n' for i in range(number))
        lines.close()
    assert (tmp_path / 'network.pkl').read_bytes() == b'2'
    with files.training_open(tmp_path / 'network.pkl', 'rb') as f:
        assert f.read() == b'2'

FULL_DISK = '''
import resource, sys, sarigan_plugin
from sarigan_plugin.support import files
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
lines = files.training_open('stats.jsonl', 'wt')
for number in range(4):
    lines.write(str(number) * 299 + '\\n')
with files.training_open('network.pkl', 'wb') as f:
    f.write(b'x' * 2000)
print('goes on')
'''

def test_on_a_full_disk_training_goes_on_and_whole_lines_and_files_stay(tmp_path):
    (tmp_path / 'network.pkl').write_bytes(b'old')
    done = subprocess.run([sys.executable, '-c', FULL_DISK], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == 'goes on\n'
    assert [f'Warning: {name} could not be written: {os.strerror(number)}. Training goes on; free some space.'
        for name, number in [('stats.jsonl', errno.ENOSPC), ('network.pkl', errno.EFBIG)]] == \
        [line for line in done.stderr.splitlines() if line.startswith('Warning: ')]
    assert [len(line) for line in (tmp_path / 'stats.jsonl').read_text().splitlines()] == [299, 299, 299]
    assert (tmp_path / 'network.pkl').read_bytes() == b'old' and sorted(os.listdir(tmp_path)) == [
        'network.pkl', 'stats.jsonl']

def test_other_errors_are_not_swallowed(tmp_path):
    with pytest.raises(OSError, match='another') as caught, files.training_open(tmp_path / 'network.pkl', 'wb'):
        raise OSError(errno.EIO, 'another')
    assert caught.value.errno == errno.EIO

def test_a_locked_folder_says_who_has_it_and_is_free_when_that_process_is_killed(tmp_path):
    code = ("import sys, sarigan_plugin\nfrom sarigan_plugin.support import files\nlock = "
        "files.FolderLock(sys.argv[1])\nprint('locked', flush=True)\nsys.stdin.read()")
    holder = subprocess.Popen([sys.executable, '-c', code, tmp_path], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == 'locked\n'
    with pytest.raises(BlockingIOError, match=f'process {holder.pid} on '):
        files.FolderLock(tmp_path)
    holder.kill()
    holder.communicate()
    files.FolderLock(tmp_path).release()

#----------------------------------------------------------------------------
