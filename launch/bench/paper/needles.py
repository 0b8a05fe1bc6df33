"""Table D: needles in a haystack, without and with frame selection."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from xcomp_jax.config import ProtocolConfig, SelectionConfig
from xcomp_jax.evaluation.answers import Answered, read_answers
from xcomp_jax.evaluation.check import fitting
from xcomp_jax.evaluation.haystack.heat_map import heat_map
from xcomp_jax.evaluation.prepare_session import checkpoint_hash, protocol_session
from xcomp_jax.evaluation.question import Question, Task
from xcomp_jax.evaluation.run_benchmark import run_benchmark
from xcomp_jax.evaluation.run_folder import RunRecord, latest_rows, open_run, rows_of
from xcomp_jax.evaluation.runner import Evaluation
from xcomp_jax.evaluation.statistics import Estimate, estimate
from xcomp_jax.evaluation.tasks import TASKS
from xcomp_jax.inference.session import Session
from xcomp_jax.launch.bench.paper.report import MISSING, Section
from xcomp_jax.token_store import TokenStore
from xcomp_jax.token_store.hash_table import HashTable


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeedleRow:
    """A row of table D; selection None uses all frames. max_frames: longest haystack, None for the
    protocol's."""

    title: str
    task: str
    selection: SelectionConfig | None
    published: str = MISSING
    max_frames: int | None = None


def needle_rows(
    selection: SelectionConfig, *, all_frames_up_to: int | None = None
) -> tuple[NeedleRow, ...]:
    """Returns the rows.

    Args:
        selection: of the rows that select. all_frames_up_to: longest haystack of the other rows.
    """
    return (
        NeedleRow(
            title="single hop, all frames",
            task="niah_single",
            selection=None,
            max_frames=all_frames_up_to,
            published="99.1 (VideoChat-Flash-7B)",
        ),
        NeedleRow(title="single hop, selected frames", task="niah_single", selection=selection),
        NeedleRow(
            title="multi hop, question on the last image, all frames",
            task="niah_multi",
            selection=None,
            max_frames=all_frames_up_to,
            published="20 to 29 (VideoChat-Flash)",
        ),
        NeedleRow(
            title="multi hop, question on the last image, selected frames",
            task="niah_multi",
            selection=selection,
            published="72.2",
        ),
    )


def sections(
    out: Path,
    loaded: Session,
    data: Path,
    rows: Sequence[NeedleRow],
    protocols: dict[str, ProtocolConfig],
    store: TokenStore,
    *,
    limit: int | None,
    progress: bool,
) -> list[Section]:
    """Runs the missing questions of every row and returns scores and heat maps.

    Args:
        limit: questions per row, from the shortest haystacks on; None for all.
    """
    lines, pictures = [], []
    for row in rows:
        task = TASKS[row.task]
        protocol = dataclasses.replace(protocols[row.task], selection=row.selection)
        if row.max_frames is not None:
            sampling = dataclasses.replace(protocol.sampling, max_frames=row.max_frames)
            protocol = dataclasses.replace(protocol, sampling=sampling)
        questions = fitting(task.load(data), protocol.sampling.max_frames)[:limit]
        name = f"{row.task}-{'all' if row.selection is None else 'selected'}"
        answered = _run(out / name, loaded, task, questions, data, protocol, store, progress)
        kept = [entry for entry in answered if row.task == "niah_single" or _is_final(entry)]
        scored = _estimate(kept, protocol)
        found = [entry.row.covered["selected"] for entry in kept if "selected" in entry.row.covered]
        lines.append(
            [
                row.title,
                row.published,
                f"{100 * scored.mean:.1f} [{100 * scored.interval.low:.1f}, "
                f"{100 * scored.interval.high:.1f}]",
                f"{100 * sum(found) / len(found):.1f}" if found else MISSING,
                f"{scored.questions:,}",
            ]
        )
        picture = heat_map(answered, task.report_by[1], protocol.headline, row.title)
        pictures.append((f"table-D-{name}.png", picture, f"{row.title}, by length"))
    head = ["", "published", "here", "needle selected", "questions"]
    note = "95 % intervals by bootstrap over needles. Published values are of films and photos."
    return [Section("Scores", [note], head, lines), Section("Heat maps", [], pictures=pictures)]


def _is_final(entry: Answered) -> bool:
    return entry.question.categories["kind"] == ("question",)


def _estimate(entries: Sequence[Answered], protocol: ProtocolConfig) -> Estimate:
    return estimate(
        [entry.readings[protocol.headline].score for entry in entries],
        [entry.question.cluster for entry in entries],
    )


def _run(
    folder: Path,
    loaded: Session,
    task: Task,
    questions: Sequence[Question],
    data: Path,
    protocol: ProtocolConfig,
    store: TokenStore,
    progress: bool,
) -> list[Answered]:
    session, protocol = protocol_session(loaded, protocol, store)
    model_hash = checkpoint_hash(session)
    record = RunRecord(
        benchmark=task.name,
        data=str(data),
        checkpoint=str(folder),
        checkpoint_hash=model_hash,
        protocol=protocol,
        command="xcomp bench paper",
        version="",
        devices="",
    )
    open_run(folder, record)
    evaluation = Evaluation(
        task=task,
        questions=questions,
        data=data,
        protocol=protocol,
        session=session,
        checkpoint_hash=model_hash,
        folder=folder,
        hash_video=HashTable(folder / "hashes").hash_video,
    )
    run_benchmark(evaluation, progress=progress)
    return read_answers(task, questions, latest_rows(rows_of(folder).values()))
