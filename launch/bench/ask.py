"""Measure time and peak memory of `xcomp ask` as a process, also against another checkout."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np

import xcomp_jax
from xcomp_jax.data.synthetic.mp4 import encode_mp4
from xcomp_jax.inference.open_session import demo_session

FPS = 25

# /proc instead of getrusage, whose peak includes that of the parent process.
PROGRAM = r"""
import json, pathlib, re, sys
from xcomp_jax.cli.main import main
code = main(sys.argv[1:])
status = pathlib.Path("/proc/self/status").read_text()
print(json.dumps([code, int(re.search(r"VmHWM:\s*(\d+)", status)[1])]))
"""


def write_video(path: Path, seconds: int, *, size: tuple[int, int] = (320, 180)) -> Path:
    """Writes a video of any length: ten seconds of moving noise, repeated without reencoding."""
    rng = np.random.default_rng(0)
    clip = path.with_name("ten_seconds.mp4")
    picture = (
        rng.integers(0, 256, (size[1] // 4, size[0] // 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    )
    frames = np.stack([np.roll(picture, 2 * i, axis=1) for i in range(10 * FPS)])
    encode_mp4(frames, clip, fps=FPS)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y"]
    command += ["-stream_loop", str(seconds // 10 - 1), "-i", str(clip), "-c", "copy", str(path)]
    subprocess.run(command, check=True)
    return path


@dataclasses.dataclass(frozen=True)
class Run:
    """Figures of one process: wall seconds, CPU seconds with those of ffmpeg, peak memory in MB."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def measure(video: Path, frames: int, *, checkpoint: str, code: Path) -> Run:
    """Runs one `xcomp ask` with cold caches; `code` is the checkout whose `xcomp_jax` runs."""
    arguments = ["ask", str(video.resolve()), "What happens?", "--frames", str(frames)]
    local = Path(checkpoint)
    arguments += ["--checkpoint", str(local.resolve()) if local.exists() else checkpoint]
    with tempfile.TemporaryDirectory() as cache:
        began, before = time.monotonic(), _cpu_seconds_of_children()
        process = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments, "--cache-dir", cache],
            capture_output=True,
            text=True,
            check=True,
            cwd=code,
            env={**os.environ, "PYTHONPATH": str(code)},
        )
        seconds, cpu_seconds = time.monotonic() - began, _cpu_seconds_of_children() - before
    code_of_exit, peak = json.loads(process.stdout.splitlines()[-1])
    if code_of_exit:
        raise ValueError(
            f"xcomp ask {video} ended with exit code {code_of_exit}: {process.stderr[-1000:]}"
        )
    return Run(seconds, cpu_seconds, peak / 1024)


def _cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(options: argparse.Namespace) -> int:
    """Prints a Markdown table with one row per video and checkout."""
    for path, advice in ((options.video, "check the path"), (options.against, "pass a checkout")):
        if path is not None and not path.exists():
            raise ValueError(f"{path}: no such file or folder; {advice}")
    here = Path(xcomp_jax.__file__).parents[1].resolve()
    checkouts = {"this": here}
    if options.against is not None:
        checkouts = {str(options.against): options.against.resolve(), **checkouts}
    with tempfile.TemporaryDirectory() as folder:
        if options.video is not None:
            videos = {options.video.name: options.video}
        else:
            videos = {
                f"{minutes} min": write_video(Path(folder) / f"{minutes}.mp4", 60 * minutes)
                for minutes in (1, 10)
            }
        checkpoint = options.checkpoint
        if checkpoint is None:
            checkpoint = str(Path(folder) / "checkpoint")
            demo_session().save_pretrained(Path(checkpoint))
        print("| video | frames | code | wall time, cold | CPU time | peak memory |")
        print("|---|---|---|---|---|---|")
        for name, path in videos.items():
            # Alternating, so that other load on the machine falls on every checkout.
            rounds = [
                {
                    label: measure(path, options.frames, checkpoint=checkpoint, code=code)
                    for label, code in checkouts.items()
                }
                for _ in range(options.rounds)
            ]
            for label in checkouts:
                best = min((runs[label] for runs in rounds), key=lambda run: run.seconds)
                print(
                    f"| {name} | {options.frames:,} | {label} | {best.seconds:.1f} s "
                    f"| {best.cpu_seconds:.1f} s | {best.peak_mb:.0f} MB |",
                    flush=True,
                )
    return 0
