"""Reads a video's frame count, frame times and frame rate without decoding it."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xcomp_jax.video import ffmpeg, folder
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.listing import ListingCache
from xcomp_jax.video.messages import frame_count
from xcomp_jax.video.packets import PacketList, list_packets
from xcomp_jax.video.streams import best_stream, container_of, video_streams

ListPackets = Callable[..., tuple[PacketList, str]]
"""`list_packets` of one file, with `stream` as its argument."""

ZERO_TAIL = 1 << 14
"""Bytes of zeros at the end of a file that no container writes."""

PADDED = ("mov", "asf")
"""Containers that may end with zeros: free space of mp4, padding of asf."""


@dataclasses.dataclass(frozen=True, eq=False)
class VideoInfo:
    """Frame count and timing of a video, as the sampler needs them.

    Attributes:
        fps: frames per second over the whole video; the average if frames are unevenly spaced.
        duration: seconds; equals `num_frames / fps` up to rounding.
        times: float64 [num_frames], presentation time of every frame in seconds, counted from the
            first frame; empty if unknown.
        is_folder: the video is a folder of images.
        is_uneven: the frames are unevenly spaced.
        packets: packets of a file's video stream; None for a folder.
        notes: sentences for the user: parts of the file that are not read, and damage.
    """

    path: Path
    num_frames: int
    fps: float
    duration: float
    times: NDArray[np.float64] = dataclasses.field(repr=False)
    is_folder: bool = False
    is_uneven: bool = False
    packets: PacketList | None = dataclasses.field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def stream(self) -> int | None:
        """Index of the stream in the file if it is not the first video stream, else None."""
        return None if self.packets is None else self.packets.stream


def probe(
    path: str | Path,
    *,
    folder_fps: float = 1.0,
    stream: int | None = None,
    partial: bool = False,
    threads: int = 2,
    timeout: float = 300.0,
    listings: ListingCache | None = None,
) -> VideoInfo:
    """Counts and times the frames of a video file or of a folder of images.

    Packets are counted instead of decoded frames: under a second for an hour of video.

    Args:
        folder_fps: images per second of a folder, unless `<folder>.json` gives its duration. The
            original uses 1, and 3 for TVQA (docs/reference_behaviour.md#sampling).
        stream: number of the video stream to read, from 1; None chooses as the original's reader.
        partial: read what a truncated file still holds instead of refusing it.
        threads: decoder threads of ffmpeg.
        timeout: seconds after which ffmpeg is stopped.
        listings: cache of packet lists, such as `TokenStore.listings`.

    Raises:
        VideoError: the path is not a readable video, or it has no such stream.
    """
    source = ffmpeg.local_path(path)
    if not source.is_dir():
        regular = ffmpeg.regular_file(source)
        list_of = functools.partial(
            list_packets, regular, threads=threads, timeout=timeout, listings=listings
        )
        return probe_file(regular, list_of, stream=stream, partial=partial)
    if stream is not None:
        raise VideoError(source, f"a folder has no stream {stream}", "Omit --stream.")
    return probe_folder(source, folder_fps)


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
        times=np.arange(len(files)) * duration / len(files),
        is_folder=True,
    )


def probe_file(path: Path, list_of: ListPackets, *, stream: int | None, partial: bool) -> VideoInfo:
    """Counts and times the frames of a video file by its packets; see `probe`."""
    packets, messages, notes = _chosen_packets(path, list_of, stream)
    reason = _truncation(path, packets, messages)
    packets = packets.before_zeros()
    if reason:
        packets = dataclasses.replace(packets, decode_order=None)
    if not len(packets.ticks):
        problem = reason or "the video stream has no frames"
        raise VideoError(path, problem, ffmpeg.COPY_AGAIN if reason else ffmpeg.REENCODE)
    ticks = packets.ticks
    seconds = float((packets.end - int(ticks[0])) * packets.time_base)
    rate = constant_rate(ticks.tolist(), packets.time_base)
    info = VideoInfo(
        path=path,
        num_frames=len(ticks),
        fps=rate or len(ticks) / seconds,
        duration=len(ticks) / (rate or len(ticks) / seconds),
        times=(ticks - ticks[0]) * float(packets.time_base),
        is_uneven=rate is None,
        packets=packets,
        notes=(*notes, *_damage_notes(packets, reason, messages)),
    )
    if reason and not partial:
        raise VideoError(
            path,
            f"{reason}; it holds {frame_count(info.num_frames)}, "
            f"the last at {info.times[-1]:.2f} s",
            f"{ffmpeg.COPY_AGAIN} To read what it holds, pass partial=True (--partial).",
        )
    return info


def _chosen_packets(
    path: Path, list_of: ListPackets, stream: int | None
) -> tuple[PacketList, str, tuple[str, ...]]:
    """Returns the packets of video stream `stream` or of the best one, messages and notes."""
    first, messages = list_of(stream=None)
    streams = video_streams(messages)
    if stream is not None and not 1 <= stream <= max(len(streams), 1):
        raise VideoError(
            path,
            f"there is no video stream {stream}; the file has {max(len(streams), 1)}",
            "Pass a number from 1 to that (--stream).",
        )
    if len(streams) < 2:
        return first, messages, ()
    listings = [(first, messages)]
    for other in streams[1:]:
        packets, text = list_of(stream=other.index)
        listings.append((packets, text))
    best = best_stream(streams, [len(packets.ticks) for packets, _ in listings])
    chosen = best if stream is None else stream - 1
    described = ", ".join(
        f"{number}: {other.size or 'size unknown'}, {frame_count(len(packets.ticks))}"
        for number, (other, (packets, _)) in enumerate(zip(streams, listings, strict=True), 1)
    )
    note = (
        f"read video stream {chosen + 1} of {len(streams)} ({described}); --stream N reads another"
    )
    return (*listings[chosen], (note,))


def _truncation(path: Path, packets: PacketList, messages: str) -> str:
    """Returns the reason for which the file counts as truncated; empty if it is complete."""
    container = container_of(messages)
    # For a truncated file ffmpeg prints a warning but exits with code 0. Transport streams are
    # cut anywhere.
    for sign in ("ended prematurely", "partial file"):
        if sign in messages:
            return f"truncated (ffmpeg: {sign})"
    if packets.zeros_from is not None or (
        not container.startswith(PADDED) and _ends_with_zeros(path)
    ):
        return "truncated: it ends with zeros, as an unfinished download does"
    if packets.ends_damaged and container != "mpegts":
        return "truncated: its last frame is incomplete"
    return _avi_truncation(path) if container == "avi" else ""


def _avi_truncation(path: Path) -> str:
    """Returns a reason if an avi file is shorter than its header says, as after a crash."""
    with path.open("rb") as file:
        stated = 8 + int.from_bytes(file.read(8)[4:], "little")
        size = file.seek(0, 2)
    # Programs that do not know the size write 0 or the largest number.
    if not size + 1024 < stated < 2**32 - 16:
        return ""
    return f"truncated: it has {size} bytes, its header states {stated}"


def _ends_with_zeros(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.seek(0, 2) - ZERO_TAIL
        if start <= 0:
            return False
        file.seek(start)
        return not file.read(ZERO_TAIL).strip(b"\0")


def _damage_notes(packets: PacketList, truncation: str, messages: str) -> tuple[str, ...]:
    if truncation:
        return (f"{truncation}; the {frame_count(len(packets.ticks))} that it holds are read",)
    if packets.damaged:
        return (f"{packets.damaged} of {frame_count(len(packets.ticks))} are damaged in the file",)
    if "[error]" in messages:
        summary = ffmpeg.summarize_stderr(messages.encode())
        return (f"the file is damaged, so frames may be missing (ffmpeg: {summary})",)
    return ()


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
