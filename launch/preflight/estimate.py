"""What compiling a program tells: memory of one device, traffic, and the least time of a run."""

from __future__ import annotations

import dataclasses
import re
import time
from typing import Any

import jax

from xcomp_jax.launch.preflight.collectives import Collective, by, collectives
from xcomp_jax.launch.preflight.pods import Pod
from xcomp_jax.launch.preflight.program import Program

SPARE = 0.03
"""Of a device's memory, for what a compiler does not know: other programs, fragmentation."""

NEXT_TO_NOTHING = {"xla_tpu_max_hbm_size_mib": 16}
"""Memory of a device on which no training step fits."""

LARGEST = 5
"""Operations named in a report."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one device. arguments: state and batch; temporary: what the run needs besides."""

    arguments: int
    temporary: int
    needed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """One program on one pod.

    memory: None where the compiler gave up because it is too much; refusal: what it said.
    least_bytes: what it comes down to when pressed (`least_needed`); None where that is not known.
    sent: what one device sends in one run; unread: why that is not known, although it compiled.
    compute_s, memory_s, links_s: what arithmetic, memory and interconnect take at their best.
    spare: share of the memory that must be left over for it to fit.
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
        """With `spare` left over."""
        room = self.capacity_bytes * (1 - self.spare)
        return self.memory is not None and self.memory.needed <= room

    @property
    def floor_s(self) -> float:
        """The roofline: whichever takes longest, everything else hidden behind it."""
        return max(self.compute_s, self.memory_s, self.links_s)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; traffic added up by kind, and by the operations that cause most
        of it."""
        return {
            **{key: value for key, value in vars(self).items() if key not in ("memory", "sent")},
            "memory": self.memory and dataclasses.asdict(self.memory),
            "sent_bytes": by("kind", self.sent),
            "largest_sent": dict(list(by("source", self.sent).items())[:LARGEST]),
            "fits": self.fits,
            "floor_s": self.floor_s,
        }


def estimate(program: Program, pod: Pod, mesh: jax.sharding.Mesh) -> Estimate:
    """Compiles `program` for `pod`."""
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
            raise
    else:
        memory = _memory(compiled.memory_analysis())
        try:
            sent = collectives(compiled.as_text(), len(pod.devices))
        except jax.errors.JaxRuntimeError as error:
            # A libtpu newer than jaxlib writes instructions that jaxlib cannot read.
            unread = str(error).splitlines()[0]
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
        links_s=sum(one.nbytes for one in sent) / (pod.link_gbytes * 1e9),
        compile_s=time.monotonic() - began,
    )


def least_needed(program: Program, pod: Pod, mesh: jax.sharding.Mesh) -> int | None:
    """Bytes of a device that a TPU's compiler asks for when it has next to none.

    With more it takes more, to have copies under way earlier: what it used of the memory there was
    is not what a program needs. It refuses before it makes any code, in a tenth of the time that a
    whole step takes. None for other devices.
    """
    if pod.devices[0].platform != "tpu":
        return None
    with jax.set_mesh(mesh):
        lowered = program.lower()
    try:
        analysis = lowered.compile(compiler_options=NEXT_TO_NOTHING).memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        asked = asked_bytes(str(error))
        if asked is None:
            raise
        return asked
    return _memory(analysis).needed


def asked_bytes(message: str) -> int | None:
    """The first figure of a compiler's refusal, which it rounds to hundredths."""
    match = re.search(r"memory required .*?\(([\d.]+)([KMG]?)\) exceeds", message)
    units = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
    return int(float(match[1]) * units[match[2]]) if match else None


def _memory(analysis: Any) -> Memory:
    result = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    code = analysis.generated_code_size_in_bytes
    return Memory(
        arguments=analysis.argument_size_in_bytes,
        temporary=analysis.temp_size_in_bytes,
        needed=analysis.argument_size_in_bytes + analysis.temp_size_in_bytes + result + code,
    )


def _out_of_memory(message: str) -> str | None:
    """The sentence with both figures, if that is what the compiler complains about."""
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    match = re.search(r"memory required .*? exceeds available HBM \([^)]*\)", message)
    return match[0] if match else message.splitlines()[0]
