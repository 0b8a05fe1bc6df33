"""Tests continuous batching against answers that are generated alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.tiny import TINY, tiny_params
from xcomp_jax.engine.engine import Engine
from xcomp_jax.engine.generation_config import GenerationConfig
from xcomp_jax.engine.row_batch import Cache, DecodedSequence, RowBatch

GREEDY = GenerationConfig(max_new_tokens=20, eos_token_ids=(7,))
SAMPLED = dataclasses.replace(GREEDY, temperature=0.8, top_p=0.9, repetition_penalty=1.2)
SETTINGS = (GREEDY, SAMPLED, GREEDY, SAMPLED)
RNG = np.random.default_rng(0)
TEXTS = [RNG.integers(20, 500, length).tolist() for length in (9, 21, 5, 33)]


@pytest.fixture(scope="module", name="engine")
def engine_fixture() -> Engine:
    return Engine(TINY, tiny_params())


@pytest.fixture(scope="module", name="caches")
def caches_fixture(engine: Engine) -> list[Cache]:
    visual = RNG.normal(size=(2, 32, TINY.llm.hidden_size)).astype(np.float32)
    return [engine.prefill_video([tokens], [[11, 12, 13]]) for tokens in visual]


def answer_alone(engine: Engine, cache: Cache, number: int) -> list[int]:
    """Generates one answer by the loop of `Session.ask`."""
    config = SETTINGS[number]
    state = engine.extend(cache, [TEXTS[number]], max_new_tokens=config.max_new_tokens)
    generated = engine.generate(state, config, seed=number)
    return list(map(int, generated.ids[0][: generated.count[0]]))


def sequences_of(caches: list[Cache]) -> list[DecodedSequence]:
    return [
        DecodedSequence(caches[number % 2], TEXTS[number], SETTINGS[number], seed=number)
        for number in range(len(TEXTS))
    ]


def finish(batch: RowBatch) -> None:
    while batch.active:
        batch.decode()
        batch.release([sequence for sequence in batch.active if sequence.done])


@pytest.mark.slow
def test_joining_rows_equal_answers_alone(engine: Engine, caches: list[Cache]) -> None:
    alone = [answer_alone(engine, caches[i % 2], i) for i in range(len(TEXTS))]
    sequences, batch = sequences_of(caches), RowBatch(engine)
    batch.admit(sequences[:1])
    batch.decode(3)
    batch.admit(sequences[1:3])
    batch.decode(2)
    batch.admit(sequences[3:])
    finish(batch)
    assert [sequence.generated for sequence in sequences] == alone
    # Control: the answers differ, and with another seed the sampled ones do.
    assert len(set(map(tuple, alone))) == len(alone)
    other = sequences_of(caches)[1]
    other.seed = 99
    batch.admit([other])
    finish(batch)
    assert other.generated != alone[1]


def test_released_row_leaves_others_unchanged(engine: Engine, caches: list[Cache]) -> None:
    sequences, batch = sequences_of(caches), RowBatch(engine)
    batch.admit(sequences[:4])
    batch.decode(1)
    batch.release([sequences[0]])
    finish(batch)
    assert len(sequences[0].generated) == 2
    for number in (1, 2, 3):
        expected = answer_alone(engine, caches[number % 2], number)
        assert sequences[number].generated == expected, number


def test_text_of_earlier_turn_is_reused(engine: Engine, caches: list[Cache]) -> None:
    first, batch = DecodedSequence(caches[0], TEXTS[1], GREEDY), RowBatch(engine)
    batch.admit([first])
    while not first.done:
        batch.decode()
    text, length = batch.text_of(first)
    ids = [*TEXTS[1], *first.generated][:length]
    batch.release([first])

    def answer(**earlier: object) -> list[int]:
        sequence = DecodedSequence(caches[0], TEXTS[0], GREEDY, **earlier)  # type: ignore[arg-type]
        batch.admit([sequence])
        finish(batch)
        return sequence.generated

    whole = DecodedSequence(caches[0], [*ids, *TEXTS[0]], GREEDY)
    batch.admit([whole])
    finish(batch)
    assert answer(text=text, text_length=length) == whole.generated
    assert answer() != whole.generated
