"""The paper's core claim in small: an experiment of twenty minutes on two CPU cores, not a test.

At equal mean tokens per frame the paper finds learned progressive > learned step-wise >
training-free compression, and keeping suffixes > keeping tokens spread evenly. Here the same is
asked of a toy: for each seed a base is trained without compression, answers with compression merely
switched on, and is tuned in each way from the same parameters, on the same batches, with the same
steps and rates. The seed decides videos, first parameters and order.

What came out is reported, also where a claim does not hold. The setup was fixed before any learned
condition was run in it, on seed 0, which is not part of the comparison: the base had 85 % right
(chance is 25 %), and 81 % with progressive compression switched on. A deeper toy of 8 layers had
been given up before, since there compression cost it next to nothing (89 %, 87 to 89 % with it).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from xcomp_jax.cli.arguments import add_cache_dir

if TYPE_CHECKING:
    from xcomp_jax.training.stopping import StopRequest

RECIPE = Path("configs/schedules_in_small.py")
EXAMPLES = """examples:
  python -m launch.schedules_in_small                     # all of it, into runs/schedules
  python -m launch.schedules_in_small --seeds 1 2         # fewer seeds, wider intervals
  python -m launch.schedules_in_small --out runs/try --seeds 1 2 \\
      --set stages.0.num_steps=20 --set stages.1.num_steps=10

Stop it whenever you like: the same command goes on, and runs only what is missing. It leaves
report.md, plot.png and summary.json in --out, and seed<N>/<condition>/result.json.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is missing and prints the report."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if len(set(options.seeds)) < max(2, len(options.seeds)):
        parser.error(
            f"--seeds {' '.join(map(str, options.seeds))}: an interval needs at least two seeds, "
            "each named once"
        )
    # Heavy imports wait until here, so that --help answers at once.
    from xcomp_jax.training.stopping import Stopped, stopping_on_sigterm
    from xcomp_jax.training.supervise import EXIT_CONTINUE

    try:
        with stopping_on_sigterm() as stop:
            print(_compare(options, stop))
    except Stopped as stopped:
        print(f"schedules_in_small: {stopped}", file=sys.stderr)
        return EXIT_CONTINUE
    except ValueError as error:
        print(f"schedules_in_small: {error}", file=sys.stderr)
        return 2
    return 0


def _compare(options: argparse.Namespace, stop: StopRequest) -> str:
    """The report."""
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
    print(f"every compressed condition: {mean:g} tokens per frame in the mean over the layers")
    options.out.mkdir(parents=True, exist_ok=True)
    clock = Clock(options.out / "elapsed.json")
    results: dict[str, list[Result]] = {condition.name: [] for condition in CONDITIONS}
    with tqdm(total=len(options.seeds) * len(CONDITIONS), desc="conditions") as bar:
        for seed in options.seeds:
            made = results_of_seed(
                dataclasses.replace(recipe, seed=seed),
                options.out / f"seed{seed}",
                CONDITIONS,
                observation=Observation(progress=not options.quiet),
                stop=stop,
            )
            for condition, result in zip(CONDITIONS, made, strict=True):
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
        prog="python -m launch.schedules_in_small",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[1, 2, 3, 4, 5],
        help="at least two (default: 1 to 5)",
    )
    parser.add_argument("--config", type=Path, default=RECIPE, help="recipe (%(default)s)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override one field of the recipe; may be repeated",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/schedules"), help="(%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="one progress bar only")
    add_cache_dir(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
