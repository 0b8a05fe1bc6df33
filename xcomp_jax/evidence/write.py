"""Evidence as a file, there whole or not at all."""

from __future__ import annotations

from pathlib import Path

from xcomp_jax.evidence.json_text import to_json
from xcomp_jax.evidence.page import to_html
from xcomp_jax.evidence.record import Evidence
from xcomp_jax.files import write_text

WRITERS = {".json": to_json, ".html": to_html}


def check_evidence_path(path: str | Path) -> Path:
    """`path` if evidence can be written there: to be asked before the work, not after it.

    Raises:
        ValueError: the suffix is neither .json nor .html, or the folder does not exist.
    """
    place = Path(path)
    if place.suffix.lower() not in WRITERS:
        raise ValueError(
            f"{place}: evidence is written as .json (for programs) or .html (a page to look at), "
            f"and this name ends in {place.suffix or 'neither'}. Change the ending."
        )
    if not place.parent.is_dir():
        raise ValueError(f"{place}: there is no folder {place.parent}. Create it first.")
    return place


def write_evidence(evidence: Evidence, path: str | Path) -> None:
    """Writes JSON or an HTML page, by the suffix of `path`, replacing what is there.

    Raises:
        ValueError: as `check_evidence_path`.
    """
    place = check_evidence_path(path)
    write_text(place, WRITERS[place.suffix.lower()](evidence))
