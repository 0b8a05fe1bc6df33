"""Small things around a checkpoint's weights: tokenizer files, hashes, room on the disk."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from xcomp_jax.convert.errors import ConversionError

# Copied in both directions when they are there. Code files never are: a checkpoint's code stays
# where it came from.
COMPANIONS = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "LICENSE",
    "NOTICE",
)

# What a folder needs beside the weights before anyone can ask it a question.
_EXPECTED = ("vocab.json", "merges.txt", "tokenizer_config.json", "generation_config.json")

_BLOCK = 8 << 20
# Headers, metadata and file-system blocks.
_OVERHEAD = 16 << 20


def companions(folder: Path) -> list[Path]:
    """The tokenizer, generation and licence files in `folder`."""
    return [folder / name for name in COMPANIONS if (folder / name).is_file()]


def missing_companions(folder: Path) -> list[str]:
    return [name for name in _EXPECTED if not (folder / name).is_file()]


def describe_file(path: Path) -> dict[str, Any]:
    """Name, size and sha256 of a file."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            sha256.update(block)
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256.hexdigest()}


def check_disk(out: Path, parameter_bytes: int) -> None:
    """Raises ConversionError when the disk of `out` cannot take that many bytes of parameters."""
    place = out.absolute()
    while not place.exists():
        place = place.parent
    needed, free = parameter_bytes + _OVERHEAD, shutil.disk_usage(place).free
    if needed > free:
        raise ConversionError(
            str(out),
            [f"not enough disk: {needed} bytes are needed, {free} are free on the disk of {place}"],
        )
