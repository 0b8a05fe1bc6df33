"""Fixtures of the tests of `xcomp evaluate`: models whose answers are known, and a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.evaluate_runs import arguments, copy_videos, rows_in
from tests.evaluation.layouts import write_json
from tests.evaluation.scripted_model import write_scripted_model
from tests.write_video import write_video
from xcomp_jax.cli.main import main


@pytest.fixture(scope="session", name="root")
def root_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the models `b` and `span`, a video and a compilation cache."""
    root = tmp_path_factory.mktemp("evaluate")
    write_scripted_model(root / "b", "B")
    write_scripted_model(root / "span", "1 - 3")
    frames = np.random.default_rng(0).integers(0, 256, (32, 4, 4, 3), np.uint8)
    write_video(root / "clip.mp4", frames.repeat(8, 1).repeat(8, 2), fps=4)
    return root


@pytest.fixture(name="mvbench")
def mvbench_fixture(root: Path, tmp_path: Path) -> Path:
    """Six videos with two questions each, about all and about a part; gold is B for seven."""
    data = tmp_path / "MVBench"
    rows = [
        {
            "video": f"{number}.mp4",
            "question": "Why?",
            "candidates": ["so", "thus", "never"],
            "answer": "thus" if 2 * number + part < 7 else "never",
        }
        | ({"start": 1.0, "end": 5.0} if part else {})
        for number in range(6)
        for part in range(2)
    ]
    write_json(data / "json" / "action_sequence.json", rows)
    copy_videos(root, data / "video" / "star" / "Charades_v1_480", [f"{n}.mp4" for n in range(6)])
    return data


@pytest.fixture(name="whole")
def whole_fixture(root: Path, mvbench: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """Rows of one process."""
    assert main(arguments(root, mvbench, tmp_path / "whole")) == 0
    return rows_in(tmp_path / "whole")
