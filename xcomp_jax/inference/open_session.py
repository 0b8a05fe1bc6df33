"""Sessions ready to answer: from a checkpoint folder, or the embedded model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax

from xcomp_jax.checkpoint import CheckpointReader, load_params
from xcomp_jax.config import DType, SamplingConfig, SelectionConfig, from_dict
from xcomp_jax.engine.generate import greedy_as_evaluated
from xcomp_jax.inference.session import Session
from xcomp_jax.models.xcomp import init_params
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.token_store import TokenStore
from xcomp_jax.variants import SMOKE

DEFAULT_SELECTION = SelectionConfig()
_init = jax.jit(init_params, static_argnums=0)


def open_session(
    folder: Path,
    *,
    dtype: DType | None = None,
    sampling: SamplingConfig | None = None,
    selection: SelectionConfig | None = DEFAULT_SELECTION,
    store: TokenStore | None = None,
) -> Session:
    """Loads what `xcomp tune` or `python -m convert from_torch` wrote.

    Args:
        dtype: of parameters and arithmetic; default: float32 on CPU, where bfloat16 is many times
            slower, and the checkpoint's own elsewhere.
        sampling: default: what the checkpoint was tuned with, else the original's.
        selection: how a question chooses frames; default: the paper's rule; None uses all frames.
        store: where visual tokens are kept.

    Raises:
        CheckpointError, ValueError: the folder is no checkpoint, or its tokenizer is missing.
    """
    if dtype is None and jax.default_backend() == "cpu":
        dtype = "float32"
    config, params = load_params(folder, dtype=dtype)
    if sampling is None:
        # What `xcomp tune` trained on; a converted checkpoint brings none and gets the original's.
        saved = CheckpointReader(folder).source.get("sampling")
        sampling = None if saved is None else from_dict(SamplingConfig, saved)
    if dtype is not None:
        config = dataclasses.replace(config, dtype=dtype)
    if config.compression.schedule == "ranked":
        selection = None  # scores need states that do not depend on the question
    return Session(
        config,
        params,
        load_tokenizer(str(folder)),
        generation=greedy_as_evaluated(folder),
        sampling=sampling,
        selection=selection,
        store=store,
    )


def embedded_session(
    *,
    dtype: DType | None = None,
    selection: SelectionConfig | None = DEFAULT_SELECTION,
    store: TokenStore | None = None,
) -> Session:
    """The smoke model with seeded random weights: needs no file, says nothing sensible."""
    config = SMOKE if dtype is None else dataclasses.replace(SMOKE, dtype=dtype)
    params = _init(config, jax.random.key(0))
    return Session(config, params, load_tokenizer(None), selection=selection, store=store)
