"""Runs an experiment in a folder: data, stages, evaluation, report. Resumes an interrupted run."""

from __future__ import annotations

import contextlib
import functools
import itertools
from pathlib import Path
from typing import Any

import jax

from xcomp_jax.checkpoint import TUNE, check_free
from xcomp_jax.config import CompressionConfig, ConfigError, ExperimentConfig, on_devices
from xcomp_jax.data.prepared.dataset import PreparedDataset
from xcomp_jax.data.prepared.manifest import load_manifest
from xcomp_jax.data.training_set import TrainingSet
from xcomp_jax.files import read_json
from xcomp_jax.full_disk import FullDiskError, full_disk_as_error
from xcomp_jax.processes import is_first, on_every, on_first, open_on_first, require_equal
from xcomp_jax.sharding import make_mesh
from xcomp_jax.training.benchmarks import LOG as BENCHMARKS
from xcomp_jax.training.benchmarks import BenchmarkRunner, Benchmarks
from xcomp_jax.training.checkpoint import delete_unfinished
from xcomp_jax.training.evaluate import text_only_accuracy
from xcomp_jax.training.export import export
from xcomp_jax.training.held_out import HeldOutEvaluator
from xcomp_jax.training.loop import run_stage
from xcomp_jax.training.metrics import read_metrics
from xcomp_jax.training.observe import Observation
from xcomp_jax.training.report import Accuracy, Outcome, write_report
from xcomp_jax.training.run import Run
from xcomp_jax.training.run_facts import content_hash, row_facts, run_facts
from xcomp_jax.training.run_tokenizer import run_tokenizer
from xcomp_jax.training.sources import check_init_from, initial_params, open_datasets
from xcomp_jax.training.step import check_micro_batches, state_shardings
from xcomp_jax.training.stopping import StopRequest
from xcomp_jax.training.workdir import CONFIG_FILE, Clock, claim_workdir
from xcomp_jax.training.writers import open_writers

# Folder in the workdir for the trained parameters.
EXPORT_FOLDER = "checkpoint"

_CONTINUE = "run the same command again, which continues from the newest checkpoint"


def tune(
    config: ExperimentConfig,
    workdir: Path,
    *,
    observation: Observation | None = None,
    stop: StopRequest | None = None,
    benchmark_runner: BenchmarkRunner | None = None,
) -> dict[str, Any]:
    """Runs the unfinished part of an experiment; every process calls it with a shared folder.

    Writes to `workdir`: config.json, data/, stages/NAME/ (Orbax checkpoints), metrics.jsonl,
    checkpoint/ (parameters, config and tokenizer, for `xcomp ask --checkpoint`), plot.png,
    report.md, summary.json, and evaluation_*.json if questions are held out.

    Args:
        stop: stops the run early once it has received SIGTERM (`stopping_on_sigterm`).
        benchmark_runner: runs `config.benchmarks`; `evaluation.in_training.InTraining`.

    Returns:
        The content of summary.json.

    Raises:
        ValueError: a file in `workdir` is damaged; the message gives its name and the remedy.
        ConfigError: `workdir` belongs to another configuration or is in use by another process, the
            configuration does not fit the devices, or the processes of the run differ in code,
            configuration or files.
        FullDiskError: the disk of `workdir` is full.
        NonFiniteLossError, Stopped: see `run_stage`.
    """
    try:
        with full_disk_as_error(workdir, remedy=_CONTINUE):
            request = stop or StopRequest()
            return _tune(config, workdir, observation or Observation(), request, benchmark_runner)
    except FullDiskError:
        if is_first():
            delete_unfinished(workdir / "stages")
        raise


def _tune(
    config: ExperimentConfig,
    workdir: Path,
    observation: Observation,
    stop: StopRequest,
    benchmark_runner: BenchmarkRunner | None,
) -> dict[str, Any]:
    if jax.process_count() > 1:
        require_equal(on_every(lambda: run_facts(config)))
    summary = workdir / "summary.json"
    if not summary.exists():
        _check(config, workdir)
        on_every(lambda: _check_benchmarks(config, benchmark_runner))
    with contextlib.ExitStack() as stack:
        on_first(lambda: stack.enter_context(claim_workdir(workdir, config)))
        # A folder that is not shared has no configuration, or that of another run.
        require_equal({f"config.json in --workdir {workdir}": content_hash(workdir / CONFIG_FILE)})
        stored = on_first(lambda: read_json(summary) if summary.exists() else None)
        if stored is not None:
            observation.announce(f"{workdir}: the run is finished, nothing to do")
            return stored
        resolved = on_devices(config, jax.device_count())
        writers = open_on_first(lambda: open_writers(observation, resolved, workdir)) or ()
        for writer in writers:
            stack.callback(writer.close)
        mesh = make_mesh(resolved.mesh)
        run = Run(
            config=resolved,
            workdir=workdir,
            mesh=mesh,
            observation=observation,
            stop=stop,
            writers=writers,
        )
        # Attention kernels read the current mesh to split their work over the devices.
        with jax.set_mesh(mesh):
            _run(run, benchmark_runner)
        return on_first(lambda: read_json(summary))


def _check(config: ExperimentConfig, workdir: Path) -> None:
    """Raises errors that would otherwise appear hours later, before the folder is created."""
    resolved = on_devices(config, jax.device_count())
    mesh = make_mesh(resolved.mesh)
    for stage in resolved.stages:
        check_micro_batches(stage, mesh)
        state_shardings(resolved.stage_model(stage), stage, mesh)
    check_init_from(config)
    run_tokenizer(config)
    check_free(workdir / EXPORT_FOLDER, TUNE, overwrite=True)


def _check_benchmarks(config: ExperimentConfig, runner: BenchmarkRunner | None) -> None:
    if config.benchmarks and runner is None:
        raise ConfigError(
            f"{len(config.benchmarks)} benchmarks are configured, but no benchmark_runner; pass "
            "evaluation.in_training.InTraining"
        )
    for benchmark, stage in itertools.product(config.benchmarks, config.stages):
        assert runner is not None
        runner.check(benchmark, config.stage_model(stage))


def _run(run: Run, benchmark_runner: BenchmarkRunner | None) -> None:
    config, workdir, announce = run.config, run.workdir, run.observation.announce
    axes = ", ".join(f"{axis}={size}" for axis, size in run.mesh.shape.items())
    announce(f"Experiment {config.name!r} in {workdir}, {jax.default_backend()} mesh: {axes}")
    clock = Clock(workdir / "elapsed.json")
    tokenizer = run_tokenizer(config)
    announce(f"Data: opening the {config.data.source} training set")
    train, held_out = open_datasets(config, workdir, tokenizer, progress=run.observation.progress)
    require_equal(row_facts(train))
    announce(f"Data: {_describe(train, held_out)}")
    clock.save()
    benchmarks = None
    if config.benchmarks and benchmark_runner is not None:
        benchmarks = Benchmarks(run, tokenizer, benchmark_runner)
    accuracy = _train(run, tokenizer, train, held_out, benchmarks, clock)

    def report() -> None:
        scores = read_metrics(workdir / BENCHMARKS)
        outcome = Outcome(accuracy=accuracy, seconds=clock.save(), benchmarks=scores)
        lines = read_metrics(workdir / "metrics.jsonl")
        write_report(config, outcome, lines, workdir, example=_example(config, workdir))

    announce(f"Report: writing {workdir / 'report.md'}")
    on_first(report)


def _describe(train: TrainingSet, held_out: PreparedDataset | None) -> str:
    held_out_size = "no" if held_out is None else f"{len(held_out):,}"
    return f"{len(train):,} training examples, {held_out_size} held-out questions"


def _train(
    run: Run,
    tokenizer: Any,
    train: TrainingSet,
    held_out: PreparedDataset | None,
    benchmarks: Benchmarks | None,
    clock: Clock,
) -> Accuracy | None:
    """Runs all stages; evaluates before and after the last one if questions are held out."""
    config = run.config
    evaluator = HeldOutEvaluator(run, tokenizer, held_out)
    if config.init_from is None:
        run.observation.announce(f"Parameters: random, seed {config.seed}")
    else:
        run.observation.announce(f"Parameters: loading {config.init_from}")
    params = initial_params(config, run.mesh)
    *earlier, last = config.stages
    train_stage = functools.partial(
        run_stage, run, dataset=train, evaluate=evaluator.during, benchmarks=benchmarks
    )
    for stage in earlier:
        params = train_stage(stage, params)
        clock.save()
    if held_out is not None:
        # The base model's own accuracy, and what is left of it once compression is switched on.
        no_compression = CompressionConfig(schedule="none")
        uncompressed = evaluator.stored("uncompressed", no_compression, params)
        before = evaluator.stored("before", last.compression, params)
    params = train_stage(last, params)
    clock.save()
    if benchmarks is not None:
        benchmarks.after(last, params)
        clock.save()
    accuracy = None
    if held_out is not None:
        accuracy = Accuracy(
            uncompressed=uncompressed,
            before=before,
            after=evaluator.stored("after", last.compression, params),
            chance=text_only_accuracy(held_out),
        )
    folder = run.workdir / EXPORT_FOLDER
    run.observation.announce(f"Export: writing the parameters to {folder}")
    export(config, last, params, tokenizer, folder, overwrite=True)
    return accuracy


def _example(config: ExperimentConfig, workdir: Path) -> str | None:
    """Returns an `xcomp ask` command about the first held-out video of generated data."""
    if config.data.source != "generated":
        return None
    row = load_manifest(workdir / "data" / "eval.json")[0]
    return (
        f'xcomp ask {workdir / "data" / row.video} "{row.question}" '
        f"--checkpoint {workdir / 'checkpoint'}"
    )
