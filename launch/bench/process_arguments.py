"""Defines the benches of whole commands: they run what a user runs, from start to end."""

from __future__ import annotations

import argparse
from pathlib import Path

from xcomp_jax.launch.bench.flags import add_bench, add_checkpoint, add_count, add_video_file
from xcomp_jax.terminal.values import real_number


def add_ask(commands: argparse._SubParsersAction) -> None:
    """Adds `ask`."""
    parser = add_bench(
        commands,
        "ask",
        "measure time and peak memory of `xcomp ask`",
        "Measures each `xcomp ask` as a process of its own that compiles everything. CPU time "
        "includes ffmpeg; peak memory is that of the Python process alone. With --against, another "
        "checkout of this repository answers the same question in turn.",
        "  xcomp bench ask                      # generated videos of 1 and 10 minutes\n"
        "  xcomp bench ask film.mp4 --checkpoint runs/smoke/checkpoint --against ../before",
    )
    add_video_file(parser)
    add_count(parser, "--frames", "frames per video", 1024)
    add_checkpoint(parser, "model to ask")
    parser.add_argument(
        "--against", type=Path, metavar="FOLDER", help="another checkout to compare"
    )
    add_count(parser, "--rounds", "runs of each; the shortest counts", 1)


def add_serve(commands: argparse._SubParsersAction) -> None:
    """Adds `serve`."""
    parser = add_bench(
        commands,
        "serve",
        "measure a server with concurrent clients",
        "Starts `xcomp serve`, sends questions one by one and by concurrent clients, and compares "
        "throughput, answers and the time to the first token. With --soak, watches, asks and "
        "deletes for some minutes and compares memory and open files.",
        "  xcomp bench serve --checkpoint runs/smoke/checkpoint\n  xcomp bench serve --soak 30",
    )
    add_checkpoint(parser, "model to serve")
    add_count(parser, "--requests", "questions of each phase", 200)
    add_count(parser, "--clients", "concurrent clients", 16)
    add_count(parser, "--videos", "videos that the questions are about", 4)
    add_count(parser, "--max-tokens", "most tokens per answer", 64)
    parser.add_argument(
        "--soak",
        type=real_number(0, 1 << 20, above=True),
        metavar="MINUTES",
        help="watch, ask and delete for this time instead",
    )


def add_training_overhead(commands: argparse._SubParsersAction) -> None:
    """Adds `training-overhead`."""
    parser = add_bench(
        commands,
        "training-overhead",
        "measure the host's share of a training step",
        "Tunes the smoke model on generated videos, once from the files and once from stored "
        "merged features, and reports the time spent waiting for data and outside compiled code. "
        "The first 10 steps compile and do not count; the last 20 run under JAX's profiler. Also "
        "measures decoding and feature reading in processor time, and derives the host cores that "
        "a v5p-64 needs. Runs on a CPU, some minutes on two cores.",
        "  xcomp bench training-overhead\n"
        "  xcomp bench training-overhead --steps 40 --folder /tmp/overhead",
    )
    add_count(parser, "--steps", "steps per loop", 80)
    add_count(parser, "--videos", "videos to generate", 64)
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="keep files in DIR (default: a temporary folder)"
    )


def add_convert_roundtrip(commands: argparse._SubParsersAction) -> None:
    """Adds `convert-roundtrip`."""
    parser = add_bench(
        commands,
        "convert-roundtrip",
        "measure time and memory of converting a full-size checkpoint",
        "Writes a random checkpoint in the original's layout, converts it to ours and back twice, "
        "and compares all tensors bit by bit. Needs four times the size of the weights on disk.",
        "  xcomp bench convert-roundtrip --folder /large/disk",
    )
    parser.add_argument(
        "--folder", type=Path, required=True, metavar="DIR", help="folder for temporary files"
    )
    parser.add_argument(
        "--variant", metavar="NAME", help="published model (default: the 2B; see convert variants)"
    )
    parser.add_argument("--dtype", metavar="DTYPE", help="stored dtype (default: bfloat16)")
