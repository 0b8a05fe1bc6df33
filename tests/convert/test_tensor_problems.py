"""Conversion from PyTorch: errors for missing, unexpected and invalid tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.convert import torch_model
from tests.convert.conftest import conversion_problems
from tests.convert.torch_model import EMBED, NORM, Q_PROJ
from xcomp_jax.convert.from_torch import load_torch_checkpoint


def test_missing_tensor_is_listed(source: Path) -> None:
    torch_model.rewrite(source, **{Q_PROJ: None})
    assert conversion_problems(source) == [f"missing: {Q_PROJ!r} (8, 8)"]


def test_unexpected_tensor_is_listed(source: Path) -> None:
    torch_model.rewrite(source, **{"model.image_newline": np.zeros(8, np.float32)})
    assert conversion_problems(source) == [
        "unexpected: 'model.image_newline' (8,) in model.safetensors, no rule for it"
    ]


def test_block_beyond_config_is_listed(source: Path) -> None:
    name = "model.layers.3.input_layernorm.weight"
    torch_model.rewrite(source, **{name: np.ones(8, np.float32)})
    assert conversion_problems(source) == [
        f"unexpected: {name!r} (8,) in model.safetensors, no such block in this configuration"
    ]


def test_wrong_shape_is_listed(source: Path) -> None:
    torch_model.rewrite(source, **{NORM: np.ones((8, 1), np.float32)})
    assert conversion_problems(source) == [
        f"wrong shape: {NORM!r} is (8, 1), the configuration requires (8,)"
    ]


def test_integer_tensor_is_listed(source: Path) -> None:
    torch_model.rewrite(source, **{NORM: np.ones(8, np.int64)})
    assert conversion_problems(source) == [
        f"wrong dtype: {NORM!r} is I64, supported are ['bfloat16', 'float16', 'float32']"
    ]


def test_mixed_dtypes_require_dtype_option(source: Path) -> None:
    torch_model.rewrite(source, **{NORM: np.ones(8, np.float16)})
    (problem,) = conversion_problems(source)
    assert "{'float16': 1, 'float32': " in problem
    assert "choose one with --dtype" in problem
    load_torch_checkpoint(source, dtype="float32")


def test_dtype_unlike_config_requires_option(source: Path) -> None:
    torch_model.configure(source, torch_dtype="bfloat16")
    assert conversion_problems(source) == [
        "wrong dtype: config.json has torch_dtype='bfloat16', but the tensors are float32; "
        "choose one with --dtype"
    ]
    load_torch_checkpoint(source, dtype="bfloat16")


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16"])
def test_non_finite_values_are_counted(tmp_path: Path, value: float, stored: str) -> None:
    source = torch_model.make(tmp_path / "source", torch_dtype=stored)
    weights = torch_model.read_tensors(source)[Q_PROJ]
    weights[2, 5] = weights[3, 1] = value
    torch_model.rewrite(source, **{Q_PROJ: weights})
    assert conversion_problems(source) == [f"not finite: {Q_PROJ!r} has 2 infinite or NaN values"]
    assert conversion_problems(source, dtype="float32") == conversion_problems(source)


def test_tensor_read_in_pieces_is_one_problem(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xcomp_jax.checkpoint.memory._PIECE_BYTES", 64)
    monkeypatch.setattr("xcomp_jax.checkpoint.stream._CHUNK_BYTES", 64)
    table = torch_model.read_tensors(source)[EMBED]
    table[::4, 1] = np.nan
    torch_model.rewrite(source, **{EMBED: table})
    assert conversion_problems(source) == [f"not finite: {EMBED!r} has 6 infinite or NaN values"]


def test_largest_finite_values_are_accepted(tmp_path: Path) -> None:
    for stored, largest in (("float32", 3.4028235e38), ("float16", 65504), ("bfloat16", 3.38e38)):
        source = torch_model.make(tmp_path / stored, torch_dtype=stored)
        weights = torch_model.read_tensors(source)[NORM]
        weights[0], weights[1] = largest, -largest
        torch_model.rewrite(source, **{NORM: weights})
        load_torch_checkpoint(source)


def test_overflow_in_narrower_dtype_is_counted(source: Path) -> None:
    weights = torch_model.read_tensors(source)[NORM]
    weights[:3] = 1e6
    torch_model.rewrite(source, **{NORM: weights})
    assert conversion_problems(source, dtype="float16") == [
        f"overflow: 3 values of {NORM!r} (float32) are too large for float16; choose a wider "
        "--dtype"
    ]
    load_torch_checkpoint(source, dtype="bfloat16")


def test_all_kinds_of_problems_are_listed(source: Path) -> None:
    weights = torch_model.read_tensors(source)[EMBED]
    weights[0, 0] = np.nan
    torch_model.rewrite(
        source,
        **{
            Q_PROJ: None,
            NORM: np.ones(9, np.float32),
            "extra": np.ones(1, np.float32),
            "model.layers.0.input_layernorm.weight": np.ones(8, np.float64),
            EMBED: weights,
        },
    )
    problems = conversion_problems(source)
    kinds = sorted(problem.split(":")[0] for problem in problems)
    assert kinds == ["missing", "not finite", "unexpected", "wrong dtype", "wrong shape"]
