"""Quick compilation: tests compile much and compute little, and XLA takes its time on a CPU."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import jax

VARIABLES = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
if jax.__version_info__[:2] == (0, 10):  # XLA stops at flags it does not know
    VARIABLES["XLA_FLAGS"] = (
        "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1"
    )


def compile_quickly() -> None:
    """Leaves out most of what XLA does for the speed of a program; before the first one runs.

    In the environment too, because commands under test inherit it.
    """
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    jax.config.update("jax_disable_most_optimizations", True)


@contextlib.contextmanager
def compiled_for_computing() -> Iterator[None]:
    """Takes LLVM's optimisations back in, for tests that compute for longer than they compile."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def environment_of_users() -> dict[str, str]:
    """The environment without these settings, for commands whose compilation is what is tested."""
    return {name: value for name, value in os.environ.items() if value != VARIABLES.get(name)}


def environment_with_devices(count: int) -> dict[str, str]:
    """For a command that sees the CPU as that many devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    return {**os.environ, "XLA_FLAGS": flags.strip()}
