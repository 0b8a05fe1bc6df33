"""A video that the server knows: its source, settings, state and costs."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from pathlib import Path
from typing import Any, Literal

from xcomp_jax.config import SelectionConfig
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.frame_request import FrameRequest
from xcomp_jax.video.probe import VideoInfo
from xcomp_jax.video.sampling import FramePlan

State = Literal["waiting", "reading", "watching", "ready", "failed"]


@dataclasses.dataclass(frozen=True)
class Source:
    """A file or folder of images with video content.

    identity: equal for equal sources. name: shown to clients. file_id: uploaded file, if it is one.
    folder_fps: images per second of a folder. is_list: frames that a client chose itself.
    """

    identity: str
    path: Path
    name: str
    file_id: str | None = None
    folder_fps: float = 1.0
    is_list: bool = False


@dataclasses.dataclass(eq=False)
class Video:
    """One source with its sampling and selection; fields are set by one thread at a time.

    select: number of selected frames, "all", or None for the server's setting.
    progress: share of the clips that are encoded. seconds: by step.
    plan, rule: sampled frames and the rule behind them; None and "" before the file is read.
    encoded: None until the video is ready.
    """

    id: str
    source: Source
    frames: FrameRequest
    select: int | str | None
    selection: SelectionConfig | None
    name: str
    created_at: int = dataclasses.field(default_factory=lambda: int(time.time()))
    state: State = "waiting"
    progress: float = 0.0
    seconds_left: float | None = None
    error: ApiError | None = None
    info: VideoInfo | None = None
    size: tuple[int, int] | None = None
    content_type: str = "application/octet-stream"
    plan: FramePlan | None = None
    rule: str = ""
    estimate_seconds: float | None = None
    frames_encoded: int = 0
    frames_reused: int = 0
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    encoded: EncodedVideo | None = None
    deleted: bool = False
    _finished: threading.Event = dataclasses.field(default_factory=threading.Event, repr=False)
    _waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = dataclasses.field(
        default_factory=list, repr=False
    )
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock, repr=False)

    def finish(self, error: ApiError | None = None) -> None:
        """Marks the video as ready or failed and wakes whoever waits for it."""
        self.error, self.state = error, "ready" if error is None else "failed"
        self.seconds_left = None
        if error is None:
            self.progress = 1.0
        with self._lock:
            self._finished.set()
            for loop, event in self._waiters:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(event.set)
            self._waiters.clear()

    def restart(self) -> None:
        """Returns a failed video to the queue."""
        self.state, self.error, self.progress = "waiting", None, 0.0
        self._finished.clear()

    async def wait(self) -> None:
        """Waits until the video is ready.

        Raises:
            ApiError: it failed, or was deleted.
        """
        event = asyncio.Event()
        with self._lock:
            if not self._finished.is_set():
                self._waiters.append((asyncio.get_running_loop(), event))
            else:
                event.set()
        await event.wait()
        if self.error is not None:
            raise self.error

    def to_dict(self) -> dict[str, Any]:
        """Returns the video object of the API."""
        info, plan = self.info, self.plan
        width, height = self.size or (None, None)
        return {
            "id": self.id,
            "object": "video",
            "name": self.name,
            "file_id": self.source.file_id,
            "created_at": self.created_at,
            "bytes": _num_bytes(self.source.path),
            "duration": None if info is None else info.duration,
            "fps": None if info is None else info.fps,
            "width": width,
            "height": height,
            "state": self.state,
            "progress": round(self.progress, 4),
            "seconds_left": self.seconds_left,
            "frames": {
                "planned": None if plan is None else len(plan.indices),
                "encoded": self.frames_encoded,
                "reused": self.frames_reused,
                "rule": self.rule,
            },
            "select": self.select,
            "seconds": {name: self.seconds.get(name, 0.0) for name in ("decode", "encode", "wall")},
            "error": None if self.error is None else self.error.body()["error"],
            "estimate": {
                "frames": None if plan is None else len(plan.indices),
                "seconds": self.estimate_seconds,
            },
            "notes": [] if info is None else list(info.notes),
        }

    def record(self) -> dict[str, Any]:
        """Returns what a restarted server needs to find the video again."""
        return {
            "source": {**dataclasses.asdict(self.source), "path": str(self.source.path)},
            "frames": dataclasses.asdict(self.frames),
            "select": self.select,
            "name": self.name,
            "created_at": self.created_at,
        }


def _num_bytes(path: Path) -> int | None:
    try:
        if path.is_dir():
            return sum(file.stat().st_size for file in path.iterdir())
        return path.stat().st_size
    except OSError:
        return None
