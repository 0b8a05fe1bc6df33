"""Loads models from folders and from the Hugging Face hub."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from xcomp_jax.checkpoint.read import PARAMS_FOLDER
from xcomp_jax.config import CompressionConfig, DType, SamplingConfig, SelectionConfig
from xcomp_jax.inference.open_session import (
    DEFAULT_SELECTION,
    checked_selection,
    default_dtype,
    open_session,
)
from xcomp_jax.inference.session import Session
from xcomp_jax.models.quantized import Quantization
from xcomp_jax.token_store import TokenStore

if TYPE_CHECKING:
    from jax.sharding import Mesh


def from_pretrained(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    dtype: DType | None = None,
    compression: CompressionConfig | None = None,
    sampling: SamplingConfig | None = None,
    selection: SelectionConfig | None = DEFAULT_SELECTION,
    store: TokenStore | str | os.PathLike[str] | None = None,
    mesh: Mesh | None = None,
    quantize: Quantization | None = None,
) -> Session:
    """Loads a checkpoint as a session that encodes videos and answers questions.

    Args:
        name: a folder written by `xcomp tune`, `xcomp convert` or `save_pretrained`, a folder in
            the original's PyTorch layout, or a hub id such as "owner/name" of either kind.
        revision: branch, tag or commit of a hub id (default: main); the commit that
            it resolves to is printed.
        dtype: dtype of parameters and arithmetic (default: float32 on a CPU, elsewhere the
            checkpoint's).
        compression: compression of a checkpoint in PyTorch layout (default: LP-Comp as published);
            a base model has `CompressionConfig(schedule="none")`.
        sampling: frame sampling (default: the checkpoint's, else the original's).
        selection: frame selection (default: the paper's rule); None uses all frames.
        store: token store, or its folder, that keeps visual tokens between processes.
        mesh: devices to use (default: all local ones).
        quantize: "int8" stores the language model's matrices and the KV cache of videos in int8,
            which halves the memory that they take and the bytes that each token reads. Visual
            tokens do not change. Such a session cannot be saved.

    Raises:
        ValueError: there is no such folder or repository, or it is not a checkpoint; the message
            lists the problems.
    """
    if compression is not None and not isinstance(compression, CompressionConfig):
        raise ValueError(
            f"compression={compression!r} is not a CompressionConfig; for a base model pass "
            'xcomp_jax.CompressionConfig(schedule="none")'
        )
    if quantize not in (None, "int8"):
        raise ValueError(f"{quantize=} is not known; use 'int8' or None")
    if store is not None and not isinstance(store, TokenStore):
        store = TokenStore(Path(store).expanduser())
    from xcomp_jax.convert.hub import find_source

    local = Path(name).expanduser()
    source = find_source(str(local if local.exists() else name), revision)
    if not (source.folder / PARAMS_FOLDER).is_dir():
        return _open_torch(
            source.folder, dtype, compression, sampling, selection, store, mesh, quantize
        )
    if compression is not None:
        raise ValueError(
            f"{name} is a converted checkpoint; compression applies to PyTorch checkpoints only, "
            "remove it"
        )
    return open_session(
        source.folder,
        dtype=dtype,
        sampling=sampling,
        selection=selection,
        store=store,
        mesh=mesh,
        quantize=quantize,
    )


def _open_torch(
    folder: Path,
    dtype: DType | None,
    compression: CompressionConfig | None,
    sampling: SamplingConfig | None,
    selection: SelectionConfig | None,
    store: TokenStore | None,
    mesh: Mesh | None,
    quantize: Quantization | None,
) -> Session:
    """Opens a checkpoint in the original's layout, converted in memory."""
    import jax

    from xcomp_jax.convert.from_torch import load_torch_checkpoint
    from xcomp_jax.engine.generation_config import greedy_as_evaluated
    from xcomp_jax.engine.placement import default_mesh
    from xcomp_jax.text.tokenizer import load_tokenizer

    config, params = load_torch_checkpoint(
        folder, dtype=default_dtype(dtype), compression=compression, quantization=quantize
    )
    mesh = mesh or default_mesh(params)
    if mesh is None:
        params = jax.tree.map(jax.numpy.asarray, params)
    return Session(
        config,
        params,
        load_tokenizer(str(folder)),
        generation=greedy_as_evaluated(folder),
        sampling=sampling,
        selection=checked_selection(config, selection),
        store=store,
        mesh=mesh,
    )
