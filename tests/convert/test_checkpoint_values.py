"""Saving and loading of XComp-JAX checkpoints: values, dtypes and devices."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.convert import torch_model
from tests.convert.conftest import Saved, entries
from xcomp_jax.checkpoint import CheckpointReader, load_params, param_shapes, save_params
from xcomp_jax.convert.from_torch import load_torch_checkpoint


def test_saved_parameters_are_loaded(saved: Saved) -> None:
    folder, model, params = saved
    loaded_model, loaded = load_params(folder)
    assert loaded_model == model
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(loaded))
    assert CheckpointReader(folder).source == {"run": 7}
    names = [".xcomp_jax.json", "README.md", "config.json", "merges.txt", "params", "vocab.json"]
    assert entries(folder) == names
    assert [name for name in entries(folder.parent) if name.startswith(".")] == []


def test_orbax_restores_parameters(saved: Saved) -> None:
    folder, _, params = saved
    with ocp.PyTreeCheckpointer() as checkpointer:
        restored = checkpointer.restore(
            folder / "params",
            args=ocp.args.PyTreeRestore(
                restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(np.ndarray), params)
            ),
        )
    jax.tree.map(np.testing.assert_array_equal, restored, params)


def test_sign_of_zero_is_kept(saved: Saved, tmp_path: Path) -> None:
    _, model, params = saved
    zeros = jax.tree.map(np.zeros_like, params)
    zeros["llm"]["norm"]["scale"][3] = -0.0
    save_params(tmp_path / "zeros", model, zeros, source={})
    _, loaded = load_params(tmp_path / "zeros")
    jax.tree.map(
        lambda a, b: np.testing.assert_equal(a.tobytes(), np.asarray(b).tobytes()), zeros, loaded
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", jnp.float32])
def test_load_casts_to_dtype(saved: Saved, dtype: Any) -> None:
    folder, _, params = saved
    _, loaded = load_params(folder, dtype=dtype)
    jax.tree.map(
        lambda actual, original: np.testing.assert_array_equal(
            np.asarray(actual), original.astype(jnp.dtype(dtype))
        ),
        loaded,
        params,
    )


def test_arrays_of_many_pieces_are_read_in_part(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uses tiny chunks and pieces, so that every array spans many of both."""
    monkeypatch.setattr("xcomp_jax.checkpoint.stream._CHUNK_BYTES", 100)
    monkeypatch.setattr("xcomp_jax.checkpoint.memory._PIECE_BYTES", 150)
    model, params = load_torch_checkpoint(source)
    save_params(tmp_path / "c", model, params, source={})
    assert len(list((tmp_path / "c/params/llm.embed_tokens.embedding").glob("c/*/*"))) > 5
    reader = CheckpointReader(tmp_path / "c")
    for path in param_shapes(model):
        node: Any = params
        for key in path.split("/"):
            node = node[key]
        cut = tuple(slice(n // 3, n // 3 + max(1, n // 2)) for n in node.shape)
        np.testing.assert_array_equal(reader.part(path, cut), node[cut])


def test_load_onto_four_devices_equals_host(saved: Saved) -> None:
    """Compares slices loaded by a child process with four devices to the saved values."""
    folder, _, params = saved
    expected = folder.parent / "expected.npz"
    np.savez(expected, embedding=params["llm"]["embed_tokens"]["embedding"],
             up=params["llm"]["layers"]["mlp"]["up_proj"]["kernel"])  # fmt: skip
    program = f"""
        import jax, numpy as np
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", 4)
        from pathlib import Path
        from xcomp_jax.convert.from_torch import load_torch_checkpoint
        from xcomp_jax.checkpoint import load_params, save_params
        from xcomp_jax.config import MeshConfig
        from xcomp_jax.models.xcomp import abstract_params
        from xcomp_jax.sharding import make_mesh, parameter_shardings
        folder, source = Path({str(folder)!r}), Path({str(folder.parent / "source")!r})
        mesh = make_mesh(MeshConfig(fsdp=2, tensor=2))
        model, whole = load_params(folder)
        shardings = parameter_shardings(abstract_params(model), mesh)
        expected = np.load({str(expected)!r})
        for _, params in (
            load_params(folder, shardings=shardings),
            load_torch_checkpoint(source, shardings=shardings),
        ):
            embedding = params["llm"]["embed_tokens"]["embedding"]
            up = params["llm"]["layers"]["mlp"]["up_proj"]["kernel"]
            assert embedding.sharding == shardings["llm"]["embed_tokens"]["embedding"]
            assert embedding.addressable_shards[0].data.shape == (12, 4), embedding
            assert up.addressable_shards[0].data.shape == (3, 4, 6), up
            np.testing.assert_array_equal(embedding, expected["embedding"])
            np.testing.assert_array_equal(up, expected["up"])
            jax.tree.map(np.testing.assert_array_equal, params, whole)
        save_params(folder.with_name("again"), model, params, source={{}})
        _, again = load_params(folder.with_name("again"))
        jax.tree.map(np.testing.assert_array_equal, again, whole)
        first, second = (
            (path / "config.json").read_text().split("sha256")[1]
            for path in (folder, folder.with_name("again"))
        )
        assert first == second
        print("sharded ok")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "sharded ok" in done.stdout


def test_compute_dtype_of_model_is_kept(tmp_path: Path) -> None:
    model, params = load_torch_checkpoint(
        torch_model.make(tmp_path / "s", torch_dtype="bfloat16"), dtype="float32"
    )
    mixed = dataclasses.replace(model, dtype="bfloat16")  # float32 parameters, bfloat16 compute
    save_params(tmp_path / "c", mixed, params, source={})
    loaded_model, loaded = load_params(tmp_path / "c")
    assert loaded_model.dtype == "bfloat16"
    assert loaded["llm"]["norm"]["scale"].dtype == jnp.float32
