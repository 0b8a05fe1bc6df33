"""`xcomp compare`: compares two runs of `xcomp evaluate` question by question."""

from __future__ import annotations

import argparse
from pathlib import Path

from xcomp_jax.cli.benchmarks import benchmark_names, chosen_folder, data_folder

DESCRIPTION = """Compares two runs of xcomp evaluate on the questions that both have answered:
difference of the scores (second minus first) with an interval by paired bootstrap over videos, and
McNemar's test."""

EXAMPLES = """examples:
  xcomp compare runs/lvbench runs/lvbench-select-512
  xcomp compare runs/a runs/b --benchmark mlvu --scoring reference
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = commands.add_parser(
        "compare",
        help="compare two runs of benchmarks",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("first", type=Path, metavar="RUN", help="--out folder of a run")
    parser.add_argument("second", type=Path, metavar="RUN", help="--out folder of another run")
    parser.add_argument(
        "--benchmark",
        metavar="NAME[,NAME]",
        help="benchmarks to compare (default: all that both runs have)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data folder of the benchmark; of several benchmarks, the folder with one per NAME "
        "(default: that of the first run)",
    )
    parser.add_argument(
        "--scoring",
        choices=("strict", "reference", "lmms_eval"),
        default="strict",
        help="scoring rule (default: strict, which counts every question)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    from xcomp_jax.evaluation.comparison import compare_runs
    from xcomp_jax.evaluation.run_folder import (
        benchmark_folders,
        latest_rows,
        read_record,
        rows_of,
    )
    from xcomp_jax.evaluation.tasks import task_named

    first, second = (
        benchmark_folders(path.expanduser()) for path in (options.first, options.second)
    )
    names = [name for name in first if name in second]
    if options.benchmark is not None:
        names = benchmark_names(options.benchmark)
    if not names:
        raise ValueError(
            f"{options.first} and {options.second} have no benchmark in common; they have "
            f"{', '.join(first)} and {', '.join(second)}"
        )
    for name in names:
        folders = (
            chosen_folder(first, name, options.first),
            chosen_folder(second, name, options.second),
        )
        task = task_named(name.removesuffix("_subtitles"))
        data = Path(read_record(folders[0]).data)
        if options.data is not None:
            data = data_folder(options.data, task, names)
        rows = [latest_rows(rows_of(folder).values()) for folder in folders]
        comparison = compare_runs(task, task.load(data), rows[0], rows[1], options.scoring)
        print(f"{name}: {comparison.text}")
    return 0
