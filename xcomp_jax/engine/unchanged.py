"""Checks that a video file still is the one whose frames were sampled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from xcomp_jax.engine.clips import FrameSource
from xcomp_jax.video.decode import Frame
from xcomp_jax.video.errors import VideoError


class UnchangedFrames:
    """Yields the frames of `source`, which reads `path`.

    Raises:
        VideoError: the file was changed, moved or deleted since this object was created.
    """

    def __init__(self, source: FrameSource, path: Path) -> None:
        self.source, self.path = source, path
        self._state = _file_state(path)

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        if _file_state(self.path) != self._state:
            raise VideoError(
                self.path,
                "the file was changed, moved or deleted after its frames were sampled",
                "Encode it again.",
            )
        return self.source.frames(indices)


def _file_state(path: Path) -> tuple[int, int, int] | None:
    """Returns what changes with a file's content: inode, size and time of modification."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns
