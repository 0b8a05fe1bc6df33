"""Tests the packet lists kept in a token store."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from tests.video.clips import write_clip
from xcomp_jax.token_store import TokenStore, hash_table
from xcomp_jax.video import listing as video_listing
from xcomp_jax.video.probe import VideoInfo, probe


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mkv", 40, block=4)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Clocks of the listings that ffmpeg made."""
    made: list[str] = []
    original = video_listing._listed

    def counting(source: list[str], clock: str, path: Path, timeout: float) -> object:
        made.append(clock)
        return original(source, clock, path, timeout)

    monkeypatch.setattr(video_listing, "_listed", counting)
    return made


def assert_equal(first: VideoInfo, second: VideoInfo) -> None:
    assert (first.num_frames, first.fps, first.notes) == (
        second.num_frames,
        second.fps,
        second.notes,
    )
    for one, other in ((first.packets, second.packets),):
        assert one is not None
        assert other is not None
        order, other_order = one.decode_order, other.decode_order
        assert order is not None
        assert other_order is not None
        for field in dataclasses.fields(order):
            values = getattr(order, field.name), getattr(other_order, field.name)
            np.testing.assert_array_equal(*values, err_msg=field.name)


def test_probe_kept_listing_equals_a_new_one(clip: Path, tmp_path: Path, listed: list[str]) -> None:
    listings = TokenStore(tmp_path / "store").listings
    new = probe(clip)
    assert_equal(new, probe(clip, listings=listings))
    assert len(listed) == 2
    assert_equal(new, probe(clip, listings=TokenStore(tmp_path / "store").listings))
    assert len(listed) == 2
    write_clip(clip, 30, block=4)
    assert probe(clip, listings=listings).num_frames == 30
    os.utime(clip, ns=(5, 5))
    assert probe(clip, listings=listings).num_frames == 30
    assert len(listed) == 4


def test_probe_with_listings_hashes_the_video(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TokenStore(tmp_path / "store")
    probe(clip, listings=store.listings)
    monkeypatch.setattr(hash_table, "hash_video", None)  # A second hash would fail.
    assert len(store.hash_video(clip)) == 64


@pytest.mark.parametrize("damage", ["empty", "flipped"])
def test_probe_damaged_listing_is_made_again(
    clip: Path,
    tmp_path: Path,
    listed: list[str],
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    listings = TokenStore(tmp_path / "store").listings
    new = probe(clip, listings=listings)
    (entry,) = (tmp_path / "store" / "hashes").glob("*.packets")
    content = bytearray(entry.read_bytes())
    content[-3] ^= 1
    entry.write_bytes(b"" if damage == "empty" else content)
    with caplog.at_level(logging.WARNING):
        assert_equal(new, probe(clip, listings=listings))
    assert str(entry) in caplog.text
    assert len(listed) == 2
