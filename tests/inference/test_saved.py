"""Tests saving and loading the caches of an encoded video."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.inference.test_selecting import QUESTIONS, SELECTION, encode
from xcomp_jax.inference.open_session import demo_session
from xcomp_jax.inference.saved import load_caches, save_caches
from xcomp_jax.inference.session import Session


@pytest.fixture(scope="module", name="session")
def session_fixture() -> Session:
    return demo_session(selection=SELECTION)


def test_ask_with_loaded_caches_prefills_no_window(tmp_path: Path) -> None:
    session = demo_session(dtype="bfloat16", selection=SELECTION)
    video, _ = encode(session)
    with pytest.raises(ValueError, match="no caches to save"):
        save_caches(session, video, tmp_path / "caches")
    session.ask(video, QUESTIONS[0])
    save_caches(session, video, tmp_path / "caches")
    loaded, _ = encode(session)
    load_caches(session, loaded, tmp_path / "caches")
    answer, expected = (session.ask(v, QUESTIONS[1]) for v in (loaded, video))
    assert "windows prefilled" not in answer.work
    np.testing.assert_array_equal(answer.scores, expected.scores)
    assert answer.token_ids == expected.token_ids


def test_save_caches_failed_write_leaves_no_file(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, _ = encode(session)
    session.ask(video, QUESTIONS[0])

    def full(arrays: object, path: Path, **_: object) -> None:
        path.write_bytes(b"part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("xcomp_jax.inference.saved.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_caches(session, video, tmp_path / "caches")
    assert list(tmp_path.iterdir()) == []


def test_cache_of_all_frames_round_trips(tmp_path: Path) -> None:
    session = demo_session(selection=None)
    video, _ = encode(session, 24)
    expected = session.ask(video, QUESTIONS[0])
    save_caches(session, video, tmp_path / "whole")
    loaded, _ = encode(session, 24)
    load_caches(session, loaded, tmp_path / "whole")
    answer = session.ask(loaded, QUESTIONS[0])
    assert answer.token_ids == expected.token_ids
    assert answer.work.keys() == {"text rows"}


def test_load_caches_foreign_or_damaged_raises(session: Session, tmp_path: Path) -> None:
    video, _ = encode(session)
    session.ask(video, QUESTIONS[0])
    path = tmp_path / "caches"
    save_caches(session, video, path)
    shorter, _ = encode(session, 100)
    other = demo_session(selection=dataclasses.replace(SELECTION, repeats=2))
    for owner, target in ((session, shorter), (other, encode(other)[0])):
        with pytest.raises(ValueError, match="caches of another video, frames, model or selection"):
            load_caches(owner, target, path)
        assert target.window_caches == {}
    target, _ = encode(session)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="does not match its checksum"):
        load_caches(session, target, path)
    path.write_bytes(data[:100])
    with pytest.raises(ValueError, match="not a readable cache file"):
        load_caches(session, target, path)
    assert target.window_caches == {}
