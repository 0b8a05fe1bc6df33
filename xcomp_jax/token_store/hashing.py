"""Computes content hashes of a video's bytes and of an encoder's parameters."""

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
    """Returns the hexadecimal sha256 of a video file, or of a folder's frame names and bytes.

    Streams the bytes, so memory does not grow with the video.

    Raises:
        VideoError: the video cannot be read.
    """
    video = ffmpeg.local_path(path)
    try:
        if not video.is_dir():
            return _hash_file(ffmpeg.regular_file(video))
        # Hashes of fixed length per file keep the boundaries between files unambiguous.
        listing = [[file.name, _hash_file(file)] for file in frame_files(video)]
    except OSError as error:
        reason = f"not readable ({error})"
        raise VideoError(video, reason, "Check the path and its permissions.") from error
    return hashlib.sha256(canonical_json(listing).encode()).hexdigest()


def hash_encoder(params: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Returns the hexadecimal sha256 of the parameters and settings that determine visual tokens.

    Args:
        params: nested dicts with NumPy or JAX arrays as leaves. The hash covers path, shape, dtype
            and bytes of each, but not the order of the dicts. Leaves are moved to the host one at
            a time.
        config: settings that change the arithmetic but not the parameters (heads, epsilons, token
            merging), as JSON values, e.g. `dataclasses.asdict(model.vision)`.

    Raises:
        ValueError: a leaf is not a numeric array, or `config` is not JSON serialisable.
    """
    try:
        sha256 = hashlib.sha256(canonical_json(config).encode())
    except TypeError as error:
        raise ValueError(f"hash_encoder: config must be plain JSON values: {error}") from error
    for path, leaf in sorted(_leaves(params, ())):
        array = np.asarray(leaf)
        if array.dtype.kind in "OSUM":
            raise ValueError(f"hash_encoder: {'/'.join(path)!r} is {array.dtype}, not numbers")
        header = [path, array.dtype.name, array.shape]
        sha256.update(f"\n{json.dumps(header)}\n".encode())
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
