"""Loads the model of a recorded case through the converter, with its settings."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from tests.parity.cases import Case
from xcomp_jax.config import CompressionConfig, ModelConfig
from xcomp_jax.convert.from_torch import load_torch_checkpoint
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import Params, XComp

PLACEHOLDER = -200
"""Id of the video placeholder in the recorded `input_ids`."""


def compression_of(env: Mapping[str, str]) -> CompressionConfig:
    """Converts the original's environment variables to our schema."""
    if env.get("EXTRA_PARAM_OVERWRITE_DROP_SCHEDULE") == "Cosine":
        keep = "suffix" if "EXTRA_PARAM_ALWAYS_SUFFIX" in env else "uniform"
        return CompressionConfig(schedule="cosine", keep=keep)  # type: ignore[arg-type]
    after = ast.literal_eval(env.get("EXTRA_PARAM_INNER_CONDENSER_ID", "[]"))
    if not after:
        return CompressionConfig(schedule="none")
    kinds = {"nexthalf": "uniform", "avgpool": "average"}
    listed = env.get("EXTRA_PARAM_INNER_STRIDE_LIST")
    strides = (
        [int(env["EXTRA_PARAM_INNER_STRIDE"])] * len(after)
        if listed is None
        else ast.literal_eval(listed)
    )
    return CompressionConfig(
        schedule="stepwise",
        keep=kinds[env["EXTRA_PARAM_INNER_CONDENSER_TYPE"]],  # type: ignore[arg-type]
        drop_after_layers=tuple(after),
        strides=tuple(strides),
    )


def base_compression_of(config: Mapping[str, Any]) -> CompressionConfig:
    """Converts the base model's config.json to our schema; its first ratio is the input's."""
    if not config["mm_llm_compress"]:
        return CompressionConfig(schedule="none")
    return CompressionConfig(
        schedule="ranked",
        ranking=config["llm_compress_type"],
        drop_after_layers=tuple(config["llm_compress_layer_list"]),
        ratios=tuple(config["llm_image_token_ratio_list"][1:]),
    )


def factored_tables(case: Case) -> dict[str, np.ndarray]:
    """Builds the embedding (and untied head) of a case: row i = U[i % period] + V[i // period].

    The file's name contains the number of rows. A model without factors has a complete table.
    """
    paths = sorted(case.model_dir.glob("embed_factors*.safetensors"))
    if not paths:
        return {}
    factors = load_file(paths[0])
    named = re.search(r"vocab(\d+)", paths[0].name)
    rows = np.arange(int(named.group(1)) if named else case.config["vocab_size"])

    def table(name: str) -> np.ndarray:
        period = factors[f"{name}_U"].shape[0]
        return factors[f"{name}_U"][rows % period] + factors[f"{name}_V"][rows // period]

    tables = {"model.embed_tokens.weight": table("embed")}
    if not case.config["tie_word_embeddings"]:
        tables["lm_head.weight"] = table("lm_head")
    return tables


@functools.lru_cache(maxsize=4)
def _load(case: Case, factored: bool) -> tuple[ModelConfig, Params]:
    overrides = factored_tables(case) if factored else {}
    config = dict(case.config)
    if overrides:
        config["vocab_size"] = len(overrides["model.embed_tokens.weight"])
    return load_torch_checkpoint(
        case.model_dir, dtype="float32", overrides=overrides, config=config
    )


def recorded_model(
    case: Case,
    env: Mapping[str, str] | None = None,
    *,
    compression: CompressionConfig | None = None,
    factored: bool = False,
) -> tuple[XComp, Params]:
    """Loads the float32 model with `compression`, or that of `env`, and its parameters."""
    config, params = _load(case, factored)
    if compression is None:
        compression = compression_of(case.meta.get("env", {}) if env is None else env)
    config = dataclasses.replace(config, dtype="float32", compression=compression)
    return XComp(config), params


def split_ids(input_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits ids at the placeholder into [1, prefix] and [1, suffix] int32."""
    ids = np.asarray(input_ids).reshape(-1)
    (place,) = np.flatnonzero(ids == PLACEHOLDER)
    return ids[None, :place].astype(np.int32), ids[None, place + 1 :].astype(np.int32)


def exact_lengths(prefix: Any, visual: Any, suffix: Any) -> Lengths:
    """Returns lengths without padding: every slot is a real token."""
    return Lengths(
        *(jnp.full((part.shape[0],), part.shape[1], jnp.int32) for part in (prefix, visual, suffix))
    )


def flat_visual(tokens: np.ndarray) -> np.ndarray:
    """Flattens tokens [C, V, D] of clips to [1, V, D] float32."""
    return np.asarray(tokens, np.float32).reshape(1, -1, tokens.shape[-1])


def layer_of(name: str) -> int:
    """Parses the 0-based layer at the end of an array name such as `hidden_after_layer_07`."""
    match = re.search(r"(\d+)$", name)
    assert match is not None, name
    return int(match.group(1))
