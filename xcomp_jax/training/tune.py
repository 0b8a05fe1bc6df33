"""A whole run in a folder: data, stages, evaluation, report. Run again, it continues where it
stopped."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from xcomp_jax.config import CompressionConfig, ExperimentConfig, StageConfig, on_devices
from xcomp_jax.data.prepared.dataset import PreparedDataset
from xcomp_jax.data.prepared.manifest import load_manifest
from xcomp_jax.data.training_set import TrainingSet
from xcomp_jax.files import read_json, write_json
from xcomp_jax.models.xcomp import Params
from xcomp_jax.processes import is_first, on_first, opened_on_first
from xcomp_jax.sharding import make_mesh
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.training.evaluate import Evaluation, evaluate, text_only_accuracy
from xcomp_jax.training.export import export
from xcomp_jax.training.loop import Run, run_stage
from xcomp_jax.training.metrics import read_metrics
from xcomp_jax.training.observe import Observation, open_writers
from xcomp_jax.training.report import Accuracy, Outcome, write_report
from xcomp_jax.training.sources import check_init_from, initial_params, open_datasets
from xcomp_jax.training.step import check_micro_batches, state_shardings
from xcomp_jax.training.stopping import StopRequest
from xcomp_jax.training.workdir import Clock, owned


def tune(
    config: ExperimentConfig,
    workdir: Path,
    *,
    observation: Observation | None = None,
    stop: StopRequest | None = None,
) -> dict[str, Any]:
    """Runs what is left of an experiment. Every process of a run calls this with a shared folder.

    Leaves in `workdir`: config.json, data/, stages/NAME/ (Orbax checkpoints), metrics.jsonl,
    checkpoint/ (parameters, config and tokenizer: for `xcomp ask --checkpoint`), plot.png,
    report.md, summary.json, and evaluation_*.json where questions are held out.

    Args:
        stop: set while this runs to end it early (`stopping_on_sigterm`).

    Returns:
        The content of summary.json.

    Raises:
        ValueError: a file of `workdir` is damaged; says which and what to do.
        ConfigError: `workdir` belongs to another configuration or to a running process, or the
            configuration cannot run here.
        NonFiniteLossError, Stopped: see `run_stage`.
    """
    observation = observation or Observation()
    summary = workdir / "summary.json"
    if not summary.exists():
        _check(config)
    with contextlib.ExitStack() as stack:
        on_first(lambda: stack.enter_context(owned(workdir, config)))
        done = on_first(lambda: read_json(summary) if summary.exists() else None)
        if done is not None:
            return done
        here = on_devices(config, jax.device_count())
        writers = opened_on_first(lambda: open_writers(observation, here, workdir)) or ()
        for writer in writers:
            stack.callback(writer.close)
        mesh = make_mesh(here.mesh)
        run = Run(
            config=here,
            workdir=workdir,
            mesh=mesh,
            observation=observation,
            stop=stop or StopRequest(),
            writers=writers,
        )
        # Kernels look at the mesh in force for the devices they are split over.
        with jax.set_mesh(mesh):
            _run(run)
        return on_first(lambda: read_json(summary))


def _check(config: ExperimentConfig) -> None:
    """Refuses what would fail hours later, before the folder belongs to it."""
    here = on_devices(config, jax.device_count())
    mesh = make_mesh(here.mesh)
    for stage in here.stages:
        check_micro_batches(stage, mesh)
        state_shardings(here.stage_model(stage), stage, mesh)
    check_init_from(config)


def _run(run: Run) -> None:
    config, workdir = run.config, run.workdir
    clock = Clock(workdir / "elapsed.json")
    tokenizer = load_tokenizer(config.data.tokenizer)
    train, held_out = open_datasets(config, workdir, tokenizer, progress=run.observation.progress)
    clock.save()
    accuracy = _train(run, tokenizer, train, held_out, clock)

    def report() -> None:
        outcome = Outcome(accuracy=accuracy, seconds=clock.save())
        lines = read_metrics(workdir / "metrics.jsonl")
        write_report(config, outcome, lines, workdir, example=_example(config, workdir))

    on_first(report)


def _train(
    run: Run,
    tokenizer: Any,
    train: TrainingSet,
    held_out: PreparedDataset | None,
    clock: Clock,
) -> Accuracy | None:
    """All stages, with an evaluation before and after the last where questions are held out."""
    config, workdir = run.config, run.workdir

    def answered(label: str, compression: CompressionConfig, params: Params) -> Evaluation:
        assert held_out is not None, "the configuration evaluates only with questions held out"
        return evaluate(
            dataclasses.replace(config.model, compression=compression),
            params,
            held_out,
            tokenizer,
            mesh=run.mesh,
            batch_size=config.eval_batch_size,
            label=f"evaluate {label}",
            progress=run.observation.progress,
        )

    def evaluated(label: str, compression: CompressionConfig, params: Params) -> Evaluation:
        path = workdir / f"evaluation_{label}.json"
        return _once(path, lambda: answered(label, compression, params))

    def during(stage: StageConfig, params: Params) -> Evaluation:
        return answered(stage.name, stage.compression, params)

    params = initial_params(config, run.mesh)
    *earlier, last = config.stages
    for stage in earlier:
        params = run_stage(run, stage, params, train, evaluate=during)
        clock.save()
    if held_out is not None:
        # What the model could do before compression, and what merely switching it on leaves.
        uncompressed = evaluated("uncompressed", CompressionConfig(schedule="none"), params)
        before = evaluated("before", last.compression, params)
    params = run_stage(run, last, params, train, evaluate=during)
    clock.save()
    accuracy = None
    if held_out is not None:
        accuracy = Accuracy(
            uncompressed=uncompressed,
            before=before,
            after=evaluated("after", last.compression, params),
            chance=text_only_accuracy(held_out),
        )
    export(config, last, params, tokenizer, workdir / "checkpoint", overwrite=True)
    return accuracy


def _once(path: Path, compute: Callable[[], Evaluation]) -> Evaluation:
    """The stored evaluation if there is one, else computes and stores it."""
    values = on_first(lambda: read_json(path) if path.exists() else None)
    if values is not None:
        kinds = {kind: (right, asked) for kind, (right, asked) in values["by_kind"].items()}
        return Evaluation(right=values["right"], asked=values["asked"], by_kind=kinds)
    evaluation = compute()
    if is_first():
        write_json(path, {"accuracy": evaluation.accuracy, **dataclasses.asdict(evaluation)})
    return evaluation


def _example(config: ExperimentConfig, workdir: Path) -> str | None:
    """An `xcomp ask` command about the first held-out video, where the run made its own."""
    if config.data.source != "generated":
        return None
    row = load_manifest(workdir / "data" / "eval.json")[0]
    return (
        f'xcomp ask {workdir / "data" / row.video} "{row.question}" '
        f"--checkpoint {workdir / 'checkpoint'}"
    )
