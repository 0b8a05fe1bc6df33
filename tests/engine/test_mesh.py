"""Compares every step of the engine on eight devices with one device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.engine.mesh_program import STILL
from tests.quick import printed_on_eight_devices

RTOL = 2e-4
OTHERS = ("replicated", "sharded")


@pytest.fixture(scope="module", name="report")
def report_fixture() -> dict[str, Any]:
    return printed_on_eight_devices("tests.engine.mesh_program", "tensor", timeout=900)


@pytest.fixture(scope="module", name="others")
def others_fixture() -> dict[str, Any]:
    return printed_on_eight_devices("tests.engine.mesh_program", *OTHERS, timeout=900)


def distance(first: Any, second: Any) -> float:
    """Returns the largest difference relative to the largest value, infinite for other shapes."""
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


def test_engine_split_every_way_equals_one_device(report: dict[str, Any]) -> None:
    check_mesh(report, "tensor")


@pytest.mark.slow
@pytest.mark.parametrize("mesh", OTHERS)
def test_engine_on_mesh_equals_one_device(others: dict[str, Any], mesh: str) -> None:
    check_mesh(others, mesh)


def check_mesh(report: dict[str, Any], mesh: str) -> None:
    """Compares every step on a mesh with one device, and with the answers to other videos."""
    single, sharded = report["single"], report[mesh]
    for step in ("tokens", "scores", "logits"):
        assert distance(sharded[step], single[step]) < RTOL, step
        assert distance(report["control"][step], single[step]) > 50 * RTOL, f"control: {step}"
    assert sharded["selected"] == single["selected"]
    assert sharded["answers"] == sharded["alone"] == single["answers"] == single["alone"]
    # Cached windows run the same program on the same devices.
    assert sharded["scores again"] == sharded["scores"]
    assert report["control"]["answers"] != single["answers"]


def test_repeated_clips_on_mesh_are_encoded_once(report: dict[str, Any]) -> None:
    for mesh in STILL:
        still = report[mesh]["still"]
        # Clips of equal frames, and those with the other frame at each of three places.
        assert still["work"]["clips encoded"] == 1 + 3, mesh
        assert still["work"]["clips repeated"] == 14, mesh
        assert distance(still["clips"], report["single"]["still"]["clips"]) < RTOL, mesh
        clips = np.array(still["clips"])
        same = (clips == clips[0]).all(axis=1)
        assert same.tolist() == [True, True, True, False, True, True], mesh


def test_ask_batch_mixed_lengths_selects_per_video(report: dict[str, Any]) -> None:
    selected = report["single"]["selected"]
    assert [None if s is None else len(s) for s in selected] == [8, 8, None]
    assert selected[0] != selected[1]
    windows = report["single"]["windows"]
    assert windows[0] != windows[1]
    assert windows[2] == 0
    assert windows[0] % 8, "windows do not divide evenly among eight devices"


def test_mesh_shards_large_parameters(report: dict[str, Any]) -> None:
    # The patch embedding has a single wide side, which `tensor` does not split.
    for name, num_shards in report["tensor"]["num_shards"].items():
        assert num_shards == (4 if "patch_embed" in name else 8), name
    assert set(report["sharded"]["num_shards"].values()) == {4}
    assert set(report["replicated"]["num_shards"].values()) == {1}, "control: data replicates"
