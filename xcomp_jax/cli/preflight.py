"""`xcomp preflight`: compile a run for a pod that is not attached."""

from __future__ import annotations

import argparse

from xcomp_jax.launch.preflight.command import DESCRIPTION, EXAMPLES, add_arguments


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = commands.add_parser(
        "preflight",
        help="check whether a run fits a TPU or GPU pod, without the pod",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
