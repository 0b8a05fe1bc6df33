"""Tests the training step on eight devices against one, and the sharding of its arrays."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests.quick import printed_on_eight_devices
from tests.tiny import tiny_params
from tests.training.resolved_shardings import FULL, GOLDEN, resolved
from xcomp_jax.compression.schedule import plan_layer_groups, smallest_run
from xcomp_jax.config import CompressionConfig, ConfigError, MeshConfig
from xcomp_jax.models.sequence import DeviceOrder
from xcomp_jax.sharding import AXES, batch_sharding, batch_share, make_mesh, parameter_spec
from xcomp_jax.training.step import make_train_step
from xcomp_jax.variants import XCOMP_2B

ONE = "1,1,1,1"
MESHES = ("8,1,1,1", "2,2,2,1", "1,2,2,2", "1,1,1,8")


@pytest.fixture(scope="module", name="folder")
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gradients")


@pytest.fixture(scope="module", name="results")
def results_fixture(folder: Path) -> dict:
    return printed_on_eight_devices("tests.training.mesh_program", str(folder), timeout=900)


def distance(folder: Path, name: str) -> float:
    """Returns the relative distance of the gradients from those of one device."""
    with np.load(folder / f"{name}.npz") as got, np.load(folder / f"{ONE}.npz") as want:
        difference = math.sqrt(sum(np.sum((got[key] - want[key]) ** 2.0) for key in want))
        return difference / math.sqrt(sum(np.sum(want[key] ** 2.0) for key in want))


@pytest.mark.parametrize("mesh", MESHES)
def test_step_on_eight_devices_matches_one(results: dict, folder: Path, mesh: str) -> None:
    first, second = results[mesh]["metrics"]
    want_first, want_second = results[ONE]["metrics"]
    assert first == pytest.approx(want_first, rel=1e-5)
    assert distance(folder, mesh) < 1e-5
    # After an update.
    assert second == pytest.approx(want_second, rel=1e-4)
    assert abs(second["loss"] - first["loss"]) > 1e-2, "control: the update changes the loss"


def test_gradients_of_swapped_clips_differ(results: dict, folder: Path) -> None:
    del results
    assert distance(folder, "control") > 1e-2


def test_large_arrays_are_sharded(results: dict) -> None:
    for mesh, count, patches in (("2,2,2,1", 4, 2), ("1,2,2,2", 8, 4), ("1,1,1,8", 8, 8)):
        pieces = results[mesh]["pieces"]
        assert {name.split("/")[0] for name in pieces} == {"params", "opt_state"}
        for name, split in pieces.items():
            # The patch kernel has one wide side; all else is sharded over every axis but data.
            assert split == (patches if "patch_embed" in name else count), name
    assert set(results["8,1,1,1"]["pieces"].values()) == {1}, "control: data replicates parameters"


def test_context_axis_splits_frames_and_activations(results: dict) -> None:
    mesh = jax.sharding.AbstractMesh((1, 2, 1, 4), AXES)
    frames = (8, 12, 24, 24, 3)
    assert batch_sharding(mesh, "frames", frames).shard_shape(frames) == (4, 3, 24, 24, 3)
    assert results["1,1,1,8"]["temp_bytes"] < 0.5 * results[ONE]["temp_bytes"]


def test_layer_weights_are_gathered_once_per_step(results: dict) -> None:
    """Detects a second gather in the backward pass, which `sharding.gathered_layer` avoids."""
    leaves = jax.tree_util.tree_leaves_with_path(tiny_params()["llm"]["layers"])
    matrices = sum(leaf.nbytes for path, leaf in leaves if path[-1].key == "kernel")
    # Each of two devices along fsdp sends its half of a matrix that tensor has halved already.
    assert results["2,2,2,1"]["gathered_bytes"] == matrices / 2 / 2


def test_published_model_shardings_match_golden() -> None:
    """Uses a mesh of fsdp=16, tensor=2, context=2."""
    state = resolved()
    for name, (shape, _, shard) in state.items():
        if np.prod(shape) > 2**20:
            # Adapters are narrow on one side: the rank.
            least = 2 if "/lora/" in name else 32
            assert np.prod(shape) / np.prod(shard) >= least, name
    want = json.loads(GOLDEN.read_text())
    assert state == want, "if intended: python -m tests.training.resolved_shardings"


def test_share_deals_whole_frames_and_inverts() -> None:
    slots = np.arange(48)[None]
    dealt = DeviceOrder(devices=4, rounds=3).to_devices(slots)
    # The second device has the second quarter of each of three rounds.
    np.testing.assert_array_equal(dealt[0, 12:24], [*range(4, 8), *range(20, 24), *range(36, 40)])
    np.testing.assert_array_equal(DeviceOrder(devices=4, rounds=3).to_tokens(dealt), slots)


@pytest.mark.parametrize(
    ("compression", "run"),
    [
        (CompressionConfig(), 16),
        (CompressionConfig(schedule="none"), 1),
        (
            CompressionConfig(
                schedule="stepwise", keep="uniform", drop_after_layers=(4, 8), strides=(4, 6)
            ),
            24,
        ),
    ],
)
def test_smallest_run_of_schedule_matches_value(compression: CompressionConfig, run: int) -> None:
    layer_groups = plan_layer_groups(compression, num_layers=28, tokens_per_frame=16)
    assert smallest_run(layer_groups) == run


def mesh_of(processes: list[int], **sizes: int) -> SimpleNamespace:
    """Returns a stand-in mesh whose devices belong to these processes, in order."""
    shape = {axis: sizes.get(axis, 1) for axis in AXES}
    devices = [SimpleNamespace(process_index=number) for number in processes]
    return SimpleNamespace(shape=shape, devices=np.array(devices).reshape(*shape.values()))


@pytest.mark.parametrize(
    ("mesh", "share"),
    [
        (mesh_of([0, 0, 1, 1], fsdp=4), (0, 2)),
        (mesh_of([1, 1, 0, 0], data=2, fsdp=2), (1, 2)),
        # Two processes share the tokens of one example and load the same rows.
        (mesh_of([1, 1, 2, 2, 3, 3, 0, 0], data=2, context=4), (1, 2)),
        (mesh_of([1, 0], context=2), (0, 1)),
    ],
)
def test_batch_share_follows_the_devices(mesh: SimpleNamespace, share: tuple[int, int]) -> None:
    assert batch_share(mesh) == share


def test_impossible_mesh_or_rule_raises() -> None:
    with pytest.raises(ConfigError, match="processes would have to share parts"):
        batch_share(mesh_of([0, 0, 1, 1, 2, 2], fsdp=2, context=3))
    with pytest.raises(ConfigError, match="does not fit 1 device"):
        make_mesh(MeshConfig(data=1, fsdp=3, tensor=1), jax.devices()[:1])
    mesh = jax.sharding.AbstractMesh((1, 1, 5, 1), AXES)
    with pytest.raises(ConfigError, match=r"tensor=5 does not divide its dimension of 256"):
        parameter_spec("llm/layers/self_attn/k_proj/kernel", (28, 1536, 256), mesh)
    mesh = jax.sharding.AbstractMesh((2, 3, 1, 1), AXES)
    with pytest.raises(ConfigError, match=r"micro batches of 8 examples .* fsdp = 6; lower"):
        make_train_step(XCOMP_2B, FULL, mesh)
    with pytest.raises(ConfigError, match="no sharding rule matches parameter 'llm/unheard'"):
        parameter_spec("llm/unheard", (4, 4), mesh)
