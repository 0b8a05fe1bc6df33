"""Estimates as text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from xcomp_jax.launch.preflight.collectives import by
from xcomp_jax.launch.preflight.estimate import LARGEST, Estimate
from xcomp_jax.launch.preflight.machines import GIB


def text(made: Estimate, advice: Sequence[str] = ()) -> str:
    """One program on one pod, a few lines."""
    lines = [made.program]
    if made.memory is None:
        lines.append(f"  memory    the compiler refuses: {made.refusal}")
    else:
        lines.append(
            f"  memory    {made.memory.needed / GIB:.2f} of {made.capacity_bytes / GIB:.2f} GiB a "
            f"device: {made.memory.arguments / GIB:.2f} state and batch, "
            f"{made.memory.temporary / GIB:.2f} while it runs"
        )
    if made.least_bytes is not None:
        lines.append(
            f"            pressed for room the compiler plans with {made.least_bytes / GIB:.2f}; "
            "it takes more where there is more"
        )
    recomputed = f" + {made.recomputed / 1e12:,.1f} recomputed" if made.recomputed else ""
    lines.append(f"  work      {made.flops / 1e12:,.1f} TFLOP{recomputed}, all devices together")
    lines += _traffic(made)
    lines.append(
        f"  floor     {made.floor_s:.3f} s: arithmetic {made.compute_s:.3f}, memory "
        f"{made.memory_s:.3f}, links {made.links_s:.3f}"
    )
    verdict = "fits" if made.fits else "does NOT fit"
    lines.append(f"  verdict   {verdict} ({made.spare:.0%} of the memory must stay free)")
    lines += [f"            try {line}" for line in advice]
    return "\n".join(lines)


def _traffic(made: Estimate) -> list[str]:
    if made.unread is not None:
        return [
            "  traffic   unknown, and left out of the floor: this jaxlib cannot read what the "
            f"compiler wrote; take the libtpu or plugin that this JAX asks for ({made.unread})"
        ]
    kinds = by("kind", made.sent)
    summary = ", ".join(f"{kind} {n / 1e9:.2f}" for kind, n in kinds.items())
    first = f"  traffic   {sum(kinds.values()) / 1e9:.2f} GB sent by a device"
    sources = list(by("source", made.sent).items())[:LARGEST]
    return [
        first + (f": {summary}" if summary else ""),
        *(f"            {n / 1e9:>8.2f} GB  {source}" for source, n in sources),
    ]
