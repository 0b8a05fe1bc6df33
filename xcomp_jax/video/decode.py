"""Chosen frames of a video, one at a time, in one pass of ffmpeg; never the whole video in memory.

ffmpeg drops unwanted frames itself (`select`), hands over each wanted one as a PPM image, whose
header carries the size, and is killed when the caller stops early.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import subprocess
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from xcomp_jax.video import ffmpeg, folder
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.preprocess import resize_bicubic

Frame = NDArray[np.uint8]
Frames = Generator[Frame, None, None]


def read_frames(
    path: str | Path,
    indices: Sequence[int],
    *,
    size: int | None = None,
    resize: Literal["bicubic", "ffmpeg"] = "bicubic",
    threads: int = 2,
    timeout: float = 600.0,
) -> Frames:
    """Yields frame `i` for every `i` of `indices`, as read-only uint8 [H, W, 3].

    `indices` are sorted and may repeat (the same array is yielded again). With `size` frames are
    [size, size, 3]: "bicubic" by the model's pixel rule (preprocess.resize_bicubic, bit for bit),
    "ffmpeg" scaled before they leave ffmpeg, which is faster and off by a few grey levels.
    `timeout` is the longest wait for the next frame, in seconds.

    Raises VideoError at once if path or indices cannot be right, and while iterating if the video
    breaks or ends before the last index. Closing the generator early ends ffmpeg.
    """
    wanted = [int(index) for index in indices]
    place = ffmpeg.local_path(path)
    if not wanted or wanted[0] < 0 or any(a > b for a, b in itertools.pairwise(wanted)):
        raise VideoError(
            place,
            f"frame indices must be sorted, not negative and at least one, got {_short(wanted)}",
            "Sort them, or take them from plan_frames.",
        )
    if resize not in ("bicubic", "ffmpeg"):
        raise ValueError(f"{resize=} is not known; known: 'bicubic', 'ffmpeg'")
    if place.is_dir():
        # Images are few and separate, so ffmpeg would gain nothing: both ways use Pillow.
        return _repeated(_folder_frames(place, sorted(set(wanted)), size), wanted, place)
    ffmpeg.regular_file(place)
    in_ffmpeg = size if resize == "ffmpeg" else None
    frames = _file_frames(place, sorted(set(wanted)), in_ffmpeg, threads, timeout)
    resized = frames if size is None or in_ffmpeg else _resized(frames, size)
    return _repeated(resized, wanted, place)


def _repeated(frames: Frames, wanted: list[int], path: Path) -> Frames:
    """One frame per entry of `wanted`; `frames` has one per distinct entry, or too few."""
    with contextlib.closing(frames):
        for count, (index, places) in enumerate(itertools.groupby(wanted)):
            frame = next(frames, None)
            if frame is None:
                raise VideoError(
                    path,
                    f"{len(set(wanted))} different frames were asked for up to index {wanted[-1]}, "
                    f"{count} came: there is no frame {index}",
                    "Count the frames with probe() and plan within them.",
                )
            frame.flags.writeable = False
            for _ in places:
                yield frame


def _resized(frames: Frames, size: int) -> Frames:
    with contextlib.closing(frames):
        for frame in frames:
            yield resize_bicubic(frame, size)


def _folder_frames(path: Path, wanted: list[int], size: int | None) -> Frames:
    files = folder.frame_files(path)
    for index in wanted:
        if index >= len(files):
            return
        image = folder.read_image(files[index])
        yield image if size is None else resize_bicubic(image, size)


def _file_frames(
    path: Path, wanted: list[int], size: int | None, threads: int, timeout: float
) -> Frames:
    """The distinct frames of `wanted`, as many of them as the file has."""
    filters = f"select='{select_expression(wanted)}'"
    if size is not None:
        filters += f",scale={size}:{size}:flags=bicubic"
    with contextlib.ExitStack() as stack:
        # Thousands of scattered frames make a filter longer than a command line may be.
        script = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".filter"))
        script.write(filters)
        script.flush()
        said = stack.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            [
                *ffmpeg.input_arguments(path, threads=threads),
                *("-/filter:v", script.name, "-fps_mode", "passthrough"),
                *("-frames:v", str(len(wanted))),  # Nothing after the last one is decoded.
                *("-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        stack.callback(_end, process)
        assert process.stdout is not None
        stalled = threading.Event()
        while True:
            with _deadline(process, timeout, stalled):
                frame = read_ppm(process.stdout)
            if frame is None:
                break
            yield frame
        if stalled.is_set():
            raise VideoError(
                path,
                f"ffmpeg delivered no frame for {timeout:g} s",
                "Check that the storage answers, or raise `timeout`.",
            )
        returncode = process.wait()
        if returncode != 0:
            said.seek(0)
            raise ffmpeg.refused(path, returncode, said.read())


def select_expression(wanted: Sequence[int]) -> str:
    """ffmpeg expression that is true for the frame numbers of sorted, distinct `wanted`.

    A binary tree over runs of neighbours: a frame costs as many comparisons as the tree is deep,
    and ffmpeg's limit of about 100 nested terms is never near.
    """
    runs: list[tuple[int, int]] = []
    for index in wanted:
        if runs and runs[-1][1] == index - 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))

    def tree(part: Sequence[tuple[int, int]]) -> str:
        if len(part) == 1:
            return f"between(n,{part[0][0]},{part[0][1]})"
        middle = len(part) // 2
        return f"if(lt(n,{part[middle][0]}),{tree(part[:middle])},{tree(part[middle:])})"

    return tree(runs)


def read_ppm(pipe: IO[bytes]) -> Frame | None:
    """Next PPM image as uint8 [H, W, 3]; None at the end of the stream, also amid an image."""
    header = [pipe.readline() for _ in range(3)]  # "P6", "width height", "255"
    numbers = re.fullmatch(rb"P6\n(\d+) (\d+)\n255\n", b"".join(header))
    if numbers is None:
        return None
    frame = np.empty((int(numbers[2]), int(numbers[1]), 3), np.uint8)
    view, filled = frame.data.cast("B"), 0
    while filled < len(view):
        count = pipe.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            return None
        filled += count
    return frame


@contextlib.contextmanager
def _deadline(
    process: subprocess.Popen[bytes], seconds: float, passed: threading.Event
) -> Iterator[None]:
    """Kills `process` and sets `passed` if the body takes longer: a blocked read then returns."""

    def stop() -> None:
        passed.set()
        process.kill()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _short(indices: list[int]) -> str:
    return str(indices) if len(indices) <= 6 else f"[{str(indices[:6])[1:-1]}, ...]"
