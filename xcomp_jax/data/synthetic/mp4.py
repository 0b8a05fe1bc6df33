"""Encodes h264 mp4 files with the bundled ffmpeg, atomically."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np

ENCODE_TIMEOUT_SECONDS = 120


def encode_mp4(frames: np.ndarray, path: Path, *, fps: int, crf: int = 12) -> None:
    """Encodes `frames` uint8 [F, H, W, 3] (RGB, even H and W); equal frames give equal bytes.

    Args:
        crf: constant rate factor of x264; larger values give smaller files.

    Raises:
        OSError: ffmpeg failed; the message ends with its last line, and `path` is not written.
    """
    height, width = frames.shape[1:3]
    # In the same folder, because a rename is atomic only within one file system.
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps)]
    command += ["-i", "-", "-c:v", "libx264", "-preset", "veryfast", "-crf", str(crf)]
    # One thread and no version strings make the bytes reproducible.
    command += ["-pix_fmt", "yuv420p", "-threads", "1", "-fflags", "+bitexact"]
    command += ["-flags:v", "+bitexact", "-f", "mp4", f"file:{partial}"]
    try:
        result = subprocess.run(
            command,
            input=frames.tobytes(),
            capture_output=True,
            timeout=ENCODE_TIMEOUT_SECONDS,
            check=False,
        )
        if result.returncode != 0:
            reason = result.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise OSError(f"{path}: ffmpeg could not encode the video: {' '.join(reason)}")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def is_complete_mp4(path: Path) -> bool:
    """Returns True if the file's boxes fill it exactly and include an index."""
    if not path.is_file():
        return False
    size = path.stat().st_size
    names = set()
    offset = 0
    with path.open("rb") as file:
        while offset + 8 <= size:
            file.seek(offset)
            length, name = struct.unpack(">I4s", file.read(8))
            if length < 8:  # 64-bit and open-ended boxes, which `encode_mp4` never writes
                return False
            names.add(name)
            offset += length
    return offset == size and {b"ftyp", b"moov", b"mdat"} <= names
