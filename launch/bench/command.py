"""Measures this project on the device at hand.

    python -m launch.bench kernels                 # attention and clip scoring, one table
    python -m launch.bench gpu                     # everything, in 8 minutes; JSON and Markdown
    python -m launch.bench gpu --tiny              # the same on a toy, on any machine
    python -m launch.bench blocks --write          # fastest block sizes, into the kernels' table
    python -m launch.bench fit v5e h200            # frames that fit a device that is not there

Needs JAX, Flax, Optax and Orbax. `fit` needs the compiler of what it is asked about: libtpu for
TPUs, a CUDA plugin of JAX for GPUs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "blocks" and options.write and options.tiny:
        parser.error("--write and --tiny: what is fastest for a toy is of no use in the table")
    if options.command == "fit":
        from xcomp_jax.launch.preflight.environment import ENVIRONMENT

        os.environ.update(ENVIRONMENT)  # before JAX looks for devices
    # Once the environment says so: importing these imports JAX.
    from xcomp_jax.launch.bench import blocks, fit, gpu, kernels, results
    from xcomp_jax.launch.bench.clock import Deadline

    deadline = Deadline(getattr(options, "minutes", 0))
    match options.command:
        case "kernels":
            sections = {"Kernels": list(kernels.measure(tiny=options.tiny, deadline=deadline))}
        case "gpu":
            sections = gpu.measure(tiny=options.tiny, deadline=deadline)
        case "blocks":
            sections = {"Block sizes": list(blocks.measure(deadline, tiny=options.tiny))}
            if options.write:
                blocks.add_to_table(sections["Block sizes"])
        case "fit":
            found = fit.measure(
                options.machines, tuple(options.frames), tiny=options.tiny, whole=options.whole
            )
            print(results.table(list(found)))
            return 0
    for title, rows in sections.items():
        print(f"\n{title}\n\n{results.table(rows)}")
    if not options.tiny or options.out is not None:
        print(
            f"\nwritten: {results.write(options.command, sections, options.out or results.RESULTS)}"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m launch.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, words, minutes in (
        ("kernels", "attention and clip scoring, each implementation of each", 8),
        # What begins last may take a minute and a half: eight in all.
        ("gpu", "kernels, prefill, encoder, decoding, a training step", 6.5),
        ("blocks", "search the fastest block sizes", 60),
    ):
        command = commands.add_parser(
            name, help=words, description=words, epilog=f"example: python -m launch.bench {name}"
        )
        command.add_argument(
            "--minutes", type=float, default=minutes, help="begin nothing new after (%(default)s)"
        )
        command.add_argument("--out", type=Path, help="folder of results (launch/bench/results)")
        if name == "blocks":
            command.add_argument("--write", action="store_true", help="add to the kernels' table")
        command.add_argument(
            "--tiny", action="store_true", help="a toy; written only where --out says"
        )
    command = commands.add_parser(
        "fit",
        help="frames that fit a device, by compiling for it",
        epilog="example: python -m launch.bench fit v5e --frames 4096 12288",
    )
    command.add_argument("machines", nargs="+", metavar="MACHINE", help="v5e v5p v6e h100 h200")
    command.add_argument(
        "--frames", nargs=2, type=int, default=(1024, 4096), help="compiled sizes (1024 4096)"
    )
    command.add_argument("--tiny", action="store_true", help="a toy")
    command.add_argument(
        "--whole", action="store_true", help="compile all distinct lengths (minutes for a TPU)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
