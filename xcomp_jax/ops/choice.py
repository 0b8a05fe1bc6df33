"""The one rule by which an operation picks its implementation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

# None when an implementation takes the inputs, else the reason why it does not.
Refusal = Callable[[], str | None]


def choose(
    operation: str,
    named: str | None,
    refusals: Mapping[str, Refusal],
    preferred: Sequence[str],
) -> str:
    """Name of the implementation to run.

    Args:
        named: what the caller asked for; None takes the first of `preferred` that accepts.
        refusals: every implementation there is.

    Raises:
        ValueError: the named one is unknown or refuses, or all preferred ones refuse. A named one
            is never replaced by another.
    """
    if named is not None:
        if named not in refusals:
            raise ValueError(f"{operation}: {named!r} not found; known: {sorted(refusals)}")
        reason = refusals[named]()
        if reason is not None:
            raise ValueError(f"{operation}: implementation {named!r} refuses: {reason}")
        return named
    reasons = []
    for name in preferred:
        reason = refusals[name]()
        if reason is None:
            return name
        reasons.append(f"{name}: {reason}")
    raise ValueError(f"{operation}: no implementation accepts the inputs: {'; '.join(reasons)}")


def wrong_platform(wanted: str, platform: str) -> str | None:
    """Why a kernel for `wanted` cannot run on `platform`, or None."""
    if wanted == platform:
        return None
    return (
        f"it runs on {wanted}, and the program is compiled for {platform}; to compile for a "
        "machine that is not there, trace under jax.set_mesh(mesh of its devices)"
    )
