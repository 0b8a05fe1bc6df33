"""Tests that inconsistent evidence is refused with the reason."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.evidence.examples import evidence, jpeg
from xcomp_jax.evidence import Cost, Thumbnail, shown_name


def test_evidence_example_is_valid() -> None:
    assert len(evidence().selected_frames) == 16


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"video": "/home/user/garden.mp4"}, "path"),
        ({"video": "C:\\films\\garden.mp4"}, "path"),
        ({"duration": math.nan}, "duration"),
        ({"duration": -1.0}, "duration"),
        ({"frame_times": (), "frame_scores": None}, "frame_times"),
        ({"frame_times": (1.0, 0.5), "frame_scores": None}, "frame_times"),
        ({"frame_times": (0.0, math.inf), "frame_scores": None}, "frame_times"),
        ({"frame_scores": (0.5,)}, "frame_scores.*64 frames"),
        ({"selected_frames": ()}, "selected_frames"),
        ({"selected_frames": (3, 2)}, "selected_frames"),
        ({"selected_frames": (2, 2)}, "selected_frames"),
        ({"selected_frames": (-1, 2)}, "selected_frames"),
        ({"selected_frames": (2, 64)}, "selected_frames"),
        ({"thumbnails": (Thumbnail(3, jpeg()),)}, "thumbnails"),
        ({"thumbnails": (Thumbnail(24, jpeg()), Thumbnail(22, jpeg()))}, "thumbnails"),
    ],
)
def test_evidence_inconsistent_field_raises(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        evidence(**changes)


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_cost_invalid_seconds_raise(seconds: float) -> None:
    with pytest.raises(ValueError, match="encode"):
        Cost("encode", seconds)


def test_thumbnail_other_format_raises() -> None:
    with pytest.raises(ValueError, match="frame 7 is not a JPEG"):
        Thumbnail(7, b"\x89PNG")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("C: talk.mp4", "C: talk.mp4"),
        ("C:talk.mp4", "C:talk.mp4"),
        ("a:b.mp4", "a:b.mp4"),
        ("1:30 of a talk.mp4", "1:30 of a talk.mp4"),
        ("back\\slash.mp4", "back\\slash.mp4"),
        ("C:\\films\\talk.mp4", "talk.mp4"),
        ("/home/user/talk.mp4", "talk.mp4"),
        ("frames/", "frames"),
        ("caf\udce9.mp4", "caf\udce9.mp4"),
    ],
)
def test_shown_name_is_accepted_as_evidence(path: str, name: str) -> None:
    assert shown_name(path) == name
    assert evidence(video=shown_name(path)).video == name
