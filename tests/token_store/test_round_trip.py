"""Tests that clips are read back bit for bit, and that no other clips are read."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.token_store.examples import contents, example_clips, example_key, folder_of, shards_of
from xcomp_jax.token_store import StoreKey, TokenStore

BITS = {"float32": np.uint32, "bfloat16": np.uint16}
TYPES = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}

# Every example uses a new video, even if hypothesis repeats an example.
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return TokenStore(tmp_path_factory.mktemp("store"))


def test_store_opens_a_folder_named_by_str(tmp_path: Path) -> None:
    store = TokenStore(str(tmp_path / "store"), max_bytes=1 << 20)
    assert store.root == tmp_path / "store"
    assert store.root.is_dir()


@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    starts=st.lists(st.integers(0, 15), min_size=1, max_size=8, unique=True),
)
def test_write_any_finite_bits_are_read_back(
    shared: TokenStore, data: st.DataObject, dtype: str, starts: list[int]
) -> None:
    """Covers zeros of both signs and subnormal numbers, in one shard or two."""
    key = example_key(next(NUMBERS), tokens_per_clip=3, width=5, dtype=dtype)
    bits = data.draw(hnp.arrays(BITS[dtype], (len(starts), 3, 5)))
    values = bits.view(TYPES[dtype])
    with np.errstate(invalid="ignore"):  # signalling NaNs
        values[~np.isfinite(values)] = 0
    clips = dict(zip(starts, values, strict=True))
    cut = data.draw(st.integers(0, len(starts)))
    for part in (starts[:cut], starts[cut:]):
        shared.video(key).write({start: clips[start] for start in part})
    read = shared.video(key).read(range(16))
    assert contents(read) == contents(clips)
    assert all(clip.dtype == TYPES[dtype] and clip.shape == (3, 5) for clip in read.values())
    assert shared.video(key).missing(range(16)) == [s for s in range(16) if s not in clips]


def test_read_sees_clips_written_by_another_handle(tmp_path: Path) -> None:
    key = example_key()
    clips = example_clips(key, range(16))
    first, second = TokenStore(tmp_path).video(key), TokenStore(tmp_path).video(key)
    assert first.missing([3, 1, 3]) == [3, 1]
    assert first.read([3]) == {}
    assert not folder_of(tmp_path, key).exists()  # Reading creates nothing.
    second.write({3: clips[3]})
    assert first.missing([3, 1]) == [1]
    first.write({1: clips[1], 0: jnp.asarray(clips[0])})
    assert contents(second.read([1, 5, 3, 0])) == contents({s: clips[s] for s in (1, 3, 0)})
    assert list(second.read([1, 5, 3, 0])) == [1, 3, 0]
    assert len(shards_of(tmp_path, key)) == 2
    other = example_key(encoder_hash="f" * 64)
    assert TokenStore(tmp_path).video(other).missing([3]) == [3]


def test_read_one_clip_reads_few_bytes(tmp_path: Path) -> None:
    key = example_key(tokens_per_clip=128, width=512)  # 256 KiB per clip, 4 MiB per shard
    if not Path("/proc/self/io").exists():
        pytest.skip("this system does not report bytes read")
    TokenStore(tmp_path).video(key).write(example_clips(key, range(16)))
    size = shards_of(tmp_path, key)[0].stat().st_size

    def bytes_read(starts: list[int]) -> int:
        def count() -> int:
            return int(Path("/proc/self/io").read_text().split()[1])

        before = count()
        assert len(TokenStore(tmp_path).video(key).read(starts)) == len(starts)
        return count() - before

    single, whole = bytes_read([7]), bytes_read(list(range(16)))
    assert single < size * 0.7  # ArrayRecord reads a megabyte at the end of a file for its index.
    assert whole > size * 0.95  # control: the counter includes all clips
    assert whole - single > 14 * 256 * 1024


def wrong_clips(key: StoreKey) -> dict[str, dict[int, np.ndarray]]:
    good = example_clips(key, [0])[0]
    holed = good.copy()
    holed[3, 4] = np.nan
    return {
        "start": {16: good},
        "negative": {-1: good},
        "shape": {0: good[:-1]},
        "dtype": {0: good.astype(np.float64)},
        "nan": {0: holed},
        "infinity": {0: np.where(np.isnan(holed), np.inf, holed).astype(good.dtype)},
    }


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("wrong", ["start", "negative", "shape", "dtype", "nan", "infinity"])
def test_write_invalid_clip_stores_none(tmp_path: Path, wrong: str, dtype: str) -> None:
    key = example_key(dtype=dtype)
    video = TokenStore(tmp_path).video(key)
    clips = {**example_clips(key, [5]), **wrong_clips(key)[wrong]}
    messages = {"start": "16", "negative": "-1", "nan": "finite", "infinity": "finite"}
    with pytest.raises(ValueError, match=messages.get(wrong, "clip 0 is")):
        video.write(clips)
    assert video.missing([5]) == [5]
    assert not folder_of(tmp_path, key).exists()


def test_read_start_out_of_range_raises(tmp_path: Path) -> None:
    video = TokenStore(tmp_path).video(example_key())
    for method in (video.missing, video.read):
        with pytest.raises(ValueError, match="16"):
            method([3, 16])


def test_write_no_clips_creates_nothing(tmp_path: Path) -> None:
    TokenStore(tmp_path).video(example_key()).write({})
    assert os.listdir(tmp_path) == []


def test_contents_lists_videos_by_last_use(tmp_path: Path) -> None:
    store, keys = TokenStore(tmp_path), [example_key(number) for number in range(3)]
    for key in keys:
        store.video(key).write(example_clips(key, range(4)))
    store.video(keys[0]).write(example_clips(keys[0], range(2, 6)))  # two of them again
    videos = store.contents()
    assert [video.key for video in videos] == [keys[1], keys[2], keys[0]]
    assert [video.clips for video in videos] == [4, 4, 6]
    assert all(video.digest == video.key.digest for video in videos if video.key)
    assert sum(video.bytes for video in videos) == store.size_bytes()
    assert videos[0].last_used < videos[1].last_used < videos[2].last_used


def test_write_restores_a_damaged_key_file(tmp_path: Path) -> None:
    store, key = TokenStore(tmp_path), example_key()
    store.video(key).write(example_clips(key, [0]))
    (folder_of(tmp_path, key) / "key.json").write_text("{")
    assert store.contents()[0].key is None
    assert len(store.video(key).read([0])) == 1
    store.video(key).write(example_clips(key, [1]))
    assert store.contents()[0].key == key
