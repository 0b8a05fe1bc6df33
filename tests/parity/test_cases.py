"""Tests of the parity framework: kinds, reading, comparison, and the report of a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.parity.cases import (
    KINDS,
    MODEL,
    UNKNOWN,
    Case,
    GoldenError,
    assert_parity,
    find_cases,
    kind_of,
    without_copies,
)

REPO = Path(__file__).parents[2]


def make(folder: Path, *, meta: Any = None, arrays: Any = None, **jsons: Any) -> Path:
    folder.mkdir(parents=True)
    if meta is not None:
        jsons["meta"] = meta
    for name, content in jsons.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    if arrays is not None:
        np.savez(folder / "io.npz", **arrays)
    return folder


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *[(f"07_{kind}", kind) for kind in KINDS],
        ("55_lm_prefill_lpcomp_untied", "lm_prefill_lpcomp"),
        ("lm_generate", "lm_generate"),
        ("3-Vision-224px", "vision"),
        ("vision2", "vision"),
        ("visionary", UNKNOWN),
        ("60_something", UNKNOWN),
        ("00", UNKNOWN),
    ],
)
def test_kind_folder_name_recognized(tmp_path: Path, name: str, kind: str) -> None:
    assert kind_of(make(tmp_path / name)) == kind


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("tome", {"arrays": {"a__x": 0, "a__merged": 0}}),
        ("lm_generate", {"arrays": {"input_ids": 0, "generated_ids": 0}}),
        ("lm_prefill_lpcomp", {"arrays": {"hidden_after_layer_03": 0, "logits": 0}}),
        ("lm_nexthalf_stride", {"arrays": {"r__hidden_after_drop_3": 0, "r__generated_ids": 0}}),
        ("preprocess", {"arrays": {"a__image": 0, "a__pixel_values": 0}}),
        ("end_to_end", {"arrays": {"a__frames": 0, "a__step_top5_ids": 0}}),
        ("vision", {"arrays": {"a__features": 0, "a__patch_embed": 0}}),
        ("projector", {"arrays": {"a__features": 0, "a__llm_embeds": 0}}),
        ("frame_sampling", {"table": [{"vlen": 1}]}),
        ("prompts", {"texts": {"training": []}}),
        ("schedule", {"s": {"x": {"drop_after_n_decoder_layers": []}}}),
        ("param_manifest", {"m": {"tensors": {}}}),
        (UNKNOWN, {"other": {"a": 1}, "config": {"tensors": {}}}),
    ],
)
def test_kind_folder_content_recognized(tmp_path: Path, kind: str, content: dict[str, Any]) -> None:
    assert kind_of(make(tmp_path / "x", **content)) == kind


def test_kind_renamed_goldens_recognized() -> None:
    for case in find_cases(REPO / "tests" / "goldens"):
        assert case.kind in KINDS
        renamed = Case(case.dir, kind_of(case.dir), case.root)
        assert renamed.kind == case.kind


def test_find_cases_shared_weights_excluded(tmp_path: Path) -> None:
    (make(tmp_path / "00_model", meta={}) / "model.safetensors").touch()
    make(tmp_path / "01_tome")
    assert kind_of(tmp_path / "00_model") == MODEL
    assert [case.name for case in find_cases(tmp_path)] == ["01_tome"]


def test_case_model_and_config_found(tmp_path: Path) -> None:
    model = make(tmp_path / "00_model", config={"from": "model"})
    text = "../00_model (same tensors; other words)"
    plain = Case(make(tmp_path / "a", meta={"model": text}), "tome", tmp_path)
    assert plain.model_dir == model
    assert plain.config == {"from": "model"}
    own = Case(make(tmp_path / "b", meta={"model": text}, config={"own": 1}), "tome", tmp_path)
    assert own.config == {"own": 1}
    assert Case(make(tmp_path / "c", meta={}), "tome", tmp_path).model_dir == tmp_path / "c"
    lost = Case(make(tmp_path / "d", meta={"model": "../07_no"}), "tome", tmp_path)
    with pytest.raises(GoldenError, match="07_no"):
        _ = lost.model_dir


def test_case_missing_file_named(tmp_path: Path) -> None:
    case = Case(make(tmp_path / "a", arrays={"here": np.arange(3)}), "tome", tmp_path)
    np.testing.assert_array_equal(case.io["here"], [0, 1, 2])
    assert dict(case.io.matching("he.e")).keys() == {"here"}
    with pytest.raises(GoldenError, match=r"no array 'gone'; it has \['here'\]"):
        case.io["gone"]
    with pytest.raises(GoldenError, match="no array matching"):
        case.io.matching("her")
    with pytest.raises(GoldenError, match=r"meta\.json is missing"):
        _ = case.meta
    empty = Case(make(tmp_path / "b"), "tome", tmp_path)
    with pytest.raises(GoldenError, match=r"io\.npz or exactly one"):
        _ = empty.io
    (empty.dir / "other.npz").write_bytes(b"no zip")
    with pytest.raises(GoldenError, match="not readable"):
        len(empty.io)


def test_without_copies_identical_case_dropped(tmp_path: Path) -> None:
    for root in ("one", "two", "three"):
        make(tmp_path / root / "01_tome", meta={"n": 1 if root != "three" else 2})
    cases = [case for root in ("one", "two", "three") for case in find_cases(tmp_path / root)]
    assert [case.root.name for case in without_copies(cases)] == ["one", "three"]


# --- assert_parity -----------------------------------------------------------------------------


def test_assert_parity_near_control_fails() -> None:
    want = np.array([1.0, np.nan, 3.0])
    assert_parity(want + 1e-6, want, atol=1e-5, control=want + 1e-3)
    assert_parity(want, want, atol=1e-5, control=np.full(3, np.nan))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_parity(want + 1e-4, want, atol=1e-5, control=want + 1)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_parity(np.ones(3), want, atol=1e-5, control=want + 1)
    with pytest.raises(AssertionError, match="control stays within"):
        assert_parity(want, want, atol=1e-5, control=want + 9e-5)
    with pytest.raises(AssertionError, match="shapes differ"):
        assert_parity(want[:1], want, atol=1e9, control=want)


def test_assert_parity_zero_tolerance_exact() -> None:
    want = np.arange(4)
    assert_parity(want, want, atol=0, control=want[::-1])
    with pytest.raises(AssertionError, match="control stays within"):
        assert_parity(want, want, atol=0, control=want)


# --- whole runs --------------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs only the modules without a model, which are quick."""
    modules = [f"tests/parity/test_{kind}.py" for kind in ("frame_sampling", "preprocess")]
    command = [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *modules, *arguments], cwd=REPO, capture_output=True, text=True, timeout=120
    )


def test_run_broken_case_fails_and_lists_others(tmp_path: Path) -> None:
    make(tmp_path / "11_frame_sampling_other")
    make(tmp_path / "70_mystery", other={"a": 1})
    make(tmp_path / "71_base_videochat_flash_v2")
    result = run("--goldens", str(tmp_path))
    assert result.returncode == 1
    assert "passed" not in result.stdout
    assert "skipped" not in result.stdout
    assert "test_sampling_recorded_calls_equal_indices[11_frame_sampling_other]" in result.stdout
    assert (
        "test_preprocess_recorded_frames" not in result.stdout
    )  # No such folder: the test does not exist.
    assert "kind unknown: 70_mystery" in result.stdout


def test_run_missing_goldens_folder_refused(tmp_path: Path) -> None:
    result = run("--goldens", str(tmp_path / "no"))
    assert result.returncode == 4
    assert "no such directory" in result.stderr
    result = run("--goldens", str(tmp_path))
    assert result.returncode == 4
    assert "holds no case folders" in result.stderr
