"""The text after the video, as scoring needs it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Query:
    """Token ids of the text after the video, and the index at which the assistant's header begins.

    Rows before the header are the question; the header's and later rows never score.
    """

    ids: tuple[int, ...]
    header: int

    @classmethod
    def of(cls, ids: Sequence[int], start: int, assistant: int) -> Query:
        """Finds the first header, the pair of ids (`start`, `assistant`).

        Raises:
            ValueError: there is none.
        """
        pairs = itertools.pairwise(ids)
        header = next((i for i, pair in enumerate(pairs) if pair == (start, assistant)), None)
        if header is None:
            raise ValueError("the text after the video holds no assistant header")
        return cls(tuple(ids), header)
