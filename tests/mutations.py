"""Damages one file of a folder at random, as disks, copies and people do."""

from __future__ import annotations

import random
from pathlib import Path

KINDS = ("flip", "delete", "truncate", "extend", "empty", "swap", "zeros")


def mutate(folder: Path, draw: random.Random) -> str:
    """Applies one random mutation to the files below `folder`; returns its description."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path, other = draw.sample(files, 2)
    kind = draw.choice(KINDS)
    content = path.read_bytes()
    position = draw.randrange(max(1, len(content)))
    if kind == "delete":
        path.unlink()
    elif kind == "swap":
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
    elif kind == "flip" and content:
        changed = content[position] ^ 1 << draw.randrange(8)
        path.write_bytes(content[:position] + bytes([changed]) + content[position + 1 :])
    elif kind == "truncate":
        path.write_bytes(content[:position])
    elif kind == "zeros":  # a block that never reached the disk
        zeros = bytes(len(content[position : position + 512]))
        path.write_bytes(content[:position] + zeros + content[position + 512 :])
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(content + draw.randbytes(draw.randrange(1, 64)))
    name, other_name = (file.relative_to(folder).as_posix() for file in (path, other))
    return f"{kind} {name} at {position}" + (f" with {other_name}" if kind == "swap" else "")


def is_one_paragraph(message: str) -> bool:
    """Returns True for an error message of a few sentences without a traceback."""
    return 0 < len(message) < 700 and "\n" not in message and "Traceback" not in message
