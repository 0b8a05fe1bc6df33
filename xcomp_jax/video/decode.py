"""Decodes selected frames of a video in one ffmpeg pass, one frame at a time.

ffmpeg drops all other frames itself (`select` filter) and sends the rest as PPM images, whose
headers carry the frame size. The video is never held in memory as a whole.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from xcomp_jax.video import ffmpeg, folder
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.ppm import Frame, Frames, read_ppm
from xcomp_jax.video.preprocess import resize_bicubic
from xcomp_jax.video.select_filter import select_expression


def read_frames(
    path: str | Path,
    indices: Sequence[int],
    *,
    size: int | None = None,
    resize: Literal["bicubic", "ffmpeg"] = "bicubic",
    threads: int = 2,
    timeout: float = 600.0,
) -> Frames:
    """Yields frame `i` for every `i` in `indices`, as read-only uint8 [H, W, 3].

    Closing the generator early stops ffmpeg.

    Args:
        indices: sorted frame numbers; a repeated index yields the same array again.
        size: resize frames to [size, size, 3]; None keeps the native size.
        resize: "bicubic" applies the model's preprocessing exactly (`preprocess.resize_bicubic`);
            "ffmpeg" scales inside ffmpeg, which is faster but differs by a few grey levels.
        threads: decoder threads of ffmpeg.
        timeout: longest wait for the next frame, in seconds.

    Raises:
        VideoError: at once for an invalid path or indices; while iterating if the video is damaged
            or ends before the last index.
    """
    requested = [int(index) for index in indices]
    source = ffmpeg.local_path(path)
    if not requested or requested[0] < 0 or any(a > b for a, b in itertools.pairwise(requested)):
        raise VideoError(
            source,
            "frame indices must be sorted, non-negative and at least one, "
            f"got {_abbreviated(requested)}",
            "Sort them, or take them from plan_frames.",
        )
    if resize not in ("bicubic", "ffmpeg"):
        raise ValueError(f"{resize=} is not known; known: 'bicubic', 'ffmpeg'")
    distinct = sorted(set(requested))
    if source.is_dir():
        # Images are read one by one with Pillow, so `resize` makes no difference.
        return _repeated(_folder_frames(source, distinct, size), requested, source)
    ffmpeg.regular_file(source)
    ffmpeg_size = size if resize == "ffmpeg" else None
    frames = _file_frames(source, distinct, ffmpeg_size, threads, timeout)
    resized = frames if size is None or ffmpeg_size else _resized(frames, size)
    return _repeated(resized, requested, source)


def _repeated(frames: Frames, requested: list[int], path: Path) -> Frames:
    """Yields one frame per entry of `requested`; `frames` yields one per distinct entry."""
    with contextlib.closing(frames):
        for count, (index, repeats) in enumerate(itertools.groupby(requested)):
            frame: Frame | None = next(frames, None)
            if frame is None:
                raise VideoError(
                    path,
                    f"{len(set(requested))} different frames were requested up to index "
                    f"{requested[-1]}, {count} were decoded: there is no frame {index}",
                    "Count the frames with probe() and plan within them.",
                )
            frame.flags.writeable = False
            for _ in repeats:
                yield frame


def _resized(frames: Frames, size: int) -> Frames:
    with contextlib.closing(frames):
        for frame in frames:
            yield resize_bicubic(frame, size)


def _folder_frames(path: Path, indices: list[int], size: int | None) -> Frames:
    files = folder.frame_files(path)
    for index in indices:
        if index >= len(files):
            return
        image = folder.read_image(files[index])
        yield image if size is None else resize_bicubic(image, size)


def _file_frames(
    path: Path, indices: list[int], size: int | None, threads: int, timeout: float
) -> Frames:
    """Yields the frames at distinct `indices`; fewer if the file is shorter."""
    filters = f"select='{select_expression(indices)}'"
    if size is not None:
        filters += f",scale={size}:{size}:flags=bicubic"
    with contextlib.ExitStack() as stack:
        # With thousands of scattered frames the filter exceeds the length of a command line.
        script = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".filter"))
        script.write(filters)
        script.flush()
        stderr = stack.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            [
                *ffmpeg.input_arguments(path, threads=threads),
                *("-/filter:v", script.name, "-fps_mode", "passthrough"),
                *("-frames:v", str(len(indices))),  # Stops decoding after the last one.
                *("-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        stack.callback(_stop, process)
        yield from _piped_frames(process, path, timeout)
        returncode = process.wait()
        if returncode != 0:
            stderr.seek(0)
            raise ffmpeg.failure(path, returncode, stderr.read())


def _piped_frames(process: subprocess.Popen[bytes], path: Path, timeout: float) -> Frames:
    """Yields the frames that ffmpeg writes; VideoError if one takes longer than `timeout`."""
    assert process.stdout is not None
    expired = threading.Event()
    while True:
        with _deadline(process, timeout, expired):
            frame = read_ppm(process.stdout)
        if frame is None:
            break
        yield frame
    if expired.is_set():
        raise VideoError(
            path,
            f"ffmpeg delivered no frame for {timeout:g} s",
            "Check that the storage responds, or raise `timeout`.",
        )


@contextlib.contextmanager
def _deadline(
    process: subprocess.Popen[bytes], seconds: float, expired: threading.Event
) -> Iterator[None]:
    """Kills `process` and sets `expired` if the block takes longer, which ends a blocked read."""

    def stop() -> None:
        expired.set()
        process.kill()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _abbreviated(indices: list[int]) -> str:
    return str(indices) if len(indices) <= 6 else f"[{str(indices[:6])[1:-1]}, ...]"
