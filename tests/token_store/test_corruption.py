"""Every damage is noticed, logged, removed and can be written again; nothing wrong is returned."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.token_store.made import (
    contents,
    folder_of,
    made_clips,
    made_key,
    records,
    rewrite,
    shards_of,
)
from xcomp_jax.token_store import TokenStore, sealed, shards

KEY = made_key()
LEFT, RIGHT = range(8), range(8, 16)
CLIPS = made_clips(KEY, range(16))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two shards of 8 clips each."""
    video = TokenStore(tmp_path / "store").video(KEY)
    for starts in (LEFT, RIGHT):
        video.write({start: CLIPS[start] for start in starts})
    return tmp_path / "store"


def shard_with(root: Path, start: int) -> Path:
    (found,) = (
        path
        for path in shards_of(root, KEY)
        if start in shards.read_header(path, KEY.digest).starts
    )
    return found


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


# --- damage to the bytes of a file, which ArrayRecord's hashes notice --------------------------


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


# --- damage that ArrayRecord cannot know about, which our checksums notice ----------------------


def changed_data(path: Path) -> None:
    """As if memory had flipped a bit before the record was written."""
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
    """Two starts are exchanged, so that clip 3 would be given out as clip 4."""
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
    """A valid shard, copied here from another video."""
    other = made_key(1)
    store = path.parent / "other"
    TokenStore(store).video(other).write(made_clips(other, LEFT))
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


@pytest.mark.parametrize("damage", IN_FILE + IN_RECORDS)
def test_damage_is_noticed_removed_and_written_again(
    root: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = shard_with(root, 3)
    damage(path)
    video = TokenStore(root).video(KEY)
    with caplog.at_level(logging.WARNING):
        read = video.read(range(16))
    for start, clip in read.items():
        assert clip.tobytes() == CLIPS[start].tobytes()
    assert 3 not in read
    assert read.keys() >= set(RIGHT)
    assert caplog.text.count(str(path)) == 1
    assert "corrupted" in caplog.text
    assert not path.exists()
    for handle in (video, TokenStore(root).video(KEY)):
        assert handle.missing(range(16)) == list(LEFT)
    video.write({start: CLIPS[start] for start in video.missing(range(16))})
    assert contents(TokenStore(root).video(KEY).read(range(16))) == contents(CLIPS)


@pytest.mark.parametrize("damage", [flipped_in_data, changed_data, changed_header])
def test_damage_after_the_header_was_read_is_noticed(
    root: Path, damage: Callable[[Path], None]
) -> None:
    video = TokenStore(root).video(KEY)
    assert video.missing(range(16)) == []
    damage(shard_with(root, 3))
    read = video.read([3, 4, 9])
    assert all(clip.tobytes() == CLIPS[start].tobytes() for start, clip in read.items())
    assert 9 in read


@pytest.mark.parametrize("damage", [changed_data, swapped_clips])
def test_control_without_our_checksum_changed_clips_go_unnoticed(
    root: Path, damage: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(shard_with(root, 3))
    monkeypatch.setattr(shards, "is_clip", lambda data, sha256: True)
    read = TokenStore(root).video(KEY).read([3])
    assert read[3].tobytes() != CLIPS[3].tobytes()


def test_control_without_the_seal_a_changed_header_goes_unnoticed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_header(shard_with(root, 3))
    monkeypatch.setattr(sealed, "is_sealed_by", lambda checksum, content: True)
    monkeypatch.setattr(shards, "is_clip", lambda data, sha256: True)
    read = TokenStore(root).video(KEY).read([4])
    assert read[4].tobytes() == CLIPS[3].tobytes()


def test_control_flipped_bytes_of_a_file_are_noticed_twice(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also without our checksums: ArrayRecord has its own."""
    flipped_in_data(shard_with(root, 3))
    monkeypatch.setattr(shards, "is_clip", lambda data, sha256: True)
    assert TokenStore(root).video(KEY).read([3]) == {}


def test_random_damage_never_gives_a_wrong_clip(root: Path) -> None:
    path = shard_with(root, 3)
    whole, draw = path.read_bytes(), random.Random(0)
    removed = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 1, 8])):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        read = TokenStore(root).video(KEY).read(LEFT)
        assert all(clip.tobytes() == CLIPS[start].tobytes() for start, clip in read.items())
        removed += not path.exists()
    assert 30 < removed < 300  # a flip in the padding between records harms nothing


def test_verify_finds_damage_without_being_asked_for_the_clip(root: Path) -> None:
    video = TokenStore(root).video(KEY)
    assert video.verify() == []
    flipped_in_data(shard_with(root, 3))
    assert video.missing(range(16)) == []  # headers only
    assert video.verify() == list(LEFT)
    assert video.missing(range(16)) == list(LEFT)
    assert contents(video.read(range(16))) == contents({s: CLIPS[s] for s in RIGHT})


def test_a_duplicate_stands_in_for_a_damaged_clip(root: Path) -> None:
    damaged = shard_with(root, 3)
    TokenStore(root).video(KEY).write({start: CLIPS[start] for start in range(2, 6)})
    flipped_in_data(damaged)
    video = TokenStore(root).video(KEY)
    assert video.read([3])[3].tobytes() == CLIPS[3].tobytes()
    video.verify()
    assert video.missing(range(16)) == [0, 1, 6, 7]


def test_files_of_others_are_left_alone(root: Path) -> None:
    strangers = [folder_of(root, KEY) / name for name in ("notes.txt", ".array_record", "a.png")]
    for path in strangers:
        path.write_text("mine")
    (root / "README").write_text("mine")
    video = TokenStore(root).video(KEY)
    assert contents(video.read(range(16))) == contents(CLIPS)
    video.write({0: CLIPS[0]})
    assert all(path.read_text() == "mine" for path in strangers)


def test_a_file_that_cannot_be_opened_is_not_taken_for_a_corrupted_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files, for one, must not cost the clips."""
    video = TokenStore(root).video(KEY)
    opened = Path.open

    def failing(path: Path, *how: str) -> object:
        if path.suffix == shards.SUFFIX:
            raise OSError(24, "Too many open files")
        return opened(path, *how)

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(OSError, match="Too many open files"):
        video.read([3])
    monkeypatch.undo()
    assert contents(video.read(range(16))) == contents(CLIPS)
