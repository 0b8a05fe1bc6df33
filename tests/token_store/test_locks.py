"""Locks on files whose folder may go."""

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


@pytest.mark.parametrize("comes_back", [False, True])
def test_whoever_waited_for_an_evicted_folder_does_not_lock_its_remains(
    tmp_path: Path, comes_back: bool
) -> None:
    folder, answer = tmp_path / "video", list[bool]()
    folder.mkdir()
    with locked(folder / "lock", EXCLUSIVE):
        thread = threading.Thread(target=waiter(folder / "lock", answer))
        thread.start()
        thread.join(0.1)
        assert answer == []  # it is waiting
        gone = folder.rename(tmp_path / "evicted")
        if comes_back:
            folder.mkdir()
    thread.join()
    assert answer == [comes_back]
    assert (folder / "lock").exists() == comes_back
    with locked(gone / "lock", EXCLUSIVE, wait=False) as lock:
        assert lock is not None


def test_shared_locks_go_together_and_exclusive_ones_do_not(tmp_path: Path) -> None:
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
