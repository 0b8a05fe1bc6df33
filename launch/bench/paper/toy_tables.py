"""Fills the tables with tiny models that are trained on generated videos."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import jax

from xcomp_jax.config import ExperimentConfig, SelectionConfig
from xcomp_jax.evaluation.question import Question
from xcomp_jax.experiment import load_experiment
from xcomp_jax.inference.session import Session
from xcomp_jax.launch.bench.paper import efficiency, generated_task, needles
from xcomp_jax.launch.bench.paper.cells import (
    CellResult,
    Questions,
    row_protocol,
    run_cell,
    stored_result,
)
from xcomp_jax.launch.bench.paper.compressions import compressions
from xcomp_jax.launch.bench.paper.layouts import SCORE_TABLES, Table, TableRow
from xcomp_jax.launch.bench.paper.report import score_sections, write_table
from xcomp_jax.launch.bench.paper.scores import Column
from xcomp_jax.launch.bench.paper.toy import ToySeed, ToySizes
from xcomp_jax.launch.bench.paper.toy_needles import (
    LENGTHS,
    SELECTION,
    needle_data,
    needle_protocols,
    needle_session,
)
from xcomp_jax.pretrained import from_pretrained
from xcomp_jax.sharding import make_mesh
from xcomp_jax.terminal.progress import ProgressBar
from xcomp_jax.text.tokenizer import load_tokenizer
from xcomp_jax.token_store import TokenStore
from xcomp_jax.training.observe import Observation
from xcomp_jax.training.sources import initial_params
from xcomp_jax.training.stopping import StopRequest

RECIPE = Path("paper_in_small")

TOY_SELECTION = SelectionConfig(
    select=4, min_frames=0, repeats=2, segment_clips=2, segment_stride=1, window_frames=64
)
"""Selects as many frames as the tiny models were trained with. Segments of 16 frames in windows of
64 are the paper's 64 in 512, scaled to that length."""

LONG_FRAMES = 128
FRAMES_SCALE = 16
"""A long video has the frames of table B divided by this."""

NOTES = (
    "Tiny models on generated scenes (docs/measurements.md): only the order of the rows can be "
    "compared with the paper, not their level.",
)


@dataclasses.dataclass(frozen=True)
class ToyTables:
    """Tables of tiny models, one per seed; `limit` bounds the questions of a row."""

    recipe: ExperimentConfig
    seeds: tuple[int, ...]
    out: Path
    limit: int | None
    stop: StopRequest
    progress: bool

    @classmethod
    def of(
        cls,
        overrides: Sequence[str],
        seeds: tuple[int, ...],
        out: Path,
        limit: int | None,
        stop: StopRequest,
        progress: bool,
    ) -> ToyTables:
        """Loads the recipe.

        Raises:
            ConfigError: an override is invalid.
        """
        return cls(load_experiment(RECIPE, overrides), seeds, out, limit, stop, progress)

    def write(self, name: str) -> Path:
        """Runs the missing rows of a table and writes it; returns the path of its page."""
        if name == "D":
            return self._write_needles()
        if name == "E":
            device = f"{jax.devices()[0].device_kind}, a tiny model"
            sections = efficiency.sections(self._random(), efficiency.TOY_FRAMES, device)
            return write_table(self.out, name, "Table E. Efficiency", sections)
        table = SCORE_TABLES[name]
        results: dict[str, list[CellResult]] = {row.cell: [] for row in table.rows}
        with ProgressBar(
            total=len(self.seeds) * len(table.rows),
            desc=f"rows of table {name}",
            disable=not self.progress,
        ) as bar:
            for number in self.seeds:
                for row in table.rows:
                    results[row.cell].append(self._result(table, number, row))
                    bar.update()
        column = Column(name="generated", title="generated", results=results, chance=0.25)
        return write_table(self.out, name, table.title, score_sections(table, [column], NOTES))

    def _result(self, table: Table, number: int, row: TableRow) -> CellResult:
        seed = self._seed(number)
        kind = "long" if table.long else "test"
        folder = seed.folder / "rows" / f"{kind}-{row.cell}"
        stored = stored_result(folder)
        if stored is not None:
            return stored
        frames = min(row.frames // FRAMES_SCALE or LONG_FRAMES, LONG_FRAMES)
        data = seed.sets.long if table.long else seed.sets.test
        frames = frames if table.long else self.recipe.sampling.max_frames
        sampling = dataclasses.replace(self.recipe.sampling, max_frames=max(frames, 4))
        protocol = row_protocol(
            generated_task.protocol(sampling), row, frames=frames, selection=TOY_SELECTION
        )
        questions = Questions(
            task=generated_task.TASK,
            questions=self._questions(data),
            data=data,
            protocol=protocol,
        )
        loaded = from_pretrained(seed.checkpoint(row.role), selection=None)
        compression = compressions(self.recipe.model)[row.compression]
        store = TokenStore(seed.folder / "tokens")
        return run_cell(folder, loaded, compression, questions, store, progress=self.progress)

    def _questions(self, data: Path) -> list[Question]:
        return generated_task.load(data)[: self.limit]

    @functools.cache  # noqa: B019, one object per command
    def _seed(self, number: int) -> ToySeed:
        return ToySeed(
            dataclasses.replace(self.recipe, seed=number),
            self.out / f"seed{number}",
            ToySizes(),
            Observation(progress=self.progress),
            self.stop,
        )

    def _random(self) -> Session:
        """Returns a tiny model with random parameters, whose time is that of a trained one."""
        mesh = make_mesh(self.recipe.mesh)
        with jax.set_mesh(mesh):
            params = jax.device_get(initial_params(self.recipe, mesh))
        return Session(self.recipe.model, params, load_tokenizer(self.recipe.data.tokenizer))

    def _write_needles(self) -> Path:
        folder = self.out / "needles"
        data = needle_data(folder / "haystack")
        session = needle_session(
            dataclasses.replace(self.recipe, seed=self.seeds[0]),
            folder,
            Observation(progress=self.progress),
            self.stop,
        )
        sections = needles.sections(
            folder,
            session,
            data,
            # The prefill of all 10,000 frames takes minutes on a CPU, and is far from the training.
            needles.needle_rows(SELECTION, all_frames_up_to=min(LENGTHS))[:2],
            needle_protocols(),
            TokenStore(folder / "tokens"),
            limit=self.limit,
            progress=self.progress,
        )
        return write_table(self.out, "D", "Table D. Needles in a haystack", sections)
