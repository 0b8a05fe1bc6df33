"""Defines the arguments of `xcomp bench video`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xcomp_jax.launch.bench.flags import COUNT, add_bench, add_count, add_counts
from xcomp_jax.terminal.values import whole_number

FRAMES = (64, 512, 1024, 4096)

DESCRIPTION = """Reads evenly spaced frames of each file, every reader in a process of its own, and
prints wall time, CPU time and peak memory of the process and its children, with opening the file.
Readers take turns; the shortest of several runs counts. Frames read in spans must equal those of
one pass. With --scaling, measures every span alone on one core and computes the time on several."""

EXAMPLES = """\
  xcomp bench video film.mp4 --peer decord --peer pyav --peer-python ~/peers/bin/python
  xcomp bench video film.mp4 --frames 1024 --scaling --workers 1 2 4 16 64
"""


def add_video(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = add_bench(
        commands,
        "video",
        "compare reading frames of a video with one pass, decord and PyAV",
        DESCRIPTION,
        EXAMPLES,
    )
    parser.add_argument("videos", type=Path, nargs="+", metavar="FILE", help="video file")
    add_counts(parser, "--frames", "numbers of frames", FRAMES)
    parser.add_argument(
        "--size",
        type=whole_number(0, 1 << 13),
        default=0,
        metavar="N",
        help="side to which frames are resized by Pillow; 0 keeps them (default: %(default)s)",
    )
    add_count(parser, "--rounds", "runs of each reader", 1)
    parser.add_argument("--no-one-pass", action="store_true", help="leave out decoding in one pass")
    parser.add_argument("--scaling", action="store_true", help="compute the time on several cores")
    parser.add_argument(
        "--workers",
        type=COUNT,
        nargs="+",
        metavar="N",
        help="cores to use, several with --scaling (default: all that this process may use)",
    )
    peers = parser.add_argument_group("other readers")
    peers.add_argument(
        "--peer",
        action="append",
        choices=("decord", "pyav"),
        help="another reader to measure; may be repeated",
    )
    peers.add_argument(
        "--peer-python",
        type=Path,
        default=Path(sys.executable),
        metavar="PATH",
        help="Python interpreter of an environment with decord or PyAV (default: this one)",
    )
