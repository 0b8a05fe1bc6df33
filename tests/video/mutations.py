"""Mutates media files and checks what the reader makes of them."""

from __future__ import annotations

import random
import subprocess
import time
from collections import Counter
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from xcomp_jax.video.damage import Damage
from xcomp_jax.video.decode import read_frames
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.listing import UNTIMED
from xcomp_jax.video.probe import probe

SECONDS = 60
"""Longest time of one case; a hang exceeds it."""


def mutate(content: bytes, draw: random.Random) -> tuple[str, bytes]:
    """Returns the name of one mutation, drawn at random, and the mutated bytes."""
    start = draw.randrange(len(content))
    length = draw.choice([1, 4, 64, 700, len(content) // 10])
    end = start + length
    run = content[start:end]
    kinds = {
        "flip": content[:start] + bytes([content[start] ^ 1 << draw.randrange(8)])
        + content[start + 1 :],
        "noise": content[:start] + draw.randbytes(len(run)) + content[end:],
        "zeros": content[:start] + bytes(len(run)) + content[end:],
        "delete": content[:start] + content[end:],
        "insert": content[:start] + draw.randbytes(length) + content[start:],
        "repeat": content[:end] + run + content[end:],
        "truncate": content[:start],
        "zero tail": content[:start] + bytes(len(content) - start),
    }  # fmt: skip
    kind = draw.choice(list(kinds))
    return kind, kinds[kind]


def shown_frames(path: Path) -> list[np.ndarray]:
    """Decodes a file as a player does: every frame of its first video, in order of time."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "quiet", "-nostdin", "-threads", "1"]
    command += ["-max_error_rate", "1", "-i", str(path), "-map", "0:V:0"]
    command += ["-fps_mode", "passthrough", "-vf", "scale=64:64", "-pix_fmt", "rgb24"]
    ticks = path.with_suffix(".ticks")
    command += ["-stats_mux_pre", str(ticks), "-stats_mux_pre_fmt", "{ptsi}"]
    run = subprocess.run(
        [*command, "-f", "rawvideo", "-"], capture_output=True, check=False, timeout=SECONDS
    )
    whole = len(run.stdout) // (64 * 64 * 3)
    frames = np.frombuffer(run.stdout, np.uint8)[: whole * 64 * 64 * 3].reshape(-1, 64, 64, 3)
    times = [int(line) for line in ticks.read_text().split()[:whole]]
    if len(times) < whole or min(times, default=0) <= UNTIMED:
        return list(frames)
    return list(frames[np.argsort(times, kind="stable")])


def check_mutation(content: bytes, path: Path, seed: int) -> str:
    """Reads one mutated file; returns the outcome, or raises AssertionError.

    The outcome is "refused" (one paragraph), "damage stated", "as shown": every frame is the one
    that a player shows at its place; or "not reproducible", which no player shows twice alike.
    """
    kind, mutated = mutate(content, random.Random(seed))
    path.write_bytes(mutated)
    case = f"seed {seed}, {kind}, {path.name}"
    begin = time.monotonic()
    damage = Damage()
    try:
        info = probe(path, partial=seed % 2 == 1, threads=1, timeout=SECONDS)
        source = read_frames(
            info, range(info.num_frames), max_damaged=1.0, damage=damage, threads=1
        )
        frames = list(source)
        refusal = ""
    except VideoError as error:
        refusal = str(error)
    assert time.monotonic() - begin < SECONDS, case
    if refusal:
        assert "\n" not in refusal, case
        assert path.name in refusal, case
        return "refused"
    assert len(frames) == info.num_frames, case
    if damage or info.notes:
        return "damage stated"
    shown = shown_frames(path)
    assert len(shown) >= len(frames), f"{case}: {len(frames)} of {len(shown)} frames"
    # Frames before the first key frame are no part of a video.
    shown = shown[len(shown) - len(frames) :]
    if np.array_equal(frames, shown):
        return "as shown"
    # Some decoders show memory that they never wrote, without an error.
    again = shown_frames(path)[-len(frames) :]
    assert not np.array_equal(shown, again), f"{case}: other frames than a player"
    return "not reproducible"


def check_mutations(files: dict[str, Path], folder: Path, seeds: range) -> Counter[str]:
    """Checks every seed on one of `files` in turn; returns the number of each outcome."""
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        suffix = list(files)[seed % len(files)]
        outcomes[check_mutation(files[suffix].read_bytes(), folder / f"m.{suffix}", seed)] += 1
    return outcomes
