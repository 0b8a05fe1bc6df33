"""The share of a trace in which no program was running."""

from __future__ import annotations

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from xcomp_jax.launch.bench.train_overhead import outside_compiled_code


@jax.jit
def _program(x: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, 100, lambda _, x: jnp.tanh(x @ x), x)


def _traced(folder: Path, *, pause: float, calls: int = 6) -> tuple[float, float]:
    """The share read off the trace, and the one that the pauses alone are of all the time."""
    x = jax.block_until_ready(_program(jnp.ones((400, 400))))
    with jax.profiler.trace(str(folder)):
        began = time.perf_counter()
        for call in range(calls):
            if call:
                time.sleep(pause)
            x = jax.block_until_ready(_program(x))
        total = time.perf_counter() - began
    return outside_compiled_code(folder), pause * (calls - 1) / total


def test_pauses_between_programs_are_outside(tmp_path: Path) -> None:
    share, paused = _traced(tmp_path, pause=0.2)
    assert paused > 0.25
    assert share == pytest.approx(paused, abs=0.15)


def test_programs_back_to_back_leave_nothing_outside(tmp_path: Path) -> None:
    share, _ = _traced(tmp_path, pause=0.0)
    assert share < 0.2


def test_a_trace_without_programs_is_refused(tmp_path: Path) -> None:
    with jax.profiler.trace(str(tmp_path)):
        time.sleep(0.01)
    with pytest.raises(ValueError, match="no program at work"):
        outside_compiled_code(tmp_path)
