"""`xcomp tune`: run a training experiment, or what is left of it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from xcomp_jax.cli.arguments import add_cache_dir

DESCRIPTION = """Runs the experiment of a configuration file in a folder of its own: data, training
stages, evaluation before and after, report. Started again with the same arguments after any
interruption, it continues where it stopped and ends with the same parameters."""

EXAMPLES = """examples:
  xcomp tune --config configs/smoke.py --workdir runs/smoke
  xcomp tune --config configs/smoke.py --workdir runs/short --set stages.0.num_steps=100

in the folder: report.md, plot.png, summary.json, metrics.jsonl, config.json, stages/ (Orbax),
checkpoint/ (for xcomp ask --checkpoint)
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = commands.add_parser(
        "tune",
        help="train: base and supervised compression tuning",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config", type=Path, required=True, help="a file such as configs/smoke.py"
    )
    parser.add_argument(
        "--workdir", type=Path, required=True, help="folder of this run, made if new"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override one field of the configuration; may be repeated",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    add_cache_dir(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the command; prints the summary as JSON."""
    # Heavy imports wait until here, so that --help answers at once.
    from xcomp_jax.experiment import load_experiment
    from xcomp_jax.inference.compilation import use_compilation_cache
    from xcomp_jax.training.tune import tune

    use_compilation_cache(options.cache_dir.expanduser())
    config = load_experiment(options.config, options.set)
    summary = tune(config, options.workdir, progress=not options.quiet)
    print(json.dumps(summary, indent=2))
    print(f"report: {options.workdir / 'report.md'}   plot: {options.workdir / 'plot.png'}")
    return 0
