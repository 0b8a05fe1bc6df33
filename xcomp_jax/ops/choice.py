"""Selection of the implementation of an operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

# None when an implementation supports the inputs, else the reason why it does not.
Refusal = Callable[[], str | None]


def choose(
    operation: str,
    named: str | None,
    refusals: Mapping[str, Refusal],
    preferred: Sequence[str],
) -> str:
    """Selects the implementation to run.

    Args:
        named: the implementation that the caller requires; None selects the first of `preferred`
            that supports the inputs.
        refusals: all implementations.

    Raises:
        ValueError: the named implementation is unknown or refuses, or all preferred ones refuse. A
            named implementation is never replaced by another.
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


def wrong_platform(kernel_platform: str, platform: str) -> str | None:
    """Returns why a kernel for `kernel_platform` cannot run on `platform`, or None."""
    if kernel_platform == platform:
        return None
    return (
        f"it runs on {kernel_platform}, but the program is compiled for {platform}; to compile for "
        "other devices, trace under jax.set_mesh(mesh of those devices)"
    )
