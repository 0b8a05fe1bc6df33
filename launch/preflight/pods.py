"""A pod by name, `v5p:4x4x4` or `h100:8`: its devices, described, and what one of them can do."""

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
    """All devices of a pod or cluster of one kind.

    memory_bytes and link_gbytes are of one device, see `machines.Machine`.
    """

    name: str
    devices: list[Any]
    memory_bytes: int
    link_gbytes: float
    peak: Peak


def describe(name: str) -> Pod:
    """The pod `name`, `MACHINE:SIZES`.

    Sizes of a TPU are chips along each direction of the torus (`v5e:4x4`, `v5p:4x4x4`), those of a
    GPU are devices of one host (`h100:8`) or hosts times devices (`h100:4x8`).

    Raises:
        ConfigError: another form, an unknown machine, a topology its compiler does not know, or a
            compiler that is not installed (says what to install).
    """
    machine, _, sizes = name.partition(":")
    if machine not in MACHINES or not re.fullmatch(r"\d+(x\d+){0,2}", sizes):
        raise ConfigError(
            f"topology {name!r} must read MACHINE:SIZES, such as v5e:4x4, v5p:4x4x4 or h100:4x8 "
            f"(hosts x devices); known machines: {', '.join(sorted(MACHINES))}"
        )
    known = MACHINES[machine]
    counts = [int(n) for n in sizes.split("x")]
    topology = f"{machine}:{sizes}"
    if known.platform == "cuda":
        # Partitions, hosts, devices of a host.
        topology = "x".join(str(n) for n in [1] * (3 - len(counts)) + counts)
    try:
        devices = absent_devices(machine, topology)
    except RuntimeError as error:
        raise ConfigError(f"topology {name!r}: {str(error).splitlines()[0]}") from error
    if len(devices) != math.prod(counts):
        raise ConfigError(
            f"topology {name!r}: the compiler describes {len(devices)} devices, not "
            f"{math.prod(counts)}; choose another of the same machine"
        )
    peak = peak_of(devices[0].device_kind)
    assert peak is not None, devices[0].device_kind
    return Pod(name, devices, known.memory_bytes, known.link_gbytes, peak)
