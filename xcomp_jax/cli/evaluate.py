"""`xcomp evaluate`: asks a model the questions of benchmarks and writes a report."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from xcomp_jax.cli.arguments import (
    GIB,
    MAX_FRAMES,
    STORE_GIB,
    add_model,
    add_store,
    parse_selected,
)
from xcomp_jax.cli.benchmarks import BenchmarkRun, requested_runs, score_runs
from xcomp_jax.cli.checks import check_checkpoint, refuse_without_effect
from xcomp_jax.cli.processes import DISTRIBUTED_HELP, run_distributed
from xcomp_jax.terminal.values import whole_number

if TYPE_CHECKING:
    from xcomp_jax.config import DType
    from xcomp_jax.evaluation.grouping import Shard
    from xcomp_jax.inference.session import Session
    from xcomp_jax.token_store import TokenStore

DESCRIPTION = """Asks a model all questions of one or several benchmarks with the settings of a
published run and scores the answers. The report (RUN/NAME/report.md and report.html) covers all
answers in RUN. A video is decoded and encoded once for all of its questions. After an interruption,
run the command again, with any number of processes: questions with an answer are not asked again. A
video that cannot be read costs its own questions, which count as wrong. docs/guide_benchmarks.md
describes the data folders."""

EXAMPLES = """examples:
  xcomp evaluate --benchmark lvbench --data /data/LVBench --checkpoint checkpoints/xcomp-2b \\
      --out runs/lvbench --store tokens
  xcomp evaluate --benchmark mlvu,videomme --data /data --checkpoint checkpoints/xcomp-2b \\
      --out runs/both --shard 0/4                             # and 1/4, 2/4, 3/4 elsewhere
  xcomp evaluate --benchmark niah_single --checkpoint checkpoints/xcomp-2b \\
      --out runs/niah --store tokens                          # no films or photos needed
  srun xcomp evaluate --distributed --benchmark mlvu --data /data/MLVU \\
      --checkpoint checkpoints/xcomp-2b --out runs/mlvu
  xcomp evaluate --score-only runs/lvbench

Exit codes: 0 report written, 2 wrong options, data or checkpoint, or nothing was generated.
"""

NOT_FOR_SCORING = (
    *("out", "checkpoint", "revision", "dtype", "mesh", "store", "store_gib"),
    *("protocol", "frames", "select", "repeats", "limit", "ids", "shard"),
)
"""Options that have no effect with --score-only."""

NEEDLES = ("niah_single", "niah_multi")
"""Benchmarks whose data is generated if `--data` is left out."""

JOIN_TIMEOUT_SECONDS = 7 * 24 * 3600
"""Time that a finished process waits for the others; videos differ in length."""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the sub-command."""
    parser = commands.add_parser(
        "evaluate",
        help="run benchmarks",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--benchmark", metavar="NAME[,NAME]", help="benchmarks, such as lvbench or videomme"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data folder of the benchmark; of several benchmarks, the folder with one per NAME "
        "(default for niah_single and niah_multi: a generated haystack in RUN)",
    )
    parser.add_argument("--out", type=Path, metavar="RUN", help="folder for rows and reports")
    parser.add_argument(
        "--score-only",
        type=Path,
        metavar="RUN",
        help="score the rows of an earlier run again, without a model (--data and --benchmark "
        "default to the run's)",
    )
    _add_settings(parser)
    _add_questions(parser)
    add_model(parser, demo=False)
    add_store(parser, default=None)
    parser.set_defaults(run=run)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("protocol")
    group.add_argument(
        "--protocol",
        metavar="published|vcf|FILE",
        help="settings of XComp's paper, of VideoChat-Flash, or of a Python file "
        "(default: published)",
    )
    group.add_argument(
        "--frames",
        type=whole_number(1, MAX_FRAMES),
        metavar="N",
        help="maximum number of sampled frames (default: the protocol's)",
    )
    group.add_argument(
        "--select",
        type=parse_selected,
        metavar="K",
        help="number of frames to select, whatever the video's length; 'all' uses every frame "
        "(default: the protocol's)",
    )
    group.add_argument(
        "--repeats",
        type=whole_number(1, 1024),
        metavar="R",
        help="rounds of scoring windows, each shifted (default: the protocol's)",
    )


def _add_questions(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("questions and processes")
    group.add_argument(
        "--limit",
        type=whole_number(1, 1 << 30),
        metavar="N",
        help="ask only the first N questions of each benchmark (default: all)",
    )
    group.add_argument(
        "--ids", nargs="+", metavar="ID", help="ask only the questions with these ids"
    )
    group.add_argument(
        "--shard",
        metavar="I/N",
        help="answer part I of N of the videos, I from 0 to N - 1 (default: 0/1)",
    )
    group.add_argument("--distributed", action="store_true", help=DISTRIBUTED_HELP)
    group.add_argument(
        "--batch-size",
        type=whole_number(1, 4096),
        default=1,
        metavar="N",
        help="questions per batch; above 1 pays with frame selection on large devices (default: 1)",
    )


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    if options.score_only is not None:
        reason = "with --score-only, which asks no question"
        refuse_without_effect(options, NOT_FOR_SCORING, reason)
        return score_runs(options)
    if options.benchmark in NEEDLES and options.data is None and options.out is not None:
        options.data = _generated_haystack(options.out.expanduser())
    for name in ("benchmark", "data", "checkpoint", "out"):
        if getattr(options, name) is None:
            raise ValueError(f"--{name} is missing; see xcomp evaluate --help")
    if options.store is None:
        refuse_without_effect(options, ["store_gib"], "without --store DIR")
    if options.distributed:
        reason = "with --distributed, which reads the processes from the cluster"
        refuse_without_effect(options, ["shard"], reason)
    check_checkpoint(options)
    if options.distributed:
        return run_distributed("xcomp evaluate", _join, lambda: _evaluate_shared(options))
    return _evaluate(options, _shard(options))


def _generated_haystack(out: Path) -> Path:
    """Returns a folder with a generated haystack, needles and questions; writes it once."""
    from xcomp_jax.evaluation.synthetic_niah import write_synthetic_niah
    from xcomp_jax.token_store.locks import EXCLUSIVE, locked

    folder = out / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", EXCLUSIVE):
        if not (folder / "complete").exists():
            print(f"generating a haystack and needles in {folder}", file=sys.stderr)
            write_synthetic_niah(folder)
            (folder / "complete").touch()
    return folder


def _shard(options: argparse.Namespace) -> Shard:
    from xcomp_jax.evaluation.grouping import Shard

    try:
        return Shard.parse(options.shard or "0/1")
    except ValueError as error:
        raise ValueError(f"--shard {error}") from None


def _join() -> None:
    from xcomp_jax.processes import connect

    connect(shutdown_seconds=JOIN_TIMEOUT_SECONDS)


def _evaluate_shared(options: argparse.Namespace) -> int:
    import jax

    from xcomp_jax.evaluation.grouping import Shard

    return _evaluate(options, Shard(jax.process_index(), jax.process_count()))


def _evaluate(options: argparse.Namespace, shard: Shard) -> int:
    from xcomp_jax.evaluation.prepare_session import checkpoint_hash
    from xcomp_jax.token_store import TokenStore

    runs = requested_runs(options)
    store = None
    if options.store is not None:
        max_bytes = int((options.store_gib or STORE_GIB) * GIB)
        store = TokenStore(options.store.expanduser(), max_bytes=max_bytes)
    loaded: dict[DType | None, tuple[Session, str]] = {}
    for run in runs:
        dtype = run.dtype(options)
        if dtype not in loaded:  # one model is in memory at a time
            session = _load(options, dtype)
            loaded = {dtype: (session, checkpoint_hash(session))}
        _evaluate_benchmark(options, run, shard, *loaded[dtype], store)
    return 0


def _load(options: argparse.Namespace, dtype: DType | None) -> Session:
    import jax

    from xcomp_jax.engine.compilation import use_compilation_cache
    from xcomp_jax.engine.compile_progress import show_compilations
    from xcomp_jax.pretrained import from_pretrained
    from xcomp_jax.sharding import make_mesh

    use_compilation_cache(options.cache_dir.expanduser())
    show_compilations()
    return from_pretrained(
        options.checkpoint,
        revision=options.revision,
        dtype=dtype,
        selection=None,
        mesh=None if options.mesh is None else make_mesh(options.mesh, jax.local_devices()),
    )


def _evaluate_benchmark(
    options: argparse.Namespace,
    run: BenchmarkRun,
    shard: Shard,
    loaded: Session,
    model_hash: str,
    store: TokenStore | None,
) -> None:
    import jax

    from xcomp_jax.evaluation.grouping import group_by_video
    from xcomp_jax.evaluation.prepare_session import protocol_session
    from xcomp_jax.evaluation.run_benchmark import run_benchmark
    from xcomp_jax.evaluation.run_folder import RunRecord, open_run
    from xcomp_jax.evaluation.runner import Evaluation
    from xcomp_jax.token_store.hash_table import HashTable
    from xcomp_jax.training.code_version import code_version

    session, protocol = protocol_session(loaded, run.protocol, store)
    version = code_version()
    record = RunRecord(
        benchmark=run.name,
        data=str(run.data.resolve()),
        checkpoint=str(options.checkpoint),
        checkpoint_hash=model_hash,
        protocol=protocol,
        command=shlex.join(["xcomp", *sys.argv[1:]]),
        version=f"{version['xcomp_jax']} {version.get('commit', '')[:12]}".strip(),
        devices=f"{jax.device_count()} {jax.devices()[0].device_kind}",
    )
    folder = options.out.expanduser() / run.name
    open_run(folder, record)
    groups = shard.of(group_by_video(run.questions))
    on_video = None
    if groups and not run.questions[0].needles:
        on_video = run.forecast(session, groups)
    evaluation = Evaluation(
        task=run.task,
        questions=run.questions,
        data=run.data,
        protocol=protocol,
        session=session,
        checkpoint=record.checkpoint,
        checkpoint_hash=model_hash,
        folder=folder,
        hash_video=(HashTable(folder / "hashes") if store is None else store).hash_video,
        batch_size=options.batch_size,
    )
    run_benchmark(evaluation, shard, on_video=on_video)
    run.report(folder, record, complete=shard.count == 1)
