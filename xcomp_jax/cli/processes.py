"""Runs a command as one of several processes."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

LINGER_SECONDS = 5.0
"""Time that a failed process 0, which coordinates the others, gives them to report the error."""

DISTRIBUTED_HELP = "read the process ids from the cluster (TPU pods, GKE, Slurm, Open MPI)"


def run_distributed(command: str, join: Callable[[], None], work: Callable[[], int]) -> int:
    """Calls `join`, then `work`, in a child process and returns the exit code.

    Must be called before JAX is imported, because JAX starts threads and a fork would lose them.
    The loss of another process is reported on stderr, prefixed with `command`, and returns
    `supervise.EXIT_LOST`.
    """
    from xcomp_jax.training.supervise import supervise_child

    code = supervise_child(command)
    return _join_and_work(command, join, work) if code is None else code


@contextlib.contextmanager
def claimed_share(store: Path, process_id: int, num_processes: int) -> Iterator[None]:
    """Prevents another running process from encoding the same share of files into `store`.

    Raises:
        ConfigError: one does. Its twin has the id of a share that nobody encodes.
    """
    from xcomp_jax.config import ConfigError
    from xcomp_jax.token_store.locks import EXCLUSIVE, locked

    name = f".share-{process_id}-of-{num_processes}.lock"
    with locked(store / name, EXCLUSIVE, wait=False) as lock:
        if lock is None:
            raise ConfigError(
                f"another running process encodes into {store} with --process-id {process_id} and "
                f"--num-processes {num_processes}; give each process its own id"
            )
        yield


def _join_and_work(command: str, join: Callable[[], None], work: Callable[[], int]) -> int:
    from xcomp_jax.processes import is_lost_process_error
    from xcomp_jax.terminal.output import describe
    from xcomp_jax.training.supervise import EXIT_LOST, LOST_PROCESS

    try:
        join()
        return work()
    except Exception as error:
        if is_lost_process_error(error):
            reason = str(error).partition("\n")[0][:160]
            print(f"{command}: {LOST_PROCESS} ({reason} ...)", file=sys.stderr, flush=True)
            code = EXIT_LOST
        elif isinstance(error, (ValueError, OSError)):
            print(f"{command}: {describe(error)}", file=sys.stderr, flush=True)
            code = 2
        else:
            traceback.print_exc()
            sys.stderr.flush()
            code = 1
    _leave(code)


def _leave(code: int) -> NoReturn:
    """Ends this process; the others end too, by the same error or because this one is gone.

    A normal exit would hang if they do not raise the same error: JAX waits there for all.
    """
    import jax

    if jax.distributed.is_initialized() and jax.process_index() == 0:
        time.sleep(LINGER_SECONDS)
    os._exit(code)
