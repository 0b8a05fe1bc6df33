"""`--mesh`: parameters go onto devices slice by slice instead of through one host."""

from __future__ import annotations

import re
from typing import Any

from xcomp_jax.config import ConfigError, MeshConfig, ModelConfig
from xcomp_jax.models.xcomp import abstract_params
from xcomp_jax.sharding import AXES, make_mesh, parameter_shardings

_AXIS = re.compile(rf"({'|'.join(AXES)})=(-1|[0-9]+)")


def parse_mesh(text: str) -> MeshConfig:
    """`data=1,fsdp=4,tensor=2` -> MeshConfig; axes that are left out have one device.

    Raises:
        ConfigError: it is not of that form, or the sizes cannot be.
    """
    sizes = dict.fromkeys(AXES, 1)
    for part in text.split(","):
        match = _AXIS.fullmatch(part)
        if match is None:
            raise ConfigError(
                f"mesh {text!r}: {part!r} is not AXIS=N; axes: {', '.join(AXES)}, N a number or -1 "
                "for all that is left"
            )
        sizes[match[1]] = int(match[2])
    return MeshConfig(**sizes)


def mesh_shardings(model: ModelConfig, config: MeshConfig) -> Any:
    """A sharding for every parameter, on the devices of all processes.

    Raises:
        ConfigError: the mesh does not fit the devices, or an axis does not divide a parameter.
    """
    return parameter_shardings(abstract_params(model), make_mesh(config))
