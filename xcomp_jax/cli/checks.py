"""Checks options, names and questions before anything slow is imported or loaded."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from xcomp_jax.terminal.output import check_text

SELECTION = ("repeats", "segment", "stride", "layers", "granularity")
DEFAULT_SEGMENT = 8

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def flag(name: str) -> str:
    """Returns the flag of an option's name."""
    return f"--{name.replace('_', '-')}"


def refuse_without_effect(options: argparse.Namespace, names: Iterable[str], reason: str) -> None:
    """Raises ValueError if one of the options `names` is set.

    Args:
        reason: end of the sentence "--NAME has no effect ...".
    """
    for name in names:
        if getattr(options, name, None) is not None:
            raise ValueError(f"{flag(name)} has no effect {reason}")


def check_options(options: argparse.Namespace) -> None:
    """Raises ValueError for an option of a model command that has no effect beside the others."""
    if not getattr(options, "temperature", None):
        refuse_without_effect(
            options,
            ("top_p", "seed"),
            "without --temperature, because decoding is greedy; add --temperature above 0",
        )
    if options.checkpoint is None:
        refuse_without_effect(options, ["revision"], "without --checkpoint and a hub id")
    if options.store is None:
        refuse_without_effect(options, ["store_gib"], "without --store DIR")
    if options.select == "all":
        refuse_without_effect(options, SELECTION, "with --select all, which scores no frame")
    if options.segment == 0:
        refuse_without_effect(options, ["stride"], "with --segment 0, which scores whole windows")
    elif (options.stride or 1) > (options.segment or DEFAULT_SEGMENT):
        raise ValueError(
            f"--stride {options.stride} is larger than --segment "
            f"{options.segment or DEFAULT_SEGMENT}, so that clips in between would never be scored"
        )
    start, end = getattr(options, "start", None), getattr(options, "end", None)
    if end is not None and end <= (start or 0):
        raise ValueError(
            f"--end {end:g} must lie after --start {start or 0:g}; both are seconds from the "
            "beginning of the video"
        )


def check_checkpoint(options: argparse.Namespace) -> None:
    """Raises ValueError if `--checkpoint` cannot be a folder or a hub id."""
    name = options.checkpoint
    if name is None:
        return
    path = Path(name).expanduser()
    if path.is_dir():
        if options.revision is not None:
            raise ValueError(
                f"--revision {options.revision} applies to a hub id, but --checkpoint {name} is a "
                "local folder; remove --revision"
            )
        return
    if path.exists():
        raise ValueError(f"--checkpoint {name} is a file; use the folder that contains it")
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    if near or not _HUB_ID.fullmatch(name):
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ValueError(
            f"--checkpoint {name}: no such folder"
            + (hint or ", and not a hub id (OWNER/NAME); check the path")
        )


def check_question(question: str) -> str:
    """Returns a question; raises ValueError if it is empty or not UTF-8."""
    check_text(question, "the question")
    if not question.strip():
        raise ValueError("the question is empty; pass a text")
    return question


def check_within(options: argparse.Namespace, duration: float) -> None:
    """Raises ValueError if `--start` lies after the end of the video of `duration` seconds."""
    if options.start is not None and options.start >= duration:
        raise ValueError(
            f"--start {options.start:g} lies after the end of the video, which has "
            f"{duration:.2f} s; use a smaller number of seconds"
        )
