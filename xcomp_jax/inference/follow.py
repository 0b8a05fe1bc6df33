"""Follows a file or pipe that is still being written."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from xcomp_jax.inference.live import LiveVideo
from xcomp_jax.inference.session import Session
from xcomp_jax.video.stream import growing_bytes, growing_file, stream_frames

IDLE_SECONDS = 10.0
"""A file that has not grown for this long is complete."""


class FollowedVideo(LiveVideo):
    """A live video filled by a thread.

    ready: set when the first clip is complete or `error` is set.
    finished: set after the last frame.
    error: error that ended the stream, if any.
    """

    def __init__(self, session: Session, path: str | Path, *, fps: float) -> None:
        super().__init__(session, fps=fps, name=Path(path).name)
        self.ready = threading.Event()
        self.finished = threading.Event()
        self.error: Exception | None = None


@contextlib.contextmanager
def follow(
    session: Session, path: str | Path, *, fps: float, idle_seconds: float = IDLE_SECONDS
) -> Iterator[FollowedVideo]:
    """Fills a live video from `path` while the `with` block runs.

    Raises:
        VideoError: the path does not exist or cannot be read. Later errors are stored in `error`;
            frames read before stay usable.
    """
    growing_file(path)  # here, because the generator below starts in a thread
    live, stop = FollowedVideo(session, path, fps=fps), threading.Event()
    chunks = growing_bytes(path, idle_seconds=idle_seconds, stop=stop)
    frames = stream_frames(chunks, name=path, fps=fps, size=session.config.vision.image_size)

    def fill() -> None:
        try:
            with contextlib.closing(frames):
                for frame in frames:
                    if stop.is_set():
                        return
                    live.push(frame)
                    if live.num_frames >= session.config.vision.clip_frames:
                        live.ready.set()
        except Exception as error:  # raised where the video is asked about
            live.error = error
        finally:
            live.ready.set()
            live.finished.set()

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        yield live
    finally:
        stop.set()
        thread.join(timeout=10)
