"""Output that has no reader, no room, or an encoding that lacks characters."""

import contextlib
import fcntl
import functools
import io
import os
import pty
import sys
import termios
import time

import pytest

import commands
import limits
import small_training
from sarigan_plugin import cli
from sarigan_plugin.support import streams

def closed_pipe(encoding='utf-8'):
    """A text stream into a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, 'w', encoding=encoding)

def full_disk():
    return open('/dev/full', 'w', encoding='utf-8')

@contextlib.contextmanager
def standard_output(stream):
    before, sys.stdout = sys.stdout, stream
    try:
        yield
    finally:
        sys.stdout = before

#----------------------------------------------------------------------------
# Streams that a training outlives.

@pytest.mark.parametrize('make', [closed_pipe, full_disk, lambda: None, io.StringIO])
def test_what_cannot_be_written_is_dropped(make):
    with standard_output(make()), streams.unbreakable():
        for _ in range(3):
            print('tick', flush=True)
            print('x' * 100_000)
        assert not sys.stdout.isatty() and sys.stdout.writelines(['a', 'b']) is None

@pytest.mark.parametrize('make', [closed_pipe, full_disk])
def test_python_has_nothing_to_complain_of_at_its_end(make):
    stream = make()
    with standard_output(stream), streams.unbreakable():
        print('tick')
    stream.close() # Flushes what is left, as Python does.

def test_characters_that_an_encoding_lacks_are_escaped():
    stream = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
    with standard_output(stream), streams.unbreakable():
        print('ünïcode ☃ \udcff')
    assert stream.buffer.getvalue() == b'\\xfcn\\xefcode \\u2603 \\udcff\n'

#----------------------------------------------------------------------------
# Commands.

def sarigan(*arguments):
    """Run a command in this process. Returns its exit code."""
    with pytest.raises(SystemExit) as end:
        cli.main(list(map(str, arguments)), prog_name='sarigan')
    return end.value.code

def test_a_closed_pipe_ends_a_command_quietly_and_is_not_blamed_on_outdir(network, tmp_path, capfd):
    with standard_output(closed_pipe()):
        assert sarigan('generate', f'--network={network}', '--seeds=0', f'--outdir={tmp_path / "out"}') == 1
    assert capfd.readouterr().err == ''

def test_a_full_disk_under_standard_output_is_named_and_not_blamed_on_outdir(network, tmp_path, capfd):
    with standard_output(full_disk()):
        assert sarigan('generate', f'--network={network}', '--seeds=0', f'--outdir={tmp_path / "out"}') == 1
    assert capfd.readouterr().err == 'Error: standard output cannot be written to: No space left on device.\n'

def test_what_outdir_is_to_blame_for_is_blamed_on_it(network, tmp_path, capsys):
    (tmp_path / 'file').touch()
    assert sarigan('generate', f'--network={network}', '--seeds=0', f'--outdir={tmp_path / "file"}') == 2
    assert capsys.readouterr().err == f'Error: --outdir: {tmp_path / "file"} cannot be written to: File exists.\n'

def test_a_command_shows_names_that_the_encoding_lacks(network, tmp_path):
    stream = io.TextIOWrapper(io.BytesIO(), encoding='latin-1')
    with standard_output(stream):
        assert sarigan('export', network, f'--to={tmp_path / "schnee☃"}') == 0
        stream.flush()
    assert stream.buffer.getvalue().decode('latin-1') == f'Wrote {tmp_path}/schnee\\u2603\n'

#----------------------------------------------------------------------------
# Trainings.

@pytest.fixture(scope='module')
def command(tmp_path_factory):
    """The command line of a training of seconds on images whose folder has a name for UTF-8, but for --outdir."""
    folder = tmp_path_factory.mktemp('streams')
    small_training.write_images(folder / 'ünïcode ☃')
    (folder / 'small.toml').write_text(small_training.config())
    return ['-m', 'sarigan_plugin.cli', 'train', f'--cfg={folder / "small.toml"}',
        f'--data={folder / "ünïcode ☃"}',
        '--device=cpu', '--metrics=none', '--batch=128', '--workers=0']

@pytest.fixture
def start(command, tmp_path):
    """start(*arguments, ...) -> a process that trains in tmp_path, and does not outlive the test."""
    started = []
    def begin(*arguments, **how):
        started.append(commands.start(*command, f'--outdir={tmp_path}', *arguments, **how))
        return started[-1]
    yield begin
    for process in started:
        process.kill()
        process.wait()

def print_in_ascii(path):
    """As PYTHONIOENCODING=ascii has it, into what is at path."""
    for stream in [1, 2]:
        os.dup2(os.open(path, os.O_WRONLY), stream)
    sys.stdout, sys.stderr = (io.TextIOWrapper(open(stream, 'wb', closefd=False), 'ascii', errors, line_buffering=True)
        for stream, errors in [(1, 'strict'), (2, 'backslashreplace')])

def test_a_training_whose_output_is_ascii_and_then_closed_ends_as_any_other(start, tmp_path, tmp_path_factory):
    pipe = tmp_path_factory.mktemp('pipe') / 'pipe'
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) # Otherwise each would wait for the other.
    process = start(before=functools.partial(print_in_ascii, pipe))
    os.set_blocking(reader, True)
    with open(reader, 'rb') as lines:
        seen = next(line for line in lines if line.startswith(b'Training data:'))
    assert b'\\xfcn\\xefcode \\u2603' in seen
    assert process.wait() == 0
    run, = tmp_path.iterdir()
    assert run.name == '00000-ünïcode ☃-small-batch128' and (run / 'network-snapshot-000001.pkl').exists()
    log = (run / 'log.txt').read_text(encoding='utf-8')
    assert log.count('\ntick ') == 2 and log.endswith('Exiting...\n')

def lead(path):
    """As a shell does: signals of the terminal at path come to this process."""
    terminal = os.open(path, os.O_RDWR | os.O_NOCTTY)
    for stream in range(3):
        os.dup2(terminal, stream)
    sys.stdout, sys.stderr = (open(stream, 'w', encoding='utf-8', closefd=False) for stream in [1, 2])
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)

def test_a_training_whose_terminal_hangs_up_saves_its_state(start, tmp_path):
    master, slave = pty.openpty()
    process = start('--kimg=1000', before=functools.partial(lead, os.ttyname(slave)))
    os.close(slave)
    end = time.monotonic() + limits.HANG
    seen = b''
    while b'tick 1 ' not in seen and time.monotonic() < end:
        seen += os.read(master, 2 ** 16)
    os.close(master) # The kernel sends SIGHUP, and nothing can be written any more.
    assert process.wait() == 0
    run, = tmp_path.iterdir()
    assert list(run.glob('training-state-*.pt'))
    assert 'Stopped by SIGHUP at ' in (run / 'log.txt').read_text(encoding='utf-8')

#----------------------------------------------------------------------------
