"""Measure the host's costs of a frame, and compute the frames per second of other numbers of cores.

Costs are CPU seconds, so that other load on the machine hardly changes them. ffmpeg decodes in
processes of its own. One thread reads its pipe, hashes the frames and cuts clips; frames are
resized in threads, or, as a comparison, in that thread.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np

from xcomp_jax.engine.cutting import hashed_frames
from xcomp_jax.launch.bench.results import table
from xcomp_jax.video.decode import read_frames
from xcomp_jax.video.decoders import available_cores
from xcomp_jax.video.preprocess import resize_bicubic
from xcomp_jax.video.probe import probe
from xcomp_jax.video.resizing import resized

IMAGE_SIZE = 448
SIZES = ("1280x720", "1920x1080")


@dataclasses.dataclass(frozen=True)
class Costs:
    """CPU seconds per frame: ffmpeg's, those of the reading thread without resizing, resizing."""

    decode: float
    read: float
    resize: float

    def rate(self, cores: int, *, in_threads: bool) -> float:
        """Returns frames per second of `cores`, if nothing else limits them.

        Either all cores are busy or the reading thread is, which uses one.
        """
        serial = self.read if in_threads else self.read + self.resize
        return min(cores / (self.decode + self.read + self.resize), 1 / serial)


def run(options: argparse.Namespace) -> int:
    """Prints the costs per frame, the resizing measured here, and the computed rates."""
    costs_rows: list[dict[str, Any]] = []
    resize_rows: list[dict[str, Any]] = []
    rate_rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        videos = [options.video] if options.video else [_write(Path(folder), s) for s in SIZES]
        for video in videos:
            costs = measure_costs(video, options.frames)
            costs_rows.append(
                {
                    "video": video.stem,
                    "decoding, ms": 1e3 * costs.decode,
                    "reading and hashing, ms": 1e3 * costs.read,
                    "resizing, ms": 1e3 * costs.resize,
                    "frames/s of a core": 1 / sum(dataclasses.astuple(costs)),
                }
            )
            resize_rows += [{"video": video.stem, **row} for row in _resize_rates(video)]
            rate_rows += [
                {
                    "video": video.stem,
                    "cores": cores,
                    "resizing while reading": costs.rate(cores, in_threads=False),
                    "resizing in threads": costs.rate(cores, in_threads=True),
                }
                for cores in options.cores
            ]
    for title, rows in (
        ("CPU time per frame", costs_rows),
        (f"Resizing alone, frames/s ({available_cores()} cores)", resize_rows),
        ("Frames per second, computed from the CPU time", rate_rows),
    ):
        print(f"\n{title}\n\n{table(rows)}")
    return 0


def measure_costs(video: Path, count: int) -> Costs:
    """Measures the CPU seconds per frame of the first `count` frames of a video."""
    info = probe(video)
    count = min(count, info.num_frames)

    def read() -> None:
        _consume(hashed_frames(read_frames(info, range(count))))

    own, children = _cpu_seconds(read)
    frames = list(read_frames(info, range(min(count, 16))))
    resize, _ = _cpu_seconds(lambda: [resize_bicubic(frame, IMAGE_SIZE) for frame in frames])
    # Frames are hashed after they are resized, when they are smaller.
    small = [resize_bicubic(frame, IMAGE_SIZE) for frame in frames]
    hash_small, _ = _cpu_seconds(lambda: _consume(hashed_frames(small)))
    hash_large, _ = _cpu_seconds(lambda: _consume(hashed_frames(frames)))
    hashing = (hash_small - hash_large) / len(frames)
    return Costs(children / count, own / count + hashing, resize / len(frames))


def _resize_rates(video: Path, repeats: int = 8) -> list[dict[str, Any]]:
    """Measures frames per second of resizing with one thread and with one per core, in turn."""
    frames = list(read_frames(probe(video), range(8)))

    def again() -> Any:
        for _ in range(repeats):
            yield from map(np.copy, frames)  # equal arrays would be resized once

    rows = []
    for _ in range(2):
        for workers in dict.fromkeys((1, available_cores())):
            start = time.perf_counter()
            cpu, _ = _cpu_seconds(lambda: _consume(resized(again(), IMAGE_SIZE, workers=workers)))  # noqa: B023
            wall = time.perf_counter() - start
            count = repeats * len(frames)
            rows.append({"threads": workers, "per second": count / wall, "per CPU s": count / cpu})
    return rows


def _write(folder: Path, size: str) -> Path:
    """Writes four seconds of a test picture with noise."""
    path = folder / f"{size}.mp4"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y"]
    command += ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25,noise=alls=12:allf=t"]
    command += ["-t", "4", "-c:v", "libx264", "-preset", "veryfast", "-crf", "28"]
    command += ["-pix_fmt", "yuv420p", str(path)]
    subprocess.run(command, check=True)
    return path


def _cpu_seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Returns the CPU seconds of this process and of its children."""

    def used(who: int) -> float:
        usage = resource.getrusage(who)
        return usage.ru_utime + usage.ru_stime

    before = [used(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    work()
    after = [used(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return after[0] - before[0], after[1] - before[1]


def _consume(items: Iterable[object]) -> None:
    for _ in items:
        pass
