"""Runs benchmarks on parameters in training, with the runner of `xcomp evaluate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xcomp_jax.config import BenchmarkConfig, MeshConfig, ModelConfig, ProtocolConfig
from xcomp_jax.engine.placement import default_mesh
from xcomp_jax.evaluation.check import fitting, in_subset
from xcomp_jax.evaluation.grouping import Shard, choose_questions
from xcomp_jax.evaluation.prepare_session import (
    checkpoint_hash,
    protocol_session,
    require_supported,
)
from xcomp_jax.evaluation.protocol import load_protocol
from xcomp_jax.evaluation.question import Question, Task
from xcomp_jax.evaluation.run_benchmark import run_benchmark
from xcomp_jax.evaluation.run_folder import RunRecord, open_run
from xcomp_jax.evaluation.runner import Evaluation
from xcomp_jax.evaluation.tasks import task_named
from xcomp_jax.evaluation.write_report import build_report, write_report
from xcomp_jax.inference.open_session import checked_selection
from xcomp_jax.inference.session import Session
from xcomp_jax.models.xcomp import Params
from xcomp_jax.processes import on_every_while_meeting, on_first
from xcomp_jax.sharding import make_mesh
from xcomp_jax.token_store.hash_table import HashTable
from xcomp_jax.training.benchmarks import BenchmarkScore
from xcomp_jax.training.code_version import code_version


@dataclasses.dataclass(frozen=True)
class InTraining:
    """Implements `training.benchmarks.BenchmarkRunner`; `command` is recorded with the rows."""

    command: str

    def check(self, benchmark: BenchmarkConfig, model: ModelConfig) -> None:
        """Raises a ValueError if the questions cannot be loaded, or the model cannot run them."""
        _, protocol, _ = _load(benchmark)
        checked_selection(model, protocol.selection)

    def run(
        self,
        benchmark: BenchmarkConfig,
        model: ModelConfig,
        params: Params,
        tokenizer: Any,
        folder: Path,
        *,
        mesh: Mesh,
        should_stop: Callable[[], bool],
        progress: bool,
    ) -> BenchmarkScore | None:
        """Answers the questions, a part of the videos on each process, and scores them.

        Implements `BenchmarkRunner.run`.
        """
        task, published, questions = _load(benchmark)
        params, mesh = _on_this_process(params, mesh)
        with jax.set_mesh(mesh):
            loaded = Session(model, params, tokenizer, mesh=mesh)
            session, protocol = protocol_session(loaded, published, None)
            digest = checkpoint_hash(session)
        folder = folder.with_name(f"{folder.name}-{digest[:8]}") / benchmark.name
        record = self._record(benchmark, protocol, folder, digest)
        open_run(folder, record)
        evaluation = Evaluation(
            task=task,
            questions=questions,
            data=Path(benchmark.data),
            protocol=protocol,
            session=session,
            checkpoint=record.checkpoint,
            checkpoint_hash=digest,
            folder=folder,
            hash_video=HashTable(folder / "hashes").hash_video,
        )
        shard = Shard(jax.process_index(), jax.process_count())

        def answer() -> bool:
            with jax.set_mesh(mesh):
                return run_benchmark(evaluation, shard, progress=progress, should_stop=should_stop)

        if not on_every_while_meeting(answer):
            return None

        def score() -> dict[str, float]:
            report = build_report(task, questions, folder, record)
            write_report(folder, report)
            estimate = report.headline.estimate
            interval = {"low": estimate.interval.low, "high": estimate.interval.high}
            return {"score": estimate.mean, **interval, "questions": estimate.questions}

        return BenchmarkScore(**on_first(score))

    def _record(
        self, benchmark: BenchmarkConfig, protocol: ProtocolConfig, folder: Path, digest: str
    ) -> RunRecord:
        version = code_version()
        return RunRecord(
            benchmark=benchmark.name,
            data=str(Path(benchmark.data).resolve()),
            checkpoint=folder.parent.name,
            checkpoint_hash=digest,
            protocol=protocol,
            command=self.command,
            version=f"{version['xcomp_jax']} {version.get('commit', '')[:12]}".strip(),
            devices=f"{jax.device_count()} {jax.devices()[0].device_kind}",
        )


def _load(benchmark: BenchmarkConfig) -> tuple[Task, ProtocolConfig, list[Question]]:
    task = task_named(benchmark.name.removesuffix("_subtitles"))
    protocol = load_protocol(benchmark.name, benchmark.protocol)
    questions = in_subset(task.load(Path(benchmark.data)), protocol.subset)
    questions = fitting(questions, protocol.sampling.max_frames)
    questions = choose_questions(questions, limit=benchmark.limit)
    require_supported(protocol, questions)
    return task, protocol, questions


def _on_this_process(params: Params, mesh: Mesh) -> tuple[Params, Mesh]:
    """Returns the parameters on the devices of this process alone, and their mesh.

    Processes answer questions about different videos and must not wait for each other. One array is
    gathered at a time, through host memory, because the optimizer state fills the devices.
    """
    if jax.process_count() == 1:
        return params, mesh
    gather = jax.jit(lambda leaf: leaf, out_shardings=NamedSharding(mesh, PartitionSpec()))
    local = jax.tree.map(lambda leaf: np.asarray(gather(leaf).addressable_data(0)), params)
    one_device = MeshConfig(data=1, fsdp=1)
    return local, default_mesh(local) or make_mesh(one_device, jax.local_devices())
