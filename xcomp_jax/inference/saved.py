"""Keeping a watched video's states: compressed keys and values, and what scoring needs.

Visual tokens have a store of their own (`token_store`). These states follow from them and from the
language model; a file of them says from which, and is refused for any other.
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

from xcomp_jax.inference.answer import Stopwatch
from xcomp_jax.inference.encoded_video import EncodedVideo
from xcomp_jax.inference.session import Session
from xcomp_jax.models.decoder_state import LayerGroupCache, WindowCache
from xcomp_jax.token_store import hash_encoder


def save_states(session: Session, memory: EncodedVideo, path: Path) -> None:
    """Writes `memory.prefix` and `memory.states` as one safetensors file, atomically.

    Raises:
        ValueError: there is nothing to save yet: ask something first.
    """
    parts: list[tuple[str, Any]] = [
        (f"prefix.{i}", stage) for i, stage in enumerate(memory.prefix or ())
    ]
    for batch, keys in memory.states.items():
        parts += [(f"states.{batch}.{i}", stage) for i, stage in enumerate(keys)]
    if not parts:
        raise ValueError(f"{memory.name}: no states to save yet; ask something, then save")
    arrays = {
        f"{name}.{field.name}": np.ascontiguousarray(getattr(stage, field.name))
        for name, stage in parts
        for field in dataclasses.fields(stage)
    }
    about = {"states_of": fingerprint(session, memory), "sha256": _digest(arrays)}
    partial = path.with_name(f"{path.name}.partial")
    save_file(arrays, partial, metadata=about)
    partial.replace(path)


def load_states(session: Session, memory: EncodedVideo, path: Path) -> None:
    """Fills `memory` with states saved for the same frames, model and selection.

    Raises:
        ValueError: the file is damaged, or belongs to something else; `memory` stays as it is.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable file of states ({error}); watch again") from error
    wanted = fingerprint(session, memory)
    if about.get("states_of") != wanted:
        raise ValueError(
            f"{path}: states of another video, frames, model or selection "
            f"({str(about.get('states_of'))[:12]} instead of {wanted[:12]}); watch again"
        )
    if about.get("sha256") != _digest(arrays):
        raise ValueError(f"{path}: the content does not match its checksum; watch again")
    prefix = _stages(arrays, "prefix.", LayerGroupCache)
    batches = {name.split(".")[1] for name in arrays if name.startswith("states.")}
    memory.states = {
        int(batch): tuple(_stages(arrays, f"states.{batch}.", WindowCache)) for batch in batches
    }
    if prefix:
        memory.prefix = jax.tree.map(jnp.asarray, tuple(prefix))


def fingerprint(session: Session, memory: EncodedVideo) -> str:
    """sha256 over everything that states follow from."""
    clip = session.config.vision.clip_frames
    places = range(0, memory.num_frames, clip)
    tokens = memory.clips.tokens([memory.clips.clip_at(i) for i in places], Stopwatch())
    selection = None if memory.selection is None else dataclasses.asdict(memory.selection)
    prefix = session.text_around(memory, "-")[0]
    facts = {
        "model": dataclasses.asdict(session.config),
        "selection": selection,
        "text before": prefix,
        "tokens": hashlib.sha256(np.ascontiguousarray(tokens).view(np.uint8).data).hexdigest(),
    }
    return hash_encoder({"llm": session.params["llm"]}, facts)


def _stages(arrays: Mapping[str, np.ndarray], start: str, kind: type) -> list[Any]:
    names = [field.name for field in dataclasses.fields(kind)]
    stages: list[Any] = []
    while f"{start}{len(stages)}.{names[0]}" in arrays:
        stages.append(kind(**{name: arrays[f"{start}{len(stages)}.{name}"] for name in names}))
    return stages


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    sha256 = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        sha256.update(json.dumps([name, array.dtype.name, list(array.shape)]).encode())
        sha256.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha256.hexdigest()
