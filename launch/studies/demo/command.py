"""Parses the commands that make the demo."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from xcomp_jax.demo import FOLDER

DESCRIPTION = """Makes the checkpoint and the videos of `xcomp demo`: generates the training data,
and packages the run of configs/demo.py that was trained on it."""

EXAMPLES = """examples:
  python -m xcomp_jax.launch.studies.demo data runs/demo-data
  xcomp tune --config configs/demo.py --workdir runs/demo
  python -m xcomp_jax.launch.studies.demo package runs/demo
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command."""
    parser = argparse.ArgumentParser(
        prog="python -m xcomp_jax.launch.studies.demo",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    data = commands.add_parser("data", help="generate training videos and questions")
    data.add_argument("folder", type=Path, help="folder to fill")
    package = commands.add_parser("package", help="package a finished run and check its answers")
    package.add_argument("workdir", type=Path, help="folder of a finished run of configs/demo.py")
    options = parser.parse_args(arguments)
    if options.command == "data":
        from xcomp_jax.launch.studies.demo.data import write_data

        write_data(options.folder)
        return 0
    from xcomp_jax.launch.studies.demo.package import check
    from xcomp_jax.launch.studies.demo.package import package as write_package

    write_package(options.workdir, FOLDER)
    right, total = check()
    print(f"{right} of {total} answers are right")
    return 0
