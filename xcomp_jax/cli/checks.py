"""Checks options, names and questions before anything slow is imported or loaded."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from xcomp_jax.terminal.output import check_text

CONFIGS = Path(__file__).parents[1] / "configs"

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
        value = getattr(options, name, None)
        if value is not None and value is not False and value != []:
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
    """Raises ValueError if `--checkpoint` can be neither a folder nor a hub id."""
    if options.checkpoint is None:
        return
    check_folder(options.checkpoint, "--checkpoint ", may_be_hub_id=True)
    if options.revision is not None and Path(options.checkpoint).expanduser().is_dir():
        raise ValueError(
            f"--revision {options.revision} applies to a hub id, but --checkpoint "
            f"{options.checkpoint} is a local folder; remove --revision"
        )


def check_folder(name: str | Path, label: str = "", *, may_be_hub_id: bool = False) -> None:
    """Raises ValueError, with the nearest existing name, unless the folder `name` exists.

    Args:
        label: flag in front of the name in messages.
        may_be_hub_id: accept OWNER/NAME, unless a folder has nearly the same name.
    """
    path = Path(name).expanduser()
    if not str(name):
        raise ValueError(f"{label.strip()} is empty; name a folder")
    if path.is_dir():
        return
    if path.exists():
        raise ValueError(f"{label}{name} is a file; use the folder that contains it")
    near = _nearest_sibling(path)
    if near is None and may_be_hub_id and _HUB_ID.fullmatch(str(name)):
        return
    hub = ", and not a hub id (OWNER/NAME)" if may_be_hub_id else ""
    hint = "check the path" if near is None else f"did you mean {near}?"
    raise ValueError(f"{label}{name}: no such folder{hub}; {hint}")


def check_file(path: Path | None, label: str = "") -> None:
    """Raises ValueError, with the nearest existing name, unless the file exists or is None."""
    if path is None or path.expanduser().is_file():
        return
    near = _nearest_sibling(path.expanduser())
    hint = "check the path" if near is None else f"did you mean {near}?"
    reason = "is a folder; name a file" if path.is_dir() else f"no such file; {hint}"
    raise ValueError(f"{label}{path}{' ' if path.is_dir() else ': '}{reason}")


def check_config(path: Path | None) -> None:
    """Raises ValueError unless `--config` is None, a file, or the name of a shipped file."""
    names = sorted(file.stem for file in CONFIGS.glob("[!_]*.py"))
    if path is None or path.is_file() or str(path) in names:
        return
    near = difflib.get_close_matches(path.stem, names, n=1)
    hint = (
        f"did you mean {near[0]}?" if near else "give the path of one, or the name of a shipped one"
    )
    raise ValueError(f"--config {path}: no such configuration file; {hint} ({', '.join(names)})")


def _nearest_sibling(path: Path) -> Path | None:
    """Returns the path whose name is nearest to that of `path` in the same folder, if any is."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return None
    near = difflib.get_close_matches(path.name, names, n=1)
    return path.parent / near[0] if near else None


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
