"""Define the arguments of `xcomp preflight` and its table of pods, and run them."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from xcomp_jax.files import check_writable, write_text
from xcomp_jax.launch.preflight.environment import ENVIRONMENT
from xcomp_jax.launch.preflight.rows import ROWS
from xcomp_jax.terminal.standalone import run_standalone
from xcomp_jax.terminal.values import whole_number

DESCRIPTION = """Compiles the real programs of a run for a TPU or GPU pod that is not attached, and
reports whether they fit and how fast a step can be at best. For each program it prints memory per
device against capacity, operations, traffic between devices, and a lower bound of the run time: the
slowest of arithmetic, memory and links at the vendor's peak figures. If a training step does not
fit, it suggests changes. The exit code is 1 when a program does not fit."""

EXAMPLES = """examples:
  xcomp preflight --config configs/xcomp_2b.py --topology v5p:4x4x4
  xcomp preflight --config xcomp_2b --topology v5p:4x4x4 --frames 4096 --mesh fsdp=16,context=4
  xcomp preflight --config xcomp_2b --topology h100:8 --quick
  xcomp preflight --config xcomp_2b --topology v5e:4x4 --mode serve --mesh data=-1,fsdp=1
  xcomp preflight table --quick           # the published table of pods

topologies:
  TPU: v5e, v5p or v6e with the chips along each direction (v5p:4x4x4); needs libtpu
       (`pip install 'jax[tpu]'`)
  GPU: h100 or h200 with devices (h100:8) or hosts x devices (h100:4x8); needs the CUDA plugin of
  JAX (`pip install 'jax[cuda12]'`), no driver

Compiling a whole training step takes about 70 seconds of processor time per distinct number of
tokens for a TPU, and a tenth of that for a GPU. --quick takes a fraction. For TPUs both forms also
report the least memory with which the compiler can plan the whole step, since it uses whatever
memory the device has.
"""

COUNT = whole_number(1, 1 << 20)
"""Type of a number of frames or tokens."""

TABLE_DESCRIPTION = """Prints the table of pods for which the training step was compiled. Each
row is one `xcomp preflight` in its own process. Results are kept as files in --out, so that a new
call compiles only missing rows; with --quick, rows whose whole step was compiled are reused."""

TABLE_EXAMPLES = """examples:
  xcomp preflight table                        # every row, hours of compiling for TPUs
  xcomp preflight table --quick
  xcomp preflight table --rows v5e h100 --out runs/scaling
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of a check and the sub-command `table`."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="experiment file, or its bare name"
    )
    parser.add_argument(
        "--topology", metavar="NAME", help="pod to compile for: v5e:4x4, v5p:4x4x4, h100:8"
    )
    parser.add_argument(
        "--mode",
        choices=("train", "serve"),
        default="train",
        help="programs to compile: the training step, or those behind a question (default: train)",
    )
    parser.add_argument(
        "--mesh",
        metavar="AXIS=N,...",
        help="mesh axes, e.g. fsdp=-1 (default: the mesh of --config)",
    )
    parser.add_argument(
        "--frames",
        type=COUNT,
        metavar="N",
        help="frames per video (default: sampling.max_frames)",
    )
    parser.add_argument(
        "--text",
        type=whole_number(32, 1 << 20),
        metavar="N",
        help="text tokens per example (default: data.max_text_tokens; 863 with --mode serve)",
    )
    parser.add_argument(
        "--encoded",
        action="store_true",
        help="batches hold merged features from a feature store: no video encoder in the step",
    )
    parser.add_argument("--stage", metavar="NAME", help="training stage (default: the last one)")
    _add_quick(parser)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override one field of the experiment; may be repeated",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    parser.set_defaults(run=run)
    table = parser.add_subparsers(metavar="[table]").add_parser(
        "table",
        help="print the table of pods (xcomp preflight table --help)",
        description=TABLE_DESCRIPTION,
        epilog=TABLE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_table_arguments(table)


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the table of pods."""
    parser.add_argument(
        "--rows",
        nargs="+",
        choices=tuple(ROWS),
        default=list(ROWS),
        metavar="ROW",
        help=f"rows to print: {', '.join(ROWS)} (default: all)",
    )
    _add_quick(parser)
    parser.add_argument(
        "--encoded", action="store_true", help="batches hold merged features from a feature store"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/scaling"),
        metavar="DIR",
        help="folder of the compiled figures (default: %(default)s)",
    )
    parser.set_defaults(run=run_table)


def _add_quick(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quick",
        "--stages-only",
        action="store_true",
        help="compile only the first and the last layer group of the decoder and extrapolate the "
        "others (--stages-only is the old name)",
    )


def run(options: argparse.Namespace) -> int:
    """Prints the report of one check; returns 1 when a program does not fit."""
    os.environ.update(ENVIRONMENT)  # before JAX is imported
    from xcomp_jax.config import ConfigError
    from xcomp_jax.launch.preflight.check import check

    for name in ("config", "topology"):
        if getattr(options, name) is None:
            raise ConfigError(
                f"--{name} is missing; for example --config configs/xcomp_2b.py --topology "
                "v5p:4x4x4, or `table` for the table of pods"
            )
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        check_writable(options.json)
    figures = check(options)
    if options.json is not None:
        write_text(options.json, json.dumps(figures, indent=1) + "\n")
    return 0 if all(program["fits"] for program in figures["programs"]) else 1


def run_table(options: argparse.Namespace) -> int:
    """Compiles the missing rows and prints the table; returns 1 if a row could not be compiled."""
    from xcomp_jax.launch.preflight.table import compile_rows, table

    figures = compile_rows(options.rows, options.out, quick=options.quick, encoded=options.encoded)
    print(table(figures))
    return 0 if len(figures) == len(options.rows) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `xcomp preflight` without the other commands; returns the exit code."""
    return run_standalone("xcomp preflight", DESCRIPTION, EXAMPLES, add_arguments, arguments)
