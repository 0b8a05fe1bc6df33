"""A conversation about one watched video: every turn reads only what it adds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xcomp_jax.config import ConfigError
from xcomp_jax.engine.compilation import COMPILATIONS
from xcomp_jax.inference.answer import Answer, Stopwatch
from xcomp_jax.inference.encoded_video import EncodedVideo

if TYPE_CHECKING:
    from xcomp_jax.inference.session import Session
    from xcomp_jax.models.decoder_state import LayerGroupCache, TextCache
    from xcomp_jax.selection.plan import FrameScores


class Conversation:
    """Turns about one video, from `Session.chat`.

    The frames are chosen by the first question and stay: later turns follow from what was said. Ask
    through `Session.ask` where a question should choose its own.
    """

    def __init__(self, session: Session, memory: EncodedVideo) -> None:
        if not session.reader.caches_video:
            raise ConfigError(
                "compression.schedule='ranked' by attention chooses tokens by the question, so "
                "nothing can be kept between turns; ask single questions instead"
            )
        self.session = session
        self.memory = memory
        self.history: list[tuple[str, str]] = []
        self._cache: tuple[LayerGroupCache, ...] | None = None
        self._text: TextCache | None = None
        self._written: list[int] = []
        self._chosen: tuple[int, ...] | None = None
        self._scores: FrameScores | None = None

    def ask(
        self,
        question: str,
        *,
        seed: int = 0,
        progress: Any = None,
        stopwatch: Stopwatch | None = None,
    ) -> Answer:
        """Answers the next turn, as if the whole conversation were read anew.

        Raises:
            ValueError: the question is empty or holds the video mark.
        """
        session, memory = self.session, self.memory
        stopwatch, compiled = stopwatch or Stopwatch(), COMPILATIONS.count
        prefix, suffix = session.text_around(memory, question, self.history)
        if self._cache is None:
            (self._scores,) = session.score(memory, [(prefix, suffix)], stopwatch, progress)
            self._chosen = session.choose(memory, self._scores)
            self._cache = session.cache_of(memory, self._chosen, prefix, stopwatch)
        # An answer that is read back as text may be cut into other tokens than it was made of. The
        # last token is always read: its logits are wanted.
        same = _common(self._written, suffix[:-1])
        reading = session.reader.extend(
            self._cache,
            [suffix[same:]],
            stopwatch,
            more=session.generation.max_new_tokens,
            text=self._text,
            written=same,
        )
        made = session.reader.generate(
            reading, [len(suffix)], session.generation, stopwatch, seed=seed
        )
        ids = np.asarray(made.ids[0])[: int(made.count[0])]
        answer = session.answer_of(
            memory,
            question,
            ids,
            stopwatch,
            self._chosen,
            self._scores,
            COMPILATIONS.count - compiled,
        )
        self._text = made.text
        self._written = [*suffix, *answer.token_ids[:-1]]  # the last one was chosen but not read
        self.history.append((question, answer.text))
        return answer


def _common(first: list[int], second: list[int]) -> int:
    """Length of the common beginning."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
