"""Processes that are killed, and processes that do the same work at the same time."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.token_store import workers
from tests.token_store.made import (
    contents,
    folder_of,
    made_clips,
    made_key,
    partials_of,
    shards_of,
)
from tests.token_store.workers import started
from xcomp_jax.token_store import StoreKey, TokenStore

KEY = made_key(frame_indices=range(480), tokens_per_clip=32, width=64)
ALL = range(KEY.num_clips)
CHUNK = 8


def clean_run(root: Path, key: StoreKey) -> dict[int, bytes]:
    video = TokenStore(root).video(key)
    for i in range(0, key.num_clips, CHUNK):
        video.write(made_clips(key, range(i, min(i + CHUNK, key.num_clips))))
    return contents(video.read(range(key.num_clips)))


def test_killed_at_any_moment_the_store_stays_valid_and_can_be_completed(tmp_path: Path) -> None:
    root, draw = tmp_path / "store", random.Random(0)
    expected = clean_run(tmp_path / "clean", KEY)
    leftovers, progress = 0, list[int]()
    # On a busy machine it takes more attempts to hit a writer in the middle of its work.
    while len(progress) < 40 or (len(progress) < 400 and (leftovers < 3 or not progress[-1])):
        process, connection = started(workers.write_for_ever, root, KEY, CHUNK)
        assert connection.recv() == "ready"
        time.sleep(draw.uniform(0, 0.03))
        assert process.is_alive()
        process.kill()
        process.join()
        leftovers += bool(partials_of(root, KEY))
        before = shards_of(root, KEY)
        read = contents(TokenStore(root).video(KEY).read(ALL))
        assert read.items() <= expected.items()
        assert shards_of(root, KEY) == before  # every complete shard was valid
        progress.append(len(read))
    assert leftovers >= 3, "hardly ever killed while a shard was being written"
    assert progress == sorted(progress)
    assert progress[-1] > 0

    process, connection = started(workers.encode, root, KEY, CHUNK, 1)
    connection.recv()
    connection.send("go")
    assert connection.recv() == "done"
    process.join()
    assert contents(TokenStore(root).video(KEY).read(ALL)) == expected
    assert partials_of(root, KEY) == []


def test_partial_files_of_a_living_writer_stay(tmp_path: Path) -> None:
    store, key = TokenStore(tmp_path, max_bytes=1 << 30), made_key()
    store.video(key).write(made_clips(key, [0]))
    partial = folder_of(tmp_path, key) / ".0123.array_record.partial"
    partial.write_bytes(b"half a shard")
    process, connection = started(workers.hold, tmp_path, made_key(1))
    connection.recv()
    process.kill()
    process.join()
    process, connection = started(workers.encode, tmp_path, key, CHUNK, 1)
    connection.recv()  # has the video in use, and has removed what was there before
    assert not partial.exists()
    partial.write_bytes(b"half a shard")
    store.evict()
    store.video(key).write(made_clips(key, [1]))
    assert partial.exists()
    process.kill()
    process.join()
    store.evict()  # now its writer is dead
    assert not partial.exists()
    assert sorted(store.video(key).read(range(16))) == [0, 1]


def test_two_writers_of_one_video_at_once(tmp_path: Path) -> None:
    expected = clean_run(tmp_path / "clean", KEY)
    root = tmp_path / "store"
    pairs = [started(workers.encode, root, KEY, CHUNK, order) for order in (1, -1)]
    for _, connection in pairs:
        assert connection.recv() == "in use"
    for _, connection in pairs:
        connection.send("go")
    for process, connection in pairs:
        assert connection.recv() == "done"
        process.join()
        assert process.exitcode == 0
    video = TokenStore(root).video(KEY)
    twice = len(shards_of(root, KEY))
    assert twice == 2 * len(ALL) // CHUNK  # control: both did all the work
    assert contents(video.read(ALL)) == expected
    with video:  # alone with the video, what is there twice goes
        assert contents(video.read(ALL)) == expected
    assert len(shards_of(root, KEY)) == len(ALL) // CHUNK
    assert contents(TokenStore(root).video(KEY).read(ALL)) == expected


def test_eviction_in_another_process_at_the_same_time(tmp_path: Path) -> None:
    """Without `with`, a video may go between two calls, but no call ever fails or lies."""
    key = made_key()
    clips = made_clips(key, range(16))
    process, connection = started(workers.evict_often, tmp_path, 10)
    video, found = TokenStore(tmp_path).video(key), 0
    while process.is_alive() and not connection.poll(0.001):
        for start in range(16):
            video.write({start: clips[start]})
            read = video.read(range(start + 1))
            assert all(clip.tobytes() == clips[s].tobytes() for s, clip in read.items())
            found += len(read)
            time.sleep(0.001)
    assert connection.recv() == "done"
    process.join()
    assert process.exitcode == 0
    assert found > 0
    video.write(clips)
    assert contents(video.read(range(16))) == contents(clips)
