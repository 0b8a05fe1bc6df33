"""Tests a mixture run that stops inside an epoch and continues with another process count."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.training.tiny_experiment import MODEL
from tests.training.tune_processes import losses, start, start_together, wait_until
from xcomp_jax.checkpoint import save_params
from xcomp_jax.data.synthetic.generate import generate
from xcomp_jax.models.xcomp import init_params

EXPERIMENT, STEPS = "tiny_mixture.py", 10
"""10 steps of 4 examples, from a mixture of 32: an epoch ends after step 8."""


@pytest.fixture(name="arguments")
def arguments_fixture(tmp_path: Path) -> list[str]:
    """Writes a mixture and a base model; returns the options that name them."""
    videos = generate(
        tmp_path / "videos",
        seed=0,
        num_train_videos=16,
        num_eval_videos=1,
        kinds=("color", "direction"),
        progress=False,
    )
    entry = {"json_path": str(videos.train_manifest), "data_root": str(videos.folder)}
    (tmp_path / "mixture.yaml").write_text(json.dumps({"datasets": [entry]}))
    save_params(tmp_path / "base", MODEL, init_params(MODEL, jax.random.key(0)))
    values = {
        "data.mixture.path": tmp_path / "mixture.yaml",
        "init_from": tmp_path / "base",
        "stages.0.num_steps": STEPS,
    }
    return [option for item in values.items() for option in ("--set", "{}={}".format(*item))]


@pytest.mark.slow
def test_restart_on_other_process_count_matches_losses(
    tmp_path: Path, arguments: list[str]
) -> None:
    cache = tmp_path / "cache"
    start(EXPERIMENT, tmp_path / "alone", cache, *arguments).wait_for_success()
    expected = losses(tmp_path / "alone")
    values = [line[2] for line in expected]
    assert len(expected) == STEPS
    assert min(abs(np.diff(values))) > 1e-3, "control: other rows would give another loss"

    stopped = tmp_path / "stopped"
    running = start_together(2, EXPERIMENT, stopped, cache, *arguments)
    wait_until((stopped / "stages" / "sct" / "4").is_dir, *running)
    for process in running:
        process.send(signal.SIGKILL)
        process.exit_code()
    by_two = Path(shutil.copytree(stopped, tmp_path / "by-two"))
    start(EXPERIMENT, stopped, cache, *arguments).wait_for_success()
    for process in start_together(2, EXPERIMENT, by_two, cache, *arguments):
        process.wait_for_success()
    for workdir in (stopped, by_two):
        actual = losses(workdir)
        assert [line[:2] for line in actual] == [line[:2] for line in expected]
        np.testing.assert_allclose([line[2] for line in actual], values, rtol=1e-4)
