"""What this package raises."""

from __future__ import annotations

from pathlib import Path


class VideoError(ValueError):
    """A video that cannot be read or cut as asked: one paragraph with path, reason and remedy."""

    def __init__(self, path: str | Path, reason: str, advice: str) -> None:
        super().__init__(f"{path}: {reason.rstrip('.')}. {advice}")
        self.path = str(path)
        self.reason = reason
        self.advice = advice

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str, str]]:
        # Decoding workers hand this across processes; the default would replay only the message.
        return type(self), (self.path, self.reason, self.advice)


class MissingVideoError(VideoError):
    """There is nothing at this path."""
