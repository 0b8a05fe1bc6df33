"""Defines the arguments of `xcomp bench paper`."""

from __future__ import annotations

import argparse
from pathlib import Path

from xcomp_jax.launch.bench.flags import add_bench
from xcomp_jax.terminal.values import whole_number

TABLES = ("2", "3", "4", "B", "D", "E")
ROLES = ("base", "none", "stepwise", "uniform", "progressive")

DESCRIPTION = """Fills tables of the XComp paper with figures of a checkpoint, beside the published
ones: 2 ways to compress, 3 tokens that a drop keeps, 4 selection of frames, B numbers of frames, D
needles in a haystack, E operations and time. Without --checkpoint, tiny models are trained on
generated videos, which shows in kind what the tables compare; their scores say nothing about the
published model. After an interruption, run the command again: finished rows are not run again."""

EXAMPLES = """\
  xcomp bench paper --table 2 3 4 --out runs/paper                  # tiny models, any machine
  xcomp bench paper --table 2 --out runs/try --seeds 1 --set stages.0.num_steps=200
  xcomp bench paper --table 4 --out runs/lvbench --data /data \\
      --checkpoint checkpoints/xcomp-2b                    # reads /data/lvbench, /data/mlvu
  xcomp bench paper --table 2 --out runs/lvbench --data /data \\
      --checkpoint base=checkpoints/vcf-2b --checkpoint progressive=checkpoints/xcomp-2b
  xcomp bench paper --table E --out runs/paper
"""


def add_paper(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = add_bench(
        commands,
        "paper",
        "fill the paper's tables with figures of a checkpoint or of tiny models",
        DESCRIPTION,
        EXAMPLES,
    )
    parser.add_argument(
        "--table", nargs="+", required=True, choices=TABLES, metavar="T", help="2, 3, 4, B, D or E"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of runs and tables"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=Path("~/.cache/xcomp-jax/compiled"),
        metavar="DIR",
        help="folder of compiled programs (default: %(default)s)",
    )
    _add_checkpoints(parser.add_argument_group("checkpoints and benchmarks"))
    _add_tiny_models(parser.add_argument_group("tiny models"))


def _add_checkpoints(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="[ROLE=]DIR",
        help=f"checkpoint of the rows of a role, one of {', '.join(ROLES)} (default role: "
        "progressive); rows without one stay empty; may be repeated",
    )
    group.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder with one data folder per benchmark: lvbench, mlvu, longvideobench, and "
        "niah_single and niah_multi for table D (default for D: a generated haystack)",
    )
    group.add_argument(
        "--limit",
        type=whole_number(1, 1 << 30),
        metavar="N",
        help="ask only the first N questions of each row (default: all)",
    )


def _add_tiny_models(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--seeds",
        type=whole_number(0, (1 << 31) - 1),
        nargs="+",
        default=None,
        metavar="N",
        help="seeds of data, parameters and order; three or more give intervals over seeds "
        "(default: 1 2 3)",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override one field of configs/paper_in_small.py; may be repeated",
    )
