"""Time the encoding of a video against its decoding alone and its encoding alone, in one run."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from xcomp_jax.account import Account
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
        seconds: dict[str, list[float]] = {name: [] for name in ("decode", "encode", "both")}
        busy: list[float] = []
        for _ in range(options.rounds):
            seconds["decode"].append(_seconds(lambda: _decode(file_source, options.frames)))
            seconds["encode"].append(_seconds(lambda: _encode(session, array_source, plan)))
            with Account() as account:
                seconds["both"].append(_seconds(lambda: _encode(session, file_source, plan)))
            busy.append(account.seconds["decode video"] + account.seconds["encode clips"])
    decode, encode, both = (min(values) for values in seconds.values())
    print("| encoder blocks | frames | decoding alone | encoding alone | both | both / longer |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {session.config.vision.depth} | {options.frames:,} | {decode:.2f} s | {encode:.2f} s "
        f"| {both:.2f} s | {both / max(decode, encode):.2f} |"
    )
    print(f"\nbusy seconds of decoding and encoding / wall time: {min(busy) / both:.2f}")
    return 0


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
            decode = _seconds(functools.partial(_decode, file_source, num_frames))
        _encode(session, array_source, plan)  # compiles
        encode = _seconds(functools.partial(_encode, session, array_source, plan))
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


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
