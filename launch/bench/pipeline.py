"""Time the encoding of a video against its decoding alone and its encoding alone, in one run."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from xcomp_jax.engine.clips import ArrayFrames, FileFrames, FrameSource
from xcomp_jax.inference.session import Session
from xcomp_jax.inference.video_input import sample_frames
from xcomp_jax.launch.bench.ask import write_video
from xcomp_jax.models.xcomp import init_params
from xcomp_jax.text.tokenizer import builtin_tokenizer
from xcomp_jax.variants import SMOKE
from xcomp_jax.video.sampling import FramePlan

VIDEO_SIZE = (320, 180)
DEPTHS = (4, 8, 16, 32, 64, 128)
"""Blocks of the demo model's encoder, from quick to slow to run."""


def run(options: argparse.Namespace) -> int:
    """Prints a Markdown table."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_video(Path(folder) / "video.mp4", options.seconds, size=VIDEO_SIZE)
        session, plan, file_source, array_source = _balanced(path, options.frames)
        rounds = [
            (
                _measure(lambda: _decode(file_source, options.frames)),
                _measure(lambda: _encode(session, array_source, plan)),
                _measure(lambda: _encode(session, file_source, plan)),
            )
            for _ in range(options.rounds)
        ]
    decode, encode, both = (min(run) for run in zip(*rounds, strict=True))
    cores = len(os.sched_getaffinity(0))
    longer = max(decode.seconds, encode.seconds)
    # On a CPU both sides share the cores: no pipeline can be faster than all cores working.
    floor = max(longer, (decode.cpu_seconds + encode.cpu_seconds) / cores)
    print("| encoder blocks | frames | decoding | encoding | both | both / longer | both / floor |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {session.config.vision.depth} | {options.frames:,} | {decode} | {encode} | {both} "
        f"| {both.seconds / longer:.2f} | {both.seconds / floor:.2f} |"
    )
    print(
        f"\nfloor: the longer of both alone, or their CPU seconds on {cores} cores: {floor:.2f} s"
    )
    return 0


@dataclasses.dataclass(frozen=True, order=True)
class _Run:
    """Wall seconds of a run, and CPU seconds of this process and its children."""

    seconds: float
    cpu_seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s ({self.cpu_seconds:.2f} CPU s)"


def _measure(work: Callable[[], object]) -> _Run:
    start, before = time.perf_counter(), sum(os.times()[:4])
    work()
    return _Run(time.perf_counter() - start, sum(os.times()[:4]) - before)


def _balanced(path: Path, num_frames: int) -> tuple[Session, FramePlan, FrameSource, FrameSource]:
    """Returns the session whose encoding takes most nearly as long as decoding the video.

    Also returns the plan of the frames, their source in the file, and their source in memory.
    """
    decode, candidates = 0.0, []
    for depth in DEPTHS:
        session = _session(depth)
        _, plan = sample_frames(
            path, session.config, session.sampling, num_frames=num_frames, start=None, end=None
        )
        file_source = FileFrames(path, plan.indices, session.config.vision.image_size)
        if not decode:
            array_source = ArrayFrames(np.stack(list(file_source.frames(range(num_frames)))))
            decode = _measure(functools.partial(_decode, file_source, num_frames)).seconds
        _encode(session, array_source, plan)  # compiles
        encode = _measure(functools.partial(_encode, session, array_source, plan)).seconds
        candidates.append((abs(np.log(decode / encode)), depth, session, plan, file_source))
        if encode > decode:
            break
    _, _, session, plan, file_source = min(candidates, key=lambda entry: entry[:2])
    return session, plan, file_source, array_source


def _session(depth: int) -> Session:
    config = dataclasses.replace(SMOKE, vision=dataclasses.replace(SMOKE.vision, depth=depth))
    params = init_params(config, jax.random.key(0))
    return Session(config, params, builtin_tokenizer())


def _decode(source: FrameSource, num_frames: int) -> None:
    for _ in source.frames(range(num_frames)):
        pass


def _encode(session: Session, source: FrameSource, plan: FramePlan) -> None:
    session.encode_frames(source, plan, name="video")
