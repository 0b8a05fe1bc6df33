"""Defines settings of token generation and reads those of the published evaluation."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from xcomp_jax.files import read_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """Settings of token generation.

    temperature: 0 is greedy; top_p: 1 is off; top_k: 0 is off.

    Raises:
        ValueError: a value is out of range; the message names it.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, valid, rule in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "in (0, 1]"),
            ("top_k", self.top_k >= 0, "0 (off) or more"),
            ("repetition_penalty", self.repetition_penalty > 0, "positive"),
        ):
            if not valid:
                raise ValueError(f"{name}={getattr(self, name)} must be {rule}")


def greedy_as_evaluated(folder: Path, max_new_tokens: int = 64) -> GenerationConfig:
    """Reads `generation_config.json` as the published evaluation uses it.

    The evaluation overrides sampling by greedy decoding, but keeps the file's repetition penalty
    and end tokens (docs/reference_behaviour.md#evaluation). Without the file, decoding is greedy
    without a penalty.
    """
    path = folder / "generation_config.json"
    values = json.loads(read_text(path)) if path.is_file() else {}
    eos = values.get("eos_token_id")
    listed = [] if eos is None else eos if isinstance(eos, list) else [eos]
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        repetition_penalty=float(values.get("repetition_penalty") or 1.0),
        eos_token_ids=tuple(listed),
    )
