"""One number by which a video is known to be as it was when it was looked at."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from xcomp_jax.video.folder import frame_files, sidecar_duration


def size_of(path: Path) -> int:
    """Bytes of a file; of a folder, a hash of its images' names and sizes and its stated duration.

    Raises:
        VideoError: the folder holds no images, or what states its duration cannot be read.
        OSError, ValueError: as `Path.stat`.
    """
    if not path.is_dir():
        return path.stat().st_size
    images = sorted((file.name, file.stat().st_size) for file in frame_files(path))
    facts = json.dumps([sidecar_duration(path), images])
    # 48 bits: whole in programs that read the numbers of a table as float64.
    return int.from_bytes(hashlib.sha256(facts.encode()).digest()[:6])
