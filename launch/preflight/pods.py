"""Describe a pod by its name, such as `v5p:4x4x4` or `h100:8`."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

from xcomp_jax.config import ConfigError
from xcomp_jax.launch.preflight.machines import MACHINES, absent_devices
from xcomp_jax.peaks import Peak, peak_of


@dataclasses.dataclass(frozen=True)
class Pod:
    """All devices of a pod or cluster; figures are per device, as in `machines.Machine`."""

    name: str
    devices: list[Any]
    memory_bytes: int
    link_gbytes: float
    peak: Peak


def describe(name: str) -> Pod:
    """Describes the pod `name`, which reads `MACHINE:SIZES`.

    Sizes of a TPU are chips along each direction of the torus (`v5e:4x4`, `v5p:4x4x4`). Sizes of a
    GPU are devices of one host (`h100:8`) or hosts x devices (`h100:4x8`).

    Raises:
        ConfigError: the name has another form, the machine or topology is unknown, or the compiler
            is not installed.
    """
    machine, _, sizes = name.partition(":")
    if machine not in MACHINES or not re.fullmatch(r"\d+(x\d+){0,2}", sizes):
        raise ConfigError(
            f"--topology {name} must read MACHINE:SIZES, e.g. v5e:4x4, v5p:4x4x4 or h100:4x8 "
            f"(hosts x devices); machines: {', '.join(sorted(MACHINES))}"
        )
    known = MACHINES[machine]
    counts = [int(n) for n in sizes.split("x")]
    if not known.topologies.accept(counts):
        raise ConfigError(
            f"--topology {name} does not exist; {machine} has {known.topologies.description}"
        )
    topology = f"{machine}:{sizes}"
    if known.platform == "cuda":
        # The compiler counts partitions, hosts and devices per host.
        topology = "x".join(str(n) for n in [1] * (3 - len(counts)) + counts)
    try:
        devices = absent_devices(machine, topology)
    except RuntimeError as error:
        raise ConfigError(f"--topology {name}: {str(error).splitlines()[0]}") from error
    if len(devices) != math.prod(counts):
        raise ConfigError(
            f"--topology {name}: the compiler describes {len(devices)} devices, not "
            f"{math.prod(counts)}; choose another topology of {machine}"
        )
    peak = peak_of(devices[0].device_kind)
    assert peak is not None, devices[0].device_kind
    return Pod(name, devices, known.memory_bytes, known.link_gbytes, peak)
