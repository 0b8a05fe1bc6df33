"""Exceptions of the video package."""

from __future__ import annotations

from pathlib import Path


class VideoError(ValueError):
    """Raised when a video cannot be read or sampled as requested.

    The message is one paragraph: path, reason, and what to do.
    """

    def __init__(self, path: str | Path, reason: str, advice: str) -> None:
        super().__init__(f"{path}: {reason.rstrip('.')}. {advice}")
        self.path = str(path)
        self.reason = reason
        self.advice = advice

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str, str]]:
        # Worker processes pickle this error; by default only the message would be passed on.
        return type(self), (self.path, self.reason, self.advice)


class MissingVideoError(VideoError):
    """Raised when the path does not exist."""
