"""One error type for everything a checkpoint can be refused for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator


class ConversionError(ValueError):
    """A checkpoint that cannot be converted.

    Attributes:
        subject: the file, folder or model it is about.
        problems: every problem that was found, one sentence each; never empty.
    """

    def __init__(self, subject: str, problems: Iterable[str]) -> None:
        self.subject, self.problems = subject, list(problems)
        count = len(self.problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{subject}: {count} problem{'s' * (count != 1)}{lines}")


def refuse(subject: object, problems: Iterable[str]) -> None:
    """Raises ConversionError when there is at least one problem."""
    problems = list(problems)
    if problems:
        raise ConversionError(str(subject), problems)


@contextlib.contextmanager
def collect(problems: list[str]) -> Iterator[None]:
    """Adds the problems of a refusal inside the block to `problems` instead of raising it."""
    try:
        yield
    except ConversionError as error:
        problems += [f"{error.subject}: {problem}" for problem in error.problems]
