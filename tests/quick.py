"""Quick compilation: tests compile much and compute little, and XLA takes its time on a CPU."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

REPO = Path(__file__).parents[1]
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


def printed_on_eight_devices(module: str, *arguments: str, timeout: int) -> Any:
    """The JSON that `python -m module` prints when it sees the CPU as eight devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=REPO,
        env={**os.environ, "XLA_FLAGS": flags.strip()},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)
