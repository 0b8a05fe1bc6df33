"""Read frames of a video in a process of its own, in spans or in one pass; print what it took.

    python -m xcomp_jax.launch.bench.video_reader {spans,one-pass} FILE COUNT SIZE WORKERS

SIZE 0 keeps native frames. Prints one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path

from xcomp_jax.launch.bench.video_peer import indices
from xcomp_jax.video.damage import Damage
from xcomp_jax.video.decode import read_frames
from xcomp_jax.video.file_reader import FileReader
from xcomp_jax.video.ppm import Frames
from xcomp_jax.video.probe import VideoInfo, probe


def read(method: str, info: VideoInfo, count: int, size: int | None, workers: int) -> Frames:
    """Returns `count` evenly spaced frames, by "spans" (as users get them) or "one-pass"."""
    numbers = indices(count, info.num_frames)
    if method == "spans":
        return read_frames(info, numbers, size=size, threads=workers)
    assert info.packets is not None
    reader = FileReader(
        info.path,
        info,
        size=size,
        resize="bicubic",
        max_damaged=1.0,
        damage=Damage(),
        threads=workers,
        timeout=600.0,
    )
    return reader.one_pass(info.packets, numbers)


def main(arguments: list[str]) -> None:
    """Reads the frames; prints number, seconds, CPU seconds, seconds of probing and a checksum."""
    method, path = arguments[0], Path(arguments[1])
    count, size, workers = map(int, arguments[2:])
    began, before = time.perf_counter(), sum(os.times()[:4])
    info = probe(path.absolute())
    probed = time.perf_counter() - began
    checksum, number = hashlib.sha256(), 0
    spent = 0.0  # CPU seconds of the checksum, which no user pays
    for frame in read(method, info, count, size or None, workers):
        start = time.thread_time()
        checksum.update(frame.data)
        spent += time.thread_time() - start
        number += 1
    print(
        json.dumps(
            {
                "frames": number,
                "seconds": time.perf_counter() - began - spent,
                "cpu_seconds": sum(os.times()[:4]) - before - spent,
                "probe_seconds": probed,
                "checksum": checksum.hexdigest(),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
