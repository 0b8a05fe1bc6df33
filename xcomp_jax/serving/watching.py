"""Reads and encodes videos: probing in a thread pool, encoding in the device thread."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable

from xcomp_jax.account import Account
from xcomp_jax.config import SelectionConfig
from xcomp_jax.engine.clips import FileFrames
from xcomp_jax.inference.session import Session
from xcomp_jax.inference.video_input import StoredClips
from xcomp_jax.selection.windows import SCORE_CLIP_FRAMES
from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.frame_request import plan_of
from xcomp_jax.serving.inspect_video import inspect
from xcomp_jax.serving.metrics import Metrics
from xcomp_jax.serving.settings import Limits
from xcomp_jax.serving.video import Video
from xcomp_jax.token_store import TokenStore
from xcomp_jax.video.probe import probe

Between = Callable[[], None]
"""Called between clips; does other device work, or raises to stop."""


class Watcher:
    """Encodes videos into the token store of one session."""

    def __init__(
        self, session: Session, store: TokenStore, limits: Limits, metrics: Metrics
    ) -> None:
        self._session, self._store = session, store
        self._limits, self._metrics = limits, metrics
        self._clips = StoredClips(store, session.config, session.params)
        self._sessions: dict[SelectionConfig | None, Session] = {}

    def read(self, video: Video) -> None:
        """Probes a video and plans its frames; nothing is decoded. Runs in any thread.

        Raises:
            ApiError: the video costs more than the server's limits allow.
            VideoError, ConfigError: it cannot be read, or sampled as requested.
        """
        video.state = "reading"
        source, limits = video.source, self._limits
        video.content_type, video.size = inspect(source.path, limits.max_pixels)
        video.info = info = probe(source.path, folder_fps=source.folder_fps)
        video.plan, video.rule = plan_of(
            info,
            video.frames,
            self._session.config,
            self._session.sampling,
            limits,
            is_list=source.is_list,
        )
        count = len(video.plan.indices)
        rate = self._metrics.seconds_per_frame
        video.estimate_seconds = None if rate is None else rate * count
        if video.estimate_seconds and video.estimate_seconds > limits.max_watch_seconds:
            raise ApiError(
                413,
                f"encoding {count:,} frames would take about {video.estimate_seconds:,.0f} s, more "
                f"than the server's limit of {limits.max_watch_seconds:,.0f} s; pass a smaller "
                "num_frames",
                param="num_frames",
                code="too_expensive",
            )
        self._store.hash_video(source.path)

    def encode(self, video: Video, between: Between) -> None:
        """Encodes the clips that the store lacks. Runs in the device thread.

        Raises:
            VideoError, ConfigError: the video cannot be decoded or scored.
        """
        assert video.info is not None
        assert video.plan is not None
        session = self._session_of(_fitted(video.selection, len(video.plan.indices)))
        begin, other = time.perf_counter(), 0.0
        video.state = "watching"

        def progress(unit: str, done: int, total: int) -> None:
            nonlocal other
            now = time.perf_counter()
            video.progress = done / max(total, 1)
            if done:
                video.seconds_left = (now - begin) / done * (total - done)
            between()
            other += time.perf_counter() - now

        with Account() as account:
            encoded = session.encode_frames(
                FileFrames(
                    video.info,
                    video.plan.indices,
                    session.config.vision.image_size,
                    max_damaged=session.sampling.max_damaged,
                ),
                video.plan,
                name=video.name,
                clip_cache=self._clips.clip_cache(video.info, video.plan, verify=False),
                path=video.info.path,
                progress=progress,
            )
        frames = session.config.vision.clip_frames
        wall = time.perf_counter() - begin
        video.frames_encoded = account.work.get("clips encoded", 0) * frames
        # A clip with the pixels of another one of the video is not encoded again.
        reused = account.work.get("clips reused", 0) + account.work.get("clips repeated", 0)
        video.frames_reused = reused * frames
        video.seconds = {
            "decode": account.seconds.get("decode video", 0.0),
            "encode": account.seconds.get("encode clips", 0.0),
            "wall": wall,
        }
        self._metrics.frames_encoded.inc(video.frames_encoded)
        self._metrics.frames_reused.inc(video.frames_reused)
        self._metrics.observe_encoding(video.frames_encoded, wall - other)
        video.encoded = encoded

    def _session_of(self, selection: SelectionConfig | None) -> Session:
        """Returns a session of the same model and engine with another frame selection."""
        if selection not in self._sessions:
            session = copy.copy(self._session)
            session.selection = selection
            self._sessions[selection] = session
        return self._sessions[selection]


def _fitted(selection: SelectionConfig | None, num_frames: int) -> SelectionConfig | None:
    """Returns a selection that scores whole windows where a video is too short for segments."""
    if selection is None or num_frames >= SCORE_CLIP_FRAMES * selection.segment_clips:
        return selection
    return dataclasses.replace(selection, scope="global")
