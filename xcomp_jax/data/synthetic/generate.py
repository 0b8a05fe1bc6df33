"""A folder of generated mp4 files and the manifests of their questions.

Deterministic (same arguments, same bytes) and restartable: a file is whole once it has its name,
so a second call only draws what is missing.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from xcomp_jax.data.ordered_map import ordered_map
from xcomp_jax.data.synthetic.mp4 import encode_mp4, is_complete_mp4
from xcomp_jax.data.synthetic.questions import KINDS, manifest_row, questions
from xcomp_jax.data.synthetic.render import render
from xcomp_jax.data.synthetic.video_spec import VideoSpec, plan_specs

VIDEO_FOLDER = "videos"


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneratedSet:
    """Where a generated set lies; video paths in the manifests are relative to `folder`."""

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
    """Videos and manifests for training and evaluation, which share no texture and no path.

    With both numbers of videos multiples of 16 every answer of a kind is exactly equally frequent.

    Returns:
        The set; it is complete when this returns, also after earlier calls that were killed.
    """
    plan = functools.partial(plan_specs, num_frames=num_frames, fps=fps, size=size)
    train = plan(2 * seed, num_train_videos)
    evaluation = plan(2 * seed + 1, num_eval_videos)
    write_videos(train + evaluation, folder / VIDEO_FOLDER, progress=progress)
    made = GeneratedSet(
        folder=folder,
        train_manifest=folder / "train.json",
        eval_manifest=folder / "eval.json",
    )
    write_manifest(train, kinds, made.train_manifest, conversations=True)
    write_manifest(evaluation, kinds, made.eval_manifest)
    return made


def write_videos(specs: Sequence[VideoSpec], folder: Path, *, progress: bool = True) -> None:
    """Draws and encodes what is not there yet, `folder / spec.file_name` each.

    Raises:
        OSError: when ffmpeg fails; files written so far stay and are used by the next call.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [spec for spec in specs if not is_complete_mp4(folder / spec.file_name)]

    def write(spec: VideoSpec) -> None:
        encode_mp4(render(spec), folder / spec.file_name, fps=spec.fps)

    bar = tqdm(
        ordered_map(write, missing),
        desc="writing videos",
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
    """All questions of `specs` as one JSON list in LLaVA style, written whole or not at all.

    One row a question; with `conversations` each row goes on to ask the video's other questions, so
    that one look at the video teaches several answers. Every question opens one conversation.
    """
    rows = []
    for spec in specs:
        asked = questions(spec, kinds)
        for first in range(len(asked)):
            turns = asked[first:] + asked[:first] if conversations else asked[first : first + 1]
            rows.append(manifest_row(f"{VIDEO_FOLDER}/{spec.file_name}", turns))
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    partial.replace(path)
