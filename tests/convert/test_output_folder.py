"""Conversion from PyTorch: source and output folders, `--force`, exit codes."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from tests.convert import torch_model
from tests.convert.conftest import conversion_problems, entries
from tests.convert.torch_model import NORM, Q_PROJ
from xcomp_jax.checkpoint import CheckpointError, load_params
from xcomp_jax.cli.main import main
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.from_torch import convert_from_torch
from xcomp_jax.convert.to_torch import convert_to_torch


def test_missing_source_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="no such folder, and not a hub id"):
        convert_from_torch(str(tmp_path / "nowhere"), tmp_path / "out")


def test_source_file_is_rejected(source: Path) -> None:
    with pytest.raises(ConversionError, match="is a file; use the folder"):
        convert_from_torch(str(source / "model.safetensors"), source.parent / "out")


def test_converted_source_is_rejected(source: Path) -> None:
    out = source.parent / "out"
    convert_from_torch(str(source), out)
    with pytest.raises(ConversionError, match="is an XComp-JAX checkpoint already"):
        convert_from_torch(str(out), source.parent / "again")


def test_full_disk_is_rejected(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        "xcomp_jax.convert.write.shutil.disk_usage", lambda path: usage(10**9, 0, 10**6)
    )
    (problem,) = conversion_problems(source)
    assert "not enough disk space" in problem
    assert "1000000 free" in problem
    monkeypatch.setattr(
        "xcomp_jax.convert.write.shutil.disk_usage", lambda path: usage(10**9, 0, 10**8)
    )
    convert_from_torch(str(source), source.parent / "out")


def test_existing_folder_is_kept_without_force(source: Path) -> None:
    out = source.parent / "out"
    convert_from_torch(str(source), out)
    before = (out / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"exists already.*--force"):
        convert_from_torch(str(source), out, dtype="bfloat16")
    assert (out / "config.json").read_bytes() == before
    convert_from_torch(str(source), out, dtype="bfloat16", overwrite=True)
    assert load_params(out)[0].dtype == "bfloat16"
    assert entries(source.parent) == ["out", "source"]


def test_failed_conversion_keeps_old_checkpoint(source: Path) -> None:
    out = source.parent / "out"
    convert_from_torch(str(source), out)
    before = load_params(out)[1]["llm"]["norm"]["scale"]
    torch_model.rewrite(source, **{NORM: np.full(8, np.nan, np.float32)})
    with pytest.raises(ConversionError):
        convert_from_torch(str(source), out, overwrite=True)
    np.testing.assert_array_equal(load_params(out)[1]["llm"]["norm"]["scale"], before)


def test_force_keeps_folder_that_is_no_checkpoint(source: Path) -> None:
    precious = source.parent / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    with pytest.raises(CheckpointError, match=r"no \.xcomp_jax\.json shows that"):
        convert_from_torch(str(source), precious, overwrite=True)
    assert (precious / "thesis.txt").read_text() == "years"


def test_from_torch_returns_exit_codes(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = source.parent / "out"
    assert main(["convert", "from-torch", str(source), str(out)]) == 0
    assert main(["convert", "from-torch", str(source), str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    torch_model.rewrite(source, **{Q_PROJ: None})
    assert main(["convert", "from-torch", str(source), str(out), "--force"]) == 2
    assert f"missing: {Q_PROJ!r}" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["convert", "from-torch", str(source)])
    assert caught.value.code == 2


@pytest.mark.parametrize("direction", ["from-torch", "to-torch"])
def test_force_never_replaces_a_source(
    source: Path, direction: str, capsys: pytest.CaptureFixture[str]
) -> None:
    converted, other = source.parent / "converted", torch_model.make(source.parent / "other")
    convert_from_torch(str(source), converted)
    name = source if direction == "from-torch" else converted
    before = {path: path.read_bytes() for path in source.parent.rglob("*") if path.is_file()}
    for out in (name, name.parent, name / "out", other, name.parent / "." / name.name):
        assert main(["convert", direction, str(name), str(out), "--force"]) == 2
        message = capsys.readouterr().err
        assert "the source" in message or "not replaced, because" in message
        after = {path: path.read_bytes() for path in source.parent.rglob("*") if path.is_file()}
        assert after == before


def test_force_keeps_folder_of_other_command(source: Path) -> None:
    out = source.parent / "out"
    convert_from_torch(str(source), out)
    convert_to_torch(out, source.parent / "exported")
    with pytest.raises(CheckpointError, match="`xcomp convert to-torch` wrote it and not"):
        convert_from_torch(str(source), source.parent / "exported", overwrite=True)
    convert_to_torch(out, source.parent / "exported", overwrite=True)
