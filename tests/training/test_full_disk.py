"""Tests runs on a full disk: one line, no partial file, and the same command goes on afterwards."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import pytest

from tests.mutations import is_one_paragraph
from tests.training.tiny_experiment import BASE, EXPERIMENT
from xcomp_jax.config import DataConfig, ExperimentConfig
from xcomp_jax.data.mixture.features import create_features
from xcomp_jax.files import write_text
from xcomp_jax.full_disk import FullDiskError, full_disk_as_error, is_full_disk_error
from xcomp_jax.token_store import TokenStoreError
from xcomp_jax.training import checkpoint_checksums
from xcomp_jax.training.observe import Observation
from xcomp_jax.training.tune import tune


def no_space(*arguments: object, **options: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def experiment() -> ExperimentConfig:
    return dataclasses.replace(
        EXPERIMENT,
        data=DataConfig(
            source="generated",
            num_train_videos=2,
            num_eval_videos=1,
            question_kinds=("color", "direction"),
        ),
        stages=(dataclasses.replace(BASE, num_steps=2, batch_size=2),),
        save_every_steps=1,
    )


def test_tune_full_disk_while_saving_is_one_line_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The save fails in Orbax's background thread."""
    workdir, quiet = tmp_path / "run", Observation(progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_checksums, "checksums_of", no_space)
        with pytest.raises(FullDiskError) as error:
            tune(experiment(), workdir, observation=quiet)
    assert is_one_paragraph(str(error.value))
    assert str(error.value).startswith(f"the disk of {workdir} is full; free some space there and")
    assert "run the same command again" in str(error.value)
    assert not [path for path in workdir.rglob("*") if "tmp" in path.name or "partial" in path.name]
    assert "seconds" in tune(experiment(), workdir, observation=quiet)
    assert sorted(path.name for path in (workdir / "stages" / "base").iterdir()) == ["1", "2"]


def test_full_disk_error_of_any_library_is_recognized(tmp_path: Path) -> None:
    text = ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device")
    wrapped = ValueError("not written")
    wrapped.__cause__ = text
    group = ExceptionGroup("several", [KeyError("a"), wrapped])
    for problem in (text, wrapped, group, OSError(errno.EDQUOT, "quota", "a.json")):
        with (
            pytest.raises(FullDiskError, match=rf"the disk of {tmp_path} is full.* and stop"),
            full_disk_as_error(tmp_path, remedy="stop"),
        ):
            raise problem
    assert not is_full_disk_error(OSError(errno.EACCES, "Permission denied"))
    with (
        pytest.raises(KeyError, match="unchanged"),
        full_disk_as_error(tmp_path, remedy="stop"),
    ):
        raise KeyError("unchanged")


def test_write_text_full_disk_leaves_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old")
    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "old"


def test_create_features_unwritable_folder_is_one_paragraph(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TokenStoreError, match="Free some space, or use a store") as error:
        create_features(tmp_path / "file" / "store", EXPERIMENT.model, "a" * 64, "float32")
    assert is_one_paragraph(str(error.value))
