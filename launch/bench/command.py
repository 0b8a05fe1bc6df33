"""Run the benches of `xcomp bench`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from xcomp_jax.launch.bench.arguments import DESCRIPTION, EXAMPLES, add_benches
from xcomp_jax.launch.bench.device_arguments import RESULTS
from xcomp_jax.terminal.standalone import run_standalone


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds every bench as a sub-command that `run` executes."""
    add_benches(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs one bench and prints its tables; returns the exit code."""
    # Each bench imports what it needs, so that --help is fast and kernels need few packages.
    match options.bench:
        case "kernels" | "gpu" | "blocks":
            return _run_on_device(options)
        case "fit":
            return _run_fit(options)
        case "cycles":
            from xcomp_jax.launch.bench.cycles import command as cycles

            return cycles.run(options)
        case "encoder-cpu":
            from xcomp_jax.launch.bench import encoder_cpu

            return encoder_cpu.run(options)
        case "selection-speed":
            from xcomp_jax.launch.bench import selection_speed

            return selection_speed.run(options)
        case "selection-costs":
            from xcomp_jax.launch.bench import selection_costs

            return selection_costs.run(options)
        case "ask":
            from xcomp_jax.launch.bench import ask

            return ask.run(options)
        case "serve":
            from xcomp_jax.launch.bench import serve

            return serve.run(options)
        case "pipeline":
            from xcomp_jax.launch.bench import pipeline

            return pipeline.run(options)
        case "frame-rates":
            from xcomp_jax.launch.bench import frame_rates

            return frame_rates.run(options)
        case "training-overhead":
            from xcomp_jax.launch.bench import training_overhead

            return training_overhead.run(options)
        case "video":
            from xcomp_jax.launch.bench import video

            return video.run(options)
        case "paper":
            from xcomp_jax.launch.bench.paper import command

            return command.run(options)
        case "convert-roundtrip":
            return _run_convert_roundtrip(options)
    raise ValueError(f"bench {options.bench!r} not found")


def _run_on_device(options: argparse.Namespace) -> int:
    if options.bench == "blocks" and options.write and options.tiny:
        raise ValueError("--write needs sizes of real shapes; leave out --tiny")
    from xcomp_jax.launch.bench import accelerator, blocks, kernels, results
    from xcomp_jax.launch.bench.deadline import Deadline

    deadline = Deadline(options.minutes)
    parts: Iterable[tuple[str, list[dict[str, Any]]]]
    match options.bench:
        case "kernels":
            parts = [("Kernels", list(kernels.measure(tiny=options.tiny, deadline=deadline)))]
        case "gpu":
            parts = accelerator.measure(tiny=options.tiny, deadline=deadline)
        case _:
            parts = [("Block sizes", list(blocks.measure(deadline, tiny=options.tiny)))]
    sections = {}
    for title, rows in parts:
        sections[title] = rows
        print(f"\n{title}\n\n{results.table(rows)}", flush=True)
    if options.bench == "blocks" and options.write:
        blocks.add_to_table(sections["Block sizes"])
    if not options.tiny or options.out is not None:
        path = results.write(options.bench, sections, options.out or RESULTS)
        print(f"\nwritten: {path}")
    return 0


def _run_fit(options: argparse.Namespace) -> int:
    from xcomp_jax.launch.preflight.environment import ENVIRONMENT

    os.environ.update(ENVIRONMENT)  # before JAX looks for devices
    from xcomp_jax.launch.bench import fit, results
    from xcomp_jax.launch.preflight.machines import MACHINES, missing

    for name in options.machines:
        if command := missing(MACHINES[name]):
            raise ValueError(f"compiling for {name} needs: {command}")
    rows = fit.measure(
        options.machines, tuple(options.frames), tiny=options.tiny, whole=options.whole
    )
    print(results.table(list(rows)))
    return 0


def _run_convert_roundtrip(options: argparse.Namespace) -> int:
    arguments = ["--folder", str(options.folder)]
    for name in ("variant", "dtype"):
        if getattr(options, name) is not None:
            arguments += [f"--{name}", getattr(options, name)]
    # Its own process, because it starts others by spawning, which imports the main module again.
    command = [sys.executable, "-m", "xcomp_jax.launch.bench.convert_roundtrip", *arguments]
    return subprocess.run(command, check=False).returncode


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `xcomp bench` without the other commands; returns the exit code."""
    return run_standalone("xcomp bench", DESCRIPTION, EXAMPLES, add_arguments, arguments)
