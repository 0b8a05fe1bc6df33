"""Test that old module names still start their commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
NEW_NAMES = {
    "aot_compile": "xcomp preflight",
    "scaling": "xcomp preflight table",
    "bench": "xcomp bench",
    "qc_costs": "xcomp bench selection-costs",
    "qc_speed": "xcomp bench selection-speed",
    "measure_ask": "xcomp bench ask",
    "train_overhead": "xcomp bench training-overhead",
    "qc_granularity": "python -m xcomp_jax.launch.studies.granularity",
    "schedules_in_small": "python -m xcomp_jax.launch.studies.schedules",
}


@pytest.mark.parametrize(("old", "new"), NEW_NAMES.items())
def test_old_name_answers_help_with_new_name(old: str, new: str) -> None:
    process = subprocess.run(
        [sys.executable, "-m", f"launch.{old}", "--help"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith(f"usage: {new} ")
    assert "examples:" in process.stdout
