"""Conversions killed at random moments: the old or the new folder is there, complete."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.convert import torch_model
from tests.convert.conftest import entries
from xcomp_jax.checkpoint import load_params
from xcomp_jax.convert.from_torch import convert_from_torch, load_torch_checkpoint

KILLS = 40


def command(source: Path, out: Path) -> list[str]:
    arguments = ["convert", "from-torch", str(source), str(out), "--force"]
    return [sys.executable, "-m", "xcomp_jax.cli.main", *arguments]


def number_of(out: Path, expected: list[object]) -> int:
    """Returns which source a complete folder holds."""
    _, params = load_params(out)
    for number, values in enumerate(expected):
        if all(map(np.array_equal, jax.tree.leaves(params), jax.tree.leaves(values))):
            return number
    raise AssertionError("the folder holds neither checkpoint")


@pytest.mark.slow
def test_killed_conversion_leaves_complete_folder(tmp_path: Path) -> None:
    sources = [torch_model.make(tmp_path / f"source{seed}", seed=seed) for seed in (0, 1)]
    expected = [load_torch_checkpoint(source)[1] for source in sources]
    out = tmp_path / "out"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    start = time.monotonic()
    subprocess.run(command(sources[0], out), check=True, env=environment, capture_output=True)
    duration, rng, killed, replaced = time.monotonic() - start, random.Random(0), 0, 0
    while killed < KILLS:
        before = number_of(out, expected)
        process = subprocess.Popen(
            command(sources[1 - before], out),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Most of a conversion is the start of Python, where nothing can go wrong.
        time.sleep(duration * rng.uniform(0.6, 1.1))
        process.kill()
        killed += process.wait() < 0
        replaced += number_of(out, expected) != before
    print(f"{killed} kills, {replaced} of them after the replacement")
    convert_from_torch(str(sources[0]), out, overwrite=True)
    assert number_of(out, expected) == 0
    assert entries(tmp_path) == ["out", "source0", "source1"]
