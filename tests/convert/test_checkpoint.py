"""Errors of XComp-JAX checkpoint folders that are invalid, damaged or unlike their config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.convert.conftest import Saved
from xcomp_jax.checkpoint import CheckpointError, load_params, save_params


def edit_config(folder: Path, change: Any) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def load_error(folder: Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_params(folder, **options)
    return str(caught.value)


def test_missing_folder_is_rejected(tmp_path: Path) -> None:
    assert load_error(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: no such folder"


def test_pytorch_folder_is_rejected(source: Path) -> None:
    message = load_error(source)
    assert "not a checkpoint, it needs config.json and params/" in message
    assert "model.safetensors" in message
    assert "xcomp convert from-torch" in message


def test_unknown_version_is_rejected(saved: Saved) -> None:
    folder = saved[0]
    edit_config(folder, lambda values: values.update(version=2))
    assert "version 2, this code reads version 1" in load_error(folder)
    edit_config(folder, lambda values: values.update(format="other"))
    assert "format='xcomp_jax'" in load_error(folder)
    (folder / "config.json").write_text("{")
    assert "not valid JSON" in load_error(folder)


def test_unknown_field_is_rejected(saved: Saved) -> None:
    edit_config(saved[0], lambda values: values["model"]["llm"].update(rope="yes"))
    assert "unknown field(s) ['rope']" in load_error(saved[0])


def test_shapes_unlike_config_are_rejected(saved: Saved) -> None:
    folder = saved[0]
    edit_config(folder, lambda values: values["model"]["llm"].update(vocab_size=25))
    assert "'llm/embed_tokens/embedding' is (24, 8), the configuration asks for (25, 8)" in (
        load_error(folder)
    )
    edit_config(
        folder,
        lambda values: values["model"]["llm"].update(vocab_size=24, tie_word_embeddings=False),
    )
    assert "missing 'llm/lm_head/kernel' (8, 24)" in load_error(folder)


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
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shardings = jax.tree.map(lambda _: sharding, params)
    del shardings["llm"]["norm"]
    assert "only in one of them: ['llm/norm/scale']" in load_error(folder, shardings=shardings)


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
    message = load_error(saved[0])
    assert "'llm/embed_tokens/embedding' cannot be read" in message
    assert "llm.embed_tokens.embedding/c/0/0" in message


@pytest.mark.parametrize("name", ["_METADATA", "_CHECKPOINT_METADATA", "commit_success.txt"])
def test_damaged_orbax_metadata_is_not_read(saved: Saved, name: str) -> None:
    (saved[0] / "params" / name).write_text("{")
    jax.tree.map(np.testing.assert_array_equal, load_params(saved[0])[1], saved[2])


@pytest.mark.parametrize("file", ["zarr.json", "c/0/0/0"])
def test_exchanged_file_is_rejected(saved: Saved, file: str) -> None:
    """Each file is intact, and its checksum right: only config.json knows that they are others."""
    folders = [
        saved[0] / "params" / f"llm.layers.mlp.{name}.kernel" for name in ("up_proj", "gate_proj")
    ]
    (folders[0] / file).write_bytes((folders[1] / file).read_bytes().replace(b"little", b"big"))
    message = load_error(saved[0])
    assert f"llm.layers.mlp.up_proj.kernel/{file} cannot be read: it was changed or exch" in message
