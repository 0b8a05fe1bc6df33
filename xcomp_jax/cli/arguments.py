"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_cache_dir(parser: argparse.ArgumentParser) -> None:
    """`--cache-dir`, where compiled programs are kept between processes."""
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=Path("~/.cache/xcomp-jax/compiled"),
        metavar="DIR",
        help="compiled programs are kept here, so that the next run starts faster "
        "(default: %(default)s)",
    )
