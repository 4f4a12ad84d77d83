"""Run scripts one after another as `python SCRIPT ARGUMENTS` would each by itself: importing PyTorch takes seconds.

    python run_scripts.py TREE JOBS.json [COUNT] >results

JOBS: list of [script, argument, ...]; results: JSON list of [exit code, output]. COUNT: of images for metrics,
in place of upstream's 50,000.
"""

import contextlib
import io
import json
import multiprocessing.context
import os
import runpy
import sys
import traceback

sys.modules['imageio_ffmpeg'] = None # As ./install.sh leaves it: optional.

def run(script, *arguments):
    multiprocessing.context._default_context._actual_context = None # It may be chosen once in a process.
    output = io.StringIO()
    sys.argv = [script, *arguments]
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            runpy.run_path(script, run_name='__main__')
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            traceback.print_exc(file=output)
            code = 1
    return code, output.getvalue()

def main(tree, jobs, num_made=None):
    with open(jobs, encoding='utf-8') as f:
        jobs = json.load(f)
    os.chdir(tree)
    sys.path[0] = tree
    with contextlib.ExitStack() as stack:
        if num_made is not None:
            from sarigan_plugin.features import statistics as feature_stats

            import dnnlib  # noqa: F401 # This tree's, before the plugin looks for one.
            stack.enter_context(feature_stats.using(num_made=int(num_made)))
        results = [run(*job) for job in jobs]
    json.dump(results, sys.stdout)

if __name__ == '__main__':
    main(*sys.argv[1:])
