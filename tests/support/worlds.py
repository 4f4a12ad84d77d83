"""Processes that meet."""

import multiprocessing
import os
import sys

import limits
from sarigan_plugin.errors import UserError
from sarigan_plugin.support.world import World

HANG_MINUTES = limits.HANG / 60 # Where it is the plugin that gives up.

def together(tmp_path, size, work, timeout=HANG_MINUTES):
    """Run work(world) in `size` processes that meet in tmp_path.

    Returns their exit codes: work's, or 2 for a UserError.
    """
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=_exit_with, args=(work, rank, size, tmp_path, timeout)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(limits.HANG)
    for process in processes:
        process.kill() # One that builds for ever.
        process.join()
    return [process.exitcode for process in processes]

def _exit_with(work, rank, size, folder, timeout):
    try:
        code = work(World.on_this_machine(rank, size, folder, timeout))
    except UserError as error:
        error.show()
        code = error.exit_code
    sys.stdout.flush()
    os._exit(code or 0) # Not through pytest, which this process has inherited.
