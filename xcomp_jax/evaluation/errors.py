"""Exception of the evaluation package."""

from __future__ import annotations


class DataError(ValueError):
    """Raised when a benchmark's data folder or a run's rows cannot be used.

    The message gives the file, the problem and what to do.
    """
