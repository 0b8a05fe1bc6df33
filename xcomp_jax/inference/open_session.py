"""Opens sessions of checkpoint folders and of the demo model."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import jax
from jax.sharding import Mesh

from xcomp_jax.checkpoint import CheckpointReader, load_params
from xcomp_jax.config import (
    ConfigError,
    DType,
    ModelConfig,
    SamplingConfig,
    SelectionConfig,
    from_dict,
)
from xcomp_jax.engine.generation_config import greedy_as_evaluated
from xcomp_jax.engine.placement import default_mesh
from xcomp_jax.inference.session import Session
from xcomp_jax.models.quantized import Quantization, quantized_params
from xcomp_jax.models.xcomp import abstract_params, init_params
from xcomp_jax.sharding import parameter_shardings
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.token_store import TokenStore
from xcomp_jax.variants import SMOKE

logger = logging.getLogger(__name__)

DEFAULT_SELECTION = SelectionConfig()
"""The paper's rule."""


def default_dtype(dtype: DType | None) -> DType | None:
    """Returns `dtype`, or float32 on a CPU, where bfloat16 is many times slower."""
    return "float32" if dtype is None and jax.default_backend() == "cpu" else dtype


def checked_selection(
    config: ModelConfig, selection: SelectionConfig | None
) -> SelectionConfig | None:
    """Returns the selection if the model supports it; replaces the default by None with a warning.

    Raises:
        ConfigError: an explicit selection for a model that does not support it.
    """
    if config.compression.schedule != "ranked" or selection is None:
        return selection
    reason = (
        "frame selection does not work with compression.schedule='ranked', because its video "
        "states depend on the question"
    )
    if selection is not DEFAULT_SELECTION:
        raise ConfigError(f"{reason}; use all frames (selection=None, --select all)")
    logger.warning("%s; all frames are used", reason)
    return None


def open_session(
    folder: Path,
    *,
    dtype: DType | None = None,
    sampling: SamplingConfig | None = None,
    selection: SelectionConfig | None = DEFAULT_SELECTION,
    store: TokenStore | None = None,
    mesh: Mesh | None = None,
    quantize: Quantization | None = None,
) -> Session:
    """Loads a checkpoint that `xcomp tune` or `xcomp convert from-torch` wrote.

    Args:
        dtype: dtype of parameters and arithmetic; default: float32 on a CPU, elsewhere the
            checkpoint's.
        sampling: frame sampling (default: as in tuning, else the original's).
        selection: frame selection (default: the paper's rule); None uses all frames.
        store: token store that keeps visual tokens between processes.
        mesh: devices to use (default: all local ones).
        quantize: "int8" stores the language model's matrices and the KV cache of videos in int8.

    Raises:
        CheckpointError, ValueError: the folder is not a checkpoint, or its tokenizer is missing.
        ConfigError: an explicit selection that the model does not support.
    """
    reader, dtype = CheckpointReader(folder), default_dtype(dtype)
    config = reader.model if dtype is None else dataclasses.replace(reader.model, dtype=dtype)
    selection = checked_selection(config, selection)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, config.compute_dtype), abstract_params(config)
    )
    if quantize is not None:
        shapes = jax.eval_shape(quantized_params, shapes)
    mesh = mesh or default_mesh(shapes)
    shardings = None if mesh is None else parameter_shardings(shapes, mesh)
    _, params = load_params(folder, dtype=dtype, shardings=shardings, quantization=quantize)
    if sampling is None:
        # `xcomp tune` saves its sampling; converted checkpoints use the original's.
        saved = reader.source.get("sampling")
        sampling = None if saved is None else from_dict(SamplingConfig, saved)
    return Session(
        config,
        params,
        load_tokenizer(str(folder)),
        generation=greedy_as_evaluated(folder),
        sampling=sampling,
        selection=selection,
        store=store,
        mesh=mesh,
    )


def demo_session(
    *,
    dtype: DType | None = None,
    selection: SelectionConfig | None = DEFAULT_SELECTION,
    store: TokenStore | None = None,
    mesh: Mesh | None = None,
    quantize: Quantization | None = None,
) -> Session:
    """Builds the smoke model with seeded random weights; its answers are meaningless."""
    config = SMOKE if dtype is None else dataclasses.replace(SMOKE, dtype=dtype)
    params = init_params(config, jax.random.key(0))
    if quantize is not None:
        params = quantized_params(params)
    mesh = mesh or default_mesh(params)
    tokenizer = load_tokenizer(None)
    return Session(config, params, tokenizer, selection=selection, store=store, mesh=mesh)
