"""Format estimates for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from xcomp_jax.launch.preflight.collectives import by
from xcomp_jax.launch.preflight.estimate import LARGEST, Estimate
from xcomp_jax.launch.preflight.machines import GIB


def text(program: Estimate, advice: Sequence[str] = ()) -> str:
    """Returns a few lines about one program on one pod."""
    recomputed = f" + {program.recomputed / 1e12:,.1f} recomputed" if program.recomputed else ""
    verdict = "fits" if program.fits else "does NOT fit"
    lines = [
        program.program,
        *_memory(program),
        f"  work      {program.flops / 1e12:,.1f} TFLOP{recomputed}, over all devices",
        *_traffic(program),
        f"  bound     at least {program.floor_s:.3f} s: arithmetic {program.compute_s:.3f}, memory "
        f"{program.memory_s:.3f}, links {program.links_s:.3f}",
        f"  verdict   {verdict} ({program.spare:.0%} of the memory must stay free)",
        *(f"            try {line}" for line in advice),
    ]
    return "\n".join(lines)


def _memory(program: Estimate) -> list[str]:
    memory = program.memory
    if memory is None:
        lines = [f"  memory    refused by the compiler: {program.refusal}"]
    else:
        lines = [
            f"  memory    {memory.needed / GIB:.2f} of {program.capacity_bytes / GIB:.2f} GiB per "
            f"device: {memory.arguments / GIB:.2f} state and batch, "
            f"{memory.temporary / GIB:.2f} temporary"
        ]
    if program.least_bytes is not None:
        lines.append(
            f"            the compiler can plan with {program.least_bytes / GIB:.2f}; it uses more "
            "if the device has more"
        )
    return lines


def _traffic(program: Estimate) -> list[str]:
    if program.unread is not None:
        return [
            "  traffic   unknown and not part of the bound: this jaxlib cannot parse the compiled "
            "program; install the libtpu or plugin that this JAX version requires "
            f"({program.unread})"
        ]
    kinds = by("kind", program.sent)
    summary = ", ".join(f"{kind} {n / 1e9:.2f}" for kind, n in kinds.items())
    total = f"  traffic   {sum(kinds.values()) / 1e9:.2f} GB sent per device"
    sources = list(by("source", program.sent).items())[:LARGEST]
    return [
        total + (f": {summary}" if summary else ""),
        *(f"            {n / 1e9:>8.2f} GB  {source}" for source, n in sources),
    ]
