"""Tests any mutation of a store's files: exact clips, missing clips, or an error of a paragraph."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.mutations import is_one_paragraph, mutate
from tests.token_store.examples import contents, example_clips, example_key
from xcomp_jax.data.mixture.feature_index import FeatureIndex
from xcomp_jax.data.mixture.media import Media
from xcomp_jax.token_store import TokenStore, TokenStoreError, hash_video
from xcomp_jax.video.sampling import FramePlan

KEYS = [
    example_key(number, frame_indices=range(4), tokens_per_clip=2, width=3) for number in range(2)
]
CLIPS = [example_clips(key, range(4)) for key in KEYS]
DEFAULT_CASES, ALL_CASES = 100, 2000


@pytest.fixture(scope="module", name="filled")
def filled_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with a video, and a store of two videos in two shards each."""
    folder = tmp_path_factory.mktemp("filled")
    (folder / "a.mp4").write_bytes(b"a video")
    store = TokenStore(folder / "store")
    store.hash_video(folder / "a.mp4")
    for key, clips in zip(KEYS, CLIPS, strict=True):
        for starts in ((0, 1), (2, 3)):
            store.video(key).write({start: clips[start] for start in starts})
    return folder


def check_store(folder: Path) -> tuple[int, str | None]:
    """Reads and repairs a store; returns the number of clips that were exact before."""
    exact = 0
    try:
        store = TokenStore(folder / "store")
        assert store.hash_video(folder / "a.mp4") == hash_video(folder / "a.mp4")
        for key, clips in zip(KEYS, CLIPS, strict=True):
            read = store.video(key).read(range(4))
            assert contents(read) == contents({start: clips[start] for start in read})
            exact += len(read)
            store.video(key).write({start: clips[start] for start in range(4) if start not in read})
            assert contents(store.video(key).read(range(4))) == contents(clips)
        assert {video.key for video in store.contents()} <= {None, *KEYS}
    except TokenStoreError as error:
        return exact, str(error)
    return exact, None


@pytest.mark.parametrize("count", [DEFAULT_CASES, pytest.param(ALL_CASES, marks=pytest.mark.slow)])
def test_store_any_mutation_gives_exact_clips_or_error(
    filled: Path, tmp_path: Path, count: int
) -> None:
    lost = errors = 0
    for seed in range(count):
        folder = tmp_path / str(seed)
        shutil.copytree(filled, folder)
        mutation = mutate(folder / "store", random.Random(seed))
        exact, error = check_store(folder)
        assert error is None or is_one_paragraph(error), (seed, mutation, error)
        lost += exact < 8
        errors += error is not None
        shutil.rmtree(folder)
    print(f"{count} mutations: {lost} lost clips that could be written again, {errors} errors")
    assert lost > count // 10, "control: most mutations hit a shard"


def test_feature_index_flipped_bit_never_finds_another_file(tmp_path: Path) -> None:
    """One bit turns v1.mp4 into v3.mp4, whose size and frames are the same here."""
    plan = FramePlan(indices=(0, 1), duration=1.0, num_frames=2, times=(0.0, 0.5))
    first, other = (Media(path=f"v{number}.mp4", kind="video") for number in (1, 3))
    index = FeatureIndex(tmp_path)
    index.add(other, plan, 10, "b" * 64, 0)
    index.add(first, plan, 10, "a" * 64, 0)
    path = tmp_path / "index-0.csv"
    whole = path.read_bytes()
    assert FeatureIndex(tmp_path).find(first, plan, 10) == "a" * 64
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        damaged = FeatureIndex(tmp_path)
        assert damaged.find(first, plan, 10) in ("a" * 64, None)
        assert damaged.find(other, plan, 10) in ("b" * 64, None)


def test_feature_index_row_without_checksum_is_read(tmp_path: Path) -> None:
    plan = FramePlan(indices=(0, 1), duration=1.0, num_frames=2, times=(0.0, 0.5))
    media = Media(path="v1.mp4", kind="video")
    FeatureIndex(tmp_path).add(media, plan, 10, "a" * 64, 0)
    path = tmp_path / "index-0.csv"
    row, _, _ = path.read_text().rpartition(",")
    path.write_text(f"{row}\r\n")
    assert FeatureIndex(tmp_path).find(media, plan, 10) == "a" * 64
