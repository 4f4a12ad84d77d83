"""The processes that train together: which of them this one is, and what they tell each other before training starts.

Either torchrun has started them, on one machine or many, or launch.py does so on this one. Nothing else in the plugin
reads the environment for it.
"""

import contextlib
import datetime
import hashlib
import os
import pickle
import socket
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

from sarigan_plugin.errors import UserError

Answer = TypeVar('Answer')

# torchrun sets all of them.
VARIABLES = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')
DEFAULT_TIMEOUT = 10 # Minutes, as PyTorch's own with NCCL.
GOODBYE_SECONDS = 10 # The first process stays at most so long for others that have yet to hear what it decided.

#----------------------------------------------------------------------------

class World:
    """This process's place among those that train together; World() is alone."""
    def __init__(self,
        rank:       int = 0,                    # Among all processes.
        size:       int = 1,                    # Number of processes.
        local_rank: int = 0,                    # Among those of this machine: the index of its GPU.
        local_size: int = 1,                    # Number of processes on this machine.
        store:      'torch.distributed.Store | None' = None, # That all of them reach; None = alone.
        timeout:    float = DEFAULT_TIMEOUT,    # Minutes to wait for another process.
    ) -> None:
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self.local_size = local_size
        self.store = store
        self.timeout = datetime.timedelta(minutes=timeout)
        self.first_local = rank - local_rank # The rank of this machine's first process.
        self.num_agreements = 0

    @classmethod
    def from_environment(cls, timeout: float = DEFAULT_TIMEOUT) -> 'World':
        """Join the processes that torchrun has started, or be alone where it has not. Raises UserError.

        A LOCAL_RANK alone, as some cluster's job may have left it, is not torchrun.
        """
        if not any(name in os.environ for name in ['RANK', 'WORLD_SIZE']):
            return cls(timeout=timeout)
        place = _place_in_environment(os.environ)
        limit = datetime.timedelta(minutes=timeout)
        try:
            store, _rank, _size = next(torch.distributed.rendezvous('env://', timeout=limit))
            store = torch.distributed.PrefixStore('sarigan', store)
            store.set_timeout(limit)
            if place['size'] > 1:
                store = torch.distributed.PrefixStore(gather(store, place['rank'], place['size'], timeout), store)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f'Rank {place["rank"]} cannot reach the first machine at '
                f'{os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}: {reason}') from None
        return cls(**place, store=store, timeout=timeout)

    @classmethod
    def on_this_machine(cls, rank: int, size: int, folder: str, timeout: float = DEFAULT_TIMEOUT) -> 'World':
        """One of `size` processes of this machine that meet in a temporary folder."""
        store = torch.distributed.FileStore(os.path.join(os.path.abspath(folder), 'rendezvous'), size)
        store.set_timeout(datetime.timedelta(minutes=timeout))
        return cls(rank, size, rank, size, store, timeout)

    def agree(self, decide: Callable[[], Answer]) -> Answer:
        """What decide() returns in the first process, on all of them; it must pickle.

        Where it raises, the first process says why and all of them leave: the user reads a mistake once.
        """
        if self.size == 1:
            return decide()
        assert self.store is not None
        key = f'agreement {self.num_agreements}'
        self.num_agreements += 1
        if self.rank == 0:
            code, answer = _decide(decide)
            self.store.set(key, pickle.dumps((code, answer))) # type: ignore[arg-type] # Bytes will do as well.
            self._wait_until_heard(key)
        else:
            code, answer = pickle.loads(self._heard(key, 0))
            self.store.set(f'{key} heard by {self.rank}', '')
        if code != 0:
            sys.exit(code)
        return answer

    def check_everywhere(self, obstacle: str | None) -> None:
        """Leave if any process has an obstacle, a sentence or None; the first process speaks for all.

        Not where alone.
        """
        assert self.store is not None
        self.store.set(f'obstacle {self.rank}',
            '' if obstacle is None else f'Rank {self.rank} on {socket.gethostname()}: {obstacle}')
        def decide() -> None:
            for rank in range(self.size):
                sentence = self._heard(f'obstacle {rank}', rank).decode()
                if sentence:
                    raise UserError(sentence)
        self.agree(decide)

    def _heard(self, key: str, speaker: int) -> bytes:
        assert self.store is not None
        try:
            return self.store.get(key)
        except RuntimeError:
            raise UserError(f'Rank {self.rank} on {socket.gethostname()} has waited {self.minutes()} for rank '
                f'{speaker}, which has ended or is slow: see its own output; --timeout takes more minutes.') from None

    def _wait_until_heard(self, key: str) -> None:
        """The first process may leave next, and may be the one that keeps the store."""
        assert self.store is not None
        with contextlib.suppress(RuntimeError):
            self.store.wait([f'{key} heard by {rank}' for rank in range(1, self.size)],
                datetime.timedelta(seconds=GOODBYE_SECONDS))

    def may_report(self, sentence: str = '') -> bool:
        """Whether this process is the first of its machine to report that training has failed, or this sentence.

        It counts as reported from here on: the others keep quiet.
        """
        if self.store is None:
            return True
        topic = hashlib.sha256(sentence.encode(errors='backslashreplace')).hexdigest()
        try:
            return self.store.add(f'failures on the machine of {self.first_local} about {topic}', 1) == 1
        except RuntimeError: # The store was on a machine that is lost.
            return True

    def minutes(self) -> str:
        """The timeout in words."""
        return f'{self.timeout / datetime.timedelta(minutes=1):g} minutes'

def gather(store: 'torch.distributed.Store', rank: int, size: int, timeout: float) -> str:
    """Wait until all processes are there.

    Returns a name for this gathering, the same on each of them, that no other has.

    torchrun's store outlives a restart, and its count of restarts differs between machines: under names of an earlier
    gathering a process would find addresses of dead ones, and decisions that were theirs. So each process shows a
    number of its own, the first one writes a list of all, and whoever finds itself on the list signs it.

    timeout: in minutes. Raises UserError.
    """
    number = uuid.uuid4().hex
    store.set(f'number of {rank}', number)
    end = time.monotonic() + timeout * 60
    while time.monotonic() < end:
        if rank == 0 and store.check(everybody := [f'number of {other}' for other in range(size)]):
            # Again and again: some may be of the dead.
            store.set('list', ' '.join(store.get(key).decode() for key in everybody))
        text = store.get('list') if store.check(['list']) else b''
        numbers = text.decode().split()
        if len(numbers) == size and numbers[rank] == number:
            name = hashlib.sha256(text).hexdigest()
            store.set(f'{name} signed by {rank}', '')
            if rank == 0 and store.check([f'{name} signed by {other}' for other in range(size)]):
                store.set(f'{name} is complete', '')
            if store.check([f'{name} is complete']):
                return name
        time.sleep(0.05)
    raise UserError(f'Rank {rank} on {socket.gethostname()} has waited {timeout:g} minutes for all {size} processes to '
        'start: is the command running on every machine? --timeout takes more minutes.')

def _decide(decide: Callable[[], Answer]) -> tuple[int, Any]:
    """Returns (exit code, answer).

    Says what went wrong at once: when another process leaves, torchrun ends this one.
    """
    try:
        return 0, decide()
    except UserError as error:
        error.show()
        return error.exit_code, None
    except Exception:
        traceback.print_exc()
        return 1, None

#----------------------------------------------------------------------------

def _place_in_environment(environment: Mapping[str, str]) -> dict[str, int]:
    """RANK and its like as keyword arguments of World. Raises UserError."""
    given = {name: environment.get(name, '') for name in VARIABLES}
    missing = [name for name, value in given.items() if not value]
    if missing:
        present = 'RANK' if given['RANK'] else 'WORLD_SIZE'
        raise UserError(f'{present} is set in the environment, '
            f'but {" and ".join(missing)} {"are" if len(missing) > 1 else "is"} not: '
            f'start with torchrun, which sets all of them, or unset {present} to train on this machine alone.')
    for name in ['RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE', 'MASTER_PORT']:
        if not given[name].isdecimal():
            raise UserError(f'{name} in the environment must be a number, not {given[name]!r}; torchrun sets it.')
    rank, size, local_rank, local_size = [int(given[name])
        for name in ['RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'LOCAL_WORLD_SIZE']]
    if not (local_rank < local_size <= size and local_rank <= rank < size):
        raise UserError(f'The environment contradicts itself: RANK={rank} of WORLD_SIZE={size}, '
            f'LOCAL_RANK={local_rank} of LOCAL_WORLD_SIZE={local_size}; torchrun sets all four.')
    return dict(rank=rank, size=size, local_rank=local_rank, local_size=local_size)

def is_lost_peer(error: BaseException) -> bool:
    """Whether a RuntimeError means that another process has died or does not answer."""
    return isinstance(error, torch.distributed.DistError) or 'gloo/transport' in str(error)

#----------------------------------------------------------------------------
