"""Holds a conversation about one encoded video; each turn prefills only its own text."""

from __future__ import annotations

import dataclasses

import numpy as np

from xcomp_jax.account import open_account
from xcomp_jax.config import ConfigError
from xcomp_jax.engine.compilation import COMPILATIONS
from xcomp_jax.inference.answer import Answer
from xcomp_jax.inference.answerer import Answerer, Frames, common_prefix
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.request import check_seed, check_video
from xcomp_jax.inference.selecting import Progress, select_frames
from xcomp_jax.models.decoder_state import LayerGroupCache, TextCache
from xcomp_jax.selection.frame_scores import FrameScores


@dataclasses.dataclass(frozen=True)
class _Turns:
    """State after some answered turns.

    cache: KV cache of the selected `frames`, with the `scores` of all frames; text: text cache
    whose first tokens are `cached_ids`.
    """

    cache: tuple[LayerGroupCache, ...]
    frames: Frames
    scores: FrameScores | None
    text: TextCache | None = None
    cached_ids: tuple[int, ...] = ()


class Conversation:
    """Answers the turns of a conversation about one video.

    The first question selects the frames for the whole conversation, because later turns refer to
    earlier answers. `Session.ask` selects frames for every question.

    Raises:
        ConfigError: the model's video states depend on the question.
        TypeError, ValueError: the video is not encoded, or by another session.
    """

    def __init__(self, answerer: Answerer, video: EncodedVideo) -> None:
        check_video(video, answerer.engine.encoder)
        if not answerer.engine.caches_video:
            raise ConfigError(
                "compression.schedule='ranked' with ranking by attention keeps no state between "
                "turns; use Session.ask (xcomp ask)"
            )
        self.answerer = answerer
        self.video = video
        self.history: list[tuple[str, str]] = []
        self._turns: _Turns | None = None

    def ask(self, question: str, *, seed: int = 0, progress: Progress | None = None) -> Answer:
        """Answers the next turn; the result equals a prefill of the whole conversation.

        Raises:
            TypeError, ValueError: as `Session.check_question`, or the seed is out of range.
        """
        check_seed(seed)
        answerer, video = self.answerer, self.video
        suffix = answerer.text_after(video, question, self.history)
        with open_account() as account:
            compiled = COMPILATIONS.count
            turns = self._turns or self._first_turns(question, progress)
            # Tokenizing an answer's text may give other tokens than were generated, so the cache is
            # reused up to the first difference. The last token is never reused, because its
            # logits are needed.
            reused = common_prefix(turns.cached_ids, suffix[:-1])
            state = answerer.engine.extend(
                turns.cache,
                [suffix[reused:]],
                max_new_tokens=answerer.generation.max_new_tokens,
                text=turns.text,
                text_length=reused,
            )
            generated = answerer.engine.generate(state, answerer.generation, seed=seed)
            token_ids = np.asarray(generated.ids[0, : generated.count[0]])
            answer = answerer.make_answer(
                video,
                question,
                token_ids,
                turns.frames,
                turns.scores,
                account,
                COMPILATIONS.count - compiled,
            )
        # One assignment, after the answer: an interrupted turn leaves no trace. The last generated
        # token is not in the cache.
        self._turns = dataclasses.replace(
            turns, text=generated.text, cached_ids=(*suffix, *answer.token_ids[:-1])
        )
        self.history.append((question, answer.text))
        return answer

    def _first_turns(self, question: str, progress: Progress | None) -> _Turns:
        scores = self.answerer.score_frames(self.video, question, progress=progress)
        frames = select_frames(self.video, scores)
        return _Turns(self.answerer.cache_of(self.video, frames), frames, scores)
