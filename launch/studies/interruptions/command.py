"""Runs the study of interruptions from the command line."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from xcomp_jax.launch.studies.interruptions.trial import Completion, Interruption, Runner
    from xcomp_jax.launch.studies.interruptions.workloads import Inputs

    Trial = concurrent.futures.Future[tuple[list[Interruption], list[Completion]]]

COMMANDS = ("tune", "encode", "convert", "ask")
SIGNALS_PER_TRIAL = 5

DESCRIPTION = """Kills xcomp tune, encode, convert and ask at random moments and starts them again
with the same arguments. Half of the moments are drawn uniformly over the duration of an undisturbed
run, half follow a change of the output. Checks that finished work is never lost, that the final
results have the same bits as those of an undisturbed run, that no traceback is printed and no child
process or partial file remains, and that after SIGINT (Ctrl-C) the exit code is 130 with one line.
The model is tiny; the commands run as users start them, each in a process of its own."""

EXAMPLES = """examples:
  python -m xcomp_jax.launch.studies.interruptions                  # 200 kills, 50 interrupts
  python -m xcomp_jax.launch.studies.interruptions --commands ask --kills 10 --interrupts 10

Results: report.md and results.json in --out. Exit code 1 if any check failed.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the study and prints its table; returns 1 if any check failed."""
    options = _parser().parse_args(arguments)
    try:
        return _study(options)
    except ValueError as error:
        print(f"interruptions: {error}", file=sys.stderr)
        return 2


def _study(options: argparse.Namespace) -> int:
    """Runs all trials, `--jobs` at a time, and writes the report after each of them."""
    # Heavy imports wait until here, so that --help is fast.
    from xcomp_jax.launch.studies.interruptions.report import Study, markdown, write_report

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a background job; the commands under study would ignore it too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    options.out.mkdir(parents=True, exist_ok=True)
    study = Study(seed=options.seed)
    with (
        tempfile.TemporaryDirectory(prefix="xcomp-interruptions-") as name,
        concurrent.futures.ThreadPoolExecutor(options.jobs) as pool,
        tqdm(
            total=options.kills + options.interrupts, desc="interruptions", disable=options.quiet
        ) as bar,
    ):
        trials = _started_trials(options, Path(name), pool)
        try:
            for trial in concurrent.futures.as_completed(trials):
                interruptions, completions = trial.result()
                study = study.extended(interruptions, completions)
                write_report(study, options.out)
                bar.update(len(interruptions))
        finally:
            for trial in trials:
                trial.cancel()
    print(markdown(study))
    return 1 if study.problems else 0


def _started_trials(
    options: argparse.Namespace, folder: Path, pool: concurrent.futures.Executor
) -> list[Trial]:
    """Prepares the inputs, runs every command undisturbed and starts all trials."""
    from xcomp_jax.launch.studies.interruptions.trial import Runner
    from xcomp_jax.launch.studies.interruptions.workloads import WORKLOADS

    jax_on_cpu()
    inputs = prepare(folder)
    runners = [Runner(WORKLOADS[name], inputs, folder / "cache") for name in options.commands]
    found = pool.map(lambda runner: runner.reference(folder / runner.workload.name), runners)
    references = dict(zip(options.commands, found, strict=True))
    trials = []
    for number, (runner, signals) in enumerate(_trials(options, runners)):
        name = runner.workload.name
        draw = random.Random(f"{options.seed} {name} {number}")
        trial_folder = folder / f"{name}-{number}"
        trials.append(pool.submit(runner.trial, trial_folder, signals, references[name], draw))
    return trials


def _trials(
    options: argparse.Namespace, runners: Sequence[Runner]
) -> Iterator[tuple[Runner, list[int]]]:
    """Yields the signals of each trial; commands alternate, so that they run side by side."""
    signals: list[int] = [signal.SIGKILL for _ in range(options.kills)]
    signals += [signal.SIGINT for _ in range(options.interrupts)]
    random.Random(options.seed).shuffle(signals)
    shares = [list(signals[part :: len(runners)]) for part in range(len(runners))]
    while any(shares):
        for runner, share in zip(runners, shares, strict=True):
            if share:
                yield runner, share[:SIGNALS_PER_TRIAL]
                del share[:SIGNALS_PER_TRIAL]


def prepare(folder: Path) -> Inputs:
    """Writes the inputs of all commands: an experiment, its run, and a PyTorch checkpoint."""
    from xcomp_jax.launch.studies.interruptions.processes import CommandProcess
    from xcomp_jax.launch.studies.interruptions.workloads import CONFIG, Inputs

    inputs = Inputs(folder / "inputs")
    inputs.folder.mkdir()
    inputs.config.write_text(CONFIG, encoding="utf-8")
    for arguments in (
        ["tune", "--config", str(inputs.config), "--workdir", str(inputs.run), "--quiet"],
        ["convert", "to-torch", str(inputs.checkpoint), str(inputs.torch_checkpoint)],
    ):
        process = CommandProcess.start(arguments, folder / "preparation", folder / "cache")
        if process.wait() != 0:
            raise ValueError(f"xcomp {' '.join(arguments)} fails:\n{process.errors()}")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder / "preparation")
    return inputs


def jax_on_cpu() -> None:
    """Keeps this process, which only compares files, off accelerators."""
    import jax

    jax.config.update("jax_platforms", "cpu")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m xcomp_jax.launch.studies.interruptions",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--kills", type=int, default=200, metavar="N", help="SIGKILLs in total (default: 200)"
    )
    parser.add_argument(
        "--interrupts", type=int, default=50, metavar="N", help="SIGINTs in total (default: 50)"
    )
    parser.add_argument(
        "--commands",
        nargs="+",
        choices=COMMANDS,
        default=list(COMMANDS),
        metavar="COMMAND",
        help="commands to interrupt, in equal parts (default: tune encode convert ask)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the moments (default: 0)"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="commands side by side (default: 2)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/interruptions"),
        metavar="DIR",
        help="folder of the results (default: %(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar (default: a bar)")
    return parser
