"""Runs the examples of docs/library.md in order, as a reader would."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from tests.write_video import write_video
from xcomp_jax.inference.open_session import demo_session

PAGE = Path(__file__).parents[1] / "docs" / "library.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_library_examples_run(tmp_path: Path) -> None:
    demo_session(selection=None).save_pretrained(tmp_path / "checkpoint")
    frames = np.random.default_rng(0).integers(0, 256, (32, 48, 64, 3), np.uint8)
    names: dict[str, object] = {
        "checkpoint": tmp_path / "checkpoint",
        "video_path": write_video(tmp_path / "clip.mp4", frames, fps=8),
        "store_folder": tmp_path / "store",
        "new_folder": tmp_path / "new",
    }
    examples = blocks()
    assert len(examples) >= 8
    for example in examples:
        lines = [line for line in example.splitlines() if line.strip()]
        assert len(lines) <= 5, f"longer than five lines:\n{example}"
        exec(compile(example, str(PAGE), "exec"), names)
    answer = names["answer"]
    assert getattr(answer, "token_ids", None)
    saved = tmp_path / "new" / "session"
    assert (saved / "generation_config.json").is_file()
