"""Generates a folder of mp4 files and the manifests of their questions.

Generation is deterministic and resumes after interruptions: files are renamed into place when
complete, and complete files are kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcomp_jax.data.ordered_map import ordered_map
from xcomp_jax.data.synthetic.mp4 import encode_mp4, is_complete_mp4
from xcomp_jax.data.synthetic.questions import KINDS, manifest_row, questions
from xcomp_jax.data.synthetic.render import render
from xcomp_jax.data.synthetic.video_spec import VideoSpec, plan_specs
from xcomp_jax.terminal.progress import ProgressBar

VIDEO_FOLDER = "videos"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneratedSet:
    """Paths of a generated set; video paths in the manifests are relative to `folder`."""

    folder: Path
    train_manifest: Path
    eval_manifest: Path


def generate(
    folder: Path,
    *,
    seed: int,
    num_train_videos: int,
    num_eval_videos: int,
    kinds: tuple[str, ...] = KINDS,
    num_frames: int = 16,
    fps: int = 8,
    size: int = 64,
    progress: bool = True,
) -> GeneratedSet:
    """Generates videos and manifests for training and evaluation.

    Training and evaluation videos share no texture and no path. All answers of a kind are exactly
    equally frequent if 16 divides both numbers of videos.
    """
    plan = functools.partial(plan_specs, num_frames=num_frames, fps=fps, size=size)
    train = plan(2 * seed, num_train_videos)
    evaluation = plan(2 * seed + 1, num_eval_videos)
    write_videos(train + evaluation, folder / VIDEO_FOLDER, progress=progress)
    generated = GeneratedSet(
        folder=folder,
        train_manifest=folder / "train.json",
        eval_manifest=folder / "eval.json",
    )
    write_manifest(train, kinds, generated.train_manifest, conversations=True)
    write_manifest(evaluation, kinds, generated.eval_manifest)
    # Last, because the ffmpeg of a killed process may still write when this one begins.
    _remove_leftovers(folder)
    return generated


def _remove_leftovers(folder: Path) -> None:
    """Removes partial files of killed processes below `folder`."""
    for file in folder.rglob("*.partial"):
        process = file.name.split(".")[-2]
        if not process.isdecimal():
            continue
        try:
            with contextlib.suppress(PermissionError):  # it runs, for another user
                os.kill(int(process), 0)
        except ProcessLookupError:
            file.unlink(missing_ok=True)


def write_videos(
    specs: Sequence[Any],
    folder: Path,
    *,
    render: Callable[[Any], np.ndarray] = render,
    progress: bool = True,
) -> None:
    """Renders and encodes the videos that are missing in `folder`, as `spec.file_name` each.

    Args:
        specs: specifications with `file_name` and `fps`.
        render: returns the frames of a specification.

    Raises:
        OSError: ffmpeg failed; the next call reuses the files written so far.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [spec for spec in specs if not is_complete_mp4(folder / spec.file_name)]

    def write(spec: Any) -> None:
        encode_mp4(render(spec), folder / spec.file_name, fps=spec.fps)

    bar = ProgressBar(
        ordered_map(write, missing),
        desc="generating videos",
        total=len(specs),
        initial=len(specs) - len(missing),
        unit="video",
        disable=not progress,
    )
    for _ in bar:
        pass


def write_manifest(
    specs: Iterable[VideoSpec], kinds: tuple[str, ...], path: Path, *, conversations: bool = False
) -> None:
    """Writes all questions of `specs` as one LLaVA-style JSON list, atomically.

    Every question opens one row. With `conversations`, a row continues with the video's other
    questions, so that one pass over the video trains on several answers.
    """
    rows = []
    for spec in specs:
        about_video = questions(spec, kinds)
        for first, question in enumerate(about_video):
            rotated = about_video[first:] + about_video[:first]
            turns = rotated if conversations else (question,)
            rows.append(manifest_row(f"{VIDEO_FOLDER}/{spec.file_name}", turns))
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    partial.replace(path)
