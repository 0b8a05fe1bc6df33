"""Writing a checkpoint: complete under its name, or not there at all."""

from __future__ import annotations

import contextlib
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

from xcomp_jax.checkpoint.read import CONFIG_FILE, FORMAT, PARAMS_FOLDER, VERSION, digest
from xcomp_jax.checkpoint.tree import CheckpointError, check_shapes
from xcomp_jax.config import ModelConfig, to_dict

# Large arrays are written in chunks of at most this many bytes, so that writing needs a few chunks
# of memory beside them. OCDBT, Orbax's default, buffers a whole copy of the parameters instead.
_CHUNK_BYTES = 64 << 20
_CONCURRENT_GB = 1


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
        params: nested tree of arrays.
        source: where they come from; any JSON object.
        extra_files: copied into the folder under their own names (tokenizer files).
        texts: further small files, name -> content (the model card).
        overwrite: replace a checkpoint that is already there.

    Raises:
        CheckpointError: the tree contradicts `model`, `folder` is taken, or the disk refuses.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    check_shapes(folder, model, {path: tuple(np.shape(leaf)) for path, leaf in flat.items()})
    config = {
        "format": FORMAT,
        "version": VERSION,
        "model": to_dict(model),
        "source": dict(source),
        "sha256": _digests(flat),
    }
    with new_folder(folder, overwrite=overwrite) as draft:
        _save_arrays(draft / PARAMS_FOLDER, params)
        if jax.process_index() == 0:
            for path in extra_files:
                shutil.copyfile(path, draft / path.name)
            for name, text in (texts or {}).items():
                (draft / name).write_text(text, encoding="utf-8")
            text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
            (draft / CONFIG_FILE).write_text(text, encoding="utf-8")


def _digests(flat: Mapping[str, Any]) -> dict[str, str]:
    """Digest of every array that this process holds as a whole."""
    return {
        path: digest(_gather(leaf))
        for path, leaf in flat.items()
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
    }


def _gather(leaf: Any) -> np.ndarray:
    """The whole array on the host; np.asarray would keep that copy as long as a sharded array."""
    if not isinstance(leaf, jax.Array) or len(leaf.sharding.device_set) == 1:
        return np.asarray(leaf)
    whole = np.empty(leaf.shape, leaf.dtype)
    for shard in leaf.addressable_shards:
        whole[shard.index] = shard.data
    return whole


def _save_arrays(folder: Path, params: dict[str, Any]) -> None:
    arguments = jax.tree.map(_save_args, params)
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False, save_concurrent_gb=_CONCURRENT_GB)
    with _quiet_orbax(), ocp.Checkpointer(handler) as checkpointer:
        try:
            checkpointer.save(
                folder.absolute(), args=ocp.args.PyTreeSave(params, save_args=arguments)
            )
        except ValueError as error:  # what TensorStore raises for a full disk, among others
            raise CheckpointError(f"{folder}: cannot be written: {error}") from error


def _save_args(leaf: Any) -> ocp.SaveArgs:
    if leaf.nbytes <= _CHUNK_BYTES:
        return ocp.SaveArgs()
    # Cut along the first axis: the blocks of a stack lie one after the other in memory.
    return ocp.SaveArgs(chunk_byte_size=_CHUNK_BYTES, shard_axes=(0,))


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
