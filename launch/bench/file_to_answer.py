"""Time the way from a file to an answer, and the shares of it that host and device are busy."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xcomp_jax.account import Account
from xcomp_jax.config import ModelConfig
from xcomp_jax.launch.bench import model

Row = dict[str, Any]

FPS = 8
NEW_TOKENS = 64
DEVICE_STEPS = ("encode clips", "prefill video", "prefill", "extend text", "generate")
"""Steps of the account in which the device works."""


def measure(*, tiny: bool) -> Iterator[Row]:
    """Yields a cold run, which compiles, and a warm one over another video of the same size.

    Needs the packages of inference besides JAX: ffmpeg, Pillow and a tokenizer.
    """
    # Imported here, so that a missing package does not stop the other parts of a bench.
    from xcomp_jax.engine.generation_config import GenerationConfig
    from xcomp_jax.inference.session import Session
    from xcomp_jax.text.tokenizer import builtin_tokenizer

    config = _config(tiny)
    frames, size = (16, (64, 48)) if tiny else (1024, (640, 360))
    session = Session(
        config,
        model.random_params(config, "vision", "projector", "llm"),
        builtin_tokenizer(),
        generation=GenerationConfig(max_new_tokens=8 if tiny else NEW_TOKENS),
    )
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(("cold", "warm")):
            path = _write_video(Path(folder) / f"{name}.mp4", frames, size, seed=number)
            yield {"run": name, "frames": frames, **_timed(session, path, frames)}


def _timed(session: Any, path: Path, frames: int) -> Row:
    """Asks one question about a file; returns seconds and busy shares."""
    from xcomp_jax.video.decoders import available_cores

    began, cpu_before = time.perf_counter(), sum(os.times()[:4])
    with Account() as account:
        video = session.encode_video(path, num_frames=frames)
        answer = session.ask(video, "What happens?")
    wall = time.perf_counter() - began
    seconds = {**account.seconds}
    for step, spent in answer.seconds.items():
        seconds[step] = max(seconds.get(step, 0.0), spent)
    return {
        "seconds": wall,
        "device_busy": sum(seconds.get(step, 0.0) for step in DEVICE_STEPS) / wall,
        "decode_busy": seconds.get("decode video", 0.0) / wall,
        "host_cores_busy": (sum(os.times()[:4]) - cpu_before) / wall,
        "host_cores": available_cores(),
        **{f"{step} s": spent for step, spent in sorted(seconds.items())},
    }


def _config(tiny: bool) -> ModelConfig:
    config = model.model_config(tiny=tiny)
    if not tiny:
        return config
    # The built-in tokenizer has more tokens than the tiny model of the other parts.
    return dataclasses.replace(config, llm=dataclasses.replace(config.llm, vocab_size=1024))


def _write_video(path: Path, frames: int, size: tuple[int, int], *, seed: int) -> Path:
    """Writes moving noise in which no clip repeats, since equal clips are encoded once."""
    from xcomp_jax.data.synthetic.mp4 import encode_mp4

    width, height = size
    picture = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    picture = picture.repeat(4, 0).repeat(4, 1)
    moving = [np.roll(picture, (i, 3 * i), axis=(0, 1)) for i in range(frames)]
    for number, frame in enumerate(moving):
        frame[:8, :8] = number % 251  # the motion repeats after some hundred frames
    encode_mp4(np.stack(moving), path, fps=FPS)
    return path
