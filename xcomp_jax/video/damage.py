"""Counts the damaged frames of a video and limits them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.messages import frame_count

MAX_LISTED = 8
"""Number of lost frames that a message lists."""


@dataclasses.dataclass
class Damage:
    """Damage that `read_frames` met; pass one object to several calls to add it up.

    Only what was decoded counts: groups of pictures without a requested frame are skipped, and
    their damage stays unknown. Damage in a decoded group makes the reader decode in one pass, from
    the beginning to the last requested frame, and count all damage in between.

    Attributes:
        lost: numbers of the requested frames that could not be decoded; the nearest frame that
            could be decoded takes the place of each.
        concealed: number of frames that the decoder repaired, requested or not.
        requested: number of different frames that the share of lost ones refers to.
    """

    lost: set[int] = dataclasses.field(default_factory=set)
    concealed: int = 0
    requested: int = 0

    def __bool__(self) -> bool:
        return bool(self.lost or self.concealed)

    def __str__(self) -> str:
        parts = []
        if self.lost:
            listed = ", ".join(map(str, sorted(self.lost)[:MAX_LISTED]))
            more = ", ..." if len(self.lost) > MAX_LISTED else ""
            parts.append(
                f"{frame_count(len(self.lost))} could not be decoded and the nearest good frame "
                f"was used instead ({listed}{more})"
            )
        if self.concealed:
            parts.append(f"{frame_count(self.concealed)} decoded with errors")
        return "; ".join(parts) or "no damage"

    def require_below(self, max_damaged: float, path: Path, *, num_frames: int) -> None:
        """Raises VideoError if the share of damaged frames exceeds `max_damaged`.

        Args:
            num_frames: number of frames of the video, of which `concealed` are a part.
        """
        share = max(len(self.lost) / max(self.requested, 1), self.concealed / num_frames)
        if share > max_damaged:
            raise VideoError(
                path,
                f"the video is damaged: {self}; {share:.1%} is more than the limit of "
                f"{max_damaged:.1%}",
                "Copy or download it again, or raise max_damaged (--max-damaged).",
            )
