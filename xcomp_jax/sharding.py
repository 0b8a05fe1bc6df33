"""The mesh and the one table that says where every parameter lives.

Axes: `data` repeats the parameters and splits the batch; `fsdp` splits both; `tensor` splits the
wide side of every matrix. Optimiser state follows its parameter.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from xcomp_jax.config import ConfigError, MeshConfig

AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(("data", "fsdp"))

# Path of a parameter (first match wins) -> the mesh axis of each of its dimensions. The leading
# None of stacked layers is the layer axis, which the scan walks along.
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"llm/embed_tokens/embedding", ("tensor", "fsdp")),
    (r"llm/lm_head/kernel", ("fsdp", "tensor")),
    (r".*/(q_proj|k_proj|v_proj|gate_proj|up_proj)/kernel", (None, "fsdp", "tensor")),
    (r".*/(o_proj|down_proj)/kernel", (None, "tensor", "fsdp")),
    (r".*/(q_proj|k_proj|v_proj)/bias", (None, "tensor")),
    (r"vision/blocks/(attn/qkv|mlp/fc1)/kernel", (None, "fsdp", "tensor")),
    (r"vision/blocks/(attn/proj|mlp/fc2)/kernel", (None, "tensor", "fsdp")),
    (r"vision/patch_embed/kernel", (None, None, None, "fsdp")),
    (r"vision/(img_)?pos_embed", (None, "fsdp")),
    (r"projector/fc1/kernel", ("fsdp", "tensor")),
    (r"projector/fc2/kernel", ("tensor", "fsdp")),
    (r".*/(scale|bias|q_bias|v_bias|cls_token)", ()),
)


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh over all devices (of all processes).

    Raises:
        ConfigError: when the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [config.data, config.fsdp, config.tensor]
    fixed = int(np.prod([n for n in sizes if n != -1]))
    if -1 in sizes and len(devices) % fixed == 0:
        sizes[sizes.index(-1)] = len(devices) // fixed
    if int(np.prod(sizes)) != len(devices):
        raise ConfigError(
            f"mesh data={config.data}, fsdp={config.fsdp}, tensor={config.tensor} does not fit "
            f"{len(devices)} device(s): the product must equal that number, or set one axis to -1"
        )
    return Mesh(np.array(devices).reshape(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def path_name(path: tuple[Any, ...]) -> str:
    """`llm/layers/mlp/up_proj/kernel` from a JAX key path."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path)


def parameter_spec(name: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """Where one parameter lives.

    Raises:
        ConfigError: no rule matches, or a mesh axis does not divide its dimension.
    """
    axes = next((axes for pattern, axes in RULES if re.fullmatch(pattern, name)), None)
    if axes is None:
        raise ConfigError(f"no sharding rule matches parameter {name!r} of shape {shape}")
    for size, axis in zip(shape, axes, strict=False):
        if axis is not None and size % mesh.shape[axis]:
            raise ConfigError(
                f"parameter {name!r} of shape {shape}: mesh axis {axis}={mesh.shape[axis]} does "
                f"not divide its dimension of {size}; choose a mesh.{axis} that does"
            )
    return PartitionSpec(*axes)


def parameter_shardings(params: Any, mesh: Mesh) -> Any:
    """NamedSharding for every leaf of a parameter tree (arrays or shapes)."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, parameter_spec(path_name(path), leaf.shape, mesh)),
        params,
    )
