"""Hashes of content: of a video's bytes, of an encoder's parameters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xcomp_jax.token_store.sealed import canonical_json
from xcomp_jax.video import ffmpeg
from xcomp_jax.video.errors import VideoError
from xcomp_jax.video.folder import frame_files


def hash_video(path: str | Path) -> str:
    """sha256 (hexadecimal) of a video file's bytes, or of a folder's frame names and bytes.

    Streams: memory does not grow with the video. Raises VideoError if it cannot be read.
    """
    place = ffmpeg.local_path(path)
    try:
        if not place.is_dir():
            return _hash_file(ffmpeg.regular_file(place))
        # Each file's own hash has a fixed length, so no two folders spell the same text.
        listed = [[file.name, _hash_file(file)] for file in frame_files(place)]
    except OSError as error:
        raise VideoError(place, f"not readable ({error})", "Check the path and rights.") from error
    return hashlib.sha256(canonical_json(listed).encode()).hexdigest()


def hash_encoder(params: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """sha256 (hexadecimal) of the parameters and settings that turn frames into visual tokens.

    Args:
        params: nested dicts with arrays (NumPy or JAX) as leaves. Path, shape, dtype and bytes of
            each count, the order of the dicts does not. One leaf at a time is brought to the host.
        config: settings that change the arithmetic but not the parameters (heads, epsilons, token
            merging): anything JSON can hold, such as `dataclasses.asdict(model.vision)`.

    Raises ValueError for a leaf that is no array of numbers, or a config that JSON cannot hold.
    """
    try:
        sha256 = hashlib.sha256(canonical_json(config).encode())
    except TypeError as error:
        raise ValueError(f"hash_encoder: config must be plain JSON values: {error}") from error
    for path, leaf in sorted(_leaves(params, ())):
        array = np.asarray(leaf)
        if array.dtype.kind in "OSUM":
            raise ValueError(f"hash_encoder: {'/'.join(path)!r} is {array.dtype}, not numbers")
        facts = [path, array.dtype.name, array.shape]
        sha256.update(f"\n{json.dumps(facts)}\n".encode())
        sha256.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha256.hexdigest()


def _leaves(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(tree, Mapping):
        yield path, tree
        return
    for name, child in tree.items():
        if not isinstance(name, str):
            raise ValueError(f"hash_encoder: {name!r} below {'/'.join(path)!r} is not a string")
        yield from _leaves(child, (*path, name))


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
