"""Tests unevenly spaced frames: durations, times and cuts by the frames' time stamps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.video.clips import write_clip
from xcomp_jax.config import SamplingConfig
from xcomp_jax.data.mixture.media import Media, plan_media, probe_media
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.probe import VideoInfo, probe
from xcomp_jax.video.sampling import plan_frames, plan_training_frames

BOUNDS = {"fps": 8, "min_frames": 8, "max_frames": 64}


@pytest.fixture(scope="module")
def gap_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames per second with B-frames; a pause of 3 s after the first second (mp4)."""
    path = tmp_path_factory.mktemp("gap") / "gap.mp4"
    times = "setpts='if(lt(N,30),N/30,3+N/30)/TB'"
    options = ["-vf", f"settb=1/15360,{times}", "-fps_mode", "passthrough"]
    return write_clip(path, 60, fps="30", options=[*options, "-c:v", "libx264", "-bf", "2"])


def test_probe_gap_with_b_frames_gives_true_duration(gap_clip: Path) -> None:
    info = probe(gap_clip)
    expected = [i / 30 for i in range(30)] + [3 + i / 30 for i in range(30, 60)]
    np.testing.assert_allclose(info.times, expected, atol=1e-3)
    assert info.duration == pytest.approx(5.0, abs=0.01)  # not 7.03
    assert info.fps == pytest.approx(12.0, abs=0.03)  # as decord reports it
    assert info.is_uneven


def test_plan_frames_gap_states_true_times(gap_clip: Path) -> None:
    plan = plan_frames(probe(gap_clip), **BOUNDS)
    true = [index / 30 if index < 30 else 3 + index / 30 for index in plan.indices]
    np.testing.assert_allclose(plan.times, true, atol=1e-3)
    # The prompt keeps the original's times by the mean rate.
    assert plan.long_message.endswith(f"{round(plan.indices[-1] / 12, 1)} seconds. ")
    assert f"{plan.times[-1]:.1f}" not in plan.long_message


def test_plan_frames_cut_follows_time_stamps(uneven_clip: Path) -> None:
    """Frames 0.24 s apart up to 7.2 s, then 25 per second."""
    info = probe(uneven_clip)
    cut = {"start": 1.0, "end": 3.5}
    true = plan_frames(info, **BOUNDS, **cut)
    assert true.times[0] == pytest.approx(0.96, abs=0.002)  # shown at 1.0 s
    assert 3.0 < true.times[-1] < 3.5
    assert true.duration == 2.5
    by_rate = plan_frames(info, **BOUNDS, **cut, cut_by="mean_rate")
    assert by_rate.indices[0] == int(info.fps)
    assert by_rate.times[0] == pytest.approx(0.24 * by_rate.indices[0], abs=0.002)
    assert by_rate.indices[0] != true.indices[0]  # Control


def test_plan_frames_even_spacing_cuts_alike() -> None:
    times = np.arange(300) / 29.97
    info = VideoInfo(Path("v.mp4"), 300, 29.97, 300 / 29.97, times)
    for start, end in ((None, 4.0), (1.3, 7.7), (2.5, None), (0.0, 99.0)):
        plans = [
            plan(info, **BOUNDS, start=start, end=end, cut_by=clock)
            for clock in ("time_stamps", "mean_rate")
            for plan in (plan_frames, plan_training_frames)
        ]
        assert plans[0] == plans[2]
        assert plans[1] == plans[3]


def test_plan_media_uneven_cut_opens_the_file(uneven_clip: Path) -> None:
    """A scan table has no times, so the cut is planned from the file."""
    sampling = SamplingConfig(fps=8, min_frames=4, max_frames=8)
    media = Media(path=uneven_clip.name, kind="video", start=1.0, end=4.9)
    root = uneven_clip.parent
    info = probe_media(media, root)
    known = dataclasses.replace(info, times=np.zeros(0))
    complete, planned = (
        plan_media(media, each, root, sampling=sampling, clip_frames=4) for each in (info, known)
    )
    assert planned == complete
    absent = Media(path="no.mp4", kind="video", start=1.0, end=4.9)
    with pytest.raises(VideoError, match="no such file"):
        plan_media(absent, known, root, sampling=sampling, clip_frames=4)
    faithful = dataclasses.replace(sampling, cut_by="mean_rate")
    by_rate = plan_media(absent, known, root, sampling=faithful, clip_frames=4)
    assert by_rate.indices != complete.indices
