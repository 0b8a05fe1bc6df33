"""Adds a bench's sub-command, and the flags that several benches share."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from pathlib import Path

from xcomp_jax.terminal.values import whole_number

COUNT = whole_number(1, 1 << 20)
"""Type of a number of frames, steps, rounds or tokens."""


def add_bench(
    commands: argparse._SubParsersAction, name: str, summary: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """Adds a sub-command and returns its parser.

    Args:
        summary: its line in the list of benches.
        description: text that is wrapped.
        examples: indented lines that are not wrapped.
    """
    return commands.add_parser(
        name,
        help=summary,
        description=textwrap.fill(description, 79),
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_count(parser: argparse.ArgumentParser, flag: str, noun: str, default: int) -> None:
    """Adds a flag with one number."""
    parser.add_argument(
        flag, type=COUNT, default=default, metavar="N", help=f"{noun} (default: {default})"
    )


def add_counts(
    parser: argparse.ArgumentParser,
    flag: str,
    noun: str,
    default: Sequence[int],
    *,
    nargs: int | str = "+",
) -> None:
    """Adds a flag with several numbers."""
    shown = " ".join(map(str, default))
    parser.add_argument(
        flag,
        type=COUNT,
        nargs=nargs,
        default=default,
        metavar="N",
        help=f"{noun} (default: {shown})",
    )


def add_video_file(parser: argparse.ArgumentParser) -> None:
    """Adds the video to measure, which may be left out."""
    parser.add_argument("video", type=Path, nargs="?", metavar="VIDEO", help="video file")


def add_checkpoint(parser: argparse.ArgumentParser, noun: str) -> None:
    """Adds `--checkpoint`."""
    parser.add_argument("--checkpoint", metavar="DIR", help=f"{noun} (default: the demo model)")
