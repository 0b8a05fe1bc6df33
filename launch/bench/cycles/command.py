"""Runs `xcomp bench cycles`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from xcomp_jax.launch.bench.cycles.names import PROGRAMS

if TYPE_CHECKING:
    from xcomp_jax.launch.bench.cycles.estimate import Estimate
    from xcomp_jax.launch.bench.cycles.program import Program


def run(options: argparse.Namespace) -> int:
    """Prints the tables of one machine; returns 1 if a share fell below the stored one."""
    from xcomp_jax.launch.preflight.environment import ENVIRONMENT

    os.environ.update(ENVIRONMENT)  # before JAX looks for devices
    from xcomp_jax.launch.bench.cycles import stored, tables
    from xcomp_jax.launch.preflight.machines import MACHINES, missing

    if command := missing(MACHINES[options.machine]):
        raise ValueError(f"compiling for {options.machine} needs: {command}")
    if options.programs and options.write:
        raise ValueError("--write replaces the tables of all programs; leave out --programs")
    # Read first, since a missing table would be found after minutes of compiling.
    shares = stored.stored_shares(options.check, options.machine) if options.check else {}
    estimates = estimated(options.machine, options.programs or PROGRAMS)
    print(f"{tables.NOTE}\n\n{tables.sections(estimates)}")
    for estimate in estimates if options.operations else ():
        print(f"\n{estimate.program.name}\n\n{tables.largest(estimate, options.operations)}")
    if options.write is not None:
        stored.store(options.write, options.machine, estimates)
    messages = stored.fallen(estimates, shares)
    for message in messages:
        print(f"xcomp bench cycles: {message}", file=sys.stderr)
    return 1 if messages else 0


def estimated(machine: str, names: Sequence[str]) -> list[Estimate]:
    """Compiles the programs one after another, with a progress line for each."""
    from xcomp_jax.launch.bench.cycles.estimate import estimate
    from xcomp_jax.launch.preflight.machines import described

    estimates = []
    with described(machine) as mesh:
        for number, name in enumerate(names, start=1):
            print(
                f"compiling {name} for {machine} ({number} of {len(names)})",
                file=sys.stderr,
                flush=True,
            )
            estimates.append(estimate(_builder(name)(), machine, mesh))
    return estimates


def _builder(name: str) -> Callable[[], Program]:
    from xcomp_jax.launch.bench.cycles import decoder, encoder

    return {
        "encoder-block": encoder.encoder_block,
        "patch-embedding": encoder.patch_embedding,
        "token-merging": encoder.token_merging,
        "decoder-layer": decoder.decoder_layer,
        "trained-layer": decoder.trained_layer,
        "scored-layer": decoder.scored_layer,
    }[name]
