"""What there is to sample from: frame count, times and rate, without decoding the video."""

from __future__ import annotations

import dataclasses
import itertools
import re
from fractions import Fraction
from pathlib import Path

from xcomp_jax.video import ffmpeg, folder
from xcomp_jax.video.errors import VideoError

NO_TIME = -(2**63)
"""ffmpeg's mark for a packet without presentation time (AVI with B-frames)."""

DISCARD = 0x4
"""Packet flag: decoded for reference but never shown (cut away by an edit list)."""


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """A video as the sampler sees it.

    `fps` is frames per second over the whole video (an average if frames are unevenly spaced) and
    `duration` is in seconds; `num_frames / fps == duration` up to rounding. `times` are the true
    seconds of every frame from the first.
    """

    path: Path
    num_frames: int
    fps: float
    duration: float
    times: tuple[float, ...] = dataclasses.field(repr=False)
    is_folder: bool = False


def probe(
    path: str | Path, *, folder_fps: float = 1.0, threads: int = 2, timeout: float = 300.0
) -> VideoInfo:
    """Counts and times the frames of a video file or of a folder of images.

    A file is counted by its packets, which costs a fraction of a second for an hour of video. A
    folder has `folder_fps` images a second unless a file `<folder>.json` states its duration
    (original: one image a second, 3 for TVQA).
    Raises VideoError for anything that is not a readable video.
    """
    place = ffmpeg.local_path(path)
    if place.is_dir():
        return probe_folder(place, folder_fps)
    return probe_file(ffmpeg.regular_file(place), threads=threads, timeout=timeout)


def probe_folder(path: Path, folder_fps: float) -> VideoInfo:
    if not folder_fps > 0:
        raise ValueError(f"{folder_fps=} must be positive")
    files = folder.frame_files(path)
    duration = folder.sidecar_duration(path) or len(files) / folder_fps
    return VideoInfo(
        path=path,
        num_frames=len(files),
        fps=len(files) / duration,
        duration=duration,
        times=tuple(i * duration / len(files) for i in range(len(files))),
        is_folder=True,
    )


def probe_file(path: Path, *, threads: int, timeout: float) -> VideoInfo:
    source = ffmpeg.input_arguments(path, threads=threads)
    listing, said = ffmpeg.run(
        [*source, "-c", "copy", "-f", "framecrc", "-"], path, timeout=timeout
    )
    # Matroska reports a file cut short and still ends well.
    if b"ended prematurely" in said or b"partial file" in said:
        raise VideoError(path, f"the file is cut short ({ffmpeg.complaint(said)})", ffmpeg.AGAIN)
    ticks, end, time_base = shown_packets(listing.decode("ascii", "replace"))
    if not ticks:
        raise VideoError(path, "the video stream holds no frames", ffmpeg.REENCODE)
    fps = constant_rate(ticks, time_base) or len(ticks) / float((end - ticks[0]) * time_base)
    return VideoInfo(
        path=path,
        num_frames=len(ticks),
        fps=fps,
        duration=len(ticks) / fps,
        times=tuple(float((tick - ticks[0]) * time_base) for tick in ticks),
    )


def shown_packets(listing: str) -> tuple[list[int], int, Fraction]:
    """Reads a framecrc listing: (times of the frames that will come out, end, seconds per tick).

    A line is `stream, dts, pts, duration, size, checksum[, F=flags]`. Packets without content
    (Theora's "show it again") and those an edit list hides give no frame when decoded.
    """
    time_base = Fraction(re.findall(r"^#tb 0: (\d+/\d+)", listing, re.MULTILINE)[0])
    ticks, ends = [], []
    rows = [line.split(",") for line in listing.splitlines() if line and line[0] != "#"]
    timed = all(int(row[2]) != NO_TIME for row in rows)
    for row in rows:
        flags = re.findall(r"F=0x([0-9a-fA-F]+)", ",".join(row[6:]))
        if flags and int(flags[0], 16) & DISCARD:
            continue
        start = int(row[2]) if timed else int(row[1])
        ends.append(start + max(1, int(row[3])))
        if int(row[4]) > 0:
            ticks.append(start)
    return sorted(ticks), max(ends, default=0), time_base


def constant_rate(ticks: list[int], time_base: Fraction) -> float | None:
    """Frames per second if the frames are evenly spaced within the clock's rounding, else None.

    Matroska counts milliseconds, so 30 frames a second arrive as 0, 33, 67 ...: the rate is then
    the whole number, or the whole number times 1000/1001 (broadcast), that explains every time.
    Without this, 10 s would read 9.999 s and the sampler would take one clip fewer.
    """
    steps = {later - earlier for earlier, later in itertools.pairwise(ticks)}
    if not steps or ticks[-1] <= ticks[0]:
        return None
    if len(steps) == 1 and len(ticks) > 3:  # Fewer could be a rounded 33, 33 of 33.3.
        return float(1 / (steps.pop() * time_base))
    average = Fraction(len(ticks) - 1, ticks[-1] - ticks[0]) / time_base
    for rate in (Fraction(round(average)), Fraction(round(average * 1001 / 1000) * 1000, 1001)):
        if rate > 0 and _explains(ticks, 1 / (rate * time_base)):
            return float(rate)
    return float(1 / (steps.pop() * time_base)) if len(steps) == 1 else None


def _explains(ticks: list[int], spacing: Fraction) -> bool:
    """Whether every tick is `spacing` times its index, rounded in either direction."""
    over, under = spacing.numerator, spacing.denominator
    return all(abs((tick - ticks[0]) * under - i * over) <= under for i, tick in enumerate(ticks))
