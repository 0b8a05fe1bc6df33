"""Defines an answer as a scoring mode reads it."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

Mode = Literal["reference", "strict", "lmms_eval"]
"""Scoring modes.

reference: the published evaluation code's rule, bug for bug.
strict: an answer counts only if it names one option beyond doubt.
lmms_eval: the letter rule that the tasks of lmms-eval share since April 2026.
"""

MODES: tuple[Mode, ...] = get_args(Mode)

Status = Literal["parsed", "unparsed", "empty", "random"]


@dataclasses.dataclass(frozen=True)
class Reading:
    """An answer as one scoring mode reads it.

    Attributes:
        parsed: option letter or time span; empty if nothing was found.
        score: 0 or 1; an intersection over union in temporal grounding.
        status: `random` if the rule chose an option at random because it found none.
        counted: False if the rule leaves the question out of the mean.
        expected: mean score over the random choice; equals `score` unless `status` is `random`.
    """

    parsed: str
    score: float
    status: Status
    counted: bool = True
    expected: float = 0.0


Readings = dict[Mode, Reading]


def status_of(answer: str, parsed: str) -> Status:
    """Returns the status of an answer of which a rule without random choice read `parsed`."""
    if parsed:
        return "parsed"
    return "unparsed" if answer.strip() else "empty"
