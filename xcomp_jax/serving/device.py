"""The one thread that owns the engine; watching and answering share it fairly.

Encoding a video is long and stops for other work after every clip. Between clips, questions get as
much time as the encoder had since the last stop, so that neither starves the other.
"""

from __future__ import annotations

import collections
import contextvars
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from xcomp_jax.serving.answering import Answering
from xcomp_jax.serving.errors import ApiError, api_error_of
from xcomp_jax.serving.question import Question
from xcomp_jax.serving.video import Video
from xcomp_jax.serving.watching import Watcher

logger = logging.getLogger(__name__)

READERS = 2
"""Videos that are probed and hashed at a time."""

MAX_DEPTH = 3
"""Videos of decreasing length that may interrupt each other."""

SHORTER = 0.25
"""A waiting video interrupts another one that has at least four times as many frames left."""


class Stopped(BaseException):
    """Raised between clips when a video is deleted or the server stops."""


class Device:
    """Runs the device thread.

    Args:
        max_videos: videos that may wait before `watch` refuses more.
    """

    def __init__(self, watcher: Watcher, answering: Answering, max_videos: int) -> None:
        self._watcher, self.answering = watcher, answering
        self._max_videos = max_videos
        self._videos: collections.deque[Video] = collections.deque()
        self._depth: list[Video] = []
        self._work = threading.Condition()
        self._reading = 0
        self._stopping = False
        self._accepts_videos = True
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._thread = threading.Thread(target=self._run, name="device", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Finishes the questions in progress within `seconds`, then ends the thread.

        A video that is being watched stops at once; its clips so far are in the token store.
        """
        self._accepts_videos = False
        deadline = time.monotonic() + seconds
        while self.answering.has_work() and time.monotonic() < deadline:
            time.sleep(0.02)
        with self._work:
            self._stopping = True
            self._work.notify()
        self._readers.shutdown(wait=False, cancel_futures=True)
        if self._thread.is_alive():
            self._thread.join(max(1.0, deadline - time.monotonic()))
        self.answering.fail_all(ApiError(503, "the server stops", code="stopping"))
        for video in self._videos:
            video.finish(_deleted(video))

    @property
    def is_alive(self) -> bool:
        """True while the thread runs."""
        return self._thread.is_alive()

    @property
    def num_videos_waiting(self) -> int:
        """Number of videos that are not being encoded yet."""
        return self._reading + len(self._videos)

    def watch(self, video: Video, /, *, bounded: bool = True) -> None:
        """Queues a video.

        Args:
            bounded: refuse the video if too many wait.

        Raises:
            ApiError: too many wait (429), or the server stops (503).
        """
        with self._work:
            if self._stopping or not self._accepts_videos:
                raise ApiError(503, "the server stops", code="stopping", retry_after=10)
            if bounded and self.num_videos_waiting >= self._max_videos:
                raise ApiError(
                    429,
                    f"{self._max_videos} videos are waiting, the server's limit; try again later",
                    code="queue_full",
                    retry_after=30,
                )
            self._reading += 1
        self._readers.submit(self._read, video)

    def ask(self, question: Question) -> None:
        """Queues a question.

        Raises:
            ApiError: as `Answering.submit`.
        """
        self.answering.submit(question)
        with self._work:
            self._work.notify()

    def forget(self, video_id: str) -> None:
        """Drops the states of a deleted video."""
        self.answering.forget(video_id)
        with self._work:
            self._work.notify()

    def _read(self, video: Video) -> None:
        error: ApiError | None = None
        try:
            if not video.deleted:
                self._watcher.read(video)
        except Exception as failure:
            error = api_error_of(failure, video.name)
        with self._work:
            self._reading -= 1
            if error is None and not video.deleted:
                self._videos.append(video)
                self._work.notify()
                return
        video.finish(error or _deleted(video))

    def _run(self) -> None:
        while True:
            with self._work:
                while not (self._stopping or self._videos or self.answering.has_work()):
                    self._work.wait()
                if self._stopping:
                    return
                video = self._shortest()
            if video is not None:
                self._watch(video)
            else:
                self._answer()

    def _shortest(self, limit: float = float("inf")) -> Video | None:
        """Takes the waiting video with the fewest frames, if they are below `limit`."""
        video = min(self._videos, key=_num_frames, default=None)
        if video is None or _num_frames(video) >= limit:
            return None
        self._videos.remove(video)
        return video

    def _watch(self, video: Video) -> None:
        last = time.perf_counter()

        def between() -> None:
            nonlocal last
            if self._stopping or video.deleted or not self._accepts_videos:
                raise Stopped
            budget = time.perf_counter() - last
            begin = time.perf_counter()
            while self.answering.has_work() and time.perf_counter() - begin < budget:
                self._answer()
            left = _num_frames(video) * (1 - video.progress) * SHORTER
            with self._work:
                shorter = self._shortest(left) if len(self._depth) < MAX_DEPTH else None
            if shorter is not None:
                contextvars.Context().run(self._watch, shorter)
            last = time.perf_counter()

        self._depth.append(video)
        error: ApiError | None = None
        try:
            self._watcher.encode(video, between)
        except Stopped:
            error = _deleted(video)
        except Exception as failure:
            error = api_error_of(failure, video.name)
        finally:
            self._depth.pop()
        video.finish(error)

    def _answer(self) -> None:
        # In an empty context, so that its work is not added to the account of a video.
        contextvars.Context().run(self.answering.step)


def _num_frames(video: Video) -> int:
    return 0 if video.plan is None else len(video.plan.indices)


def _deleted(video: Video) -> ApiError:
    if video.deleted:
        return ApiError(404, f"video {video.id} was deleted", code="not_found")
    return ApiError(503, "the server stops", code="stopping", retry_after=10)
