"""Test that remat saves memory on a TPU, whose compiler unrolls short loops."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.quick import environment_of_users
from xcomp_jax.launch.preflight.machines import MACHINES, missing


@pytest.mark.slow
def test_remat_with_groups_of_one_layer_saves_memory() -> None:
    if command := missing(MACHINES["v5e"]):
        pytest.skip(f"compiling for v5e needs: {command}")
    process = subprocess.run(
        [sys.executable, "-m", "tests.launch.remat_program", "v5e:4x4"],
        cwd=Path(__file__).parents[2],
        env=environment_of_users(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    temporary = json.loads(process.stdout)
    assert temporary["True"] < 0.8 * temporary["False"]
