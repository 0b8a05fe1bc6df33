"""Reads a video's frame count, frame times and frame rate without decoding it."""

from __future__ import annotations

import dataclasses
import itertools
import re
from fractions import Fraction
from pathlib import Path

from xcomp_jax.video import ffmpeg, folder
from xcomp_jax.video.errors import VideoError

NO_TIME = -(2**63)
"""Value that ffmpeg reports for a packet without presentation time (AVI with B-frames)."""

DISCARD = 0x4
"""Flag of a packet that is decoded for reference but never shown (hidden by an edit list)."""


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """Frame count and timing of a video, as the sampler needs them.

    Attributes:
        fps: frames per second over the whole video; the average if frames are unevenly spaced.
        duration: seconds; equals `num_frames / fps` up to rounding.
        times: presentation time of every frame in seconds, counted from the first frame.
        is_folder: the video is a folder of images.
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

    Packets are counted instead of decoded frames: under a second for an hour of video.

    Args:
        folder_fps: images per second of a folder, unless `<folder>.json` gives its duration. The
            original uses 1, and 3 for TVQA (docs/reference_behaviour.md#sampling).
        threads: decoder threads of ffmpeg.
        timeout: seconds after which ffmpeg is stopped.

    Raises:
        VideoError: the path is not a readable video.
    """
    source = ffmpeg.local_path(path)
    if source.is_dir():
        return probe_folder(source, folder_fps)
    return probe_file(ffmpeg.regular_file(source), threads=threads, timeout=timeout)


def probe_folder(path: Path, folder_fps: float) -> VideoInfo:
    """Times the images of a folder, evenly spaced; see `probe`."""
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
    """Counts and times the frames of a video file by its packets; see `probe`."""
    source = ffmpeg.input_arguments(path, threads=threads)
    listing, stderr = ffmpeg.run(
        [*source, "-c", "copy", "-f", "framecrc", "-"], path, timeout=timeout
    )
    # For a truncated Matroska file ffmpeg prints a warning but exits with code 0.
    if b"ended prematurely" in stderr or b"partial file" in stderr:
        reason = f"the file is truncated ({ffmpeg.summarize_stderr(stderr)})"
        raise VideoError(path, reason, ffmpeg.COPY_AGAIN)
    ticks, end, time_base = shown_packets(listing.decode("ascii", "replace"))
    if not ticks:
        raise VideoError(path, "the video stream has no frames", ffmpeg.REENCODE)
    fps = constant_rate(ticks, time_base) or len(ticks) / float((end - ticks[0]) * time_base)
    return VideoInfo(
        path=path,
        num_frames=len(ticks),
        fps=fps,
        duration=len(ticks) / fps,
        times=tuple(float((tick - ticks[0]) * time_base) for tick in ticks),
    )


def shown_packets(listing: str) -> tuple[list[int], int, Fraction]:
    """Parses a framecrc listing into (ticks of the frames shown, end tick, seconds per tick).

    A line is `stream, dts, pts, duration, size, checksum[, F=flags]`. Empty packets (Theora's
    repeated frames) and packets hidden by an edit list are skipped: they decode to no frame.
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
    """Returns the frame rate if all frames are evenly spaced up to rounding, else None.

    Matroska rounds times to milliseconds, so 30 frames per second are stored as 0, 33, 67, ... The
    rate is then the integer, or the integer times 1000/1001 (broadcast), that reproduces every
    time. Without this, 10 s would be read as 9.999 s and one clip fewer would be sampled.
    """
    steps = {later - earlier for earlier, later in itertools.pairwise(ticks)}
    if not steps or ticks[-1] <= ticks[0]:
        return None
    if len(steps) == 1 and len(ticks) > 3:  # Fewer could be 33, 33 rounded from 33.3.
        return float(1 / (steps.pop() * time_base))
    average = Fraction(len(ticks) - 1, ticks[-1] - ticks[0]) / time_base
    for rate in (Fraction(round(average)), Fraction(round(average * 1001 / 1000) * 1000, 1001)):
        if rate > 0 and _reproduces(ticks, 1 / (rate * time_base)):
            return float(rate)
    return float(1 / (steps.pop() * time_base)) if len(steps) == 1 else None


def _reproduces(ticks: list[int], spacing: Fraction) -> bool:
    """Returns True if every tick is `spacing` times its index, rounded in either direction."""
    over, under = spacing.numerator, spacing.denominator
    return all(abs((tick - ticks[0]) * under - i * over) <= under for i, tick in enumerate(ticks))
