"""Reads and writes the CSV table of a scan.

The table has one row per distinct (path, kind, start, end); `COLUMNS` describes its columns. It
holds everything that determines the lengths of examples, so that an epoch is planned without
opening a media file.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from xcomp_jax.config import ConfigError, SamplingConfig
from xcomp_jax.data.mixture.media import Media, plan_media
from xcomp_jax.data.mixture.samples import Sample
from xcomp_jax.files import write_text
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.probe import VideoInfo
from xcomp_jax.video.sampling import FramePlan

Status = Literal["ok", "missing", "unreadable", "too short"]

COLUMNS = {
    "status": "ok, missing, unreadable, or too short for whole clips",
    "samples": "number of samples that use the medium",
    "frames": "number of frames of an example; 0 unless ok",
    "path": "relative to the root",
    "kind": "video, img, gif or image",
    "start": "start of the cut in seconds; empty for a whole file",
    "end": "end of the cut in seconds",
    "file_frames": "number of frames of the file or folder",
    "fps": "frames per second",
    "seconds": "duration",
    "uneven": "1 if the frames are unevenly spaced, else 0",
    "damaged": "number of damaged frames: found in the packets, or by decoding with --decode",
    "bytes": "size of the file; for a folder, a hash of names and sizes",
    "reason": "reason for a status other than ok",
}
HEADER = ",".join(COLUMNS)

ADDED_COLUMNS = ("uneven", "damaged")
"""Columns that earlier tables lack."""

EARLIER_HEADER = ",".join(column for column in COLUMNS if column not in ADDED_COLUMNS)

FileKey = tuple[str, str]
"""Path and kind of a file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """Properties of one media file; all but `bytes` are valid only if `reason` is empty.

    bytes: `size_of` the file, to detect changes; -1 if it has no size.
    damaged: number of damaged frames; None in tables of versions that did not count them.
    """

    bytes: int
    file_frames: int = 0
    fps: float = 0.0
    seconds: float = 0.0
    uneven: bool = False
    damaged: int | None = 0
    missing: bool = False
    reason: str = ""

    def plan(
        self, media: Media, root: Path, *, sampling: SamplingConfig, clip_frames: int
    ) -> FramePlan:
        """Plans the frames of an example.

        Raises:
            VideoError: the scan could not read the file, or it is too short.
        """
        path = root / media.path
        if self.reason:
            raise VideoError(path, self.reason, "Fix the file and scan again.")
        info = VideoInfo(
            path=path,
            num_frames=self.file_frames,
            fps=self.fps,
            duration=self.seconds,
            times=np.zeros(0),
            is_folder=media.kind == "img",
            is_uneven=self.uneven,
        )
        return plan_media(media, info, root, sampling=sampling, clip_frames=clip_frames)


Table = dict[FileKey, Facts]
"""Facts of every file; the cuts of one file share them."""


@dataclasses.dataclass(frozen=True)
class MediaReport:
    """Status of one distinct medium; `samples` is the number of samples that use it."""

    media: Media
    status: Status
    frames: int
    reason: str
    samples: int


def report_media(
    samples: Iterable[Sample],
    table: Table,
    root: Path,
    *,
    sampling: SamplingConfig,
    clip_frames: int,
) -> list[MediaReport]:
    """Reports the status of every distinct medium of `samples`, in their order."""
    uses: dict[Media, int] = {}
    for sample in samples:
        uses[sample.media] = uses.get(sample.media, 0) + 1
    reports = []
    for media, count in uses.items():
        facts = table[file_key(media)]
        status: Status = "ok"
        frames, reason = 0, facts.reason
        if reason:
            status = "missing" if facts.missing else "unreadable"
        else:
            try:
                plan = facts.plan(media, root, sampling=sampling, clip_frames=clip_frames)
                frames = len(plan.indices)
            except VideoError as error:
                status, reason = "too short", error.reason
        reports.append(MediaReport(media, status, frames, reason, count))
    return reports


def file_key(media: Media) -> FileKey:
    """Returns the key of a medium's file in a `Table`."""
    return media.path, media.kind


def write_table(path: Path, reports: Sequence[MediaReport], table: Table) -> None:
    """Writes the complete table: `reports` in order, then the other files of `table`."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(COLUMNS))
    writer.writeheader()
    for report in reports:
        row = file_row(report.media, table[file_key(report.media)])
        for column in ("status", "samples", "frames", "reason"):
            row[column] = getattr(report, column)
        writer.writerow(row)
    reported = {file_key(report.media) for report in reports}
    for key, facts in table.items():
        if key not in reported:
            writer.writerow(file_row(whole_file(key), facts))
    write_text(path, text.getvalue())


def read_table(path: Path) -> Table:
    """Reads a table; returns an empty one if there is no file, and skips incomplete rows.

    Raises:
        ConfigError: the file is not such a table, or it is damaged.
    """
    if not path.exists():
        return {}
    table: Table = {}
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        first = file.readline(len(HEADER) + 2)
        # A kill may have left only the beginning of the header.
        known = first.rstrip("\r\n") in (HEADER, EARLIER_HEADER)
        if not known and not HEADER.startswith(first):
            raise ConfigError(
                f"{path} is not a table written by `xcomp scan`: it starts with {first[:40]!r} "
                f"instead of {HEADER[:40]!r}; name another file"
            )
        file.seek(0)
        try:
            for row in csv.DictReader(file):
                try:
                    facts = _parse(row)
                except (KeyError, TypeError, ValueError):
                    continue
                table[row["path"], row["kind"]] = facts
        except csv.Error as error:
            raise ConfigError(
                f"{path} is damaged ({error}); delete it and scan the mixture again"
            ) from error
    return table


def whole_file(key: FileKey) -> Media:
    """Returns the medium that is the file without a cut."""
    path, kind = key
    return Media(path=path, kind=kind)  # type: ignore[arg-type]


def file_row(media: Media, facts: Facts) -> dict[str, str | int | float | None]:
    """Returns the table row of a file; `samples` and `frames` are empty."""
    status = ("missing" if facts.missing else "unreadable") if facts.reason else "ok"
    return {
        **dataclasses.asdict(media),
        "status": status,
        "samples": "",
        "frames": "",
        "file_frames": facts.file_frames,
        "fps": facts.fps,
        "seconds": facts.seconds,
        "uneven": int(facts.uneven),
        "damaged": facts.damaged,
        "bytes": facts.bytes,
        "reason": facts.reason,
    }


def _parse(row: dict[str, str]) -> Facts:
    # "too short" is evaluated anew, because it depends on the sampling.
    is_bad = row["status"] in ("missing", "unreadable")
    if row["reason"] is None or (is_bad and not row["reason"]):
        raise ValueError("the row is cut off")
    return Facts(
        bytes=int(row["bytes"]),
        file_frames=int(row["file_frames"]),
        fps=float(row["fps"]),
        seconds=float(row["seconds"]),
        uneven=row.get("uneven") == "1",
        damaged=int(row["damaged"]) if row.get("damaged") else None,
        missing=row["status"] == "missing",
        reason=row["reason"] if is_bad else "",
    )
