"""The engine on eight devices equals one device, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.quick import printed_on_eight_devices

RTOL = 2e-4
MESHES = ("replicated", "sharded", "tensor")


@pytest.fixture(scope="module", name="report")
def report_fixture() -> dict[str, Any]:
    return printed_on_eight_devices("tests.engine.mesh_program", timeout=900)


def distance(first: Any, second: Any) -> float:
    """Largest difference relative to the largest value; infinite for other shapes."""
    worst = 0.0
    for a, b in zip(first, second, strict=True):
        if a is None or b is None:
            worst = max(worst, 0.0 if a is b else np.inf)
            continue
        x, y = np.asarray(a), np.asarray(b)
        if x.shape != y.shape:
            return np.inf
        worst = max(worst, float(np.abs(x - y).max() / np.abs(y).max()))
    return worst


@pytest.mark.parametrize("mesh", MESHES)
def test_eight_devices_equal_one(report: dict[str, Any], mesh: str) -> None:
    one, many = report["one"], report[mesh]
    for step in ("tokens", "scores", "logits"):
        assert distance(many[step], one[step]) < RTOL, step
        assert distance(report["control"][step], one[step]) > 50 * RTOL, f"control: {step}"
    assert many["selected"] == one["selected"]
    assert many["answers"] == one["answers"]
    assert report["control"]["answers"] != one["answers"]


def test_batch_mixes_lengths_and_selections(report: dict[str, Any]) -> None:
    selected = report["one"]["selected"]
    assert [None if s is None else len(s) for s in selected] == [8, 8, None]
    assert selected[0] != selected[1]
    windows = report["one"]["windows"]
    assert windows[0] != windows[1]
    assert windows[2] == 0
    assert windows[0] % 8, "windows do not divide evenly among eight devices"


def test_large_parameters_are_sharded(report: dict[str, Any]) -> None:
    # Patches have one wide side only, which tensor does not split.
    for name, split in report["tensor"]["split"].items():
        assert split == (4 if "patch_embed" in name else 8), name
    assert set(report["sharded"]["split"].values()) == {4}
    assert set(report["replicated"]["split"].values()) == {1}, "control: data replicates"
