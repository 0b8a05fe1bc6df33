"""Decodes the videos of a manifest and tokenizes its questions, once, into a folder of records.

The folder name carries a fingerprint of everything that determines the content: equal settings
reuse the folder, other settings create another one. The folder is renamed into place when complete.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xcomp_jax.config import SamplingConfig
from xcomp_jax.data.prepared.build import write_set
from xcomp_jax.data.prepared.dataset import SUMMARY_FILE, PreparedDataset, open_prepared
from xcomp_jax.data.prepared.manifest import ManifestRow, load_manifest
from xcomp_jax.data.prepared.sampled_video import VideoView, decode_videos
from xcomp_jax.data.prepared.tokens import tokenize_row, tokenizer_digest
from xcomp_jax.token_store.locks import EXCLUSIVE, locked
from xcomp_jax.video.size import size_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT_VERSION = 1


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
    """Opens the folder for these settings under `root`; builds it first if it is missing.

    Args:
        manifest: LLaVA-style JSON list; `video` paths are relative to `video_folder`.
        sampling: determines the sampled frames of a video.
        image_size: side in pixels to which frames are resized (bicubic, no crop).
        clip_frames: the vision encoder's clip length; frame counts are multiples of it.
        tokenizer: as returned by `xcomp_jax.text.tokenizer.load_tokenizer`.
        max_text_tokens: a longer conversation is an error.
        prompt_as_asked: see `DataConfig`.
        video_folder: default: the manifest's folder.

    Raises:
        ManifestError: the manifest is invalid.
        PrepareError: some videos or rows cannot be used; all of them are listed.
    """
    video_folder = manifest.parent if video_folder is None else video_folder
    rows_by_video = _rows_by_video(load_manifest(manifest))
    paths = [video_folder / video for video in rows_by_video]
    view = VideoView(sampling=sampling, image_size=image_size, clip_frames=clip_frames)
    fingerprint = _fingerprint(
        manifest,
        paths,
        tokenizer,
        **_view_settings(view),
        max_text_tokens=max_text_tokens,
        prompt_as_asked=prompt_as_asked,
    )
    folder = root / f"{manifest.stem}-{fingerprint}"
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / f".{folder.name}.lock", EXCLUSIVE):
        if not folder.exists():
            label = f"preparing {manifest.stem} videos"
            videos = decode_videos(paths, view, label=label, progress=progress)
            tokenize = functools.partial(
                tokenize_row,
                tokenizer=tokenizer,
                max_text_tokens=max_text_tokens,
                prompt_as_asked=prompt_as_asked,
            )
            with _renamed_when_complete(folder) as partial:
                max_frames = write_set(partial, rows_by_video, videos, tokenize, view)
                _write_summary(partial, fingerprint, image_size, max_frames)
    return open_prepared(folder)


def _view_settings(view: VideoView) -> dict[str, Any]:
    """Returns the settings that determine the frames, as the first format of sets named them."""
    settings = dataclasses.asdict(view)
    for name in ("cut_by", "max_damaged"):  # Sets hold whole videos, and few frames are damaged.
        del settings["sampling"][name]
    return settings


def _rows_by_video(rows: Iterable[ManifestRow]) -> dict[str, list[ManifestRow]]:
    groups: dict[str, list[ManifestRow]] = {}
    for row in rows:
        groups.setdefault(row.video, []).append(row)
    return groups


def _fingerprint(
    manifest: Path, videos: Sequence[Path], tokenizer: PreTrainedTokenizerBase, **settings: Any
) -> str:
    """Returns a hash of everything that determines the content of the folder."""
    inputs = {
        "format": FORMAT_VERSION,
        "tokenizer": tokenizer_digest(tokenizer),
        "manifest": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "video_bytes": [_size(video) for video in videos],
        **settings,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def _size(path: Path) -> int:
    """Returns `size_of` a video, or -1 for a missing one, which the build reports."""
    try:
        return size_of(path)
    except (OSError, ValueError):
        return -1


def _write_summary(folder: Path, fingerprint: str, image_size: int, max_frames: int) -> None:
    summary = {"fingerprint": fingerprint, "image_size": image_size, "max_frames": max_frames}
    (folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=1))


@contextmanager
def _renamed_when_complete(folder: Path) -> Iterator[Path]:
    """Yields a new folder that is renamed to `folder` on success and deleted on an exception."""
    partial = folder.with_name(f".{folder.name}.partial")
    if partial.exists():  # from a killed build, since the caller holds the lock
        shutil.rmtree(partial)
    partial.mkdir()
    try:
        yield partial
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
