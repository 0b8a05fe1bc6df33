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

KILLS = 20


def start(source: Path, out: Path) -> tuple[subprocess.Popen[bytes], float]:
    """Starts a conversion; returns when it begins to write, with the time of that moment."""
    arguments = ["convert", "from-torch", str(source), str(out), "--force"]
    drafts = set(out.parent.glob(".out.partial-*"))
    process = subprocess.Popen(
        [sys.executable, "-m", "xcomp_jax.cli.main", *arguments],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and set(out.parent.glob(".out.partial-*")) <= drafts:
        time.sleep(0.005)
    return process, time.monotonic()


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
    first, seconds = start(sources[0], out)
    assert first.wait() == 0
    seconds = time.monotonic() - seconds
    rng, killed, replaced = random.Random(0), 0, 0
    while killed < KILLS:
        before = number_of(out, expected)
        process, _ = start(sources[1 - before], out)
        time.sleep(seconds * rng.uniform(0, 1))
        process.kill()
        was_killed = process.wait() < 0
        killed += was_killed
        replaced += was_killed and number_of(out, expected) != before
    print(f"{killed} kills, {replaced} of them after the replacement", flush=True)
    convert_from_torch(str(sources[0]), out, overwrite=True)
    assert number_of(out, expected) == 0
    assert entries(tmp_path) == ["out", "source0", "source1"]
