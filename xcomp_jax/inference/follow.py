"""Following a file or pipe that is still being written."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from xcomp_jax.inference.live import LiveVideo
from xcomp_jax.inference.session import Session
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.stream import growing_bytes, stream_frames

IDLE_SECONDS = 10.0
"""A file that did not grow for so long is taken to be complete."""


class Followed(LiveVideo):
    """A live video that a thread fills.

    `begun` is set when there is something to ask about, `finished` when no more will come, and both
    when neither will happen because of `error`.
    """

    def __init__(self, session: Session, path: str | Path, *, fps: float) -> None:
        super().__init__(session, fps=fps, name=Path(path).name)
        self.begun = threading.Event()
        self.finished = threading.Event()
        self.error: VideoError | None = None


@contextlib.contextmanager
def follow(
    session: Session, path: str | Path, *, fps: float, idle_seconds: float = IDLE_SECONDS
) -> Iterator[Followed]:
    """Fills a live video from `path` for as long as the context lasts.

    Raises:
        VideoError: the path is not there. What goes wrong later is in `error`; what came before
            it stays.
    """
    live, stop = Followed(session, path, fps=fps), threading.Event()
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
                        live.begun.set()
        except VideoError as error:
            live.error = error
        finally:
            live.begun.set()
            live.finished.set()

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        yield live
    finally:
        stop.set()
        thread.join(timeout=10)
