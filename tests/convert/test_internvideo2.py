"""Conversion of a model with the InternVideo2 encoder."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.convert import torch_model
from xcomp_jax.checkpoint import load_params
from xcomp_jax.config import MeshConfig
from xcomp_jax.convert.errors import ConversionError
from xcomp_jax.convert.from_torch import convert_from_torch
from xcomp_jax.convert.to_torch import convert_to_torch
from xcomp_jax.convert.variants import VARIANTS
from xcomp_jax.convert.verify import verify
from xcomp_jax.models import apply
from xcomp_jax.models.xcomp import XComp
from xcomp_jax.sharding import AXES, make_mesh, parameter_shardings, parameter_spec

TOWER = "model.vision_tower.vision_tower."
SETTINGS = {
    "mm_vision_tower": "internvideo2",
    "mm_hidden_size": 16,
    "tiny_image_size": 56,
    "tiny_vision_hidden_size": 16,
}


@pytest.fixture(name="source")
def source_fixture(tmp_path: Path) -> Path:
    return torch_model.make(tmp_path / "source", **SETTINGS)


def test_internvideo2_round_trips(source: Path) -> None:
    checkpoint, exported = source.parent / "jax", source.parent / "torch"
    convert_from_torch(str(source), checkpoint)
    convert_to_torch(checkpoint, exported)
    before, after = (load_file(folder / "model.safetensors") for folder in (source, exported))
    assert before.keys() == after.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values, err_msg=name)
    for other in (checkpoint, exported):
        report = verify(source, other)
        assert report.equal
        assert len(report.tensors) == len(before)
    values = dict(before)
    values[TOWER + "cls_token"] = values[TOWER + "cls_token"] + 1
    settings = torch_model.config(**SETTINGS)
    changed = torch_model.write(source.parent / "changed", settings, values)
    assert not verify(checkpoint, changed).equal


def test_converted_parameters_fit_model_and_mesh(source: Path) -> None:
    out = source.parent / "jax"
    convert_from_torch(str(source), out)
    model, params = load_params(out)
    assert model.vision.architecture == "internvideo2"
    shardings = parameter_shardings(params, make_mesh(MeshConfig(fsdp=1), jax.devices()[:1]))
    assert jax.tree.structure(shardings) == jax.tree.structure(params)
    size = model.vision.image_size

    def encode(frames: int) -> jax.ShapeDtypeStruct:
        pixels = jax.ShapeDtypeStruct((2, frames, size, size, 3), np.float32)
        return jax.eval_shape(lambda p, x: apply.encode(XComp(model), p, x), params, pixels)

    for frames in (1, model.vision.clip_frames):
        assert encode(frames).shape == (2, frames * 4, model.llm.hidden_size)
    with pytest.raises(ValueError, match=r"clips of 2 frames: .* vision\.clip_frames=4"):
        encode(2)


def test_large_parameters_of_published_model_are_sharded() -> None:
    (variant,) = [v for v in VARIANTS if v.model.vision.architecture == "internvideo2"]
    mesh = jax.sharding.AbstractMesh((1, 16, 4, 1), AXES)
    for path, shape in variant.shapes().items():
        spec = parameter_spec(path, shape, mesh)
        sharded = any("fsdp" in (axes or ()) for axes in spec)
        assert np.prod(shape) <= 2**20 or sharded, (path, shape, spec)


def test_clip_length_unlike_position_table_is_rejected(source: Path) -> None:
    settings = torch_model.config(**SETTINGS, mm_local_num_frames=8)
    torch_model.write(source, settings, load_file(source / "model.safetensors"))
    with pytest.raises(ConversionError) as caught:
        convert_from_torch(str(source), source.parent / "jax")
    (problem,) = caught.value.problems
    assert problem == (
        f"wrong shape: '{TOWER}pos_embed' is (1, 65, 16), the configuration requires (1, 129, 16)"
    )
