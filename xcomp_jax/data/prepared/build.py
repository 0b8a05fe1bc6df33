"""Writes the record sets of a prepared folder.

`videos` holds the frames of every video once; `questions` holds text and token ids, and refers to
videos by number. A video is decoded once for all its questions, and all questions fit in memory
while frames stay on disk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xcomp_jax.data.prepared.manifest import ManifestRow
from xcomp_jax.data.prepared.records import QUESTION_FEATURES, record_writer, video_features
from xcomp_jax.data.prepared.rows import TokenRow
from xcomp_jax.data.prepared.sampled_video import SampledVideo, VideoView
from xcomp_jax.data.tokens import RowError
from xcomp_jax.video.errors import VideoError

TARGET_FILE_BYTES = 1 << 30
"""Approximate size of one record file; larger sets of videos are split into several."""

Tokenize = Callable[[ManifestRow, str], TokenRow]
"""Tokenizes a row with the time message of its video; may raise RowError."""


class PrepareError(ValueError):
    """Raised for unusable videos or rows; the message lists all of them with reasons."""


def write_set(
    folder: Path,
    rows_by_video: Mapping[str, Sequence[ManifestRow]],
    videos: Iterable[SampledVideo | VideoError],
    tokenize: Tokenize,
    view: VideoView,
) -> int:
    """Writes both record sets into `folder`; returns the number of frames of the longest video.

    Args:
        videos: the decoded videos, in the order of `rows_by_video`.
        view: the settings that `videos` were decoded with.

    Raises:
        PrepareError: some videos or rows cannot be used. All are checked first, so that one run
            reports every problem.
    """
    problems: list[str] = []
    max_frames = 0
    num_rows = sum(map(len, rows_by_video.values()))
    per_file = max(1, TARGET_FILE_BYTES // view.max_video_bytes)
    with (
        record_writer(
            folder / "videos",
            video_features(view.image_size),
            len(rows_by_video),
            per_file=per_file,
        ) as video_writer,
        record_writer(folder / "questions", QUESTION_FEATURES, num_rows) as question_writer,
    ):
        pairs = zip(rows_by_video.items(), videos, strict=True)
        for number, ((path, rows), video) in enumerate(pairs):
            if isinstance(video, VideoError):
                problems.append(str(video))
                continue
            max_frames = max(max_frames, len(video.frames))
            video_writer.write({"video": path, "frames": video.frames, "duration": video.duration})
            for row in rows:
                try:
                    tokens = tokenize(row, video.time_message)
                except RowError as error:
                    problems.append(str(error))
                    continue
                question_writer.write(_question_record(row, number, tokens))
        if problems:
            listing = "\n".join(f"  - {problem}" for problem in problems)
            raise PrepareError(
                f"{len(problems)} problems among {len(rows_by_video)} videos with {num_rows} rows; "
                f"fix them or remove them from the manifest, then run again:\n{listing}"
            )
    return max_frames


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
