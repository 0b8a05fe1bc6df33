"""Lists the rows of every table, with the published figures (arXiv 2604.14149).

Published numbers are scores in percent. Columns are benchmarks; at toy size the generated task is
one further column.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

Role = str
"""Checkpoint that a row needs: `base`, or `none`, `stepwise`, `uniform` and `progressive`, tuned
with the compression of that name."""

LVBENCH, MLVU, LONGVIDEOBENCH = "lvbench", "mlvu", "longvideobench"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableRow:
    """One row: what runs, and the published score by benchmark.

    role: checkpoint. compression: name in `settings.COMPRESSION`; empty for the checkpoint's own.
    scope: scores that select frames; empty uses all frames.
    frames: sampled frames; 0 for the table's.
    select: selected frames; 0 for the table's.
    """

    title: str
    role: Role = "progressive"
    compression: str = ""
    scope: Literal["", "global", "segments"] = ""
    frames: int = 0
    select: int = 0
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def cell(self) -> str:
        """Name of the row's run, equal in all tables that share it."""
        parts = [self.role, self.compression or "own", self.scope or "all"]
        parts += [f"{name}{value}" for name, value in self._counts if value]
        return "-".join(parts)

    @property
    def _counts(self) -> tuple[tuple[str, int], ...]:
        return ("frames", self.frames), ("select", self.select)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """The paper's claim that one row scores higher than another, by their titles."""

    better: str
    worse: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table of scores.

    frames: sampled frames on a benchmark.
    long: at toy size, the questions are about long videos.
    """

    name: str
    title: str
    note: str
    benchmarks: tuple[str, ...]
    rows: tuple[TableRow, ...]
    claims: tuple[Claim, ...] = ()
    frames: int = 1024
    long: bool = False


def _lvbench(percent: float) -> dict[str, float]:
    return {LVBENCH: percent}


SCHEDULES = Table(
    name="2",
    title="Table 2. Ways to compress",
    note="Every compressed row ends at one token per frame in the last layer and has the same mean "
    "number of tokens. A tuned row is tuned with the compression that it answers with.",
    benchmarks=(LVBENCH,),
    rows=(
        TableRow(title="no compression", role="base", compression="none", published=_lvbench(41.8)),
        TableRow(
            title="no compression, tuned on the same data",
            role="none",
            compression="none",
            published=_lvbench(43.2),
        ),
        TableRow(
            title="training-free, ranked by attention",
            role="base",
            compression="ranked",
            published=_lvbench(41.1),
        ),
        TableRow(
            title="training-free, step-wise",
            role="base",
            compression="stepwise",
            published=_lvbench(38.4),
        ),
        TableRow(
            title="training-free, progressive",
            role="base",
            compression="progressive",
            published=_lvbench(39.7),
        ),
        TableRow(
            title="learned, step-wise",
            role="stepwise",
            compression="stepwise",
            published=_lvbench(42.3),
        ),
        TableRow(title="learned, progressive", compression="progressive", published=_lvbench(44.3)),
    ),
    claims=(
        Claim(better="learned, progressive", worse="learned, step-wise"),
        Claim(better="learned, step-wise", worse="training-free, step-wise"),
        Claim(better="learned, progressive", worse="training-free, progressive"),
        Claim(better="learned, progressive", worse="training-free, ranked by attention"),
    ),
)

KEPT_TOKENS = Table(
    name="3",
    title="Table 3. Tokens that a drop keeps",
    note="Both rows are tuned with the progressive schedule; a frame keeps evenly spread tokens, "
    "or its last ones.",
    benchmarks=(LVBENCH, MLVU),
    rows=(
        TableRow(
            title="evenly spread",
            role="uniform",
            compression="uniform",
            published={LVBENCH: 43.6, MLVU: 64.1},
        ),
        TableRow(
            title="suffix",
            compression="progressive",
            published={LVBENCH: 44.3, MLVU: 65.2},
        ),
    ),
    claims=(Claim(better="suffix", worse="evenly spread"),),
)

SELECTION = Table(
    name="4",
    title="Table 4. Selection of frames",
    note="Frames are scored by the question's attention: over a whole window, or inside short "
    "segments with positions counted from their start.",
    benchmarks=(LVBENCH, MLVU, LONGVIDEOBENCH),
    rows=(
        TableRow(
            title="all frames",
            compression="progressive",
            published={LVBENCH: 44.3, MLVU: 65.2, LONGVIDEOBENCH: 58.8},
        ),
        TableRow(
            title="selected, global scores",
            compression="progressive",
            scope="global",
            published={LVBENCH: 45.6, MLVU: 66.3, LONGVIDEOBENCH: 59.5},
        ),
        TableRow(
            title="selected, scores in segments",
            compression="progressive",
            scope="segments",
            published={LVBENCH: 46.2, MLVU: 66.7, LONGVIDEOBENCH: 59.7},
        ),
    ),
    claims=(
        Claim(better="selected, scores in segments", worse="selected, global scores"),
        Claim(better="selected, scores in segments", worse="all frames"),
    ),
    long=True,
)

FRAME_COUNTS = Table(
    name="B",
    title="Table B. Number of sampled frames",
    note="LP-Comp without selection, and the base model without compression. The counts are those "
    "of the paper on LVBench; at toy size they are divided by 16, at most 128.",
    benchmarks=(LVBENCH,),
    rows=(
        *(
            TableRow(
                title=f"no compression, {frames:,} frames",
                role="base",
                compression="none",
                frames=frames,
                published=_lvbench(percent),
            )
            for frames, percent in (
                (64, 36.1),
                (128, 39.6),
                (480, 42.2),
                (640, 42.0),
                (1024, 41.8),
            )
        ),
        *(
            TableRow(
                title=f"LP-Comp, {frames:,} frames",
                compression="progressive",
                frames=frames,
                published=_lvbench(percent),
            )
            for frames, percent in ((480, 42.6), (640, 43.8), (1024, 44.3), (4096, 40.75))
        ),
        TableRow(
            title="LP-Comp and selection, 2,048 frames",
            compression="progressive",
            scope="segments",
            frames=2048,
            published=_lvbench(46.2),
        ),
    ),
    long=True,
)

SCORE_TABLES = {table.name: table for table in (SCHEDULES, KEPT_TOKENS, SELECTION, FRAME_COUNTS)}
