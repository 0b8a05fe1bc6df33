"""Runs a command as one of several processes."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

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


def _join_and_work(command: str, join: Callable[[], None], work: Callable[[], int]) -> int:
    from xcomp_jax.config import ConfigError
    from xcomp_jax.processes import FirstProcessError, is_lost_process_error
    from xcomp_jax.training.step_report import NonFiniteLossError
    from xcomp_jax.training.supervise import EXIT_LOST, LOST_PROCESS

    try:
        join()
        return work()
    except (ConfigError, FirstProcessError, NonFiniteLossError):
        raise  # every process raises these, so all of them exit together
    except Exception as error:
        # A normal exit would hang: JAX waits there for the other processes, and they for this one.
        if is_lost_process_error(error):
            reason = str(error).partition("\n")[0][:160]
            print(f"{command}: {LOST_PROCESS} ({reason} ...)", file=sys.stderr, flush=True)
            os._exit(EXIT_LOST)
        if isinstance(error, (ValueError, OSError)):
            print(f"{command}: {error}", file=sys.stderr, flush=True)
            os._exit(2)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
