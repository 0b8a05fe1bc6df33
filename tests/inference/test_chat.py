"""Tests that conversations equal a full prefill and prefill only new text."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.inference.test_selecting import QUESTIONS, SELECTION, encode
from xcomp_jax.config import CompressionConfig, ConfigError, SelectionConfig
from xcomp_jax.inference.open_session import demo_session
from xcomp_jax.inference.session import Session


@pytest.mark.parametrize("selection", [None, SELECTION])
def test_chat_turns_equal_full_prefill(selection: SelectionConfig | None) -> None:
    session = demo_session(selection=selection)
    session.generation = dataclasses.replace(session.generation, max_new_tokens=12)
    video, source = encode(session, 104 if selection else 24)
    chat = session.chat(video)
    answers = [chat.ask(question) for question in QUESTIONS]
    num_read = source.num_read
    for turn, answer in enumerate(answers):
        suffix = session.text_after(video, answer.question, chat.history[:turn])
        # Prefill of the video and the whole conversation.
        visual = video.visual_tokens(answers[0].selected_frames)
        state = session.engine.prefill([visual], [video.prefix_ids], [suffix])
        generated = session.engine.generate(state, session.generation)
        ids = np.asarray(generated.ids[0])[: int(generated.count[0])].tolist()
        assert ids == list(answer.token_ids), turn
        assert answer.selected_frames == answers[0].selected_frames
    for answer in answers[1:]:
        assert answer.work.keys() - {"programs compiled"} == {"text rows"}
        assert answer.work["text rows"] < 0.7 * len(suffix)
    frames = len(answers[0].selected_frames or range(video.num_frames))
    assert source.num_read - num_read <= frames * len(answers)


def test_chat_with_ranked_attention_raises() -> None:
    session = demo_session(selection=None)
    ranked = CompressionConfig(
        schedule="ranked", ranking="attention", drop_after_layers=(2,), ratios=(0.5,)
    )
    config = dataclasses.replace(session.config, compression=ranked)
    other = Session(config, session.params, session.tokenizer)
    video, _ = encode(other, 16)
    with pytest.raises(ConfigError, match=r"use Session\.ask"):
        other.chat(video)
    assert other.ask(video, QUESTIONS[0]).token_ids
