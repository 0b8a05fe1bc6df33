"""Joins several processes into one run, compares their inputs, and shares results of process 0.

`xcomp_jax.training.supervise` handles the loss of a process.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from xcomp_jax.config import ConfigError
from xcomp_jax.rendezvous import Member, meet

# A process that has not joined after STARTUP_SECONDS, or has sent no heartbeat for
# HEARTBEAT_SECONDS, counts as lost.
STARTUP_SECONDS = 300
HEARTBEAT_SECONDS = 60

MAX_LISTED = 5

POLL_SECONDS = 2.0

Resource = TypeVar("Resource")
Result = TypeVar("Result")

_LOST_PROCESS_MARKERS = ("gloo", "nccl", "coordination service", "heartbeat", "closed by peer")


class FirstProcessError(ValueError):
    """Raised on every process, with the same message, when work on process 0 fails."""


def connect(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    shutdown_seconds: int = HEARTBEAT_SECONDS,
) -> None:
    """Joins this process to a run of several. Must be called before JAX looks for devices.

    Args:
        coordinator: HOST:PORT of process 0. Without it, JAX reads the address and the process ids
            from the cluster (TPU pods, GKE, Slurm, Open MPI).
        shutdown_seconds: how long a finished process waits at exit for the others to finish.

    Raises:
        ConfigError: the arguments are incomplete, `coordinator` has no port, no cluster was found,
            or the port is taken; with a coordinator also if a process does not join within
            STARTUP_SECONDS or two have the same id. On a detected cluster, JAX aborts from C++
            instead if a process does not join.
    """
    arguments = (coordinator, num_processes, process_id)
    if any(value is None for value in arguments) and any(value is not None for value in arguments):
        raise ConfigError(
            f"coordinator={coordinator!r}, num_processes={num_processes} and process_id="
            f"{process_id} must be set together; set all three, or none on a cluster that JAX "
            "detects"
        )
    if coordinator is not None and not re.fullmatch(r".+:\d+", coordinator):
        raise ConfigError(
            f"coordinator={coordinator!r} must read HOST:PORT, with a free port on the host of "
            "process 0, such as localhost:9911"
        )
    if coordinator is not None and num_processes is not None and process_id is not None:
        meet(Member(coordinator, num_processes, process_id), seconds=STARTUP_SECONDS)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=STARTUP_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=shutdown_seconds,
        )
    except ValueError as error:
        raise ConfigError(
            f"no cluster was detected ({error}). TPU pods, GKE, Slurm and Open MPI are detected; "
            "elsewhere pass --coordinator HOST:PORT, --num-processes N and --process-id I to each "
            "process"
        ) from error
    except RuntimeError as error:
        raise ConfigError(
            f"process {process_id} of {num_processes} cannot join at {coordinator} ({error}); "
            "check that the port is free on the host of process 0"
        ) from error


def is_lost_process_error(error: BaseException) -> bool:
    """Returns whether a collective failed because another process is gone."""
    # Gloo's failures arrive as ValueError, all others as JaxRuntimeError.
    if jax.process_count() == 1 or not isinstance(error, (jax.errors.JaxRuntimeError, ValueError)):
        return False
    text = str(error).lower()
    return any(marker in text for marker in _LOST_PROCESS_MARKERS)


def is_first() -> bool:
    """Returns whether this is process 0, which writes the files of the run."""
    return jax.process_index() == 0


def on_first(work: Callable[[], Any]) -> Any:
    """Runs `work` on process 0 and returns its result, a JSON value, on every process.

    The other processes wait.

    Raises:
        FirstProcessError: `work` failed in a run of several processes. A run of one process raises
            the original error.
    """
    if jax.process_count() == 1:
        return work()
    outcome = _run_and_broadcast(work) if is_first() else _receive()
    if "error" in outcome:
        raise FirstProcessError(outcome["error"])
    return outcome["result"]


def on_every(work: Callable[[], Result]) -> Result:
    """Runs `work` on every process and returns the result of this one.

    Raises:
        ConfigError: `work` raised a ValueError or OSError on any process of several; every process
            raises it. A run of one process raises the original error.
    """
    if jax.process_count() == 1:
        return work()
    try:
        result, problem = work(), ""
    except (ValueError, OSError) as error:
        problem = str(error)
    for number, text in enumerate(_gather(problem)):
        if text:
            raise ConfigError(f"process {number}: {text}")
    return result


def on_every_while_meeting(work: Callable[[], Result]) -> Result:
    """Like `on_every`, for work that takes one process much longer than another.

    `work` runs in a thread. Regular collectives keep the wait for the slowest process below every
    backend's timeout, and detect a lost process.
    """
    if jax.process_count() == 1:
        return work()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        waiting = True
        while waiting:
            is_done = bool(concurrent.futures.wait([future], timeout=POLL_SECONDS).done)
            waiting = not multihost_utils.process_allgather(np.bool_(is_done)).all()
    return on_every(future.result)


def require_equal(facts: Mapping[str, str]) -> None:
    """Compares `facts`, values by name, over all processes, each of which must call this.

    Raises:
        ConfigError: they differ; every process raises it, with the names and the values.
    """
    if jax.process_count() == 1:
        return
    first, *others = (json.loads(text) for text in _gather(json.dumps(dict(facts))))
    for number, values in enumerate(others, start=1):
        names = [name for name in {**first, **values} if first.get(name) != values.get(name)]
        if names:
            listed = [
                f"{name}: {first.get(name, 'absent')} and {values.get(name, 'absent')}"
                for name in names[:MAX_LISTED]
            ]
            more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
            raise ConfigError(
                f"process 0 and process {number} of this run differ in {'; '.join(listed)}{more}. "
                "Start all of them with the same code, files and options"
            )


def _gather(text: str) -> list[str]:
    """Returns the `text` of every process, in the order of their ids."""
    data = np.frombuffer(text.encode(), np.uint8)
    digest = np.frombuffer(hashlib.sha256(data.tobytes()).digest(), np.uint8)
    # Texts are equal as a rule; then only their hashes and lengths are sent.
    heads = multihost_utils.process_allgather(
        np.concatenate([digest, np.frombuffer(np.int64(len(data)).tobytes(), np.uint8)])
    )
    if (heads == heads[0]).all():
        return [text] * len(heads)
    lengths = [int(np.frombuffer(head[-8:].tobytes(), np.int64)[0]) for head in heads]
    padded = np.zeros(max(lengths), np.uint8)
    padded[: len(data)] = data
    texts = multihost_utils.process_allgather(padded)
    return [row[:n].tobytes().decode() for row, n in zip(texts, lengths, strict=True)]


def open_on_first(factory: Callable[[], Resource]) -> Resource | None:
    """Returns the result of `factory` on process 0 and None elsewhere; raises like `on_first`."""
    resources: list[Resource] = []
    on_first(lambda: resources.append(factory()))
    return resources[0] if resources else None


def _run_and_broadcast(work: Callable[[], Any]) -> dict[str, Any]:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        # Regular collectives keep long work below every backend's timeout and detect a lost
        # process.
        while not concurrent.futures.wait([future], timeout=POLL_SECONDS).done:
            _broadcast_length(0)
    error = future.exception()
    if error is None:
        outcome = {"result": future.result()}
    else:
        kind = "" if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: "
        outcome = {"error": f"process 0: {kind}{error}"}
    text = np.frombuffer(json.dumps(outcome).encode(), np.uint8)
    _broadcast_length(len(text))
    multihost_utils.broadcast_one_to_all(text)
    return json.loads(text.tobytes())


def _receive() -> dict[str, Any]:
    while not (length := _broadcast_length(0)):
        pass
    text = multihost_utils.broadcast_one_to_all(np.zeros(length, np.uint8))
    return json.loads(np.asarray(text).tobytes())


def _broadcast_length(length: int) -> int:
    """Returns process 0's `length`: bytes of its serialized outcome, 0 while `work` runs."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(length)))
