"""Tests which errors of cut-off transfers are dropped."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
from xcomp_jax.training.damaged_checkpoint import ignore_late_transfers

async def {name}():
    pass

ignore_late_transfers()
{name}()  # dropped without being started
"""


@pytest.mark.parametrize("action", ["default", "error"])
def test_ignore_late_transfers_never_started_prints_nothing(action: str) -> None:
    assert printed("_read_array_index_and_device_put", action) == ""
    control = printed("some_other_work", action)
    assert "coroutine 'some_other_work' was never awaited" in control


def printed(name: str, action: str) -> str:
    """Returns what a program prints that never starts the coroutine `name`."""
    command = [sys.executable, "-W", f"{action}::RuntimeWarning", "-c", PROGRAM.format(name=name)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return result.stderr
