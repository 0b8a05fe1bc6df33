"""Looks at every file of a mixture once, and keeps what it finds in a table.

The table is a CSV file, one row for each distinct (path, kind, start, end) in the order of the
mixture; `COLUMNS` says what is in it. While the scan goes on a row is added for each file, so that
a killed scan continues; then the table is written anew, in order. A file is looked at again when
its size has changed (of a folder: names or sizes of its images, or how long it is said to last), or
when it could not be read before.

Everything a run needs to know about lengths is in the table: no file is opened to plan an epoch.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from xcomp_jax.config import ConfigError, SamplingConfig
from xcomp_jax.data.mixture.media import Media, image_path, plan_media, probe_media
from xcomp_jax.data.mixture.samples import Sample
from xcomp_jax.files import write_text
from xcomp_jax.video import ffmpeg
from xcomp_jax.video.errors import MissingVideoError, VideoError
from xcomp_jax.video.probe import VideoInfo
from xcomp_jax.video.sampling import FramePlan
from xcomp_jax.video.size import size_of

Status = Literal["ok", "missing", "unreadable", "too short"]

COLUMNS = {
    "status": "ok, missing, unreadable, or too short for whole clips",
    "samples": "how many samples need it",
    "frames": "frames an example has; 0 unless ok",
    "path": "below the root",
    "kind": "video, img, gif or image",
    "start": "seconds, where a clip is cut",
    "end": "seconds",
    "file_frames": "frames in the file or folder",
    "fps": "its frames a second",
    "seconds": "its length",
    "bytes": "size of the file; of a folder, a hash of names and sizes",
    "reason": "why it is not ok",
}
HEADER = ",".join(COLUMNS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of one file: `file_frames`, `fps` and `seconds` unless there is a `reason`.

    bytes: `size_of` it, by which a changed one is known; -1 where there is no size.
    """

    bytes: int
    file_frames: int = 0
    fps: float = 0.0
    seconds: float = 0.0
    missing: bool = False
    reason: str = ""

    def plan(
        self, media: Media, root: Path, *, sampling: SamplingConfig, clip_frames: int
    ) -> FramePlan:
        """The frames of an example.

        Raises:
            VideoError: there are none, for the reason found by the scan or because it is too short.
        """
        path = root / media.path
        if self.reason:
            raise VideoError(path, self.reason, "Mend it and scan again.")
        info = VideoInfo(
            path=path,
            num_frames=self.file_frames,
            fps=self.fps,
            duration=self.seconds,
            times=(),
            is_folder=media.kind == "img",
        )
        return plan_media(media, info, sampling=sampling, clip_frames=clip_frames)


Table = dict[tuple[str, str], Facts]
"""Facts by (path, kind), whatever is cut from the file."""


def scan(
    samples: Sequence[Sample], root: Path, path: Path, *, workers: int, progress: bool = True
) -> Table:
    """Brings the table at `path` up to date with the files of `samples`, with `workers` threads.

    Rows of files that these samples do not use stay: a wider part of the same mixture can be
    scanned later.

    Raises:
        ConfigError: `path` holds something else than a table, or a sample's path is not Unicode.
    """
    known = read_table(path)
    files = {_file(sample.media): sample.media for sample in samples}
    for place, _ in files:
        try:
            place.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"{place!r} of a sample is no path; mend it in its set") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, (), known)  # without the row that a kill may have cut off
    with path.open("a", encoding="utf-8", newline="") as file, ThreadPoolExecutor(workers) as pool:
        writer = csv.DictWriter(file, list(COLUMNS), extrasaction="raise")
        bar = tqdm(total=len(files), desc="scanning", unit="file", disable=not progress)
        looked = pool.map(lambda name: _look(files[name], root, known.get(name)), files)
        try:
            for name, facts in zip(files, looked, strict=True):
                if known.get(name) != facts:
                    known[name] = facts
                    writer.writerow(_row(_whole(name), facts))
                    file.flush()
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            bar.close()
    return known


@dataclasses.dataclass(frozen=True)
class Finding:
    """One distinct medium: its status, and the ids of the samples that need it."""

    media: Media
    status: Status
    frames: int
    reason: str
    samples: int


def findings(
    samples: Iterable[Sample],
    table: Table,
    root: Path,
    *,
    sampling: SamplingConfig,
    clip_frames: int,
) -> list[Finding]:
    """The state of every distinct medium of `samples`, in their order."""
    uses: dict[Media, int] = {}
    for sample in samples:
        uses[sample.media] = uses.get(sample.media, 0) + 1
    found = []
    for media, count in uses.items():
        facts = table[_file(media)]
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
        found.append(Finding(media, status, frames, reason, count))
    return found


def write_table(path: Path, found: Sequence[Finding], table: Table) -> None:
    """Writes the finished table: what was found, in order, then what else is known."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(COLUMNS))
    writer.writeheader()
    for one in found:
        writer.writerow(
            _row(one.media, table[_file(one.media)])
            | {
                "status": one.status,
                "samples": one.samples,
                "frames": one.frames,
                "reason": one.reason,
            }
        )
    here = {_file(one.media) for one in found}
    for path_and_kind, facts in table.items():
        if path_and_kind not in here:
            writer.writerow(_row(_whole(path_and_kind), facts))
    write_text(path, text.getvalue())


def read_table(path: Path) -> Table:
    """What a table says; empty where there is none. Rows that are not whole are left out.

    Raises:
        ConfigError: the file is something else, or damaged.
    """
    if not path.exists():
        return {}
    table: Table = {}
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        first = file.readline(len(HEADER) + 2)
        # A kill may have left no more than the beginning of the header.
        if first.rstrip("\r\n") != HEADER and not HEADER.startswith(first):
            raise ConfigError(
                f"{path} is no table that `xcomp scan` wrote: it begins with {first[:40]!r}, a "
                f"table with {HEADER[:40]!r}; name another file"
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


def _file(media: Media) -> tuple[str, str]:
    return media.path, media.kind


def _whole(path_and_kind: tuple[str, str]) -> Media:
    path, kind = path_and_kind
    return Media(path=path, kind=kind)  # type: ignore[arg-type]


def _look(media: Media, root: Path, known: Facts | None) -> Facts:
    place, size = root / media.path, -1
    try:
        size = size_of(image_path(place) if media.kind == "image" else ffmpeg.local_path(place))
        if known is not None and not known.reason and known.bytes == size:
            return known
        info = probe_media(media, root)
    except MissingVideoError as error:
        return Facts(bytes=-1, missing=True, reason=error.reason)
    except VideoError as error:
        return Facts(bytes=size, reason=error.reason)
    except (OSError, ValueError) as error:  # a name that is too long, a folder without rights
        return Facts(bytes=size, reason=str(error))
    return Facts(bytes=size, file_frames=info.num_frames, fps=info.fps, seconds=info.duration)


def _row(media: Media, facts: Facts) -> dict[str, str | int | float | None]:
    status = ("missing" if facts.missing else "unreadable") if facts.reason else "ok"
    return {
        **dataclasses.asdict(media),
        "status": status,
        "samples": "",
        "frames": "",
        "file_frames": facts.file_frames,
        "fps": facts.fps,
        "seconds": facts.seconds,
        "bytes": facts.bytes,
        "reason": facts.reason,
    }


def _parse(row: dict[str, str]) -> Facts:
    # "too short" is judged anew, since it depends on how frames are sampled.
    bad = row["status"] in ("missing", "unreadable")
    if row["reason"] is None or (bad and not row["reason"]):
        raise ValueError("the row is cut off")
    return Facts(
        bytes=int(row["bytes"]),
        file_frames=int(row["file_frames"]),
        fps=float(row["fps"]),
        seconds=float(row["seconds"]),
        missing=row["status"] == "missing",
        reason=row["reason"] if bad else "",
    )
