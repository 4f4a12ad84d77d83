"""A function over many tasks in several processes, that leaves nothing behind however it ends."""

import collections
import concurrent.futures
import concurrent.futures.process
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from sarigan_plugin.errors import UserError

Task = TypeVar('Task')
Result = TypeVar('Result')

AHEAD = 3 # Tasks for each process that are under way or wait to be taken: memory is bounded by it.

def available_cores() -> int:
    """How many this process may use."""
    # Linux knows which are ours.
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1

def map_in_order(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int,
    mend: str = 'use fewer, with --workers={fewer}',
) -> Iterator[Result]:
    """Yield function(task) for each of the tasks, in their order, whatever number of processes works.

    Of more than one worker each is a process that imports the function's module anew. Raises UserError where one of
    them is killed, and what the function raises. Ctrl-C, or no longer asking for results, ends all of them at once.

    mend: what the user can do where the machine can't carry so many processes; {fewer} stands for half of them.
    """
    workers = min(workers, len(tasks))
    mend = mend.format(fewer=max(workers // 2, 1))
    if workers <= 1:
        yield from map(function, tasks)
        return
    others = multiprocessing.active_children()
    # Fresh processes: a fork of one with threads, as PyTorch's, may hang.
    context = multiprocessing.get_context('spawn')
    executor = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_end_with_parent)
    pending: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
    done = False
    try:
        for task in tasks:
            pending.append(_submit(executor, function, task, mend))
            if len(pending) > AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
        done = True
    except concurrent.futures.process.BrokenProcessPool:
        raise UserError(f'One of {workers} processes was killed, as happens where memory runs out: '
            f'{mend}.') from None
    finally:
        for process in [] if done else multiprocessing.active_children():
            if process not in others:
                process.kill()
        writer = getattr(getattr(executor, '_result_queue', None), '_writer', None)
        if not done and writer is not None:
            # A worker may have been killed in the middle of a result. With the last writer gone its reader sees the
            # end, and does not wait for the other half.
            writer.close()
        executor.shutdown(cancel_futures=True)

def _submit(
    executor: concurrent.futures.Executor, function: Callable[[Task], Result], task: Task, mend: str,
) -> concurrent.futures.Future[Result]:
    # Processes that start here inherit it: Ctrl-C is this one's to answer.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        return executor.submit(function, task)
    except OSError as error:
        raise UserError(f'No more processes can be started ({error.strerror}): {mend}.') from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

def _end_with_parent() -> None:
    """In a worker: end when the process that started it is killed. It would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
    threading.Thread(target=wait, daemon=True).start()

#----------------------------------------------------------------------------
