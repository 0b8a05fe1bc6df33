"""The evidence of one answer as plain values."""

from __future__ import annotations

import dataclasses
import itertools
import math
import ntpath
import posixpath
from collections.abc import Mapping

Setting = str | int | float


def shown_name(path: str) -> str:
    """Returns the name to show of a path of this system or of Windows, without its folders.

    `C: talk.mp4` is a name; `C:\\films\\talk.mp4` is a path, also as the name of one file that an
    archive of another system left behind.
    """
    name = posixpath.basename(path.rstrip("/")) or path
    drive, rest = ntpath.splitdrive(name)
    is_windows_path = bool(drive) and rest.startswith("\\")
    return (ntpath.basename(rest) or name) if is_windows_path else name


@dataclasses.dataclass(frozen=True)
class Cost:
    """One row of the cost table.

    Attributes:
        name: the step.
        seconds: busy time; None for a row that only counts. Steps overlap, so that the rows may add
            up to more than the wall time.
        count: number of units processed; None if the step has no count.
        unit: what is counted, e.g. "clips".
    """

    name: str
    seconds: float | None = None
    count: int | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ValueError(
                f"cost {self.name!r} has seconds={self.seconds}; use a finite, non-negative "
                "number, or None for a row that only counts"
            )


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """A small image of the sampled frame `index`, as the bytes of a JPEG file."""

    index: int
    jpeg: bytes = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        if not self.jpeg.startswith(b"\xff\xd8"):
            raise ValueError(
                f"the thumbnail of frame {self.index} is not a JPEG file; use encode_thumbnail"
            )


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Question and answer with the sampled frames, their scores, and the selected ones.

    Args:
        video: name to show; must not be a path.
        duration: seconds of the video.
        question: the question.
        answer: the generated answer.
        model: name of the model.
        frame_times: seconds [N] of the N sampled frames on the video's clock, never decreasing (a
            short video repeats some).
        frame_scores: attention scores [N]; non-finite scores count as missing. None if no frame
            was scored because all were used.
        selected_frames: ascending indices into the N frames that the answer is based on.
        selection: settings of the selection, by name.
        costs: rows of the cost table.
        wall_seconds: time that the answer took; None if unknown.
        thumbnails: images of some of the selected frames, by ascending index.
        notes: sentences about damage and about parts of the file that were not read.

    Raises:
        ValueError: lengths, order or ranges are inconsistent.
    """

    video: str
    duration: float
    question: str
    answer: str
    model: str
    frame_times: tuple[float, ...] = dataclasses.field(repr=False)
    frame_scores: tuple[float, ...] | None = dataclasses.field(repr=False)
    selected_frames: tuple[int, ...] = dataclasses.field(repr=False)
    selection: Mapping[str, Setting] = dataclasses.field(default_factory=dict)
    costs: tuple[Cost, ...] = ()
    wall_seconds: float | None = None
    thumbnails: tuple[Thumbnail, ...] = dataclasses.field(default=(), repr=False)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise ValueError(f"invalid evidence: {problem}")

    def _problems(self) -> list[str]:
        count = len(self.frame_times)
        thumbnail_indices = [thumbnail.index for thumbnail in self.thumbnails]
        # Evidence is meant to be shared, and a path would reveal user and folder names.
        is_path = shown_name(self.video) != self.video
        checks = {
            "`video` is a path; pass the name to show": is_path,
            f"`duration` is {self.duration}; expected finite, non-negative seconds": not (
                math.isfinite(self.duration) and self.duration >= 0
            ),
            "`frame_times` must be finite, non-negative, non-decreasing and not empty": not (
                count
                and all(math.isfinite(time) and time >= 0 for time in self.frame_times)
                and all(a <= b for a, b in itertools.pairwise(self.frame_times))
            ),
            f"`frame_scores` needs one entry for each of {count} frames": (
                self.frame_scores is not None and len(self.frame_scores) != count
            ),
            f"`selected_frames` must be ascending indices in [0, {count}) and not empty": not (
                self.selected_frames
                and _is_ascending(self.selected_frames)
                and 0 <= self.selected_frames[0] <= self.selected_frames[-1] < count
            ),
            "`thumbnails` must show selected frames in ascending order": not (
                _is_ascending(thumbnail_indices)
                and set(thumbnail_indices) <= set(self.selected_frames)
            ),
        }
        return [problem for problem, failed in checks.items() if failed]


def _is_ascending(indices: tuple[int, ...] | list[int]) -> bool:
    return all(a < b for a, b in itertools.pairwise(indices))
