"""Writes evidence to a file."""

from __future__ import annotations

from pathlib import Path

from xcomp_jax.evidence.document import GENERATOR
from xcomp_jax.evidence.json_text import to_json
from xcomp_jax.evidence.page import to_html
from xcomp_jax.evidence.record import Evidence
from xcomp_jax.files import check_writable, write_text

WRITERS = {".json": to_json, ".html": to_html}

MARKS = {".json": '"format": "xcomp evidence', ".html": GENERATOR}
"""Text near the beginning of a file that may be replaced."""

MARK_BYTES = 2048


def check_evidence_path(path: str | Path) -> Path:
    """Returns `path` if evidence can be written there; call it before expensive work.

    Raises:
        ValueError: the suffix is neither .json nor .html, no file can be written there, or there is
            a file that is no evidence.
    """
    target = Path(path)
    if target.suffix.lower() not in WRITERS:
        raise ValueError(
            f"{target}: the suffix is {target.suffix or 'missing'}; use .json (for programs) or "
            ".html (a web page)"
        )
    check_writable(target)
    if target.exists():
        with target.open("rb") as file:
            beginning = file.read(MARK_BYTES)
        if beginning and MARKS[target.suffix.lower()].encode() not in beginning:
            raise ValueError(
                f"{target} exists and was not written by `xcomp ask --evidence`; name another file"
            )
    return target


def write_evidence(evidence: Evidence, path: str | Path) -> None:
    """Writes JSON or an HTML page, depending on the suffix of `path`; replaces earlier evidence.

    The file is written completely or not at all.

    Raises:
        ValueError: as `check_evidence_path`.
    """
    target = check_evidence_path(path)
    write_text(target, WRITERS[target.suffix.lower()](evidence))
