"""`xcomp tune`: run a training experiment, or what is left of it."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from xcomp_jax.cli.arguments import add_cache_dir
from xcomp_jax.cli.processes import DISTRIBUTED, work_together

if TYPE_CHECKING:
    from xcomp_jax.training.stopping import StopRequest

DESCRIPTION = """Runs the experiment of a configuration file in a folder of its own: data, training
stages, evaluation before and after, report. Started again with the same arguments after any
interruption, it continues where it stopped and ends with the same parameters."""

EXAMPLES = """examples:
  xcomp tune --config configs/smoke.py --workdir runs/smoke
  xcomp tune --config configs/smoke.py --workdir runs/short --set stages.0.num_steps=100
  xcomp tune --config configs/xcomp_2b.py --workdir /shared/run --distributed
  xcomp tune --config configs/smoke.py --workdir runs/two --coordinator localhost:9911 \\
      --num-processes 2 --process-id 0        # and the same with --process-id 1
  xcomp tune --workdir runs/smoke --export checkpoints/so-far

in the folder: report.md, plot.png, summary.json, metrics.jsonl, config.json, stages/ (Orbax),
checkpoint/ (for xcomp ask --checkpoint)

exit codes: 0 finished; 2 something to mend, see the message; 74 another process of the run was
lost, or had something to mend; 75 ended by SIGTERM, the state is saved. After 74 and 75 the same
command continues the run
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
    parser.add_argument("--config", type=Path, help="a file such as configs/smoke.py")
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
    parser.add_argument(
        "--export",
        type=Path,
        metavar="DIR",
        help="train nothing: write the parameters of the newest checkpoint to DIR, for xcomp ask",
    )
    add_cache_dir(parser)
    _add_processes(parser)
    _add_observation(parser)
    parser.set_defaults(run=run)


def _add_processes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "several processes",
        "Each process runs the same command on a workdir that all of them share; process 0 makes "
        "the data and writes the files.",
    )
    group.add_argument(
        "--distributed",
        action="store_true",
        help=DISTRIBUTED,
    )
    group.add_argument(
        "--coordinator", metavar="HOST:PORT", help="where process 0 can be reached, a free port"
    )
    group.add_argument("--num-processes", type=int, metavar="N")
    group.add_argument("--process-id", type=int, metavar="I", help="from 0 to N - 1")


def _add_observation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("watching it", "metrics.jsonl is written always.")
    group.add_argument(
        "--tensorboard", action="store_true", help="event files in tensorboard/ of the workdir"
    )
    group.add_argument("--wandb", metavar="PROJECT", help="log to this project of wandb")
    group.add_argument(
        "--profile",
        metavar="STEP:COUNT",
        help="trace COUNT steps from STEP on of each stage with JAX's profiler, into profile/",
    )


def run(options: argparse.Namespace) -> int:
    """Runs the command; prints the summary as JSON."""
    given = (options.coordinator, options.num_processes, options.process_id)
    if not options.distributed and given == (None, None, None):
        return _work(options)

    def join() -> None:
        from xcomp_jax.processes import connect

        connect(*given)

    return work_together("xcomp tune", join, lambda: _work(options))


def _work(options: argparse.Namespace) -> int:
    # Heavy imports wait until here, so that --help answers at once.
    from xcomp_jax.config import ConfigError
    from xcomp_jax.engine.compilation import use_compilation_cache
    from xcomp_jax.experiment import load_experiment
    from xcomp_jax.processes import is_first
    from xcomp_jax.training.observe import Observation, Profile
    from xcomp_jax.training.stopping import Stopped
    from xcomp_jax.training.supervise import EXIT_CONTINUE
    from xcomp_jax.training.tune import tune

    use_compilation_cache(options.cache_dir.expanduser())
    if options.export is not None:
        if options.config is not None or options.set:
            raise ConfigError(
                "--export writes what --workdir holds, as the configuration there says: leave out "
                "--config and --set"
            )
        return _export(options)
    if options.config is None:
        raise ConfigError("--config FILE says what to train, such as --config configs/smoke.py")
    config = load_experiment(options.config, options.set)
    observation = Observation(
        progress=not options.quiet,
        tensorboard=options.tensorboard,
        wandb=options.wandb,
        profile=None if options.profile is None else Profile.parse(options.profile),
    )
    try:
        with _stop_request() as stop:
            summary = tune(config, options.workdir, observation=observation, stop=stop)
    except Stopped as stopped:
        if is_first():
            print(f"xcomp tune: {stopped}", file=sys.stderr)
        return EXIT_CONTINUE
    if is_first():
        print(json.dumps(summary, indent=2))
        print(f"report: {options.workdir / 'report.md'}   plot: {options.workdir / 'plot.png'}")
    return 0


def _stop_request() -> contextlib.AbstractContextManager[StopRequest]:
    import jax

    from xcomp_jax.training.stopping import StopRequest, stopping_on_sigterm

    # Of several processes JAX itself hears the signal and tells all of them.
    return (
        contextlib.nullcontext(StopRequest()) if jax.process_count() > 1 else stopping_on_sigterm()
    )


def _export(options: argparse.Namespace) -> int:
    from xcomp_jax.training.export import export_newest

    stage = export_newest(options.workdir, options.export)
    print(f"{options.export}: newest parameters of stage {stage.name!r}")
    return 0
