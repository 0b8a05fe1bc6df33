"""Tests that an answer does not depend on what else is computed, nor on where its tokens come from.

tests/engine/test_mesh.py compares numbers of devices in the same way.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import pytest

from tests.inference.test_selecting import noise
from tests.tiny import TINY, tiny_params
from tests.write_video import write_video
from xcomp_jax.config import SelectionConfig
from xcomp_jax.engine.generation_config import GenerationConfig
from xcomp_jax.inference.answer import Answer
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.session import Session
from xcomp_jax.text.tokenizer import builtin_tokenizer
from xcomp_jax.token_store import TokenStore

SELECTION = SelectionConfig(
    select=8, min_frames=12, window_frames=16, segment_clips=2, segment_stride=1, query_bias=2
)
FRAMES = (40, 8)
"""Frames of two videos; the last one uses all of them."""
QUESTIONS = (
    "What color is it?",
    # Fills the next bucket of text.
    "Which way does it move? " * 4 + "Answer with one word: left, right, up or down.",
)


def open_session(dtype: Literal["float32", "bfloat16"], store: Path | None = None) -> Session:
    config = dataclasses.replace(TINY, dtype=dtype)
    return Session(
        config,
        jax.tree.map(lambda leaf: leaf.astype(config.compute_dtype), tiny_params()),
        builtin_tokenizer(),
        generation=GenerationConfig(max_new_tokens=12),
        selection=SELECTION,
        store=None if store is None else TokenStore(store, max_bytes=1 << 30),
    )


def encode(session: Session, files: list[Path]) -> list[EncodedVideo]:
    return [
        session.encode_video(file, num_frames=count)
        for file, count in zip(files, FRAMES, strict=True)
    ]


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "bfloat16"])
def test_answer_independent_of_other_work(
    tmp_path: Path, dtype: Literal["float32", "bfloat16"]
) -> None:
    files = [
        write_video(tmp_path / f"{i}.mkv", noise(48, 32)[i:], fps=8) for i in range(len(FRAMES))
    ]
    session = open_session(dtype)
    videos = encode(session, files)
    alone = [session.ask(v, q) for v, q in zip(videos, QUESTIONS, strict=True)]
    stored = open_session(dtype, tmp_path / "store")
    ways: dict[str, list[Answer]] = {
        "again": [session.ask(v, q) for v, q in zip(videos, QUESTIONS, strict=True)],
        "one batch": session.ask_batch(videos, QUESTIONS),
        "another order": session.ask_batch(videos[::-1], QUESTIONS[::-1])[::-1],
        "new videos": session.ask_batch(encode(session, files), QUESTIONS, batch_size=1),
        "first use of the store": stored.ask_batch(encode(stored, files), QUESTIONS),
        "tokens of the store": stored.ask_batch(encode(stored, files), QUESTIONS),
        "other questions too": [
            session.ask_all(v, [*QUESTIONS, q])[-1] for v, q in zip(videos, QUESTIONS, strict=True)
        ],
        "chat": [session.chat(v).ask(q) for v, q in zip(videos, QUESTIONS, strict=True)],
    }
    for way, answers in ways.items():
        for answer, expected in zip(answers, alone, strict=True):
            assert answer.text == expected.text, way
            assert answer.selected_frames == expected.selected_frames, way
            if dtype == "float32":
                assert answer.token_ids == expected.token_ids, way
                np.testing.assert_array_equal(answer.scores, expected.scores, err_msg=way)
    # Control: other questions about the same videos.
    others = session.ask_batch(videos, QUESTIONS[::-1])
    assert [a.text for a in others] != [a.text for a in alone]
    assert (others[0].scores != alone[0].scores).any()
