"""The same step on one device and on eight."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from xcomp_jax.config import ConfigError, MeshConfig
from xcomp_jax.models.xcomp import abstract_params
from xcomp_jax.sharding import make_mesh, parameter_spec, path_name
from xcomp_jax.variants import XCOMP_2B

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module", name="results")
def results_fixture() -> dict:
    # Without LLVM's optimisations: what is compared is how the programs are split.
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    environment = {**os.environ, "XLA_FLAGS": flags}
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.mesh_program"],
        cwd=REPO,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("mesh", ["data", "fsdp", "all"])
def test_eight_devices_train_like_one(results: dict, mesh: str) -> None:
    np.testing.assert_allclose(results[mesh]["losses"], results["one"]["losses"], rtol=2e-5)
    np.testing.assert_allclose(results[mesh]["norm"], results["one"]["norm"], rtol=1e-6)
    first, last = results["one"]["losses"][0][0], results["one"]["losses"][-1][0]
    assert abs(first - last) > 1e-3, "the steps must do something that could differ"


def test_every_large_array_is_split(results: dict) -> None:
    pieces = results["all"]["pieces"]
    assert {name.split("/")[0] for name in pieces} == {"params", "opt_state"}
    for name, count in pieces.items():
        # Patches have only one wide side; everything else is split over fsdp and tensor.
        assert count == (2 if "patch_embed" in name else 4), name
    assert set(results["fsdp"]["pieces"].values()) == {8}
    assert set(results["data"]["pieces"].values()) == {1}, "control: data repeats parameters"


def test_every_parameter_of_the_published_model_has_a_rule() -> None:
    mesh = jax.sharding.AbstractMesh((1, 16, 4), ("data", "fsdp", "tensor"))
    for path, leaf in jax.tree_util.tree_leaves_with_path(abstract_params(XCOMP_2B)):
        spec = parameter_spec(path_name(path), leaf.shape, mesh)
        if np.prod(leaf.shape) > 2**20:
            assert "fsdp" in spec, (path_name(path), spec)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="does not fit 1 device"):
        make_mesh(MeshConfig(data=1, fsdp=3, tensor=1), jax.devices()[:1])
    mesh = jax.sharding.AbstractMesh((1, 1, 5), ("data", "fsdp", "tensor"))
    with pytest.raises(ConfigError, match=r"tensor=5 does not divide its dimension of 256"):
        parameter_spec("llm/layers/self_attn/k_proj/kernel", (28, 1536, 256), mesh)
    with pytest.raises(ConfigError, match="no sharding rule matches parameter 'llm/unheard'"):
        parameter_spec("llm/unheard", (4, 4), mesh)
