"""The evidence for one answer, as plain values."""

from __future__ import annotations

import dataclasses
import itertools
import math
import ntpath
import posixpath
from collections.abc import Mapping

Setting = str | int | float


@dataclasses.dataclass(frozen=True)
class Cost:
    """One row of the cost table.

    `seconds` is wall time, None for a row that only counts; rows do not overlap, so that their sum
    is the whole. `count` things of kind `unit` ("clips") were worked on, None where nothing counts.
    """

    name: str
    seconds: float | None = None
    count: int | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds >= 0):
            raise ValueError(
                f"cost {self.name!r} took {self.seconds} s; give a finite number that is not "
                "negative, or None for a row that only counts"
            )


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """A small picture of frame `index` (of the frames looked at), as a JPEG file's bytes."""

    index: int
    jpeg: bytes = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        if not self.jpeg.startswith(b"\xff\xd8"):
            raise ValueError(
                f"the thumbnail of frame {self.index} is not a JPEG file; "
                "encode_thumbnail makes one"
            )


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What was looked at, how strongly each frame was attended to, and what was answered.

    Args:
        video: name to show, not a path.
        duration: seconds of the video.
        frame_times: seconds [N] of the N frames looked at, on the video's clock, never decreasing
            (a short video repeats some).
        frame_scores: [N], higher is more attended; one that is not finite counts as missing. None
            where no frame had to be scored because all were used.
        chosen: ascending indices into the N frames: those the answering pass saw.
        selection: settings of the selection, by name.
        costs: rows of the cost table.
        thumbnails: pictures of some of the chosen frames, by ascending index.

    Raises:
        ValueError: lengths, order or ranges do not fit together.
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
    thumbnails: tuple[Thumbnail, ...] = dataclasses.field(default=(), repr=False)

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise ValueError(f"this is no evidence: {problem}")

    def _problems(self) -> list[str]:
        count = len(self.frame_times)
        pictured = [thumbnail.index for thumbnail in self.thumbnails]
        # A page is made to be passed on, and a path tells who worked where.
        is_path = posixpath.isabs(self.video) or bool(ntpath.splitdrive(self.video)[0])
        found = {
            "`video` is a path; give the name to show": is_path,
            f"`duration` is {self.duration}, not a number of seconds": not (
                math.isfinite(self.duration) and self.duration >= 0
            ),
            "`frame_times` must hold at least one frame, finite seconds, never decreasing": not (
                count
                and all(math.isfinite(time) and time >= 0 for time in self.frame_times)
                and all(a <= b for a, b in itertools.pairwise(self.frame_times))
            ),
            f"`frame_scores` needs one entry for each of {count} frames": (
                self.frame_scores is not None and len(self.frame_scores) != count
            ),
            f"`chosen` must hold at least one of the {count} frames, ascending": not (
                self.selected_frames
                and _ascends(self.selected_frames)
                and 0 <= self.selected_frames[0] <= self.selected_frames[-1] < count
            ),
            "`thumbnails` must show chosen frames, ascending": not (
                _ascends(pictured) and set(pictured) <= set(self.selected_frames)
            ),
        }
        return [problem for problem, is_one in found.items() if is_one]


def _ascends(indices: tuple[int, ...] | list[int]) -> bool:
    return all(a < b for a, b in itertools.pairwise(indices))
