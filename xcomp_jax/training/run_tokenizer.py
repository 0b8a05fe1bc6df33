"""Chooses the tokenizer of a run: that of `data.tokenizer`, or of the checkpoint it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xcomp_jax.config import ConfigError, ExperimentConfig
from xcomp_jax.data.prepared.tokens import tokenizer_digest
from xcomp_jax.text.tokenizer import load_tokenizer

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")


def run_tokenizer(config: ExperimentConfig) -> Any:
    """Loads the tokenizer that a run trains with and exports.

    With `data.tokenizer` unset, that is the tokenizer in the folder `init_from`, or the built-in
    one if there is none.

    Raises:
        ValueError: the tokenizer cannot be loaded.
        ConfigError: `data.tokenizer` and `init_from` give different token ids.
    """
    name, base = config.data.tokenizer, config.init_from
    if base is None or not any((Path(base) / file).is_file() for file in _TOKENIZER_FILES):
        return load_tokenizer(name)
    of_base = load_tokenizer(str(base))
    if name is None:
        return of_base
    tokenizer = load_tokenizer(name)
    if tokenizer_digest(tokenizer) != tokenizer_digest(of_base):
        raise ConfigError(
            f"data.tokenizer={name!r} ({len(tokenizer)} tokens) differs from the tokenizer in "
            f"init_from={base!r} ({len(of_base)} tokens), with which its parameters were trained; "
            "set data.tokenizer=None, or start from another checkpoint"
        )
    return tokenizer
