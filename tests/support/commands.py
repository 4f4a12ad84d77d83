"""Commands of sarigan, as a user types them.

run():    in this process; for what a process of its own would show no better.
sarigan(): in a process of its own, to its end.
start():  the same for any `python ...`, and go on meanwhile.

These processes are forked from a server that has imported PyTorch and the training loop: to import them anew costs as
much CPU as a small training. Otherwise they are like any other: a group and output of their own, signals, limits.
"""

import contextlib
import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import types
from pathlib import Path

from click.testing import CliRunner

import limits

IMPORTED = [
    'sarigan_plugin.commands.train',
    'sarigan_plugin.losses.inpainting',
    'sarigan_plugin.losses.sarigan',
    'sarigan_plugin.model.inpainting',
    'sarigan_plugin.model.networks',
    'sarigan_plugin.trainer.launch',
    'torch._dynamo',    # For the first optimizer.
    'metrics.metric_main',
    'training.augment',
    'training.dataset',
    'training.loss',
    'training.networks',
    'training.training_loop',
    'torch.utils.tensorboard',
]

def run(*words):
    """What click makes of a command line of sarigan: exit_code, stdout, stderr, output."""
    from sarigan_plugin.cli import main
    return CliRunner().invoke(main, [str(word) for word in words])

def sentence(done):
    """The one line that a refused command ends in."""
    assert done.exit_code == 2 and 'Traceback' not in done.output, done.output
    return done.stderr.strip().splitlines()[-1]

def sarigan(*words, **how):
    """`sarigan WORDS` in a process of its own, as subprocess.CompletedProcess. how: of start()."""
    return finished(start('-m', 'sarigan_plugin.cli', *words, **how))

def finished(process):
    """A process that was started, at its end, as subprocess.CompletedProcess."""
    out, errors = process.communicate()
    return subprocess.CompletedProcess(process.words, process.returncode, out, errors)

def start(*words, cwd='.', before=None, **environment):
    """Start `python WORDS`: -m MODULE, -c CODE or a script, with their arguments.

    before:      called in the new process, as functools.partial(signal.signal, signal.SIGHUP, signal.SIG_IGN), or
                 fork_all.
    environment: variables that differ from this process's.
    """
    return Started([str(word) for word in words], str(cwd), before, os.environ | environment)

def fork_all():
    """From now on, processes that this one would start anew, with multiprocessing or as `python -m MODULE`, are forked,
    and import nothing that this one has imported."""
    methods = multiprocessing.context._concrete_contexts
    methods['spawn'] = methods['fork']
    subprocess.Popen = ForkingPopen

class ForkingPopen(subprocess.Popen):
    """Forks in the place of `python -m MODULE`."""

    def _execute_child(self, args, *others):
        words = [word for word in args if word != '-u']
        if words[:2] != [sys.executable, '-m']:
            super()._execute_child(args, *others)
            return
        _executable, before, _close, _pass, cwd, environment, _info, _flags, _shell, *others = others
        pipes, is_leader = others[:6], others[11]
        for stream in [sys.stdout, sys.stderr]:
            stream.flush() # What waits there is this process's.
        child = multiprocessing.get_context('fork').Process(target=_branch_off,
            args=(words[1:], pipes, is_leader, cwd, environment, before))
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(child._bootstrap())
        self._child_created = True
        self._close_pipe_fds(*pipes)

def _branch_off(words, pipes, is_leader, cwd, environment, before):
    """Go on as `python WORDS`, with what a process keeps that is started anew."""
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    ours, theirs = [pipes[0], pipes[3], pipes[5]], [pipes[1], pipes[2], pipes[4]]
    for stream, end in enumerate(ours):
        if end != -1:
            os.dup2(end, stream)
    for end in theirs:
        if end != -1:
            os.close(end)
    if is_leader:
        os.setsid()
    if cwd is not None:
        os.chdir(cwd)
    if environment is not None:
        os.environ.clear()
        os.environ.update(environment)
    if before is not None:
        before()
    sys.stdin = open(0, encoding='utf-8', closefd=False)
    _open_streams()
    _run(words)

def server():
    """The context of multiprocessing whose processes have imported PyTorch already."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(IMPORTED)
    return context

class Started:
    """A process, with the attributes of subprocess.Popen that tests use."""

    def __init__(self, words, cwd, before, environment):
        self.words = words
        self._folder = tempfile.TemporaryDirectory(prefix='sarigan-output-')
        self._process = server().Process(target=_become, args=(words, cwd, before, environment, self._folder.name))
        self._process.start()
        self.pid = self._process.pid
        limits.wait_until(self._has_a_group, 'a process of its own group', pause=0.001)

    def _has_a_group(self):
        with contextlib.suppress(ProcessLookupError): # It has ended.
            return os.getpgid(self.pid) == self.pid
        return True

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def wait(self, timeout=limits.HANG):
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.words, timeout)
        return self.returncode

    def communicate(self, timeout=limits.HANG):
        """Returns (stdout, stderr) once it has ended."""
        self.wait(timeout)
        return self.printed('out'), self.printed('errors')

    def printed(self, stream='out'):
        """What it has printed so far."""
        return Path(self._folder.name, stream).read_text(encoding='utf-8', errors='replace')

    def send_signal(self, number):
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)

def _become(words, cwd, before, environment, folder):
    """Go on as `python WORDS`."""
    streams = [os.open(os.devnull, os.O_RDONLY)]
    streams += [os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in ['out', 'errors']]
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    _open_streams()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    multiprocessing.set_start_method(None, force=True) # What this process starts is not of the server.
    if before is not None:
        before()
    with contextlib.suppress(PermissionError): # before() has done so.
        os.setsid() # Last: whoever started it waits for this.
    _run(words)

def _open_streams():
    sys.stdout = sys.__stdout__ = io.TextIOWrapper(open(1, 'wb', closefd=False), encoding='utf-8')
    sys.stderr = sys.__stderr__ = io.TextIOWrapper(open(2, 'wb', closefd=False), encoding='utf-8', line_buffering=True)

def _run(words):
    """As `python WORDS` does once it has started."""
    first, *rest = words
    if first == '-m':
        sys.argv = rest
        runpy.run_module(rest[0], run_name='__main__', alter_sys=True)
    elif first == '-c':
        sys.argv = ['-c', *rest[1:]]
        sys.modules['__main__'] = types.ModuleType('__main__')
        exec(compile(rest[0], '<string>', 'exec'), vars(sys.modules['__main__']))
    else:
        sys.argv = words
        sys.path.insert(0, os.path.dirname(first))
        runpy.run_path(first, run_name='__main__')
