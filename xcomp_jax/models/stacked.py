"""Parameters of equal layers, stacked along a leading axis so that one scan runs them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
from jax import lax

from xcomp_jax.models.quantized import has_scales

Params = dict[str, Any]


def stacked_params(
    parent: nn.Module, name: str, layer: nn.Module, num_layers: int, *example: Any
) -> Params:
    """Declares the parameters of `num_layers` copies of `layer` on `parent`, every leaf [L, ...].

    Args:
        example: arguments that `layer` is called with; only their shapes matter.

    Returns:
        The parameters; those of a quantised model have scales, which `layer` does not declare.
    """
    if parent.has_variable("params", name):
        stacked: Params = parent.get_variable("params", name)
        if has_scales(stacked):
            return stacked

    def init(key: jax.Array) -> Params:
        return jax.vmap(lambda k: layer.init(k, *example)["params"])(
            jax.random.split(key, num_layers)
        )

    return parent.param(name, init)


def split_layer_groups(params: Any, sizes: Sequence[int]) -> list[Any]:
    """Cuts a stacked pytree into layer groups of `sizes` layers (they sum to all layers).

    `lax.split` transposes to one concatenation; slices would transpose to a pad and an addition for
    every group.
    """
    leaves, structure = jax.tree.flatten(params)
    parts = [lax.split(leaf, list(sizes), axis=0) for leaf in leaves]
    return [jax.tree.unflatten(structure, [part[i] for part in parts]) for i in range(len(sizes))]
