"""Property of the readers: one mutation gives the right result or an error of one paragraph."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.data.mutations import READERS


@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # of mutated Python
@pytest.mark.parametrize("reader", READERS)
def test_readers_mutated_file_is_read_right_or_refused(tmp_path: Path, reader: str) -> None:
    """A part of the cases that `python -m tests.data.mutations 2500` runs."""
    outcomes = Counter(READERS[reader](tmp_path, random.Random(seed)) for seed in range(60))
    assert outcomes["refused"] > 10
    assert outcomes["read"] + outcomes["bad rows"] > 2
