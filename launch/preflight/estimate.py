"""Estimate the memory, traffic and least run time of a program by compiling it."""

from __future__ import annotations

import dataclasses
import re
import time
from typing import Any

import jax

from xcomp_jax.config import ConfigError
from xcomp_jax.launch.preflight.collectives import Collective, by, collectives
from xcomp_jax.launch.preflight.pods import Pod
from xcomp_jax.launch.preflight.program import Program

SPARE = 0.03
"""Share of memory kept free for what the compiler does not count: other programs, fragmentation."""

TOO_SMALL = {"xla_tpu_max_hbm_size_mib": 16}
"""Compiler option for a memory size into which no training step fits."""

# A plan that is refused before code is generated, and small programs refused after it.
_REQUIRED = (
    r"memory required .*?\(([\d.]+)([KMG]?)\) exceeds",
    r"Used ([\d.]+)([KMG]?) of [\d.]+[KMG]? hbm",
)

LARGEST = 5
"""Number of operations listed in a report."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes per device: `arguments` are state and batch, `temporary` is everything else."""

    arguments: int
    temporary: int
    needed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """Estimate of one program on one pod.

    Attributes:
        memory: None if the compiler refused the program for lack of memory.
        refusal: message of that refusal.
        sent: collectives of one run, in bytes that one device sends.
        unread: reason why `sent` is unknown although the program compiled.
        compute_s, memory_s, links_s: least time of arithmetic, memory and interconnect.
        least_bytes: least memory the compiler can plan with (`least_needed`); None if unknown.
        spare: share of the memory that must stay free for the program to fit.
    """

    program: str
    memory: Memory | None
    refusal: str | None
    capacity_bytes: int
    flops: float
    recomputed: float
    sent: tuple[Collective, ...]
    unread: str | None
    compute_s: float
    memory_s: float
    links_s: float
    compile_s: float
    least_bytes: int | None = None
    spare: float = SPARE

    @property
    def fits(self) -> bool:
        """Checks that the program needs at most the memory without `spare`."""
        room = self.capacity_bytes * (1 - self.spare)
        return self.memory is not None and self.memory.needed <= room

    @property
    def floor_s(self) -> float:
        """Least run time: the slowest of arithmetic, memory and links, fully overlapped."""
        return max(self.compute_s, self.memory_s, self.links_s)

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, with the traffic summed by kind and by source."""
        return {
            **{key: value for key, value in vars(self).items() if key not in ("memory", "sent")},
            "memory": self.memory and dataclasses.asdict(self.memory),
            "sent_bytes": by("kind", self.sent),
            "largest_sent": dict(list(by("source", self.sent).items())[:LARGEST]),
            "fits": self.fits,
            "floor_s": self.floor_s,
        }


def estimate(program: Program, pod: Pod, mesh: jax.sharding.Mesh) -> Estimate:
    """Compiles `program` for `pod`.

    Raises:
        ConfigError: the compiler refused it for another reason than memory.
    """
    began = time.monotonic()
    memory, refusal, unread = None, None, None
    sent: list[Collective] = []
    with jax.set_mesh(mesh):
        lowered = program.lower()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        refusal = _out_of_memory(str(error))
        if refusal is None:
            raise ConfigError(
                f"the compiler refuses the {program.name} on {pod.name}, and not for lack of "
                f"memory: {_first_line(error)}"
            ) from error
    else:
        memory = _memory(compiled.memory_analysis())
        try:
            sent = collectives(compiled.as_text(), len(pod.devices))
        except jax.errors.JaxRuntimeError as error:
            # A libtpu newer than jaxlib writes instructions that this jaxlib cannot parse.
            unread = _first_line(error)
    executed = (program.flops + program.recomputed) / len(pod.devices)
    return Estimate(
        program=program.name,
        memory=memory,
        refusal=refusal,
        capacity_bytes=pod.memory_bytes,
        flops=program.flops,
        recomputed=program.recomputed,
        sent=tuple(sent),
        unread=unread,
        compute_s=pod.peak.least_seconds(executed, 0),
        memory_s=pod.peak.least_seconds(0, program.moved_bytes),
        links_s=sum(collective.nbytes for collective in sent) / (pod.link_gbytes * 1e9),
        compile_s=time.monotonic() - began,
    )


def least_needed(program: Program, pod: Pod, mesh: jax.sharding.Mesh) -> int | None:
    """Returns the least bytes per device with which a TPU compiler can plan the program.

    Given more memory the compiler uses more, to start copies earlier, so the memory it used is not
    the memory a program needs. Compiling for far too little memory makes it report the minimum
    before it generates code, in a tenth of the time of a whole step. Returns None without a TPU,
    or if the compiler gives another reason, as it does for very small programs.
    """
    if pod.devices[0].platform != "tpu":
        return None
    with jax.set_mesh(mesh):
        lowered = program.lower()
    try:
        analysis = lowered.compile(compiler_options=TOO_SMALL).memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        return required_bytes(str(error))
    return _memory(analysis).needed


def required_bytes(message: str) -> int | None:
    """Reads the required memory from a compiler's refusal, which rounds it to hundredths."""
    units = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
    for pattern in _REQUIRED:
        if match := re.search(pattern, message):
            return int(float(match[1]) * units[match[2]])
    return None


def _memory(analysis: Any) -> Memory:
    result = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    code = analysis.generated_code_size_in_bytes
    return Memory(
        arguments=analysis.argument_size_in_bytes,
        temporary=analysis.temp_size_in_bytes,
        needed=analysis.argument_size_in_bytes + analysis.temp_size_in_bytes + result + code,
    )


def _out_of_memory(message: str) -> str | None:
    """Returns the sentence with both figures; None if memory is not the reason of the refusal."""
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    match = re.search(r"memory required .*? exceeds available HBM \([^)]*\)", message)
    return match[0] if match else message.splitlines()[0]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
