"""Several processes as one run: how they meet, and what the first does for all.

What happens when one of them is lost is the business of `supervise`.
"""

from __future__ import annotations

import concurrent.futures
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from xcomp_jax.config import ConfigError

# Within this time every process must have started, and a machine that fell silent is given up.
MEETING_SECONDS = 300
SILENCE_SECONDS = 60

# The others look this often whether the first process is done with what they wait for.
ASK_SECONDS = 2.0

Opened = TypeVar("Opened")

_SIGNS_OF_LOSS = ("gloo", "nccl", "coordination service", "heartbeat", "closed by peer")


class FirstProcessError(ValueError):
    """What process 0 did for all of them failed; all of them raise this with its message."""


def connect(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    patience: int = SILENCE_SECONDS,
) -> None:
    """Joins this process to the run, before JAX looks for devices.

    Args:
        coordinator: HOST:PORT at which process 0 can be reached. Without it the cluster is asked
            (TPU pods, GKE, Slurm, Open MPI).
        patience: seconds that one which is done waits for the others to be, while they are heard.

    Raises:
        ConfigError: the arguments contradict each other, `coordinator` has no port, no cluster was
            found, or the port is taken. When not all processes come in time, JAX ends this one from
            C++.
    """
    given = (coordinator, num_processes, process_id)
    if any(value is None for value in given) and any(value is not None for value in given):
        raise ConfigError(
            f"coordinator={coordinator!r}, num_processes={num_processes} and process_id="
            f"{process_id} go together: give all three, or none where the cluster knows them"
        )
    if coordinator is not None and not re.fullmatch(r".+:\d+", coordinator):
        raise ConfigError(
            f"coordinator={coordinator!r} must read HOST:PORT, a free port of process 0's machine, "
            "such as localhost:9911"
        )
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=MEETING_SECONDS,
            heartbeat_timeout_seconds=SILENCE_SECONDS,
            shutdown_timeout_seconds=patience,
        )
    except ValueError as error:
        raise ConfigError(
            f"this process found no other ({error}). On a TPU pod, GKE, Slurm or Open MPI the "
            "cluster says who they are; elsewhere give --coordinator HOST:PORT, --num-processes N "
            "and --process-id I to each"
        ) from error
    except RuntimeError as error:
        raise ConfigError(
            f"process {process_id} of {num_processes} cannot join at {coordinator} ({error}): is "
            "that port free on the machine of process 0?"
        ) from error


def tells_of_a_lost_process(error: BaseException) -> bool:
    """Whether a collective failed because another process is gone."""
    # Gloo's failures arrive as ValueError, all others as JaxRuntimeError.
    if jax.process_count() == 1 or not isinstance(error, (jax.errors.JaxRuntimeError, ValueError)):
        return False
    text = str(error).lower()
    return any(sign in text for sign in _SIGNS_OF_LOSS)


def is_first() -> bool:
    """Whether this process writes the files of the run."""
    return jax.process_index() == 0


def on_first(work: Callable[[], Any]) -> Any:
    """Runs `work` on process 0 while the others wait; all get its result, any JSON value.

    Raises:
        FirstProcessError: on all of several processes, when `work` failed; a single process raises
            the error itself.
    """
    if jax.process_count() == 1:
        return work()
    outcome = _lead(work) if is_first() else _follow()
    if "error" in outcome:
        raise FirstProcessError(outcome["error"])
    return outcome["result"]


def opened_on_first(open_one: Callable[[], Opened]) -> Opened | None:
    """What `open_one` gives on process 0, None on the others; errors as those of `on_first`."""
    opened: list[Opened] = []
    on_first(lambda: opened.append(open_one()))
    return opened[0] if opened else None


def _lead(work: Callable[[], Any]) -> dict[str, Any]:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        # A collective every few seconds: no backend's own time limit is met, however long the work,
        # and a process that was lost is noticed.
        while not concurrent.futures.wait([future], timeout=ASK_SECONDS).done:
            _announce(0)
    error = future.exception()
    if error is None:
        outcome = {"result": future.result()}
    else:
        kind = "" if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: "
        outcome = {"error": f"process 0: {kind}{error}"}
    text = np.frombuffer(json.dumps(outcome).encode(), np.uint8)
    _announce(len(text))
    multihost_utils.broadcast_one_to_all(text)
    return json.loads(text.tobytes())


def _follow() -> dict[str, Any]:
    while not (length := _announce(0)):
        pass
    text = multihost_utils.broadcast_one_to_all(np.zeros(length, np.uint8))
    return json.loads(np.asarray(text).tobytes())


def _announce(length: int) -> int:
    """Bytes of the first process's outcome, 0 while there is none."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(length)))
