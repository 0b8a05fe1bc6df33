"""Parity of `frame_sampling`: frame indices, repetitions, clips and time messages, exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.parity.cases import Case, GoldenError
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.probe import VideoInfo
from xcomp_jax.video.sampling import (
    FramePlan,
    Sampling,
    inference_indices,
    plan_frames,
    plan_training_frames,
    training_indices,
)

pytestmark = pytest.mark.golden("frame_sampling")

Row = dict[str, Any]


def rows(case: Case, key: str) -> list[Row]:
    """Returns all rows with `key` from the files of the case that hold lists of rows."""
    tables = [table for table in case.jsons().values() if isinstance(table, list)]
    found = [row for table in tables for row in table if key in row]
    if not found:
        raise GoldenError(f"{case.dir}: no rows with {key!r} in {sorted(case.jsons())}")
    return found


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def same_indices(got: Sequence[int], want: Any) -> bool:
    """Compares indices; long lists are recorded as count, head, tail and checksum."""
    if isinstance(want, dict):
        return len(got) == want["n"] and digest(",".join(map(str, got))) == want["sha256"]
    return list(got) == want


def same_text(got: str, want: Any) -> bool:
    if isinstance(want, dict):
        return len(got) == want["n_chars"] and digest(got) == want["sha256"]
    return got == want


def interval_starts(got: Sequence[int], total: int) -> list[int]:
    """Returns the control: the start of every interval instead of its middle."""
    return np.linspace(0, total, len(got), endpoint=False).astype(int).tolist()


# --- get_frame_indices -------------------------------------------------------------------------


def index_results(case: Case) -> Iterator[tuple[Row, str, tuple[int, ...], Any]]:
    """Yields (row, variant, our indices, recorded indices) of every recorded call."""
    for row in rows(case, "sample"):
        if row["sample"] not in ("dynamic_fps1", "middle"):
            raise GoldenError(f"{case.dir}: sampling {row['sample']!r} is not known to this test")
        sampling = Sampling(row["EXTRA_PARAM_FPS"] or 1, row["min"], row["max"], row["local"])
        count = row["num_frames"] if row["sample"] == "middle" else None
        recorded = {"infer": row["infer"], "train": row["train"]}
        if recorded["train"] == "same":
            recorded["train"] = recorded["infer"]
        variants: dict[str, Callable[..., tuple[int, ...]]]
        variants = {"infer": inference_indices, "train": training_indices}
        for name, sample in variants.items():
            got = sample(row["vlen"], row["fps"], sampling, count=count)
            yield row, name, got, recorded[name]


def test_sampling_recorded_calls_equal_indices(case: Case) -> None:
    results = list(index_results(case))
    missed = [(name, row) for row, name, got, want in results if not same_indices(got, want)]
    assert not missed, f"{len(missed)} of {len(results)} differ, the first: {missed[0]}"
    starts = [(interval_starts(got, row["vlen"]), want) for row, _, got, want in results]
    assert not all(same_indices(*pair) for pair in starts), "control: starts pass for middles"


# --- whole readers -----------------------------------------------------------------------------


def recorded_video(row: Row) -> VideoInfo:
    """Returns a video of the row's length as probe() would report it."""
    folder = "img" in row["kind"] or "frame" in row["kind"]
    total = row["vlen"]
    duration = (row.get("sidecar_duration") or total) if folder else total / row["fps"]
    fps = total / duration if folder else row["fps"]
    times = tuple(i / fps for i in range(total))
    return VideoInfo(Path(row["kind"]), total, fps, duration, times, is_folder=folder)


def plan_of(row: Row) -> FramePlan:
    """Plans frames with the row's settings, environment variables in the original."""
    clip = row.get("clip") or {}
    video = recorded_video(row)
    if row["kind"].startswith("train"):
        return plan_training_frames(
            video,
            fps=row.get("EXTRA_PARAM_FPS") or 1,
            min_frames=row["frames_lowbound"],
            max_frames=row["frames_upbound"],
            **clip,
        )
    env: dict[str, int] = {name: int(value) for name, value in row["env"].items()}
    argument: int = row.get("max_num_frames_argument", 512)
    return plan_frames(
        video,
        fps=env.get("EXTRA_PARAM_FPS", 1),
        min_frames=env.get("EXTRA_OVERWRITE_MIN_NUM_FRAMES", 64),
        max_frames=env.get("EXTRA_OVERWRITE_MAX_NUM_FRAMES", argument),
        **clip,
    )


def message_of(plan: FramePlan, row: Row) -> str:
    """Returns the message: always short in inference, by the option in training."""
    option = row["time_msg_option"] if row["kind"].startswith("train") else "short"
    if option is None:
        return ""
    return plan.message if option == "short" else plan.long_message


def test_sampling_recorded_readers_equal_plans(case: Case) -> None:
    accepted = [row for row in rows(case, "kind") if "error" not in row]
    plans = [plan_of(row) for row in accepted]
    for row, plan in zip(accepted, plans, strict=True):
        about = {key: row[key] for key in row if key != "frame_indices"}
        assert same_indices(plan.indices, row["frame_indices"]), about
        assert plan.num_frames == len(plan.indices) == row["n"], about
        assert same_text(message_of(plan, row), row["time_msg"]), about
        later = [index + 1 for index in plan.indices]
        assert not same_indices(later, row["frame_indices"]), "control: one frame later passes"


def test_sampling_recorded_errors_refused(case: Case) -> None:
    rejected = [row for row in rows(case, "kind") if "error" in row]
    for row in rejected:
        with pytest.raises(VideoError, match="whole clips"):
            plan_of(row)


def test_time_message_other_count_or_duration_differs(case: Case) -> None:
    """Checks that one more frame or a hundredth of a second more changes the text."""
    for row in rows(case, "kind"):
        if "error" in row or not row["time_msg"] or isinstance(row["time_msg"], dict):
            continue
        plan = plan_of(row)
        for count, duration in ((plan.num_frames + 1, 0.0), (plan.num_frames, 0.02)):
            wrong = FramePlan(plan.indices, plan.duration + duration, count, plan.times)
            assert not same_text(message_of(wrong, row), row["time_msg"])
