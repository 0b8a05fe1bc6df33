"""Error type of the converter, which lists every problem at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

LISTED = 10
"""Length at which lists in messages are cut."""


class ConversionError(ValueError):
    """Raised when a checkpoint cannot be converted, read or compared.

    Attributes:
        subject: file, folder or model that the error is about.
        problems: one sentence for each problem; never empty. The message shows the first ten.
        diagnosis: one sentence that explains them all, if there is one.
    """

    def __init__(self, subject: str, problems: Iterable[str], diagnosis: str = "") -> None:
        self.subject, self.problems, self.diagnosis = subject, list(problems), diagnosis
        if len(self.problems) == 1 and not diagnosis:
            super().__init__(f"{subject}: {self.problems[0]}")
            return
        count = f"{len(self.problems)} problems"
        lines = [f"{subject}: {diagnosis} ({count})" if diagnosis else f"{subject}: {count}"]
        lines += [f"  - {problem}" for problem in self.problems[:LISTED]]
        if len(self.problems) > LISTED:
            lines.append(f"  and {len(self.problems) - LISTED} more")
        super().__init__("\n".join(lines))


def short_list(names: Sequence[str]) -> str:
    """Joins names by commas; of more than ten, the rest is counted."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def raise_problems(subject: object, problems: Iterable[str]) -> None:
    """Raises ConversionError if there is at least one problem."""
    problems = list(problems)
    if problems:
        raise ConversionError(str(subject), problems)


@contextlib.contextmanager
def collect_problems(problems: list[str]) -> Iterator[None]:
    """Appends the problems of a ConversionError inside the block to `problems`."""
    try:
        yield
    except ConversionError as error:
        problems += [f"{error.subject}: {problem}" for problem in error.problems]
