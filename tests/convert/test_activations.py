"""`verify --activations`: recordings of a small model, compared with changed checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.convert import torch_model
from xcomp_jax.cli.main import main
from xcomp_jax.convert.activations import compare_activations, first_difference
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.from_torch import load_torch_checkpoint
from xcomp_jax.models.sequence import Lengths
from xcomp_jax.models.xcomp import XComp

SIZES: dict[str, Any] = {"num_hidden_layers": 5}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torch_model.make(tmp_path_factory.mktemp("activations") / "source", **SIZES)


@pytest.fixture(scope="module")
def recorded(original: Path) -> dict[str, np.ndarray]:
    """Records the outputs of the model for random inputs, in the documented format."""
    model, params = load_torch_checkpoint(original)
    rng = np.random.default_rng(0)
    network = XComp(model)
    size = model.vision.image_size
    pixels = rng.standard_normal((2, model.vision.clip_frames, 3, size, size), np.float32)
    channels_last = np.moveaxis(pixels, 2, -1)
    apply = jax.jit(network.apply, static_argnames=("method", "collect_layers"))
    features = apply({"params": params}, channels_last, method="vision_features")
    embeds = apply({"params": params}, features, method="project")
    prefix, suffix = np.array([[1, 2, 3]]), np.array([[4, 5, 6, 7]])
    visual = np.asarray(embeds).reshape(1, -1, model.llm.hidden_size)
    lengths = Lengths(*(jnp.array([part.shape[1]]) for part in (prefix, visual, suffix)))
    out: Any = apply(
        {"params": params}, prefix, visual, suffix, lengths, collect_layers=True, method="prefill"
    )
    layers = [np.asarray(layer[0]) for stage in out.layers for layer in stage]
    final = jnp.concatenate([out.prefix, out.visual, out.suffix], axis=1)
    return {
        "pixel_values": pixels,
        "features": np.asarray(features),
        "llm_embeds": np.asarray(embeds),
        "input_ids": np.concatenate([prefix, [[-200]], suffix], axis=1),
        "visual_tokens": np.asarray(embeds),
        "final_normed_hidden": np.asarray(final[0]),
        "logits": np.asarray(apply({"params": params}, final[0], method="logits")),
        **{f"hidden_after_layer_{i:02d}": layers[i] for i in (0, 1, 3, 4)},
    }


def save(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    path = folder / "recorded.npz"
    np.savez(path, **arrays)
    return path


def changed(original: Path, folder: Path, name: str) -> Path:
    """Writes a copy of the checkpoint with one changed value of one tensor."""
    values = torch_model.read_tensors(original)
    values[name].reshape(-1)[0] += 1
    return torch_model.write(folder, json.loads((original / "config.json").read_text()), values)


def test_equal_weights_agree(
    original: Path, recorded: dict[str, np.ndarray], tmp_path: Path
) -> None:
    differences = compare_activations(original, save(tmp_path, recorded), tolerance=1e-4)
    assert [entry.name for entry in differences] == [
        "features", "llm_embeds", "hidden_after_layer_00", "hidden_after_layer_01",
        "hidden_after_layer_03", "hidden_after_layer_04", "final_normed_hidden", "logits",
    ]  # fmt: skip
    assert first_difference(differences) == "all 8 recorded activations agree"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.vision_tower.vision_tower.encoder.blocks.0.norm1.weight", "features"),
        ("model.mm_projector.mlp.2.bias", "llm_embeds"),
        ("model.layers.0.self_attn.v_proj.bias", "hidden_after_layer_00"),
        ("model.layers.2.mlp.down_proj.weight", "hidden_after_layer_03"),
        ("model.norm.weight", "final_normed_hidden"),
    ],
)
def test_first_difference_is_named(
    original: Path,
    recorded: dict[str, np.ndarray],
    tmp_path: Path,
    name: str,
    expected: str,
) -> None:
    other = changed(original, tmp_path / "other", name)
    differences = compare_activations(other, save(tmp_path, recorded), tolerance=1e-4)
    assert first_difference(differences) == f"activations differ first at {expected}"


def test_verify_command_reports_activations(
    original: Path,
    recorded: dict[str, np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = save(tmp_path, recorded)
    checkpoint, report = tmp_path / "jax", tmp_path / "report"
    assert main(["convert", "from-torch", str(original), str(checkpoint)]) == 0
    command = ["convert", "verify", str(original), str(checkpoint), "--activations", str(path)]
    assert main([*command, "--report", str(report)]) == 0
    values = json.loads((tmp_path / "report.json").read_text())
    assert next(row["name"] for row in values["activations"]) == "features"
    capsys.readouterr()
    recorded = {**recorded, "logits": recorded["logits"] + 1}
    save(tmp_path, recorded)
    assert main(command) == 1
    text = capsys.readouterr().out
    assert "activations differ first at logits" in text
    assert text.endswith("DIFFERENT\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_values": None}, "'pixel_values' is missing"),
        ({"visual_tokens": None}, "'visual_tokens' is missing"),
        ({"hidden": np.ones(3)}, "unknown array 'hidden'"),
        ({"input_ids": np.array([1, 2])}, "'input_ids' contains -200 0 times, expected once"),
        (
            {"hidden_after_layer_05": np.ones((3, 8))},
            "layers [5] are recorded, but the model has 5",
        ),
        ({"logits": np.ones((3, 24))}, "'logits' is (3, 24), the model computes"),
    ],
)
def test_unsuitable_recording_is_rejected(
    original: Path,
    recorded: dict[str, np.ndarray],
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
) -> None:
    arrays = {k: v for k, v in {**recorded, **changes}.items() if v is not None}
    if "pixel_values" not in changes:  # the language model alone is faster
        for name in ("pixel_values", "features", "llm_embeds"):
            arrays.pop(name)
    with pytest.raises(ConversionError) as caught:
        compare_activations(original, save(tmp_path, arrays), tolerance=1e-4)
    assert message in str(caught.value)


def test_unreadable_recording_is_rejected(original: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    for raw in (b"", b"PK\x03\x04", b"something else"):
        path.write_bytes(raw)
        with pytest.raises(ConversionError, match=r"not a readable \.npz file"):
            compare_activations(original, path, tolerance=1e-4)
    np.savez(path, input_ids=np.array([1]))
    with pytest.raises(ConversionError, match="contains no recorded output"):
        compare_activations(original, path, tolerance=1e-4)
    np.savez(path, logits=np.array([object()]))
    with pytest.raises(ConversionError, match=r"not a readable \.npz file"):
        compare_activations(original, path, tolerance=1e-4)
