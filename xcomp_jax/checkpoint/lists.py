"""Formats lists for messages, cut at ten with a count."""

from __future__ import annotations

from collections.abc import Sequence

LISTED = 10
"""Length at which lists in messages are cut."""


def short_list(names: Sequence[str]) -> str:
    """Joins names by commas; of more than ten, the rest is counted."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def bullets(problems: Sequence[str]) -> str:
    """Formats problems as lines; of more than ten, the rest is counted."""
    lines = [f"\n  - {problem}" for problem in problems[:LISTED]]
    if len(problems) > LISTED:
        lines.append(f"\n  and {len(problems) - LISTED} more")
    return "".join(lines)
