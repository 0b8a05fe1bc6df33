"""Computes the size of a video, which changes when the video is replaced or edited."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from xcomp_jax.video.folder import frame_files, sidecar_duration


def size_of(path: Path) -> int:
    """Returns the bytes of a file, or a hash of a folder's image names, sizes and duration.

    Raises:
        VideoError: the folder has no images, or its duration file cannot be read.
        OSError, ValueError: see `Path.stat`.
    """
    if not path.is_dir():
        return path.stat().st_size
    images = sorted((file.name, file.stat().st_size) for file in frame_files(path))
    description = json.dumps([sidecar_duration(path), images])
    # 48 bits stay exact in programs that read table columns as float64.
    return int.from_bytes(hashlib.sha256(description.encode()).digest()[:6])
