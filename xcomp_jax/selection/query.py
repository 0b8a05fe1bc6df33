"""Holds the text after the video for scoring."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Query:
    """Token ids of the text after the video, and the rows of it whose attention is the score.

    question_start: first row of the question; header: index of the assistant's header, which ends
    the question.
    """

    ids: tuple[int, ...]
    question_start: int
    header: int

    @classmethod
    def of(
        cls, ids: Sequence[int], *, query_bias: int, text_start: int, header_ids: tuple[int, int]
    ) -> Query:
        """Builds a query whose question ends at the first header.

        Args:
            query_bias: first row of the question (`SelectionConfig.query_bias`).
            text_start: first row after the time message; used where `query_bias`, which fits most
                time messages only approximately, leaves no row of a short question.
            header_ids: token ids that open the assistant's turn.

        Raises:
            ValueError: there is no header.
        """
        pairs = itertools.pairwise(ids)
        header = next((i for i, pair in enumerate(pairs) if pair == header_ids), None)
        if header is None:
            raise ValueError("the text after the video contains no assistant header")
        # The original fails where no row is left.
        return cls(tuple(ids), query_bias if query_bias < header else text_start, header)
