"""Defines settings of token generation and reads those of the published evaluation."""

from __future__ import annotations

import dataclasses
import json
import math
import operator
from pathlib import Path

from xcomp_jax.files import read_text

MAX_NEW_TOKENS = 32_768


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """Settings of token generation.

    temperature: 0 is greedy; top_p: 1 is off; top_k: 0 is off.
    max_text_tokens: limit of the text after the video, which is the question and the conversation
        before it; attention of a longer text takes gigabytes of memory.

    Raises:
        ValueError: a value is out of range; the message names it.
    """

    max_new_tokens: int = 64
    max_text_tokens: int = 8192
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, least, most in (
            ("max_new_tokens", 1, MAX_NEW_TOKENS),
            ("max_text_tokens", 1, math.inf),
            ("top_k", 0, math.inf),
        ):
            value = getattr(self, name)
            _require(name, value, f"an integer of at least {least}", isinstance(value, int))
            _require(name, value, f"at least {least}", value >= least)
            _require(name, value, f"at most {most}", value <= most)
        for name, valid, rule in (
            ("temperature", 0 <= self.temperature < math.inf, "0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "in (0, 1]"),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "positive"),
        ):
            _require(name, getattr(self, name), rule, valid)


def _require(name: str, value: object, rule: str, valid: bool) -> None:
    if not valid:
        raise ValueError(f"{name}={value} must be {rule}")


def greedy_as_evaluated(folder: Path, max_new_tokens: int = 64) -> GenerationConfig:
    """Reads `generation_config.json` as the published evaluation uses it.

    The evaluation overrides sampling by greedy decoding, but keeps the file's repetition penalty
    and end tokens (docs/reference_behaviour.md#evaluation). Without the file, decoding is greedy
    without a penalty.

    Raises:
        ValueError: the file is not JSON, or a value is not of the expected kind.
    """
    path = folder / "generation_config.json"
    if not path.is_file():
        return GenerationConfig(max_new_tokens=max_new_tokens)
    try:
        values = json.loads(read_text(path))
        eos = values.get("eos_token_id")
        listed = [] if eos is None else eos if isinstance(eos, list) else [eos]
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            repetition_penalty=float(values.get("repetition_penalty") or 1.0),
            eos_token_ids=tuple(operator.index(token) for token in listed),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: not a readable generation configuration ({error}); correct the file, or "
            "delete it for greedy decoding without a repetition penalty"
        ) from error
