"""Functions that damage a shard file in different ways."""

from __future__ import annotations

from pathlib import Path

from tests.token_store.examples import example_clips, example_key, records, rewrite, shards_of
from xcomp_jax.token_store import TokenStore

KEY = example_key()
FIRST = range(8)
CLIPS = example_clips(KEY, range(16))


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


# --- damage to the bytes of a file, detected by ArrayRecord's hashes ---------------------------


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-70_000])


def truncated_a_little(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flipped_in_data(path: Path) -> None:
    flip(path, path.read_bytes().index(CLIPS[3].tobytes()[:64]) + 2001)


def flipped_in_header(path: Path) -> None:
    flip(path, path.read_bytes().index(b'"sha256"') + 20)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    path.write_bytes(b"this is a note, not a shard\n" * 10_000)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


# --- damage with valid ArrayRecord hashes, detected by the checksums in the header --------------


def changed_data(path: Path) -> None:
    """Flips a bit, as faulty memory would before the record is written."""
    header, *clips = records(path)
    clips[3] = bytes([clips[3][0] ^ 0x10]) + clips[3][1:]
    rewrite(path, [header, *clips])


def shorter_data(path: Path) -> None:
    header, *clips = records(path)
    clips[3] = clips[3][:-4]
    rewrite(path, [header, *clips])


def swapped_clips(path: Path) -> None:
    header, *clips = records(path)
    rewrite(path, [header, *clips[:3], clips[4], clips[3], *clips[5:]])


def changed_header(path: Path) -> None:
    """Swaps two starts, so that clip 3 would be returned as clip 4."""
    header, *clips = records(path)
    changed = header.replace(b'"starts":[0,1,2,3,4,', b'"starts":[0,1,2,4,3,')
    assert changed != header
    rewrite(path, [changed, *clips])


def without_header(path: Path) -> None:
    rewrite(path, records(path)[1:])


def missing_record(path: Path) -> None:
    rewrite(path, records(path)[:-1])


def no_records(path: Path) -> None:
    rewrite(path, [])


def other_video(path: Path) -> None:
    """Copies a valid shard of another video."""
    other = example_key(1)
    store = path.parent / "other"
    TokenStore(store).video(other).write(example_clips(other, FIRST))
    path.write_bytes(shards_of(store, other)[0].read_bytes())


IN_FILE = [
    truncated,
    truncated_a_little,
    flipped_in_data,
    flipped_in_header,
    empty,
    foreign,
    zeros,
]
IN_RECORDS = [
    changed_data,
    shorter_data,
    swapped_clips,
    changed_header,
    without_header,
    missing_record,
    no_records,
    other_video,
]
