"""Names of the programs and machines of `xcomp bench cycles`, readable without JAX."""

from __future__ import annotations

MACHINES = ("v5e", "v5p", "v6e")
PROGRAMS = (
    "encoder-block",
    "patch-embedding",
    "token-merging",
    "decoder-layer",
    "trained-layer",
    "scored-layer",
)
