"""Runs the rows of the tables through the evaluation runner, each in a folder of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xcomp_jax.config import CompressionConfig, ProtocolConfig, SelectionConfig
from xcomp_jax.evaluation.answers import read_answers
from xcomp_jax.evaluation.prepare_session import checkpoint_hash, protocol_session
from xcomp_jax.evaluation.question import Question, Task
from xcomp_jax.evaluation.run_benchmark import run_benchmark
from xcomp_jax.evaluation.run_folder import RunRecord, latest_rows, open_run, rows_of
from xcomp_jax.evaluation.runner import Evaluation
from xcomp_jax.files import read_json, write_json
from xcomp_jax.inference.session import Session
from xcomp_jax.launch.bench.paper.layouts import TableRow
from xcomp_jax.token_store import TokenStore
from xcomp_jax.token_store.hash_table import HashTable

RESULT = "result.json"


@dataclasses.dataclass(frozen=True)
class CellResult:
    """Scores of one run.

    scores: of every question, 0 to 1; videos: name of its video, in the same order.
    found: share of questions with a selected (or sampled) frame in the annotated span, if any.
    """

    scores: tuple[float, ...]
    videos: tuple[str, ...]
    found: float | None

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Questions:
    """Questions of a benchmark, with the settings that all rows share."""

    task: Task
    questions: Sequence[Question]
    data: Path
    protocol: ProtocolConfig


def stored_result(folder: Path) -> CellResult | None:
    """Returns the result of a finished run, or None.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    stored = read_json(path, remedy="delete its folder, and the row is run again")
    return CellResult(tuple(stored["scores"]), tuple(stored["videos"]), stored["found"])


def row_protocol(
    protocol: ProtocolConfig, row: TableRow, *, frames: int, selection: SelectionConfig
) -> ProtocolConfig:
    """Applies a row's frames and selection to a benchmark's protocol.

    Args:
        frames: maximum number of frames.
        selection: selection of rows that select.
    """
    sampling = protocol.sampling
    chosen = None
    if row.scope:
        chosen = dataclasses.replace(selection, scope=row.scope)
        if row.select:
            chosen = dataclasses.replace(chosen, select=row.select)
    return dataclasses.replace(
        protocol,
        sampling=dataclasses.replace(
            sampling, max_frames=frames, min_frames=min(sampling.min_frames, frames)
        ),
        selection=chosen,
        compression="checkpoint",
    )


def run_cell(
    folder: Path,
    loaded: Session,
    compression: CompressionConfig | None,
    questions: Questions,
    store: TokenStore | None,
    *,
    progress: bool,
) -> CellResult:
    """Answers the questions that have no row yet, and stores the result.

    Args:
        loaded: the checkpoint. compression: None for the checkpoint's own.
        questions: with the protocol of `row_protocol`.
    """
    session = loaded
    if compression is not None:
        session = Session(
            dataclasses.replace(loaded.config, compression=compression),
            loaded.params,
            loaded.tokenizer,
            generation=loaded.generation,
            mesh=loaded.engine.placement.mesh,
        )
    session, protocol = protocol_session(session, questions.protocol, store)
    model_hash = checkpoint_hash(session)
    record = RunRecord(
        benchmark=questions.task.name,
        data=str(questions.data),
        checkpoint=str(folder),
        checkpoint_hash=model_hash,
        protocol=protocol,
        command="xcomp bench paper",
        version="",
        devices="",
    )
    open_run(folder, record)
    evaluation = Evaluation(
        task=questions.task,
        questions=questions.questions,
        data=questions.data,
        protocol=protocol,
        session=session,
        checkpoint_hash=model_hash,
        folder=folder,
        hash_video=(HashTable(folder / "hashes") if store is None else store).hash_video,
    )
    run_benchmark(evaluation, progress=progress)
    result = _result(folder, questions)
    write_json(folder / RESULT, dataclasses.asdict(result))
    return result


def _result(folder: Path, questions: Questions) -> CellResult:
    rows = latest_rows(rows_of(folder).values())
    answered = read_answers(questions.task, questions.questions, rows)
    mode = questions.protocol.headline
    covered = [
        entry.row.covered.get("selected", entry.row.covered.get("sampled")) for entry in answered
    ]
    known = [value for value in covered if value is not None]
    return CellResult(
        scores=tuple(entry.readings[mode].score for entry in answered),
        videos=tuple(entry.question.cluster for entry in answered),
        found=float(np.mean(known)) if known else None,
    )
