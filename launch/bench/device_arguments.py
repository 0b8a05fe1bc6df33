"""Defines the benches of an accelerator: measured on one, or compiled for one."""

from __future__ import annotations

import argparse
from pathlib import Path

from xcomp_jax.launch.bench.cycles import names as cycles
from xcomp_jax.launch.bench.flags import COUNT, add_bench, add_counts
from xcomp_jax.terminal.values import real_number

RESULTS = Path("runs/bench")
MACHINES = ("v5e", "v5p", "v6e", "h100", "h200")


def add_device_benches(commands: argparse._SubParsersAction) -> None:
    """Adds `kernels`, `gpu` and `blocks`, which measure on the device of this machine."""
    # The last part may start just before the limit and take a minute and a half more: `gpu` takes
    # at most six minutes.
    for name, summary, minutes in (
        ("kernels", "measure each implementation of attention and clip scores", 8),
        ("gpu", "measure encoder, prefill, kernels, and a file to an answer", 4.5),
        ("blocks", "search the fastest block sizes of the kernels", 60),
    ):
        example = f"  xcomp bench {name}"
        parser = add_bench(commands, name, summary, f"{summary.capitalize()}.", example)
        parser.add_argument(
            "--minutes",
            type=real_number(0),
            default=minutes,
            metavar="M",
            help="start no new measurement after M minutes (default: %(default)s)",
        )
        parser.add_argument(
            "--out", type=Path, metavar="DIR", help=f"folder of the results (default: {RESULTS})"
        )
        parser.add_argument(
            "--tiny", action="store_true", help="tiny shapes; written only with --out"
        )
        if name == "blocks":
            parser.add_argument(
                "--write", action="store_true", help="add the sizes found to the kernels' table"
            )


def add_fit(commands: argparse._SubParsersAction) -> None:
    """Adds `fit`."""
    parser = add_bench(
        commands,
        "fit",
        "count the frames that fit a device, by compiling for it",
        "Compiles the prefill of the 2B model for devices that are not attached, at two numbers of "
        "frames, and extrapolates to the number that fills the memory.",
        "  xcomp bench fit v5e --frames 4096 12288",
    )
    parser.add_argument(
        "machines", nargs="+", choices=MACHINES, metavar="MACHINE", help=", ".join(MACHINES)
    )
    add_counts(parser, "--frames", "compiled numbers of frames", (1024, 4096), nargs=2)
    parser.add_argument("--tiny", action="store_true", help="a tiny model")
    parser.add_argument(
        "--whole",
        action="store_true",
        help="compile every distinct number of tokens, not two (minutes for a TPU)",
    )


def add_cycles(commands: argparse._SubParsersAction) -> None:
    """Adds `cycles`."""
    parser = add_bench(
        commands,
        "cycles",
        "print a TPU compiler's estimates of the cycles of the model's parts",
        "Compiles parts of the 2B model for a TPU that is not attached, sums the compiler's "
        "estimate of the cycles of every operation, and compares it with the least that the matrix "
        "products need. These are estimates, not measurements; kernels have none. Takes minutes of "
        "processor time. With --check the exit code is 1 when a share of the peak falls.",
        "  xcomp bench cycles v5e\n"
        "  xcomp bench cycles v6e --programs encoder-block --operations 20\n"
        "  xcomp bench cycles v5p --check docs/cycles.md",
    )
    parser.add_argument(
        "machine", choices=cycles.MACHINES, metavar="MACHINE", help=", ".join(cycles.MACHINES)
    )
    parser.add_argument(
        "--programs",
        nargs="+",
        choices=cycles.PROGRAMS,
        metavar="NAME",
        help=f"programs to compile: {', '.join(cycles.PROGRAMS)} (default: all)",
    )
    parser.add_argument(
        "--operations",
        type=COUNT,
        metavar="N",
        help="also list the N operations of each program with the most cycles",
    )
    parser.add_argument(
        "--check", type=Path, metavar="FILE", help="compare with the tables stored in FILE"
    )
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="store the tables in FILE, in Markdown"
    )
