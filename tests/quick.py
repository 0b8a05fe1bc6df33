"""Quick compilation: most of a test's time is XLA compiling small programs for the CPU."""

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
if jax.__version_info__[:2] == (0, 10):  # XLA aborts at unknown flags
    VARIABLES["XLA_FLAGS"] = (
        "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1"
    )


def compile_quickly() -> None:
    """Disables most optimizations of XLA; call it before the first program runs.

    Sets the environment too, which commands under test inherit.
    """
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    jax.config.update("jax_disable_most_optimizations", True)


@contextlib.contextmanager
def compiled_for_computing() -> Iterator[None]:
    """Enables LLVM's optimizations, for tests that compute longer than they compile."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def environment_of_users() -> dict[str, str]:
    """Returns the environment without these settings, for tests of compilation."""
    return {name: value for name, value in os.environ.items() if value != VARIABLES.get(name)}


def printed_on_eight_devices(module: str, *arguments: str, timeout: int) -> Any:
    """Returns the JSON that `python -m module` prints on eight CPU devices."""
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
