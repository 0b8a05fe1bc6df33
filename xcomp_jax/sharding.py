"""The mesh, and the one table of the sharding of every parameter.

Axes: `data` replicates the parameters and splits the batch; `fsdp` splits both; `tensor` splits the
wide side of every matrix; `context` splits the parameters like `fsdp`, and the tokens of each
video. Optimizer state is sharded like its parameter.
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

# Along these axes every device multiplies gathered matrices by its own tokens.
FSDP = ("fsdp", "context")

# Path of a parameter (first match wins) -> the mesh axis of each of its dimensions. The leading
# None of stacked layers is the layer axis, which the scan iterates over. A tuple splits further.
RULES: tuple[tuple[str, tuple[str | tuple[str, ...] | None, ...]], ...] = (
    (r"llm/embed_tokens/embedding", ("tensor", FSDP)),
    (r"llm/lm_head/kernel", (FSDP, "tensor")),
    (r".*/(q_proj|k_proj|v_proj|gate_proj|up_proj)/kernel", (None, FSDP, "tensor")),
    (r".*/(o_proj|down_proj)/kernel", (None, "tensor", FSDP)),
    (r".*/(q_proj|k_proj|v_proj)/bias", (None, "tensor")),
    (r"llm/layers/.*/(q_proj|k_proj|v_proj|gate_proj|up_proj)/kernel_scale", (None, "tensor")),
    (r"llm/layers/.*/(o_proj|down_proj)/kernel_scale", (None,)),
    (r"llm/(embed_tokens/embedding|lm_head/kernel)_scale", ("tensor",)),
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
    """Builds a mesh over all devices of all processes, `context` and `tensor` varying fastest.

    Raises:
        ConfigError: the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    resolved = mesh_on(config, len(devices))
    sizes = [getattr(resolved, axis) for axis in AXES]
    placed = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def path_name(path: tuple[Any, ...]) -> str:
    """Converts a JAX key path to a name such as `llm/layers/mlp/up_proj/kernel`."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path)


def parameter_spec(path: str, shape: tuple[int, ...], mesh: Any) -> PartitionSpec:
    """Returns the sharding of one parameter on a mesh (or abstract mesh).

    Raises:
        ConfigError: no rule matches, or a mesh axis does not divide its dimension.
    """
    axes = next((axes for pattern, axes in RULES if re.fullmatch(pattern, path)), None)
    if axes is None:
        raise ConfigError(f"no sharding rule matches parameter {path!r} of shape {shape}")
    for size, axis in zip(shape, axes, strict=False):
        split = (axis,) if isinstance(axis, str) else axis or ()
        if size % math.prod(mesh.shape[name] for name in split):
            sizes = " x ".join(f"{name}={mesh.shape[name]}" for name in split)
            raise ConfigError(
                f"parameter {path!r} of shape {shape}: mesh axis {sizes} does not divide its "
                f"dimension of {size}; choose other mesh sizes"
            )
    return PartitionSpec(*axes)


def parameter_shardings(params: Any, mesh: Any) -> Any:
    """Returns the NamedSharding of every leaf of a parameter tree (arrays or shapes)."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, parameter_spec(path_name(path), leaf.shape, mesh)),
        params,
    )


def mesh_sizes() -> dict[str, int]:
    """Returns the axes of the mesh in force with more than one device that the compiler splits.

    Empty without a mesh and inside a `shard_map`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        return {}
    return {name: size for name, size in mesh.shape.items() if size > 1}


def batch_axes(batch: int) -> tuple[str, ...] | None:
    """Returns the axes of the mesh in force that split `batch` examples, None if they cannot."""
    sizes = mesh_sizes()
    axes = tuple(name for name in BATCH_AXES if name in sizes)
    return axes if axes and batch % math.prod(sizes[name] for name in axes) == 0 else None


def constrained(x: Array, *, context: int | None = None) -> Array:
    """Shards `x` [B, ...] by examples over `data` and `fsdp`, and a dimension over `context`.

    Axes that do not divide their dimension are left out; without a mesh `x` is unchanged.

    Args:
        context: the dimension that the axis of that name splits.
    """
    sizes = mesh_sizes()
    if not sizes:
        return x
    axes: list[Any] = [batch_axes(x.shape[0]), *[None] * (x.ndim - 1)]
    if context is not None and x.shape[context] % sizes.get("context", 1) == 0:
        axes[context] = "context" if "context" in sizes else None
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*axes))


def constrained_parameters(tree: Any) -> Any:
    """Shards gradients (or parameters) by the table, on the mesh in force."""
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
    """Gathers the matrices of one layer along `fsdp` and `context`, in `dtype`.

    Gradients are sharded like the parameters. Without a mesh the parameters are unchanged. By
    itself XLA moves tokens instead, or multiplies parts as they arrive, and then stores the result
    of every layer outside a loop from the beginning.

    Args:
        name: path of the stacked layers, such as `llm/layers`; params: of one of the layers.
    """
    if not mesh_sizes():
        return params
    mesh = jax.sharding.get_abstract_mesh()

    def gathered(path: tuple[Any, ...], leaf: Array) -> Array:
        _, *axes = parameter_spec(f"{name}/{path_name(path)}", (1, *leaf.shape), mesh) or (None,)
        return _gathered(leaf, PartitionSpec(*axes), dtype) if FSDP in axes else leaf

    return jax.tree_util.tree_map_with_path(gathered, params)


def _gathered(leaf: Array, home: PartitionSpec, dtype: Any) -> Array:
    whole = PartitionSpec(*(None if axis == FSDP else axis for axis in home))

    @jax.custom_vjp
    def gather(x: Array) -> Array:
        x = jax.lax.with_sharding_constraint(x.astype(dtype), home)  # communicated in `dtype`
        return jax.lax.with_sharding_constraint(x, whole)

    def backward(_: None, gradient: Array) -> tuple[Array]:
        return (jax.lax.with_sharding_constraint(gradient, home).astype(leaf.dtype),)

    gather.defvjp(lambda x: (gather(x), None), backward)
    return gather(leaf)


def batch_split(mesh: Any) -> int:
    """Counts the parts that a batch is split into on `mesh`."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def batch_sharding(mesh: Any, field: str, shape: tuple[int, ...]) -> NamedSharding:
    """Shards a field of a batch (`data.pipeline`): examples over data and fsdp, time over context.

    Time that `context` does not divide is replicated; buckets of frames should be multiples.
    """
    divides = field in VIDEO_FIELDS and shape[1] % mesh.shape["context"] == 0
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES, "context") if divides else BATCH)


def batch_share(mesh: Mesh) -> tuple[int, int]:
    """Returns the index of the batch part that this process loads, and the number of parts.

    Processes that differ only along `tensor` or `context` load the same examples.

    Raises:
        ConfigError: the devices of two processes hold overlapping but different parts.
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
    rows_here = owners.get(jax.process_index(), set(parts[0]))
    return parts.index(tuple(sorted(rows_here))), len(parts)


def global_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """Builds arrays over the whole mesh from the examples of this process (`batch_share`)."""
    _, parts = batch_share(mesh)

    def whole(field: str, rows: np.ndarray) -> Array:
        shape = (parts * rows.shape[0], *rows.shape[1:])
        sharding = batch_sharding(mesh, field, shape)
        return jax.make_array_from_process_local_data(sharding, rows, shape)

    return {field: whole(field, rows) for field, rows in batch.items()}
