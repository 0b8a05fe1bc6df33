"""A manifest and its videos, decoded and tokenised once into a folder of records.

Two record sets lie side by side: `videos` (frames, once per video) and `questions` (text and token
ids, each naming its video by position). A video is decoded once however many questions it has, and
all questions fit in memory while frames stay on disk.

A folder's name carries a fingerprint of everything its content follows from: another setting is
another folder, the same setting is reused. It appears by one rename, so a folder that is there is
whole.
"""

from __future__ import annotations

import dataclasses
import fcntl
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from xcomp_jax.config import SamplingConfig
from xcomp_jax.data.ordered_map import ordered_map
from xcomp_jax.data.prepared.dataset import SUMMARY_FILE, PreparedDataset, open_prepared
from xcomp_jax.data.prepared.manifest import ManifestRow, load_manifest
from xcomp_jax.data.prepared.records import (
    QUESTION_FEATURES,
    record_writer,
    video_features,
)
from xcomp_jax.data.prepared.sampled_video import SampledVideo, read_sampled_video
from xcomp_jax.data.tokens import (
    RowError,
    TokenRow,
    tokenize_row,
    tokenizer_digest,
)
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.size import size_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT_VERSION = 1

# What is comfortable to copy; a set of long videos becomes many files of about this size.
TARGET_FILE_BYTES = 1 << 30

# Decoded videos waiting to be written; fewer threads decode where videos are larger.
MAX_WAITING_BYTES = 4 << 30


class PrepareError(ValueError):
    """Videos or rows that cannot be used; the message lists every one with its reason."""


def prepare(
    manifest: Path,
    root: Path,
    *,
    sampling: SamplingConfig,
    image_size: int,
    clip_frames: int,
    tokenizer: PreTrainedTokenizerBase,
    max_text_tokens: int,
    prompt_as_asked: bool = False,
    video_folder: Path | None = None,
    progress: bool = True,
) -> PreparedDataset:
    """Opens the folder for these settings under `root`, building it first where it is missing.

    Args:
        manifest: LLaVA-style JSON list; `video` paths are relative to `video_folder`.
        sampling: which frames of a video are kept.
        image_size: side in pixels to which frames are resized (bicubic, whole frame).
        clip_frames: the vision encoder's clip length, which frame counts are multiples of.
        tokenizer: as given by `xcomp_jax.text.tokenizer.load_tokenizer`.
        max_text_tokens: a longer conversation is an error, never cut.
        prompt_as_asked: see `DataConfig`.
        video_folder: default: the manifest's own folder.

    Raises:
        ManifestError: the manifest itself cannot be read.
        PrepareError: some videos or rows cannot be used; all of them are listed.
    """
    rows = load_manifest(manifest)
    video_folder = manifest.parent if video_folder is None else video_folder
    by_video: dict[str, list[ManifestRow]] = {}
    for row in rows:
        by_video.setdefault(row.video, []).append(row)
    settings = {
        "format": FORMAT_VERSION,
        "sampling": dataclasses.asdict(sampling),
        "image_size": image_size,
        "clip_frames": clip_frames,
        "max_text_tokens": max_text_tokens,
        "prompt_as_asked": prompt_as_asked,
        "tokenizer": tokenizer_digest(tokenizer),
        "manifest": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "video_bytes": [_size(video_folder / video) for video in by_video],
    }
    fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    folder = root / f"{manifest.stem}-{fingerprint}"
    root.mkdir(parents=True, exist_ok=True)
    video_bytes = sampling.max_frames * image_size**2 * 3
    with _locked(root / f".{folder.name}.lock"):
        if not folder.exists():
            read = functools.partial(
                _read,
                video_folder=video_folder,
                sampling=sampling,
                image_size=image_size,
                clip_frames=clip_frames,
            )
            clips = tqdm(
                ordered_map(read, by_video, max_workers=MAX_WAITING_BYTES // video_bytes),
                desc=f"preparing {manifest.stem} videos",
                total=len(by_video),
                unit="video",
                disable=not progress,
            )
            tokenize = functools.partial(
                tokenize_row,
                tokenizer=tokenizer,
                max_text_tokens=max_text_tokens,
                prompt_as_asked=prompt_as_asked,
            )
            with _appearing_whole(folder) as partial:
                max_frames = _write(partial, by_video, clips, tokenize, image_size, video_bytes)
                summary = {
                    "fingerprint": fingerprint,
                    "image_size": image_size,
                    "max_frames": max_frames,
                }
                (partial / SUMMARY_FILE).write_text(json.dumps(summary, indent=1))
    return open_prepared(folder)


@contextmanager
def _appearing_whole(folder: Path) -> Iterator[Path]:
    """A folder to write into that becomes `folder` when the block succeeds, and goes otherwise."""
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():  # a killed build's: the caller's lock says that nobody is writing it
        shutil.rmtree(partial)
    partial.mkdir()
    try:
        yield partial
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(
    folder: Path,
    by_video: dict[str, list[ManifestRow]],
    clips: Iterable[SampledVideo | VideoError],
    tokenize: Callable[[ManifestRow, str], TokenRow],
    image_size: int,
    video_bytes: int,
) -> int:
    """Writes both record sets and returns the largest number of frames of a video.

    Every video is looked at even after a first problem, so that one run names all of them.
    """
    problems: list[str] = []
    max_frames = 0
    num_rows = sum(map(len, by_video.values()))
    per_file = max(1, TARGET_FILE_BYTES // video_bytes)
    with (
        record_writer(
            folder / "videos", video_features(image_size), len(by_video), per_file=per_file
        ) as videos,
        record_writer(folder / "questions", QUESTION_FEATURES, num_rows) as questions,
    ):
        for number, ((video, rows), clip) in enumerate(zip(by_video.items(), clips, strict=True)):
            if isinstance(clip, VideoError):
                problems.append(str(clip))
                continue
            max_frames = max(max_frames, len(clip.frames))
            videos.write({"video": video, "frames": clip.frames, "duration": clip.duration})
            for row in rows:
                try:
                    tokens = tokenize(row, clip.time_message)
                except RowError as error:
                    problems.append(str(error))
                    continue
                questions.write(_question_record(row, number, tokens))
        if problems:
            listed = "\n".join(f"  - {problem}" for problem in problems)
            raise PrepareError(
                f"{len(problems)} problems among {len(by_video)} videos with {num_rows} rows; mend "
                f"them or take them out of the manifest, then run again:\n{listed}"
            )
    return max_frames


def _read(video: str, *, video_folder: Path, **how: Any) -> SampledVideo | VideoError:
    """A bad video is a value here: it must not end the reading of the others."""
    try:
        return read_sampled_video(video_folder / video, **how)
    except VideoError as error:
        return error


def _question_record(row: ManifestRow, video: int, tokens: TokenRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "video": video,
        "question": row.question,
        "answer": row.answer,
        "kind": row.kind,
        "options": list(row.options),
        **dataclasses.asdict(tokens),
    }


def _size(path: Path) -> int:
    """`size_of` a video; -1 where there is none, which the build will report."""
    try:
        return size_of(path)
    except (OSError, ValueError):
        return -1


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock between processes of one machine; the system frees it when a process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
