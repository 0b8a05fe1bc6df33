"""Tests score processing and the compiled decoding loop."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.tiny import TINY, exact, tiny_params
from xcomp_jax.engine.generate import generate, process_scores
from xcomp_jax.engine.generation_config import GenerationConfig, greedy_as_evaluated
from xcomp_jax.engine.programs import prefill
from xcomp_jax.models.xcomp import XComp

LOGITS = jnp.asarray([[2.0, 1.0, 0.0, -1.0, -2.0]])
NONE_SEEN = jnp.zeros((1, 5), bool)


def processed_scores(
    seen=NONE_SEEN, temperature=1.0, top_p=1.0, top_k=0, penalty=1.0, logits=LOGITS
) -> list[float]:
    scores = process_scores(
        logits,
        seen,
        temperature=jnp.float32(temperature),
        top_p=jnp.float32(top_p),
        top_k=jnp.int32(top_k),
        penalty=jnp.float32(penalty),
    )
    return np.asarray(scores[0]).tolist()


def test_penalty_lowers_seen_tokens_of_either_sign() -> None:
    seen = jnp.asarray([[True, False, False, False, True]])
    assert processed_scores(seen, temperature=0, penalty=2.0) == [1.0, 1.0, 0.0, -1.0, -4.0]


def test_temperature_divides_scores() -> None:
    assert processed_scores(temperature=2.0) == [1.0, 0.5, 0.0, -0.5, -1.0]


def test_top_k_keeps_k_highest() -> None:
    assert processed_scores(top_k=2) == [2.0, 1.0, -np.inf, -np.inf, -np.inf]
    assert processed_scores(top_k=0) == LOGITS[0].tolist()


def test_top_p_keeps_smallest_set_reaching_p() -> None:
    # Probabilities .636, .234, .086, .032, .012.
    assert processed_scores(top_p=0.6) == [2.0, *[-np.inf] * 4]
    assert processed_scores(top_p=0.64) == [2.0, 1.0, *[-np.inf] * 3]
    assert processed_scores(top_p=0.9) == [2.0, 1.0, 0.0, -np.inf, -np.inf]
    # The rank decides, not the index in the vocabulary.
    shuffled = jnp.asarray([[0.0, 2.0, -1.0, 1.0, -2.0]])
    assert processed_scores(top_p=0.64, logits=shuffled) == [-np.inf, 2.0, -np.inf, 1.0, -np.inf]


@pytest.fixture(scope="module", name="prefilled")
def prefilled_fixture():
    rng = np.random.default_rng(0)
    vocab = TINY.llm.vocab_size
    ids = rng.integers(0, vocab, (2, 4)).astype("i4"), rng.integers(0, vocab, (2, 5)).astype("i4")
    visual = rng.normal(size=(2, 16, 32)).astype("f4")
    model, params = XComp(TINY), tiny_params()
    return model, params, *prefill(model, params, ids[0], visual, ids[1], exact(4, 16, 5, batch=2))


def test_end_token_stops_only_its_row(prefilled) -> None:
    model, params, logits, cache = prefilled
    endless = generate(model, params, logits, cache, GenerationConfig(max_new_tokens=8))
    assert endless.count.tolist() == [8, 8]
    ids = endless.ids[0].tolist()
    last = next(step for step in range(1, 7) if ids[step] not in ids[:step])
    end = ids[last]
    stopped = generate(
        model, params, logits, cache, GenerationConfig(max_new_tokens=8, eos_token_ids=(end,))
    )
    assert stopped.count[0] == last + 1
    assert stopped.ids[0].tolist() == [*ids[: last + 1], *[end] * (7 - last)]
    other_ids = endless.ids[1].tolist()
    length = other_ids.index(end) + 1 if end in other_ids else 8
    assert stopped.ids[1, :length].tolist() == other_ids[:length]


def test_sampling_matches_distribution(prefilled) -> None:
    model, params, logits, cache = prefilled
    config = GenerationConfig(max_new_tokens=1, temperature=20.0, top_k=3)
    draws = [
        int(generate(model, params, logits, cache, config, seed=seed).ids[0, 0])
        for seed in range(200)
    ]
    top = np.argsort(np.asarray(logits[0]))[::-1][:3]
    assert set(draws) == set(top.tolist())
    expected = jax.nn.softmax(logits[0, top] / 20.0)
    for token, share in zip(top, expected, strict=True):
        assert abs(draws.count(token) / 200 - share) < 0.12
    repeated = [
        int(generate(model, params, logits, cache, config, seed=7).ids[0, 0]) for _ in range(2)
    ]
    assert repeated[0] == repeated[1]


def test_generate_changed_settings_do_not_recompile(prefilled) -> None:
    from xcomp_jax.engine.compilation import COMPILATIONS

    model, params, logits, cache = prefilled
    generate(model, params, logits, cache, GenerationConfig(max_new_tokens=8))
    before = COMPILATIONS.count
    for temperature, top_p, penalty in ((0.5, 0.9, 1.0), (0.0, 1.0, 1.3)):
        config = GenerationConfig(
            max_new_tokens=8, temperature=temperature, top_p=top_p, repetition_penalty=penalty
        )
        generate(model, params, logits, cache, config)
    assert COMPILATIONS.count == before


def test_greedy_as_evaluated_keeps_penalty_and_eos(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(
        json.dumps(
            {
                "do_sample": True,
                "temperature": 0.7,
                "repetition_penalty": 1.1,
                "eos_token_id": [151645, 151643],
            }
        )
    )
    config = greedy_as_evaluated(tmp_path, max_new_tokens=16)
    assert config == GenerationConfig(
        max_new_tokens=16, repetition_penalty=1.1, eos_token_ids=(151645, 151643)
    )
    assert greedy_as_evaluated(tmp_path / "none").repetition_penalty == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": -1.0}, "temperature=-1.0 must be 0"),
        ({"top_p": 0.0}, "top_p=0.0 must be in"),
        ({"temperature": float("inf")}, "temperature=inf must be 0"),
        ({"max_new_tokens": 0}, "max_new_tokens=0 must be at least 1"),
        ({"max_new_tokens": 10**9}, "max_new_tokens=1000000000 must be at most 32768"),
        ({"max_new_tokens": 8.0}, "max_new_tokens=8.0 must be an integer"),
    ],
)
def test_generation_config_out_of_range_raises(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GenerationConfig(**change)


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"eos_token_id": "end"}', '{"repetition_penalty": -1}', "\xff"]
)
def test_greedy_as_evaluated_damaged_file_raises(tmp_path: Path, text: str) -> None:
    path = tmp_path / "generation_config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"generation_config\.json: not a readable generation"):
        greedy_as_evaluated(tmp_path)
    path.write_text('\ufeff{"eos_token_id": 5}', encoding="utf-8")
    assert greedy_as_evaluated(tmp_path).eos_token_ids == (5,)
