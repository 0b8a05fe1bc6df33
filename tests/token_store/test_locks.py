"""Tests locks on files whose folder may be evicted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from xcomp_jax.token_store.locks import EXCLUSIVE, SHARED, locked


def waiter(path: Path, answer: list[bool]) -> Callable[[], None]:
    def wait() -> None:
        with locked(path, SHARED) as lock:
            answer.append(lock is not None)

    return wait


@pytest.mark.parametrize("recreated", [False, True])
def test_locked_folder_evicted_while_waiting_is_not_locked(tmp_path: Path, recreated: bool) -> None:
    folder, answer = tmp_path / "video", list[bool]()
    folder.mkdir()
    with locked(folder / "lock", EXCLUSIVE):
        thread = threading.Thread(target=waiter(folder / "lock", answer))
        thread.start()
        thread.join(0.1)
        assert answer == []  # still waiting
        evicted = folder.rename(tmp_path / "evicted")
        if recreated:
            folder.mkdir()
    thread.join()
    assert answer == [recreated]
    assert (folder / "lock").exists() == recreated
    with locked(evicted / "lock", EXCLUSIVE, wait=False) as lock:
        assert lock is not None


def test_locked_shared_locks_coexist_exclusive_do_not(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, SHARED) as first, locked(path, SHARED, wait=False) as second:
        assert first is not None
        assert second is not None
        with locked(path, EXCLUSIVE, wait=False) as third:
            assert third is None
    with (
        locked(path, EXCLUSIVE, wait=False) as first,
        locked(path, SHARED, wait=False) as second,
    ):
        assert first is not None
        assert second is None
    with locked(tmp_path / "nowhere" / "lock", SHARED) as lock:
        assert lock is None
