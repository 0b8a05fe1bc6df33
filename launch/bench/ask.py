"""Peak memory and time of `xcomp ask` as a process, for the README and the tests.

    python -m launch.measure_ask                      # 1 and 10 minutes of made-up video
    python -m launch.measure_ask VIDEO --frames 1024

Each line is one process with the embedded model. Peak memory is what the operating system accounts
to it; ffmpeg is a child of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
import numpy as np

FPS = 25


def write_video(path: Path, seconds: int, *, size: tuple[int, int] = (320, 180)) -> Path:
    """A video of any length: ten seconds of moving noise, looped without encoding it again."""
    rng = np.random.default_rng(0)
    clip = path.with_name("ten_seconds.mp4")
    writer = imageio_ffmpeg.write_frames(str(clip), size, fps=FPS, macro_block_size=2)
    writer.send(None)
    picture = (
        rng.integers(0, 256, (size[1] // 4, size[0] // 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    )
    for i in range(10 * FPS):
        writer.send(np.ascontiguousarray(np.roll(picture, 2 * i, axis=1)))
    writer.close()
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y"]
    command += ["-stream_loop", str(seconds // 10 - 1), "-i", str(clip), "-c", "copy", str(path)]
    subprocess.run(command, check=True)
    return path


def measure(video: Path, frames: int) -> dict[str, float]:
    """Runs one `xcomp ask`; seconds of wall time and peak memory in MB of the process."""
    program = (
        "import json, pathlib, re, sys\n"
        "from xcomp_jax.cli.main import main\n"
        "code = main(sys.argv[1:])\n"
        # Not getrusage: its peak is inherited from the process that started this one.
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(json.dumps([code, int(re.search(r'VmHWM:\\s*(\\d+)', status)[1])]))\n"
    )
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        arguments = ["ask", str(video), "What happens?", "--frames", str(frames)]
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments, "--cache-dir", cache],
            capture_output=True,
            text=True,
            check=True,
        )
    code, peak = json.loads(done.stdout.splitlines()[-1])
    if code:
        raise RuntimeError(f"xcomp ask {video} ended with exit code {code}: {done.stderr[-1000:]}")
    return {
        "peak_mb": peak / 1024,
        "seconds": time.monotonic() - began,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints one line of Markdown table per video."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--frames", type=int, default=1024)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        if options.video is not None:
            videos = {options.video.name: options.video}
        else:
            videos = {
                f"{minutes} min": write_video(Path(folder) / f"{minutes}.mp4", 60 * minutes)
                for minutes in (1, 10)
            }
        print("| video | frames | peak memory | wall time, cold |")
        print("|---|---|---|---|")
        for name, path in videos.items():
            figures = measure(path, options.frames)
            print(
                f"| {name} | {options.frames} | {figures['peak_mb']:.0f} MB "
                f"| {figures['seconds']:.1f} s |"
            )


if __name__ == "__main__":
    main()
