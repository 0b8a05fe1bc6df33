"""Conversations: as if read anew, at the cost of the new text."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.inference.test_selecting import QUESTIONS, SELECTION, watch
from xcomp_jax.config import CompressionConfig, ConfigError, SelectionConfig
from xcomp_jax.inference.answer import Stopwatch
from xcomp_jax.inference.open_session import embedded_session
from xcomp_jax.inference.session import Session


@pytest.mark.parametrize("selection", [None, SELECTION])
def test_turns_equal_a_fresh_reading(selection: SelectionConfig | None) -> None:
    session = embedded_session(selection=selection)
    session.generation = dataclasses.replace(session.generation, max_new_tokens=12)
    memory, source = watch(session, 104 if selection else 24)
    chat = session.chat(memory)
    answers = [chat.ask(question) for question in QUESTIONS]
    taken = source.taken
    for turn, answer in enumerate(answers):
        history = chat.history[:turn]
        prefix, suffix = session.text_around(memory, answer.question, history)
        # Everything from the beginning, in one pass over video and text.
        frames = answers[0].selected_frames or tuple(range(memory.num_frames))
        clips = [frames[i : i + 4] for i in range(0, len(frames), 4)]
        tokens = memory.clips.tokens(clips, Stopwatch())
        tokens = tokens.reshape(-1, tokens.shape[-1])
        watch_ = Stopwatch()
        reading = session.reader.prefill([tokens], [prefix], [suffix], watch_)
        made = session.reader.generate(reading, [0], session.generation, watch_, seed=0)
        ids = np.asarray(made.ids[0])[: int(made.count[0])].tolist()
        assert ids == list(answer.token_ids), turn
        assert answer.selected_frames == answers[0].selected_frames
    for turn in answers[1:]:
        assert turn.work.keys() == {"text rows"}
        assert turn.work["text rows"] < 0.7 * len(suffix)
    assert source.taken - taken <= 4 * len(clips) * len(answers)


def test_the_model_that_asks_first_cannot_chat() -> None:
    session = embedded_session(selection=None)
    ranked = CompressionConfig(
        schedule="ranked", ranking="attention", drop_after_layers=(2,), ratios=(0.5,)
    )
    config = dataclasses.replace(session.config, compression=ranked)
    other = Session(config, session.params, session.tokenizer)
    memory, _ = watch(other, 16)
    with pytest.raises(ConfigError, match="ask single questions"):
        other.chat(memory)
    assert other.ask(memory, QUESTIONS[0]).token_ids
