"""`xcomp bench`: measure speed, memory and cost on this machine."""

from __future__ import annotations

import argparse

from xcomp_jax.launch.bench.arguments import DESCRIPTION, EXAMPLES
from xcomp_jax.launch.bench.command import add_arguments


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = commands.add_parser(
        "bench",
        help="measure kernels, model, selection and training on this machine",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
