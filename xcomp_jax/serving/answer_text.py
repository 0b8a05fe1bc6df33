"""Turns tokens into text as they arrive: whole characters only, up to a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xcomp_jax.text.prompts import answer_text

INCOMPLETE = "\ufffd"
"""Decoded in place of a character whose last bytes are still missing."""


class AnswerText:
    """Decodes one answer; all texts of `add` together equal `answer_text` of all tokens.

    Args:
        stop: texts before which the answer ends.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, [text for text in stop if text]
        self._ids: list[int] = []
        self._sent = ""
        self.is_stopped = False

    @property
    def num_tokens(self) -> int:
        """Number of tokens so far."""
        return len(self._ids)

    @property
    def text(self) -> str:
        """Text returned so far."""
        return self._sent

    def add(self, ids: Sequence[int], *, is_last: bool) -> str:
        """Adds tokens and returns the text that is now certain."""
        self._ids.extend(ids)
        decoded = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        text = answer_text(decoded) if is_last else decoded.lstrip()
        ends = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if ends:
            self.is_stopped = True
            text = text[: min(ends)]
        elif not is_last:
            text = text.rstrip().rstrip(INCOMPLETE)
            text = text[: len(text) - self._pending(text)]
        new = text[len(self._sent) :]
        self._sent += new
        return new

    def _pending(self, text: str) -> int:
        """Returns the length of the end of `text` that may begin a stop text."""
        return max(
            (
                size
                for stop in self._stop
                for size in range(1, min(len(stop), len(text) + 1))
                if text.endswith(stop[:size])
            ),
            default=0,
        )
