"""Confines `file://` to the folders that the operator allows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from xcomp_jax.serving.errors import ApiError
from xcomp_jax.serving.video import Source


def local_source(url: str, folders: Sequence[Path]) -> Source:
    """Returns the video of a `file://` URL.

    Percent forms are decoded once, then links and `..` are resolved, and the result must lie below
    an allowed folder.

    Raises:
        ApiError: no folder is allowed, or the path lies elsewhere; both cases read alike whether or
            not the file exists.
    """
    parts = urlsplit(url)
    if not folders:
        raise ApiError(
            403,
            "this server reads no local files; upload the video with POST /v1/files, or start the "
            "server with --allow-folder DIR",
            param="messages",
            code="file_not_allowed",
        )
    refused = ApiError(
        403,
        "the file is not below a folder that the server allows (--allow-folder)",
        param="messages",
        code="file_not_allowed",
    )
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise refused
    path = unquote(parts.path, errors="strict") if "%" in parts.path else parts.path
    if "\0" in path or not path.startswith("/"):
        raise refused
    try:
        real = Path(os.path.realpath(path, strict=True))
    except (OSError, ValueError):
        raise refused from None
    if not any(real.is_relative_to(os.path.realpath(folder)) for folder in folders):
        raise refused
    state = real.stat()
    return Source(f"path:{real}:{state.st_size}:{state.st_mtime_ns}", real, real.name)
