"""Atomic creation of checkpoint folders: a failure leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.convert.conftest import Saved, entries
from xcomp_jax.checkpoint import SAVE, CheckpointError, check_free, new_folder, save_params


def test_failed_new_folder_leaves_nothing(tmp_path: Path) -> None:
    def write(error: BaseException) -> None:
        with new_folder(tmp_path / "out", SAVE) as draft:
            (draft / "half").write_text("x")
            assert not (tmp_path / "out").exists()
            raise error

    for error in (OSError("disk full"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            write(error)
        assert entries(tmp_path) == []


def test_finished_new_folder_takes_its_name(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()  # an empty folder counts as free
    with new_folder(tmp_path / "out", SAVE) as draft:
        (draft / "config.json").write_text("1")
    with new_folder(tmp_path / "out", SAVE, overwrite=True) as draft:
        (draft / "config.json").write_text("2")
    assert entries(tmp_path) == ["out"]
    assert (tmp_path / "out" / "config.json").read_text() == "2"


def test_existing_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(CheckpointError):
            check_free(tmp_path / "file", SAVE, overwrite=overwrite)
    check_free(tmp_path / "free", SAVE, overwrite=False)


def test_full_disk_while_saving_leaves_nothing(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    _, model, params = saved
    monkeypatch.setattr("xcomp_jax.checkpoint.write.shutil.copyfile", full)
    before = entries(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        save_params(tmp_path / "x", model, params, source={}, extra_files=[Path(__file__)])
    assert entries(tmp_path) == before
