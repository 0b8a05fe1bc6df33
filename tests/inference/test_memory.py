"""Tests that the memory of `ask` does not depend on the length of the video."""

from __future__ import annotations

from pathlib import Path

import xcomp_jax
from xcomp_jax.inference.open_session import demo_session
from xcomp_jax.launch.bench.ask import FPS, measure, write_video


def test_ask_memory_independent_of_video_length(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    demo_session().save_pretrained(checkpoint)
    short, long = (
        measure(
            write_video(tmp_path / f"{minutes}.mp4", 60 * minutes, size=(160, 90)),
            256,
            checkpoint=str(checkpoint),
            code=Path(xcomp_jax.__file__).parents[1],
        ).peak_mb
        for minutes in (1, 10)
    )
    assert short < 3000
    assert abs(long - short) < 0.1 * short
    # Control: holding the longer video would exceed the bound above.
    whole_video = 600 * FPS * 160 * 90 * 3 / 2**20
    assert whole_video > 0.5 * short
