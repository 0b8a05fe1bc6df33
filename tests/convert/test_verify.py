"""Comparison of two checkpoints of either kind, with reports and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.convert import torch_model
from tests.convert.torch_model import EMBED
from xcomp_jax.cli.main import main
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.from_torch import convert_from_torch
from xcomp_jax.convert.to_torch import convert_to_torch
from xcomp_jax.convert.verify import verify

K_BIAS = "model.layers.2.self_attn.k_proj.bias"


def edited(source: Path, name: str, **changes: np.ndarray | None) -> Path:
    """Writes a copy of a checkpoint with changed tensors, see `edit_tensors`."""
    values = torch_model.edit_tensors(torch_model.read_tensors(source), changes)
    settings = json.loads((source / "config.json").read_text())
    return torch_model.write(source.parent / name, settings, values)


def tensor(source: Path, name: str) -> np.ndarray:
    return torch_model.read_tensors(source)[name]


def test_every_pair_of_kinds_is_equal(source: Path) -> None:
    checkpoint, exported = source.parent / "jax", source.parent / "torch"
    convert_from_torch(str(source), checkpoint)
    convert_to_torch(checkpoint, exported)
    for a in (source, checkpoint, exported):
        for b in (source, checkpoint, exported):
            report = verify(a, b)
            assert report.equal
            assert {row.verdict for row in report.tensors} == {"identical"}
            assert len(report.tensors) == len(torch_model.read_tensors(source))


@pytest.mark.parametrize("other_kind", ["safetensors", "xcomp_jax"])
def test_one_changed_value_is_reported(source: Path, other_kind: str) -> None:
    weights = tensor(source, K_BIAS)
    weights[1] += 0.5
    other = edited(source, "other", **{K_BIAS: weights})
    if other_kind == "xcomp_jax":
        convert_from_torch(str(other), source.parent / "jax")
        other = source.parent / "jax"
    report = verify(source, other)
    assert not report.equal
    (row,) = [row for row in report.tensors if not row.ok]
    assert row.name == K_BIAS
    assert row.different == 1
    assert row.max_abs == pytest.approx(0.5, rel=1e-6)
    text = report.text(full=False)
    assert f"{K_BIAS}  (4,)  float32  different: 1 of 4 values outside the tolerance" in text
    assert text.endswith("DIFFERENT")
    assert verify(source, other, atol=0.51).equal
    assert not verify(source, other, atol=0.49).equal


def test_missing_and_reshaped_tensors_are_reported(source: Path) -> None:
    other = edited(
        source, "other", **{K_BIAS: None, "ghost": np.ones(2, np.float32), EMBED: np.ones((8, 24))}
    )
    report = verify(source, other)
    verdicts = {row.name: row.verdict for row in report.tensors if not row.ok}
    assert verdicts == {K_BIAS: "only in A", "ghost": "only in B", EMBED: "other shape"}
    assert not report.equal


def test_other_dtype_differs_unless_allowed(tmp_path: Path) -> None:
    source = torch_model.make(tmp_path / "source", torch_dtype="bfloat16")
    wide = tmp_path / "wide"
    convert_from_torch(str(source), wide, dtype="float32")
    report = verify(source, wide)
    assert not report.equal
    assert {row.verdict for row in report.tensors} == {"other dtype, values agree"}
    assert verify(source, wide, allow_dtype=True).equal
    rounded = tmp_path / "rounded"
    full = torch_model.make(tmp_path / "full")
    convert_from_torch(str(full), rounded, dtype="bfloat16")
    assert not verify(full, rounded, allow_dtype=True).equal
    assert verify(full, rounded, allow_dtype=True, rtol=2**-8).equal
    assert not verify(full, rounded, rtol=2**-8).equal


def test_other_config_is_reported(source: Path) -> None:
    other = edited(source, "other")
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**settings, "rope_theta": 10000.0}))
    report = verify(source, other)
    assert report.config_differences == ["llm.rope_theta is 1000000.0 in A and 10000.0 in B"]
    assert not report.equal


def test_saved_tied_head_must_be_a_copy(source: Path) -> None:
    table = tensor(source, EMBED)
    assert verify(source, edited(source, "copy", **{"lm_head.weight": table})).equal
    other = edited(source, "other", **{"lm_head.weight": table + 1})
    report = verify(source, other)
    assert [row.name for row in report.tensors if not row.ok] == ["lm_head.weight"]


def test_report_is_written_as_json_and_text(source: Path) -> None:
    weights = tensor(source, K_BIAS)
    weights[0] = -3
    other = edited(source, "other", **{K_BIAS: weights})
    stem = source.parent / "reports" / "first.run"
    verify(source, other, report=stem)
    values = json.loads(stem.with_name("first.run.json").read_text())
    assert values["equal"] is False
    rows = {row["name"]: row for row in values["tensors"]}
    assert len(rows) == len(torch_model.read_tensors(source))
    row = rows[K_BIAS]
    assert row["shape"] == [[4], [4]]
    assert row["dtype"] == ["float32", "float32"]
    original = tensor(source, K_BIAS).astype(np.float64)
    assert row["a"]["mean"] == pytest.approx(original.mean())
    assert row["a"]["std"] == pytest.approx(original.std())
    assert row["b"]["min"] == -3
    assert row["max_abs"] == pytest.approx(abs(original[0] + 3))
    text = stem.with_name("first.run.txt").read_text()
    for name in rows:
        assert name in text


def test_verify_returns_exit_codes(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = edited(source, "other", **{K_BIAS: np.zeros(4, np.float32)})
    assert main(["convert", "verify", str(source), str(source)]) == 0
    assert capsys.readouterr().out.endswith("EQUAL\n")
    assert main(["convert", "verify", str(source), str(other)]) == 1
    assert "DIFFERENT" in capsys.readouterr().out
    assert main(["convert", "verify", str(source), str(source.parent / "nowhere")]) == 2
    assert "no such" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ckpt/config", "notes"])
def test_report_never_replaces_another_file(source: Path, tmp_path: Path, name: str) -> None:
    convert_from_torch(str(source), tmp_path / "ckpt")
    path = tmp_path / f"{name}.json"
    if name == "notes":
        path.write_text('{"mine": 1}')
    before = path.read_bytes()
    with pytest.raises(ConversionError, match="choose another --report"):
        verify(source, tmp_path / "ckpt", report=tmp_path / name)
    assert path.read_bytes() == before
    for _ in range(2):  # Its own report is replaced.
        assert verify(source, tmp_path / "ckpt", report=tmp_path / "report").equal
