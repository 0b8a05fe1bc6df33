"""Fills the tables with checkpoints on benchmarks' data folders."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import jax

from xcomp_jax.config import SelectionConfig
from xcomp_jax.evaluation.protocol import load_protocol
from xcomp_jax.evaluation.synthetic_niah import write_synthetic_niah
from xcomp_jax.evaluation.tasks import TASKS
from xcomp_jax.inference.session import Session
from xcomp_jax.launch.bench.paper import efficiency, needles
from xcomp_jax.launch.bench.paper.cells import (
    CellResult,
    Questions,
    row_protocol,
    run_cell,
    stored_result,
)
from xcomp_jax.launch.bench.paper.compressions import compressions
from xcomp_jax.launch.bench.paper.layouts import SCORE_TABLES, TableRow
from xcomp_jax.launch.bench.paper.report import score_sections, write_table
from xcomp_jax.launch.bench.paper.scores import Column
from xcomp_jax.pretrained import from_pretrained
from xcomp_jax.token_store import TokenStore


@dataclasses.dataclass(frozen=True)
class RealTables:
    """Tables of checkpoints by role; `data` has a folder per benchmark."""

    checkpoints: Mapping[str, Path]
    data: Path | None
    out: Path
    limit: int | None
    progress: bool

    def write(self, name: str) -> Path:
        """Runs the missing rows of a table and writes it; returns the path of its page.

        Raises:
            ValueError: no data, or no checkpoint of any row.
        """
        if name == "D":
            return self._write_needles()
        if name == "E":
            session = self._session("progressive")
            frames = [row.frames for row in efficiency.PUBLISHED]
            sections = efficiency.sections(session, frames, jax.devices()[0].device_kind)
            return write_table(self.out, name, "Table E. Efficiency", sections)
        table = SCORE_TABLES[name]
        benchmarks = [task for task in table.benchmarks if self._folder(task).is_dir()]
        rows = [row for row in table.rows if row.role in self.checkpoints]
        if not benchmarks or not rows:
            roles = dict.fromkeys(row.role for row in table.rows)
            raise ValueError(
                f"--table {name} needs --data with one of the folders "
                f"{', '.join(table.benchmarks)}, and a --checkpoint of one of the roles "
                f"{', '.join(roles)}; found {', '.join(benchmarks) or 'no folder'} and "
                f"{', '.join(self.checkpoints)}"
            )
        columns = [
            Column(
                name=task,
                title=TASKS[task].title,
                results={row.cell: [self._result(task, row, table.frames)] for row in rows},
            )
            for task in benchmarks
        ]
        return write_table(self.out, name, table.title, score_sections(table, columns, ()))

    def _result(self, benchmark: str, row: TableRow, frames: int) -> CellResult:
        folder = self.out / "rows" / benchmark / row.cell
        stored = stored_result(folder)
        if stored is not None:
            return stored
        protocol = load_protocol(benchmark)
        # A row that selects uses the published frames; the table's would be selected whole.
        sampled = row.frames or (protocol.sampling.max_frames if row.scope else frames)
        questions = Questions(
            task=TASKS[benchmark],
            questions=TASKS[benchmark].load(self._folder(benchmark))[: self.limit],
            data=self._folder(benchmark),
            protocol=row_protocol(
                protocol,
                row,
                frames=sampled,
                selection=protocol.selection or SelectionConfig(),
            ),
        )
        loaded = self._session(row.role)
        own = row.role != "base" and row.role == row.compression
        compression = None if own else compressions(loaded.config)[row.compression]
        store = TokenStore(self.out / "tokens")
        return run_cell(folder, loaded, compression, questions, store, progress=self.progress)

    def _folder(self, benchmark: str) -> Path:
        return Path("missing") if self.data is None else self.data.expanduser() / benchmark

    @functools.lru_cache(maxsize=1)  # noqa: B019, one model is in memory at a time
    def _session(self, role: str) -> Session:
        if role not in self.checkpoints:
            raise ValueError(f"this table needs --checkpoint {role}=DIR")
        return from_pretrained(self.checkpoints[role], selection=None)

    def _write_needles(self) -> Path:
        protocols = {name: load_protocol(name) for name in ("niah_single", "niah_multi")}
        selection = protocols["niah_multi"].selection
        assert selection is not None
        data = self._folder("niah_single")
        if not data.is_dir():
            data = self.out / "haystack"
            if not (data / "complete").exists():
                write_synthetic_niah(data)
                (data / "complete").touch()
        sections = needles.sections(
            self.out / "needles",
            self._session("progressive"),
            data,
            needles.needle_rows(selection),
            protocols,
            TokenStore(self.out / "tokens"),
            limit=self.limit,
            progress=self.progress,
        )
        return write_table(self.out, "D", "Table D. Needles in a haystack", sections)
