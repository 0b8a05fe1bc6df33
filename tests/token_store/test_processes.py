"""Tests killed processes and processes that write the same video at the same time."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.token_store import workers
from tests.token_store.examples import (
    contents,
    example_clips,
    example_key,
    folder_of,
    partials_of,
    shards_of,
)
from tests.token_store.workers import start_process
from xcomp_jax.token_store import StoreKey, TokenStore

KEY = example_key(frame_indices=range(480), tokens_per_clip=32, width=64)
ALL = range(KEY.num_clips)
CHUNK = 8


def clean_run(root: Path, key: StoreKey) -> dict[int, bytes]:
    video = TokenStore(root).video(key)
    for i in range(0, key.num_clips, CHUNK):
        video.write(example_clips(key, range(i, min(i + CHUNK, key.num_clips))))
    return contents(video.read(range(key.num_clips)))


def test_store_writer_killed_anytime_stays_valid(tmp_path: Path) -> None:
    root, draw = tmp_path / "store", random.Random(0)
    expected = clean_run(tmp_path / "clean", KEY)
    leftovers, progress = 0, list[int]()
    # On a busy machine it takes more attempts to kill a writer in the middle of a shard.
    while len(progress) < 40 or (len(progress) < 400 and (leftovers < 3 or not progress[-1])):
        process, connection = start_process(workers.write_for_ever, root, KEY, CHUNK)
        assert connection.recv() == "ready"
        time.sleep(draw.uniform(0, 0.03))
        assert process.is_alive()
        process.kill()
        process.join()
        leftovers += bool(partials_of(root, KEY))
        before = shards_of(root, KEY)
        read = contents(TokenStore(root).video(KEY).read(ALL))
        assert read.items() <= expected.items()
        assert shards_of(root, KEY) == before  # every complete shard is valid
        progress.append(len(read))
    assert leftovers >= 3, "too few kills happened while a shard was being written"
    assert progress == sorted(progress)
    assert progress[-1] > 0

    process, connection = start_process(workers.encode, root, KEY, CHUNK, 1)
    connection.recv()
    connection.send("go")
    assert connection.recv() == "done"
    process.join()
    assert contents(TokenStore(root).video(KEY).read(ALL)) == expected
    assert partials_of(root, KEY) == []


def test_evict_keeps_partial_files_of_running_writer(tmp_path: Path) -> None:
    store, key = TokenStore(tmp_path, max_bytes=1 << 30), example_key()
    store.video(key).write(example_clips(key, [0]))
    partial = folder_of(tmp_path, key) / ".0123.array_record.partial"
    partial.write_bytes(b"half a shard")
    process, connection = start_process(workers.hold, tmp_path, example_key(1))
    connection.recv()
    process.kill()
    process.join()
    process, connection = start_process(workers.encode, tmp_path, key, CHUNK, 1)
    connection.recv()  # The video is in use, and older partial files are deleted.
    assert not partial.exists()
    partial.write_bytes(b"half a shard")
    store.evict()
    store.video(key).write(example_clips(key, [1]))
    assert partial.exists()
    process.kill()
    process.join()
    store.evict()  # The writer is no longer running.
    assert not partial.exists()
    assert sorted(store.video(key).read(range(16))) == [0, 1]


def test_store_two_concurrent_writers_agree(tmp_path: Path) -> None:
    expected = clean_run(tmp_path / "clean", KEY)
    root = tmp_path / "store"
    pairs = [start_process(workers.encode, root, KEY, CHUNK, order) for order in (1, -1)]
    for _, connection in pairs:
        assert connection.recv() == "in use"
    for _, connection in pairs:
        connection.send("go")
    for process, connection in pairs:
        assert connection.recv() == "done"
        process.join()
        assert process.exitcode == 0
    video = TokenStore(root).video(KEY)
    assert len(shards_of(root, KEY)) == 2 * len(ALL) // CHUNK  # control: both wrote every clip
    assert contents(video.read(ALL)) == expected
    with video:  # A single user deletes the duplicates.
        assert contents(video.read(ALL)) == expected
    assert len(shards_of(root, KEY)) == len(ALL) // CHUNK
    assert contents(TokenStore(root).video(KEY).read(ALL)) == expected


def test_store_concurrent_eviction_never_breaks_calls(tmp_path: Path) -> None:
    """Without `with`, a video may be evicted between calls, but each call returns valid clips."""
    key = example_key()
    clips = example_clips(key, range(16))
    process, connection = start_process(workers.evict_often, tmp_path, 10)
    video, num_read = TokenStore(tmp_path).video(key), 0
    while process.is_alive() and not connection.poll(0.001):
        for start in range(16):
            video.write({start: clips[start]})
            read = video.read(range(start + 1))
            assert all(clip.tobytes() == clips[s].tobytes() for s, clip in read.items())
            num_read += len(read)
            time.sleep(0.001)
    assert connection.recv() == "done"
    process.join()
    assert process.exitcode == 0
    assert num_read > 0
    video.write(clips)
    assert contents(video.read(range(16))) == contents(clips)
