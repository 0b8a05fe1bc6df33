"""Implements `xcomp tune`, which runs a training experiment or continues an interrupted one."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from pathlib import Path

from xcomp_jax.cli.arguments import add_cache_dir
from xcomp_jax.cli.checks import check_config, check_folder, flag, refuse_without_effect
from xcomp_jax.cli.processes import DISTRIBUTED_HELP, run_distributed
from xcomp_jax.terminal.values import whole_number
from xcomp_jax.training.stopping import Stopped, StopRequest, stopping_on_sigterm
from xcomp_jax.training.supervise import EXIT_CONTINUE

DESCRIPTION = """Runs the experiment of a configuration file: prepares the data, trains all stages,
evaluates before and after the last one, and writes a report. All files go to --workdir. After any
interruption, the same command resumes from the newest checkpoint and ends with the same
parameters."""

EXAMPLES = """examples:
  xcomp tune --config configs/smoke.py --workdir runs/smoke
  xcomp tune --config configs/smoke.py --workdir runs/short --set stages.0.num_steps=100
  xcomp tune --config configs/xcomp_2b.py --workdir /shared/run --distributed
  xcomp tune --config configs/smoke.py --workdir runs/two --coordinator localhost:9911 \\
      --num-processes 2 --process-id 0        # run the same with --process-id 1
  xcomp tune --workdir runs/smoke --export checkpoints/smoke

files in --workdir:
  report.md, plot.png, summary.json   results
  metrics.jsonl, config.json          metrics of every step, resolved configuration
  benchmarks.jsonl, benchmarks/       scores and rows of the benchmarks in the configuration
  stages/                             Orbax checkpoints
  checkpoint/                         final parameters, for xcomp ask --checkpoint

exit codes:
  0   finished
  2   invalid arguments, configuration or files; see the message
  74  another process was lost or failed; fix the cause, then run the same command to continue
  75  stopped by SIGTERM, state saved; run the same command to continue
  130 interrupted (Ctrl-C); run the same command to continue
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the `xcomp` parser."""
    parser = commands.add_parser(
        "tune",
        help="train: base and supervised compression tuning",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="experiment file such as configs/smoke.py, or the bare name of a shipped one such as "
        "smoke; required unless --export is set",
    )
    parser.add_argument(
        "--workdir",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of this run, created if missing",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="override one field of the configuration; VALUE is a number, a word or a Python list "
        "such as \"['projector', 'llm']\"; may be repeated (default: none)",
    )
    parser.add_argument(
        "--quiet",
        action="store_true",
        help="print neither phases nor progress bars (default: print both on stderr)",
    )
    parser.add_argument(
        "--export",
        type=Path,
        metavar="DIR",
        help="do not train; write the parameters of the newest checkpoint to DIR, a new folder, "
        "for xcomp ask",
    )
    add_cache_dir(parser)
    _add_processes(parser)
    _add_observation(parser)
    parser.set_defaults(run=run)


def _add_processes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "several processes",
        "Run the same command in every process, with a --workdir that all of them share. Process 0 "
        "generates the data and writes the files. Default: one process.",
    )
    group.add_argument("--distributed", action="store_true", help=DISTRIBUTED_HELP)
    group.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="address of process 0, with a free port; needs --num-processes and --process-id",
    )
    group.add_argument(
        "--num-processes", type=whole_number(1, 1 << 20), metavar="N", help="number of processes"
    )
    group.add_argument(
        "--process-id",
        type=whole_number(0, 1 << 20),
        metavar="I",
        help="number of this process, 0 to N - 1",
    )


def _profiled_steps(text: str) -> str:
    """Checks STEP:COUNT, which `training.observe.Profile` parses."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}:[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not STEP:COUNT, such as 20:3 for steps 20 to 22"
        )
    return text


def _add_observation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("monitoring", "metrics.jsonl is always written.")
    group.add_argument(
        "--tensorboard",
        action="store_true",
        help="write TensorBoard event files to WORKDIR/tensorboard (default: off)",
    )
    group.add_argument(
        "--wandb", metavar="PROJECT", help="log to this Weights & Biases project (default: off)"
    )
    group.add_argument(
        "--profile",
        type=_profiled_steps,
        metavar="STEP:COUNT",
        help="trace COUNT steps of each stage, from STEP on, with JAX's profiler to "
        "WORKDIR/profile (default: off)",
    )


def run(options: argparse.Namespace) -> int:
    """Runs the command and prints the summary as JSON."""
    _check_options(options)
    processes = (options.coordinator, options.num_processes, options.process_id)
    if not options.distributed and processes == (None, None, None):
        return _run_alone(options)

    def join() -> None:
        from xcomp_jax.processes import connect

        connect(*processes)

    def work() -> int:
        # JAX handles SIGTERM and stops all processes at the same step.
        return _run(options, StopRequest())

    return run_distributed("xcomp tune", join, work)


def _check_options(options: argparse.Namespace) -> None:
    """Checks options and names, before anything slow is imported."""
    if options.export is None:
        if options.config is None:
            raise ValueError("--config FILE is required, such as --config configs/smoke.py")
        check_config(options.config)
    else:
        reason = "with --export, which does not train and uses the configuration in --workdir"
        refuse_without_effect(options, ("config", "set", "wandb", "profile"), reason)
        refuse_without_effect(options, ("tensorboard", "quiet"), reason)
        check_folder(options.workdir, "--workdir ")
        if not (options.workdir / "config.json").is_file():
            raise ValueError(f"--workdir {options.workdir} holds no run: it has no config.json")
    processes = ("coordinator", "num_processes", "process_id")
    unset = [name for name in processes if getattr(options, name) is None]
    if options.distributed:
        refuse_without_effect(options, processes, f"with --distributed: {DISTRIBUTED_HELP}")
    elif unset and len(unset) < len(processes):
        raise ValueError(
            f"{', '.join(map(flag, unset))} missing: {', '.join(map(flag, processes))} belong "
            "together"
        )
    elif not unset and options.process_id >= options.num_processes:
        raise ValueError(
            f"--process-id {options.process_id} is not below --num-processes "
            f"{options.num_processes}; processes are numbered from 0"
        )


def _run_alone(options: argparse.Namespace) -> int:
    try:
        with stopping_on_sigterm() as stop:
            return _run(options, stop)
    except Stopped as stopped:  # before the run began
        print(f"xcomp tune: {stopped}", file=sys.stderr)
        return EXIT_CONTINUE


def _run(options: argparse.Namespace, stop: StopRequest) -> int:
    # Heavy imports are deferred so that --help is fast.
    from xcomp_jax.engine.compilation import use_compilation_cache
    from xcomp_jax.engine.compile_progress import show_compilations

    use_compilation_cache(options.cache_dir.expanduser())
    if not options.quiet:
        show_compilations()
    return _tune(options, stop) if options.export is None else _export(options)


def _tune(options: argparse.Namespace, stop: StopRequest) -> int:
    from xcomp_jax.evaluation.in_training import InTraining
    from xcomp_jax.experiment import load_experiment
    from xcomp_jax.processes import is_first, on_every
    from xcomp_jax.training.observe import Observation, Profile
    from xcomp_jax.training.tune import tune

    config = on_every(lambda: load_experiment(options.config, options.set))
    observation = Observation(
        progress=not options.quiet,
        tensorboard=options.tensorboard,
        wandb=options.wandb,
        profile=None if options.profile is None else Profile.parse(options.profile),
    )
    try:
        summary = tune(
            config,
            options.workdir,
            observation=observation,
            stop=stop,
            benchmark_runner=InTraining(shlex.join(["xcomp", *sys.argv[1:]])),
        )
    except Stopped as stopped:
        if is_first():
            print(f"xcomp tune: {stopped}", file=sys.stderr)
        return EXIT_CONTINUE
    if is_first():
        print(json.dumps(summary, indent=2))
        print(f"report: {options.workdir / 'report.md'}   plot: {options.workdir / 'plot.png'}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from xcomp_jax.training.export import export_newest

    stage = export_newest(options.workdir, options.export)
    print(f"{options.export}: parameters of the newest checkpoint of stage {stage.name!r}")
    return 0
