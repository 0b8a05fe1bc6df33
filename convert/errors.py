"""Error type of the converter, which lists every problem at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from xcomp_jax.checkpoint.lists import bullets


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
        first = f"{diagnosis} ({count})" if diagnosis else count
        super().__init__(f"{subject}: {first}{bullets(self.problems)}")


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
