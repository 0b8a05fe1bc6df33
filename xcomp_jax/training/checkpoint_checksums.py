"""Stores checksums inside every Orbax checkpoint and verifies them before a restore."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from xcomp_jax.checksums import Checksums, checksums_of, damage_in

CHECKSUMS_ITEM = "checksums"
CHECKSUMS_FILE = "sha256.json"

# Orbax rewrites these of a checkpoint after its items are complete; no restore depends on them.
_WRITTEN_LAST = ("_CHECKPOINT_METADATA", "commit_success.txt")


class ChecksumHandler(ocp.CheckpointHandler):
    """Hashes all other items of a checkpoint before Orbax completes the checkpoint.

    Orbax completes items in the order of its registry, on process 0 and in its background thread. A
    checkpoint therefore never exists without its checksums, and training does not wait for them.
    """

    def save(self, directory: Any, *args: Any, **kwargs: Any) -> None:
        """Writes nothing, because the other items are still being written."""

    def restore(self, directory: Any, *args: Any, **kwargs: Any) -> None:
        """Reads nothing; `checkpoint_damage` reads the file without Orbax."""

    def finalize(self, directory: Any) -> None:
        """Hashes the other items and writes the checksums."""
        own = Path(directory)
        folder = own.parent
        files = (
            path
            for path in folder.rglob("*")
            if path.is_file() and own not in path.parents and not _is_written_last(path, folder)
        )
        text = json.dumps(checksums_of(folder, files), indent=1)
        (own / CHECKSUMS_FILE).write_text(text, encoding="utf-8")


@ocp.args.register_with_handler(ChecksumHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class ChecksumSave(ocp.args.CheckpointArgs):
    """Argument of a save with checksums; its handler must be the last of the registry."""


def has_checksums(folder: Path) -> bool:
    """Returns False for a checkpoint of an earlier version, which has no checksums."""
    return (folder / CHECKSUMS_ITEM).is_dir()


def checkpoint_damage(folder: Path) -> str | None:
    """Describes the damage of a checkpoint that has checksums; None if it is intact."""
    path = folder / CHECKSUMS_ITEM / CHECKSUMS_FILE
    try:
        checksums = _parse(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return f"{CHECKSUMS_ITEM}/{CHECKSUMS_FILE} cannot be read"
    return damage_in(folder, checksums)


def _parse(values: Any) -> Checksums:
    if not isinstance(values, dict):
        raise ValueError("checksums are a JSON object")
    return {str(name): (int(size), str(sha256)) for name, (size, sha256) in values.items()}


def _is_written_last(path: Path, folder: Path) -> bool:
    return path.parent == folder and path.name in _WRITTEN_LAST
