"""The mesh and the one table that says where every parameter lives.

Axes: `data` repeats the parameters and splits the batch; `fsdp` splits both; `tensor` splits the
wide side of every matrix; `context` splits the parameters as `fsdp` does, and the tokens of each
video. Optimiser state follows its parameter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from xcomp_jax.config import ConfigError, MeshConfig, mesh_on

AXES = ("data", "fsdp", "tensor", "context")
BATCH = PartitionSpec(("data", "fsdp"))
BATCH_AXES: tuple[str, ...] = BATCH[0]

# Along these axes every device multiplies whole matrices by tokens of its own.
FSDP = ("fsdp", "context")

# Path of a parameter (first match wins) -> the mesh axis of each of its dimensions. The leading
# None of stacked layers is the layer axis, which the scan walks along. A tuple splits further.
RULES: tuple[tuple[str, tuple[str | tuple[str, ...] | None, ...]], ...] = (
    (r"llm/embed_tokens/embedding", ("tensor", FSDP)),
    (r"llm/lm_head/kernel", (FSDP, "tensor")),
    (r".*/(q_proj|k_proj|v_proj|gate_proj|up_proj)/kernel", (None, FSDP, "tensor")),
    (r".*/(o_proj|down_proj)/kernel", (None, "tensor", FSDP)),
    (r".*/(q_proj|k_proj|v_proj)/bias", (None, "tensor")),
    (r"lora/.*/(q_proj|k_proj|v_proj|gate_proj|up_proj)/a", (None, FSDP)),
    (r"lora/.*/(q_proj|k_proj|v_proj|gate_proj|up_proj)/b", (None, None, "tensor")),
    (r"lora/.*/(o_proj|down_proj)/a", (None, "tensor")),
    (r"lora/.*/(o_proj|down_proj)/b", (None, None, FSDP)),
    (r"vision/blocks/(attn/qkv|mlp/fc1)/kernel", (None, FSDP, "tensor")),
    (r"vision/blocks/(attn/proj|mlp/fc2)/kernel", (None, "tensor", FSDP)),
    (r"vision/patch_embed/kernel", (None, None, None, FSDP)),
    (r"vision/(img_)?pos_embed", (None, FSDP)),
    (r"projector/fc1/kernel", (FSDP, "tensor")),
    (r"projector/fc2/kernel", ("tensor", FSDP)),
    (r".*/(scale|bias|q_bias|v_bias|cls_token)", ()),
)

# Fields of a batch whose second dimension is time, as long as the video.
VIDEO_FIELDS = ("frames", "merged_features")


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """A mesh over all devices (of all processes), neighbours along `context` and `tensor` first.

    Raises:
        ConfigError: when the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    resolved = mesh_on(config, len(devices))
    sizes = [getattr(resolved, axis) for axis in AXES]
    placed = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def path_name(path: tuple[Any, ...]) -> str:
    """`llm/layers/mlp/up_proj/kernel` from a JAX key path."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path)


def parameter_spec(name: str, shape: tuple[int, ...], mesh: Any) -> PartitionSpec:
    """Where one parameter lives on a mesh (or abstract mesh).

    Raises:
        ConfigError: no rule matches, or a mesh axis does not divide its dimension.
    """
    axes = next((axes for pattern, axes in RULES if re.fullmatch(pattern, name)), None)
    if axes is None:
        raise ConfigError(f"no sharding rule matches parameter {name!r} of shape {shape}")
    for size, axis in zip(shape, axes, strict=False):
        split = (axis,) if isinstance(axis, str) else axis or ()
        if size % math.prod(mesh.shape[one] for one in split):
            sizes = " x ".join(f"{one}={mesh.shape[one]}" for one in split)
            raise ConfigError(
                f"parameter {name!r} of shape {shape}: mesh axis {sizes} does not divide its "
                f"dimension of {size}; choose a mesh that does"
            )
    return PartitionSpec(*axes)


def parameter_shardings(params: Any, mesh: Any) -> Any:
    """NamedSharding for every leaf of a parameter tree (arrays or shapes)."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, parameter_spec(path_name(path), leaf.shape, mesh)),
        params,
    )


def mesh_sizes() -> dict[str, int]:
    """Axes of the mesh in force that have more than one device and are the compiler's to split.

    Empty without a mesh and inside a `shard_map`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        return {}
    return {name: size for name, size in mesh.shape.items() if size > 1}


def batch_axes(batch: int) -> tuple[str, ...] | None:
    """Axes of the mesh in force that split a batch of that many examples; None if they cannot."""
    sizes = mesh_sizes()
    axes = tuple(name for name in BATCH_AXES if name in sizes)
    return axes if axes and batch % math.prod(sizes[name] for name in axes) == 0 else None


def constrained(x: Array, *, context: int | None = None) -> Array:
    """`x` [B, ...] with its examples over `data` and `fsdp`, if they divide them, and its dimension
    `context` over that axis. As it is when no mesh is in force."""
    sizes = mesh_sizes()
    if not sizes:
        return x
    axes: list[Any] = [batch_axes(x.shape[0]), *[None] * (x.ndim - 1)]
    if context is not None and x.shape[context] % sizes.get("context", 1) == 0:
        axes[context] = "context" if "context" in sizes else None
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*axes))


def constrained_parameters(tree: Any) -> Any:
    """Gradients (or parameters) where the table puts the parameters, on the mesh in force."""
    if not mesh_sizes():
        return tree
    mesh = jax.sharding.get_abstract_mesh()
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jax.lax.with_sharding_constraint(
            leaf, parameter_spec(path_name(path), leaf.shape, mesh)
        ),
        tree,
    )


def gathered_layer(name: str, params: Any, dtype: Any) -> Any:
    """The matrices of one layer as its devices multiply by them: whole along `fsdp` and `context`,
    in `dtype`; their gradients go back to where the parameters live. As they are without a mesh.

    Left to itself XLA sends tokens about instead, or multiplies while parts go round, and then
    holds the result of every layer that is no part of a loop from the beginning.

    Args:
        name: of the stacked layers, such as `llm/layers`; params: of one of them.
    """
    if not mesh_sizes():
        return params
    mesh = jax.sharding.get_abstract_mesh()

    def one(path: tuple[Any, ...], leaf: Array) -> Array:
        _, *axes = parameter_spec(f"{name}/{path_name(path)}", (1, *leaf.shape), mesh) or (None,)
        return _gathered(leaf, PartitionSpec(*axes), dtype) if FSDP in axes else leaf

    return jax.tree_util.tree_map_with_path(one, params)


def _gathered(leaf: Array, home: PartitionSpec, dtype: Any) -> Array:
    whole = PartitionSpec(*(None if axis == FSDP else axis for axis in home))

    @jax.custom_vjp
    def gather(x: Array) -> Array:
        x = jax.lax.with_sharding_constraint(x.astype(dtype), home)  # sent in `dtype`
        return jax.lax.with_sharding_constraint(x, whole)

    def backward(_: None, gradient: Array) -> tuple[Array]:
        return (jax.lax.with_sharding_constraint(gradient, home).astype(leaf.dtype),)

    gather.defvjp(lambda x: (gather(x), None), backward)
    return gather(leaf)


def batch_split(mesh: Any) -> int:
    """Parts that a batch is split into on `mesh`."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def batch_sharding(mesh: Any, field: str, shape: tuple[int, ...]) -> NamedSharding:
    """Of one field of a batch (`data.pipeline`): examples over data and fsdp, time over context.

    Time that `context` does not divide is repeated there: buckets of frames should be multiples.
    """
    divides = field in VIDEO_FIELDS and shape[1] % mesh.shape["context"] == 0
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES, "context") if divides else BATCH)


def batch_share(mesh: Mesh) -> tuple[int, int]:
    """Which part of every batch this process has to load, and how many parts there are.

    Processes that differ only along `tensor` or `context` load the same examples.

    Raises:
        ConfigError: the devices of a process overlap with parts of another's examples.
    """
    owners: dict[int, set[int]] = {}
    rows = mesh.devices.reshape(-1, mesh.shape["tensor"] * mesh.shape["context"])
    for row, devices in enumerate(rows):
        for device in devices:
            owners.setdefault(device.process_index, set()).add(row)
    parts = sorted({tuple(sorted(owned)) for owned in owners.values()})
    if sum(len(part) for part in parts) != len(rows):
        raise ConfigError(
            f"mesh {dict(mesh.shape)}: processes would have to share parts of their examples "
            f"({parts}); choose tensor x context to divide, or be a multiple of, the devices of a "
            "process"
        )
    mine = owners.get(jax.process_index(), set(parts[0]))
    return parts.index(tuple(sorted(mine))), len(parts)


def global_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """Arrays over the whole mesh from the examples that this process loaded (`batch_share`)."""
    _, parts = batch_share(mesh)

    def whole(field: str, rows: np.ndarray) -> Array:
        shape = (parts * rows.shape[0], *rows.shape[1:])
        sharding = batch_sharding(mesh, field, shape)
        return jax.make_array_from_process_local_data(sharding, rows, shape)

    return {field: whole(field, rows) for field, rows in batch.items()}
