"""Lists the videos that the server knows, and finds them again after a restart."""

from __future__ import annotations

import dataclasses
import logging
import threading
from pathlib import Path
from typing import Any, Protocol

from xcomp_jax.config import SelectionConfig
from xcomp_jax.files import read_json, write_json
from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.frame_request import FrameRequest
from xcomp_jax.serving.ids import checked_id, content_id
from xcomp_jax.serving.video import Source, Video

logger = logging.getLogger(__name__)


class Watch(Protocol):
    """Queues a video to be read and encoded."""

    def __call__(self, video: Video, /, *, bounded: bool = True) -> None:
        """Queues a video; raises ApiError if `bounded` and too many wait."""


class Library:
    """Holds all videos; equal sources with equal settings are one video. Thread-safe.

    Args:
        folder: folder of one JSON file per video.
        selection: the server's frame selection.
        watch: called for every new video.
    """

    def __init__(self, folder: Path, selection: SelectionConfig | None, watch: Watch) -> None:
        self._folder, self._selection, self._watch = folder, selection, watch
        self._videos: dict[str, Video] = {}
        self._lock = threading.RLock()
        folder.mkdir(parents=True, exist_ok=True)

    def load(self) -> None:
        """Queues the videos of an earlier server; their clips are in the token store."""
        for file in sorted(self._folder.glob("video-*.json")):
            if file.stem in self._videos:  # added before the server started
                continue
            try:
                record: dict[str, Any] = read_json(file)
                source = Source(**{**record["source"], "path": Path(record["source"]["path"])})
                frames, select = FrameRequest(**record["frames"]), record["select"]
                selection = selection_of(self._selection, select)
                video = Video(
                    file.stem,
                    source,
                    frames,
                    select,
                    selection,
                    record["name"],
                    record["created_at"],
                )
            except (ValueError, TypeError, KeyError) as error:
                logger.warning("%s is not the record of a video (%s)", file, error)
                continue
            if not source.path.exists():
                logger.warning("%s: its file %s is gone", file.stem, source.path)
                continue
            self._videos[video.id] = video
            self._watch(video, bounded=False)

    def add(
        self,
        source: Source,
        frames: FrameRequest,
        select: int | str | None,
        name: str | None = None,
    ) -> Video:
        """Returns the video of a source with these settings, and queues it if it is new.

        Raises:
            ApiError: too many videos wait.
        """
        video_id = content_id("video", source.identity, dataclasses.astuple(frames), select)
        with self._lock:
            video = self._videos.get(video_id)
            if video is not None:
                if video.state == "failed":
                    video.restart()
                    self._watch(video)
                return video
            selection = selection_of(self._selection, select)
            video = Video(video_id, source, frames, select, selection, name or source.name)
            self._watch(video)
            self._videos[video_id] = video
            write_json(self._folder / f"{video_id}.json", video.record())
            return video

    def get(self, video_id: str) -> Video:
        """Returns a video.

        Raises:
            ApiError: there is none.
        """
        video = self._videos.get(checked_id("video", video_id))
        if video is None:
            raise ApiError(
                404,
                f"there is no video {video_id}; it may have been deleted. GET /v1/videos lists all",
                code="not_found",
            )
        return video

    def all(self) -> list[Video]:
        """Returns all videos, newest first."""
        return sorted(self._videos.values(), key=lambda video: -video.created_at)

    def delete(self, video_id: str) -> Video:
        """Removes a video from the list; the client's file stays."""
        video = self.get(video_id)
        with self._lock:
            self._videos.pop(video_id, None)
            (self._folder / f"{video_id}.json").unlink(missing_ok=True)
        video.deleted = True
        return video

    def uses_of(self, file_id: str) -> list[Video]:
        """Returns the videos of an uploaded file."""
        # A copy, because other threads add videos.
        return [video for video in [*self._videos.values()] if video.source.file_id == file_id]


def selection_of(
    default: SelectionConfig | None, select: int | str | None
) -> SelectionConfig | None:
    """Returns the frame selection of a request; None uses all frames."""
    if select is None:
        return default
    if select == "all":
        return None
    assert isinstance(select, int)
    return dataclasses.replace(default or SelectionConfig(), select=select, min_frames=0)
