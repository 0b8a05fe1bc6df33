"""Keeps the packet lists of videos, so that an unchanged file is not read to be probed again."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import io
import json
import logging
import os
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from xcomp_jax.files import write_bytes
from xcomp_jax.token_store.hash_table import HashTable, signature
from xcomp_jax.token_store.locks import EXCLUSIVE, locked
from xcomp_jax.token_store.sealed import canonical_json
from xcomp_jax.video.decode_order import DecodeOrder
from xcomp_jax.video.listing import Listing

logger = logging.getLogger(__name__)

VERSION = 2

COLUMNS = ("ticks", "durations", "sizes", "checksums", "flags", "positions")


class ListingTable:
    """Maps a path to its packet lists while the file's `hash_table.signature` is unchanged.

    An entry is the sha256 of the rest, and a line of JSON before the compressed columns.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def listing(self, path: Path, stream: int | None, list_anew: Callable[[], Listing]) -> Listing:
        """Returns the listing of a file's stream, by `list_anew` unless it is kept.

        A new video is hashed at the same time, while its bytes are in memory (`HashTable`).
        """
        name = f"{os.fsdecode(path)}\n{'' if stream is None else stream}"
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()
        entry = self._folder / f"{digest}.packets"
        before = signature(path)
        if (kept := _read(entry, before)) is not None:
            return kept
        with concurrent.futures.ThreadPoolExecutor(1, "hash") as pool:
            hashed = pool.submit(HashTable(self._folder).hash_video, path)
            listing = list_anew()
        # Whoever needs the hash later gets the error.
        with contextlib.suppress(ValueError, OSError):
            hashed.result()
        if before is not None and signature(path) == before:
            self._write(entry, _encode(listing, before))
        return listing

    def _write(self, entry: Path, content: bytes) -> None:
        try:
            self._folder.mkdir(exist_ok=True)
            with locked(self._folder / "lock", EXCLUSIVE):
                write_bytes(entry, content)
        except OSError as error:  # Keeping it is optional.
            logger.info("%s: packet list not kept (%s)", entry, error)


def _encode(listing: Listing, files: Any) -> bytes:
    order = listing.order
    head = {
        "version": VERSION,
        "files": files,
        "messages": listing.messages,
        "is_timed": listing.is_timed,
        "time_base": str(order.time_base),
        "codec": order.codec,
        "size": order.size,
        "container": order.container,
    }
    columns = io.BytesIO()
    # Differences compress to a fraction of the values.
    steps = np.stack([np.diff(getattr(order, name), prepend=0) for name in COLUMNS])
    np.save(columns, steps.astype(np.int64), allow_pickle=False)
    content = f"{canonical_json(head)}\n".encode() + zlib.compress(columns.getvalue(), 1)
    return hashlib.sha256(content).digest() + content


def _read(entry: Path, files: Any) -> Listing | None:
    """Returns the listing of an entry; None if there is none, or it is of other files."""
    try:
        content = entry.read_bytes()
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            raise ValueError("the checksum does not match the content")
        line, _, compressed = content[32:].partition(b"\n")
        head = json.loads(line)
        if head["version"] != VERSION or head["files"] != files or files is None:
            return None
        steps = np.load(io.BytesIO(zlib.decompress(compressed)), allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, zlib.error) as error:
        logger.warning("%s: corrupted packet list; probing the video again (%s)", entry, error)
        return None
    columns = dict(zip(COLUMNS, np.cumsum(steps, axis=1), strict=True))
    order = DecodeOrder(
        **columns,
        time_base=Fraction(head["time_base"]),
        codec=head["codec"],
        size=tuple(head["size"]),
        container=head["container"],
    )
    return Listing(order, head["messages"], head["is_timed"])
