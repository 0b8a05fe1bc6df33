"""Settings of a server: addresses, folders and limits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

MIB, GIB = 1 << 20, 1 << 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on what clients may request.

    max_frames: frames of one video. max_watch_seconds: predicted time of encoding one video.
    max_text_bytes: text of one conversation. max_json_bytes: body of one JSON request.
    max_upload_bytes: one uploaded file. quota_bytes: all files of clients together.
    max_pixels: pixels of one frame or image. max_images: frames of one list.
    max_waiting: questions that wait. max_videos_waiting: videos that wait to be watched.
    max_parallel: requests of one key at a time.
    request_seconds: time of one answer. body_seconds: longest pause inside a request's body.
    """

    max_frames: int = 8192
    max_watch_seconds: float = 3600.0
    max_text_bytes: int = 256 << 10
    max_json_bytes: int = 64 * MIB
    max_upload_bytes: int = 4 * GIB
    quota_bytes: int = 64 * GIB
    max_pixels: int = 8192 * 4608
    max_images: int = 1024
    max_waiting: int = 64
    max_videos_waiting: int = 64
    max_parallel: int = 32
    request_seconds: float = 3600.0
    body_seconds: float = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """Settings of one server.

    data: folder of uploads and of the list of videos. keys: accepted API keys; empty for none.
    allowed_hosts: names that the Host header may have besides addresses and localhost.
    allowed_folders: folders below which `file://` may read. allowed_domains: HOST or HOST:PORT from
    which videos may be downloaded.
    max_memory_bytes: bound on the states of videos and conversations in memory.
    model: name that clients see. note: sentence about it on the page.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8000
    keys: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    allowed_folders: tuple[Path, ...] = ()
    allowed_domains: tuple[str, ...] = ()
    max_memory_bytes: int = 8 * GIB
    drain_seconds: float = 20.0
    model: str = "xcomp"
    note: str = ""
    limits: Limits = Limits()
