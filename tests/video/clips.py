"""Writes clips whose frames encode their own number, so that tests can tell which were decoded."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image

BITS = 16
SIDE = 4  # blocks per side; SIDE * SIDE == BITS

CODECS: dict[str, list[str]] = {
    "mp4": ["-c:v", "libx264", "-bf", "2", "-g", "12"],
    "mkv": ["-c:v", "libx264", "-bf", "2", "-g", "12"],
    "webm": ["-c:v", "libvpx", "-b:v", "500k", "-deadline", "realtime", "-cpu-used", "8"],
    "avi": ["-c:v", "mpeg4", "-q:v", "3"],
    "ogg": ["-c:v", "libtheora", "-q:v", "8"],
    "gif": [],
    "mov": ["-c:v", "mjpeg", "-q:v", "3"],
    "ts": ["-c:v", "mpeg2video", "-q:v", "3", "-bf", "2"],
}
"""ffmpeg options per container; B-frames where the codec has them, to cover reordering."""


def coded_frame(number: int, block: int) -> NDArray[np.uint8]:
    """Draws `number` in binary as black and white blocks, uint8 [4 block, 4 block, 3]."""
    bits = (number >> np.arange(BITS)) & 1
    grid = bits.reshape(SIDE, SIDE).astype(np.uint8) * 255
    return np.repeat(grid.repeat(block, 0).repeat(block, 1)[..., None], 3, axis=-1)


def number_of(frame: NDArray[np.uint8]) -> int:
    """Reads the number off a decoded frame of any size, despite compression noise."""
    height, width, _ = frame.shape
    rows = ((np.arange(SIDE) + 0.5) * height / SIDE).astype(int)
    columns = ((np.arange(SIDE) + 0.5) * width / SIDE).astype(int)
    bits = frame[rows][:, columns].mean(axis=-1).ravel() > 127
    return int((bits.astype(int) << np.arange(BITS)).sum())


def numbers(frames: Iterable[NDArray[np.uint8]]) -> list[int]:
    return [number_of(frame) for frame in frames]


def write_clip(
    path: Path,
    count: int,
    *,
    fps: str = "25",
    block: int = 16,
    options: Sequence[str] | None = None,
) -> Path:
    """Writes `count` numbered frames; the suffix determines the codec unless `options` do."""
    side = SIDE * block
    codec = CODECS[path.suffix[1:]] if options is None else options
    frames = b"".join(coded_frame(number, block).tobytes() for number in range(count))
    ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{side}x{side}", "-r", fps, "-i", "-"),
        *("-pix_fmt", "yuv420p") * (path.suffix != ".gif"),
        *codec,
        str(path),
        data=frames,
    )
    return path


def write_folder(folder: Path, names: list[str]) -> Path:
    """Writes a folder with one numbered image per name, and a file that is no frame."""
    folder.mkdir()
    for number, name in enumerate(names):
        Image.fromarray(coded_frame(number, 8)).save(folder / name)
    (folder / "notes.txt").write_text("not a frame")
    return folder


def ffmpeg(*arguments: str, data: bytes = b"") -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", *arguments]
    subprocess.run(command, input=data, check=True, capture_output=True, timeout=60)
