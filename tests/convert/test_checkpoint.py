"""XComp-JAX checkpoint folders: saving, loading onto devices, and errors."""

from __future__ import annotations

import dataclasses
import json
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
from xcomp_jax.checkpoint import (
    CheckpointError,
    CheckpointReader,
    check_free,
    load_params,
    new_folder,
    param_shapes,
    save_params,
)
from xcomp_jax.config import ModelConfig
from xcomp_jax.convert.from_torch import load_torch_checkpoint

Saved = tuple[Path, ModelConfig, dict[str, Any]]


@pytest.fixture
def saved(source: Path) -> Saved:
    model, params = load_torch_checkpoint(source)
    folder = source.parent / "ckpt"
    extra = [source / "vocab.json", source / "merges.txt"]
    texts = {"README.md": "card"}
    save_params(folder, model, params, source={"run": 7}, extra_files=extra, texts=texts)
    return folder, model, params


def edit_config(folder: Path, change: Any) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_saved_parameters_are_loaded(saved: Saved) -> None:
    folder, model, params = saved
    loaded_model, loaded = load_params(folder)
    assert loaded_model == model
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(loaded))
    assert CheckpointReader(folder).source == {"run": 7}
    assert sorted(entry.name for entry in folder.iterdir()) == [
        "README.md", "config.json", "merges.txt", "params", "vocab.json"
    ]  # fmt: skip
    assert [entry.name for entry in folder.parent.iterdir() if entry.name.startswith(".")] == []


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
        lambda ours, original: np.testing.assert_array_equal(
            np.asarray(ours), original.astype(jnp.dtype(dtype))
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
            (place / "config.json").read_text().split("sha256")[1]
            for place in (folder, folder.with_name("again"))
        )
        assert first == second
        print("sharded ok")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "sharded ok" in done.stdout


# --- errors ------------------------------------------------------------------------------------


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_params(folder, **options)
    return str(caught.value)


def test_missing_folder_is_rejected(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: no such folder"


def test_pytorch_folder_is_rejected(source: Path) -> None:
    message = refusal(source)
    assert "not a checkpoint, it needs config.json and params/" in message
    assert "model.safetensors" in message
    assert "python -m convert from_torch" in message


def test_unknown_version_is_rejected(saved: Saved) -> None:
    folder = saved[0]
    edit_config(folder, lambda values: values.update(version=2))
    assert "version 2, this code reads version 1" in refusal(folder)
    edit_config(folder, lambda values: values.update(format="other"))
    assert "format='xcomp_jax'" in refusal(folder)
    (folder / "config.json").write_text("{")
    assert "not valid JSON" in refusal(folder)


def test_unknown_field_is_rejected(saved: Saved) -> None:
    edit_config(saved[0], lambda values: values["model"]["llm"].update(rope="yes"))
    assert "unknown field(s) ['rope']" in refusal(saved[0])


def test_shapes_unlike_config_are_rejected(saved: Saved) -> None:
    folder = saved[0]
    edit_config(folder, lambda values: values["model"]["llm"].update(vocab_size=25))
    assert "'llm/embed_tokens/embedding' is (24, 8), the configuration asks for (25, 8)" in (
        refusal(folder)
    )
    edit_config(
        folder,
        lambda values: values["model"]["llm"].update(vocab_size=24, tie_word_embeddings=False),
    )
    assert "missing 'llm/lm_head/kernel' (8, 24)" in refusal(folder)


def test_save_of_wrong_tree_is_rejected(saved: Saved, tmp_path: Path) -> None:
    _, model, params = saved
    params["llm"]["norm"]["scale"] = np.ones(9, np.float32)
    params["llm"]["norm"]["bias"] = np.ones(8, np.float32)
    with pytest.raises(CheckpointError) as caught:
        save_params(tmp_path / "bad", model, params, source={})
    assert "'llm/norm/scale' is (9,), the configuration asks for (8,)" in str(caught.value)
    assert "unexpected 'llm/norm/bias' (8,)" in str(caught.value)
    assert not (tmp_path / "bad").exists()


def test_shardings_of_other_tree_are_rejected(saved: Saved) -> None:
    folder, _, params = saved
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shardings = jax.tree.map(lambda _: one, params)
    del shardings["llm"]["norm"]
    assert "only in one of them: ['llm/norm/scale']" in refusal(folder, shardings=shardings)


@pytest.mark.parametrize("damage", ["removed", "truncated", "replaced", "flipped"])
def test_damaged_data_is_rejected(saved: Saved, damage: str) -> None:
    path = saved[0] / "params" / "llm.embed_tokens.embedding" / "c" / "0" / "0"
    raw = path.read_bytes()
    path.unlink()
    if damage != "removed":
        flipped = raw[:99] + bytes([raw[99] ^ 1]) + raw[100:]
        path.write_bytes(
            {"truncated": raw[:99], "replaced": b"x" * len(raw), "flipped": flipped}[damage]
        )
    message = refusal(saved[0])
    assert "'llm/embed_tokens/embedding' cannot be read" in message
    assert "llm.embed_tokens.embedding/c/0/0" in message


def test_damaged_metadata_is_rejected(saved: Saved) -> None:
    (saved[0] / "params" / "_METADATA").write_text("{")
    assert "not an Orbax pytree, or its description is damaged" in refusal(saved[0])


# --- atomic writing ----------------------------------------------------------------------------


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_failed_new_folder_leaves_nothing(tmp_path: Path) -> None:
    def write(error: BaseException) -> None:
        with new_folder(tmp_path / "out") as draft:
            (draft / "half").write_text("x")
            assert not (tmp_path / "out").exists()
            raise error

    for error in (OSError("disk full"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            write(error)
        assert entries(tmp_path) == []


def test_finished_new_folder_takes_its_name(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()  # an empty folder counts as free
    with new_folder(tmp_path / "out") as draft:
        (draft / "config.json").write_text("1")
    with new_folder(tmp_path / "out", overwrite=True) as draft:
        (draft / "config.json").write_text("2")
    assert entries(tmp_path) == ["out"]
    assert (tmp_path / "out" / "config.json").read_text() == "2"


def test_existing_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(CheckpointError):
            check_free(tmp_path / "file", overwrite=overwrite)
    check_free(tmp_path / "free", overwrite=False)


def test_full_disk_while_saving_leaves_nothing(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    _, model, params = saved
    monkeypatch.setattr("xcomp_jax.checkpoint.write.shutil.copyfile", full)
    before = entries(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        save_params(tmp_path / "x", model, params, source={}, extra_files=[Path(__file__)])
    assert entries(tmp_path) == before


def test_compute_dtype_of_model_is_kept(tmp_path: Path) -> None:
    model, params = load_torch_checkpoint(
        torch_model.make(tmp_path / "s", torch_dtype="bfloat16"), dtype="float32"
    )
    mixed = dataclasses.replace(model, dtype="bfloat16")  # float32 parameters, bfloat16 compute
    save_params(tmp_path / "c", mixed, params, source={})
    loaded_model, loaded = load_params(tmp_path / "c")
    assert loaded_model.dtype == "bfloat16"
    assert loaded["llm"]["norm"]["scale"].dtype == jnp.float32
