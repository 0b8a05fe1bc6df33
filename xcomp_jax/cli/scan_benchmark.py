"""`xcomp scan --benchmark`: checks the data folder of a benchmark."""

from __future__ import annotations

import argparse

from xcomp_jax.cli.checks import refuse_without_effect


def scan_benchmark(options: argparse.Namespace) -> int:
    """Prints the question set and the state of every video; returns 1 if a question would fail."""
    from xcomp_jax.evaluation.check import check_folder
    from xcomp_jax.evaluation.protocol import load_protocol
    from xcomp_jax.evaluation.tasks import task_named

    names = ("config", "root", "out", "max_bad")
    refuse_without_effect(options, names, "with --benchmark, which reads no mixture")
    if options.set:
        raise ValueError("--set has no effect with --benchmark, which reads no mixture")
    name = options.benchmark
    task = task_named(name.removesuffix("_subtitles"))
    report = check_folder(
        task,
        options.mixture.expanduser(),
        load_protocol(name, options.protocol or "published"),
        workers=options.workers,
        progress=not options.quiet,
    )
    print(report.text)
    return 0 if report.usable else 1
