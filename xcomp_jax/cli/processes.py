"""A command that works as one of several processes."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

DISTRIBUTED = "ask the cluster who the processes are: TPU pods, GKE, Slurm, Open MPI"


def work_together(command: str, join: Callable[[], None], work: Callable[[], int]) -> int:
    """The exit code of `work` in a child of this process that has joined the others by `join`.

    Called before JAX is imported: it starts threads, which a fork would lose. What a lost process
    means is said on stderr, as `command`, and ends with `supervise.EXIT_LOST`.
    """
    from xcomp_jax.training.supervise import watch_over_child

    code = watch_over_child(command)
    return _join_and_work(command, join, work) if code is None else code


def _join_and_work(command: str, join: Callable[[], None], work: Callable[[], int]) -> int:
    from xcomp_jax.config import ConfigError
    from xcomp_jax.processes import FirstProcessError, tells_of_a_lost_process
    from xcomp_jax.training.step_report import NonFiniteLossError
    from xcomp_jax.training.supervise import EXIT_LOST, LOST

    try:
        join()
        return work()
    except (ConfigError, FirstProcessError, NonFiniteLossError):
        raise  # all of them come to the same and leave together
    except Exception as error:
        # JAX would wait for the others at exit, and they for this process.
        if tells_of_a_lost_process(error):
            said = str(error).partition("\n")[0][:160]
            print(f"{command}: {LOST} ({said} ...)", file=sys.stderr, flush=True)
            os._exit(EXIT_LOST)
        if isinstance(error, (ValueError, OSError)):
            print(f"{command}: {error}", file=sys.stderr, flush=True)
            os._exit(2)
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
