"""Run the comparison of compression schedules from the command line."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xcomp_jax.terminal.progress import ProgressBar

if TYPE_CHECKING:
    from xcomp_jax.training.stopping import StopRequest

DESCRIPTION = """Compares compression schedules on generated videos with a tiny model, in twenty
minutes on two CPU cores. At equal mean tokens per frame the paper reports that learned progressive
compression is better than learned step-wise, which is better than training-free, and that keeping
suffixes is better than keeping evenly spread tokens.

For each seed a base is trained without compression. It then answers with compression merely
switched on, and is tuned under each condition from the same parameters, on the same batches, with
the same steps and learning rates. The seed decides the videos, initial parameters and order.

The report gives a verdict on each claim, whether it holds or not. The setup was fixed on seed 0,
which is not part of the comparison, before any learned condition was run: the base answered 85 %
correctly (chance is 25 %), and 81 % with progressive compression switched on. An earlier model of
8 layers was rejected because compression cost it almost nothing (89 %, and 87 to 89 % with it)."""

EXAMPLES = """examples:
  python -m xcomp_jax.launch.studies.schedules                # everything, into runs/schedules
  python -m xcomp_jax.launch.studies.schedules --seeds 1 2    # fewer seeds, wider intervals
  python -m xcomp_jax.launch.studies.schedules --out runs/try --seeds 1 2 \\
      --set stages.0.num_steps=20 --set stages.1.num_steps=10

An interrupted study resumes with the same command, which runs only missing conditions. Results:
report.md, plot.png and summary.json in --out, and seed<N>/<condition>/result.json.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the missing conditions and prints the report; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if len(set(options.seeds)) < max(2, len(options.seeds)):
        parser.error(
            f"--seeds {' '.join(map(str, options.seeds))}: an interval needs at least two seeds, "
            "each listed once"
        )
    # Heavy imports wait until here, so that --help is fast.
    from xcomp_jax.training.stopping import Stopped, stopping_on_sigterm
    from xcomp_jax.training.supervise import EXIT_CONTINUE

    try:
        with stopping_on_sigterm() as stop:
            print(_compare(options, stop))
    except Stopped as stopped:
        print(f"schedules: {stopped}", file=sys.stderr)
        return EXIT_CONTINUE
    except ValueError as error:
        print(f"schedules: {error}", file=sys.stderr)
        return 2
    return 0


def _compare(options: argparse.Namespace, stop: StopRequest) -> str:
    """Runs the missing conditions of all seeds and returns the report."""
    from xcomp_jax.engine.compilation import use_compilation_cache
    from xcomp_jax.experiment import load_experiment
    from xcomp_jax.launch.studies.schedules.conditions import CONDITIONS, common_mean
    from xcomp_jax.launch.studies.schedules.report import Comparison, markdown, write_report
    from xcomp_jax.launch.studies.schedules.run import Result, results_of_seed
    from xcomp_jax.training.observe import Observation
    from xcomp_jax.training.workdir import Clock

    use_compilation_cache(options.cache_dir.expanduser())
    recipe = load_experiment(options.config, options.set)
    mean = common_mean(recipe.model, CONDITIONS)
    print(f"each compressed condition: {mean:g} tokens per frame on average over the layers")
    options.out.mkdir(parents=True, exist_ok=True)
    clock = Clock(options.out / "elapsed.json")
    results: dict[str, list[Result]] = {condition.name: [] for condition in CONDITIONS}
    with ProgressBar(total=len(options.seeds) * len(CONDITIONS), desc="conditions") as bar:
        for seed in options.seeds:
            seed_results = results_of_seed(
                dataclasses.replace(recipe, seed=seed),
                options.out / f"seed{seed}",
                CONDITIONS,
                observation=Observation(progress=not options.quiet),
                stop=stop,
            )
            for condition, result in zip(CONDITIONS, seed_results, strict=True):
                results[condition.name].append(result)
                clock.save()
                bar.update()
    comparison = Comparison(
        model=recipe.model, seeds=tuple(options.seeds), results=results, seconds=clock.save()
    )
    write_report(comparison, options.out)
    return markdown(comparison)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m xcomp_jax.launch.studies.schedules",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[1, 2, 3, 4, 5],
        metavar="N",
        help="at least two seeds (default: 1 2 3 4 5)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("schedules_in_small"),
        metavar="FILE",
        help="experiment file, or its bare name (default: %(default)s)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override one field of the experiment; may be repeated",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/schedules"),
        metavar="DIR",
        help="folder of the results (default: %(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="only one progress bar")
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=Path("~/.cache/xcomp-jax/compiled"),
        metavar="DIR",
        help="folder of compiled programs (default: %(default)s)",
    )
    return parser
