"""Writes a checkpoint folder: parameters, configuration, tokenizer and further small files."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util

from xcomp_jax.checkpoint.checksums import file_checksums
from xcomp_jax.checkpoint.draft import new_folder
from xcomp_jax.checkpoint.ownership import SAVE, Writer
from xcomp_jax.checkpoint.read import CONFIG_FILE, FORMAT, PARAMS_FOLDER, VERSION
from xcomp_jax.checkpoint.stream import LazyArray, StreamHandler
from xcomp_jax.checkpoint.strict_json import format_json
from xcomp_jax.checkpoint.tree import CheckpointError, check_shapes
from xcomp_jax.config import ModelConfig, to_dict
from xcomp_jax.text.tokenizer_files import SavableTokenizer, write_tokenizer

COMMIT_MARKER = "commit_success.txt"
"""File of which Orbax reads only that it exists; it writes a path of this machine into it."""


def save_params(
    folder: str | os.PathLike[str],
    model: ModelConfig,
    params: dict[str, Any],
    *,
    source: Mapping[str, Any] | None = None,
    tokenizer: SavableTokenizer | None = None,
    extra_files: Iterable[Path] = (),
    texts: Mapping[str, str] | None = None,
    writer: Writer = SAVE,
    overwrite: bool = False,
) -> None:
    """Writes a checkpoint atomically: `folder` appears only once it is complete.

    Every process of a run calls this with its global arrays; `folder` is on shared storage.

    Args:
        folder: folder to create.
        model: configuration of the model.
        params: nested tree of jax.Array, numpy.ndarray or LazyArray.
        source: provenance of the parameters, as JSON values.
        tokenizer: written by `write_tokenizer`, so that `load_tokenizer(folder)` reads it.
        extra_files: files to copy under their own names.
        texts: further small files, name -> content, e.g. the model card.
        writer: command that the folder is attributed to.
        overwrite: replace a checkpoint of the same writer.

    Raises:
        CheckpointError: the tree does not match `model`, `folder` exists, or writing fails.
    """
    with new_folder(folder, writer, overwrite=overwrite) as draft:
        write_checkpoint(
            draft,
            model,
            params,
            source=source,
            tokenizer=tokenizer,
            extra_files=extra_files,
            texts=texts,
        )


def write_checkpoint(
    draft: Path,
    model: ModelConfig,
    params: dict[str, Any],
    *,
    source: Mapping[str, Any] | None = None,
    tokenizer: SavableTokenizer | None = None,
    extra_files: Iterable[Path] = (),
    texts: Mapping[str, str] | None = None,
) -> None:
    """Writes the contents of a checkpoint into `draft`, a folder from `new_folder`.

    For callers that add more files before the folder gets its name. Arguments and errors are those
    of `save_params`.
    """
    if not isinstance(model, ModelConfig) or not isinstance(params, Mapping):
        raise CheckpointError(
            f"config is of type {type(model).__name__} and params of type {type(params).__name__}; "
            "the order is (folder, config: ModelConfig, params: dict)"
        )
    flat = traverse_util.flatten_dict(params, sep="/")
    check_shapes(draft, model, {path: tuple(leaf.shape) for path, leaf in flat.items()})
    digests = _save_arrays(draft / PARAMS_FOLDER, flat)
    if jax.process_index() != 0:
        return
    marker = draft / PARAMS_FOLDER / COMMIT_MARKER
    if marker.exists():
        marker.write_text("committed\n", encoding="utf-8")
    names = [path.replace("/", ".") for path in digests]
    if tokenizer is not None:
        write_tokenizer(tokenizer, draft)
    for path in extra_files:
        shutil.copyfile(path, draft / path.name)
    for name, text in (texts or {}).items():
        (draft / name).write_text(text, encoding="utf-8")
    config = {
        "format": FORMAT,
        "version": VERSION,
        "model": to_dict(model),
        "source": dict(source or {}),
        "sha256": digests,
        "files": file_checksums(draft / PARAMS_FOLDER, names),
    }
    try:
        text = format_json(config)
    except ValueError as error:
        raise CheckpointError(f"{CONFIG_FILE} cannot be written: {error}") from error
    (draft / CONFIG_FILE).write_text(text, encoding="utf-8")


def _save_arrays(folder: Path, flat: Mapping[str, Any]) -> dict[str, str]:
    """Writes the Orbax pytree; returns the sha256 of every array that this process has whole."""
    stream = StreamHandler()
    registry = ocp.type_handlers.create_type_handler_registry(
        (LazyArray, stream), (jax.Array, ocp.type_handlers.get_type_handler(jax.Array))
    )
    handler = ocp.PyTreeCheckpointHandler(
        use_ocdbt=False, use_zarr3=True, type_handler_registry=registry
    )
    leaves = {path: _streamed(leaf) for path, leaf in flat.items()}
    tree = traverse_util.unflatten_dict(leaves, sep="/")
    with _orbax_warnings_disabled(), ocp.Checkpointer(handler) as checkpointer:
        try:
            checkpointer.save(folder.resolve(), args=ocp.args.PyTreeSave(tree))
        except ValueError as error:  # TensorStore raises it for a full disk, for example.
            raise CheckpointError(f"{folder}: cannot be written: {error}") from error
    by_name = {path.replace("/", "."): path for path in leaves}
    return {by_name[name]: sha256 for name, sha256 in sorted(stream.digests.items())}


def _streamed(leaf: Any) -> LazyArray | jax.Array:
    """Wraps arrays that this process has whole; returns arrays spread over processes unchanged."""
    if isinstance(leaf, LazyArray):
        return leaf
    if isinstance(leaf, np.ndarray):
        return LazyArray(leaf.shape, leaf.dtype, leaf.__getitem__)
    if not leaf.is_fully_addressable:
        return leaf
    return LazyArray(leaf.shape, np.dtype(leaf.dtype), functools.partial(_rows, leaf))


def _rows(array: jax.Array, rows: slice) -> np.ndarray:
    """Copies `array[rows]` from the devices to the host."""
    out = np.empty((rows.stop - rows.start, *array.shape[1:]), array.dtype)
    for shard in array.addressable_shards:
        first, *rest = shard.index
        start, stop, _ = first.indices(array.shape[0])
        low, high = max(start, rows.start), min(stop, rows.stop)
        if low < high:
            target = (slice(low - rows.start, high - rows.start), *rest)
            out[target] = np.asarray(shard.data)[low - start : high - start]
    return out


@contextlib.contextmanager
def _orbax_warnings_disabled() -> Iterator[None]:
    """Hides Orbax's warning about missing OCDBT files, which are disabled on purpose."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
