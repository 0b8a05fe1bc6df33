"""Holds the text after the video for scoring."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Query:
    """Token ids of the text after the video, and the index of the assistant's header.

    Rows before the header are the question; the header and later rows are not scored.
    """

    ids: tuple[int, ...]
    header: int

    @classmethod
    def of(cls, ids: Sequence[int], start: int, assistant: int) -> Query:
        """Builds a query by finding the first header, the pair of ids (`start`, `assistant`).

        Raises:
            ValueError: there is no header.
        """
        pairs = itertools.pairwise(ids)
        header = next((i for i, pair in enumerate(pairs) if pair == (start, assistant)), None)
        if header is None:
            raise ValueError("the text after the video contains no assistant header")
        return cls(tuple(ids), header)
