"""Writing a checkpoint: complete under its name, or not there at all."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util
from jax.experimental import multihost_utils

from xcomp_jax.checkpoint.read import CONFIG_FILE, FORMAT, PARAMS_FOLDER, VERSION
from xcomp_jax.checkpoint.stream import LazyArray, StreamHandler
from xcomp_jax.checkpoint.tree import CheckpointError, check_shapes
from xcomp_jax.config import ModelConfig, to_dict


def save_params(
    folder: str | os.PathLike[str],
    model: ModelConfig,
    params: dict[str, Any],
    *,
    source: Mapping[str, Any],
    extra_files: Iterable[Path] = (),
    texts: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a checkpoint that appears under its name only once it is complete.

    Every process of a run calls this with its global arrays; `folder` is on storage they share.

    Args:
        folder: to be created.
        model: configuration the parameters belong to.
        params: nested tree of jax.Array, numpy.ndarray or LazyArray.
        source: where they come from; any JSON object.
        extra_files: copied into the folder under their own names (tokenizer files).
        texts: further small files, name -> content (the model card).
        overwrite: replace a checkpoint that is already there.

    Raises:
        CheckpointError: the tree contradicts `model`, `folder` is taken, or the disk refuses.
    """
    with new_folder(folder, overwrite=overwrite) as draft:
        write_checkpoint(draft, model, params, source=source, extra_files=extra_files, texts=texts)


def write_checkpoint(
    draft: Path,
    model: ModelConfig,
    params: dict[str, Any],
    *,
    source: Mapping[str, Any],
    extra_files: Iterable[Path] = (),
    texts: Mapping[str, str] | None = None,
) -> None:
    """What `save_params` puts into the folder, for callers that have more to do before it is named.

    Arguments and errors are those of `save_params`; `draft` comes from `new_folder`.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    check_shapes(draft, model, {path: tuple(leaf.shape) for path, leaf in flat.items()})
    digests = _save_arrays(draft / PARAMS_FOLDER, flat)
    if jax.process_index() != 0:
        return
    for path in extra_files:
        shutil.copyfile(path, draft / path.name)
    for name, text in (texts or {}).items():
        (draft / name).write_text(text, encoding="utf-8")
    config = {
        "format": FORMAT,
        "version": VERSION,
        "model": to_dict(model),
        "source": dict(source),
        "sha256": digests,
    }
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
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
    with _quiet_orbax(), ocp.Checkpointer(handler) as checkpointer:
        try:
            checkpointer.save(folder.absolute(), args=ocp.args.PyTreeSave(tree))
        except ValueError as error:  # what TensorStore raises for a full disk, among others
            raise CheckpointError(f"{folder}: cannot be written: {error}") from error
    by_name = {path.replace("/", "."): path for path in leaves}
    return {by_name[name]: sha256 for name, sha256 in sorted(stream.digests.items())}


def _streamed(leaf: Any) -> LazyArray | jax.Array:
    """Whatever this process has whole is streamed; only arrays spread over processes are not."""
    if isinstance(leaf, LazyArray):
        return leaf
    if isinstance(leaf, np.ndarray):
        return LazyArray(leaf.shape, leaf.dtype, leaf.__getitem__)
    if not leaf.is_fully_addressable:
        return leaf
    return LazyArray(leaf.shape, np.dtype(leaf.dtype), functools.partial(_rows, leaf))


def _rows(array: jax.Array, rows: slice) -> np.ndarray:
    """`array[rows]` on the host, collected from the devices."""
    out = np.empty((rows.stop - rows.start, *array.shape[1:]), array.dtype)
    for shard in array.addressable_shards:
        first, *rest = shard.index
        start, stop, _ = first.indices(array.shape[0])
        low, high = max(start, rows.start), min(stop, rows.stop)
        if low < high:
            place = (slice(low - rows.start, high - rows.start), *rest)
            out[place] = np.asarray(shard.data)[low - start : high - start]
    return out


@contextlib.contextmanager
def new_folder(target: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """A draft beside `target` that takes its name when the block ends well, and vanishes otherwise.

    Only a killed process leaves something: a folder `.NAME.partial-...`, free to be removed.

    Raises:
        CheckpointError: `target` exists; with `overwrite`, only when it is not a checkpoint (no
            config.json), so that a mistyped path never deletes anything else.
    """
    target = Path(target).absolute()
    check_free(target, overwrite=overwrite)
    draft = target.with_name(f".{target.name}.partial-{_shared_token()}")
    first = jax.process_index() == 0
    try:
        if first:
            draft.mkdir(parents=True)
        _barrier("draft")
        yield draft
        _barrier("written")
        if first:
            _take_name(draft, target)
        _barrier("named")
    finally:
        if first:
            shutil.rmtree(draft, ignore_errors=True)


def check_free(target: Path, *, overwrite: bool) -> None:
    """Raises CheckpointError unless `target` may be created, see `new_folder`."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise CheckpointError(f"{target}: exists already; choose another name or allow overwriting")
    if not (target / CONFIG_FILE).is_file():
        raise CheckpointError(
            f"{target}: will not be overwritten, it has no {CONFIG_FILE} and is no checkpoint"
        )


def _take_name(draft: Path, target: Path) -> None:
    if not target.exists():
        draft.rename(target)
        return
    old = draft.with_name(draft.name + ".old")
    target.rename(old)
    draft.rename(target)
    shutil.rmtree(old)


def _shared_token() -> str:
    """The same random name on every process."""
    token = np.uint32(secrets.randbits(32))
    if jax.process_count() > 1:
        token = multihost_utils.broadcast_one_to_all(token)
    return f"{int(token):08x}"


def _barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"checkpoint {name}")


@contextlib.contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Orbax warns that there are no OCDBT files to merge; none were asked for."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
