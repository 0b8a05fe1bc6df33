"""Runs one command of `xcomp` without the others, for machines that lack their packages."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from xcomp_jax.terminal.output import describe, use_lossless_text
from xcomp_jax.terminal.parser import CommandParser


def run_standalone(
    name: str,
    description: str,
    examples: str,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    arguments: Sequence[str] | None = None,
) -> int:
    """Parses the arguments of command `name` and runs it; returns the exit code.

    User errors print one paragraph on stderr and give exit code 2.
    """
    use_lossless_text()
    parser = CommandParser(prog=name, description=description, epilog=examples)
    add_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError) as error:
        print(f"{name}: {describe(error)}", file=sys.stderr)
        return 2
