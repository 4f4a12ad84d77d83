"""Code in an unmodified checkout, without the plugin: in processes forked of one that has imported PyTorch alone."""

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

SERVER = '''
import json, os, sys, traceback
sys.modules['sarigan_plugin'] = None # Hidden, where it is installed.
import numpy, PIL.Image, requests, torch
for line in sys.stdin:
    job = json.loads(line)
    if os.fork() == 0:
        for stream, name in [(1, 'out'), (2, 'errors')]:
            os.dup2(os.open(os.path.join(job['folder'], name), os.O_WRONLY | os.O_CREAT), stream)
        code = 0
        try:
            sys.argv = ['-c', *job['arguments']]
            sys.path.insert(0, job['tree'])
            exec(job['code'], dict(__name__='__main__'))
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
'''

@functools.cache
def _server():
    # -I keeps site-packages, but neither the current folder nor PYTHONPATH.
    return subprocess.Popen([sys.executable, '-I', '-c', SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True)

def run(tree, code, *arguments):
    """Run Python that imports upstream's modules from `tree`; sys.argv has the arguments. Returns what it printed."""
    server = _server()
    with tempfile.TemporaryDirectory() as folder:
        job = dict(folder=folder, tree=str(tree), code=code, arguments=[str(argument) for argument in arguments])
        print(json.dumps(job), file=server.stdin, flush=True)
        exit_code = server.stdout.readline()
        assert exit_code == '0\n', (exit_code, Path(folder, 'errors').read_text(encoding='utf-8'))
        return Path(folder, 'out').read_text(encoding='utf-8')
