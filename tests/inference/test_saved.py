"""States that were saved answer as if they had just been computed, and no others are taken."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.inference.test_selecting import QUESTIONS, SELECTION, watch
from xcomp_jax.inference.open_session import embedded_session
from xcomp_jax.inference.saved import load_states, save_states
from xcomp_jax.inference.session import Session


@pytest.fixture(scope="module", name="session")
def session_fixture() -> Session:
    return embedded_session(selection=SELECTION)


def test_another_day_only_text_is_read(tmp_path: Path) -> None:
    session = embedded_session(dtype="bfloat16", selection=SELECTION)
    memory, _ = watch(session)
    with pytest.raises(ValueError, match="no states to save yet"):
        save_states(session, memory, tmp_path / "states")
    session.ask(memory, QUESTIONS[0])
    save_states(session, memory, tmp_path / "states")
    later, _ = watch(session)
    load_states(session, later, tmp_path / "states")
    got, want = (session.ask(m, QUESTIONS[1]) for m in (later, memory))
    assert "windows watched" not in got.work
    np.testing.assert_array_equal(got.scores, want.scores)
    assert got.token_ids == want.token_ids


def test_where_all_frames_are_used(tmp_path: Path) -> None:
    session = embedded_session(selection=None)
    memory, _ = watch(session, 24)
    want = session.ask(memory, QUESTIONS[0])
    save_states(session, memory, tmp_path / "whole")
    later, _ = watch(session, 24)
    load_states(session, later, tmp_path / "whole")
    got = session.ask(later, QUESTIONS[0])
    assert got.token_ids == want.token_ids
    assert got.work.keys() == {"text rows"}


def test_states_of_something_else_are_refused(session: Session, tmp_path: Path) -> None:
    memory, _ = watch(session)
    session.ask(memory, QUESTIONS[0])
    path = tmp_path / "states"
    save_states(session, memory, path)
    shorter, _ = watch(session, 100)
    other = embedded_session(selection=dataclasses.replace(SELECTION, repeats=2))
    for owner, later in ((session, shorter), (other, watch(other)[0])):
        with pytest.raises(ValueError, match="states of another video, frames, model or selection"):
            load_states(owner, later, path)
        assert later.states == {}
    later, _ = watch(session)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="does not match its checksum"):
        load_states(session, later, path)
    path.write_bytes(data[:100])
    with pytest.raises(ValueError, match="not a readable file of states"):
        load_states(session, later, path)
    assert later.states == {}
