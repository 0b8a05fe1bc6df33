"""Measure peak memory and time of `xcomp ask` as a process."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np

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


def measure(video: Path, frames: int, checkpoint: Path) -> dict[str, float]:
    """Runs one `xcomp ask`; returns wall time in seconds and peak memory of the process in MB."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        arguments = ["ask", str(video), "What happens?", "--frames", str(frames)]
        arguments += ["--checkpoint", str(checkpoint)]
        process = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments, "--cache-dir", cache],
            capture_output=True,
            text=True,
            check=True,
        )
    code, peak = json.loads(process.stdout.splitlines()[-1])
    if code:
        raise ValueError(f"xcomp ask {video} ended with exit code {code}: {process.stderr[-1000:]}")
    return {"peak_mb": peak / 1024, "seconds": time.monotonic() - began}


def run(options: argparse.Namespace) -> int:
    """Prints a Markdown table with one row per video."""
    if options.video is not None and not options.video.exists():
        raise ValueError(f"{options.video}: no such file; check the path")
    with tempfile.TemporaryDirectory() as folder:
        if options.video is not None:
            videos = {options.video.name: options.video}
        else:
            videos = {
                f"{minutes} min": write_video(Path(folder) / f"{minutes}.mp4", 60 * minutes)
                for minutes in (1, 10)
            }
        checkpoint = Path(folder) / "checkpoint"
        demo_session().save_pretrained(checkpoint)
        print("| video | frames | peak memory | wall time, cold |")
        print("|---|---|---|---|")
        for name, path in videos.items():
            figures = measure(path, options.frames, checkpoint)
            print(
                f"| {name} | {options.frames} | {figures['peak_mb']:.0f} MB "
                f"| {figures['seconds']:.1f} s |"
            )
    return 0
