"""Memory of asking does not depend on the length of the video."""

from __future__ import annotations

from pathlib import Path

from xcomp_jax.launch.bench.ask import FPS, measure, write_video


def test_ten_minutes_take_no_more_memory_than_one(tmp_path: Path) -> None:
    short, long = (
        measure(write_video(tmp_path / f"{minutes}.mp4", 60 * minutes, size=(160, 90)), 512)
        for minutes in (1, 10)
    )
    assert short["peak_mb"] < 3000
    assert abs(long["peak_mb"] - short["peak_mb"]) < 0.1 * short["peak_mb"]
    # What holding the longer video would take, as a control of the bound above.
    whole_video = 600 * FPS * 160 * 90 * 3 / 2**20
    assert whole_video > 0.5 * short["peak_mb"]
