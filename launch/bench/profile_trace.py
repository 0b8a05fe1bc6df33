"""Read the times at which compiled programs run from a trace of JAX's profiler on a CPU."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import jax

PROGRAM_THREADS = "tf_XLAPjRtCpuClient"
PROGRAM_EVENTS = "ThunkExecutor::Execute"

Interval = tuple[float, float]


def program_intervals(profile: Path) -> list[Interval]:
    """Returns start and end of every program in nanoseconds, sorted by start.

    Programs so small that JAX runs them on the calling thread are not part of it.

    Raises:
        ValueError: the trace contains no program on a CPU.
    """
    (path,) = profile.rglob("*.xplane.pb")
    intervals = sorted(
        (event.start_ns, event.end_ns)
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes
        for line in plane.lines
        if line.name.startswith(PROGRAM_THREADS)
        for event in line.events
        if event.name.startswith(PROGRAM_EVENTS)
    )
    if not intervals:
        raise ValueError(f"{path} contains no program on a CPU; trace a run on a CPU")
    return intervals


def idle_time(intervals: Iterable[Interval]) -> float:
    """Returns the time between the first start and the last end that no interval covers.

    >>> idle_time([(0, 4), (1, 2), (6, 7)])
    2.0
    """
    idle, end_so_far = 0.0, None
    for start, end in sorted(intervals):
        if end_so_far is not None:
            idle += max(0.0, start - end_so_far)
        end_so_far = end if end_so_far is None else max(end_so_far, end)
    return idle


def share_outside_programs(profile: Path) -> float:
    """Returns the share of a trace, from its first program to its last, in which none runs."""
    intervals = program_intervals(profile)
    span = max(end for _, end in intervals) - intervals[0][0]
    return idle_time(intervals) / span
