"""Defines the interface between the training loop and a set of training examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import grain

from xcomp_jax.data.padding import Example


class TrainingSet(Protocol):
    """A set of rows to train on, implemented by `PreparedDataset` and `MixtureDataset`."""

    def __len__(self) -> int:
        """Returns the number of rows."""

    def row_id(self, row: int) -> str:
        """Returns the readable name of a row, for logs and error messages."""

    def examples(self, *, batch_size: int, seed: int) -> Callable[[int], Example]:
        """Returns a function from a position in the endless example stream to the example there.

        Positions `i * batch_size` to `(i + 1) * batch_size - 1` form batch i, and their examples
        have equal shapes. The stream is a pure function of the rows and the arguments, so that
        every process can compute any part of it.
        """

    @property
    def read_options(self) -> grain.ReadOptions:
        """Reader threads and read-ahead buffer that suit the size of one example."""
