"""Tests that the memory of `ask` does not depend on the length of the video."""

from __future__ import annotations

from pathlib import Path

from xcomp_jax.inference.open_session import demo_session
from xcomp_jax.launch.bench.ask import FPS, measure, write_video


def test_ask_memory_independent_of_video_length(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    demo_session().save_pretrained(checkpoint)
    short, long = (
        measure(
            write_video(tmp_path / f"{minutes}.mp4", 60 * minutes, size=(160, 90)), 512, checkpoint
        )
        for minutes in (1, 10)
    )
    assert short["peak_mb"] < 3000
    assert abs(long["peak_mb"] - short["peak_mb"]) < 0.1 * short["peak_mb"]
    # Control: holding the longer video would exceed the bound above.
    whole_video = 600 * FPS * 160 * 90 * 3 / 2**20
    assert whole_video > 0.5 * short["peak_mb"]
