"""Saves the KV cache and the window caches of an encoded video.

Visual tokens are stored separately (`token_store`). These caches depend on them and on the language
model; a file stores a fingerprint of both and loads only where it matches.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.session import Session
from xcomp_jax.models.decoder_state import LayerGroupCache, WindowCache
from xcomp_jax.token_store import hash_encoder


def save_caches(session: Session, video: EncodedVideo, path: Path) -> None:
    """Writes `video.cache` and `video.window_caches` as one safetensors file, atomically.

    Raises:
        ValueError: the video has no caches, because no question was asked.
    """
    parts: list[tuple[str, Any]] = [
        (f"cache.{i}", group) for i, group in enumerate(video.cache or ())
    ]
    for batch, groups in video.window_caches.items():
        parts += [(f"windows.{batch}.{i}", group) for i, group in enumerate(groups)]
    if not parts:
        raise ValueError(f"{video.name}: no caches to save; ask a question first")
    arrays = {
        f"{name}.{field.name}": np.ascontiguousarray(getattr(group, field.name))
        for name, group in parts
        for field in dataclasses.fields(group)
        if getattr(group, field.name) is not None
    }
    metadata = {"caches_of": fingerprint(session, video), "sha256": _digest(arrays)}
    partial = path.with_name(f"{path.name}.partial")
    try:
        save_file(arrays, partial, metadata=metadata)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def load_caches(session: Session, video: EncodedVideo, path: Path) -> None:
    """Fills `video` with caches saved for the same frames, model and selection.

    Raises:
        ValueError: the file is damaged or belongs to another video, model or selection; `video` is
            unchanged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable cache file ({error}); save again") from error
    expected = fingerprint(session, video)
    if metadata.get("caches_of") != expected:
        raise ValueError(
            f"{path}: caches of another video, frames, model or selection "
            f"({str(metadata.get('caches_of'))[:12]} instead of {expected[:12]}); save again"
        )
    if metadata.get("sha256") != _digest(arrays):
        raise ValueError(f"{path}: the content does not match its checksum; save again")
    cache = _groups(arrays, "cache.", LayerGroupCache)
    batches = {name.split(".")[1] for name in arrays if name.startswith("windows.")}
    video.window_caches = {
        int(batch): tuple(_groups(arrays, f"windows.{batch}.", WindowCache)) for batch in batches
    }
    if cache:
        video.cache = jax.tree.map(jnp.asarray, tuple(cache))


def fingerprint(session: Session, video: EncodedVideo) -> str:
    """Returns the sha256 of everything that the caches depend on."""
    tokens = np.ascontiguousarray(video.visual_tokens(None)).view(np.uint8)
    selection = None if video.selection is None else dataclasses.asdict(video.selection)
    facts = {
        "model": dataclasses.asdict(session.config),
        "selection": selection,
        "windows of a call": session.engine.windows_per_call,
        "text before": video.prefix_ids,
        "tokens": hashlib.sha256(tokens.data).hexdigest(),
    }
    return hash_encoder({"llm": session.params["llm"]}, facts)


def _groups(arrays: Mapping[str, np.ndarray], start: str, kind: type) -> list[Any]:
    names = [field.name for field in dataclasses.fields(kind)]
    groups: list[Any] = []
    while f"{start}{len(groups)}.{names[0]}" in arrays:
        prefix = f"{start}{len(groups)}."
        groups.append(kind(**{n: arrays[prefix + n] for n in names if prefix + n in arrays}))
    return groups


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    sha256 = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        sha256.update(json.dumps([name, array.dtype.name, list(array.shape)]).encode())
        sha256.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha256.hexdigest()
