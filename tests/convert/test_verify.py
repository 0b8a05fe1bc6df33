"""Comparing checkpoints of either kind, and the report."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from xcomp_jax.convert.compare import compare

from tests.convert import torch_model
from xcomp_jax.convert.__main__ import main
from xcomp_jax.convert.from_torch import convert_from_torch
from xcomp_jax.convert.to_torch import convert_to_torch
from xcomp_jax.convert.verify import verify

EMBED = "model.embed_tokens.weight"
K_BIAS = "model.layers.2.self_attn.k_proj.bias"


def edited(source: Path, name: str, **changes: np.ndarray | None) -> Path:
    """A copy of a checkpoint with some tensors replaced, added or (None) removed."""
    values = {k: v.copy() for k, v in load_file(source / "model.safetensors").items()}
    for key, array in changes.items():
        if array is None:
            del values[key]
        else:
            values[key] = array
    folder = source.parent / name
    settings = json.loads((source / "config.json").read_text())
    return torch_model.write(folder, settings, values)


def tensor(source: Path, name: str) -> np.ndarray:
    return load_file(source / "model.safetensors")[name].copy()


def test_every_pair_of_kinds(source: Path) -> None:
    ours, theirs = source.parent / "ours", source.parent / "theirs"
    convert_from_torch(str(source), ours)
    convert_to_torch(ours, theirs)
    for a in (source, ours, theirs):
        for b in (source, ours, theirs):
            report = verify(a, b)
            assert report.equal
            assert {row.verdict for row in report.tensors} == {"identical"}
            assert len(report.tensors) == len(load_file(source / "model.safetensors"))


@pytest.mark.parametrize("other_kind", ["safetensors", "xcomp_jax"])
def test_one_changed_value_is_found(source: Path, other_kind: str) -> None:
    weights = tensor(source, K_BIAS)
    weights[1] += 0.5
    other = edited(source, "other", **{K_BIAS: weights})
    if other_kind == "xcomp_jax":
        convert_from_torch(str(other), source.parent / "ours")
        other = source.parent / "ours"
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


def test_missing_extra_and_reshaped_tensors(source: Path) -> None:
    other = edited(
        source, "other", **{K_BIAS: None, "ghost": np.ones(2, np.float32), EMBED: np.ones((8, 24))}
    )
    report = verify(source, other)
    verdicts = {row.name: row.verdict for row in report.tensors if not row.ok}
    assert verdicts == {K_BIAS: "only in A", "ghost": "only in B", EMBED: "other shape"}
    assert not report.equal


def test_dtype_is_a_difference_unless_allowed(tmp_path: Path) -> None:
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


def test_configuration_counts(source: Path) -> None:
    other = edited(source, "other")
    settings = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**settings, "rope_theta": 10000.0}))
    report = verify(source, other)
    assert report.config_differences == ["llm.rope_theta is 1000000.0 in A and 10000.0 in B"]
    assert not report.equal


def test_tied_head_that_was_saved_too(source: Path) -> None:
    table = tensor(source, EMBED)
    assert verify(source, edited(source, "copy", **{"lm_head.weight": table})).equal
    other = edited(source, "other", **{"lm_head.weight": table + 1})
    report = verify(source, other)
    assert [row.name for row in report.tensors if not row.ok] == ["lm_head.weight"]


def test_report_files(source: Path) -> None:
    weights = tensor(source, K_BIAS)
    weights[0] = -3
    other = edited(source, "other", **{K_BIAS: weights})
    stem = source.parent / "reports" / "first.run"
    verify(source, other, report=stem)
    values = json.loads(stem.with_name("first.run.json").read_text())
    assert values["equal"] is False
    rows = {row["name"]: row for row in values["tensors"]}
    assert len(rows) == len(load_file(source / "model.safetensors"))
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


def test_exit_codes(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = edited(source, "other", **{K_BIAS: np.zeros(4, np.float32)})
    assert main(["verify", str(source), str(source)]) == 0
    assert capsys.readouterr().out.endswith("EQUAL\n")
    assert main(["verify", str(source), str(other)]) == 1
    assert "DIFFERENT" in capsys.readouterr().out
    assert main(["verify", str(source), str(source.parent / "nowhere")]) == 1
    assert "no such" in capsys.readouterr().err


FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(deadline=None, max_examples=200)
@given(data=st.data(), size=st.integers(0, 20), atol=st.floats(0, 2), rtol=st.floats(0, 0.5))
def test_compare_agrees_with_numpy(
    data: st.DataObject, size: int, atol: float, rtol: float
) -> None:
    a = np.array(data.draw(st.lists(FLOATS, min_size=size, max_size=size)), np.float32)
    b = a.copy()
    for place in data.draw(st.lists(st.integers(0, max(0, size - 1)), max_size=3)):
        if size:
            b[place] = data.draw(FLOATS)
    row = compare("w", a, b, atol=atol, rtol=rtol, allow_dtype=False)
    x, y = a.astype(np.float64), b.astype(np.float64)
    finite = bool(np.isfinite(x).all() and np.isfinite(y).all())
    assert row.ok == (finite and bool((np.abs(x - y) <= atol + rtol * np.abs(y)).all()))
    if finite:
        assert row.max_abs == np.abs(x - y).max(initial=0)
        assert (row.verdict == "identical") == (a.tobytes() == b.tobytes())


def test_statistics_over_many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xcomp_jax.convert.compare._CHUNK_ELEMENTS", 64)
    rng = np.random.default_rng(0)
    a = rng.standard_normal((40, 30)).astype(np.float32)
    b = a.T.copy().T  # other strides, same values
    b[17, 23] += 1
    row = compare("w", a, b, atol=0, rtol=0, allow_dtype=False)
    assert (row.different, row.max_abs) == (1, pytest.approx(1, rel=1e-6))
    assert row.a is not None
    assert row.a.mean == pytest.approx(a.mean(dtype=np.float64))
    assert row.a.std == pytest.approx(a.std(dtype=np.float64))
    assert (row.a.min, row.a.max) == (a.min(), a.max())
    assert row.max_rel == pytest.approx(
        1 / max(abs(float(a[17, 23])), abs(float(b[17, 23]))), rel=1e-5
    )


def test_nothing_finite() -> None:
    values = np.full(3, np.nan, np.float32)
    row = compare("w", values, values, atol=9, rtol=9, allow_dtype=True)
    assert row.verdict == "not finite: 3 and 3 values"
    assert not row.ok
    assert row.a is not None
    assert math.isnan(row.a.mean)
