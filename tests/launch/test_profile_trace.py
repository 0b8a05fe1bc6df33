"""Test the times of programs read from profiler traces."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from xcomp_jax.launch.bench import profile_trace
from xcomp_jax.launch.bench.profile_trace import (
    idle_time,
    program_intervals,
    share_outside_programs,
)

PROGRAMS = ((10, 30), (25, 50), (12, 20), (80, 90))
"""Start and end in microseconds; the only gap is from 50 to 80, of a span of 80."""


def write_trace(
    folder: Path, *, threads: dict[str, tuple[tuple[int, int], ...]], name: str
) -> None:
    """Writes a trace with events called `name` on CPU threads."""
    lines = []
    for i, (thread, intervals) in enumerate(threads.items()):
        events = " ".join(
            f"events {{ metadata_id: 1 offset_ps: {start * 10**6} "
            f"duration_ps: {(end - start) * 10**6} }}"
            for start, end in intervals
        )
        lines.append(f'lines {{ id: {i} name: "{thread}" timestamp_ns: 5000 {events} }}')
    metadata = f'event_metadata {{ key: 1 value {{ id: 1 name: "{name}" }} }}'
    text = f'planes {{ name: "/host:CPU" {" ".join(lines)} {metadata} }}'
    serialized = jax.profiler.ProfileData.text_proto_to_serialized_xspace(text)
    (folder / "host.xplane.pb").write_bytes(serialized)


def test_idle_time_counts_gaps_of_overlapping_intervals() -> None:
    assert idle_time(PROGRAMS) == 30
    assert idle_time(reversed(PROGRAMS)) == 30
    assert idle_time([(3, 5)]) == 0
    # Control: ends taken from the previous interval alone count (20, 25) as idle.
    pairs = itertools.pairwise(sorted(PROGRAMS))
    assert sum(max(0, start - end) for (_, end), (start, _) in pairs) == 35


def test_share_of_known_trace_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = {
        "tf_XLAPjRtCpuClient/1": PROGRAMS[:2],
        "tf_XLAPjRtCpuClient/2": PROGRAMS[2:],
        "python": ((0, 100),),
    }
    write_trace(tmp_path, threads=threads, name="ThunkExecutor::Execute (sequential)")
    assert share_outside_programs(tmp_path) == pytest.approx(30 / 80)
    # Control: with the thread that calls the programs there is no gap.
    monkeypatch.setattr(profile_trace, "PROGRAM_THREADS", "")
    assert share_outside_programs(tmp_path) == 0


@pytest.mark.parametrize(
    ("thread", "name"), [("python", "ThunkExecutor::Execute"), ("tf_XLAPjRtCpuClient/1", "Wait")]
)
def test_trace_without_programs_is_refused(thread: str, name: str, tmp_path: Path) -> None:
    write_trace(tmp_path, threads={thread: PROGRAMS}, name=name)
    with pytest.raises(ValueError, match="contains no program on a CPU"):
        share_outside_programs(tmp_path)


@jax.jit
def program(x: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, 100, lambda _, x: jnp.tanh(x @ x), x)


def test_pauses_of_real_trace_are_idle(tmp_path: Path) -> None:
    """A sleep lasts at least as long as requested, so load can only add idle time."""
    calls, pause = 4, 0.2
    x = jax.block_until_ready(program(jnp.ones((400, 400))))
    with jax.profiler.trace(str(tmp_path)):
        for call in range(calls):
            if call:
                time.sleep(pause)
            x = jax.block_until_ready(program(x))
    intervals = program_intervals(tmp_path)
    assert idle_time(intervals) >= 1e9 * pause * (calls - 1)
    assert len(intervals) >= calls
    # Control: within one call no pause is found, whatever its duration.
    assert idle_time(intervals[:1]) == 0
