"""What is to be recomputed is not kept: by the compiler of a TPU, which takes short loops apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.quick import environment_of_users
from xcomp_jax.launch.preflight.machines import MACHINES, missing


@pytest.mark.slow
def test_stages_of_one_layer_are_recomputed_too() -> None:
    if lacking := missing(MACHINES["v5e"]):
        pytest.skip(f"compiling for v5e needs: {lacking}")
    done = subprocess.run(
        [sys.executable, "-m", "tests.launch.remat_program", "v5e:4x4"],
        cwd=Path(__file__).parents[2],
        env=environment_of_users(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    temporary = json.loads(done.stdout)
    assert temporary["True"] < 0.8 * temporary["False"]
