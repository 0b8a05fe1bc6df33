"""Saved caches answer like computed ones; caches of anything else are refused."""

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


def test_loaded_caches_leave_only_text(tmp_path: Path) -> None:
    session = demo_session(dtype="bfloat16", selection=SELECTION)
    video, _ = encode(session)
    with pytest.raises(ValueError, match="no caches to save"):
        save_caches(session, video, tmp_path / "caches")
    session.ask(video, QUESTIONS[0])
    save_caches(session, video, tmp_path / "caches")
    later, _ = encode(session)
    load_caches(session, later, tmp_path / "caches")
    got, want = (session.ask(m, QUESTIONS[1]) for m in (later, video))
    assert "windows prefilled" not in got.work
    np.testing.assert_array_equal(got.scores, want.scores)
    assert got.token_ids == want.token_ids


def test_cache_of_all_frames_round_trips(tmp_path: Path) -> None:
    session = demo_session(selection=None)
    video, _ = encode(session, 24)
    want = session.ask(video, QUESTIONS[0])
    save_caches(session, video, tmp_path / "whole")
    later, _ = encode(session, 24)
    load_caches(session, later, tmp_path / "whole")
    got = session.ask(later, QUESTIONS[0])
    assert got.token_ids == want.token_ids
    assert got.work.keys() == {"text rows"}


def test_foreign_or_damaged_caches_are_refused(session: Session, tmp_path: Path) -> None:
    video, _ = encode(session)
    session.ask(video, QUESTIONS[0])
    path = tmp_path / "caches"
    save_caches(session, video, path)
    shorter, _ = encode(session, 100)
    other = demo_session(selection=dataclasses.replace(SELECTION, repeats=2))
    for owner, later in ((session, shorter), (other, encode(other)[0])):
        with pytest.raises(ValueError, match="caches of another video, frames, model or selection"):
            load_caches(owner, later, path)
        assert later.window_caches == {}
    later, _ = encode(session)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="does not match its checksum"):
        load_caches(session, later, path)
    path.write_bytes(data[:100])
    with pytest.raises(ValueError, match="not a readable file of caches"):
        load_caches(session, later, path)
    assert later.window_caches == {}
